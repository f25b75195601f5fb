// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.DoubleStream;
import org.exeunt.bench.Compare.Outcome;
import org.exeunt.bench.measure.Interval;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What is said of two runs, on figures small enough to check by hand. */
class CompareTest {
  @TempDir Path folder;

  /** Cases of cosine, all with the same limit, so many that their limits show the drift. */
  private Path run(String name, double p50, double limit, double... others) throws IOException {
    List<String> entries = new ArrayList<>();
    entries.add(ReportTest.sampled("cosine", "judged", "exeunt", 1, p50, limit));
    for (int i = 0; i < 24; i++) {
      double other = i < others.length ? others[i] : 100;
      entries.add(ReportTest.sampled("cosine", "other" + i, "exeunt", 1, other, other));
    }
    return Files.writeString(folder.resolve(name), "[" + String.join(",", entries) + "]");
  }

  /** With another contender before the first. */
  private static Path with(Path run, String contender, double p50) throws IOException {
    String entry = ReportTest.sampled("cosine", "judged", contender, 1, p50, 100);
    return Files.writeString(run, "[" + entry + "," + Files.readString(run).substring(1));
  }

  private static Compare compare(Path before, Path after) {
    return new Compare(Run.read(before), Run.read(after), Pattern.compile(""));
  }

  private static Outcome judged(Path before, Path after) {
    return compare(before, after).lines().get(0).outcome();
  }

  @Test
  void saysSlowerFasterAndSame() throws IOException {
    Path before = run("a", 100, 100);
    assertEquals(Outcome.SLOWER, judged(before, run("b", 120, 100)));
    assertEquals(Outcome.FASTER, judged(before, run("b", 80, 100)));
    assertEquals(Outcome.SAME, judged(before, run("b", 101, 100)));
    // Its two iterations are 2 % apart in both runs, so 6 % may be 2 %.
    assertEquals(Outcome.UNCLEAR, judged(before, run("b", 106, 100)));
  }

  /** Iterations of a fork may be as far apart as they like; what counts is how forks differ. */
  @Test
  void eachForkIsOneSample() throws IOException {
    Path before = forked("a", 100, 100.5, 101);
    assertEquals(Outcome.SAME, judged(before, forked("b", 100, 101, 102)));
    assertEquals(Outcome.UNCLEAR, judged(before, forked("b", 100, 101, 107)));
    assertEquals(Outcome.SLOWER, judged(before, forked("b", 115, 116, 117)));
    assertEquals(Outcome.UNCLEAR, judged(before, forked("b", 103, 116, 117)));
  }

  /** {@link #run} with a first case of three forks, each with a slow iteration. */
  private Path forked(String name, double... medians) throws IOException {
    String forks =
        DoubleStream.of(medians)
            .mapToObj(m -> "[[[" + m + ", 300]], [[" + 2 * m + ", 100]]]")
            .collect(Collectors.joining(","));
    Path run = run(name, medians[1], 100);
    String text = Files.readString(run);
    int from = text.indexOf("\"rawDataHistogram\": [") + 21;
    return Files.writeString(
        run, text.substring(0, from) + forks + text.substring(text.indexOf("]}", from)));
  }

  @Test
  void whatTheLimitDidTooIsUnclear() throws IOException {
    Path before = run("a", 100, 100);
    assertEquals(Outcome.UNCLEAR, judged(before, run("b", 120, 120)));
    assertEquals(Outcome.UNCLEAR, judged(before, run("b", 80, 80)));
    assertEquals(Outcome.UNCLEAR, judged(before, run("b", 100, 120)));
    assertEquals(Outcome.SLOWER, judged(before, run("b", 150, 110)));
  }

  @Test
  void theMachineHasToBeSteadierThanTheDifference() throws IOException {
    Path before = run("a", 100, 100);
    Path after = run("b", 120, 100, 70, 130);
    assertEquals(1.3, compare(before, after).drift(), 1e-9);
    assertEquals(Outcome.UNCLEAR, judged(before, after));
    assertEquals(Outcome.SLOWER, judged(before, run("b", 160, 100, 70, 130)));
  }

  @Test
  void fewReferencesShowNoDrift() throws IOException {
    Path before = Files.writeString(folder.resolve("a"), "[" + ReportTest.call("exeunt", 50) + "]");
    Path after = Files.writeString(folder.resolve("b"), "[" + ReportTest.call("exeunt", 60) + "]");
    assertEquals(1.25, compare(before, after).drift());
    assertEquals(Outcome.UNCLEAR, judged(before, after));
    Files.writeString(after, "[" + ReportTest.call("exeunt", 70) + "]");
    assertEquals(Outcome.SLOWER, judged(before, after));
  }

  @Test
  void peersAreJudgedButFailNothing() throws IOException {
    Path before = with(run("a", 100, 100), "vector", 100);
    Path after = with(run("b", 100, 100), "vector", 200);
    Compare compare = compare(before, after);
    assertEquals(Outcome.SLOWER, compare.lines().get(0).outcome());
    assertFalse(print(compare).endsWith("slower: true"), print(compare));
  }

  @Test
  void printsEachCaseAndWhatOnlyOneRunHas() throws IOException {
    Path after = with(run("b", 120, 100), "onnxruntime", 100);
    String text = print(compare(run("a", 100, 100), after));
    assertTrue(text.contains("slower   cosine/judged exeunt in cache, 1 thread "), text);
    assertTrue(text.contains(" 1.200  1.176 - 1.224  "), text);
    assertTrue(text.contains("1 slower, 0 faster, 0 unclear, 24 same; left out, as only one run has"
                   + " them: 1"),
        text);
    assertTrue(text.endsWith("slower: true"), text);
  }

  private static String print(Compare compare) {
    var bytes = new ByteArrayOutputStream();
    boolean slower = compare.print(new PrintStream(bytes, true, StandardCharsets.UTF_8));
    return bytes.toString(StandardCharsets.UTF_8) + "slower: " + slower;
  }

  @Test
  void whatIsNoRunIsRefusedByName() throws IOException {
    for (String text : List.of("", "{}", "[]", "[{}]", "[1]", "no json",
             "[{\"benchmark\": \"a.b.C.d\", \"params\": {\"size\": \"1\"}, \"jvmArgs\": []}]")) {
      Path file = Files.writeString(folder.resolve("file.json"), text);
      var e = assertThrows(IllegalArgumentException.class, () -> Run.read(file), text);
      assertTrue(e.getMessage().endsWith("file.json is no *.raw.json that a run has left"), text);
    }
    Path none = folder.resolve("none.json");
    var e = assertThrows(IllegalArgumentException.class, () -> Run.read(none));
    assertTrue(e.getMessage().startsWith("cannot read " + none), e.getMessage());
  }

  @Test
  void intervalsCoverAllStretchesWhileThereAreFew() {
    double[] samples = DoubleStream.iterate(1, v -> v + 1).limit(100).toArray();
    // 50 +- 2.576 * 5 ranks.
    assertEquals(new Interval(37, 50.5, 64), Interval.of(List.of(samples), 50.5));
    assertEquals(new Interval(1, 2, 9), Interval.of(List.of(1.0, 2.0, 9.0)));
    List<Double> many = DoubleStream.of(samples).boxed().toList();
    assertEquals(new Interval(37, 50.5, 64), Interval.of(many));
    assertEquals(new Interval(0.5, 1, 3), new Interval(1, 1, 2).over(new Interval(2. / 3, 1, 2)));
  }
}
