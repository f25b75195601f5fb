// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.jinja;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.exeunt.engine.model.jinja.Lexer.Token;
import org.exeunt.engine.model.jinja.Lexer.Type;
import org.exeunt.engine.model.jinja.Node.Kind;

/** Makes a tree of a template's tokens. */
final class Parser {
  private static final List<String> COMPARISONS = List.of("==", "!=", "<", "<=", ">", ">=");
  /** What a test's only argument may not be, where it has no brackets. */
  private static final List<String> BEHIND_TESTS = List.of("else", "or", "and", "is", "if", "in");

  private final List<Token> tokens;
  private int at;
  private int depth;
  private int loops; // around

  private Parser(List<Token> tokens) {
    this.tokens = tokens;
  }

  static List<Node> parse(String template) throws TemplateException {
    Parser parser = new Parser(Lexer.tokens(template));
    List<Node> body = parser.statements();
    if (parser.peek().type() != Type.END) {
      throw parser.unexpected("the end of the template");
    }
    return body;
  }

  // ---- tokens

  private Token peek() {
    return tokens.get(at);
  }

  private Token next() {
    return tokens.get(at++);
  }

  private boolean sees(String operator) {
    return peek().is(Type.OPERATOR, operator);
  }

  private boolean seesName(String name) {
    return peek().is(Type.NAME, name);
  }

  private boolean takes(String operator) {
    boolean seen = sees(operator);
    at += seen ? 1 : 0;
    return seen;
  }

  private boolean takesName(String name) {
    boolean seen = seesName(name);
    at += seen ? 1 : 0;
    return seen;
  }

  private void expect(String operator) throws TemplateException {
    if (!takes(operator)) {
      throw unexpected("'" + operator + "'");
    }
  }

  private Token expect(Type type) throws TemplateException {
    if (peek().type() != type) {
      throw unexpected(type.text);
    }
    return next();
  }

  private TemplateException unexpected(String wanted) {
    return new TemplateException(
        peek().line(), peek().shown() + " stands where " + wanted + " is expected");
  }

  private void enter() throws TemplateException {
    // A tree that is not deeper than what may run it.
    if (++depth > Budget.MOST_DEPTH) {
      throw new TemplateException(
          peek().line(), "the template is nested more than " + Budget.MOST_DEPTH + " levels deep");
    }
  }

  // ---- statements

  /** Statements up to a block that none of them is, of which the beginning is not taken. */
  private List<Node> statements() throws TemplateException {
    enter();
    List<Node> body = new ArrayList<>();
    while (true) {
      Token token = peek();
      if (token.type() == Type.TEXT) {
        body.add(Node.of(Kind.TEXT, token.line(), next().text(), List.of()));
      } else if (token.type() == Type.PRINT) {
        at++;
        body.add(Node.of(Kind.PRINT, token.line(), null, List.of(tuple())));
        expect(Type.PRINT_END);
      } else if (token.type() == Type.BLOCK && !endsBody(tokens.get(at + 1).text())) {
        at++;
        body.add(block(token.line()));
      } else {
        depth--;
        return body;
      }
    }
  }

  private static boolean endsBody(String name) {
    return name.startsWith("end") || name.equals("else") || name.equals("elif");
  }

  /** Takes the block that ends a body, which must have this name. */
  private void end(String name) throws TemplateException {
    expect(Type.BLOCK);
    if (!takesName(name)) {
      throw unexpected("'" + name + "'");
    }
    expect(Type.BLOCK_END);
  }

  private boolean takesBlock(String name) {
    boolean seen = peek().type() == Type.BLOCK && tokens.get(at + 1).is(Type.NAME, name);
    at += seen ? 2 : 0;
    return seen;
  }

  private Node block(int line) throws TemplateException {
    Token name = expect(Type.NAME);
    switch (name.text()) {
      case "if":
        return condition(line);
      case "for":
        return loop(line);
      case "set":
        return set(line);
      case "macro":
        return macro(line);
      case "generation": // what is trained on, elsewhere
        expect(Type.BLOCK_END);
        List<Node> body = statements();
        end("endgeneration");
        return new Node(Kind.BODY, line, null, List.of(), List.of(), body, List.of());
      case "break":
      case "continue":
        if (loops == 0) {
          throw new TemplateException(line, name.text() + " stands in no loop");
        }
        expect(Type.BLOCK_END);
        return Node.of(
            name.text().equals("break") ? Kind.BREAK : Kind.CONTINUE, line, null, List.of());
      case "include":
      case "import":
      case "from":
      case "extends":
        throw new TemplateException(
            line, "'" + name.text() + "' reads a file, which a template in a model may not");
      default:
        throw new TemplateException(line, "'" + name.text() + "' is no block that is known here");
    }
  }

