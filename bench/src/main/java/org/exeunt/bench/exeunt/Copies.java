// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.exeunt;

import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.bench.reference.Matrix;

/**
 * Copies of the matrices that an op reads, one set after another in one piece of memory on huge
 * pages, as the layers of a model that was loaded lie.
 */
final class Copies {
  private static final long LINE = 64;
  /** Less memory than this does not come on huge pages. */
  private static final long HUGE_PAGE = 2 << 20;

  private final Tensor memory;
  private final Matrix[] matrices;
  private final long[] offsets;
  private final long stride;

  Copies(Scope scope, int copies, Matrix... matrices) {
    this.matrices = matrices;
    offsets = new long[matrices.length];
    long end = 0;
    for (int m = 0; m < matrices.length; m++) {
      offsets[m] = end;
      end += (matrices[m].bytes() + LINE - 1) / LINE * LINE;
    }
    stride = end;
    memory = scope.allocate(DType.U8, Math.max(HUGE_PAGE, copies * stride));
    for (int m = 0; m < matrices.length; m++) {
      matrices[m].copyTo(tensor(0, m).byteBuffer());
    }
    // In parallel, because a virtual machine takes seconds to come by gigabytes.
    IntStream.range(1, copies).parallel().forEach(copy -> {
      for (int m = 0; m < matrices.length; m++) {
        tensor(copy, m).byteBuffer().put(tensor(0, m).byteBuffer());
      }
    });
  }

  /** A matrix of a set. */
  Tensor tensor(int copy, int matrix) {
    Matrix m = matrices[matrix];
    return memory.reinterpret(
        ExeuntLayers.dtype(m.storage()), copy * stride + offsets[matrix], m.rows(), m.cols());
  }

  /** A matrix of one row. */
  Tensor vector(int copy, int matrix) {
    return tensor(copy, matrix).reshape(matrices[matrix].cols());
  }
}
