// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.exeunt.Backend;
import org.exeunt.examples.encoder.EncoderFiles;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.extension.ConditionEvaluationResult;
import org.junit.jupiter.api.extension.ExecutionCondition;
import org.junit.jupiter.api.extension.ExtensionContext;

/**
 * Finds the model and the recorded vectors, and skips a test, saying so, where they are absent. A
 * class that reads them before all of its tests names what it needs in {@code @ExtendWith}: one
 * that gave up there would not be counted at all.
 */
public final class TestData {
  private TestData() {}

  /** A file of the recorded vectors: below EXEUNT_GOLDEN, or beside the repository. */
  public static Path golden(String name) {
    Path root = root();
    present(root, NO_VECTORS);
    Path path = root.resolve(name).normalize();
    assertTrue(Files.exists(path), path + " is missing, and the folder of recorded vectors is not");
    return path;
  }

  /** The text of the recordings where these are, otherwise the demo's, which is shorter. */
  public static String text() throws IOException {
    Path text = root().resolve("model").resolve("text.txt");
    return Files.isRegularFile(text) ? Files.readString(text) : Texts.essay();
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

  /** Skips a class without the recorded vectors. */
  public static final class NeedsGolden implements ExecutionCondition {
    @Override
    public ConditionEvaluationResult evaluateExecutionCondition(ExtensionContext context) {
      return condition(root(), NO_VECTORS);
    }
  }

  private static final String NO_VECTORS = "recorded vectors are not here (set EXEUNT_GOLDEN)";
  private static final Path EMULATOR =
      Path.of(System.getProperty("exeunt.emulator", "../build/native/lib/libexeunt_cuda_emu.so"));
  private static final String NO_MODEL =
      "the model is not here (set EXEUNT_MODEL, or run ./exeunt demo once)";

  private static Path root() {
    String configured = System.getenv("EXEUNT_GOLDEN");
    return (configured != null && !configured.isEmpty()
            ? Path.of(configured)
            : Path.of(System.getProperty("basedir", "."), "..", "..", "shared", "golden"))
        .normalize();
  }

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
