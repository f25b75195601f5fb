// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.jinja;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import org.exeunt.engine.model.jinja.Values.Undefined;

/** The methods of strings: those of Python's that change nothing. */
final class Methods {
  private static final Set<String> NAMES = Set.of("strip", "lstrip", "rstrip", "split", "rsplit",
      "splitlines", "startswith", "endswith", "upper", "lower", "capitalize", "title", "replace",
      "find", "count", "join", "isdigit", "isalpha", "isspace", "removeprefix", "removesuffix");

  private final Builtins builtins;
  private final Budget budget;

  Methods(Builtins builtins, Budget budget) {
    this.builtins = builtins;
    this.budget = budget;
  }

  static boolean has(String name) {
    return NAMES.contains(name);
  }

  /** Calls a method, or one of the filters that do what a method of their name does. */
  Object call(String text, String name, List<Object> arguments) throws TemplateException {
    budget.search(text, "");
    return switch (name) {
      case "strip", "lstrip", "rstrip" ->
        builtins.stripped(text,
            arguments.isEmpty() || arguments.get(0) == Values.NONE
                ? null
                : string(arguments, 0, name),
            !name.equals("rstrip"), !name.equals("lstrip"));
      case "split", "rsplit" -> split(text, arguments, name.equals("rsplit"));
      case "splitlines" -> made(new ArrayList<>(text.lines().toList()), text);
      case "startswith" -> begins(text, arguments, true);
      case "endswith" -> begins(text, arguments, false);
      case "upper" -> made(text.toUpperCase(Locale.ROOT));
      case "lower" -> made(text.toLowerCase(Locale.ROOT));
      case "capitalize" -> made(capitalized(text));
      case "title" -> made(title(text));
      case "replace" -> replaced(text, arguments);
      case "find" -> {
        String part = string(arguments, 0, name);
        budget.search(text, part);
        yield(long) text.indexOf(part);
      }
      case "count" ->
        (long) split(text, string(arguments, 0, name), Long.MAX_VALUE, false).size() - 1;
      case "join" -> builtins.filter("join", argument(arguments, 0, name), List.of(text), Map.of());
      case "isdigit" -> !text.isEmpty() && text.chars().allMatch(Character::isDigit);
      case "isalpha" -> !text.isEmpty() && text.chars().allMatch(Character::isLetter);
      case "isspace" -> !text.isEmpty() && text.isBlank();
      case "removeprefix" -> {
        String part = string(arguments, 0, name);
        yield made(text.startsWith(part) ? text.substring(part.length()) : text);
      }
      default -> {
        String part = string(arguments, 0, name);
        yield made(text.endsWith(part) ? text.substring(0, text.length() - part.length()) : text);
      }
    };
  }

  private Object argument(List<Object> arguments, int index, String name) throws TemplateException {
    if (index >= arguments.size()) {
      throw budget.problem(name + " needs an argument more than " + arguments.size());
    }
    return arguments.get(index);
  }

  private String string(List<Object> arguments, int index, String name) throws TemplateException {
    Object value = argument(arguments, index, name);
    if (value instanceof String text) {
      return text;
    } else if (value instanceof Undefined undefined) {
      throw undefined.problem(budget);
    }
    throw budget.problem(name + " needs a string, not " + Values.type(value));
  }

  private String made(String text) throws TemplateException {
    budget.characters(text.length());
    return text;
  }

  private List<Object> made(List<Object> parts, String of) throws TemplateException {
    budget.characters((long) parts.size() + of.length());
    return parts;
  }

  private boolean begins(String text, List<Object> arguments, boolean atBegin)
      throws TemplateException {
    Object given = argument(arguments, 0, "startswith");
    for (Object one : given instanceof List<?> several ? several : List.of(given)) {
      String part = string(List.of(one), 0, atBegin ? "startswith" : "endswith");
      budget.steps(1);
      if (atBegin ? text.startsWith(part) : text.endsWith(part)) {
        return true;
      }
    }
    return false;
  }

  private static String capitalized(String text) {
    return text.isEmpty()
        ? text
        : text.substring(0, 1).toUpperCase(Locale.ROOT)
            + text.substring(1).toLowerCase(Locale.ROOT);
  }

  private static String title(String text) {
    StringBuilder title = new StringBuilder();
    boolean first = true;
    for (char c : text.toCharArray()) {
      title.append(first ? Character.toUpperCase(c) : Character.toLowerCase(c));
      first = !Character.isLetter(c);
    }
    return title.toString();
  }

  private String replaced(String text, List<Object> arguments) throws TemplateException {
    String what = string(arguments, 0, "replace");
    String by = string(arguments, 1, "replace");
    long most = arguments.size() > 2 && arguments.get(2) instanceof Long count && count >= 0
        ? count
        : Long.MAX_VALUE;
    if (what.isEmpty()) {
      throw budget.problem("replace has nothing to look for");
    }
    StringBuilder out = new StringBuilder();
    String between = "";
    for (Object part : split(text, what, most, false)) {
      budget.characters((long) between.length() + ((String) part).length());
      out.append(between).append(part);
      between = by;
    }
    return out.toString();
  }

  private List<Object> split(String text, List<Object> arguments, boolean fromEnd)
      throws TemplateException {
    long most = arguments.size() > 1 && arguments.get(1) instanceof Long count && count >= 0
        ? count
        : Long.MAX_VALUE;
    if (!arguments.isEmpty() && arguments.get(0) != Values.NONE) {
      return split(text, string(arguments, 0, "split"), most, fromEnd);
    }
    List<Object> words = new ArrayList<>();
    int begin = -1;
    for (int i = 0; i <= text.length(); i++) {
      boolean blank = i == text.length() || Character.isWhitespace(text.charAt(i));
      if (!blank && begin < 0) {
        begin = i;
        if (words.size() == most) {
          words.add(text.substring(i));
          break;
        }
      } else if (blank && begin >= 0) {
        words.add(text.substring(begin, i));
        begin = -1;
      }
    }
    return made(words, text);
  }

  private List<Object> split(String text, String separator, long most, boolean fromEnd)
      throws TemplateException {
    if (separator.isEmpty()) {
      throw budget.problem("a string is split at nothing");
    }
    budget.search(text, separator);
    List<Object> parts = new ArrayList<>();
    int begin = 0;
    int end = text.length();
    while (parts.size() < most) {
      int found = fromEnd
          ? text.lastIndexOf(separator, end - separator.length())
          : text.indexOf(separator, begin);
      if (found < 0 || fromEnd && end < separator.length()) {
        break;
      }
      budget.steps(1);
      if (fromEnd) {
        parts.add(text.substring(found + separator.length(), end));
        end = found;
      } else {
        parts.add(text.substring(begin, found));
        begin = found + separator.length();
      }
    }
    parts.add(text.substring(begin, end));
    if (fromEnd) {
      Collections.reverse(parts);
    }
    return made(parts, text);
  }
}
