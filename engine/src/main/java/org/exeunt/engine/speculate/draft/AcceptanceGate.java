// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import java.nio.FloatBuffer;
import java.util.HashMap;
import java.util.Map;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Gate;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.RowHead;
import org.exeunt.engine.train.AcceptanceFit;

/**
 * SpecDec++'s acceptance head: how likely the token that a row took in is to be accepted, by the
 * state that it left the drafting layers with. So it speaks of the token before the one that is
 * drafted.
 */
public final class AcceptanceGate implements DraftScore {
  private final Scope scope = Scope.open();
  private final NormedStates states;
  private final AcceptanceFit.Head head;
  private final Tensor hiddenWeight;
  private final Tensor hiddenBias;
  private final Tensor outWeight;
  private final Tensor outBias;
  private final Tensor probability;
  private final FloatBuffer probabilities;
  private final Map<Integer, Gate> gates = new HashMap<>();

  /** @param decoder who drafts */
  public AcceptanceGate(Decoder decoder, AcceptanceFit.Head head) {
    this.head = head;
    try {
      int width = head.hiddenBias().length;
      states = new NormedStates(scope, decoder);
      hiddenWeight = copy(head.hiddenWeight(), width, width);
      hiddenBias = copy(head.hiddenBias(), width);
      outWeight = copy(head.outWeight(), 2, width);
      outBias = copy(head.outBias(), 2);
      probability = scope.allocate(Device.CPU, DType.F32, decoder.mostRows());
    } catch (RuntimeException | Error e) {
      scope.close();
      throw e;
    }
    probabilities = probability.floatBuffer();
  }

  private Tensor copy(float[] values, long... shape) {
    return scope.allocate(Device.CPU, DType.F32, shape).copyFrom(values);
  }

  @Override
  public void read(Decoder decoder, RowHead found) {
    Tensor normed = states.read(decoder);
    gates
        .computeIfAbsent(decoder.rows().count(),
            n
            -> Gate.builder()
                .features(normed)
                .residual(hiddenWeight, hiddenBias, head.repeats())
                .output(outWeight, outBias)
                .prob(probability.rows(0, n))
                .build(scope))
        .run();
  }

  @Override
  public float of(int row) {
    return probabilities.get(row);
  }

  @Override
  public void close() {
    scope.close();
  }
}
