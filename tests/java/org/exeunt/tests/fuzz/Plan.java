// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests.fuzz;

import java.lang.reflect.Constructor;
import java.lang.reflect.Executable;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;

/** One op: how its builder is filled, as data that faults may be put into. */
final class Plan {
  /** What is done with the filled builder. */
  enum Ending {
    RUN_ONCE,
    RUN_ONCE_ON_STREAM,
    BUILD_AND_RUN,
    BUILD_IN_SCOPE,
    BUILD_SHARED,
    BUILD_TWICE,
    STEP,
    RUN_ON_NULL,
    RUN_CLOSED,
    RUN_BEHIND_SCOPE
  }

  /** One call of a setter. */
  record Step(Method setter, Node... arguments) {
    @Override
    public String toString() {
      return Node.describe(setter, arguments);
    }
  }

  final Class<?> op;
  final Node factory;
  final List<Step> steps = new ArrayList<>();
  Ending ending = Ending.BUILD_AND_RUN;
  List<Node> stepArguments = List.of(); // of an op's own run method

  Plan(Class<?> op, String factory, Node... arguments) {
    this.op = op;
    this.factory = new Node.Made("builder", method(op, factory, arguments), arguments);
  }

  /** Calls a setter; the type of the builder is what the factory declares. */
  Plan set(String setter, Node... arguments) {
    steps.add(new Step(method(factory.type, setter, arguments), arguments));
    return this;
  }

  List<Node> nodes() {
    List<Node> nodes = new ArrayList<>(factory.all());
    nodes.remove(factory); // never null
    steps.forEach(step -> Arrays.stream(step.arguments).forEach(n -> nodes.addAll(n.all())));
    stepArguments.forEach(n -> nodes.addAll(n.all()));
    return nodes;
  }

  List<Spec> specs() {
    return nodes()
        .stream()
        .filter(Spec.class ::isInstance)
        .map(Spec.class ::cast)
        .distinct()
        .toList();
  }

  /** The public method of this name that takes such arguments. */
  static Method method(Class<?> owner, String name, Node... arguments) {
    for (Method method : owner.getMethods()) {
      if (method.getName().equals(name) && !method.isBridge() && takes(method, arguments)) {
        return method;
      }
    }
    throw new IllegalStateException(owner + " has no " + name + Arrays.toString(arguments));
  }

  static Constructor<?> constructor(Class<?> owner, Node... arguments) {
    for (Constructor<?> constructor : owner.getConstructors()) {
      if (takes(constructor, arguments)) {
        return constructor;
      }
    }
    throw new IllegalStateException(owner + " cannot be made of " + Arrays.toString(arguments));
  }

  private static boolean takes(Executable executable, Node... arguments) {
    Class<?>[] types = executable.getParameterTypes();
    if (types.length != arguments.length) {
      return false;
    }
    for (int i = 0; i < types.length; i++) {
      if (!types[i].isAssignableFrom(arguments[i].type)) {
        return false;
      }
    }
    return true;
  }

  /** The methods by which an op with a step runs: those of its own class. */
  List<Method> runMethods() {
    return Arrays.stream(built().getDeclaredMethods())
        .filter(m -> Modifier.isPublic(m.getModifiers()) && m.getName().equals("run"))
        .sorted((a, b) -> a.toString().compareTo(b.toString()))
        .toList();
  }

  /** The op that the builder builds, which need not be the class that has the factory. */
  Class<?> built() {
    return factory.type.getEnclosingClass();
  }

  @Override
  public String toString() {
    return op.getSimpleName() + "." + factory
        + steps.stream().map(step -> "\n      ." + step).collect(Collectors.joining())
        + "\n      then " + ending + (ending == Ending.STEP ? stepArguments : "");
  }
}
