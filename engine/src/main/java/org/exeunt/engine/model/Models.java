// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Locale;
import org.exeunt.DType;

/** Where models lie. */
public final class Models {
  private static final String FILE = "SmolLM2-135M-Instruct.Q4_1.gguf";
  private static final String GEMMA3 = "gemma-3-270m-q4_k_m.gguf";

  private Models() {}

  /**
   * The demo's: the path given by system property or environment variable {@code EXEUNT_MODEL},
   * else the place where the launcher puts the model; whether it exists is for the caller to see.
   */
  public static Path find() {
    String configured = System.getProperty("EXEUNT_MODEL", System.getenv("EXEUNT_MODEL"));
    if (configured != null && !configured.isBlank()) {
      return Path.of(configured);
    }
    return cached(FILE);
  }

  /** Gemma 3 270M, where the launcher puts it when it is asked for. */
  public static Path gemma3() {
    return cached(GEMMA3);
  }

  /** The folder where the launcher puts the files of the encoder and the reviews. */
  public static Path encoder() {
    return cached("");
  }

  /** A file, or the model {@code gemma3}. */
  public static Path of(String name) {
    return name.equals("gemma3") ? gemma3() : Path.of(name);
  }

  /** Where screens are kept: in the cache, or where the system property {@code exeunt.screens} says. */
  public static Path screens() {
    String configured = System.getProperty("exeunt.screens");
    return configured == null ? cached("") : Path.of(configured);
  }

  /**
   * Where the screen of a model's head is kept, one for each place of a model and what its weights
   * become. Which head it is of it says itself.
   */
  public static Path screen(Path model, DType weights) throws IOException {
    return kept(
        model, weights == null ? "file" : weights.toString().toLowerCase(Locale.ROOT), "screen");
  }

  /** Where the packed rows of a model are kept, beside screens. */
  public static Path packed(Path model) throws IOException {
    return kept(model, "file", "packed");
  }

  private static Path kept(Path model, String weights, String what) throws IOException {
    return screens().resolve(String.format("%s.%s-%08x.%s", model.getFileName(), weights,
        model.toRealPath().toString().hashCode(), what));
  }

  private static Path cached(String file) {
    String cache = System.getenv("XDG_CACHE_HOME");
    Path root = cache != null && !cache.isBlank()
        ? Path.of(cache)
        : Path.of(System.getProperty("user.home"), ".cache");
    return root.resolve("exeunt").resolve(file);
  }
}
