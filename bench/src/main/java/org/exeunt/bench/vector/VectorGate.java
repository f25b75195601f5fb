// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Peer;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.Workers;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_gate_params;
import org.exeunt.jni.global.exeunt;

/** The gate: residual blocks over all rows together, each worker a stretch of the outputs. */
final class VectorGate implements Peer {
  private final DLTensor target;
  private final int rows;
  private final int width;
  private final int repeats;
  private final float[] hiddenBias;
  private final float[] outBias;
  private final float[] features;
  private final VectorGemv hiddenWeight;
  private final VectorGemv outWeight;
  private final Workers workers;
  private final float[] state;
  private final float[] arranged;
  private final float[][][] products;
  private final float[][] logits;
  private final float[] prob;

  VectorGate(Problem problem, int threads) {
    exn_gate_params p = problem.params(exn_gate_params::new);
    Matrix inputs = Matrix.of(p.features());
    Matrix bias = Matrix.of(p.hidden_bias());
    target = p.prob();
    rows = inputs.rows();
    width = inputs.cols();
    repeats = p.kind() == exeunt.EXN_GATE_LINEAR ? 0 : p.repeats();
    hiddenBias = bias == null ? new float[width] : bias.values();
    outBias = Matrix.of(p.out_bias()).values();
    features = inputs.values();
    hiddenWeight = repeats == 0 ? null : new VectorGemv(Matrix.of(p.hidden_weight()));
    outWeight = new VectorGemv(Matrix.of(p.out_weight()));
    workers = Workers.of(repeats == 0 ? 1 : threads);
    state = new float[rows * width];
    arranged = new float[rows * width];
    products = new float[threads][rows][width];
    logits = new float[rows][outBias.length];
    prob = new float[rows];
  }

  @Override
  public Object run() {
    System.arraycopy(features, 0, state, 0, state.length);
    for (int i = 0; i < repeats; i++) {
      arrange(hiddenWeight);
      workers.run(this::block);
    }
    arrange(outWeight);
    outWeight.multiply(arranged, rows, 0, outBias.length, logits);
    for (int r = 0; r < rows; r++) {
      prob[r] = probability(logits[r]);
    }
    return prob;
  }

  /** Of two classes the second, whose softmax is the sigmoid of the difference. */
  private float probability(float[] z) {
    float logit = outBias.length == 1 ? z[0] + outBias[0] : z[1] + outBias[1] - z[0] - outBias[0];
    return (float) (1 / (1 + Math.exp(-logit)));
  }

  private void arrange(VectorGemv weight) {
    for (int r = 0; r < rows; r++) {
      weight.arrange(state, r * width, arranged, r * width);
    }
  }

  private void block(int thread) {
    int from = workers.begin(thread, width);
    int to = workers.begin(thread + 1, width);
    hiddenWeight.multiply(arranged, rows, from, to, products[thread]);
    for (int r = 0; r < rows; r++) {
      for (int o = from; o < to; o++) {
        float h = products[thread][r][o - from] + hiddenBias[o];
        state[r * width + o] += (float) (h / (1 + Math.exp(-h)));
      }
    }
  }

  @Override
  public void deliver() {
    Problem.put(target, prob);
  }
}
