// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.jinja;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.exeunt.engine.model.jinja.Values.Callable;
import org.exeunt.engine.model.jinja.Values.Namespace;
import org.exeunt.engine.model.jinja.Values.Undefined;

/** Runs a template's tree. */
final class Interpreter {
  /** How a body of statements ended. */
  private enum End { REACHED, BREAK, CONTINUE }

  /** Names and what they stand for; a name that is set is set in the innermost one. */
  private record Scope(Map<String, Object> values, Scope around) {
    Object find(String name) {
      for (Scope scope = this; scope != null; scope = scope.around) {
        Object value = scope.values.get(name);
        if (value != null) {
          return value;
        }
      }
      return new Undefined(name);
    }

    Scope inner() {
      return new Scope(new HashMap<>(), this);
    }
  }

  private final Budget budget;
  private final Builtins builtins;
  private final Scope globals;
  private StringBuilder out = new StringBuilder();

  Interpreter(Budget budget, Builtins builtins, Map<String, Object> variables) {
    this.budget = budget;
    this.builtins = builtins;
    globals = new Scope(builtins.functions(), null);
    globals.values.putAll(variables);
  }

  String run(List<Node> body) throws TemplateException {
    run(body, globals.inner());
    return out.toString();
  }

  private void write(String text) throws TemplateException {
    budget.characters(text.length());
    out.append(text);
  }

  // ---- statements

  private End run(List<Node> body, Scope scope) throws TemplateException {
    for (Node statement : body) {
      End end = run(statement, scope);
      if (end != End.REACHED) {
        return end;
      }
    }
    return End.REACHED;
  }

  private End run(Node node, Scope scope) throws TemplateException {
    budget.at(node.line());
    budget.enter();
    End end = End.REACHED;
    switch (node.kind()) {
      case TEXT -> write(node.text());
      case PRINT -> write(Values.text(value(node.part(0), scope), budget));
      case IF -> end = run(truth(node.part(0), scope) ? node.body() : node.other(), scope);
      case FOR -> end = loop(node, scope);
      case SET -> set(node, scope);
      case SET_BLOCK -> {
        Scope inner = scope.inner();
        inner.values.put("", captured(node.body(), scope));
        scope.values.put(node.names().get(0), value(node.part(0), inner));
      }
      case MACRO -> scope.values.put(node.text(), macro(node, scope));
      case BODY -> end = run(node.body(), scope);
      case BREAK -> end = End.BREAK;
      case CONTINUE -> end = End.CONTINUE;
      default -> throw budget.problem("an expression stands where a statement is expected");
    }
    budget.leave();
    return end;
  }

  /** What statements write. */
  private String captured(List<Node> body, Scope scope) throws TemplateException {
    StringBuilder before = out;
    out = new StringBuilder();
    run(body, scope.inner());
    String text = out.toString();
    out = before;
    return text;
  }

  private End loop(Node node, Scope scope) throws TemplateException {
    List<Object> over = Values.elements(value(node.part(0), scope), budget);
    if (node.part(1) != null) {
      List<Object> some = new ArrayList<>();
      for (Object element : over) {
        Scope inner = scope.inner();
        assign(node.names(), element, inner);
        if (truth(node.part(1), inner)) {
          budget.characters(1);
          some.add(element);
        }
      }
      over = some;
    }
    if (over.isEmpty()) {
      return run(node.other(), scope);
    }
    for (int i = 0; i < over.size(); i++) {
      budget.steps(1);
      Scope inner = scope.inner();
      inner.values.put("loop", state(over, i));
      assign(node.names(), over.get(i), inner);
      if (run(node.body(), inner) == End.BREAK) {
        break;
      }
    }
    return End.REACHED;
  }

  /** What a template may ask of a loop. */
  private Map<Object, Object> state(List<Object> over, int index) {
    Map<Object, Object> loop = new HashMap<>();
    int size = over.size();
    loop.put("index", (long) index + 1);
    loop.put("index0", (long) index);
    loop.put("revindex", (long) size - index);
    loop.put("revindex0", (long) size - index - 1);
    loop.put("first", index == 0);
    loop.put("last", index == size - 1);
    loop.put("length", (long) size);
    loop.put("previtem", index > 0 ? over.get(index - 1) : new Undefined("previtem"));
    loop.put("nextitem", index < size - 1 ? over.get(index + 1) : new Undefined("nextitem"));
    loop.put("cycle", (Callable) (arguments, named) -> {
      if (arguments.isEmpty()) {
        throw budget.problem("loop.cycle needs values");
      }
      return arguments.get(index % arguments.size());
    });
    return loop;
  }

  private void assign(List<String> names, Object value, Scope scope) throws TemplateException {
    if (names.size() == 1) {
      scope.values.put(names.get(0), value);
      return;
    }
    List<Object> elements = Values.elements(value, budget);
    if (elements.size() != names.size()) {
      throw budget.problem(
          elements.size() + " values cannot be unpacked to " + names.size() + " names");
    }
    for (int i = 0; i < names.size(); i++) {
      scope.values.put(names.get(i), elements.get(i));
    }
  }

  private void set(Node node, Scope scope) throws TemplateException {
    Object value = value(node.part(0), scope);
    if (node.value() == null) {
      assign(node.names(), value, scope);
    } else if (scope.find(node.names().get(0)) instanceof Namespace space) {
      budget.characters(1);
      space.values().put(node.value(), value);
    } else {
      throw budget.problem("'" + node.names().get(0) + "' is no namespace");
    }
  }

