// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.grokking;

import java.util.List;
import java.util.Random;
import org.exeunt.engine.train.Matrix;

/**
 * Two one-hots of p → ReLU layer → ReLU layer → p logits, without biases.
 *
 * <p>The product of the first weight with two one-hots is the sum of two of its columns. That
 * weight is therefore kept transposed: a forward pass gathers and adds two rows, and its gradient
 * is a scatter-add.
 */
final class Mlp {
  private final int p;
  private final Matrix first;
  private final Matrix second;
  private final Matrix third;

  /** Draws weights uniformly from ±1/√fan-in, as the usual frameworks do for linear layers. */
  Mlp(int p, int hidden, long seed) {
    Random random = new Random(seed);
    this.p = p;
    first = uniform(2 * p, hidden, 2 * p, random);
    second = uniform(hidden, hidden, hidden, random);
    third = uniform(p, hidden, hidden, random);
  }

  private static Matrix uniform(int rows, int columns, int fanIn, Random random) {
    Matrix weight = new Matrix(rows, columns);
    float bound = (float) (1 / Math.sqrt(fanIn));
    float[] row = new float[columns];
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j < columns; j++) {
        row[j] = (2 * random.nextFloat() - 1) * bound;
      }
      weight.setRow(i, row);
    }
    return weight;
  }

  List<Matrix> weights() {
    return List.of(first, second, third);
  }

  /** The memory that one set of pairs needs for a forward and a backward pass. */
  final class Batch {
    private final ModularAddition pairs;
    private final Matrix hidden1;
    private final Matrix hidden2;
    private final Matrix logits;
    private final Matrix gradLogits;
    private final Matrix gradHidden2;
    private final Matrix gradHidden1;
    private final List<Matrix> gradients;

    Batch(ModularAddition pairs) {
      int rows = pairs.size();
      int width = second.rows();
      this.pairs = pairs;
      hidden1 = new Matrix(rows, width);
      hidden2 = new Matrix(rows, width);
      logits = new Matrix(rows, p);
      gradLogits = new Matrix(rows, p);
      gradHidden2 = new Matrix(rows, width);
      gradHidden1 = new Matrix(rows, width);
      gradients = weights().stream().map(w -> new Matrix(w.rows(), w.columns())).toList();
    }

    Matrix logits() {
      return logits;
    }

    /** To be filled with dL/dlogits before {@link #backward}. */
    Matrix gradLogits() {
      return gradLogits;
    }

    /** One for each of {@link Mlp#weights()}, filled by {@link #backward}. */
    List<Matrix> gradients() {
      return gradients;
    }

    void forward() {
      gatherFirstLayer();
      hidden1.timesTransposed(second, 1, hidden2);
      relu(hidden2);
      hidden2.timesTransposed(third, 1, logits);
    }

    private void gatherFirstLayer() {
      float[] a = new float[first.columns()];
      float[] b = new float[first.columns()];
      for (int i = 0; i < pairs.size(); i++) {
        first.getRow(pairs.left()[i], a);
        first.getRow(p + pairs.right()[i], b);
        for (int j = 0; j < a.length; j++) {
          a[j] = Math.max(0, a[j] + b[j]);
        }
        hidden1.setRow(i, a);
      }
    }

    void backward() {
      gradLogits.transposedTimes(hidden2, gradients.get(2));
      gradLogits.times(third, gradHidden2);
      zeroWhereInactive(gradHidden2, hidden2);
      gradHidden2.transposedTimes(hidden1, gradients.get(1));
      gradHidden2.times(second, gradHidden1);
      zeroWhereInactive(gradHidden1, hidden1);
      scatterFirstGradient(gradients.get(0));
    }

    private void scatterFirstGradient(Matrix gradient) {
      float[][] sums = new float[2 * p][gradient.columns()];
      float[] row = new float[gradient.columns()];
      for (int i = 0; i < pairs.size(); i++) {
        gradHidden1.getRow(i, row);
        add(sums[pairs.left()[i]], row);
        add(sums[p + pairs.right()[i]], row);
      }
      for (int i = 0; i < sums.length; i++) {
        gradient.setRow(i, sums[i]);
      }
    }
  }

  private static void add(float[] sum, float[] addend) {
    for (int j = 0; j < sum.length; j++) {
      sum[j] += addend[j];
    }
  }

  private static void relu(Matrix matrix) {
    float[] row = new float[matrix.columns()];
    for (int i = 0; i < matrix.rows(); i++) {
      matrix.getRow(i, row);
      for (int j = 0; j < row.length; j++) {
        row[j] = Math.max(0, row[j]);
      }
      matrix.setRow(i, row);
    }
  }

  private static void zeroWhereInactive(Matrix gradient, Matrix activation) {
    float[] slope = new float[gradient.columns()];
    float[] active = new float[gradient.columns()];
    for (int i = 0; i < gradient.rows(); i++) {
      gradient.getRow(i, slope);
      activation.getRow(i, active);
      for (int j = 0; j < slope.length; j++) {
        slope[j] = active[j] > 0 ? slope[j] : 0;
      }
      gradient.setRow(i, slope);
    }
  }
}
