// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.exeunt.BlockFormat;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.speculate.ForcedSpeculation.Cost;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ForcedSpeculationTest {
  private static final LlamaConfig SMALL = new LlamaConfig(LlamaConfig.Architecture.LLAMA, 4, 64, 4,
      2, 16, 128, 96, 2048, 1e-5f, 0.25f, 1e4f, 1, 1e4f, 0, 1);

  @Test
  void sharesBecomeProbabilities() {
    assertEquals(0.3, ForcedSpeculation.rateOfEach(0.3, 1), 1e-9);
    assertEquals(0.5, ForcedSpeculation.rateOfEach((0.5 + 0.25) / 2, 2), 1e-9);
    assertEquals(1, ForcedSpeculation.rateOfEach(1, 6), 1e-9);
  }

  /** As many drafted tokens are right as are meant to be, and all that takes time is told apart. */
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void verdictsAreDrawn(boolean blocks) {
    try (ForcedSpeculation model =
             new ForcedSpeculation(SMALL, blocks ? BlockFormat.Q4_0 : null, blocks)) {
      Cost plain = model.plain(50);
      Cost cost = model.speculative(1, 6, 0, 0.6, 1500, plain);
      assertEquals(0.6, cost.accepted(), 0.06);
      assertEquals(1 + 6 * cost.accepted(), cost.tokensPerPass(), 0.01);
      assertTrue(plain.verifyLayers() > 0 && plain.verifyHead() > 0 && plain.rest() == 0, "plain");
      assertTrue(cost.draftLayers() > 0 && cost.draftHead() > 0 && cost.verifyLayers() > 0
              && cost.verifyHead() > 0 && cost.rest() > 0 && cost.passRatio() > 0,
          cost.toString());
      // One layer of four six times, and once more with the others: at most as many bytes as ten.
      double gain = model.byBytes(1, 6, 0, cost.tokensPerPass());
      assertTrue(gain > 0 && gain < cost.tokensPerPass(), "gain " + gain);
      Cost few = model.speculative(1, 6, 12, 0.6, 1500, plain);
      assertEquals(0.6, few.accepted(), 0.06);
      assertTrue(few.draftHead() > 0, few.toString());
      double more = model.byBytes(1, 6, 12, cost.tokensPerPass());
      assertTrue(more > gain && more < cost.tokensPerPass(), "gain " + more);
    }
  }
}
