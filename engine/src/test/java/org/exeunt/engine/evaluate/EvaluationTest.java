// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.evaluate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Collections;
import java.util.List;
import java.util.function.BiConsumer;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.evaluate.Evaluation.Method;
import org.exeunt.engine.evaluate.Outcome.Kind;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.policy.ExitPolicy;
import org.exeunt.engine.policy.KvPolicy;
import org.exeunt.engine.policy.Schedule;
import org.exeunt.engine.report.Report;
import org.exeunt.engine.speculate.Speculation;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Runs that end otherwise than they should. */
class EvaluationTest {
  private static final int PROMPTS = 3;
  private static final Method PLAIN = new Method("", DecoderOptions.FULL, null, false);
  private static final Method DRAFT = new Method("--speculate lookup", DecoderOptions.FULL,
      Speculation.parse("lookup", 0, null, TinyModel.LAYERS), false);
  private static final Method EXIT = new Method("--exit fixed:1",
      DecoderOptions.FULL.withExit(
          ExitPolicy.parse("fixed:1", null, TinyModel.LAYERS), KvPolicy.PROPAGATE),
      null, false);
  private static final Method BROKEN = new Method("--broken", null, null, false);

  private static final Evaluation.Setup SETUP = new Evaluation.Setup(true, 12, 3, null);

  @TempDir static Path folder;
  private static Path model;

  @BeforeAll
  static void write() throws IOException {
    model = TinyModel.write(folder.resolve("tiny.gguf"));
  }

  private static Findings run(List<Method> methods, BiConsumer<Integer, Integer> progress,
      Interruption interruption) throws IOException {
    try (GgufFile file = GgufFile.open(model); LlamaWeights weights = LlamaWeights.load(file, null);
        Evaluation evaluation = Evaluation.of(file, weights, null, null,
            "--- a\nabcabc\n--- b\nab\n--- a\nkq\n--- a\nleft out", 2, SETUP)) {
      return evaluation.run(methods, progress, interruption);
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
    assertTrue(found.problems().get(0).startsWith("--broken stopped after 0 of 3 prompts: "));
    assertEquals(3 * 3, found.outcomes().size());
    assertEquals(0, find(found, PLAIN, "").differing());
    assertEquals(0, find(found, DRAFT, "").differing());
    assertEquals(Kind.LOSSLESS, find(found, DRAFT, "").kind());
    Outcome exit = find(found, EXIT, "");
    assertEquals(Kind.CHANGE, exit.kind());
    assertTrue(exit.differing() > 0 && exit.agreement() < 1, exit.toString());
    assertFalse(exit.failed());
    assertEquals(2, find(found, EXIT, "a").prompts());
  }

  private static Trial.Part part(long tokens, double seconds) {
    return new Trial.Part(tokens, (long) (1e9 * seconds), tokens, 0, 0, 0);
  }

  private static Speed speed(double... ratios) {
    Trial.Part[] own = new Trial.Part[ratios.length];
    Trial.Part[] beside = new Trial.Part[ratios.length];
    for (int turn = 0; turn < ratios.length; turn++) {
      own[turn] = part(100, 1 / ratios[turn]);
      beside[turn] = part(50, 0.5);
    }
    return Speed.of(own, beside);
  }

  /** By hand: of the logarithms of the ratios the mean, and 4.303 s / sqrt(3). */
  @Test
  void intervalsFollowFromTheTurns() {
    Speed speed = speed(1.9, 2, 2.1);
    double[] logs = {Math.log(1.9), Math.log(2), Math.log(2.1)};
    double mean = (logs[0] + logs[1] + logs[2]) / 3;
    double square = 0;
    for (double log : logs) {
      square += (log - mean) * (log - mean);
    }
    double half = 4.303 * Math.sqrt(square / 2 / 3);
    assertEquals(Math.exp(mean - half), speed.low(), 1e-6);
    assertEquals(Math.exp(mean + half), speed.high(), 1e-6);
    assertEquals(199.5, speed.rate(), 0.5, "all turns together");
    assertEquals(100, speed.plain());
    assertEquals(speed.rate() / speed.plain(), speed.ratio());
    assertTrue(Double.isNaN(speed(2).low()), "one turn tells nothing of its like");
    assertTrue(Double.isNaN(Speed
            .of(new Trial.Part[] {part(0, 1), part(0, 1)},
                new Trial.Part[] {part(5, 1), part(5, 1)})
            .ratio()));
  }

  @Test
  void verdictsNeedAQuietMachine() {
    Speed quiet = speed(0.98, 1, 1.02);
    assertTrue(quiet.isQuiet());
    assertEquals("faster", speed(1.5, 1.51, 1.49).verdict(quiet));
    assertEquals("slower", speed(0.5, 0.51, 0.49).verdict(quiet));
    assertEquals("no difference", speed(1.2, 1.8, 0.9).verdict(quiet));
    assertEquals("no difference", speed(1.03, 1.031, 1.029).verdict(quiet), "within the noise");
    assertEquals("-", speed(1.5).verdict(quiet));
    for (Speed loud : List.of(speed(1.11, 1.11, 1.11), speed(0.9, 1, 1.1), speed(1))) {
      assertFalse(loud.isQuiet());
      assertEquals("-", speed(1.5, 1.51, 1.49).verdict(loud));
    }
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
      Equality.Loader loader = (weights,
          type) -> Evaluation.of(file, weights, type, null, "--- a\nabcabc\n--- b\nab", 2, SETUP);
      DecoderOptions shallow =
          DecoderOptions.FULL.withSchedule(Schedule.parse("unified:2", TinyModel.LAYERS));
      Method other = new Method("", shallow, null, false); // says it were the plain decoder
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
          null, false);
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
    assertEquals(List.of("--speculate lookup stopped after 1 of 3 prompts",
                     "INTERRUPTED: 2 of 4 methods were not tried"),
        found.problems());
    assertEquals(PROMPTS, find(found, PLAIN, "").prompts());
    assertEquals(1, find(found, DRAFT, "").prompts());
    assertEquals(1, find(found, DRAFT, "a").prompts());
    assertEquals(3 + 2, found.outcomes().size(), "no row without a prompt");
  }
}
