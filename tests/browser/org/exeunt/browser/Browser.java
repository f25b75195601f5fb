// SPDX-License-Identifier: Apache-2.0
package org.exeunt.browser;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/** A page of a report as a headless Chromium has shown it, and what scripts have found in it. */
public final class Browser {
  private final String dom;
  private final List<String> console;

  private Browser(String dom, List<String> console) {
    this.dom = dom;
    this.console = console;
  }

  /**
   * Shows a page, or skips the test where there is no Chromium.
   *
   * @param page one whose policy would let no script run
   * @param folder where files may be left
   * @param scripts resources that run in it one after another
   */
  public static Browser show(String page, Path folder, int width, boolean dark, String... scripts)
      throws IOException, InterruptedException {
    Optional<String> program = program();
    if (program.isEmpty()) {
      System.out.println("No Chromium here (chromium-headless-shell, chromium, google-chrome):"
          + " the pages of reports are not tested.");
    }
    assumeTrue(program.isPresent(), "no Chromium");
    StringBuilder probes = new StringBuilder();
    for (String script : scripts) {
      probes.append("<script>{").append(text(script)).append("}</script>");
    }
    Path file = folder.resolve("probed.html");
    Files.writeString(file,
        framed(page.replace("style-src", "script-src 'unsafe-inline'; style-src")
                   .replace("</body>", probes + "</body>"),
            width));
    Path shown = folder.resolve("dom.html");
    Path said = folder.resolve("said.txt");
    Process process =
        new ProcessBuilder(program.get(), "--headless", "--no-sandbox", "--disable-gpu",
            "--hide-scrollbars", "--enable-logging=stderr", "--user-data-dir=" + folder + "/user",
            "--window-size=1400,900", "--blink-settings=preferredColorScheme=" + (dark ? 0 : 1),
            "--dump-dom", file.toUri().toString())
            .redirectOutput(shown.toFile())
            .redirectError(said.toFile())
            .start();
    try {
      assertTrue(process.waitFor(120, TimeUnit.SECONDS), "the browser hangs");
    } finally {
      process.destroyForcibly().waitFor();
    }
    return new Browser(Files.readString(shown), Files.readAllLines(said));
  }

  /**
   * The page in a frame of that width, since a browser's window may have a least width. What scripts
   * leave there is moved out of the frame, so that it is in what the browser prints.
   */
  private static String framed(String page, int width) {
    return "<!DOCTYPE html><meta name=\"color-scheme\" content=\"light dark\">"
        + "<style>body {margin: 0} iframe {border: 0; width: " + width
        + "px; height: 900px}</style>"
        + "<body><iframe onload=\"document.body.append("
        + "...this.contentDocument.querySelectorAll('pre[id]'))\" srcdoc=\""
        + page.replace("&", "&amp;").replace("\"", "&quot;") + "\"></iframe></body>";
  }

  private static String text(String script) throws IOException {
    try (InputStream in = Browser.class.getResourceAsStream(script)) {
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    }
  }

  private static Optional<String> program() {
    return Stream.of("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
        .flatMap(name
            -> Stream.of(System.getenv("PATH").split(File.pathSeparator))
                .map(path -> Path.of(path, name)))
        .filter(Files::isExecutable)
        .map(Path::toString)
        .findFirst();
  }

  /** What the page has written to the console. */
  public List<String> complaints() {
    return console.stream().filter(line -> line.contains("CONSOLE")).toList();
  }

  /** What a script has left in {@code <pre id="...">}. */
  public String left(String id) {
    Matcher matcher = Pattern.compile("<pre id=\"" + id + "\">(.*?)</pre>").matcher(dom);
    assertTrue(matcher.find(), () -> String.join("\n", console));
    return matcher.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
  }
}
