// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.contenders.Contenders;
import org.exeunt.bench.cuda.CudaContenders;
import org.exeunt.bench.exeunt.ExeuntContenders;
import org.exeunt.bench.measure.Copies;
import org.exeunt.bench.onnx.OnnxContenders;
import org.exeunt.bench.vector.VectorContenders;

/** The contenders by the names that they have on the command line and in results. */
final class Lineup {
  private Lineup() {}

  static Contenders of(String name) {
    return of(name, 1, false);
  }

  /**
   * As {@link #of(String)}; each run takes the next of so many copies of the large operands, and of
   * what is written where that, too, lies in as many places. A peer is in as many copies itself.
   */
  static Contenders of(String name, int copies, boolean destinations) {
    switch (name) {
      case Plan.OURS:
        return new ExeuntContenders(copies, destinations);
      case "onnxruntime":
        return Copies.of(new OnnxContenders(), copies);
      case Plan.CUDA:
        return new CudaContenders();
      case Plan.JAVA:
        return Copies.of(new VectorContenders(), copies);
      default:
        throw new IllegalArgumentException("no contender is called " + name);
    }
  }
}
