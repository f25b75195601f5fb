// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import java.nio.IntBuffer;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.HiddenStack;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * Rows that left after the same number of layers and wait there for the deep layers: a stack of
 * hidden states, tagged with sequence and position.
 */
final class Waiting {
  private final IntBuffer count;
  private final HiddenStack push;
  private final HiddenStack gather;
  private final HiddenStack clear;

  /**
   * @param from what {@link #push} reads, [C,D]
   * @param to what {@link #gather} writes, [C,D]
   */
  Waiting(Scope scope, int capacity, Tensor from, Tensor to, WaitingDoor door) {
    Tensor stack = scope.allocate(Device.CPU, DType.F32, capacity, from.size(1));
    Tensor tags = scope.allocate(Device.CPU, DType.I32, WaitingDoor.TAGS, capacity);
    Tensor entries = scope.allocate(Device.CPU, DType.I32, 1);
    count = entries.intBuffer();
    count.put(0, 0);
    push =
        HiddenStack.push()
            .stack(stack)
            .count(entries)
            .rows(from)
            .tags(tags, door.tagTensor())
            .mask(door.maskTensor())
            .build(scope);
    gather =
        HiddenStack.gather()
            .stack(stack)
            .count(entries)
            .rows(to)
            .tags(tags, door.tagTensor())
            .build(scope);
    clear = HiddenStack.clear().stack(stack).count(entries).build(scope);
  }

  int count() {
    return count.get(0);
  }

  void push() {
    push.run();
  }

  /** Takes all entries, the oldest first. */
  int takeAll() {
    int taken = count();
    gather.run();
    clear.run();
    return taken;
  }
}
