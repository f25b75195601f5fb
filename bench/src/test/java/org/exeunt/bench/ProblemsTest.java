// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.function.Function;
import org.exeunt.bench.reference.ExitHeadProblem;
import org.junit.jupiter.api.Test;

/** The case tables and the benchmarks agree on what a case is. */
class ProblemsTest {
  private static final Map<String, Function<BenchCase, Object>> BUILDERS = Map.of(
      "stablemax", Problems::softmax,
      "cross_entropy", Problems::crossEntropy,
      "row_stats", Problems::rowStats,
      "exit_head", Problems::exitHead,
      "cosine", Problems::cosine,
      "perp_grad", Problems::perpGrad,
      "gate", Problems::gate,
      "exit_rule", Problems::exitRule);

  @Test
  void everyTableHasCasesThatCanBeBuilt() {
    BUILDERS.forEach((op, builder) -> {
      List<BenchCase> cases = CaseTable.load(op).cases();
      assertFalse(cases.isEmpty(), op);
      // Big ones follow the same path with more elements.
      cases.stream().filter(c -> !c.list("tags").contains("big")).forEach(builder::apply);
    });
  }

  @Test
  void bytesAreThoseOfTheWeights() {
    BenchCase head = CaseTable.load("exit_head").get("bench_1x576x49152_bf16");
    ExitHeadProblem problem = Problems.exitHead(head);
    assertEquals(2L * 576 * 49152 + 2 * 576, problem.bytes());
    assertFalse(problem.bare());
  }

  @Test
  void ownTableAddsToTheSharedOne() {
    BenchCase mixed = CaseTable.load("exit_head").get("bench_8x576x49152_f32_bf16_bare");
    assertEquals("f32", mixed.text("hidden"));
    assertEquals("bf16", mixed.text("weight"));
  }

  @Test
  void whatCannotBeSetUpIsRefused() {
    BenchCase head = CaseTable.load("exit_head").get("bench_1x576x49152_bf16");
    IllegalArgumentException e =
        assertThrows(IllegalArgumentException.class, () -> head.require("norm", "layer"));
    assertTrue(e.getMessage().contains("norm = rms"), e.getMessage());
    assertThrows(IllegalArgumentException.class, () -> head.text("colour"));
    assertThrows(IllegalStateException.class, () -> CaseTable.load("no_such_op"));
  }
}
