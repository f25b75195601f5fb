// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.evaluate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Collections;
import java.util.List;
import java.util.function.BiConsumer;
import org.exeunt.examples.evaluate.Evaluation.Method;
import org.exeunt.examples.evaluate.Outcome.Kind;
import org.exeunt.examples.gguf.GgufFile;
import org.exeunt.examples.llama.DecoderOptions;
import org.exeunt.examples.llama.ExitPolicy;
import org.exeunt.examples.llama.KvPolicy;
import org.exeunt.examples.llama.LlamaWeights;
import org.exeunt.examples.llama.Schedule;
import org.exeunt.examples.llama.Speculation;
import org.exeunt.examples.llama.TinyModel;
import org.exeunt.examples.report.Report;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Runs that end otherwise than they should. */
class EvaluationTest {
  private static final int PROMPTS = 3;
  private static final Method PLAIN = new Method("", DecoderOptions.FULL, null);
  private static final Method DRAFT = new Method("--speculate lookup", DecoderOptions.FULL,
      Speculation.parse("lookup", 0, null, TinyModel.LAYERS));
  private static final Method EXIT = new Method("--exit fixed:1",
      DecoderOptions.FULL.withExit(
          ExitPolicy.parse("fixed:1", null, TinyModel.LAYERS), KvPolicy.PROPAGATE),
      null);
  private static final Method BROKEN = new Method("--broken", null, null);

  @TempDir static Path folder;
  private static Path model;

  @BeforeAll
  static void write() throws IOException {
    model = TinyModel.write(folder.resolve("tiny.gguf"));
  }

  private static Findings run(List<Method> methods, BiConsumer<Integer, Integer> progress,
      Interruption interruption) throws IOException {
    try (GgufFile file = GgufFile.open(model);
        LlamaWeights weights = LlamaWeights.load(file, null)) {
      return Evaluation
          .of(file, weights, null, null, "--- a\nabcabc\n--- b\nab\n--- a\nkq\n--- a\nleft out", 2,
              true, 12)
          .run(methods, progress, interruption);
    }
  }

  private static Outcome find(Findings findings, Method method, String group) {
    return findings.of(group)
        .stream()
        .filter(o -> o.method().equals(method.options()))
        .findFirst()
        .orElseThrow();
  }

  @Test
  void aMethodThatFailsLeavesTheOthersAlone() throws IOException {
    Findings found = run(List.of(PLAIN, BROKEN, DRAFT, EXIT), (s, p) -> {}, new Interruption());
    assertEquals(PROMPTS, found.prompts());
    assertEquals(1, found.problems().size(), found.problems().toString());
    assertTrue(found.problems().get(0).startsWith("--broken stopped behind 0 of 3 prompts: "));
    assertEquals(3 * 3, found.outcomes().size());
    assertEquals(0, find(found, PLAIN, "").differing());
    assertEquals(0, find(found, DRAFT, "").differing());
    assertEquals(Kind.DRAFT, find(found, DRAFT, "").kind());
    Outcome exit = find(found, EXIT, "");
    assertEquals(Kind.CHANGE, exit.kind());
    assertTrue(exit.differing() > 0 && exit.agreement() < 1, exit.toString());
    assertFalse(exit.failed());
    assertEquals(2, find(found, EXIT, "a").prompts());
  }

  @Test
  void theFirstDifferenceIsFound() {
    int[][] expected = {{1, 2, 0}, {3, 4}, {5}};
    assertNull(Equality.difference(expected, new int[][] {{1, 2, 0}, {3, 4}, {5}}));
    assertEquals("prompt 2, token 1: 9 instead of 3",
        Equality.difference(expected, new int[][] {{1, 2, 0}, {9, 9}, {6}}));
    assertEquals("prompt 1, token 3: an end instead of 0",
        Equality.difference(expected, new int[][] {{1, 2}, {3, 4}, {5}}));
    assertEquals("prompt 3, token 2: 7 instead of an end",
        Equality.difference(expected, new int[][] {{1, 2, 0}, {3, 4}, {5, 7}}));
  }

  /** With a draft that is held against the answers of some of the layers. */
  @Test
  void answersThatDifferAreFailures() throws IOException {
    Path report = folder.resolve("differ");
    try (GgufFile file = GgufFile.open(model); Report to = new Report(report)) {
      Equality.Loader loader = (weights, type)
          -> Evaluation.of(file, weights, type, null, "--- a\nabcabc\n--- b\nab", 2, true, 12);
      DecoderOptions shallow =
          DecoderOptions.FULL.withSchedule(Schedule.parse("unified:2", TinyModel.LAYERS));
      Method other = new Method("", shallow, null); // says it were the plain decoder
      List<String> problems =
          new Equality(file, Collections.singletonList(null), loader, new Interruption())
              .report(List.of(other, DRAFT), to);
      assertEquals(2, problems.size(), problems.toString());
      assertTrue(
          problems.get(0).startsWith("FAILED: file, 1 at a time, --speculate lookup answered "
              + "otherwise than the plain decoder, which it must never do: prompt "),
          problems.get(0));
      // In the middle of a method, which is no failure of its own.
      Interruption interruption = new Interruption();
      int[] passes = new int[1];
      Method interrupted = new Method("", DecoderOptions.FULL.withObserver((depth, rows) -> {
        if (depth == TinyModel.LAYERS && ++passes[0] == 30) {
          interruption.interrupt();
        }
      }),
          null);
      assertEquals(List.of("INTERRUPTED: what is missing was not compared"),
          new Equality(file, Collections.singletonList(null), loader, interruption)
              .report(List.of(interrupted, DRAFT), to));
      assertEquals(30, passes[0]);
    }
  }

  @Test
  void whatWasFoundBeforeAnInterruptionIsKept() throws IOException {
    Interruption interruption = new Interruption();
    Findings found = run(List.of(PLAIN, DRAFT, EXIT, EXIT), (stage, prompt) -> {
      if (stage == 2 && prompt == 1) {
        interruption.interrupt();
      }
    }, interruption);
    assertEquals(List.of("--speculate lookup stopped behind 1 of 3 prompts",
                     "INTERRUPTED: 2 of 4 methods were not tried"),
        found.problems());
    assertEquals(PROMPTS, find(found, PLAIN, "").prompts());
    assertEquals(1, find(found, DRAFT, "").prompts());
    assertEquals(1, find(found, DRAFT, "a").prompts());
    assertEquals(3 + 2, found.outcomes().size(), "no row without a prompt");
  }
}
