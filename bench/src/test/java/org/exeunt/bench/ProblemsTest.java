// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import org.exeunt.bench.cases.BenchCase;
import org.exeunt.bench.cases.CaseTable;
import org.exeunt.bench.reference.ExitHeadProblem;
import org.junit.jupiter.api.Test;

/** The case tables and the benchmarks agree on what a case is. */
class ProblemsTest {
  @Test
  void everyTableHasCasesThatCanBeBuilt() {
    for (String op : Problems.OPS) {
      List<BenchCase> cases = CaseTable.load(op).cases();
      assertFalse(cases.isEmpty(), op);
      // Big ones follow the same path with more elements.
      cases.stream().filter(c -> !c.list("tags").contains("big")).forEach(c -> {
        assertEquals(op, Problems.of(c).op());
        assertTrue(Lineup.of(Plan.OURS).offers(c), op);
      });
    }
  }

  /** The launcher gives the process that plans no module of vectors. */
  @Test
  void planNeedsNoVectors() throws IOException, InterruptedException {
    Process list =
        new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-cp", System.getProperty("java.class.path"), Main.class.getName(), "--quick", "--list")
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
        .forEach(name -> CaseTable.load(name[0]).get(name[1]));
  }

  @Test
  void blocksThatAllRowsSkipReadNoWeights() {
    BenchCase all = CaseTable.load("ffn").get("model_576x1536_r8_all");
    assertEquals(2L * 2 * 8 * 576, LayerProblems.ffn(all).bytes());
    BenchCase one = CaseTable.load("kv_propagate").get("model_576_r1");
    long written = 24L * 2 * 2 * 192;
    assertEquals(
        24L * 2 * 2 * 192 * 576 + 2 * 576 + written, LayerProblems.kvPropagate(one).bytes());
  }

  @Test
  void multiplyAddsAreThoseOfRowsThatRunAndSlotsThatAreSeen() {
    BenchCase all = CaseTable.load("ffn").get("model_576x1536_r8_all");
    assertEquals(0, LayerProblems.ffn(all).multiplyAdds());
    BenchCase one = CaseTable.load("ffn").get("model_576x1536_r1");
    assertEquals(3L * 576 * 1536, LayerProblems.ffn(one).multiplyAdds());
    BenchCase prompt = CaseTable.load("linear").get("model_576x1536_r512");
    assertEquals(512L * 576 * 1536, LayerProblems.linear(prompt).multiplyAdds());
    BenchCase prefill = CaseTable.load("attention").get("bench_prefill_512");
    assertEquals(2L * (512 * 513 / 2) * 32 * 128, LayerProblems.attention(prefill).multiplyAdds());
    BenchCase head = CaseTable.load("exit_head").get("bench_8x576x49152_bf16_bare");
    assertEquals(8L * 576 * 49152, Problems.exitHead(head).multiplyAdds());
    BenchCase owed = CaseTable.load("kv_propagate").get("model_576_r1");
    assertEquals(24L * 2 * 192 * 576, LayerProblems.kvPropagate(owed).multiplyAdds());
    BenchCase scores = CaseTable.load("attention_scores").get("bench_score_32");
    assertEquals(8192L * 32 * 128, DropProblems.attentionScores(scores).multiplyAdds());
  }

  @Test
  void droppedTokensAreNotRead() {
    BenchCase drop = CaseTable.load("gather").get("drop_from_bf16");
    assertEquals(2L * 2 * 576 * 4096 + 4 * 576 + 4 * 32 * 2880, DropProblems.gather(drop).bytes());
    BenchCase kv = CaseTable.load("gather").get("kv_f32");
    assertEquals(2L * 2 * 4 * 1024 * 8 * 128 + 4 * 1024, DropProblems.gather(kv).bytes());
    BenchCase select = CaseTable.load("select").get("bench_576_of_2880");
    assertEquals(4L * 2880 + 4 * 576, DropProblems.select(select).bytes());
    BenchCase heads = CaseTable.load("select").get("bench_heads_576_bf16");
    assertEquals(2L * 32 * 2880 + 4 * 576, DropProblems.select(heads).bytes());
    BenchCase scores = CaseTable.load("attention_scores").get("bench_score_32");
    assertEquals(2L * 8192 * 8 * 128 + 2 * 32 * 128 + 4 * 8192,
        DropProblems.attentionScores(scores).bytes());
  }

  @Test
  void bytesAroundLayersAreThoseOfRowsAndTables() {
    BenchCase append = CaseTable.load("kv_append").get("decode_1");
    assertEquals(2L * 2 * 2 * 8 * 128, StepProblems.kvAppend(append).bytes());
    BenchCase convert = CaseTable.load("kv_append").get("bench_prefill_convert");
    assertEquals(2L * (4 + 2) * 512 * 8 * 128, StepProblems.kvAppend(convert).bytes());
    BenchCase advance = CaseTable.load("kv_length").get("decode_8");
    assertEquals(12 * 8, StepProblems.kvLength(advance).bytes());
    BenchCase crop = CaseTable.load("kv_length").get("bench_crop");
    assertEquals(12 * 32 * 64, StepProblems.kvLength(crop).bytes());
    BenchCase push = CaseTable.load("hidden_stack").get("step_push");
    assertEquals(8L * (2 * 2 * 2048 + 2 * 4 * 3), StepProblems.hiddenStack(push).bytes());
    BenchCase skip = CaseTable.load("ffn_skip_rule").get("bench_64");
    assertEquals(21 * 64 * 4, StepProblems.ffnSkipRule(skip).bytes());
    BenchCase budget = CaseTable.load("hired_budget").get("llava_next");
    assertEquals(4 * 576 + 4 * 5 + 576, StepProblems.hiredBudget(budget).bytes());
    BenchCase table = CaseTable.load("rope_table").get("model_4096");
    assertEquals(4L * 4096 * 128, StepProblems.ropeTable(table).bytes());
    BenchCase schedule = CaseTable.load("layer_schedule").get("bench_calm");
    assertEquals(4096L * (4 * 32 + 32 + 4 + 4), StepProblems.layerSchedule(schedule).bytes());
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
