// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.layer;

import java.util.ArrayList;
import java.util.List;
import org.exeunt.Embedding;
import org.exeunt.FfnSkipRule;
import org.exeunt.InputRounding;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Workspace;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.policy.FfnSkip;

/** All that a fixed number of rows runs: the embedding, the layers, the rule that skips blocks. */
public final class LayerStack {
  private final Embedding embed;
  private final List<LayerOps> layers = new ArrayList<>();
  private final FfnSkipRule skipRule;

  /**
   * @param measure whether feed-forward blocks report their cosines even if none is skipped
   * @param inputs how rows are rounded to meet quantised weights
   */
  public LayerStack(Scope scope, Workspace workspace, LlamaWeights weights, RopeTables ropeTables,
      KvState kv, Rows rows, int count, FfnSkip skip, boolean measure, InputRounding inputs) {
    this(scope, workspace, weights, ropeTables, kv, rows, count, skip, measure,
        Switches.of(rows, count, skip), false, inputs);
  }

  /**
   * The same for rows that may be switched off, whatever the rule decides.
   *
   * @param alone whether each row is to have the bits that it has alone, on a GPU, too
   */
  public LayerStack(Scope scope, Workspace workspace, LlamaWeights weights, RopeTables ropeTables,
      KvState kv, Rows rows, int count, FfnSkip skip, boolean measure, Switches switches,
      boolean alone) {
    this(scope, workspace, weights, ropeTables, kv, rows, count, skip, measure, switches, alone,
        InputRounding.INT16);
  }

  private LayerStack(Scope scope, Workspace workspace, LlamaWeights weights, RopeTables ropeTables,
      KvState kv, Rows rows, int count, FfnSkip skip, boolean measure, Switches switches,
      boolean alone, InputRounding inputs) {
    LlamaConfig config = weights.config();
    embed =
        Embedding.builder()
            .table(weights.embedding().tensor())
            .tableBlocks(weights.embedding().blocks())
            .ids(rows.token(count))
            .scale(config.embeddingScale())
            .out(rows.hidden(count))
            .build(scope, workspace);
    Window window = config.localPeriod() > 1 && kv.capacity() > config.window()
        ? new Window(scope, config, kv, rows, count)
        : null;
    for (int l = 0; l < config.layers(); l++) {
      layers.add(new LayerOps(scope, workspace, config, weights.layers().get(l).meeting(inputs),
          ropeTables.of(l), kv.cache(l), kv.lengths(l), rows, count,
          config.isLocal(l) ? window : null, measure || skip != null, switches, alone));
    }
    skipRule = skip == null
        ? null
        : FfnSkipRule.builder()
              .cosine(rows.cosine(count))
              .token(rows.position(count))
              .state(rows.skipState(count))
              .skip(rows.skip(count))
              .modelLayers(config.layers())
              .coldLayers(skip.coldStart(), skip.coldEnd())
              .threshold(skip.threshold())
              .warmUp(skip.warmUp())
              .budget(skip.budget())
              .build(scope, workspace);
  }

  /** Looks the rows' tokens up. */
  public void embed(Stream stream) {
    embed.run(stream);
  }

  public void run(int layer, Stream stream) {
    layers.get(layer).run(stream);
  }

  /** Only the queries, keys and values of a layer. */
  public void project(int layer, Stream stream) {
    layers.get(layer).project(stream);
  }

  /** Only the slots of the rows in a layer. */
  public void advance(int layer, Stream stream) {
    layers.get(layer).advance(stream);
  }

  /**
   * Decides which rows skip the feed-forward block of {@code layer}, from the cosines of the block
   * that ran last.
   */
  public void decideSkips(int layer, Stream stream) {
    if (skipRule != null) {
      skipRule.run(stream, layer - 1, 0);
    }
  }
}
