// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** What the demo lets a model read; white space is collapsed to single blanks. */
public final class Texts {
  private static final String ESSAY = "/org/exeunt/examples/essay.txt";

  private Texts() {}

  /** A short essay that comes with the examples. */
  public static String essay() throws IOException {
    try (InputStream in = Texts.class.getResourceAsStream(ESSAY)) {
      if (in == null) {
        throw new IOException("the resource " + ESSAY + " is missing from the jar");
      }
      return collapse(new String(in.readAllBytes(), StandardCharsets.UTF_8));
    }
  }

  /**
   * The text that the recorded vectors were made with, where they are at hand: below EXEUNT_GOLDEN,
   * or beside the repository that is the current folder; else {@link #essay()}.
   */
  public static String recordedOrEssay() throws IOException {
    String configured = System.getenv("EXEUNT_GOLDEN");
    Path root = configured != null ? Path.of(configured) : Path.of("..", "shared", "golden");
    Path text = root.resolve("model").resolve("text.txt");
    return Files.isRegularFile(text) ? collapse(Files.readString(text)) : essay();
  }

  private static String collapse(String text) {
    return text.strip().replaceAll("\\s+", " ");
  }
}
