// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitRule;
import org.exeunt.ExitRule.Comparator;
import org.exeunt.ExitRule.Decay;
import org.exeunt.PerpGrad;
import org.exeunt.RowStats;
import org.exeunt.Scope;
import org.exeunt.StableMax;
import org.exeunt.Statistics;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** Numbers worked out by hand. */
@Tag("kernels")
@ExtendWith(ForcedPath.class)
class HandVectorsTest {
  private final Scope scope = Scope.open();

  @AfterEach
  void close() {
    scope.close();
  }

  @Test
  void rowStatistics() {
    Statistics out = Statistics.allocate(scope, 1);
    RowStats.compute(scope.copyOf(new float[] {2, 1, 0, -1}, 1, 4), out);
    Stream.DEFAULT.synchronize();
    assertEquals(0, out.argmax().toIntArray()[0]);
    assertEquals(2, out.maxLogit().toFloatArray()[0]);
    assertEquals(2.440190, out.lse().toFloatArray()[0], 1e-6);
    assertEquals(.643914, out.p1().toFloatArray()[0], 1e-6);
    assertEquals(.236883, out.p2().toFloatArray()[0], 1e-6);
    assertEquals(.407031, out.margin().toFloatArray()[0], 1e-6);
    assertEquals(.947537, out.entropy().toFloatArray()[0], 2e-6);
    assertEquals(.455429, out.pow2Entropy().toFloatArray()[0], 2e-6);
    assertEquals(.553895, -out.meanLogP().toFloatArray()[0] - Math.log(4), 2e-6);
  }

  @Test
  void stableMax() {
    Tensor z = scope.copyOf(DType.F64, new float[] {-3, -1, 0, 1, 3}, 1, 5);
    Tensor p = scope.allocate(DType.F64, 1, 5);
    Tensor log = scope.allocate(DType.F64, 1, 5);
    StableMax.forward(z, p);
    StableMax.logForward(z, log);
    Tensor loss = scope.allocate(DType.F64, 1);
    Tensor grad = scope.allocate(DType.F64, 1, 5);
    StableMax.crossEntropy()
        .logits(z)
        .labels(scope.copyOf(new int[] {0}, 1))
        .loss(loss)
        .grad(grad)
        .runOnce();
    Stream.DEFAULT.synchronize();
    double[] expected = {.25 / 7.75, .5 / 7.75, 1 / 7.75, 2 / 7.75, 4 / 7.75};
    assertArrayEquals(expected, p.toDoubleArray(), 1e-15);
    assertArrayEquals(new double[] {-3.433987, -2.740840, -2.047693, -1.354546, -.661398},
        log.toDoubleArray(), 1e-6);
    assertEquals(3.433987, loss.toDoubleArray()[0], 1e-6);
    assertArrayEquals(
        new double[] {-.241935, .032258, .129032, .129032, .129032}, grad.toDoubleArray(), 1e-6);
  }

  @Test
  void perpGrad() {
    Tensor w = scope.copyOf(new float[] {3, 4}, 2);
    Tensor g = scope.copyOf(new float[] {1, 2}, 2);
    Tensor out = scope.allocate(DType.F32, 2);
    PerpGrad.builder().weight(w).grad(g).out(out).form(PerpGrad.Form.PAPER).runOnce();
    Stream.DEFAULT.synchronize();
    assertArrayEquals(new float[] {-.32f, .24f}, out.toFloatArray(), 1e-6f);
    PerpGrad.compute(w, g, g);
    Stream.DEFAULT.synchronize();
    assertArrayEquals(new float[] {-1.788854f, 1.341641f}, g.toFloatArray(), 1e-6f);
  }

  /** PALBERT: lambda (.1, .2, .5, .9) leaves at the third layer for q = .5. */
  @Test
  void quantileExit() {
    Tensor score = scope.allocate(DType.F32, 1);
    Tensor exitLayer = scope.allocate(DType.I32, 1);
    ExitRule rule =
        ExitRule.builder()
            .score(score)
            .state(ExitRule.allocateState(scope, Device.defaultDevice(), 1))
            .exitLayer(exitLayer)
            .quantile(.5f)
            .build(scope);
    float[] lambda = {.1f, .2f, .5f, .9f};
    for (int l = 0; l < 4; l++) {
      score.copyFrom(new float[] {lambda[l]});
      rule.run(l, l == 0, l == 3);
    }
    Stream.DEFAULT.synchronize();
    assertEquals(2, exitLayer.toIntArray()[0]);
  }

  /** CALM: lambda .9, N 128, tau 4 gives .82218 (code) and .82353 (paper) at t = 64. */
  @Test
  void decayedThreshold() {
    assertEquals(1, leaves(Decay.CALM_CODE, .8225f));
    assertEquals(0, leaves(Decay.CALM_CODE, .8220f));
    assertEquals(1, leaves(Decay.CALM_PAPER, .8236f));
    assertEquals(0, leaves(Decay.CALM_PAPER, .8225f));
  }

  private int leaves(Decay decay, float score) {
    Tensor mask = scope.allocate(DType.U8, 1);
    ExitRule.builder()
        .score(scope.copyOf(new float[] {score}, 1))
        .state(ExitRule.allocateState(scope, Device.defaultDevice(), 1))
        .exitMask(mask)
        .threshold(Comparator.GE, .9f)
        .decay(decay, 4, 128)
        .stepIndex(64)
        .at(0, true, false)
        .runOnce();
    Stream.DEFAULT.synchronize();
    return mask.toIntArray()[0];
  }
}
