// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.ArrayList;
import java.util.List;

/**
 * What must stay alive while an op runs: the distinct scopes and JavaCPP pointers of its
 * tensors.
 */
final class Lifetimes {
  private final Scope[] scopes;
  private final Held[] pointers;

  /** @param owners scopes that stay open besides; those that are null do not count */
  Lifetimes(List<Tensor> tensors, Scope... owners) {
    List<Scope> open = new ArrayList<>();
    for (Scope owner : owners) {
      add(open, owner);
    }
    List<Held> held = new ArrayList<>();
    for (Tensor tensor : tensors) {
      add(open, tensor.scope());
      Held pointer = tensor.held();
      if (pointer != null && !contains(held, pointer)) {
        held.add(pointer);
      }
    }
    scopes = open.toArray(new Scope[0]);
    pointers = held.toArray(Held.NONE);
  }

  /** In words that a JVM which has just started knows already. */
  private static boolean contains(List<Held> all, Held pointer) {
    for (Held held : all) {
      if (pointer.sameAs(held)) {
        return true;
      }
    }
    return false;
  }

  private static void add(List<Scope> scopes, Scope scope) {
    if (scope != null && !scopes.contains(scope)) {
      scopes.add(scope);
    }
  }

  /** All or, with an exception, none. The caller has asked for {@link StackRoom}. */
  void acquire() {
    int held = 0;
    boolean done = false;
    try {
      while (held < scopes.length) {
        scopes[held].acquire();
        held++;
      }
      Held.acquire(pointers);
      done = true;
    } finally {
      if (!done) {
        release(held);
      }
    }
  }

  /** Pointers first: what one of them frees now may still need its scope. */
  void release() {
    try {
      Held.release(pointers);
    } finally {
      release(scopes.length);
    }
  }

  private void release(int held) {
    for (int i = 0; i < held; i++) {
      scopes[i].release();
    }
  }
}
