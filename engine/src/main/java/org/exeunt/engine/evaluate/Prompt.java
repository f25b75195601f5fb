// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.evaluate;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * One of the prompts in a text file. A line that begins with three dashes begins one, and may name the
 * group it belongs to; a file without such lines is one prompt.
 *
 * @param group the name, or empty
 */
record Prompt(String group, String text) {
  private static final String MARK = "---";

  /** The prompts of {@code text}, of which {@code file} is the name for messages. */
  static List<Prompt> parse(Path file, String text) {
    List<Prompt> prompts = new ArrayList<>();
    String group = "";
    StringBuilder prompt = new StringBuilder();
    for (String line : (text + "\n" + MARK).split("\\R")) {
      if (!line.startsWith(MARK)) {
        prompt.append(line).append('\n');
        continue;
      }
      if (!prompt.toString().isBlank()) {
        prompts.add(new Prompt(group, prompt.toString().strip()));
      }
      prompt.setLength(0);
      group = line.substring(MARK.length()).strip();
    }
    if (prompts.isEmpty()) {
      throw new IllegalArgumentException("there is no prompt in " + file);
    }
    return prompts;
  }

  /** The first {@code limit} of each group. */
  static List<Prompt> first(int limit, List<Prompt> prompts) {
    Map<String, Integer> seen = new HashMap<>();
    return prompts.stream()
        .filter(prompt -> seen.merge(prompt.group(), 1, Integer::sum) <= limit)
        .toList();
  }
}