  private Node condition(int line) throws TemplateException {
    enter();
    Node test = expression();
    expect(Type.BLOCK_END);
    List<Node> body = statements();
    List<Node> other = List.of();
    if (takesBlock("elif")) {
      other = List.of(condition(peek().line()));
    } else {
      if (takesBlock("else")) {
        expect(Type.BLOCK_END);
        other = statements();
      }
      end("endif");
    }
    depth--;
    return new Node(Kind.IF, line, null, List.of(test), List.of(), body, other);
  }

  private List<String> targets() throws TemplateException {
    List<String> names = new ArrayList<>();
    boolean brackets = takes("(");
    do {
      names.add(expect(Type.NAME).text());
    } while (takes(","));
    if (brackets) {
      expect(")");
    }
    return names;
  }

  private Node loop(int line) throws TemplateException {
    List<String> names = targets();
    if (!takesName("in")) {
      throw unexpected("'in'");
    }
    Node over = orExpression(); // an if after it says which elements
    Node which = takesName("if") ? expression() : null;
    if (seesName("recursive")) {
      throw new TemplateException(line, "a recursive loop is not known here");
    }
    expect(Type.BLOCK_END);
    loops++;
    List<Node> body = statements();
    loops--;
    List<Node> other = List.of();
    if (takesBlock("else")) {
      expect(Type.BLOCK_END);
      other = statements();
    }
    end("endfor");
    return new Node(Kind.FOR, line, null, Arrays.asList(over, which), names, body, other);
  }

  private Node set(int line) throws TemplateException {
    List<String> names = targets();
    String attribute = null;
    if (names.size() == 1 && takes(".")) {
      attribute = expect(Type.NAME).text();
    }
    if (takes("=")) {
      Node value = tuple();
      expect(Type.BLOCK_END);
      return new Node(Kind.SET, line, attribute, List.of(value), names, List.of(), List.of());
    }
    List<Node> filters = new ArrayList<>();
    Node filtered = Node.of(Kind.NAME, line, "", List.of());
    while (sees("|")) {
      at++;
      filtered = filter(filtered);
    }
    filters.add(filtered);
    expect(Type.BLOCK_END);
    List<Node> body = statements();
    end("endset");
    if (names.size() > 1 || attribute != null) {
      throw new TemplateException(line, "the text of a block is set to one name");
    }
    return new Node(Kind.SET_BLOCK, line, null, filters, names, body, List.of());
  }

  private Node macro(int line) throws TemplateException {
    String name = expect(Type.NAME).text();
    List<String> names = new ArrayList<>();
    List<Node> defaults = new ArrayList<>();
    expect("(");
    while (!takes(")")) {
      names.add(expect(Type.NAME).text());
      defaults.add(takes("=") ? expression() : null);
      if (!sees(")")) {
        expect(",");
      }
    }
    expect(Type.BLOCK_END);
    int around = loops;
    loops = 0;
    List<Node> body = statements();
    loops = around;
    end("endmacro");
    return new Node(Kind.MACRO, line, name, defaults, names, body, List.of());
  }

  // ---- expressions

  /** An expression, or several with commas between them. */
  private Node tuple() throws TemplateException {
    int line = peek().line();
    Node first = expression();
    if (!sees(",")) {
      return first;
    }
    List<Node> parts = new ArrayList<>(List.of(first));
    while (takes(",") && !ends()) {
      parts.add(expression());
    }
    return Node.of(Kind.TUPLE, line, null, parts);
  }

  private boolean ends() {
    return sees(")") || peek().type() == Type.BLOCK_END || peek().type() == Type.PRINT_END;
  }

  private Node expression() throws TemplateException {
    enter();
    Node value = orExpression();
    while (seesName("if")) {
      int line = next().line();
      Node test = orExpression();
      Node other = takesName("else") ? expression() : null;
      value = Node.of(Kind.CHOICE, line, null, Arrays.asList(test, value, other));
    }
    depth--;
    return value;
  }

  private Node orExpression() throws TemplateException {
    Node left = andExpression();
    while (seesName("or")) {
      int line = next().line();
      left = Node.of(Kind.OR, line, null, List.of(left, andExpression()));
    }
    return left;
  }

