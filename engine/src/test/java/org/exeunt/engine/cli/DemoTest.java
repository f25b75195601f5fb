// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.image.BufferedImage;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.imageio.ImageIO;
import javax.xml.parsers.DocumentBuilderFactory;
import org.exeunt.engine.encode.EncoderFiles;
import org.exeunt.engine.encode.TinyEncoder;
import org.exeunt.engine.model.TinyModel;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledIfSystemProperty;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.xml.sax.InputSource;

class DemoTest {
  private static final int SIDE = 24; // patches
  private static final Pattern CELL = Pattern.compile("\"[^\"]*\"|[^,]+");

  @ParameterizedTest
  @ValueSource(strings = {"--model", "--threads 0", "--threads many", "--threads 257", "--fast"})
  void senselessArgumentsAreRefusedBeforeAnythingRuns(String arguments) throws Exception {
    assertEquals(2, Demo.run(arguments.split(" ")));
  }

  @Test
  void explainsItself() throws Exception {
    PrintStream console = System.out;
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    System.setOut(new PrintStream(bytes, true, StandardCharsets.UTF_8));
    try {
      assertEquals(0, Demo.run("--quick", "--help"));
    } finally {
      System.setOut(console);
    }
    String page = bytes.toString(StandardCharsets.UTF_8);
    assertTrue(page.startsWith("usage: demo ") && page.contains("--out"), page);
  }

  /** The parts that need no model run, as they do with one; a sentence stands for the others. */
  @Test
  @DisabledIfSystemProperty(named = "exeunt.quick", matches = "true",
      disabledReason = "a quick run runs the demo once, with a model")
  void
  runsWithoutAModel(@TempDir Path out) throws Exception {
    Path absent = out.resolve("absent.gguf");
    String said = demo(absent, out, out);
    assertTrue(said.contains("left out, because " + absent + " does not exist"), said);
    assertTrue(said.contains("because " + new EncoderFiles(out).model() + " does not exist"), said);
    assertTrue(savedFiles(said) >= 9, said);
    assertTrained(said, out);
  }

  /** What the trainings and the picture show, which need no model. */
  private static void assertTrained(String said, Path out) throws IOException {
    assertTrue(
        said.matches("(?s).*\\n\\| softmax \\+ perpGrad +\\|.*\\| +epoch [0-9]+ \\|\\n.*"), said);
    assertTrue(said.matches("(?s).*\\n\\| softmax +\\|.*\\| +never \\|\\n.*"), said);
    assertTrue(said.matches("(?s).*\\n\\| cross-entropy +\\|.*\\n\\| elr +\\|.*"), said);
    Matcher kept = Pattern.compile("go on \\([^)]*\\): (\\d+) of the full view").matcher(said);
    assertTrue(kept.find(), said);
    BufferedImage picture = ImageIO.read(out.resolve("hired.png").toFile());
    assertEquals(Integer.parseInt(kept.group(1)), brightPatches(picture), "bright patches");
  }

