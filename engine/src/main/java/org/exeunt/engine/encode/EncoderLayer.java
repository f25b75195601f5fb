// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import org.exeunt.Attention;
import org.exeunt.Ffn;
import org.exeunt.KvAppend;
import org.exeunt.KvCache;
import org.exeunt.Linear;
import org.exeunt.Norm;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.Workspace;

/**
 * One layer of a BERT encoder for a fixed number of rows. Its norms come after the sums, so that
 * the feed-forward op runs without its own; each row sees all of its sentence, which is attention
 * over a cache that is written anew in every layer.
 */
final class EncoderLayer {
  private final Linear project;
  private final KvAppend append;
  private final Attention attention;
  private final Linear output;
  private final Norm attentionNorm;
  private final Ffn feedForward;
  private final Norm feedForwardNorm;

  EncoderLayer(Scope scope, Workspace workspace, EncoderConfig config, EncoderWeights.Layer layer,
      KvCache cache, TokenRows rows, int count) {
    Tensor hidden = rows.hidden(count);
    int heads = config.heads();
    project =
        Linear.builder()
            .input(hidden)
            .weight(layer.queryKeyValue().weight())
            .bias(layer.queryKeyValue().bias())
            .out(rows.projected(count))
            .build(scope, workspace);
    append =
        cache.append()
            .k(rows.heads(count, heads))
            .v(rows.heads(count, 2 * heads))
            .sequence(rows.sentence(count))
            .slot(rows.slot(count))
            .build(scope, workspace);
    attention =
        Attention.builder()
            .query(rows.heads(count, 0))
            .cache(cache)
            .scale((float) (1 / Math.sqrt(config.headWidth())))
            .sequence(rows.sentence(count))
            .visible(rows.visible(count))
            .out(rows.attended(count).reshape(count, heads, config.headWidth()))
            .build(scope, workspace);
    output =
        Linear.builder()
            .input(rows.attended(count))
            .weight(layer.output().weight())
            .bias(layer.output().bias())
            .residual(hidden)
            .out(hidden)
            .build(scope, workspace);
    attentionNorm = norm(scope, workspace, config, layer.attentionNorm(), hidden);
    feedForward =
        Ffn.builder()
            .hidden(hidden)
            .noNorm()
            .up(layer.up().weight(), layer.up().bias())
            .activation(Ffn.Activation.GELU)
            .down(layer.down().weight(), layer.down().bias())
            .out(hidden)
            .build(scope, workspace);
    feedForwardNorm = norm(scope, workspace, config, layer.feedForwardNorm(), hidden);
  }

  /** A norm in place. */
  static Norm norm(Scope scope, Workspace workspace, EncoderConfig config,
      EncoderWeights.LayerNorm norm, Tensor hidden) {
    return Norm.builder()
        .input(hidden)
        .layer(norm.weight(), norm.bias(), config.epsilon())
        .out(hidden)
        .build(scope, workspace);
  }

  void run() {
    project.run();
    append.run();
    attention.run();
    output.run();
    attentionNorm.run();
    feedForward.run();
    feedForwardNorm.run();
  }
}
