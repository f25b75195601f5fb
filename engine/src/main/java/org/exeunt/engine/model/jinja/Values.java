// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.jinja;

import java.util.Iterator;
import java.util.List;
import java.util.Map;

/**
 * What a template computes with: {@link #NONE}, {@link Undefined}, {@link Boolean}, {@link Long},
 * {@link Double}, {@link String}, {@link List}, {@link Map} with such keys, {@link Namespace} and
 * {@link Callable}. Nothing else: no method of a Java object can be called.
 */
final class Values {
  /** Python's None. */
  static final Object NONE = new Object() {
    @Override
    public String toString() {
      return "none";
    }
  };

  private static final int MOST_INDENT = 16;

  private Values() {}

  /** What a name stands for that stands for nothing. */
  record Undefined(String name) {
    TemplateException problem(Budget budget) {
      return budget.problem("'" + name + "' is undefined");
    }
  }

  /** Values that assignments within loops change. */
  record Namespace(Map<Object, Object> values) {}

  /** A function, a macro or a method of a value. */
  interface Callable {
    /** @param named arguments by name, in order */
    Object call(List<Object> arguments, Map<String, Object> named) throws TemplateException;
  }

  /** For messages. */
  static String type(Object value) {
    return value instanceof Undefined ? "an undefined value"
        : value == NONE               ? "none"
        : value instanceof Boolean    ? "a boolean"
        : isNumber(value)             ? "a number"
        : value instanceof String     ? "a string"
        : value instanceof List       ? "a list"
        : value instanceof Map        ? "a mapping"
        : value instanceof Namespace
        ? "a namespace"
        : "a function";
  }

  static boolean isNumber(Object value) {
    return value instanceof Long || value instanceof Double;
  }

  static boolean truth(Object value) {
    if (value instanceof Boolean b) {
      return b;
    } else if (value instanceof Long l) {
      return l != 0;
    } else if (value instanceof Double d) {
      return d != 0;
    } else if (value instanceof String s) {
      return !s.isEmpty();
    } else if (value instanceof List<?> l) {
      return !l.isEmpty();
    } else if (value instanceof Map<?, ?> m) {
      return !m.isEmpty();
    }
    return value != NONE && !(value instanceof Undefined);
  }

  /** A number as one that can be compared with others, a boolean among them; null: it is none. */
  private static Double number(Object value) {
    return value instanceof Boolean b ? b ? 1.0 : 0.0
        : value instanceof Long l     ? (double) l
        : value instanceof Double d
        ? d
        : null;
  }

  static boolean equal(Object a, Object b, Budget budget) throws TemplateException {
    budget.enter();
    try {
      if (a instanceof Long x && b instanceof Long y) {
        return x.longValue() == y;
      }
      Double x = number(a);
      Double y = number(b);
      if (x != null && y != null) {
        return x.doubleValue() == y;
      }
      if (a instanceof String s && b instanceof String t) {
        budget.search(s, "");
        return s.equals(t);
      }
      if (a instanceof List<?> l && b instanceof List<?> m) {
        if (l.size() != m.size()) {
          return false;
        }
        for (int i = 0; i < l.size(); i++) {
          if (!equal(l.get(i), m.get(i), budget)) {
            return false;
          }
        }
        return true;
      }
      if (a instanceof Map<?, ?> l && b instanceof Map<?, ?> m) {
        if (l.size() != m.size()) {
          return false;
        }
        for (Map.Entry<?, ?> entry : l.entrySet()) {
          Object other = m.get(entry.getKey());
          if (other == null || !equal(entry.getValue(), other, budget)) {
            return false;
          }
        }
        return true;
      }
      return a == b || a instanceof Undefined && b instanceof Undefined;
    } finally {
      budget.leave();
    }
  }

  static int compare(Object a, Object b, Budget budget) throws TemplateException {
    budget.steps(1);
    if (a instanceof Long x && b instanceof Long y) {
      return Long.compare(x, y);
    }
    Double x = number(a);
    Double y = number(b);
    if (x != null && y != null) {
      return Double.compare(x, y);
    }
    if (a instanceof String s && b instanceof String t) {
      budget.search(s, "");
      return s.compareTo(t);
    }
    throw budget.problem(type(a) + " and " + type(b) + " cannot be compared");
  }

  static boolean contains(Object whole, Object part, Budget budget) throws TemplateException {
    if (whole instanceof String s) {
      if (!(part instanceof String p)) {
        throw budget.problem("a string holds no " + type(part).replaceFirst("^an? ", ""));
      }
      budget.search(s, p);
      return s.contains(p);
    }
    if (whole instanceof Map<?, ?> map) {
      return map.containsKey(key(part, budget));
    }
    for (Object element : elements(whole, budget)) {
      if (equal(element, part, budget)) {
        return true;
      }
    }
    return false;
  }

  /** A value that can be a mapping's key. */
  static Object key(Object value, Budget budget) throws TemplateException {
    if (value instanceof String || value instanceof Boolean || value instanceof Long
        || value instanceof Double || value == NONE) {
      return value;
    }
    throw budget.problem(type(value) + " cannot be a mapping's key");
  }

  /** What a loop over a value sees. */
  static List<Object> elements(Object value, Budget budget) throws TemplateException {
    if (value instanceof List<?> list) {
      return objects(list);
    } else if (value instanceof Map<?, ?> map) {
      budget.characters(map.size());
      return List.copyOf(map.keySet());
    } else if (value instanceof String text) {
      budget.characters(text.length());
      return objects(text.codePoints().mapToObj(Character::toString).toList());
    } else if (value instanceof Undefined) {
      return List.of();
    }
    throw budget.problem(type(value) + " has no elements");
  }

