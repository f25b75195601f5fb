// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import org.exeunt.Attention;
import org.exeunt.Ffn;
import org.exeunt.KvAppend;
import org.exeunt.KvCache;
import org.exeunt.KvLength;
import org.exeunt.Linear;
import org.exeunt.Norm;
import org.exeunt.Rope;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.Workspace;

/** One decoder layer for a fixed number of rows: built once, run for every token. */
final class LayerOps {
  private final KvLength advance;
  private final Norm norm;
  private final Linear project;
  private final Rope rope;
  private final KvAppend append;
  private final Attention attention;
  private final Linear output;
  private final Ffn feedForward;

  /**
   * @param measure whether the feed-forward block reports its cosines
   * @param skip whether it obeys the rows' skip mask
   */
  LayerOps(Scope scope, Workspace workspace, LlamaConfig config, LlamaWeights.Layer layer,
      Tensor ropeTable, KvCache cache, Tensor lengths, Rows rows, int count, boolean measure,
      boolean skip) {
    int heads = config.heads();
    int kvHeads = config.kvHeads();
    Tensor hidden = rows.hidden(count);
    Tensor rotated = rows.heads(count, 0, heads + kvHeads); // queries and keys lie side by side
    Tensor attended = rows.attended(count);

    advance =
        cache.advance()
            .length(lengths)
            .sequence(rows.sequence(count))
            .slot(rows.slot(count))
            .visible(rows.visible(count))
            .build(scope, workspace);
    norm =
        Norm.builder()
            .input(hidden)
            .rms(layer.attentionNorm(), config.epsilon())
            .out(rows.normed(count))
            .build(scope, workspace);
    project =
        Linear.builder()
            .input(rows.normed(count))
            .weight(layer.queryKeyValue())
            .out(rows.projected(count))
            .build(scope, workspace);
    rope =
        Rope.builder()
            .input(rotated)
            .position(rows.position(count))
            .table(ropeTable, Rope.Style.INTERLEAVED)
            .out(rotated)
            .build(scope, workspace);
    append =
        cache.append()
            .k(rows.heads(count, heads, kvHeads))
            .v(rows.heads(count, heads + kvHeads, kvHeads))
            .sequence(rows.sequence(count))
            .slot(rows.slot(count))
            .build(scope, workspace);
    attention =
        Attention.builder()
            .query(rows.heads(count, 0, heads))
            .cache(cache)
            .sequence(rows.sequence(count))
            .visible(rows.visible(count))
            .out(attended.reshape(count, heads, config.headWidth()))
            .build(scope, workspace);
    output =
        Linear.builder()
            .input(attended)
            .weight(layer.output())
            .residual(hidden)
            .out(hidden)
            .build(scope, workspace);
    Ffn.Builder block =
        Ffn.builder()
            .hidden(hidden)
            .rmsNorm(layer.feedForwardNorm(), config.epsilon())
            .gate(layer.gate(), null)
            .up(layer.up(), null)
            .down(layer.down(), null)
            .activation(Ffn.Activation.SILU)
            .out(hidden);
    if (skip) {
      block.skip(rows.skip(count));
    }
    if (measure) {
      block.cosine(rows.cosine(count)).branchCosine(rows.branchCosine(count));
    }
    feedForward = block.build(scope, workspace);
  }

  /** Queries, keys and values of the rows. */
  void project() {
    norm.run();
    project.run();
    rope.run();
  }

  void run() {
    advance.run();
    project();
    append.run();
    attention.run();
    output.run();
    feedForward.run();
  }
}
