// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.io.StrictJson;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledIfSystemProperty;
import org.junit.jupiter.api.io.TempDir;

/** {@code ./exeunt bench --decode} without llama.cpp, on a model that takes no time. */
class DecodeFiguresTest {
  private static final Path DRIVER =
      Path.of(System.getProperty("basedir", "."), "..", "bench", "decode", "run");
  private static final int POSITIONS = 80;

  @TempDir Path folder;
  private Path model;
  private Path text;
  private Path generate;
  private String log;

  private static List<String> java() {
    return List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
        "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-cp",
        System.getProperty("java.class.path"));
  }

  @BeforeEach
  void prepare() throws IOException {
    model = TinyModel.write(folder.resolve("tiny.gguf"));
    StringBuilder letters = new StringBuilder();
    new Random(3).ints(POSITIONS, 'a', 'w' + 1).forEach(c -> letters.append((char) c));
    text = Files.writeString(folder.resolve("text"), letters);
    generate = Files.writeString(folder.resolve("generate"),
        "#!/bin/sh\nshift\nexec '" + String.join("' '", java()) + "' " + Generate.class.getName()
            + " \"$@\"\n");
    assertTrue(generate.toFile().setExecutable(true));
  }

  private int run(String... more) throws IOException, InterruptedException {
    List<String> command = new ArrayList<>(List.of(DRIVER.toString(), "--decode", "--model",
        model.toString(), "--text", text.toString(), "--generate", generate.toString(), "--peer",
        folder.resolve("nobody").toString(), "--out", folder.resolve("out").toString(), "--repeats",
        "1", "--prompt", "24", "--steps", "8", "--weights", "f32,bf16", "--threads", "1"));
    command.addAll(List.of(more));
    command.add("--");
    command.addAll(java());
    Path output = folder.resolve("log");
    Process process =
        new ProcessBuilder(command)
            .redirectErrorStream(true)
            .redirectOutput(output.toFile())
            .start();
    int status = process.waitFor();
    log = Files.readString(output);
    return status;
  }

  private String written(String ending) throws IOException {
    try (var files = Files.list(folder.resolve("out"))) {
      return Files.readString(
          files.filter(file -> file.toString().endsWith(ending)).findFirst().orElseThrow());
    }
  }

  @Test
  @DisabledIfSystemProperty(named = "exeunt.quick", matches = "true",
      disabledReason = "a quick run looks only at what is refused, after the same first steps")
  void
  measuresWithoutThePeerAndSaysSo() throws IOException, InterruptedException {
    assertEquals(0, run(), log);
    String page = written("-decode-tiny.md");
    assertTrue(log.contains(page), log);
    assertTrue(page.contains("llama.cpp is not here, so its columns are empty"), page);
    assertTrue(page.contains("## One thread"), page);
    assertFalse(page.contains("threads\n"), page);
    // In F32 a token is as probable as in double precision, whichever way it went in.
    assertTrue(page.matches("(?s).*precision, token by token \\| +100.00 % .*"), page);
    assertTrue(page.matches("(?s).*precision, as one prompt +\\| +100.00 % .*"), page);
    for (String row : new String[] {"after 16", "after 24", "prompt of 24", "byte", "memory"}) {
      assertTrue(page.matches("(?s).*" + row + "[^|\\n]*\\| +[1-9][0-9.]* \\| +[1-9][0-9.]* "
                     + "\\| +- \\| +- \\| +- \\| +- \\|\\n.*"),
          row + " in " + page);
    }
    Map<?, ?> raw = (Map<?, ?>) StrictJson.parse(written("-decode-tiny.json"));
    List<?> judge = (List<?>) raw.get("judge");
    assertEquals(POSITIONS, judge.size());
    assertTrue(judge.stream().distinct().count() > 5, "the model says " + judge);
  }

  @Test
  void saysWhatFailed() throws IOException, InterruptedException {
    assertEquals(2, run("--steps", "0"));
    assertEquals("bench --decode: argument --steps: '0' is no number from 1 to 999999\n", log);
    assertEquals(1, run("--weights", "q3"));
    assertTrue(
        log.endsWith("bench --decode: --weights is 'q3', not file, packed, f32 or bf16\n"), log);
    assertEquals(1, run("--weights", "f32", "--prompt", "97"));
    assertTrue(log.contains("the model's context of 96"), log);
  }
}
