// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import javax.xml.parsers.DocumentBuilderFactory;
import org.exeunt.browser.Browser;
import org.exeunt.engine.demo.drop.HiredDemo;
import org.exeunt.engine.model.io.StrictJson;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.xml.sax.InputSource;

/** A demo's page with all that it may have, as a browser shows it. */
class HtmlTest {
  private static final String HOSTILE = "</svg><script>alert('x')</script>\"&quot; \u0007";
  private static final int KINDS = 16;
  private static final int DEPTHS = 31;

  @TempDir Path folder;

  /** Curves of many points, points in one place, one point alone, nothing, and powers of ten. */
  private String page() throws IOException {
    PrintStream console = System.out;
    System.setOut(new PrintStream(new ByteArrayOutputStream(), true, StandardCharsets.UTF_8));
    try (Report report = new Report(folder, "A report of " + HOSTILE, false)) {
      report.heading("Heads, " + HOSTILE);
      report.paragraph("`./exeunt demo` says %s", HOSTILE);
      report.list(List.of("first: " + HOSTILE,
          "second: "
              + "a long answer ".repeat(20)));
      Table table = new Table("rule", HOSTILE, "mean exit", "leave early", "early ones agree");
      report.table("rules", table.row("a long name of a rule " + HOSTILE, "1", "2", "3", "4"));
      Chart many = Chart.of("Answers kept", "weights read, % of the whole model", "agree, %");
      for (int s = 0; s < KINDS; s++) {
        many.series(s + " " + HOSTILE, false).point(40 + s / 2, 99.5 - s / 2 * .1, "place " + s);
      }
      report.chart(many);
      Chart curves = Chart.of("What it would say after each layer", "after layer", "share, %");
      for (int s = 0; s < 4; s++) {
        curves.series("curve " + s, true);
        for (int depth = 0; depth < DEPTHS; depth++) {
          curves.point(depth, 100.0 * depth / (DEPTHS - 1) / (s + 1), "depth " + depth);
        }
      }
      report.chart(curves);
      Chart loss = Chart.ofPowers("Loss by epoch", "epoch", "loss").series("softmax", true);
      double[] losses = {4.7, 1e-2, 1e-5, 0, Double.NaN, Double.POSITIVE_INFINITY};
      for (int i = 0; i < losses.length; i++) {
        loss.point(25 * i, losses[i], "loss " + losses[i]);
      }
      report.chart(loss);
      report.chart(Chart.of("One", "x", "y").series("alone", true).point(3, 3, "alone"));
      report.chart(Chart.of("None", "x", "y").series("nobody", true));
      HiredDemo.run(report);
    } finally {
      System.setOut(console);
    }
    return Files.readString(folder.resolve("report.html"));
  }

  @Test
  void needsNothingElse() throws Exception {
    String page = page();
    assertTrue(page.contains("default-src 'none'; img-src data:; style-src 'unsafe-inline'"));
    assertFalse(Pattern.compile("<(script|link|img|iframe|object)|url\\(|@import|\\son\\w+=\"")
            .matcher(page)
            .find());
    assertTrue(Pattern.compile("href=\"(.)")
            .matcher(page)
            .results()
            .allMatch(href -> href.group(1).equals("d")));
    assertFalse(page.contains("NaN") || page.contains("Infinity"), page);
    assertTrue(page.contains("There is nothing to plot"));
    assertTrue(page.contains("<code>./exeunt demo</code>"));
    DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(
        new InputSource(new StringReader(page)));
  }

  /** Of what HiRED keeps, the picture says the counts that stand in the text. */
  @Test
  void countsStandInThePicture() throws Exception {
    String page = page();
    String said =
        Pattern.compile("go on \\(.*?\\): (\\d+) of the full view, and (.*?) of the sub")
            .matcher(page)
            .results()
            .map(found -> found.group(1) + " " + found.group(2))
            .findFirst()
            .orElseThrow()
            .replaceAll(",? and|,", "");
    String shown =
        Pattern
            .compile("kept of the full view: (\\d+) of 576</text>"
                + "|class=\"count\"[^>]*>(\\d+)<")
            .matcher(page)
            .results()
            .map(HtmlTest::either)
            .reduce("", (all, one) -> all.isEmpty() ? one : all + " " + one);
    assertEquals(said, shown);
  }

  private static String either(MatchResult found) {
    return found.group(1) == null ? found.group(2) : found.group(1);
  }

  @ParameterizedTest
  @CsvSource({"1400, true", "1400, false", "400, true", "400, false"})
  void looksRightInABrowser(int width, boolean dark) throws Exception {
    Browser browser = Browser.show(page(), folder, width, dark, "/probe.js");
    assertEquals(List.of(), browser.complaints());
    Map<?, ?> probed = (Map<?, ?>) StrictJson.parse(browser.left("probe"));
    assertEquals(List.of(), probed.get("faults"));
    assertEquals((long) width, probed.get("width"));
    assertEquals(dark, probed.get("dark"));
    assertEquals(KINDS + 4L * DEPTHS + 4 + 1, probed.get("dots"));
    assertEquals(0L, probed.get("untold"), "dots without a text");
  }

  /** On a terminal a line is written over the one before, and gone before what stays. */
  @Test
  void progressIsOneLine() throws IOException {
    assertEquals("\r  one\033[K\r  two\033[K\r\033[K\n## Next\n\n", said(true));
    assertEquals("\n## Next\n\n", said(false));
  }

  private String said(boolean terminal) throws IOException {
    PrintStream console = System.out;
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    System.setOut(new PrintStream(bytes, true, StandardCharsets.UTF_8));
    try (Report report = new Report(folder, null, terminal)) {
      report.progress("%s", "one");
      report.progress("%s", "two");
      report.heading("Next");
    } finally {
      System.setOut(console);
    }
    return bytes.toString(StandardCharsets.UTF_8);
  }
}
