// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import java.nio.FloatBuffer;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.RopeTable;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** By which angles heads turn at each position. */
final class RopeTables {
  private final LlamaConfig config;
  private final Tensor global;
  private final Tensor local; // null: no layer is local

  RopeTables(Scope scope, LlamaWeights weights, int capacity) {
    config = weights.config();
    global = scope.allocate(Device.CPU, DType.F32, capacity, config.headWidth() / 2, 2);
    if (weights.ropeFactors() == null) {
      fill(global, config.ropeBase(), config.ropeFactor());
    } else {
      fill(weights.ropeFactors().toFloatArray());
    }
    local = config.localPeriod() > 1
        ? scope.allocate(Device.CPU, DType.F32, capacity, config.headWidth() / 2, 2)
        : null;
    if (local != null) {
      fill(local, config.localRopeBase(), 1);
    }
  }

  private static void fill(Tensor table, float base, float factor) {
    RopeTable.builder().table(table).base(base).linear(factor).runOnce();
  }

  /** Frequencies divided by a factor each (Llama 3), which the op does not know. */
  private void fill(float... factors) {
    FloatBuffer angles = global.floatBuffer();
    for (int t = 0; t < global.size(0); t++) {
      for (int i = 0; i < factors.length; i++) {
        double frequency = Math.pow(config.ropeBase(), -2.0 * i / config.headWidth()) / factors[i];
        double angle = t / (double) config.ropeFactor() * frequency;
        angles.put((float) Math.cos(angle)).put((float) Math.sin(angle));
      }
    }
  }

  /** The table of one layer, [T, dh/2, 2]. */
  Tensor of(int layer) {
    return config.isLocal(layer) ? local : global;
  }
}
