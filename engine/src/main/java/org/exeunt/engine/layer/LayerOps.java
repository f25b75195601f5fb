// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.layer;

import java.util.function.Consumer;
import org.exeunt.Attention;
import org.exeunt.Ffn;
import org.exeunt.KvAppend;
import org.exeunt.KvCache;
import org.exeunt.KvLength;
import org.exeunt.Linear;
import org.exeunt.Norm;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;

/** One decoder layer for a fixed number of rows: built once, run for every token. */
final class LayerOps {
  private final KvLength advance;
  private final Projection projection;
  private final KvAppend append;
  private final Attention attention;
  private final Window window;
  private final Attention windowed;
  private final Linear output;
  private final Norm branchNorm;
  private final ScaledSum add;
  private final Consumer<Stream> feedForward;

  /**
   * @param window null if this layer sees all
   * @param measure whether the feed-forward block reports its cosines
   * @param alone whether each row is to have the bits that it has alone, on a GPU, too
   */
  LayerOps(Scope scope, Workspace workspace, LlamaConfig config, LlamaWeights.Layer layer,
      Tensor ropeTable, KvCache cache, Tensor lengths, Rows rows, int count, Window window,
      boolean measure, Switches switches, boolean alone) {
    Tensor skip = switches.passing();
    int heads = config.heads();
    int kvHeads = config.kvHeads();
    Tensor hidden = rows.hidden(count);
    Tensor query = rows.heads(count, 0, heads);
    Tensor attended = rows.attended(count).reshape(count, heads, config.headWidth());

    advance =
        cache.advance()
            .length(lengths)
            .sequence(rows.sequence(count))
            .active(switches.active())
            .slot(rows.slot(count))
            .visible(rows.visible(count))
            .build(scope, workspace);
    projection = new Projection(scope, workspace, config, layer, ropeTable, hidden,
        rows.position(count), rows.normed(count), rows.projected(count));
    append =
        cache.append()
            .k(rows.heads(count, heads, kvHeads))
            .v(rows.heads(count, heads + kvHeads, kvHeads))
            .sequence(rows.sequence(count))
            .slot(rows.slot(count))
            .build(scope, workspace);
    attention =
        Attention.builder()
            .query(query)
            .cache(cache)
            .scale(config.attentionScale())
            .sequence(rows.sequence(count))
            .visible(switches.visible())
            .out(attended)
            .batchInvariant(alone)
            .build(scope, workspace);
    this.window = window;
    windowed = window == null ? null : window.attention(scope, workspace, cache, query, attended);
    boolean normsBranch = layer.attentionBranchNorm() != null;
    output =
        layer.output()
            .product()
            .input(rows.attended(count))
            .residual(normsBranch ? null : hidden)
            .out(normsBranch ? rows.branch(count) : hidden)
            .build(scope, workspace);
    branchNorm = normsBranch
        ? Norm.builder()
              .input(rows.branch(count))
              .rms(layer.attentionBranchNorm(), config.epsilon())
              .out(rows.branch(count))
              .build(scope, workspace)
        : null;
    add = normsBranch ? new ScaledSum(1, rows.branch(count), hidden, hidden) : null;
    feedForward = normsBranch
        ? new NormedFeedForward(scope, workspace, config, layer, rows, count, measure, skip)
        : feedForward(scope, workspace, config, layer, rows, count, measure, skip);
  }

  private static Consumer<Stream> feedForward(Scope scope, Workspace workspace, LlamaConfig config,
      LlamaWeights.Layer layer, Rows rows, int count, boolean measure, Tensor skip) {
    Ffn.Builder block =
        layer.feedForward(config.architecture())
            .hidden(rows.hidden(count))
            .rmsNorm(layer.feedForwardNorm(), config.epsilon())
            .out(rows.hidden(count));
    if (skip != null) {
      block.skip(skip);
    }
    if (measure) {
      block.cosine(rows.cosine(count)).branchCosine(rows.branchCosine(count));
    }
    return block.build(scope, workspace)::run;
  }

  /** Queries, keys and values of the rows. */
  void project(Stream stream) {
    projection.run(stream);
  }

  /** Gives the rows their slots in this layer, and nothing else. */
  void advance(Stream stream) {
    advance.run(stream);
  }

  void run(Stream stream) {
    advance(stream);
    project(stream);
    append.run(stream);
    (window != null && window.look() ? windowed : attention).run(stream);
    output.run(stream);
    if (branchNorm != null) {
      branchNorm.run(stream);
      add.run();
    }
    feedForward.accept(stream);
  }
}
