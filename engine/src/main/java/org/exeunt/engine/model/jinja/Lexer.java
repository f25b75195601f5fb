// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.jinja;

import java.util.ArrayList;
import java.util.List;

/**
 * Cuts a template into tokens. White space around tags goes as chat templates expect it: the first
 * line break after a block is dropped, and the blanks in front of one at the beginning of a line
 * (trim_blocks and lstrip_blocks).
 */
final class Lexer {
  /** What a token is. */
  enum Type {
    TEXT("text"),
    PRINT("'{{'"),
    PRINT_END("'}}'"),
    BLOCK("'{%'"),
    BLOCK_END("'%}'"),
    NAME("a name"),
    STRING("a string"),
    INTEGER("an integer"),
    FLOAT("a number"),
    OPERATOR("an operator"),
    END("the end of the template");

    final String text;

    Type(String text) {
      this.text = text;
    }
  }

  record Token(Type type, String text, int line) {
    boolean is(Type which, String what) {
      return type == which && text.equals(what);
    }

    /** For messages. */
    String shown() {
      return type == Type.END || type == Type.TEXT ? type.text : "'" + text + "'";
    }
  }

  private static final String[] OPERATORS = {"**", "//", "==", "!=", "<=", ">="};
  private static final String SINGLE = "+-*/%~[](){}<>=.:|,";

  private final String source;
  private final List<Token> tokens = new ArrayList<>();
  private int at;
  private int line = 1;
  private boolean lineStarting = true; // nothing but what a tag has taken stands before in the line

  private Lexer(String source) {
    this.source = source;
  }

  static List<Token> tokens(String template) throws TemplateException {
    // One line break at the end is the file's, not the template's.
    String text = template.replace("\r\n", "\n").replace('\r', '\n');
    Lexer lexer = new Lexer(text.endsWith("\n") ? text.substring(0, text.length() - 1) : text);
    lexer.run();
    return lexer.tokens;
  }

  private TemplateException problem(String what) {
    return new TemplateException(line, what);
  }

  private void run() throws TemplateException {
    while (at < source.length()) {
      int tag = source.indexOf('{', at);
      while (tag >= 0 && tag + 1 < source.length() && "{%#".indexOf(source.charAt(tag + 1)) < 0) {
        tag = source.indexOf('{', tag + 1);
      }
      if (tag < 0 || tag + 1 >= source.length()) {
        text(source.substring(at));
        at = source.length();
        break;
      }
      char kind = source.charAt(tag + 1);
      char sign = tag + 2 < source.length() ? source.charAt(tag + 2) : ' ';
      text(before(source.substring(at, tag), kind, sign));
      // Lines are counted as what was left out has them too.
      line = lineOf(tag);
      at = tag + 2 + (sign == '-' || sign == '+' && kind != '{' ? 1 : 0);
      if (kind == '#') {
        comment();
      } else if (kind != '%' || !raw()) {
        tag(kind == '%');
      }
    }
    tokens.add(new Token(Type.END, "", line));
  }

  private int counted; // up to where lines are counted
  private int lines = 1;

  private int lineOf(int place) {
    for (; counted < place; counted++) {
      lines += source.charAt(counted) == '\n' ? 1 : 0;
    }
    return lines;
  }

  private void text(String text) {
    if (!text.isEmpty()) {
      tokens.add(new Token(Type.TEXT, text, line));
    }
  }

  /** What is left of a text in front of a tag. */
  private String before(String text, char kind, char sign) {
    if (sign == '-') {
      return text.stripTrailing();
    }
    if (kind == '{' || sign == '+') {
      return text;
    }
    int begin = text.lastIndexOf('\n') + 1;
    boolean blank = (begin > 0 || lineStarting) && text.substring(begin).isBlank();
    return blank ? text.substring(0, begin) : text;
  }

  /** Goes on after a tag that ends at {@code end} with this sign in front of it. */
  private void after(int end, char sign, boolean block) {
    at = end;
    if (sign == '-') {
      while (at < source.length() && Character.isWhitespace(source.charAt(at))) {
        at++;
      }
    } else if (block && sign != '+' && at < source.length() && source.charAt(at) == '\n') {
      at++;
    }
    lineStarting = at > 0 && source.charAt(at - 1) == '\n';
    line = lineOf(at);
  }

  private void comment() throws TemplateException {
    int end = source.indexOf("#}", at);
    if (end < 0) {
      throw problem("a comment has no end");
    }
    after(end + 2, end > at ? source.charAt(end - 1) : ' ', true);
  }

  /** Takes a block whose text is no template, if one is here. */
  private boolean raw() throws TemplateException {
    int name = blanks(at);
    if (!source.startsWith("raw", name)) {
      return false;
    }
    int end = blanks(name + 3);
    char sign = end < source.length() ? source.charAt(end) : ' ';
    end += sign == '-' || sign == '+' ? 1 : 0;
    if (!source.startsWith("%}", end)) {
      return false;
    }
    after(end + 2, sign, true);
    for (int tag = source.indexOf("{%", at); tag >= 0; tag = source.indexOf("{%", tag + 2)) {
      char first = tag + 2 < source.length() ? source.charAt(tag + 2) : ' ';
      int word = blanks(tag + 2 + (first == '-' || first == '+' ? 1 : 0));
      if (!source.startsWith("endraw", word)) {
        continue;
      }
      int close = blanks(word + 6);
      char last = close < source.length() ? source.charAt(close) : ' ';
      close += last == '-' || last == '+' ? 1 : 0;
      if (source.startsWith("%}", close)) {
        text(before(source.substring(at, tag), '%', first));
        after(close + 2, last, true);
        return true;
      }
    }
    throw problem("raw has no endraw");
  }

