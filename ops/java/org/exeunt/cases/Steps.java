// SPDX-License-Identifier: Apache-2.0
package org.exeunt.cases;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.Supplier;
import org.exeunt.Op;

/** The calls that fill a builder, before any of them is made. */
public final class Steps<B extends Op.Builder<?>> {
  private final List<Consumer<B>> calls = new ArrayList<>();
  private Supplier<? extends B> start;

  private Steps(Supplier<? extends B> start) {
    this.start = start;
  }

  static <B extends Op.Builder<?>> Steps<B> of(Supplier<B> start) {
    return new Steps<>(start);
  }

  Steps<B> then(Consumer<B> call) {
    calls.add(call);
    return this;
  }

  /** Those after the first, which makes the builder. A caller may put them in another order. */
  public List<Consumer<B>> calls() {
    return calls;
  }

  /** Another way to such a builder. */
  @SuppressWarnings("unchecked")
  public void beginWith(Supplier<? extends Op.Builder<?>> other) {
    start = (Supplier<? extends B>) other;
  }

  public B fill() {
    B builder = start.get();
    calls.forEach(call -> call.accept(builder));
    return builder;
  }
}