  private Node andExpression() throws TemplateException {
    Node left = notExpression();
    while (seesName("and")) {
      int line = next().line();
      left = Node.of(Kind.AND, line, null, List.of(left, notExpression()));
    }
    return left;
  }

  private Node notExpression() throws TemplateException {
    if (!seesName("not")) {
      return comparison();
    }
    enter();
    int line = next().line();
    Node negated = Node.of(Kind.NOT, line, null, List.of(notExpression()));
    depth--;
    return negated;
  }

  /** One value, or several of which neighbours are compared. */
  private Node comparison() throws TemplateException {
    int line = peek().line();
    List<Node> parts = new ArrayList<>(List.of(sum()));
    List<String> how = new ArrayList<>();
    while (true) {
      if (peek().type() == Type.OPERATOR && COMPARISONS.contains(peek().text())) {
        how.add(next().text());
      } else if (takesName("in")) {
        how.add("in");
      } else if (seesName("not") && tokens.get(at + 1).is(Type.NAME, "in")) {
        at += 2;
        how.add("not in");
      } else {
        break;
      }
      parts.add(sum());
    }
    return how.isEmpty()
        ? parts.get(0)
        : new Node(Kind.COMPARE, line, null, parts, how, List.of(), List.of());
  }

  private Node sum() throws TemplateException {
    Node left = concatenation();
    while (sees("+") || sees("-")) {
      Token operator = next();
      left = Node.of(Kind.BINARY, operator.line(), operator.text(), List.of(left, concatenation()));
    }
    return left;
  }

  private Node concatenation() throws TemplateException {
    Node left = product();
    while (sees("~")) {
      Token operator = next();
      left = Node.of(Kind.BINARY, operator.line(), operator.text(), List.of(left, product()));
    }
    return left;
  }

  private Node product() throws TemplateException {
    Node left = power();
    while (sees("*") || sees("/") || sees("//") || sees("%")) {
      Token operator = next();
      left = Node.of(Kind.BINARY, operator.line(), operator.text(), List.of(left, power()));
    }
    return left;
  }

  private Node power() throws TemplateException {
    Node left = unary(true);
    while (sees("**")) {
      Token operator = next();
      left = Node.of(Kind.BINARY, operator.line(), operator.text(), List.of(left, unary(true)));
    }
    return left;
  }

  private Node unary(boolean filtered) throws TemplateException {
    enter();
    Node value;
    int line = peek().line();
    if (takes("-")) {
      value = Node.of(Kind.NEGATIVE, line, null, List.of(unary(false)));
    } else if (takes("+")) {
      value = unary(false);
    } else {
      value = postfix(primary());
    }
    depth--;
    return filtered ? filters(value) : value;
  }

  private Node primary() throws TemplateException {
    Token token = peek();
    int line = token.line();
    switch (token.type()) {
      case NAME:
        at++;
        return named(token);
      case STRING:
        StringBuilder text = new StringBuilder();
        while (peek().type() == Type.STRING) {
          text.append(next().text());
        }
        return Node.of(Kind.CONSTANT, line, text.toString(), List.of());
      case INTEGER:
        at++;
        try {
          return Node.of(Kind.CONSTANT, line, Long.valueOf(token.text()), List.of());
        } catch (NumberFormatException e) {
          throw new TemplateException(line, "the integer " + token.text() + " is too large");
        }
      case FLOAT:
        at++;
        return Node.of(Kind.CONSTANT, line, Double.valueOf(token.text()), List.of());
      default:
        break;
    }
    if (takes("(")) {
      Node inner = sees(")") ? Node.of(Kind.TUPLE, line, null, List.of()) : tuple();
      expect(")");
      return inner;
    }
    if (takes("[")) {
      return Node.of(Kind.LIST, line, null, list("]"));
    }
    if (takes("{")) {
      return dict(line);
    }
    throw unexpected("a value");
  }

  private static Node named(Token token) {
    Object constant = switch (token.text()) {
      case "true", "True" -> Boolean.TRUE;
      case "false", "False" -> Boolean.FALSE;
      case "none", "None" -> Values.NONE;
      default -> null;
    };
    return constant == null
        ? Node.of(Kind.NAME, token.line(), token.text(), List.of())
        : Node.of(Kind.CONSTANT, token.line(), constant, List.of());
  }

