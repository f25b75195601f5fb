// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.Gson;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Pattern;
import org.exeunt.bench.measure.Operands;
import org.exeunt.browser.Browser;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The page of a report, as a browser shows it. */
class PageTest {
  @TempDir Path folder;

  /** What the browser found, in {@code probe.js}. */
  private static final class Probed {
    int bars;
    int dots;
    int untold;
    boolean dark;
    double width;
    List<String> faults;
  }

  /** A page with every kind of case: peers, two threads, both places, a peak, no limit, a scene. */
  private String page() throws IOException {
    String id = "a_case_with_a_long_name_of_many_words_576x1536_f32_bf16";
    String burst = ReportTest.sampled("gather", "kv", "exeunt", 1, 40, 20);
    String[] entries = {ReportTest.computing("linear", "peak", 50, 20),
        // 610 operations a byte, so that the axis goes on to 1000.
        ReportTest.computing("linear", id, 2e6, 1.19e6).replace("[1000, 1000]", "[6e7, 6e7]"),
        ReportTest.sampled("linear", "peak", "vector", 1, 70, 2),
        ReportTest.sampled("linear", "peak", "exeunt", 1, Operands.MEMORY, 60, 50, 0),
        ReportTest.sampled("linear", "peak", "exeunt", 2, 1.2, 2),
        ReportTest.sampled("gather", "kv", "exeunt", 1, 30, 20),
        ReportTest.sampled("gather", "kv", "onnxruntime", 1, 20, 20),
        ReportTest.sampled("gather", "kv", "<&peer>", 1, 25, 20),
        burst.replace("\"id\"", "\"scene\": \"bursts\", \"id\""), ReportTest.call("empty", 5),
        ReportTest.call("exeunt", 48)};
    Path raw = folder.resolve("run.raw.json");
    Files.writeString(raw, "[" + String.join(",", entries) + "]");
    Report.write(raw, folder);
    String page = Files.readString(folder.resolve("test-cpu-9000-avx2-quick.html"));
    // Four that have no peer are rows of tables.
    assertEquals(entries.length - 4, page.split("class=\"track\"", -1).length - 1);
    assertEquals(2, page.split("class=\"alone\"", -1).length - 1);
    return page;
  }

  @Test
  void needsNothingElse() throws IOException {
    String page = page();
    assertTrue(page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'\""));
    // Nothing is fetched, and nothing is run that the policy would have to allow.
    assertTrue(Pattern.compile("<(script|link|img|iframe)|url\\(|@import|https?:")
            .matcher(page)
            .results()
            .findAny()
            .isEmpty());
    assertTrue(page.contains("<td>in cache, 1 thread, bursts</td>"), page);
    // The limit of 20 us moved by 1; the slower of two halves takes 1 % longer than 30 us.
    assertTrue(page.contains("kv, in cache, 1 thread: 67 % of the limit (63 to 71)</title>"), page);
    assertTrue(page.contains("kv, in cache, 1 thread: 0.67 times the best peer's speed"), page);
    assertTrue(page.contains("&lt;&amp;peer&gt; kv: 80 % of the limit, 25.0 us"), page);
    assertTrue(page.contains("<em class=\"slower\">0.67 x the best peer's speed</em>"), page);
    // 2 * 1000 operations in 50 us, of 196608 bytes.
    assertTrue(page.contains("linear/peak, in cache: 0.0102 operations a byte, 0.0400 GFLOP/s, "
                   + "40 % of the roof"),
        page);
  }

  @ParameterizedTest
  @CsvSource({"1400, true", "1400, false", "400, true", "400, false"})
  void looksRightInABrowser(int width, boolean dark) throws Exception {
    Browser browser = Browser.show(page(), folder, width, dark, "/probe.js");
    Probed probed = new Gson().fromJson(browser.left("probe"), Probed.class);
    assertEquals(List.of(), browser.complaints());
    assertEquals(List.of(), probed.faults);
    assertEquals(width, probed.width);
    assertEquals(dark, probed.dark);
    assertEquals(7, probed.bars);
    // In the roofline linear/peak, its peer, and the other case in one place; in the overview
    // shares of five cases, and two with a peer.
    assertEquals(3 + 5 + 2, probed.dots);
    assertEquals(0, probed.untold, "bars and dots without a text");
  }
}
