// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import java.io.Serializable;
import java.util.List;
import org.exeunt.CrossEntropy;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Normalizer;
import org.exeunt.PerpGrad;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.engine.train.AdamW;
import org.exeunt.engine.train.Matrix;

/**
 * Fits a linear map from features to two logits, full batch, by exeunt's cross-entropy and, if
 * wanted, perpGrad.
 */
public final class LinearFit {
  private static final int EPOCHS = 100;
  private static final float RATE = .003f;

  /**
   * What a fit is done with.
   *
   * @param normalizer the cross-entropy's
   * @param perpGrad whether the gradient loses its part along the weights
   */
  public record Setup(Normalizer normalizer, boolean perpGrad) implements Serializable {
    @Override
    public String toString() {
      return (normalizer == Normalizer.SOFTMAX ? "softmax" : "StableMax")
          + (perpGrad ? " + perpGrad" : "");
    }
  }

  /** Logits [2] = weight [2,D] features + bias [2]. */
  record Line(float[] weight, float[] bias) implements Serializable {
    /** The weight as a tensor. */
    Tensor weight(Scope scope) {
      return scope.copyOf(weight, 2, weight.length / 2);
    }

    Tensor bias(Scope scope) {
      return scope.copyOf(bias, 2);
    }
  }

  private LinearFit() {}

  /**
   * Fits to rows of features and their labels, 0 or 1.
   *
   * <p>The features are made alike first, with mean 0 and deviation 1, which goes into the weights
   * afterwards. The bias is the weight of a further feature that is always 1.
   */
  static Line fit(float[][] features, int[] labels, Setup setup) {
    int rows = features.length;
    int width = features[0].length;
    double[] mean = new double[width];
    double[] deviation = new double[width];
    moments(features, mean, deviation);
    Matrix inputs = new Matrix(rows, width + 1);
    float[] row = new float[width + 1];
    row[width] = 1;
    for (int r = 0; r < rows; r++) {
      for (int i = 0; i < width; i++) {
        row[i] = (float) ((features[r][i] - mean[i]) / deviation[i]);
      }
      inputs.setRow(r, row);
    }
    Matrix weight = train(inputs, labels, setup);
    Line line = new Line(new float[2 * width], new float[2]);
    for (int o = 0; o < 2; o++) {
      double bias = weight.get(o, width);
      for (int i = 0; i < width; i++) {
        line.weight()[o * width + i] = (float) (weight.get(o, i) / deviation[i]);
        bias -= weight.get(o, i) * mean[i] / deviation[i];
      }
      line.bias()[o] = (float) bias;
    }
    return line;
  }

  private static void moments(float[][] features, double[] mean, double[] deviation) {
    for (float[] row : features) {
      for (int i = 0; i < mean.length; i++) {
        mean[i] += row[i] / (double) features.length;
      }
    }
    for (float[] row : features) {
      for (int i = 0; i < mean.length; i++) {
        deviation[i] += (row[i] - mean[i]) * (row[i] - mean[i]) / features.length;
      }
    }
    for (int i = 0; i < mean.length; i++) {
      deviation[i] = Math.max(Math.sqrt(deviation[i]), 1e-6);
    }
  }

  private static Matrix train(Matrix inputs, int[] labels, Setup setup) {
    Matrix weight = new Matrix(2, inputs.columns());
    Matrix gradient = new Matrix(2, inputs.columns());
    Matrix logits = new Matrix(inputs.rows(), 2);
    Matrix gradLogits = new Matrix(inputs.rows(), 2);
    AdamW optimizer = new AdamW(List.of(weight), RATE, .9f, .99f, 1e-8f);
    try (Scope scope = Scope.open()) {
      CrossEntropy loss =
          CrossEntropy.builder()
              .logits(logits.tensor())
              .labels(scope.allocate(Device.CPU, DType.I32, labels.length).copyFrom(labels))
              .normalizer(setup.normalizer())
              .grad(gradLogits.tensor())
              .build(scope);
      PerpGrad perpGrad =
          PerpGrad.builder()
              .weight(weight.tensor())
              .grad(gradient.tensor())
              .out(gradient.tensor())
              .build(scope);
      for (int epoch = 0; epoch < EPOCHS; epoch++) {
        inputs.timesTransposed(weight, 1, logits);
        loss.run();
        gradLogits.transposedTimes(inputs, gradient);
        if (setup.perpGrad()) {
          perpGrad.run();
        }
        optimizer.step(List.of(gradient));
      }
    }
    return weight;
  }
}
