// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples;

import java.nio.file.Path;

/** Where the demo's model lies. */
public final class Models {
  private static final String FILE = "SmolLM2-135M-Instruct.Q4_1.gguf";

  private Models() {}

  /**
   * The path given by system property or environment variable {@code EXEUNT_MODEL}, else the place
   * where the launcher puts the model; whether it exists is for the caller to see.
   */
  public static Path find() {
    String configured = System.getProperty("EXEUNT_MODEL", System.getenv("EXEUNT_MODEL"));
    if (configured != null && !configured.isBlank()) {
      return Path.of(configured);
    }
    String cache = System.getenv("XDG_CACHE_HOME");
    Path root = cache != null && !cache.isBlank()
        ? Path.of(cache)
        : Path.of(System.getProperty("user.home"), ".cache");
    return root.resolve("exeunt").resolve(FILE);
  }
}
