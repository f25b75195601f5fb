// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The page of a report, as a browser shows it. */
class PageTest {
  private static final Pattern PROBED = Pattern.compile("<pre id=\"probe\">(.*?)</pre>");

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
    assertEquals(entries.length, page.split("class=\"track\"", -1).length - 1);
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
    assertTrue(page.contains("<small>in cache, 1 thread, bursts</small>"), page);
    assertTrue(page.contains("&lt;&amp;peer&gt; kv: 80 % of the limit, 25.0 us"), page);
    assertTrue(page.contains("<em class=\"behind\">0.67 x the best peer's speed</em>"), page);
    // 2 * 1000 operations in 50 us, of 196608 bytes.
    assertTrue(page.contains("linear/peak, in cache: 0.0102 operations a byte, 0.0400 GFLOP/s, "
                   + "40 % of the roof"),
        page);
  }

  @ParameterizedTest
  @CsvSource({"1280, true", "1280, false", "390, true", "390, false"})
  void looksRightInABrowser(int width, boolean dark) throws Exception {
    Optional<String> browser = browser();
    if (browser.isEmpty()) {
      System.out.println("No Chromium here (chromium-headless-shell, chromium, google-chrome):"
          + " nobody looks at the report's page.");
    }
    assumeTrue(browser.isPresent(), "no Chromium");
    String probe = new String(
        PageTest.class.getResourceAsStream("/probe.js").readAllBytes(), StandardCharsets.UTF_8);
    Path file = folder.resolve("probed.html");
    Files.writeString(file,
        page()
            .replace("style-src", "script-src 'unsafe-inline'; style-src")
            .replace("</body>", "<script>" + probe + "</script></body>"));
    Path shown = folder.resolve("dom.html");
    Path said = folder.resolve("said.txt");
    Process process =
        new ProcessBuilder(browser.get(), "--headless", "--no-sandbox", "--disable-gpu",
            "--hide-scrollbars", "--enable-logging=stderr", "--user-data-dir=" + folder + "/user",
            "--window-size=" + width + ",900",
            "--blink-settings=preferredColorScheme=" + (dark ? 0 : 1), "--dump-dom",
            file.toUri().toString())
            .redirectOutput(shown.toFile())
            .redirectError(said.toFile())
            .start();
    try {
      assertTrue(process.waitFor(120, TimeUnit.SECONDS), "the browser hangs");
    } finally {
      process.destroyForcibly().waitFor();
    }
    String console = Files.readString(said);
    Matcher matcher = PROBED.matcher(Files.readString(shown));
    assertTrue(matcher.find(), console);
    Probed probed = new Gson().fromJson(
        matcher.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"),
        Probed.class);
    assertEquals(List.of(), console.lines().filter(line -> line.contains("CONSOLE")).toList());
    assertEquals(List.of(), probed.faults);
    assertEquals(width, probed.width);
    assertEquals(dark, probed.dark);
    assertEquals(11, probed.bars);
    assertEquals(3, probed.dots, "linear/peak, its peer, and the other case in one place");
    assertEquals(0, probed.untold, "bars and dots without a text");
  }

  private static Optional<String> browser() {
    return Stream.of("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
        .flatMap(name
            -> Stream.of(System.getenv("PATH").split(File.pathSeparator))
                .map(path -> Path.of(path, name)))
        .filter(Files::isExecutable)
        .map(Path::toString)
        .findFirst();
  }
}
