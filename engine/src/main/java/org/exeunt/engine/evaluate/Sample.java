// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.evaluate;

import java.util.List;

/**
 * What methods answered to one prompt, to be read side by side.
 *
 * @param prompt its text
 * @param answers the plain decoder's first
 */
record Sample(String prompt, List<Answer> answers) {
  /** How many prompts of an evaluation are shown with their answers. */
  static final int SHOWN = 2;

  private static final int TITLE_LENGTH = 120;

  /** The prompt, or its beginning where it is long. */
  String title() {
    int[] points = prompt.codePoints().toArray();
    return points.length <= TITLE_LENGTH ? prompt : new String(points, 0, TITLE_LENGTH) + "\u2026";
  }

  /** What one method answered. */
  record Answer(String method, String text) {
    /** How many characters it has in common with another answer before the first that differs. */
    int commonWith(String other) {
      int common = 0;
      while (common < Math.min(text.length(), other.length())
          && text.charAt(common) == other.charAt(common)) {
        common++;
      }
      boolean cutsPair = common > 0 && Character.isHighSurrogate(text.charAt(common - 1));
      return cutsPair ? common - 1 : common;
    }
  }
}