  @SuppressWarnings("unchecked")
  static List<Object> objects(List<?> list) {
    return (List<Object>) list; // which is never changed
  }

  /** A value as a template writes it. */
  static String text(Object value, Budget budget) throws TemplateException {
    if (value instanceof String text) {
      return text;
    } else if (value instanceof Undefined) {
      return "";
    }
    StringBuilder text = new StringBuilder();
    represent(value, text, budget);
    return text.toString();
  }

  private static String number(double value) {
    if (Double.isNaN(value) || Double.isInfinite(value)) {
      return Double.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
    }
    if (value == Math.rint(value) && Math.abs(value) < 1e16) {
      return (long) value + ".0";
    }
    return Double.toString(value)
        .replace("E-", "e-0")
        .replace("E", "e+")
        .replaceFirst("e-0(\\d\\d)", "e-$1");
  }

  /** As Python would show a value within others. */
  private static void represent(Object value, StringBuilder text, Budget budget)
      throws TemplateException {
    budget.enter();
    int before = text.length();
    if (value instanceof String string) {
      char quote = string.contains("'") && !string.contains("\"") ? '"' : '\'';
      text.append(quote);
      for (char c : string.toCharArray()) {
        switch (c) {
          case '\n' -> text.append("\\n");
          case '\t' -> text.append("\\t");
          case '\r' -> text.append("\\r");
          case '\\' -> text.append("\\\\");
          default -> text.append(c == quote ? "\\" : "").append(c);
        }
      }
      text.append(quote);
    } else if (value instanceof Boolean b) {
      text.append(b ? "True" : "False");
    } else if (value == NONE) {
      text.append("None");
    } else if (value instanceof Double d) {
      text.append(number(d));
    } else if (value instanceof List<?> list) {
      text.append('[');
      String separator = "";
      for (Object element : list) {
        text.append(separator);
        represent(element, text, budget);
        separator = ", ";
      }
      text.append(']');
    } else if (value instanceof Map<?, ?> map) {
      text.append('{');
      String separator = "";
      for (Map.Entry<?, ?> entry : map.entrySet()) {
        text.append(separator);
        represent(entry.getKey(), text, budget);
        text.append(": ");
        represent(entry.getValue(), text, budget);
        separator = ", ";
      }
      text.append('}');
    } else if (value instanceof Long) {
      text.append(value);
    } else if (value instanceof Undefined) {
      text.append("Undefined");
    } else {
      throw budget.problem(type(value) + " is no text");
    }
    budget.characters(text.length() - before);
    budget.leave();
  }

  /** A value as JSON; {@code indent} below 0: in one line. */
  static String json(Object value, long indent, Budget budget) throws TemplateException {
    if (indent > MOST_INDENT) {
      throw budget.problem("JSON is indented by " + indent + ", not 0 to " + MOST_INDENT);
    }
    StringBuilder text = new StringBuilder();
    json(value, (int) indent, 0, text, budget);
    return text.toString();
  }

  private static void json(Object value, int indent, int depth, StringBuilder text, Budget budget)
      throws TemplateException {
    budget.enter();
    int before = text.length();
    if (value instanceof String string) {
      quote(string, text);
    } else if (value == NONE) {
      text.append("null");
    } else if (value instanceof Boolean || value instanceof Long) {
      text.append(value);
    } else if (value instanceof Double d) {
      text.append(number(d));
    } else if (value instanceof List<?> list) {
      text.append('[');
      for (Iterator<?> i = list.iterator(); i.hasNext();) {
        begin(indent, depth + 1, text);
        json(i.next(), indent, depth + 1, text, budget);
        text.append(i.hasNext() ? indent < 0 ? ", " : "," : "");
      }
      if (!list.isEmpty()) {
        begin(indent, depth, text);
      }
      text.append(']');
    } else if (value instanceof Map<?, ?> map) {
      text.append('{');
      for (Iterator<? extends Map.Entry<?, ?>> i = map.entrySet().iterator(); i.hasNext();) {
        Map.Entry<?, ?> entry = i.next();
        begin(indent, depth + 1, text);
        quote(text(entry.getKey(), budget), text);
        text.append(": ");
        json(entry.getValue(), indent, depth + 1, text, budget);
        text.append(i.hasNext() ? indent < 0 ? ", " : "," : "");
      }
      if (!map.isEmpty()) {
        begin(indent, depth, text);
      }
      text.append('}');
    } else {
      throw budget.problem(type(value) + " is no JSON");
    }
    budget.characters(text.length() - before);
    budget.leave();
  }

  private static void begin(int indent, int depth, StringBuilder text) {
    if (indent >= 0) {
      text.append('\n').append(" ".repeat(indent * depth));
    }
  }

  private static void quote(String string, StringBuilder text) {
    text.append('"');
    for (char c : string.toCharArray()) {
      switch (c) {
        case '"' -> text.append("\\\"");
        case '\\' -> text.append("\\\\");
        case '\n' -> text.append("\\n");
        case '\r' -> text.append("\\r");
        case '\t' -> text.append("\\t");
        case '\b' -> text.append("\\b");
        case '\f' -> text.append("\\f");
        default -> {
          if (c < ' ') {
            text.append("\\u00").append(c < 16 ? "0" : "").append(Integer.toHexString(c));
          } else {
            text.append(c);
          }
        }
      }
    }
    text.append('"');
  }
}
