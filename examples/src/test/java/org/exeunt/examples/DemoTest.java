// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.image.BufferedImage;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class DemoTest {
  private static final int PATCH = 14; // pixels
  private static final int SIDE = 24; // patches

  @ParameterizedTest
  @ValueSource(strings = {"--model", "--threads 0", "--threads many", "--threads 257", "--fast"})
  void senselessArgumentsAreRefusedBeforeAnythingRuns(String arguments) throws Exception {
    assertEquals(2, Demo.run(arguments.split(" ")));
  }

  /** The parts that need no model run; a sentence stands for the others. */
  @Test
  void runsWithoutAModel(@TempDir Path out) throws Exception {
    String absent = out.resolve("absent.gguf").toString();
    PrintStream console = System.out;
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    System.setOut(new PrintStream(bytes, true, StandardCharsets.UTF_8));
    try {
      assertEquals(0, Demo.run("--quick", "--model", absent, "--out", out.toString()));
    } finally {
      System.setOut(console);
    }
    String said = bytes.toString(StandardCharsets.UTF_8);
    assertTrue(said.contains("left out, because " + absent + " does not exist"), said);
    assertTrue(said.matches("(?s).*\\n\\| softmax \\+ perpGrad +\\|.*\\| +epoch [0-9]+ \\|\\n.*"),
        said);
    assertTrue(said.matches("(?s).*\\n\\| softmax +\\|.*\\| +never \\|\\n.*"), said);

    List<String> saved = said.substring(said.indexOf("Everything above")).lines().skip(1)
        .map(String::strip).toList();
    assertTrue(saved.size() >= 6, saved.toString());
    for (String file : saved) {
      assertTrue(Files.size(Path.of(file)) > 0, file);
    }
    Matcher kept = Pattern.compile("go on \\([^)]*\\): (\\d+) of the full view").matcher(said);
    assertTrue(kept.find(), said);
    BufferedImage picture = ImageIO.read(out.resolve("hired.png").toFile());
    assertEquals(Integer.parseInt(kept.group(1)), brightPatches(picture), "bright patches");
  }

  /** Of the full view, which is left; what is dark has at most a quarter of each colour. */
  private static int brightPatches(BufferedImage picture) {
    int bright = 0;
    for (int patch = 0; patch < SIDE * SIDE; patch++) {
      int left = patch % SIDE * PATCH;
      int top = patch / SIDE * PATCH;
      int colours = 0;
      for (int pixel = 0; pixel < PATCH * PATCH; pixel++) {
        colours |= picture.getRGB(left + pixel % PATCH, top + pixel / PATCH);
      }
      bright += (colours & 0xC0C0C0) != 0 ? 1 : 0;
    }
    return bright;
  }
}
