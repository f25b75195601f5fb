// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Pattern;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.measure.Host;
import org.exeunt.bench.measure.Operands;
import org.exeunt.cases.Facade;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** From JMH's JSON to verdicts, with numbers small enough to check by hand. */
class ReportTest {
  private static final String ARGUMENTS = "\"jvmArgs\": [\"-Xmx6g\","
      + " \"-Dexeunt.bench.cpu=Test CPU 9000\", \"-Dexeunt.bench.isa=avx2\","
      + " \"-Dexeunt.bench.load=0.25\", \"-Dexeunt.bench.mode=quick\","
      + " \"-Dexeunt.bench.cache=150000\", \"-Dexeunt.bench.commit=abc-dirty\","
      + " \"-XX:SharedArchiveFile=/tmp/x.jsa\", \"-Dexeunt.bench.environment=EXEUNT_ISA=avx2\"]";

  @TempDir Path folder;

  static String sampled(
      String op, String id, String contender, int threads, double p50, double limit) {
    return sampled(op, id, contender, threads, Operands.CACHE, p50, limit, 0);
  }

  static String sampled(String op, String id, String contender, int threads, Operands operands,
      double p50, double limit, int moved) {
    return String.format(Locale.ROOT,
        "{%s,"
            + "\"params\": {\"op\": \"%s\", \"id\": \"%s\", \"contender\": \"%s\", \"threads\": \"%d\","
            + " \"operands\": \"%s\"},"
            + "\"primaryMetric\": {\"scoreUnit\": \"us/op\", \"scorePercentiles\":"
            + " {\"0.0\": %f, \"50.0\": %f, \"90.0\": %f},"
            + " \"rawDataHistogram\": [[[[%f, 100]], [[%f, 100]]]]},"
            + "\"secondaryMetrics\": {\"load\": {\"rawData\": [[0.5, 1.5]]},"
            + " \"bytes\": {\"rawData\": [[196608, 196608]]},"
            + " \"bytes.moved\": {\"rawData\": [[%d, %d]]},"
            + " \"limit.round\": {\"rawData\": [[400000, 400000]]},"
            + " \"limit.p50\": {\"rawData\": [[%f, %f]]},"
            + " \"limit.min\": {\"rawData\": [[1.5, 1.25]]}}}",
        ARGUMENTS, op, id, contender, threads, operands, p50 - 1, p50, p50 + 2, p50 * 0.99,
        p50 * 1.01, moved, moved, limit - 1, limit + 1);
  }

  /** A sample of an op that does many multiply-adds, which take {@code arithmetic} at the peak. */
  static String computing(String op, String id, double p50, double arithmetic) {
    String sampled = sampled(op, id, "exeunt", 1, p50, 2);
    return sampled.substring(0, sampled.length() - 2)
        + String.format(Locale.ROOT,
            ", \"multiply.adds\": {\"rawData\": [[1000, 1000]]},"
                + " \"arithmetic.p50\": {\"rawData\": [[%f, %f]]}}}",
            arithmetic - 1, arithmetic + 1);
  }

  static String call(String contender, double nanoseconds) {
    return String.format(Locale.ROOT,
        "{%s,"
            + "\"params\": {\"contender\": \"%s\", \"threads\": \"1\"},"
            + "\"primaryMetric\": {\"scoreUnit\": \"ns/op\", \"scorePercentiles\":"
            + " {\"0.0\": %f, \"50.0\": %f, \"90.0\": %f}, \"rawData\": [[%f]]},"
            + "\"secondaryMetrics\": {\"load\": {\"rawData\": [[0.5]]}}}",
        ARGUMENTS, contender, nanoseconds, nanoseconds, nanoseconds, nanoseconds);
  }

  private String report(String... entries) throws IOException {
    Path raw = folder.resolve("run.raw.json");
    Files.writeString(raw, "[" + String.join(",", entries) + "]");
    Report.write(raw, folder);
    return Files.readString(folder.resolve("test-cpu-9000-avx2-quick.md"));
  }

  private JsonObject digest() throws IOException {
    return JsonParser.parseString(Files.readString(folder.resolve("test-cpu-9000-avx2-quick.json")))
        .getAsJsonObject();
  }

  @Test
  void absoluteTargetIsMetAtTheBoundAndMissedAboveIt() throws IOException {
    String op = "row_stats";
    String text = report(sampled(op, "bench_1x49152_cheap", "exeunt", 1, 12, 3),
        sampled(op, "bench_1x49152_cheap", "exeunt", 2, 12.5, 3));
    assertTrue(text.contains("## Targets: 1 of 2 met"), text);
    assertTrue(text.contains(
                   "| row_stats/bench_1x49152_cheap | partly in cache | 1 | <= 12.0 us | 12.0 us "
                   + "| 3.00 read | met | - |"),
        text);
    assertTrue(text.contains("| 2 | <= 12.0 us | 12.5 us | 3.00 read | **missed** | - |"), text);
  }