  private List<Node> list(String end) throws TemplateException {
    List<Node> parts = new ArrayList<>();
    while (!takes(end)) {
      parts.add(expression());
      if (!sees(end)) {
        expect(",");
      }
    }
    return parts;
  }

  private Node dict(int line) throws TemplateException {
    List<Node> parts = new ArrayList<>();
    while (!takes("}")) {
      parts.add(expression());
      expect(":");
      parts.add(expression());
      if (!sees("}")) {
        expect(",");
      }
    }
    return Node.of(Kind.DICT, line, null, parts);
  }

  private Node postfix(Node value) throws TemplateException {
    Node result = value;
    for (int length = 0;; length++) {
      int line = peek().line();
      if (takes(".")) {
        Token name = next();
        if (name.type() == Type.INTEGER) {
          result = Node.of(Kind.ITEM, line, null,
              List.of(result, Node.of(Kind.CONSTANT, line, Long.valueOf(name.text()), List.of())));
        } else if (name.type() == Type.NAME) {
          result = Node.of(Kind.ATTRIBUTE, line, name.text(), List.of(result));
        } else {
          at--;
          throw unexpected("a name");
        }
      } else if (takes("[")) {
        result = subscript(result, line);
      } else if (takes("(")) {
        result = call(Kind.CALL, line, null, result);
      } else {
        return result;
      }
      requireShort(length);
    }
  }

  /** A chain is a tree as deep as it is long. */
  private void requireShort(int length) throws TemplateException {
    if (length > Budget.MOST_DEPTH / 2) {
      throw new TemplateException(peek().line(),
          "an expression has more than " + Budget.MOST_DEPTH / 2 + " parts in a chain");
    }
  }

  private Node subscript(Node value, int line) throws TemplateException {
    Node from = sees(":") ? null : expression();
    if (!sees(":")) {
      expect("]");
      return Node.of(Kind.ITEM, line, null, List.of(value, from));
    }
    at++;
    Node to = sees(":") || sees("]") ? null : expression();
    Node step = takes(":") && !sees("]") ? expression() : null;
    expect("]");
    return Node.of(Kind.SLICE, line, null, Arrays.asList(value, from, to, step));
  }

  /** A call's arguments, after the bracket that opens; {@code first} is what comes before them. */
  private Node call(Kind kind, int line, String name, Node first) throws TemplateException {
    List<Node> parts = new ArrayList<>(List.of(first));
    List<String> names = new ArrayList<>();
    while (!takes(")")) {
      boolean named = peek().type() == Type.NAME && tokens.get(at + 1).is(Type.OPERATOR, "=");
      if (named) {
        names.add(next().text());
        at++;
      } else if (!names.isEmpty()) {
        throw unexpected("a named argument");
      }
      parts.add(expression());
      if (!sees(")")) {
        expect(",");
      }
    }
    return new Node(kind, line, name, parts, names, List.of(), List.of());
  }

  /** Filters, tests and calls of what they give. */
  private Node filters(Node value) throws TemplateException {
    Node result = value;
    for (int length = 0;; length++) {
      if (takes("|")) {
        result = filter(result);
      } else if (seesName("is")) {
        at++;
        result = test(result);
      } else if (sees("(") || sees("[") || sees(".")) {
        result = postfix(result);
      } else {
        return result;
      }
      requireShort(length);
    }
  }

  private Node filter(Node value) throws TemplateException {
    Token name = expect(Type.NAME);
    return takes("(")
        ? call(Kind.FILTER, name.line(), name.text(), value)
        : Node.of(Kind.FILTER, name.line(), name.text(), List.of(value));
  }

  private Node test(Node value) throws TemplateException {
    boolean negated = takesName("not");
    Token name = peek();
    if (name.type() != Type.NAME) {
      throw unexpected("a test");
    }
    at++;
    Node test;
    Token token = peek();
    if (takes("(")) {
      test = call(Kind.TEST, name.line(), name.text(), value);
    } else if (token.type() == Type.STRING || token.type() == Type.INTEGER
        || token.type() == Type.FLOAT || sees("[") || sees("{")
        || token.type() == Type.NAME && !BEHIND_TESTS.contains(token.text())
            && !token.text().equals("not")) {
      test = Node.of(Kind.TEST, name.line(), name.text(), List.of(value, postfix(primary())));
    } else {
      test = Node.of(Kind.TEST, name.line(), name.text(), List.of(value));
    }
    return negated ? Node.of(Kind.NOT, name.line(), null, List.of(test)) : test;
  }
}
