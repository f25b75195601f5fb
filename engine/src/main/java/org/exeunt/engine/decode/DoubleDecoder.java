// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import java.util.Arrays;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Tensor;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.Weight;

/**
 * A text through the whole model in double precision, over weights, keys and values as they are
 * stored: what differs from it is the decoder's arithmetic.
 */
public final class DoubleDecoder {
  private static final int ROWS_AT_ONCE = 64;
  private static final int TOKENS_AT_ONCE = 64;

  private final int[] argmax;
  private final double[] margin;
  private double nll;

  private final LlamaWeights weights;
  private final LlamaConfig config;
  private final boolean gemma; // what that means is written down here a second time
  private final int tokens;
  private final double[][] state; // what the head reads

  /** Runs {@code ids} at positions 0, 1, … */
  public DoubleDecoder(LlamaWeights weights, int... ids) {
    this.weights = weights;
    config = weights.config();
    gemma = config.architecture() == LlamaConfig.Architecture.GEMMA3;
    tokens = ids.length;
    argmax = new int[tokens];
    margin = new double[tokens];
    double[][] x = new double[tokens][];
    for (int t = 0; t < tokens; t++) {
      x[t] = widened(weights.embedding().rows(ids[t], ids[t] + 1).toFloatArray());
      for (int i = 0; i < x[t].length; i++) {
        x[t][i] *= gemma ? Math.sqrt(x[t].length) : 1;
      }
    }
    for (int l = 0; l < config.layers(); l++) {
      LlamaWeights.Layer layer = weights.layers().get(l);
      double[][] normed = norm(x, layer.attentionNorm());
      double[][] projected = joined(
          times(normed, layer.query()), times(normed, layer.key()), times(normed, layer.value()));
      if (layer.bias() != null) {
        double[][] bias = new double[tokens][];
        Arrays.fill(bias, widened(layer.bias()));
        add(projected, bias);
      }
      double[][] attended = times(attention(l, projected), layer.output());
      add(x, branch(attended, layer.attentionBranchNorm()));
      double[][] state = norm(x, layer.feedForwardNorm());
      double[][] inner = times(state, layer.gate());
      double[][] up = times(state, layer.up());
      for (int t = 0; t < tokens; t++) {
        for (int i = 0; i < inner[t].length; i++) {
          inner[t][i] = activated(inner[t][i]) * up[t][i];
        }
      }
      add(x, branch(times(inner, layer.down()), layer.feedForwardBranchNorm()));
    }
    state = norm(x, weights.outputNorm());
    for (int from = 0; from < tokens; from += TOKENS_AT_ONCE) {
      look(logits(from, Math.min(tokens, from + TOKENS_AT_ONCE)), from, ids);
    }
  }

  /** The most likely next token of each position; not copied. */
  public int[] argmax() {
    return argmax;
  }

  /** How far the second logit of each position lies below the first; not copied. */
  public double[] margin() {
    return margin;
  }

  /** All logits of the positions in [from, to), computed again. */
  public double[][] logits(int from, int to) {
    return times(Arrays.copyOfRange(state, from, to), weights.head());
  }

  /** The sum of -ln p of the tokens that did come. */
  public double nll() {
    return nll;
  }

