// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import java.util.Map;

/** A BERT encoder in double precision, plainly and slowly: the judge. */
final class DoubleEncoder {
  private final Map<String, float[]> weights;
  private final Map<String, String> matrices;
  private final int width;
  private final int heads;
  private final int feedForward;

  /** @param matrices the initialiser that a block of a layer multiplies by */
  DoubleEncoder(Map<String, float[]> weights, Map<String, String> matrices, int width, int heads,
      int feedForward) {
    this.weights = weights;
    this.matrices = matrices;
    this.width = width;
    this.heads = heads;
    this.feedForward = feedForward;
  }

  double[][] embed(int[] tokens) {
    float[] words = weights.get("embeddings.word_embeddings.weight");
    float[] positions = weights.get("embeddings.position_embeddings.weight");
    float[] types = weights.get("embeddings.token_type_embeddings.weight");
    double[][] states = new double[tokens.length][width];
    for (int t = 0; t < tokens.length; t++) {
      for (int i = 0; i < width; i++) {
        states[t][i] = (double) words[tokens[t] * width + i] + positions[t * width + i] + types[i];
      }
      norm(states[t], "embeddings.LayerNorm");
    }
    return states;
  }

  /** One layer, which all see all of. */
  double[][] layer(int layer, double[][] states) {
    String name = "encoder.layer." + layer + ".";
    int dim = width / heads;
    double[][] query = dense(name, "attention/self/query", states, width);
    double[][] key = dense(name, "attention/self/key", states, width);
    double[][] value = dense(name, "attention/self/value", states, width);
    double[][] mixed = new double[states.length][width];
    for (int t = 0; t < states.length; t++) {
      for (int h = 0; h < heads; h++) {
        double[] score = new double[states.length];
        double sum = 0;
        for (int s = 0; s < states.length; s++) {
          for (int i = h * dim; i < (h + 1) * dim; i++) {
            score[s] += query[t][i] * key[s][i] / Math.sqrt(dim);
          }
          score[s] = Math.exp(score[s]);
          sum += score[s];
        }
        for (int s = 0; s < states.length; s++) {
          for (int i = h * dim; i < (h + 1) * dim; i++) {
            mixed[t][i] += score[s] / sum * value[s][i];
          }
        }
      }
    }
    double[][] attended = added(states, dense(name, "attention/output/dense", mixed, width));
    normAll(attended, name + "attention.output.LayerNorm");
    double[][] up = dense(name, "intermediate/dense", attended, feedForward);
    for (double[] row : up) {
      for (int i = 0; i < row.length; i++) {
        row[i] = row[i] / 2 * (1 + erf(row[i] / Math.sqrt(2)));
      }
    }
    double[][] out = added(attended, dense(name, "output/dense", up, width));
    normAll(out, name + "output.LayerNorm");
    return out;
  }

  private double[][] dense(String layer, String block, double[][] inputs, int outputs) {
    float[] weight = weights.get(matrices.get(layer + block));
    float[] bias = weights.get(layer + block.replace('/', '.') + ".bias");
    double[][] result = new double[inputs.length][outputs];
    for (int t = 0; t < inputs.length; t++) {
      for (int o = 0; o < outputs; o++) {
        result[t][o] = bias[o];
        for (int i = 0; i < inputs[t].length; i++) {
          result[t][o] += inputs[t][i] * weight[i * outputs + o];
        }
      }
    }
    return result;
  }

  private static double[][] added(double[][] a, double[][] b) {
    double[][] sum = new double[a.length][a[0].length];
    for (int t = 0; t < a.length; t++) {
      for (int i = 0; i < sum[t].length; i++) {
        sum[t][i] = a[t][i] + b[t][i];
      }
    }
    return sum;
  }

  private void normAll(double[][] states, String name) {
    for (double[] row : states) {
      norm(row, name);
    }
  }

  private void norm(double[] row, String name) {
    double mean = 0;
    double variance = 0;
    for (double x : row) {
      mean += x / row.length;
    }
    for (double x : row) {
      variance += (x - mean) * (x - mean) / row.length;
    }
    for (int i = 0; i < row.length; i++) {
      row[i] = (row[i] - mean) / Math.sqrt(variance + 1e-12) * weights.get(name + ".weight")[i]
          + weights.get(name + ".bias")[i];
    }
  }

  /** By its series; the arguments here are small. */
  private static double erf(double x) {
    double sum = 0;
    double term = x;
    for (int n = 0; n < 200; n++) {
      sum += term / (2 * n + 1);
      term *= -x * x / (n + 1);
    }
    return Math.abs(x) > 5 ? Math.signum(x) : 2 / Math.sqrt(Math.PI) * sum;
  }
}
