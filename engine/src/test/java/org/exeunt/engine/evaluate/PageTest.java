// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.evaluate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.StringReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Pattern;
import javax.xml.parsers.DocumentBuilderFactory;
import org.exeunt.browser.Browser;
import org.exeunt.engine.evaluate.Outcome.Kind;
import org.exeunt.engine.model.io.StrictJson;
import org.exeunt.engine.report.Report;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.xml.sax.InputSource;

/** What is written of an evaluation, and its page as a browser shows it. */
class PageTest {
  private static final String HOSTILE =
      "--speculate model:</td></svg><script>alert('x')</script>|\"&quot; %s %n.gguf";
  private static final String HOSTILE_GROUP = "<img src=\"http://example.com/x\" onerror='y()'>";
  private static final double NONE = Double.NaN;
  private static final Map<String, String> CONDITIONS =
      new TreeMap<>(Map.of("processor", "a <fast> one", "threads", "2"));

  @TempDir Path folder;

  private static Outcome outcome(
      String method, Kind kind, String group, int differing, double speed, double agreement) {
    return new Outcome(method, kind, group, 8, differing, 400,
        new Speed(50 * speed, 50, speed * 0.98, speed * 1.02), "faster", 1.5,
        kind == Kind.LOSSLESS ? 0.75 : NONE, 9e7, agreement, 3.25);
  }

  /** Nothing was decoded, nothing drafted: 0 / 0 and 1 / 0. */
  private static Outcome empty(String method, Kind kind, String group) {
    return new Outcome(method, kind, group, 8, 0, 0,
        new Speed(NONE, NONE, NONE, Double.POSITIVE_INFINITY), "-", NONE, NONE,
        Double.NEGATIVE_INFINITY, NONE, NONE);
  }

  /** As crowded as a full run: drafts in one column, several in one place. */
  private static Findings crowded() {
    List<Outcome> outcomes = new ArrayList<>();
    for (String group : List.of("", HOSTILE_GROUP)) {
      outcomes.add(outcome("", Kind.PLAIN, group, 0, 1, 1));
      double[] speeds = {1.72, 1.71, 1.0, 0.99, 0.985, 0.64};
      for (int i = 0; i < speeds.length; i++) {
        outcomes.add(
            outcome(i == 0 ? HOSTILE : "--draft " + i, Kind.LOSSLESS, group, 0, speeds[i], 1));
      }
      double[][] others = {{1.21, 0.982}, {1.21, 0.982}, {1.22, 0.981}, {1.4, 0.71}, {1.45, 0.64},
          {1.01, 0.999}, {1.005, 1}, {0.97, 0.9}, {1.1, 0.41}, {1.3, 0.8}, {1.31, 0.803}};
      for (int i = 0; i < others.length; i++) {
        outcomes.add(
            outcome("--exit fixed:" + i, Kind.CHANGE, group, 5, others[i][0], others[i][1]));
      }
      outcomes.add(empty("--empty", Kind.LOSSLESS, group));
    }
    outcomes.add(empty("", Kind.PLAIN, "silent"));
    return new Findings("a <model> & 'more'.gguf", 16, CONDITIONS, outcomes, List.of(),
        List.of(new Sample("What <b>is</b> it?",
                    List.of(new Sample.Answer("plain", "It is a play.\nIt has two acts."),
                        new Sample.Answer(HOSTILE, "It is a play.\nIt has two acts."),
                        new Sample.Answer("--exit fixed:1", "It is a <i>play</i>."))),
            new Sample("never answered", List.of())));
  }

  private String written(Findings findings, String file) throws IOException {
    try (Report report = new Report(folder)) {
      new Results(findings).writeTo(report);
    }
    return Files.readString(folder.resolve(file));
  }

