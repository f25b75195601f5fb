// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.IntStream;
import org.exeunt.Backend;
import org.exeunt.engine.encode.EncoderFiles;
import org.exeunt.engine.model.Models;
import org.exeunt.engine.model.io.SafetensorsFile;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.extension.ConditionEvaluationResult;
import org.junit.jupiter.api.extension.ExecutionCondition;
import org.junit.jupiter.api.extension.ExtensionContext;

/**
 * Finds the recorded vectors, and the model, without which a test is skipped and says so. A class
 * that reads the model before all of its tests names it in {@code @ExtendWith}: one that gave up
 * there would not be counted at all.
 */
public final class TestData {
  private TestData() {}

  /** A file of the recorded vectors: below EXEUNT_GOLDEN, or where the build unpacks them. */
  public static Path golden(String name) {
    String configured = System.getenv("EXEUNT_GOLDEN");
    String root = configured != null && !configured.isEmpty()
        ? configured
        : System.getProperty("exeunt.golden", "../build/native/golden");
    Path path = Path.of(root).resolve(name).normalize();
    assertTrue(Files.exists(path), path + " is missing (tests/golden/README.md)");
    return path;
  }

  /** The text of the recordings. */
  public static String text() throws IOException {
    return Files.readString(golden("model/text.txt"));
  }

  /** The numbers of a recorded tensor's rows: those that it names, or all {@code count}. */
  public static int[] rows(SafetensorsFile golden, String tensor, int count) throws IOException {
    String rows = tensor + "_rows";
    return golden.tensors().containsKey(rows)
        ? golden.ints(rows)
        : IntStream.range(0, count).toArray();
  }

  /** The SmolLM2 model the demo runs. */
  public static Path model() {
    return present(Models.find(), NO_MODEL);
  }

  /** Gemma 3 270M, which is here only if somebody asked for it. */
  public static Path gemma3() {
    return present(Models.gemma3(),
        "Gemma 3 is not here (./exeunt generate --model gemma3 fetches it, under its terms)");
  }

  /** The folder of the encoder's files and the rated reviews. */
  public static EncoderFiles encoder() {
    EncoderFiles files = new EncoderFiles(Models.encoder());
    files.all().forEach(file -> present(file, "it is not here (launcher/encoder.sh fetches it)"));
    return files;
  }

  /** Has this process use the emulated GPU; skips a test without it. */
  public static void openEmulatedDevice() {
    ConditionEvaluationResult found = emulator();
    Assumptions.assumeFalse(found.isDisabled(), () -> found.getReason().orElse(""));
    Backend.openCuda(EMULATOR);
  }

  private static ConditionEvaluationResult emulator() {
    return Boolean.getBoolean("exeunt.quick")
        ? ConditionEvaluationResult.disabled("skipped: a quick run leaves CUDA out")
        : condition(EMULATOR, "the emulated device was not built");
  }

  /** Skips a class without the emulated GPU. */
  public static final class NeedsEmulator implements ExecutionCondition {
    @Override
    public ConditionEvaluationResult evaluateExecutionCondition(ExtensionContext context) {
      return emulator();
    }
  }

  /** Skips a class without the model. */
  public static final class NeedsModel implements ExecutionCondition {
    @Override
    public ConditionEvaluationResult evaluateExecutionCondition(ExtensionContext context) {
      return condition(Models.find(), NO_MODEL);
    }
  }

  private static final Path EMULATOR =
      Path.of(System.getProperty("exeunt.emulator", "../build/native/lib/libexeunt_cuda_emu.so"));
  private static final String NO_MODEL =
      "the model is not here (set EXEUNT_MODEL, or run ./exeunt demo once)";

  private static ConditionEvaluationResult condition(Path path, String otherwise) {
    if (Files.exists(path)) {
      return ConditionEvaluationResult.enabled(path + " is there");
    }
    return ConditionEvaluationResult.disabled(skipped(path, otherwise));
  }

  private static Path present(Path path, String otherwise) {
    if (!Files.exists(path)) {
      Assumptions.abort(skipped(path, otherwise));
    }
    return path;
  }

  private static String skipped(Path path, String otherwise) {
    String reason = "skipped: " + path + ": " + otherwise;
    System.out.println(reason);
    return reason;
  }
}
