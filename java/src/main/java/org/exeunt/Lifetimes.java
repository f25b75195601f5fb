// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import org.bytedeco.javacpp.Pointer;

/**
 * What must stay alive while an op runs: the distinct scopes and JavaCPP pointers behind its
 * tensors.
 */
final class Lifetimes {
  private final Scope[] scopes;
  private final Pointer[] pointers;
  private final long[] addresses;

  /** @param owners scopes that stay open besides; those that are null do not count */
  Lifetimes(List<Tensor> tensors, Scope... owners) {
    List<Scope> held = new ArrayList<>(Arrays.asList(owners));
    tensors.forEach(tensor -> held.add(tensor.scope()));
    scopes = held.stream().filter(Objects::nonNull).distinct().toArray(Scope[]::new);
    pointers =
        tensors.stream()
            .map(Tensor::owner)
            .filter(Pointer.class::isInstance)
            .toArray(Pointer[]::new);
    addresses = new long[pointers.length];
    for (int i = 0; i < pointers.length; i++) {
      Tensor.requireOpen(pointers[i]);
      addresses[i] = pointers[i].address();
    }
  }

  void acquire() {
    int held = 0;
    try {
      while (held < scopes.length) {
        scopes[held].acquire();
        held++;
      }
      for (int i = 0; i < pointers.length; i++) {
        requireSame(pointers[i], addresses[i]);
      }
    } catch (IllegalStateException e) {
      release(held);
      throw e;
    }
  }

  void release() {
    release(scopes.length);
  }

  private void release(int held) {
    for (int i = 0; i < held; i++) {
      scopes[i].release();
    }
  }

  private static void requireSame(Pointer pointer, long address) {
    if (pointer.address() != address) {
      throw new IllegalStateException(
          "the "
              + pointer.getClass().getSimpleName()
              + " behind a tensor was closed or moved: address 0x"
              + Long.toHexString(pointer.address())
              + ", was 0x"
              + Long.toHexString(address));
    }
  }
}
