// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests.fuzz;

import java.lang.reflect.Constructor;
import java.lang.reflect.Executable;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Queue;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.bytedeco.javacpp.BytePointer;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** One experiment: its chance, its memory, and what has to be closed after it. */
final class Trial implements AutoCloseable {
  private final Arena arena;
  private final Random random;
  private final Set<Executable> reached;
  private final List<AutoCloseable> resources = new ArrayList<>();
  private final List<Object[]> told = new ArrayList<>();
  private final Queue<BytePointer> pointers = new ConcurrentLinkedQueue<>();
  private Scope tensors;
  private Scope ops;

  Trial(Arena arena, Random random, Set<Executable> reached) {
    this.arena = arena;
    this.random = random;
    this.reached = reached;
  }

  Arena arena() {
    return arena;
  }

  Random random() {
    return random;
  }

  /** Calls a public method or constructor and throws what it throws. */
  Object invoke(Executable target, Object receiver, Object... values) throws Throwable {
    reached.add(target);
    try {
      return target instanceof Method method
          ? method.invoke(receiver, values)
          : ((Constructor<?>) target).newInstance(values);
    } catch (InvocationTargetException e) {
      throw e.getCause();
    }
  }

  void tell(Executable target, Object receiver, Object... values) {
    told.add(new Object[] {target, receiver, values});
  }

  /** The calls so far. */
  String story() {
    StringBuilder text = new StringBuilder();
    for (Object[] call : told) {
      Executable target = (Executable) call[0];
      text.append(text.isEmpty() ? "" : "\n    ")
          .append(call[1] == null ? "" : call[1] + " ")
          .append(target.getDeclaringClass().getSimpleName())
          .append('.')
          .append(target.getName())
          .append(' ')
          .append(Arrays.deepToString((Object[]) call[2]));
    }
    return text.toString();
  }

  ByteOrder order() {
    return ByteOrder.nativeOrder();
  }

  /** The arena's memory from here on, as a caller would slice it. */
  ByteBuffer slice(long offset) {
    int at = (int) Math.max(0, Math.min(Arena.BYTES, offset));
    return arena.memory().slice(at, Arena.BYTES - at).order(ByteOrder.nativeOrder());
  }

  /** The scope that owns tensors of this trial. */
  Scope tensors() {
    if (tensors == null) {
      tensors = keep(Scope.open());
    }
    return tensors;
  }

  /** The scope that owns ops of this trial. */
  Scope ops() {
    if (ops == null) {
      ops = keep(Scope.open());
    }
    return ops;
  }

  <T extends AutoCloseable> T keep(T resource) {
    resources.add(resource);
    return resource;
  }

  /** A tensor in a scope that holds what the arena holds. */
  Tensor copyInScope(Spec spec) {
    Tensor copy = tensors().allocate(Device.CPU, spec.dtype, spec.shape);
    if (spec.offset >= 0 && spec.offset + copy.byteSize() <= Arena.BYTES && copy.byteSize() > 0) {
      copy.byteBuffer().put(0, arena.memory(), (int) spec.offset, (int) copy.byteSize());
    }
    return copy;
  }

  /** A tensor over memory of JavaCPP's that holds what the arena holds. */
  Tensor copyBehindPointer(Spec spec) {
    double size = spec.dtype.bytes();
    for (long extent : spec.shape) {
      size *= extent;
    }
    if (size < 0 || spec.offset < 0 || spec.offset + size > Arena.BYTES) {
      return Tensor.ofAddress(arena.address(), spec.dtype, Device.CPU, spec.shape); // not run
    }
    int bytes = (int) size;
    BytePointer pointer = keep(new BytePointer(Math.max(8, bytes)));
    pointers.add(pointer);
    if (bytes > 0) {
      pointer.asByteBuffer().put(0, arena.memory(), (int) spec.offset, bytes);
    }
    return Tensor.of(pointer, spec.dtype, Device.CPU, spec.shape);
  }

  /** The owners of tensors' memory, which a race may close. */
  Queue<BytePointer> pointers() {
    return pointers;
  }

  /** Closes in the reverse order, whatever fails on the way. */
  @Override
  public void close() {
    RuntimeException failure = null;
    for (int i = resources.size() - 1; i >= 0; i--) {
      try {
        resources.get(i).close();
      } catch (RuntimeException e) {
        failure = e;
      } catch (Exception e) {
        failure = new IllegalStateException(e);
      }
    }
    if (failure != null) {
      throw failure;
    }
  }
}
