// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.invalid;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.FfnSkipFit;
import org.exeunt.FfnSkipRule;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.Test;

class FfnSkipFitTest {
  /** Layers 2 to 4 of 6 turn the stream least. */
  private static FfnSkipFit fit() {
    FfnSkipFit fit = new FfnSkipFit(6);
    fit.add(0, .1f, .3f);
    fit.add(1, .9f, .5f);
    fit.add(2, .95f);
    fit.add(2, .91f, Float.NaN, .99f);
    fit.add(3, .97f);
    fit.add(4, .97f, .95f);
    fit.add(5, .2f, .2f);
    return fit;
  }

  @Test
  void meansLeaveOutWhatWasNotMeasured() {
    assertEquals(.2, fit().meanCosine(0), 1e-7);
    assertEquals(.95, fit().meanCosine(2), 1e-7);
  }

  @Test
  void proposesTheQuietestNeighbours() {
    assertEquals(new FfnSkipFit.Settings(2, 5, .95f), fit().propose(1 / 3.0));
    assertEquals(new FfnSkipFit.Settings(3, 5, .97f), fit().propose(.01), "one block at least");
    assertEquals(new FfnSkipFit.Settings(0, 6, .3f), fit().propose(.99));
  }

  /** A token whose first cold block is as quiet as the median leaves out the share asked for. */
  @Test
  void aRuleTakesTheProposal() {
    FfnSkipFit.Settings found = fit().propose(1 / 3.0);
    try (Scope scope = Scope.open()) {
      Tensor cosine = scope.copyOf(new float[] {found.threshold()}, 1);
      Tensor skip = scope.allocate(DType.U8, 1);
      FfnSkipRule rule =
          found.applyTo(FfnSkipRule.builder())
              .modelLayers(6)
              .warmUp(0)
              .cosine(cosine)
              .state(FfnSkipRule.allocateState(scope, Device.defaultDevice(), 1))
              .skip(skip)
              .build(scope);
      int skipped = 0;
      for (int layer = -1; layer < 5; layer++) {
        rule.run(layer, 0);
        Stream.DEFAULT.synchronize();
        skipped += skip.toIntArray()[0];
      }
      assertEquals(2, skipped);
    }
  }

  @Test
  void refusesWhatMakesNoSense() {
    invalid(() -> new FfnSkipFit(0), "layers", "0", "1");
    invalid(() -> fit().add(6, 1), "layer", "6", "5");
    invalid(() -> fit().meanCosine(-1), "layer", "-1", "0");
    invalid(() -> fit().propose(1), "share", "1", "0");
    invalid(() -> fit().propose(Double.NaN), "share", "NaN");
    assertThrows(IllegalStateException.class, () -> new FfnSkipFit(2).propose(.5));
  }
}