  private int blanks(int from) {
    int place = from;
    while (place < source.length() && Character.isWhitespace(source.charAt(place))) {
      place++;
    }
    return place;
  }

  /** The tokens of a tag, up to its end. */
  private void tag(boolean block) throws TemplateException {
    tokens.add(new Token(block ? Type.BLOCK : Type.PRINT, block ? "{%" : "{{", line));
    String end = block ? "%}" : "}}";
    int open = 0; // brackets, within which a brace closes nothing else
    while (true) {
      at = blanks(at);
      line = lineOf(at);
      if (at >= source.length()) {
        throw problem("a tag has no end");
      }
      char c = source.charAt(at);
      boolean signed = c == '-' || c == '+' && block;
      if (open == 0 && source.startsWith(end, at + (signed ? 1 : 0))) {
        tokens.add(new Token(block ? Type.BLOCK_END : Type.PRINT_END, end, line));
        after(at + (signed ? 3 : 2), signed ? c : ' ', block);
        return;
      }
      if (Character.isLetter(c) || c == '_') {
        word();
      } else if (c >= '0' && c <= '9') {
        number();
      } else if (c == '\'' || c == '"') {
        string(c);
      } else {
        String operator = operator(c);
        open += "([{".contains(operator) ? 1 : ")]}".contains(operator) ? -1 : 0;
        if (open < 0) {
          throw problem("'" + operator + "' closes nothing");
        }
        tokens.add(new Token(Type.OPERATOR, operator, line));
        at += operator.length();
      }
    }
  }

  private void word() {
    int begin = at;
    while (at < source.length()
        && (Character.isLetterOrDigit(source.charAt(at)) || source.charAt(at) == '_')) {
      at++;
    }
    tokens.add(new Token(Type.NAME, source.substring(begin, at), line));
  }

  private void number() {
    int begin = at;
    digits();
    boolean whole = true;
    if (at + 1 < source.length() && source.charAt(at) == '.' && isDigit(at + 1)) {
      whole = false;
      at++;
      digits();
    }
    if (at < source.length() && (source.charAt(at) | 0x20) == 'e') {
      int sign = at + 1 < source.length() && "+-".indexOf(source.charAt(at + 1)) >= 0 ? 1 : 0;
      if (isDigit(at + 1 + sign)) {
        whole = false;
        at += 1 + sign;
        digits();
      }
    }
    String digits = source.substring(begin, at).replace("_", "");
    tokens.add(new Token(whole ? Type.INTEGER : Type.FLOAT, digits, line));
  }

  private boolean isDigit(int place) {
    return place < source.length() && source.charAt(place) >= '0' && source.charAt(place) <= '9';
  }

  private void digits() {
    while (isDigit(at) || at < source.length() && source.charAt(at) == '_' && isDigit(at + 1)) {
      at++;
    }
  }

  private void string(char quote) throws TemplateException {
    StringBuilder text = new StringBuilder();
    for (at++; at < source.length(); at++) {
      char c = source.charAt(at);
      if (c == quote) {
        at++;
        tokens.add(new Token(Type.STRING, text.toString(), line));
        return;
      }
      if (c == '\\' && at + 1 < source.length()) {
        at++;
        escape(text);
      } else {
        text.append(c);
      }
    }
    throw problem("a string has no end");
  }

  private void escape(StringBuilder text) throws TemplateException {
    char c = source.charAt(at);
    switch (c) {
      case 'n' -> text.append('\n');
      case 't' -> text.append('\t');
      case 'r' -> text.append('\r');
      case 'b' -> text.append('\b');
      case 'f' -> text.append('\f');
      case '\n' -> {
        // The line goes on.
      }
      case '\\', '\'', '"' -> text.append(c);
      case 'x' -> code(text, 2);
      case 'u' -> code(text, 4);
      case 'U' -> code(text, 8);
      default -> text.append('\\').append(c);
    }
  }

  private void code(StringBuilder text, int digits) throws TemplateException {
    int value = 0;
    for (int i = 1; i <= digits; i++) {
      int digit = at + i < source.length() ? Character.digit(source.charAt(at + i), 16) : -1;
      value = digit < 0 || value > Character.MAX_CODE_POINT ? -1 : value * 16 + digit;
      if (value < 0) {
        throw problem("a code in a string is not " + digits + " hexadecimal digits");
      }
    }
    if (value > Character.MAX_CODE_POINT) {
      throw problem("a code in a string is no character's");
    }
    text.appendCodePoint(value);
    at += digits;
  }

  private String operator(char c) throws TemplateException {
    for (String two : OPERATORS) {
      if (source.startsWith(two, at)) {
        return two;
      }
    }
    if (SINGLE.indexOf(c) < 0) {
      throw problem("'" + c + "' has no meaning in a tag");
    }
    return String.valueOf(c);
  }
}
