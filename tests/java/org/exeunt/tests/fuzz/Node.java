// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests.fuzz;

import java.lang.reflect.Array;
import java.lang.reflect.Constructor;
import java.lang.reflect.Executable;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;

/** An argument of a call: a plain value, a tensor, or what another call returns. */
abstract class Node {
  final String name;
  final Class<?> type;

  Node(String name, Class<?> type) {
    this.name = name;
    this.type = type;
  }

  abstract Object value(Trial trial) throws Throwable;

  /** Itself and all below. */
  List<Node> all() {
    return List.of(this);
  }

  /** A number, a flag, an enum, an array. */
  static final class Leaf extends Node {
    Object value;

    Leaf(String name, Class<?> type, Object value) {
      super(name, type);
      this.value = value;
    }

    @Override
    Object value(Trial trial) {
      return value;
    }

    @Override
    public String toString() {
      if (value == null || !value.getClass().isArray()) {
        return value instanceof Long ? value + "L" : String.valueOf(value);
      }
      int length = Array.getLength(value);
      StringBuilder text = new StringBuilder("{");
      for (int i = 0; i < Math.min(length, 8); i++) {
        text.append(i == 0 ? "" : ", ").append(Array.get(value, i));
      }
      return text.append(length > 8 ? ", ... " + length + " in all}" : "}").toString();
    }
  }

  /** What a static method or a constructor makes of its arguments; or null, if spoiled. */
  static final class Made extends Node {
    private final Executable maker;
    final Node[] arguments;
    boolean absent;

    Made(String name, Executable maker, Node... arguments) {
      super(name, maker instanceof Method m ? m.getReturnType() : maker.getDeclaringClass());
      this.maker = maker;
      this.arguments = arguments;
    }

    @Override
    Object value(Trial trial) throws Throwable {
      return absent ? null : call(trial, maker, null, arguments);
    }

    @Override
    List<Node> all() {
      if (absent) {
        return List.of(this);
      }
      List<Node> nodes =
          Arrays.stream(arguments).flatMap(n -> n.all().stream()).collect(Collectors.toList());
      nodes.add(this);
      return nodes;
    }

    @Override
    public String toString() {
      return absent ? "null" : describe(maker, arguments);
    }
  }

  /** A list of nodes. */
  static final class Several extends Node {
    final List<Node> items;

    Several(String name, List<Node> items) {
      super(name, List.class);
      this.items = items;
    }

    @Override
    Object value(Trial trial) throws Throwable {
      Object[] values = new Object[items.size()];
      for (int i = 0; i < values.length; i++) {
        values[i] = items.get(i).value(trial);
      }
      return Arrays.asList(values);
    }

    @Override
    List<Node> all() {
      return items.stream().flatMap(n -> n.all().stream()).collect(Collectors.toList());
    }

    @Override
    public String toString() {
      return items.toString();
    }
  }

  static String describe(Executable target, Node... arguments) {
    String name = target instanceof Constructor ? "new" : target.getName();
    return name
        + Arrays.stream(arguments).map(Node::toString).collect(Collectors.joining(", ", "(", ")"));
  }

  /** Calls a public method or constructor and throws what it throws. */
  static Object call(Trial trial, Executable target, Object receiver, Node... arguments)
      throws Throwable {
    Object[] values = new Object[arguments.length];
    for (int i = 0; i < values.length; i++) {
      values[i] = arguments[i].value(trial);
    }
    return invoke(trial, target, receiver, values);
  }

  static Object invoke(Trial trial, Executable target, Object receiver, Object... values)
      throws Throwable {
    trial.called(target);
    try {
      return target instanceof Method method
          ? method.invoke(receiver, values)
          : ((Constructor<?>) target).newInstance(values);
    } catch (InvocationTargetException e) {
      throw e.getCause();
    }
  }
}
