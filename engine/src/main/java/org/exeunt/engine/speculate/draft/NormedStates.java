// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import java.util.HashMap;
import java.util.Map;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Norm;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.engine.decode.Decoder;

/** The rows of a decoder's pass after its final norm, whatever layers they have run. */
final class NormedStates {
  private final Scope scope;
  private final Tensor normed;
  private final Map<Integer, Norm> norms = new HashMap<>();

  NormedStates(Scope scope, Decoder decoder) {
    this.scope = scope;
    normed = scope.allocate(
        Device.CPU, DType.F32, decoder.mostRows(), decoder.weights().config().width());
  }

  /** Norms the rows; [count,D]. */
  Tensor read(Decoder decoder) {
    int count = decoder.rows().count();
    norms
        .computeIfAbsent(count,
            n
            -> Norm.builder()
                .input(decoder.rows().hidden(n))
                .rms(decoder.weights().outputNorm(), decoder.weights().config().epsilon())
                .out(normed.rows(0, n))
                .build(scope))
        .run();
    return normed.rows(0, count);
  }
}
