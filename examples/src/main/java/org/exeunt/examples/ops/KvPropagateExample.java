// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.KvCache;
import org.exeunt.KvPropagate;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** A token left after layer 0 of 3; layers 1 and 2 still get its keys and values, in one call. */
public final class KvPropagateExample {
  private KvPropagateExample() {}

  // Prints
  //   layer 0: k [0.0, 0.0], v [0.0, 0.0]
  //   layer 1: k [1.0, 2.0], v [20.0, 10.0]
  //   layer 2: k [1.0, 2.0], v [20.0, 10.0]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor hidden = scope.copyOf(new float[] {1, 2}, 1, 2);
      Tensor kWeight = scope.copyOf(new float[] {1, 0, 0, 1}, 2, 2);
      Tensor vWeight = scope.copyOf(new float[] {0, 10, 10, 0}, 2, 2);
      KvPropagate.Builder builder =
          KvPropagate.builder()
              .hidden(hidden)
              .exitLayer(scope.copyOf(new int[] {1}, 1))
              .slot(scope.copyOf(new int[] {0}, 1))
              .modelLayers(3);
      KvCache[] caches = new KvCache[3];
      for (int layer = 0; layer < 3; layer++) {
        caches[layer] = KvCache.contiguous(
            scope, Device.defaultDevice(), DType.F32, KvCache.Layout.HEAD_MAJOR, 1, 1, 1, 2);
        caches[layer].k().copyFrom(new float[2]);
        caches[layer].v().copyFrom(new float[2]);
        builder.layer(KvPropagate.Layer.of(layer, null, kWeight, vWeight, caches[layer]));
      }
      builder.runOnce();
      for (int layer = 0; layer < 3; layer++) {
        System.out.println("layer " + layer + ": k "
            + Arrays.toString(caches[layer].k().toFloatArray()) + ", v "
            + Arrays.toString(caches[layer].v().toFloatArray()));
      }
    }
  }
}
