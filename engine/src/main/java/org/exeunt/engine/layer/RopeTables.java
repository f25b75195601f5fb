// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.layer;

import java.nio.FloatBuffer;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.RopeTable;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;

/** By which angles heads turn at each position. */
public final class RopeTables {
  private final LlamaConfig config;
  private final Tensor global;
  private final Tensor local; // null: no layer is local

  public RopeTables(Scope scope, LlamaWeights weights, int capacity) {
    config = weights.config();
    Device device = weights.device();
    try (Scope passing = Scope.open()) { // tables are made on the CPU, wherever they go
      Scope making = device.equals(Device.CPU) ? scope : passing;
      Tensor table = making.allocate(Device.CPU, DType.F32, capacity, config.headWidth() / 2, 2);
      if (weights.ropeFactors() == null) {
        fill(table, config.ropeBase(), config.ropeFactor());
      } else {
        fill(table, weights.ropeFactors().toFloatArray());
      }
      global = on(device, scope, table);
      if (config.localPeriod() > 1) {
        Tensor near = making.allocate(Device.CPU, DType.F32, table.shape());
        fill(near, config.localRopeBase(), 1);
        local = on(device, scope, near);
      } else {
        local = null;
      }
    }
  }

  private static Tensor on(Device device, Scope scope, Tensor table) {
    if (device.equals(Device.CPU)) {
      return table;
    }
    Tensor there = scope.allocate(device, DType.F32, table.shape());
    there.copyFrom(table, Stream.DEFAULT);
    Stream.DEFAULT.synchronize();
    return there;
  }

  private static void fill(Tensor table, float base, float factor) {
    RopeTable.builder().table(table).base(base).linear(factor).runOnce();
  }

  /** Frequencies divided by a factor each (Llama 3), which the op does not know. */
  private void fill(Tensor table, float... factors) {
    FloatBuffer angles = table.floatBuffer();
    for (int t = 0; t < table.size(0); t++) {
      for (int i = 0; i < factors.length; i++) {
        double frequency = Math.pow(config.ropeBase(), -2.0 * i / config.headWidth()) / factors[i];
        double angle = t / (double) config.ropeFactor() * frequency;
        angles.put((float) Math.cos(angle)).put((float) Math.sin(angle));
      }
    }
  }

  /** The table of one layer, [T, dh/2, 2]. */
  public Tensor of(int layer) {
    return config.isLocal(layer) ? local : global;
  }
}