  @Test
  void ratioTargetUsesTheMedianLimitOfTheSameFork() throws IOException {
    String text =
        report(sampled("cosine", "bench_2048x4096_f32", "exeunt", 1, Operands.MEMORY, 21, 20, 0));
    assertTrue(text.contains("<= 1.1 x limit | 1.05 x limit | 20.0 read | met"), text);
    JsonObject target = digest().getAsJsonArray("targets").get(0).getAsJsonObject();
    assertTrue(target.get("met").getAsBoolean());
    assertEquals(1.05, target.get("measured").getAsDouble(), 1e-9);
    assertEquals("memory", target.get("operands").getAsString());
    assertEquals(20, target.get("limitUs").getAsDouble(), 1e-9);
  }

  @Test
  void targetsAreJudgedWhereTheySayAndShowTheOtherPlace() throws IOException {
    String op = "linear";
    String text = report(sampled(op, "model_576x1536_r1", "exeunt", 1, Operands.CACHE, 30, 20, 0),
        sampled(op, "model_576x1536_r1", "vector", 1, Operands.CACHE, 60, 20, 0),
        sampled(op, "model_576x1536_r1", "exeunt", 1, Operands.MEMORY, 80, 79, 0));
    assertTrue(text.contains("## Targets: 1 of 1 met"), text);
    assertTrue(text.contains("| linear/model_576x1536_r1 | from memory | 1 | <= 1.25 x limit "
                   + "| 1.01 x limit | 79.0 read | met | 1.50 x limit partly in cache |"),
        text);
    assertTrue(
        text.contains("| model_576x1536_r1 | partly in cache | 1 | 197 kB | 20.0 read "
            + "| 30.0 (29.0 - 32.0) | 6.55 | 1.50 | - | - | 60.0 (59.0 - 62.0) | - | 2.00 |"),
        text);
    assertTrue(text.contains("| model_576x1536_r1 | from memory | 1 | 197 kB | 79.0 read "
                   + "| 80.0 (79.0 - 82.0) | 2.46 | 1.01 | - | - | - | - | - |"),
        text);
    assertTrue(text.contains("| last-level cache | 150 kB |"), text);
  }

  @Test
  void ratiosCompareCasesInTheSamePlace() throws IOException {
    String op = "kv_propagate";
    String text = report(sampled(op, "model_576_r1", "exeunt", 1, Operands.CACHE, 10, 5, 0),
        sampled(op, "model_576_r8", "exeunt", 1, Operands.CACHE, 40, 5, 0),
        sampled(op, "model_576_r1", "exeunt", 1, Operands.MEMORY, 100, 99, 0),
        sampled(op, "model_576_r8", "exeunt", 1, Operands.MEMORY, 120, 99, 0));
    assertTrue(
        text.contains("| kv_propagate/model_576_r8 | from memory | 1 "
            + "| <= 1.3 x model_576_r1 | 1.200 x | 99.0 read | met | 4.000 x partly in cache |"),
        text);
  }

  @Test
  void shareOfThePeakIsMetAtTheBoundAndMissedBelowIt() throws IOException {
    String text = report(computing("linear", "model_576x1536_r512", 50, 20),
        computing("attention", "bench_prefill_512", 50, 19));
    assertTrue(text.contains("## Targets: 1 of 2 met"), text);
    assertTrue(text.contains("| linear/model_576x1536_r512 | partly in cache | 1 "
                   + "| >= 40 % of the FMA peak | 40 % of the FMA peak | 2.00 read | met | - |"),
        text);
    assertTrue(text.contains("| 38 % of the FMA peak | 2.00 read | **missed** | - |"), text);
    assertTrue(text.contains("| 50.0 (49.0 - 52.0) | 3.93 | 25.00 | 40 % | - | - | - |"), text);
    JsonObject figure = digest().getAsJsonArray("figuresUs").get(0).getAsJsonObject();
    assertEquals(1000, figure.get("multiplyAdds").getAsDouble());
    assertEquals(20, figure.get("arithmeticP50").getAsDouble());
  }

