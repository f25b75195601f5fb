// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import org.exeunt.Op;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * What the tests of all ops share: a scope, placing tensors, and running twice with the forced path
 * checked.
 */
@Tag("kernels")
@ExtendWith(ForcedPath.class)
abstract class OpTest {
  private final String name;
  private final List<Placed> inputs = new ArrayList<>();
  Scope scope;

  OpTest(String name) {
    this.name = name;
  }

  @BeforeEach
  final void openScope() {
    scope = Scope.open();
  }

  @AfterEach
  final void closeScope() {
    inputs.clear();
    scope.close();
  }

  @AfterAll
  static void everyColumnWasRead() {
    CaseRow.assertAllRead();
  }

  /** Places a tensor that no run may change; null stays null. */
  final Tensor input(HostTensor host) {
    if (host == null) {
      return null;
    }
    Placed placed = new Placed(scope, host);
    inputs.add(placed);
    return placed.tensor();
  }

  /** Runs the op twice: the same bits come out, from the forced kernel, and no input changes. */
  final void run(Op op, Placed... outputs) {
    op.run(Stream.DEFAULT);
    ForcedPath.assertTaken(name);
    Stream.DEFAULT.synchronize();
    List<ByteBuffer> first = new ArrayList<>();
    for (Placed output : outputs) {
      first.add(output.read().bytes);
    }
    op.run(Stream.DEFAULT);
    Stream.DEFAULT.synchronize();
    for (int i = 0; i < outputs.length; i++) {
      assertEquals(first.get(i), outputs[i].read().bytes, "the second run gave other bits");
    }
    inputs.forEach(Placed::assertUnchanged);
  }

  /** For ops that read what they write: runs once. */
  final void runOnce(Op op) {
    op.run(Stream.DEFAULT);
    ForcedPath.assertTaken(name);
    Stream.DEFAULT.synchronize();
    inputs.forEach(Placed::assertUnchanged);
  }
}