  private Callable macro(Node node, Scope scope) {
    return (arguments, named) -> {
      Scope inner = scope.inner();
      if (arguments.size() > node.names().size()) {
        throw budget.problem("the macro '" + node.value() + "' takes " + node.names().size()
            + " arguments, not " + arguments.size());
      }
      for (String name : named.keySet()) {
        if (node.names().indexOf(name) < arguments.size()) {
          throw budget.problem("the macro '" + node.value() + "' takes no argument '" + name
              + "', or has it already");
        }
      }
      for (int i = 0; i < node.names().size(); i++) {
        String name = node.names().get(i);
        Node usual = node.part(i);
        inner.values.put(name,
            i < arguments.size()          ? arguments.get(i)
                : named.containsKey(name) ? named.get(name)
                : usual == null           ? new Undefined(name)
                                          : value(usual, inner));
      }
      return captured(node.body(), inner);
    };
  }

  // ---- expressions

  private boolean truth(Node node, Scope scope) throws TemplateException {
    return Values.truth(value(node, scope));
  }

  private List<Object> values(List<Node> nodes, Scope scope) throws TemplateException {
    budget.characters(nodes.size());
    List<Object> values = new ArrayList<>(nodes.size());
    for (Node node : nodes) {
      values.add(value(node, scope));
    }
    return values;
  }

  private Object value(Node node, Scope scope) throws TemplateException {
    budget.enter();
    budget.at(node.line());
    Object value = switch (node.kind()) {
      case CONSTANT -> node.value();
      case NAME -> scope.find(node.text());
      case LIST, TUPLE -> values(node.parts(), scope);
      case DICT -> dict(node, scope);
      case ATTRIBUTE -> builtins.attribute(value(node.part(0), scope), node.text());
      case ITEM -> builtins.item(value(node.part(0), scope), value(node.part(1), scope));
      case SLICE -> {
        Object whole = value(node.part(0), scope);
        Long[] bounds = new Long[3];
        for (int i = 0; i < bounds.length; i++) {
          Node bound = node.part(i + 1);
          bounds[i] = bound == null ? null : builtins.bound(value(bound, scope));
        }
        yield builtins.slice(whole, bounds[0], bounds[1], bounds[2]);
      }
      case CALL -> call(node, scope);
      case FILTER, TEST -> {
        List<Object> arguments = arguments(node, scope);
        Map<String, Object> named = named(node, scope);
        budget.at(node.line());
        Object subject = value(node.part(0), scope);
        yield node.kind() == Node.Kind.FILTER
            ? builtins.filter(node.text(), subject, arguments, named)
            : (Object) builtins.test(node.text(), subject, arguments);
      }
      case NOT -> !truth(node.part(0), scope);
      case NEGATIVE -> builtins.negative(value(node.part(0), scope));
      case BINARY ->
        builtins.binary(node.text(), value(node.part(0), scope), value(node.part(1), scope));
      case COMPARE -> compare(node, scope);
      case AND -> {
        Object left = value(node.part(0), scope);
        yield Values.truth(left) ? value(node.part(1), scope) : left;
      }
      case OR -> {
        Object left = value(node.part(0), scope);
        yield Values.truth(left) ? left : value(node.part(1), scope);
      }
      case CHOICE -> {
        if (truth(node.part(0), scope)) {
          yield value(node.part(1), scope);
        }
        yield node.part(2) == null ? new Undefined("else") : value(node.part(2), scope);
      }
      default -> throw budget.problem("a statement stands where a value is expected");
    };
    budget.leave();
    return value;
  }

  private Map<Object, Object> dict(Node node, Scope scope) throws TemplateException {
    Map<Object, Object> map = new LinkedHashMap<>();
    for (int i = 0; i < node.parts().size(); i += 2) {
      budget.characters(2);
      map.put(Values.key(value(node.part(i), scope), budget), value(node.part(i + 1), scope));
    }
    return map;
  }

  private List<Object> arguments(Node node, Scope scope) throws TemplateException {
    return values(node.parts().subList(1, node.parts().size() - node.names().size()), scope);
  }

  private Map<String, Object> named(Node node, Scope scope) throws TemplateException {
    if (node.names().isEmpty()) {
      return Map.of();
    }
    Map<String, Object> named = new LinkedHashMap<>();
    int first = node.parts().size() - node.names().size();
    for (int i = 0; i < node.names().size(); i++) {
      named.put(node.names().get(i), value(node.part(first + i), scope));
    }
    return named;
  }

  private Object call(Node node, Scope scope) throws TemplateException {
    Object function = value(node.part(0), scope);
    if (function instanceof Undefined undefined) {
      throw undefined.problem(budget);
    } else if (!(function instanceof Callable)) {
      throw budget.problem(Values.type(function) + " cannot be called");
    }
    List<Object> arguments = arguments(node, scope);
    Map<String, Object> named = named(node, scope);
    budget.at(node.line());
    return ((Callable) function).call(arguments, named);
  }

  private boolean compare(Node node, Scope scope) throws TemplateException {
    Object left = value(node.part(0), scope);
    for (int i = 0; i < node.names().size(); i++) {
      Object right = value(node.part(i + 1), scope);
      boolean holds = switch (node.names().get(i)) {
        case "==" -> Values.equal(left, right, budget);
        case "!=" -> !Values.equal(left, right, budget);
        case "<" -> Values.compare(left, right, budget) < 0;
        case "<=" -> Values.compare(left, right, budget) <= 0;
        case ">" -> Values.compare(left, right, budget) > 0;
        case ">=" -> Values.compare(left, right, budget) >= 0;
        case "in" -> Values.contains(right, left, budget);
        default -> !Values.contains(right, left, budget);
      };
      if (!holds) {
        return false;
      }
      left = right;
    }
    return true;
  }
}