  private double activated(double z) {
    return gemma
        ? z / 2 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (z + 0.044715 * z * z * z)))
        : z / (1 + Math.exp(-z));
  }

  /** Five of six layers see a window. */
  private boolean isLocal(int layer) {
    return gemma && layer % 6 != 5;
  }

  private double[][] branch(double[][] added, Tensor norm) {
    return norm == null ? added : norm(added, norm);
  }

  private void look(double[][] logits, int from, int... ids) {
    for (int row = 0; row < logits.length; row++) {
      double[] z = logits[row];
      int first = 0;
      double second = Double.NEGATIVE_INFINITY;
      for (int v = 1; v < z.length; v++) {
        if (z[v] > z[first]) {
          second = z[first];
          first = v;
        } else {
          second = Math.max(second, z[v]);
        }
      }
      double most = z[first];
      int t = from + row;
      argmax[t] = first;
      margin[t] = most - second;
      if (t + 1 < tokens) {
        nll += most + Math.log(Arrays.stream(z).map(l -> Math.exp(l - most)).sum()) - z[ids[t + 1]];
      }
    }
  }

  private double[][] norm(double[][] x, Tensor weight) {
    double[] w = widened(weight);
    double[][] to = new double[tokens][];
    for (int t = 0; t < tokens; t++) {
      to[t] = x[t].clone();
      norm(to[t], 0, w);
    }
    return to;
  }

  /** As many elements from {@code at} on as there are weights. */
  private void norm(double[] x, int at, double... weight) {
    double square = 0;
    for (int i = 0; i < weight.length; i++) {
      square += x[at + i] * x[at + i];
    }
    double scale = 1 / Math.sqrt(square / weight.length + config.epsilon());
    for (int i = 0; i < weight.length; i++) {
      x[at + i] *= scale * weight[i];
    }
  }

  /** Rows of x with each row of a matrix. */
  private static double[][] times(double[][] x, Weight matrix) {
    int outputs = (int) matrix.rows();
    int width = (int) matrix.columns();
    double[][] to = new double[x.length][outputs];
    IntStream.range(0, (outputs + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE).parallel().forEach(block -> {
      int from = block * ROWS_AT_ONCE;
      int until = Math.min(outputs, from + ROWS_AT_ONCE);
      double[] rows = widened(matrix.rows(from, until).toFloatArray());
      for (int row = from; row < until; row++) {
        for (int t = 0; t < x.length; t++) {
          to[t][row] = dot(x[t], rows, (row - from) * width);
        }
      }
    });
    return to;
  }

  /** Four sums, so that additions need not wait for each other. */
  private static double dot(double[] x, double[] row, int at) {
    double a = 0;
    double b = 0;
    double c = 0;
    double d = 0;
    int i = 0;
    for (; i + 3 < x.length; i += 4) {
      a = Math.fma(x[i], row[at + i], a);
      b = Math.fma(x[i + 1], row[at + i + 1], b);
      c = Math.fma(x[i + 2], row[at + i + 2], c);
      d = Math.fma(x[i + 3], row[at + i + 3], d);
    }
    for (; i < x.length; i++) {
      a = Math.fma(x[i], row[at + i], a);
    }
    return a + b + (c + d);
  }

  /** Of rows of all queries, then all keys, then all values. */
  private double[][] attention(int layer, double[][] projected) {
    LlamaWeights.Layer weight = weights.layers().get(layer);
    int queries = config.heads() * config.headWidth();
    int keys = config.kvHeads() * config.headWidth();
    double[][] to = new double[tokens][queries];
    for (int t = 0; t < tokens; t++) {
      for (int head = 0; head < config.heads() + config.kvHeads(); head++) {
        if (weight.keyNorm() != null) {
          norm(projected[t], head * config.headWidth(),
              widened(head < config.heads() ? weight.queryNorm() : weight.keyNorm()));
        }
        rotate(projected[t], head * config.headWidth(), t, isLocal(layer));
      }
      for (int i = queries; i < queries + 2 * keys; i++) {
        projected[t][i] = stored(projected[t][i]);
      }
    }
    IntStream.range(0, tokens).parallel().forEach(t -> {
      for (int head = 0; head < config.heads(); head++) {
        int query = head * config.headWidth();
        int shared = head / (config.heads() / config.kvHeads()) * config.headWidth();
        int first = isLocal(layer) ? Math.max(0, t + 1 - config.window()) : 0;
        attend(projected, first, t, query, queries + shared, queries + keys + shared, to[t]);
      }
    });
    return to;
  }

  private void attend(
      double[][] rows, int first, int t, int query, int key, int value, double[] to) {
    double[] p = new double[t + 1];
    double most = Double.NEGATIVE_INFINITY;
    for (int s = first; s <= t; s++) {
      for (int i = 0; i < config.headWidth(); i++) {
        p[s] += rows[t][query + i] * rows[s][key + i];
      }
      p[s] /= Math.sqrt(config.headWidth());
      most = Math.max(most, p[s]);
    }
    double sum = 0;
    for (int s = first; s <= t; s++) {
      p[s] = Math.exp(p[s] - most);
      sum += p[s];
    }
    for (int s = first; s <= t; s++) {
      for (int i = 0; i < config.headWidth(); i++) {
        to[query + i] += p[s] / sum * rows[s][value + i];
      }
    }
  }

  /** Neighbouring pairs in Llama's files, halves of a head in Gemma's. */
  private void rotate(double[] row, int at, int position, boolean local) {
    int width = config.headWidth();
    boolean pairs = !gemma;
    double base = local ? 10000 : config.ropeBase();
    for (int i = 0; i < width / 2; i++) {
      double turn = position * Math.pow(base, -2.0 * i / width);
      if (!local) {
        turn /= config.ropeFactor();
        turn /= weights.ropeFactors() == null ? 1 : weights.ropeFactors().toFloatArray()[i];
      }
      int first = at + (pairs ? 2 * i : i);
      int second = first + (pairs ? 1 : width / 2);
      double a = row[first];
      double b = row[second];
      row[first] = a * Math.cos(turn) - b * Math.sin(turn);
      row[second] = a * Math.sin(turn) + b * Math.cos(turn);
    }
  }

  private static void add(double[][] x, double[][] branch) {
    for (int t = 0; t < x.length; t++) {
      for (int i = 0; i < x[t].length; i++) {
        x[t][i] += branch[t][i];
      }
    }
  }

  /** A key's or value's element as the cache holds it. */
  private double stored(double element) {
    return switch (weights.cacheType()) {
      case BF16 -> DType.bf16ToFloat(DType.floatToBf16((float) element));
      case F16 -> DType.f16ToFloat(DType.floatToF16((float) element));
      default -> element;
    };
  }

  /** Rows side by side. */
  private static double[][] joined(double[][]... parts) {
    double[][] rows = parts[0].clone();
    for (int i = 1; i < parts.length; i++) {
      for (int t = 0; t < rows.length; t++) {
        int width = rows[t].length;
        rows[t] = Arrays.copyOf(rows[t], width + parts[i][t].length);
        System.arraycopy(parts[i][t], 0, rows[t], width, parts[i][t].length);
      }
    }
    return rows;
  }

  private static double[] widened(Tensor tensor) {
    return widened(tensor.toFloatArray());
  }

  private static double[] widened(float... narrow) {
    double[] wide = new double[narrow.length];
    for (int i = 0; i < wide.length; i++) {
      wide[i] = narrow[i];
    }
    return wide;
  }
}
