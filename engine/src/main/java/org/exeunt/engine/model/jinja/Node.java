// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.jinja;

import java.util.List;

/**
 * A statement or an expression of a template.
 *
 * @param value a constant, or a name
 * @param parts in order; null where an optional one is not there
 * @param names of the last parts of a call, which are named, or of parameters
 * @param body statements
 * @param other statements of an else
 */
record Node(Kind kind, int line, Object value, List<Node> parts, List<String> names,
    List<Node> body, List<Node> other) {
  /** What a node is. */
  enum Kind {
    // Statements.
    TEXT,
    PRINT,
    IF,
    FOR,
    SET,
    SET_BLOCK,
    MACRO,
    BODY,
    BREAK,
    CONTINUE,
    // Expressions.
    CONSTANT,
    NAME,
    LIST,
    TUPLE,
    DICT,
    ATTRIBUTE,
    ITEM,
    SLICE,
    CALL,
    FILTER,
    TEST,
    NOT,
    NEGATIVE,
    BINARY,
    COMPARE,
    AND,
    OR,
    CHOICE
  }

  static Node of(Kind kind, int line, Object value, List<Node> parts) {
    return new Node(kind, line, value, parts, List.of(), List.of(), List.of());
  }

  Node part(int index) {
    return parts.get(index);
  }

  String text() {
    return (String) value;
  }
}