  @Test
  void limitsSayWhatTheyDo() throws IOException {
    String op = "gather";
    String text = report(sampled(op, "kv_f32", "exeunt", 1, Operands.MEMORY, 30, 20, 98_304),
        sampled(op, "kv_f32", "exeunt", 2, Operands.MEMORY, 30, 20, 90_000));
    assertTrue(text.contains("| kv_f32 | from memory | 1 | 197 kB | 20.0 copy |"), text);
    assertTrue(text.contains("| kv_f32 | from memory | 2 | 197 kB | 20.0 read + copy |"), text);
    JsonObject figure = digest().getAsJsonArray("figuresUs").get(0).getAsJsonObject();
    assertEquals("MEMORY", figure.get("operands").getAsString());
    assertEquals("copy", figure.get("limit").getAsString());
    assertEquals(98_304, figure.get("moved").getAsDouble());
    assertEquals(400_000, figure.get("limitRound").getAsDouble());
  }

  @Test
  void peersStandBesideExeuntAndTheFastestCounts() throws IOException {
    String op = "row_stats";
    String text = report(sampled(op, "bench_1x49152_cheap", "exeunt", 1, 10, 5),
        sampled(op, "bench_1x49152_cheap", "onnxruntime", 1, 70, 5),
        sampled(op, "bench_1x49152_cheap", "vector", 1, 30, 5));
    assertTrue(
        text.contains("| bench_1x49152_cheap | partly in cache | 1 | 197 kB | 5.00 read "
            + "| 10.0 (9.00 - 12.0) | 19.7 | 2.00 | - | 70.0 (69.0 - 72.0) | 30.0 (29.0 - 32.0) "
            + "| - | 3.00 |"),
        text);
  }

  @Test
  void callCostIsWhatTheApiAddsPlusTheSmallestCall() throws IOException {
    String text = report(
        call("empty", 5), call("binding", 30), call("exeunt", 48), call("onnxruntime", 3300));
    assertTrue(text.contains("| what the Java API adds to the kernel | 23.0 | |"), text);
    assertTrue(text.contains("< 100 ns over the kernel | 23.0 ns | - | met | - |"), text);
  }

  @Test
  void hostComesFromTheArgumentsOfTheFork() throws IOException {
    String text = report(call("empty", 5));
    assertTrue(text.contains("| CPU | Test CPU 9000, unknown cores |"), text);
    assertTrue(text.contains("| load average | 0.25 before the run, 0.50 at most"), text);
    assertTrue(text.contains("| commit | abc-dirty |"), text);
    assertTrue(text.contains("| JVM arguments | -Xmx6g |"), text);
    assertTrue(text.contains("| environment | EXEUNT_ISA=avx2 |"), text);
    assertFalse(text.contains("## Targets"), text);
    assertEquals("avx2", digest().getAsJsonObject("host").get("isa").getAsString());
  }

  @Test
  void ofTheEnvironmentOnlyOursIsTold() {
    assertEquals("EXEUNT_ISA=avx2 EXEUNT_THREADS=1",
        Host.environment(Map.of("EXEUNT_THREADS", "1", "HOME", "/root", "EXEUNT_ISA", "avx2")));
    assertEquals("no EXEUNT_* set", Host.environment(Map.of("HOME", "/root")));
  }

  @Test
  void everyTargetIsAboutACaseThatExists() {
    for (Target target : Target.load()) {
      if (target.measure != Target.Measure.CALL) {
        Problem.find(target.op, target.id);
      }
    }
  }

  @Test
  void quickRunsEveryTargetWhereItIsJudgedWithEveryThreadCount() {
    List<Plan.Step> steps = Plan.steps(true, List.of(Scene.LOOP), Pattern.compile(""), 2, false);
    for (Target target : Target.load()) {
      for (int threads = 1; threads <= (target.threads == null ? 2 : target.threads); threads++) {
        for (String name : target.cases()) {
          int count = threads;
          assertTrue(
              steps.stream().anyMatch(step
                  -> name.equals(step.op() + "/" + step.id()) && step.contender().equals("exeunt")
                      && step.operands() == target.operands && step.threads() == count),
              name + ", threads " + threads);
        }
      }
    }
  }

  /** An op that the plan forgets would have no row in the results. */
  @Test
  void quickRunsTimeEveryOp() {
    List<Plan.Step> steps = Plan.steps(true, List.of(Scene.LOOP), Pattern.compile(""), 2, false);
    for (String op : Facade.ops()) {
      assertTrue(steps.stream().anyMatch(
                     step -> step.op().equals(op) && step.contender().equals(Plan.OURS)),
          op);
    }
  }

