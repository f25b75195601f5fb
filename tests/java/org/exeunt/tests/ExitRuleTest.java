// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.invalid;
import static org.exeunt.tests.Words.high;
import static org.exeunt.tests.Words.remainder;
import static org.exeunt.tests.Words.unit;
import static org.exeunt.tests.Words.word;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Arrays;
import java.util.Set;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitRule;
import org.exeunt.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class ExitRuleTest extends OpTest {
  ExitRuleTest() {
    super("exit_rule");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("exit_rule");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    int rows = c.int32("rows");
    int layers = c.int32("layers");
    Set<String> outputs =
        c.subset("outputs", "exit_mask", "active_list", "active_count", "exit_layer");
    // The mask is always asked for: where a decision lies inside the stated band, the oracle
    // follows it.
    Tensor mask = scope.allocate(DType.U8, rows);
    Tensor list = outputs.contains("active_list") ? scope.allocate(DType.I32, rows) : null;
    Tensor count = outputs.contains("active_count") ? scope.allocate(DType.I32, 1) : null;
    Tensor exitLayer = outputs.contains("exit_layer") ? scope.allocate(DType.I32, rows) : null;
    Inputs in = new Inputs(c);
    ExitRule rule =
        builder(c, in, rows)
            .exitMask(mask)
            .activeList(list)
            .activeCount(count)
            .exitLayer(exitLayer)
            .build(scope);
    RuleOracle oracle = new RuleOracle(c, rows);
    for (int t = 0; t < c.int32("tokens"); t++) {
      for (int l = 0; l < layers; l++) {
        in.fill(c, t, l, layers);
        boolean force = c.flag("force") && l == layers - 1;
        rule.run(org.exeunt.Stream.DEFAULT, l, l == 0, force, 8 * t);
        ForcedPath.assertTaken("exit_rule");
        org.exeunt.Stream.DEFAULT.synchronize();
        String where = "token " + t + ", layer " + l;
        oracle.step(in, 8 * t, l, force, mask.toIntArray(), where);
        if (list != null) {
          assertEquals(
              Arrays.toString(oracle.activeList()), Arrays.toString(list.toIntArray()), where);
        }
        if (count != null) {
          assertEquals(oracle.activeCount(), count.toIntArray()[0], where);
        }
        if (exitLayer != null) {
          assertEquals(
              Arrays.toString(oracle.exitLayer()), Arrays.toString(exitLayer.toIntArray()), where);
        }
      }
    }
    oracle.report(c.id());
  }

  /** What a refused run was given does not stay. */
  @Test
  void plainRunTakesTheLastStepThatRan() {
    Tensor exitLayer = scope.allocate(DType.I32, 2);
    ExitRule rule =
        ExitRule.builder()
            .score(scope.copyOf(new float[] {1, 0}, 2))
            .threshold(ExitRule.Comparator.GE, 0.5f)
            .decay(ExitRule.Decay.CALM_CODE, 4, 8)
            .state(ExitRule.allocateState(scope, Device.defaultDevice(), 2))
            .exitLayer(exitLayer)
            .build(scope);
    org.exeunt.Stream stream = org.exeunt.Stream.DEFAULT;
    rule.run(stream, 3, true, false, 0);
    invalid(() -> rule.run(stream, 5, false, true, -1), "step_index", "-1");
    rule.run();
    stream.synchronize();
    assertArrayEquals(new int[] {3, -1}, exitLayer.toIntArray());
  }

  private ExitRule.Builder builder(CaseRow c, Inputs in, int rows) {
    ExitRule.Builder builder =
        ExitRule.builder()
            .score(in.scoreTensor)
            .label(in.labelTensor)
            .valid(in.validTensor)
            .step(in.stepTensor)
            .state(ExitRule.allocateState(scope, Device.defaultDevice(), rows))
            .rows(c.choice("scope", ExitRule.Rows.class))
            .decay(c.choice("decay", ExitRule.Decay.class), c.number("tau"), c.number("horizon"));
    float threshold = c.number("threshold");
    switch (c.text("rule")) {
      case "threshold":
        return builder.threshold(c.choice("comparator", ExitRule.Comparator.class), threshold);
      case "patience":
        return builder.patience(c.int32("patience"), threshold);
      case "quantile":
        return builder.quantile(threshold);
      case "jei":
        return builder.jei(threshold);
      case "specdec":
        return builder.specDec(threshold, c.int32("min_steps"), c.int32("max_steps"));
      default:
        throw new IllegalStateException("unknown rule '" + c.text("rule") + "'");
    }
  }

  /** What changes from call to call. */
  final class Inputs {
    final float[] score;
    final int[] label;
    final int[] valid;
    final int[] step;
    final Tensor scoreTensor;
    final Tensor labelTensor;
    final Tensor validTensor;
    final Tensor stepTensor;

    Inputs(CaseRow c) {
      int rows = c.int32("rows");
      score = c.given("scores") ? new float[rows] : null;
      label = c.given("labels") ? new int[rows] : null;
      valid = c.choice("valid", "-", "some") == 1 ? new int[rows] : null;
      step = c.choice("step", "index", "tensor") == 1 ? new int[rows] : null;
      scoreTensor = score == null ? null : scope.allocate(DType.F32, rows);
      labelTensor = label == null ? null : scope.allocate(DType.I32, rows);
      validTensor = valid == null ? null : scope.allocate(DType.U8, rows);
      stepTensor = step == null ? null : scope.allocate(DType.I32, rows);
    }

    void fill(CaseRow c, int token, int layer, int layers) {
      int rows = c.int32("rows");
      boolean nan = c.choice("special", "-", "nan") == 1;
      for (int r = 0; r < rows; r++) {
        long i = ((long) token * layers + layer) * rows + r;
        if (score != null) {
          boolean here = nan && remainder(word(c.seed(), 3, i), 7) == 0;
          score[r] = here ? Float.NaN : score(c.text("scores"), word(c.seed(), 0, i));
        }
        if (label != null) {
          label[r] = (int) remainder(word(c.seed(), 1, i), c.integer("labels"));
        }
        if (valid != null) {
          valid[r] = remainder(word(c.seed(), 2, i), 5) == 0 ? 0 : 1;
        }
        if (step != null) {
          step[r] = 8 * token + r;
        }
      }
      upload();
    }

    private void upload() {
      if (score != null) {
        scoreTensor.copyFrom(score);
      }
      if (label != null) {
        labelTensor.copyFrom(label);
      }
      if (valid != null) {
        validTensor.copyFrom(valid);
      }
      if (step != null) {
        stepTensor.copyFrom(step);
      }
    }

    private float score(String kind, long w) {
      switch (kind) {
        case "unit":
          return unit(w);
        case "grid":
          return high(w, 11) * 0.1f;
        case "eighths":
          return high(w, 9) * 0.125f;
        case "low":
          return unit(w) * 0.125f;
        case "high":
          return 1 - unit(w) * 0.125f;
        default:
          throw new IllegalStateException("unknown scores '" + kind + "'");
      }
    }
  }
}
