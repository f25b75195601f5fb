// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.fuzz;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Some thousand hostile files, in a process that has little memory to lose. */
class FileFuzzTest {
  private static final String FILES = System.getProperty(
      "exeunt.fuzz.test.files", Boolean.getBoolean("exeunt.quick") ? "5000" : "20000");

  @TempDir Path folder;

  @Test
  void theSoundFilesAreTaken() throws IOException {
    FileFuzz.requireSound(folder);
  }

  @Test
  void hostileFilesAreTakenOrRefusedInASentence() throws IOException, InterruptedException {
    Process process = new ProcessBuilder(
        List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "--enable-native-access=ALL-UNNAMED", "-Xmx64m", "-XX:MaxDirectMemorySize=8m",
            "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-CreateCoredumpOnCrash",
            "-XX:ErrorFile=/dev/null", "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0", "-cp",
            System.getProperty("java.class.path"), FileFuzz.class.getName(), "--minutes", "5",
            "--cases", FILES))
                          .redirectErrorStream(true)
                          .start();
    process.getOutputStream().close();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), output);
    for (String outcome : List.of("json taken", "json refused", "safetensors taken",
             "safetensors refused", "gguf taken", "gguf refused", "onnx taken", "onnx refused",
             "model taken", "model refused")) {
      assertTrue(output.contains(outcome + "="), output);
    }
    assertTrue(output.contains("TOTAL " + FILES + " files"), output);
  }
}