  @Test
  void needsNothingElse() throws Exception {
    String page = written(crowded(), "report.html");
    assertTrue(page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'\""));
    // Nothing is fetched, and nothing is run that the policy would have to allow.
    assertFalse(Pattern.compile("<(script|link|img|iframe|object)|url\\(|@import|\\son\\w+=\"")
            .matcher(page)
            .find());
    assertTrue(
        page.contains("--speculate model:&lt;/td&gt;&lt;/svg&gt;&lt;script&gt;alert(&#39;x"));
    assertFalse(page.contains("NaN") || page.contains("Infinity"));
    assertTrue(page.contains("There is nothing to plot"));
    assertTrue(page.contains("the plain decoder had 1.00 times its speed"));
    DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(
        new InputSource(new StringReader(page)));
  }

  @Test
  void whatWouldDivideByNothingIsADash() throws IOException {
    Map<?, ?> json = (Map<?, ?>) StrictJson.parse(written(crowded(), "report.json"));
    List<?> methods = (List<?>) json.get("methods");
    Map<?, ?> silent = (Map<?, ?>) methods.get(methods.size() - 1);
    assertTrue(silent.containsKey("speed"));
    assertEquals(null, silent.get("speed"));
    assertEquals(0L, silent.get("tokens"));
    assertEquals(HOSTILE, ((Map<?, ?>) methods.get(1)).get("method"));
    assertEquals("lossless", ((Map<?, ?>) methods.get(1)).get("kind"));
    assertEquals(CONDITIONS, json.get("run"));
    String silence = Files.readString(folder.resolve("methods-silent.csv"));
    assertEquals("method,tokens/s,plain,speed,95 %,verdict,tokens/pass,right,MB/token,agreement,"
            + "perplexity,same answers,processor,threads",
        silence.lines().toList().get(0));
    assertEquals(
        "plain,-,-,-,-,-,-,-,-,-,-,8 of 8,a <fast> one,2", silence.lines().toList().get(1));
    String page = Files.readString(folder.resolve("report.md"));
    assertFalse(page.contains("NaN"));
    assertFalse(page.contains("Infinity"));
    // A bar would end the cell, and a tag be one.
    assertTrue(page.contains("\\<script>alert('x')\\</script>\\|"), page);
  }

  /** What a reader divides is what stands beside it. */
  @Test
  void ratiosFollowFromTheirColumns() throws IOException {
    List<Outcome> outcomes = new ArrayList<>(List.of(outcome("", Kind.PLAIN, "", 0, 1, 1)));
    double[][] turns = {{3, 7}, {1234.5, 777.7}, {0.123456, 0.2}, {99999, 1e-3}, {5, 5}};
    for (double[] one : turns) {
      Trial.Part own = new Trial.Part(1000, (long) (1e12 / one[0]), 1, 0, 0, 0);
      Trial.Part beside = new Trial.Part(1000, (long) (1e12 / one[1]), 1, 0, 0, 0);
      Speed speed = Speed.of(new Trial.Part[] {own}, new Trial.Part[] {beside});
      outcomes.add(
          new Outcome("--m " + one[0], Kind.CHANGE, "", 8, 0, 400, speed, "-", 1, NONE, 1, 1, 1));
    }
    written(new Findings("m", 8, CONDITIONS, outcomes, List.of(), List.of()), "report.md");
    List<String> rows = Files.readAllLines(folder.resolve("methods.csv"));
    assertEquals(2 + turns.length, rows.size());
    for (String row : rows.subList(1, rows.size())) {
      String[] cells = row.split(",");
      double ratio = Double.parseDouble(cells[1]) / Double.parseDouble(cells[2]);
      assertEquals(Results.format("%.2f x", ratio), cells[3], row);
    }
  }

  @Test
  void conditionsAreOnThePage() throws IOException {
    assertTrue(written(crowded(), "report.html")
            .contains("<dt>processor</dt><dd>a &lt;fast&gt; one</dd>"));
    assertTrue(
        Files.readString(folder.resolve("report.md")).contains("| processor | a \\<fast> one |"));
    Map<String, String> now = Conditions.current();
    for (String name :
        List.of("processor", "cores", "threads", "system", "jdk", "exeunt", "commit", "date")) {
      assertFalse(now.get(name).isBlank(), name);
    }
  }

  /** Where the machine was loud, nothing is called faster. */
  @Test
  void theNoiseIsStated() throws IOException {
    String quiet = written(crowded(), "report.md");
    assertTrue(quiet.contains("1.00 times its speed (0.98 to 1.02)"), quiet);
    assertTrue(quiet.contains("beside the methods 50 to 50 tokens a second"), quiet);
    assertTrue(quiet.contains("A method is called faster or slower where"), quiet);
    Outcome plain = new Outcome(
        "", Kind.PLAIN, "", 8, 0, 400, new Speed(50, 40, 0.9, 1.7), "-", 1, NONE, 1, 1, 1);
    String loud = written(
        new Findings("m", 8, CONDITIONS, List.of(plain), List.of(), List.of()), "report.md");
    assertTrue(loud.contains("1.25 times its speed (0.90 to 1.70)"), loud);
    assertTrue(loud.contains("no method is called faster or slower"), loud);
  }

  /** In the tables each stands among its like, and the plain decoder in both. */
  @Test
  void draftsStandApartFromWhatChangesAnswers() throws IOException {
    String page = written(crowded(), "report.md");
    int drafts = page.indexOf("Methods that must not");
    int changes = page.indexOf("Methods that change");
    int next = page.indexOf("###", changes);
    assertTrue(0 < drafts && drafts < changes && changes < next, page);
    String first = page.substring(drafts, changes);
    String second = page.substring(changes, next);
    assertTrue(first.contains("| plain ") && first.contains("| --draft 3 "), first);
    assertFalse(first.contains("--exit"), first);
    assertTrue(second.contains("| plain ") && second.contains("| --exit fixed:3 "), second);
    assertFalse(second.contains("--draft"), second);
    assertTrue(second.contains("71.0 %"), second);
  }

  @Test
  void aDraftThatChangesAnAnswerHasFailed() throws IOException {
    Findings bad = new Findings("m", 8, CONDITIONS,
        List.of(outcome("", Kind.PLAIN, "", 0, 1, 1),
            outcome("--speculate lookup", Kind.LOSSLESS, "", 1, 2, 0.9999),
            outcome("--exit fixed:2", Kind.CHANGE, "", 8, 2, 0.5)),
        List.of("--drop <x> stopped after 3 of 8 prompts: no memory"), List.of());
    String failure = "FAILED: --speculate lookup answered 1 of 8 prompts otherwise";
    assertEquals(2, bad.problems().size());
    assertTrue(bad.problems().get(1).startsWith(failure), bad.problems().get(1));
    String page = written(bad, "report.html");
    assertTrue(page.contains("<p class=\"bad\" role=\"alert\">" + failure), page);
    assertTrue(page.contains("<p class=\"bad\" role=\"alert\">--drop &lt;x&gt; stopped"), page);
    assertTrue(page.contains("<td class=\"bad\">FAILED: 7 of 8</td>"), page);
    String markdown = Files.readString(folder.resolve("report.md"));
    assertTrue(markdown.contains("**" + failure), markdown);
    assertTrue(markdown.contains("| FAILED: 7 of 8 |"), markdown);
    Map<?, ?> json = (Map<?, ?>) StrictJson.parse(Files.readString(folder.resolve("report.json")));
    assertEquals(2, ((List<?>) json.get("problems")).size());
    assertEquals(List.of(), crowded().problems());
  }

  /** The fastest that changes nothing comes first, and what only a loud machine says is not said. */
  @Test
  void theVerdictIsOneSentence() {
    Outcome plain = outcome("", Kind.PLAIN, "", 0, 1, 1);
    Outcome draft = outcome("--speculate lookup", Kind.LOSSLESS, "", 0, 1.5, 1);
    Outcome better = outcome("--draft 3", Kind.LOSSLESS, "", 0, 1.7, 1);
    Outcome broken = outcome("--draft 9", Kind.LOSSLESS, "", 1, 3, 0.99);
    Outcome near = outcome("--exit fixed:7", Kind.CHANGE, "", 3, 2, 0.96);
    Outcome far = outcome("--exit fixed:2", Kind.CHANGE, "", 8, 9, 0.5);
    assertEquals("Without changing an answer, --draft 3 is 1.70 times as fast as the plain decoder "
            + "(1.67 to 1.73); keeping 96.0 % of the tokens, --exit fixed:7 is 2.00 times as fast as "
            + "the plain decoder (1.96 to 2.04).",
        verdict(plain, draft, better, broken, near, far));
    assertEquals(
        "Without changing an answer, --speculate lookup is 1.50 times as fast as the plain "
            + "decoder (1.47 to 1.53), and none that changes at most every twentieth token.",
        verdict(plain, draft, far));
    assertTrue(verdict(plain, broken, far).startsWith("No method is faster"));
    assertTrue(verdict(plain, near).startsWith("No method is faster without changing an answer; "));
    Outcome loud = new Outcome(
        "", Kind.PLAIN, "", 8, 0, 400, new Speed(50, 40, 0.9, 1.7), "-", 1, NONE, 1, 1, 1);
    assertTrue(verdict(loud, draft).startsWith("No verdict"));
    assertTrue(verdict(empty("", Kind.PLAIN, "")).startsWith("Nothing was timed"));
  }

  private static String verdict(Outcome... outcomes) {
    return new Results(new Findings("m", 8, CONDITIONS, List.of(outcomes), List.of(), List.of()))
        .verdict();
  }

  @Test
  void longNamesLoseTheirMiddle() {
    assertEquals("--exit fixed:3", Plot.shortened("--exit fixed:3"));
    String shortened = Plot.shortened("--speculate model:/a/b/model-q4_k_m.gguf");
    assertTrue(shortened.startsWith("--specul") && shortened.endsWith("k_m.gguf"), shortened);
    assertEquals(20, shortened.length(), shortened);
  }

  @Test
  void groupsOfSimilarNamesKeepTheirFiles() throws IOException {
    List<Outcome> outcomes = new ArrayList<>();
    for (String group : List.of("", "a b", "a-b", "A/B")) {
      outcomes.add(outcome("", Kind.PLAIN, group, 0, 1, 1));
    }
    written(new Findings("m", 8, CONDITIONS, outcomes, List.of(), List.of()), "report.md");
    for (String name : List.of("methods", "methods-a-b", "methods-a-b-2", "methods-a-b-3")) {
      assertTrue(Files.exists(folder.resolve(name + ".csv")), name);
    }
  }

  @ParameterizedTest
  @CsvSource({"1400, true", "1400, false", "400, true", "400, false"})
  void looksRightInABrowser(int width, boolean dark) throws Exception {
    Findings findings = crowded();
    Browser browser = Browser.show(
        written(findings, "report.html"), folder, width, dark, "/probe.js", "/plot.js");
    assertEquals(List.of(), browser.complaints());
    Map<?, ?> probed = (Map<?, ?>) StrictJson.parse(browser.left("probe"));
    assertEquals(List.of(), probed.get("faults"));
    assertEquals((long) width, probed.get("width"));
    assertEquals(dark, probed.get("dark"));
    assertEquals(36L, probed.get("dots"));
    assertEquals(0L, probed.get("untold"), "dots without a text");
    Map<?, ?> found = (Map<?, ?>) StrictJson.parse(browser.left("plots"));
    assertEquals(2L, found.get("scripts"), "the probes alone");
    assertEquals(List.of(), found.get("fetched"));
    assertEquals(List.of(), found.get("misread"));
    assertEquals(List.of(List.of("", "", "<i>play</i>.")), found.get("marked"));
    assertDots(findings, (List<?>) found.get("plots"));
    assertRows(findings, (List<?>) found.get("rows"));
  }

  /** Each dot is where its figures say, by the axes, and says them, with its interval and name. */
  private static void assertDots(Findings findings, List<?> plots) {
    assertEquals(2, plots.size());
    for (int plot = 0; plot < 2; plot++) {
      List<Outcome> outcomes = findings.of(findings.groups().get(plot));
      List<Outcome> placed = outcomes.stream().filter(Outcome::hasPlace).toList();
      List<?> dots = (List<?>) plots.get(plot);
      assertEquals(placed.size(), dots.size());
      for (int i = 0; i < placed.size(); i++) {
        Outcome o = placed.get(i);
        Map<?, ?> dot = (Map<?, ?>) dots.get(i);
        String figures =
            Results.format(": %.2f x, %.1f %%", o.speed().ratio(), 100 * o.agreement());
        assertEquals(o.name() + figures, dot.get("title"));
        assertEquals(true, dot.get("same"), "its name tells something else");
        assertEquals(Plot.shortened(o.name()), dot.get("name"));
        assertEquals(o.speed().low(), ((Number) dot.get("low")).doubleValue(), 0.005, o.name());
        assertEquals(o.speed().high(), ((Number) dot.get("high")).doubleValue(), 0.005, o.name());
        assertEquals(100 * o.agreement(), ((Number) dot.get("agreement")).doubleValue(), 0.2);
        assertEquals(o.speed().ratio(), ((Number) dot.get("speed")).doubleValue(), 0.005, o.name());
      }
    }
  }

  private static void assertRows(Findings findings, List<?> rows) {
    List<List<String>> expected = new ArrayList<>();
    for (String group : findings.groups()) {
      List<Outcome> outcomes = findings.of(group);
      for (Results.Section section : Results.sections(outcomes)) {
        for (Outcome o : outcomes) {
          if (section.has(o)) {
            List<String> row = new ArrayList<>(List.of(""));
            row.addAll(List.of(section.cells(o)));
            expected.add(row);
          }
        }
      }
    }
    assertEquals(expected, rows);
  }
}
