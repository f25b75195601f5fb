// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.score;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.exeunt.engine.model.io.StrictJson;
import org.exeunt.engine.model.text.Tokenizer;

/**
 * A context, what may follow it, and which of that is right.
 *
 * @param answer index of the right choice
 */
public record Question(String context, List<String> choices, int answer) {
  /**
   * Questions of a file, one JSON object a line: {@code {"context": "...", "choices": ["...", "..."],
   * "answer": 0}}. Empty lines are passed over.
   *
   * @param name of the file, for messages
   * @throws IllegalArgumentException if a line is something else, or there is none
   */
  public static List<Question> parse(String name, String text) {
    List<Question> questions = new ArrayList<>();
    String[] lines = text.split("\\R");
    for (int i = 0; i < lines.length; i++) {
      if (!lines[i].isBlank()) {
        try {
          questions.add(of(StrictJson.parse(lines[i])));
        } catch (IllegalArgumentException e) {
          throw new IllegalArgumentException(
              "line " + (i + 1) + " of " + name + ": " + e.getMessage(), e);
        }
      }
    }
    if (questions.isEmpty()) {
      throw new IllegalArgumentException("there is no question in " + name);
    }
    return questions;
  }

  private static Question of(Object json) {
    if (!(json instanceof Map<?, ?> members) || !(members.get("context") instanceof String context)
        || !(members.get("choices") instanceof List<?> choices)
        || !(members.get("answer") instanceof Long answer)) {
      throw new IllegalArgumentException(
          "not an object with \"context\", \"choices\" and a whole number \"answer\"");
    }
    if (context.isBlank()) {
      throw new IllegalArgumentException("\"context\" is blank: no choice has one token before it");
    }
    List<String> texts = new ArrayList<>();
    for (Object choice : choices) {
      if (!(choice instanceof String said) || said.isBlank()) {
        throw new IllegalArgumentException("\"choices\" holds what is not a text, or blank");
      }
      texts.add(said);
    }
    if (answer < 0 || answer >= texts.size()) {
      throw new IllegalArgumentException(
          "\"answer\" is " + answer + ", but there are " + texts.size() + " choices");
    }
    return new Question(context, List.copyOf(texts), answer.intValue());
  }

  /** A context and its continuations in tokens. */
  public record Tokens(int[] context, int[][] continuations) {
    /** Tokens of the context with its longest continuation. */
    public int longest() {
      int most = 0;
      for (int[] continuation : continuations) {
        most = Math.max(most, context.length + continuation.length);
      }
      return most;
    }
  }

  /**
   * As lm-eval does: a blank stands before each choice, those at the context's end belong to the
   * choice, and a choice has the tokens that come after as many as the context alone has.
   */
  public Tokens tokens(Tokenizer tokenizer) {
    int[] before = tokenizer.encodePrompt(context.stripTrailing());
    int[][] after = new int[choices.size()][];
    for (int i = 0; i < after.length; i++) {
      int[] whole = tokenizer.encodePrompt(context + " " + choices.get(i));
      if (whole.length <= before.length) {
        throw new IllegalArgumentException("the choice \"" + choices.get(i) + "\" has no token");
      }
      after[i] = Arrays.copyOfRange(whole, before.length, whole.length);
    }
    return new Tokens(before, after);
  }

  /** Which choice has the largest score. */
  public static int best(double... scores) {
    int best = 0;
    for (int i = 1; i < scores.length; i++) {
      best = scores[i] > scores[best] ? i : best;
    }
    return best;
  }
}