  @Test
  void planKeepsContendersOfACaseTogetherAndSkipsWhatTheyLack() {
    List<Plan.Step> steps = Plan.steps(
        false, List.of(Scene.LOOP), Pattern.compile("exit_head/bench_1x576x49152_f32"), 2, false);
    // Its 113 MB may fit into this machine's cache or not.
    Operands first = steps.get(0).operands();
    List<String> bare =
        steps.stream()
            .filter(step -> step.id().equals("bench_1x576x49152_f32_bare"))
            .filter(step -> step.operands() == first)
            .map(step -> step.contender() + step.threads())
            .toList();
    assertEquals(
        List.of("exeunt1", "onnxruntime1", "vector1", "exeunt2", "onnxruntime2", "vector2"), bare);
    assertTrue(steps.stream()
            .filter(step -> step.id().equals("bench_1x576x49152_f32"))
            .allMatch(step -> step.contender().equals("exeunt")));
  }

  /** As a GPU's entries are, without a limit. */
  private static String onDevice(String contender, double p50) {
    return sampled("row_stats", "bench_1x49152_cheap", contender, 1, Operands.DEVICE, p50, 2, 0)
        .replaceAll(", \"(bytes|limit)[.a-z0-9]*\": \\{\"rawData\": [^}]*\\}", "");
  }

  @Test
  void aGpuHasRowsOfItsOwnAndNoTargets() throws IOException {
    String cpu = sampled("row_stats", "bench_1x49152_cheap", "exeunt", 1, 12, 3);
    String text = report(cpu, onDevice("exeunt", 4), onDevice("cuda", 6));
    assertTrue(text.contains("| bench_1x49152_cheap | on the GPU | 1 | 0.00 B | - "
                   + "| 4.00 (3.00 - 6.00) | - | - | - | - | - | 6.00 (5.00 - 8.00) | 1.50 |"),
        text);
    assertTrue(text.contains("3.00 read | met | - |"), "the GPU is not elsewhere: " + text);
  }

  @Test
  void aGpuIsTimedOnlyWhereThereIsOne() {
    List<Scene> loop = List.of(Scene.LOOP);
    Pattern all = Pattern.compile("");
    assertTrue(Plan.steps(true, loop, all, 1, false).stream().noneMatch(ReportTest::onDevice));
    List<Plan.Step> steps =
        Plan.steps(true, loop, all, 1, true).stream().filter(ReportTest::onDevice).toList();
    for (String op : List.of("stablemax", "row_stats", "exit_head")) {
      assertEquals(List.of("exeunt", "cuda"),
          steps.stream()
              .filter(step -> step.op().equals(op))
              .map(Plan.Step::contender)
              .distinct()
              .toList());
    }
    assertTrue(Plan.steps(false, List.of(Scene.BURSTS), all, 1, true)
            .stream()
            .noneMatch(ReportTest::onDevice));
  }

  private static boolean onDevice(Plan.Step step) {
    return step.operands() == Operands.DEVICE;
  }

  private static String inScene(Scene scene, int threads, double p50, String metrics) {
    String sampled = sampled("gather", "kv_f32", "exeunt", threads, p50, 2);
    return sampled.replace("\"operands\"", "\"scene\": \"" + scene + "\", \"operands\"")
        .replace("\"secondaryMetrics\": {", "\"secondaryMetrics\": {" + metrics);
  }

  private static String metric(String name, double value) {
    return String.format(Locale.ROOT, "\"%s\": {\"rawData\": [[%f]]}, ", name, value);
  }

  @Test
  void scenesStandApart() throws IOException {
    String text = report(sampled("gather", "kv_f32", "exeunt", 1, 400, 300),
        inScene(Scene.BURSTS, 1, 300, metric("first.p50", 330)),
        inScene(Scene.BURSTS, 2, 150, metric("first.p50", 220)),
        inScene(Scene.NEIGHBOUR, 1, 310, ""), inScene(Scene.NEIGHBOUR, 2, 620, ""),
        inScene(Scene.CALLERS, 2, 500,
            metric("alone.p50", 200) + metric("caller.p50.0", 250) + metric("caller.p50.1", 400)));
    assertTrue(text.contains(
                   "| gather/kv_f32 | in cache | exeunt | 300 (330) | 150 (220) | 2.00 (1.50) |"),
        text);
    assertTrue(
        text.contains("| gather/kv_f32 | in cache | exeunt | 310 (312) | 620 (622) | 0.50 |"),
        text);
    assertTrue(
        text.contains("| gather/kv_f32 | in cache | exeunt | 2 | 200 | 250 | 400 | 2.00 |"), text);
    // The loop's table and targets know nothing of them.
    assertEquals(1, text.split("\\| kv_f32 \\|", -1).length - 1, text);
    assertTrue(text.indexOf("## In bursts") > text.indexOf("## gather"), text);
    assertFalse(
        report(sampled("gather", "kv_f32", "exeunt", 1, 400, 300)).contains("## In bursts"));
  }
}
