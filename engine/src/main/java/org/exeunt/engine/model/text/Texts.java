// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.text;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** What the demo lets a model read; white space is collapsed to single blanks. */
public final class Texts {
  private static final String ESSAY = "/org/exeunt/engine/essay.txt";
  private static final String STORY = "/org/exeunt/engine/story.txt";
  private static final String PROMPTS = "/org/exeunt/engine/prompts.txt";

  private Texts() {}

  /** A short essay that comes with the engine. */
  public static String essay() throws IOException {
    return collapse(resource(ESSAY));
  }

  /** A longer one: of SmolLM2's tokens it has more than 600, of Gemma's as well. */
  public static String story() throws IOException {
    return collapse(resource(STORY));
  }

  /** Prompts of two groups: answers that quote them, and answers that do not. */
  public static String prompts() throws IOException {
    return resource(PROMPTS);
  }

  /** A file of text in UTF-8. */
  public static String read(Path file) throws IOException {
    try {
      return Files.readString(file);
    } catch (CharacterCodingException e) {
      throw new IOException(file + " is not text in UTF-8", e);
    }
  }

  private static String resource(String name) throws IOException {
    try (InputStream in = Texts.class.getResourceAsStream(name)) {
      if (in == null) {
        throw new IOException("the resource " + name + " is missing from the jar");
      }
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    }
  }

  private static String collapse(String text) {
    return text.strip().replaceAll("\\s+", " ");
  }
}
