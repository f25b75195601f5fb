// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.List;
import org.exeunt.Device;
import org.exeunt.ExitHead;
import org.exeunt.Scope;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Tensor;

/** The heads of all layers over one tensor of mean states: an answer, and how sure it is. */
final class HeadStatistics {
  /** What JEI-DNN's gates look at, in its order. */
  static final int FEATURES = 4;

  private final Statistics out;
  private final List<ExitHead> heads = new ArrayList<>();

  /** @param pooled [S,D] */
  HeadStatistics(Scope scope, FittedExits exits, Tensor pooled) {
    out = Statistics.allocate(scope, Device.CPU, pooled.size(0), Statistic.ARGMAX, Statistic.P1,
        Statistic.ENTROPY, Statistic.MARGIN, Statistic.POW2_ENTROPY, Statistic.VALID);
    for (int l = 0; l < exits.layers(); l++) {
      heads.add(ExitHead.builder()
              .hidden(pooled)
              .noNorm()
              .weight(exits.head(l).weight(scope))
              .bias(exits.head(l).bias(scope))
              .normalizer(exits.setup().normalizer())
              .out(out)
              .build(scope));
    }
  }

  /** Fills {@link #out} by the head after a layer, counted from 0. */
  void run(int layer) {
    heads.get(layer).run();
  }

  Statistics out() {
    return out;
  }

  /** Four statistics of each row side by side, where the op writes each by itself. */
  float[][] features(int rows) {
    Tensor[] tensors = {out.p1(), out.entropy(), out.margin(), out.pow2Entropy()};
    float[][] features = new float[rows][FEATURES];
    for (int f = 0; f < FEATURES; f++) {
      FloatBuffer values = tensors[f].floatBuffer();
      for (int row = 0; row < rows; row++) {
        features[row][f] = values.get(row);
      }
    }
    return features;
  }
}
