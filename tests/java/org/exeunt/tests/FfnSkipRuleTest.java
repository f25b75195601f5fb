// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.invalid;
import static org.exeunt.tests.Words.high;
import static org.exeunt.tests.Words.remainder;
import static org.exeunt.tests.Words.unit;
import static org.exeunt.tests.Words.word;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import java.util.Arrays;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.FfnSkipRule;
import org.exeunt.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class FfnSkipRuleTest extends OpTest {
  FfnSkipRuleTest() {
    super("ffn_skip_rule");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("ffn_skip_rule");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    int rows = c.int32("rows");
    int layers = c.int32("layers");
    boolean tensor = c.choice("token", "index", "tensor") == 1;
    Tensor cosine = scope.allocate(DType.F32, rows);
    Tensor token = tensor ? scope.allocate(DType.I32, rows) : null;
    Tensor state = FfnSkipRule.allocateState(scope, Device.defaultDevice(), rows);
    int[] garbage = new int[rows * FfnSkipRule.STATE_WORDS];
    Arrays.fill(garbage, 0x55555555);
    state.copyFrom(garbage);
    Tensor skip = scope.allocate(DType.U8, rows);
    FfnSkipRule rule =
        FfnSkipRule.builder()
            .cosine(cosine)
            .token(token)
            .state(state)
            .skip(skip)
            .modelLayers(layers)
            .coldLayers(c.int32("cold_start"), c.int32("cold_end"))
            .warmUp(c.int32("warm_up"))
            .budget(c.int32("budget"))
            .threshold(c.number("threshold"))
            .build(scope);
    Oracle oracle = new Oracle(c, rows);
    for (int t = 0; t < c.int32("tokens"); t++) {
      int[] tokens = new int[rows];
      for (int r = 0; r < rows; r++) {
        tokens[r] = tensor ? t + r % 4 : t;
      }
      if (tensor) {
        token.copyFrom(tokens);
      }
      for (int layer = -1; layer < layers - 1; layer++) {
        float[] cosines = new float[rows];
        for (int r = 0; layer >= 0 && r < rows; r++) {
          cosines[r] = oracle.skip[r] == 1 ? Float.NaN : cosine(c, t, layer, layers, r);
        }
        cosine.copyFrom(cosines);
        rule.run(org.exeunt.Stream.DEFAULT, layer, t);
        ForcedPath.assertTaken("ffn_skip_rule");
        org.exeunt.Stream.DEFAULT.synchronize();
        oracle.step(layer, cosines, tokens);
        String where = "token " + t + ", layer " + layer;
        assertArrayEquals(oracle.skip, skip.toIntArray(), where + ", skip");
        assertArrayEquals(oracle.state, state.toIntArray(), where + ", state");
      }
    }
  }

  /** What a refused run was given does not stay. */
  @Test
  void plainRunTakesTheLastStepThatRan() {
    Tensor skip = scope.allocate(DType.U8, 2);
    FfnSkipRule rule =
        FfnSkipRule.builder()
            .cosine(scope.copyOf(new float[] {1, 1}, 2))
            .state(FfnSkipRule.allocateState(scope, Device.defaultDevice(), 2))
            .skip(skip)
            .modelLayers(4)
            .coldLayers(0, 4)
            .warmUp(1)
            .threshold(0.5f)
            .build(scope);
    rule.run(-1, 3);
    rule.run(0, 3);
    invalid(() -> rule.run(9, 0), "layer", "9");
    rule.run();
    org.exeunt.Stream.DEFAULT.synchronize();
    assertArrayEquals(new int[] {1, 1}, skip.toIntArray());
  }

  private static float cosine(CaseRow c, int token, int layer, int layers, int row) {
    long i = ((long) token * layers + layer) * c.int32("rows") + row;
    long w = word(c.seed(), 0, i);
    if (c.choice("special", "-", "nan") == 1 && remainder(word(c.seed(), 1, i), 7) == 0) {
      return Float.NaN;
    }
    switch (c.choice("cosines", "unit", "high", "grid", "eighths", "rising")) {
      case 0:
        return 2 * unit(w) - 1;
      case 1:
        return 1 - unit(w) * 0.125f;
      case 2:
        return high(w, 11) * 0.1f;
      case 3:
        return high(w, 9) * 0.125f;
      default:
        return layer * 0.03125f + unit(w) * 0.25f;
    }
  }

  /** The rule as its contract tells it. */
  private static final class Oracle {
    private final int coldStart;
    private final int coldEnd;
    private final int warmUp;
    private final int budget;
    private final float threshold;
    final int[] skip;
    final int[] state;

    Oracle(CaseRow c, int rows) {
      coldStart = c.int32("cold_start");
      coldEnd = c.int32("cold_end");
      warmUp = c.int32("warm_up");
      budget = c.int32("budget");
      threshold = c.number("threshold");
      skip = new int[rows];
      state = new int[2 * rows];
    }

    void step(int layer, float[] cosine, int[] token) {
      if (layer == -1) {
        Arrays.fill(state, 0);
      }
      for (int r = 0; r < skip.length; r++) {
        if (layer >= 0 && cold(layer) && cosine[r] >= threshold) {
          state[2 * r] = 1;
        }
        boolean allowed = budget == -1 || state[2 * r + 1] < budget;
        boolean skips = state[2 * r] == 1 && cold(layer + 1) && token[r] >= warmUp && allowed;
        skip[r] = skips ? 1 : 0;
        state[2 * r + 1] += skip[r];
      }
    }

    private boolean cold(int layer) {
      return layer >= coldStart && layer < coldEnd;
    }
  }
}
