// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.answer;

import java.util.Locale;

/** What a text comes to, so that answers that go different ways can be the same answer. */
public final class FinalAnswer {
  private static final String BOX = "\\boxed{";
  private static final String MARK = "####";

  private FinalAnswer() {}

  /**
   * What stands in the last {@code \\boxed{}}, else after the last {@code ####}, else in the last
   * line; in small letters, without spaces around it and full stops after it. Null if that is
   * nothing.
   */
  public static String of(String text) {
    String found = boxed(text);
    if (found == null) {
      int mark = text.lastIndexOf(MARK);
      found = mark >= 0 ? text.substring(mark + MARK.length()) : lastLine(text);
    }
    String plain = found.strip().toLowerCase(Locale.ROOT).replaceAll("\\s+", " ");
    plain = plain.replaceAll("[\\s.!]+$", "");
    return plain.isEmpty() ? null : plain;
  }

  private static String lastLine(String text) {
    String lines = text.stripTrailing();
    return lines.substring(lines.lastIndexOf('\n') + 1);
  }

  /** What the last box holds, with the braces in it; null: it has none, or one that is not closed. */
  private static String boxed(String text) {
    int box = text.lastIndexOf(BOX);
    int open = 1;
    for (int i = box + BOX.length(); box >= 0 && i < text.length(); i++) {
      char c = text.charAt(i);
      open += c == '{' ? 1 : c == '}' ? -1 : 0;
      if (open == 0) {
        return text.substring(box + BOX.length(), i);
      }
    }
    return null;
  }
}
