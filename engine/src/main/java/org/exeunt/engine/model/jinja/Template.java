// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.jinja;

import java.time.LocalDateTime;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A template in the part of Jinja that chat templates are written in: expressions with filters and
 * tests, {@code for}, {@code if}, {@code set}, {@code macro}, {@code raw}, {@code break} and
 * {@code continue}, namespaces, {@code raise_exception} and {@code strftime_now}.
 *
 * <p>Templates come with model files, so they are not trusted: they compute with texts, numbers,
 * lists and mappings alone, reach neither files nor Java's objects, and have a {@link Budget}.
 *
 * <p>Immutable and safe to share between threads.
 */
public final class Template {
  /** Characters of a template; the longest that models have has a tenth of it. */
  private static final int MOST_CHARACTERS = 1 << 19;

  private static final long STEPS = 500_000;
  private static final long CHARACTERS = 1 << 22;
  /** Characters put together for each that is given. */
  private static final long CHARACTERS_EACH = 64;

  private final List<Node> body;

  private Template(List<Node> body) {
    this.body = body;
  }

  /**
   * Reads a template.
   *
   * @throws TemplateException if it is none, in a sentence with the number of the line
   */
  public static Template parse(String text) throws TemplateException {
    if (text.length() > MOST_CHARACTERS) {
      throw new TemplateException(
          1, "the template has " + text.length() + " characters, more than " + MOST_CHARACTERS);
    }
    return new Template(Parser.parse(text));
  }

  /**
   * Fills it in.
   *
   * @param variables by name: {@link String}, {@link Boolean}, {@link Integer}, {@link Long},
   *     {@link Double}, and lists and maps of these
   * @param now what {@code strftime_now} shows
   * @throws TemplateException if it does what makes no sense, calls {@code raise_exception}, or
   *     takes more steps or characters than any conversation needs
   */
  public String render(Map<String, ?> variables, LocalDateTime now) throws TemplateException {
    long[] given = new long[1];
    Map<String, Object> values = new HashMap<>();
    for (Map.Entry<String, ?> entry : variables.entrySet()) {
      values.put(entry.getKey(), value(entry.getValue(), given));
    }
    Budget budget = new Budget(STEPS + given[0], CHARACTERS + CHARACTERS_EACH * given[0]);
    return new Interpreter(budget, new Builtins(budget, now), values).run(body);
  }

  private static Object value(Object given, long... characters) {
    if (given == null) {
      return Values.NONE;
    } else if (given instanceof Integer i) {
      return i.longValue();
    } else if (given instanceof List<?> list) {
      return list.stream().map(element -> value(element, characters)).toList();
    } else if (given instanceof Map<?, ?> map) {
      Map<Object, Object> copy = new LinkedHashMap<>();
      map.forEach((key, element) -> copy.put(key, value(element, characters)));
      return copy;
    } else if (given instanceof String text) {
      characters[0] += text.length();
    }
    return given;
  }
}
