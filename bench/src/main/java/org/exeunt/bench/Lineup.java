// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.contenders.Contenders;
import org.exeunt.bench.exeunt.ExeuntContenders;
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
   * what is written where that, too, lies in as many places.
   */
  static Contenders of(String name, int copies, boolean destinations) {
    if (copies > 1 && !name.equals(Plan.OURS)) {
      throw new IllegalArgumentException(name + " always runs on the same operands");
    }
    switch (name) {
      case Plan.OURS:
        return new ExeuntContenders(copies, destinations);
      case "onnxruntime":
        return new OnnxContenders();
      case Plan.JAVA:
        return new VectorContenders();
      default:
        throw new IllegalArgumentException("no contender is called " + name);
    }
  }
}
