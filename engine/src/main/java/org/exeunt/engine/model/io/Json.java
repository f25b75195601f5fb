// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.io;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A strict JSON parser for small headers. Objects become {@code Map}, arrays {@code List}, strings
 * {@code String}, whole numbers {@code Long}, others {@code Double}, and true, false and null
 * themselves.
 */
public final class Json {
  /** Enough for any real header, and shallow enough that nesting cannot exhaust the stack. */
  private static final int MAX_DEPTH = 64;

  private final String text;
  private int at;

  private Json(String text) {
    this.text = text;
  }

  /**
   * Parses the one value that {@code text} holds.
   *
   * @throws IllegalArgumentException if it holds anything else; the message says where
   */
  public static Object parse(String text) {
    Json parser = new Json(text);
    Object value = parser.value(0);
    parser.skipBlanks();
    if (parser.at < text.length()) {
      throw parser.unexpected("the end");
    }
    return value;
  }

  private Object value(int depth) {
    if (depth > MAX_DEPTH) {
      throw new IllegalArgumentException(
          "more than " + MAX_DEPTH + " levels of nesting at character " + at);
    }
    skipBlanks();
    switch (peek()) {
      case '{':
        return object(depth);
      case '[':
        return array(depth);
      case '"':
        return string();
      case 't':
        return literal("true", true);
      case 'f':
        return literal("false", false);
      case 'n':
        return literal("null", null);
      default:
        return number();
    }
  }

  private Map<String, Object> object(int depth) {
    Map<String, Object> members = new LinkedHashMap<>();
    expect('{');
    if (accept('}')) {
      return members;
    }
    do {
      skipBlanks();
      int start = at;
      String key = string();
      expect(':');
      Object member = value(depth + 1);
      if (members.containsKey(key)) {
        throw new IllegalArgumentException("member \"" + key + "\" twice at character " + start);
      }
      members.put(key, member);
    } while (accept(','));
    expect('}');
    return members;
  }

  private List<Object> array(int depth) {
    List<Object> elements = new ArrayList<>();
    expect('[');
    if (accept(']')) {
      return elements;
    }
    do {
      elements.add(value(depth + 1));
    } while (accept(','));
    expect(']');
    return elements;
  }

  private String string() {
    expect('"');
    StringBuilder result = new StringBuilder();
    while (true) {
      char c = next("a closing quote");
      if (c == '"') {
        return result.toString();
      } else if (c < 0x20) {
        at--;
        throw unexpected("no bare control character");
      }
      result.append(c == '\\' ? escape() : c);
    }
  }

  private char escape() {
    char c = next("an escape");
    switch (c) {
      case '"':
      case '\\':
      case '/':
        return c;
      case 'b':
        return '\b';
      case 'f':
        return '\f';
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'u':
        int unit = 0;
        for (int i = 0; i < 4; i++) {
          char sign = next("a hexadecimal digit"); // other scripts have digits, too
          int digit = sign < 0x80 ? Character.digit(sign, 16) : -1;
          if (digit < 0) {
            at--;
            throw unexpected("a hexadecimal digit");
          }
          unit = unit << 4 | digit;
        }
        return (char) unit;
      default:
        at--;
        throw unexpected("an escape");
    }
  }

  private Object number() {
    int start = at;
    while (at < text.length() && "+-.eE0123456789".indexOf(text.charAt(at)) >= 0) {
      at++;
    }
    String digits = text.substring(start, at);
    if (digits.matches("-?(0|[1-9][0-9]{0,17})")) {
      return Long.valueOf(digits);
    }
    if (digits.length() <= 64
        && digits.matches("-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)?")) {
      return Double.valueOf(digits);
    }
    at = start;
    throw unexpected("a value");
  }

  private Object literal(String word, Object value) {
    if (!text.startsWith(word, at)) {
      throw unexpected(word);
    }
    at += word.length();
    return value;
  }

  private void skipBlanks() {
    while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
      at++;
    }
  }

  private char peek() {
    return at < text.length() ? text.charAt(at) : '\0';
  }

  private char next(String wanted) {
    if (at >= text.length()) {
      throw unexpected(wanted);
    }
    return text.charAt(at++);
  }

  private boolean accept(char c) {
    skipBlanks();
    if (at < text.length() && text.charAt(at) == c) {
      at++;
      return true;
    }
    return false;
  }

  private void expect(char c) {
    if (!accept(c)) {
      throw unexpected("'" + c + "'");
    }
  }

  private IllegalArgumentException unexpected(String wanted) {
    String found =
        at < text.length() ? String.format("character U+%04X", (int) text.charAt(at)) : "the end";
    return new IllegalArgumentException(
        found + " where " + wanted + " was expected, at character " + at);
  }
}
