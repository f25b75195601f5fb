// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.device.speculate;

import java.util.ArrayList;
import java.util.List;
import org.exeunt.RowCompaction;
import org.exeunt.Stream;

/**
 * A model's own first layers, with its final norm and head (LayerSkip; Elhoushi et al. 2024). The
 * rows that verify go on with the states that these layers have left.
 */
final class DeviceSelfDraft implements DeviceDraft {
  private final DeviceRound round;
  private final int layers;
  private final DraftSteps steps;
  private final List<RowCompaction> states = new ArrayList<>();

  /** @param least probability of a token after which more are drafted; 0: all are */
  DeviceSelfDraft(DeviceRound round, int layers, float least) {
    this.round = round;
    this.layers = layers;
    steps = new DraftSteps(round, round.weights, round.kv, round.ropeTables, layers, least);
    for (int i = 0; i <= round.longest; i++) {
      states.add(
          round.place(steps.states(), round.rows.hidden(round.count()), round.longest + 1, i));
    }
  }

  @Override
  public void queue(Stream stream) {
    steps.queue(stream, i -> states.get(i).run(stream));
  }

  @Override
  public int depth() {
    return layers;
  }

  @Override
  public int readings() {
    return round.longest;
  }
}