  /** All parts, on random weights that read the letters they know. */
  @Test
  void runsEveryPartOnAModel(@TempDir Path out) throws Exception {
    Map<String, Object> metadata = TinyModel.metadata();
    metadata.put("llama.context_length", 1024);
    int layers = TinyModel.LAYERS;
    Path encoder = TinyEncoder.write(out).folder();
    String said = demo(TinyModel.write(out.resolve("tiny.gguf"), metadata, null), encoder, out);

    assertTrained(said, out);
    assertEquals(18, savedFiles(said), said);
    assertFalse(said.contains("\r") || said.contains(" epoch 25 of"), "progress in a log");
    String page = Files.readString(out.resolve("report.html"));
    DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(
        new InputSource(new StringReader(page)));
    for (String chart : List.of("Accuracy against speed", "Loss by epoch", "after each layer",
             "Answers kept against speed", "Perplexity against", "What HiRED keeps")) {
      assertTrue(page.matches("(?s).*<figcaption>[^<]*" + chart + ".*"), chart);
    }
    assertFalse(page.contains("NaN") || page.contains("There is nothing to plot"), page);
    assertEquals(4, table(out, "encoder-heads").size(), said);
    Map<String, List<String>> rules = table(out, "encoder-rules");
    assertEquals(List.of("3.00", "1.00 x", "1.00 x"),
        List.of(rules.get("all layers").get(1), rules.get("all layers").get(3),
            rules.get("all layers").get(5)));
    assertTrue(said.contains("Saved: "), said);
    Map<String, List<String>> depths = table(out, "depths");
    assertEquals(layers + 1, depths.size(), said);
    assertEquals("100.0 %", last(depths.get(String.valueOf(layers))));
    assertTrue(said.contains("| max-prob >= 0.7"), said);

    Map<String, List<String>> skips = table(out, "skips");
    assertEquals(12, skips.size(), skips.keySet().toString());
    assertEquals(
        List.of("0.0 %", "0.0 %", "0.0 %", "100.0 %"), skips.get("full depth").subList(1, 5));
    assertEquals("40.0 %", skips.get("exit fixed:3, KV propagate").get(1));

    Map<String, List<String>> drops = table(out, "drops");
    assertEquals(17, drops.size(), drops.keySet().toString());
    assertEquals("256", drops.get("all tokens").get(0));
    assertEquals("100 %", last(drops.get("all tokens")));
    assertEquals("64", drops.get("SnapKV, 25 %").get(0));
    assertEquals("25", drops.get("GemFilter, layer 1, 10 %").get(0));
    assertEquals("129", // the last token stays beside those chosen
        drops.get("PromptDistill after layer 1, 50 %").get(0));
  }

  /** What a quick demo prints. */
  private static String demo(Path model, Path encoder, Path out) throws Exception {
    PrintStream console = System.out;
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    System.setOut(new PrintStream(bytes, true, StandardCharsets.UTF_8));
    try {
      assertEquals(0,
          Demo.run("--quick", "--model", model.toString(), "--encoder", encoder.toString(), "--out",
              out.toString()));
    } finally {
      System.setOut(console);
    }
    return bytes.toString(StandardCharsets.UTF_8);
  }

  /** How many files it names at its end, none of which is empty. */
  private static int savedFiles(String said) throws Exception {
    List<String> saved =
        said.substring(said.indexOf("Everything above"))
            .lines()
            .skip(1)
            .map(String::strip)
            .toList();
    for (String file : saved) {
      assertTrue(Files.size(Path.of(file)) > 0, file);
    }
    return saved.size();
  }

  /** The cells of a saved table after the first, by the first of their row. */
  private static Map<String, List<String>> table(Path out, String name) throws Exception {
    Map<String, List<String>> rows = new LinkedHashMap<>();
    for (String line : Files.readAllLines(out.resolve(name + ".csv")).stream().skip(1).toList()) {
      List<String> cells =
          CELL.matcher(line).results().map(cell -> cell.group().replace("\"", "")).toList();
      rows.put(cells.get(0), cells.subList(1, cells.size()));
    }
    return rows;
  }

  private static String last(List<String> cells) {
    return cells.get(cells.size() - 1);
  }

  /** Of the full view, which stands in the middle: what is faded was dropped. */
  private static int brightPatches(BufferedImage picture) {
    int all = picture.getHeight();
    int patch = all / SIDE;
    int left = (picture.getWidth() - all) / 2;
    int bright = 0;
    for (int p = 0; p < SIDE * SIDE; p++) {
      int opaque = 0;
      for (int pixel = 0; pixel < patch * patch; pixel++) {
        int argb = picture.getRGB(
            left + p % SIDE * patch + pixel % patch, p / SIDE * patch + pixel / patch);
        opaque += argb >>> 24 == 0xFF ? 1 : 0;
      }
      assertTrue(opaque == 0 || opaque == patch * patch, "half a patch");
      bright += opaque > 0 ? 1 : 0;
    }
    return bright;
  }
}
