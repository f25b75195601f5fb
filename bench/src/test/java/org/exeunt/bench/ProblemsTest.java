// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.measure.Work;
import org.junit.jupiter.api.Test;

/** The case tables and the benchmarks agree on what a case is. */
class ProblemsTest {
  @Test
  void everyOpHasCases() {
    Plan.ops().forEach(op -> assertFalse(Problem.listed(op).isEmpty(), op));
  }

  /** The launcher gives the process that plans no module of vectors. */
  @Test
  void planNeedsNoVectors() throws IOException, InterruptedException {
    Process list =
        new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-Dexeunt.cases.library=" + System.getProperty("exeunt.cases.library"), "-cp",
            System.getProperty("java.class.path"), Main.class.getName(), "--quick", "--list")
            .redirectErrorStream(true)
            .start();
    String output = new String(list.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, list.waitFor(), output);
    assertTrue(output.contains("cosine/bench_128x576_f32 vector 1 thread"), output);
    assertFalse(output.contains("kv_length/bench_decode vector"), output);
  }

  @Test
  void targetsNameCasesThatAreThere() {
    Target.load()
        .stream()
        .filter(target -> !target.op.equals(Plan.CALL_COST))
        .flatMap(target -> target.cases().stream())
        .map(name -> name.split("/"))
        .forEach(name -> assertTrue(Problem.find(name[0], name[1]).tags().contains("bench")));
  }

  private static void assertMultiplyAdds(String op, String id, long expected) {
    try (Problem problem = new Problem(Problem.find(op, id))) {
      assertEquals(expected, Work.multiplyAdds(problem), op + "/" + id);
    }
  }

  @Test
  void multiplyAddsAreThoseOfRowsThatRunAndSlotsThatAreSeen() {
    assertMultiplyAdds("ffn", "model_576x1536_r8_all", 0);
    assertMultiplyAdds("ffn", "model_576x1536_r1", 3L * 576 * 1536);
    assertMultiplyAdds("linear", "model_576x1536_r512", 512L * 576 * 1536);
    assertMultiplyAdds("attention", "bench_prefill_512", 2L * (512 * 513 / 2) * 32 * 128);
    assertMultiplyAdds("exit_head", "bench_8x576x49152_bf16_bare", 8L * 576 * 49152);
    assertMultiplyAdds("kv_propagate", "model_576_r1", 24L * 2 * 192 * 576);
    assertMultiplyAdds("attention_scores", "bench_score_32", 8192L * 32 * 128);
  }

  /** Beside what moves there are only lists, and scores. */
  @Test
  void bytesAreThoseThatMove() {
    try (Problem drop = new Problem(Problem.find("gather", "drop_from_bf16"))) {
      assertEquals(2L * 2 * 576 * 4096 + 4 * 576 + 4 * 32 * 2880, Work.bytes(drop));
      assertEquals(2L * 576 * 4096, Work.moved(drop));
    }
  }
}
