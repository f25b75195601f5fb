// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples;

import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Assumptions;

/** Finds the model and the recorded vectors, and skips a test, saying so, where they are absent. */
public final class TestData {
  private TestData() {}

  /** A file of the recorded vectors: below EXEUNT_GOLDEN, or beside the repository. */
  public static Path golden(String name) {
    String configured = System.getenv("EXEUNT_GOLDEN");
    Path root = configured != null ? Path.of(configured)
        : Path.of(System.getProperty("basedir", "."), "..", "..", "shared", "golden");
    return present(root.resolve(name).normalize(), "recorded vectors are not here "
        + "(set EXEUNT_GOLDEN)");
  }

  /** The SmolLM2 model the demo runs. */
  public static Path model() {
    Path path = Models.find();
    return present(path, "the model is not here (set EXEUNT_MODEL, or run ./exeunt demo once)");
  }

  private static Path present(Path path, String otherwise) {
    if (!Files.exists(path)) {
      String reason = "skipped: " + path + ": " + otherwise;
      System.out.println(reason);
      Assumptions.abort(reason);
    }
    return path;
  }
}
