// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.device;

import org.exeunt.InputRounding;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.exeunt.engine.layer.KvState;
import org.exeunt.engine.layer.LayerStack;
import org.exeunt.engine.layer.RopeTables;
import org.exeunt.engine.layer.Rows;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.policy.FfnSkip;

/** Takes prompts in on a GPU, some rows at a time. */
public final class PromptRows {
  private static final int MOST = 256;

  private final LlamaWeights weights;
  private final RopeTables ropeTables;
  private final FfnSkip skip;
  private final Stream stream;
  private final Rows rows;

  /** @param capacity of a sequence */
  public PromptRows(Scope scope, LlamaWeights weights, RopeTables ropeTables, FfnSkip skip,
      Stream stream, int capacity) {
    this.weights = weights;
    this.ropeTables = ropeTables;
    this.skip = skip;
    this.stream = stream;
    rows = new Rows(scope, weights, Math.min(MOST, capacity));
  }

  /** The rows, which are free between prompts. */
  Rows rows() {
    return rows;
  }

  /**
   * Runs these layers.
   *
   * @param kv of one sequence
   * @param position of the first token
   * @return the state of the last token, [1,D], until the rows are used again
   */
  public Tensor enter(KvState kv, int position, int[] layers, int... prompt) {
    for (int from = 0; from < prompt.length; from += rows.capacity()) {
      stream.synchronize(); // the rows before are on the device
      rows.clear();
      for (int i = from; i < prompt.length && i < from + rows.capacity(); i++) {
        rows.add(prompt[i], 0, position + i);
      }
      enter(kv, layers);
    }
    return rows.hidden().rows(rows.count() - 1, rows.count());
  }

  private void enter(KvState kv, int... layers) {
    rows.send(stream);
    try (Scope passing = Scope.open()) {
      LayerStack stack = new LayerStack(passing, Workspace.in(passing, weights.device()), weights,
          ropeTables, kv, rows, rows.count(), skip, false, InputRounding.INT16);
      stack.embed(stream);
      stack.decideSkips(0, stream);
      for (int layer : layers) {
        stack.run(layer, stream);
        if (layer + 1 < weights.config().layers()) {
          stack.decideSkips(layer + 1, stream);
        }
      }
      stream.synchronize(); // before its memory goes
    }
  }
}
