// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.util.stream.IntStream;

/** Statistics of the logits that an LM head gives for a few hidden states. */
public final class ExitHeadProblem extends Problem<RowStats> {
  /** A norm amplifies the rounding of x to bf16, where two correct results may differ by a step. */
  private static final double ROUNDED_TOLERANCE = 5e-3;

  public final Matrix hidden;
  public final Matrix weight;

  /** Null: no norm in front of the head; else an RMS norm with {@link #normEps}. */
  public final Matrix normWeight;

  public final float normEps;

  /** Null: the whole vocabulary. */
  public final int[] shortlist;

  /** Whether every statistic is asked for, or only the four of an exit decision. */
  public final boolean all;

  public ExitHeadProblem(Matrix hidden, Matrix weight, Matrix normWeight, float normEps,
      int[] shortlist, boolean all) {
    super("exit_head");
    this.hidden = hidden;
    this.weight = weight;
    this.normWeight = normWeight;
    this.normEps = normEps;
    this.shortlist = shortlist;
    this.all = all;
  }

  /** The norm weights of the case tables. */
  public static Matrix normWeight(int width, int seed) {
    Words words = new Words(seed, 3);
    return Matrix.of(1, width, Storage.F32, i -> 1 + words.bell(i) / 4);
  }

  /** The shortlist of {@code count} entries of the case tables. */
  public static int[] shortlist(int count, int vocabulary) {
    int[] list = new int[count];
    for (int k = 0; k < count; k++) {
      list[k] = (int) ((long) k * vocabulary / count);
    }
    return list;
  }

  /** Whether nothing stands between the hidden state and four statistics of all logits. */
  public boolean bare() {
    return normWeight == null && shortlist == null && !all;
  }

  /** Bytes that must be read: the rows of the weights that take part, and the hidden states. */
  @Override
  public long bytes() {
    return hidden.bytes()
        + (shortlist == null ? weight.bytes()
                             : (long) shortlist.length * weight.cols() * weight.storage().bytes());
  }

  /** Multiply-adds of the LM head. */
  @Override
  public long multiplyAdds() {
    int vocabulary = shortlist == null ? weight.rows() : shortlist.length;
    return (long) hidden.rows() * vocabulary * weight.cols();
  }

  @Override
  public void check(RowStats stats) {
    Check.length("statistics", hidden.rows(), stats.argmax.length);
    double tolerance = normWeight != null && rounded() ? ROUNDED_TOLERANCE : Check.F32_TOLERANCE;
    for (int r = 0; r < hidden.rows(); r++) {
      Rows.check(Normalizer.SOFTMAX, logits(state(r)), shortlist, r, stats, tolerance);
    }
  }

  private boolean rounded() {
    return hidden.storage() == Storage.BF16 && weight.storage() == Storage.BF16;
  }

  private double[] state(int row) {
    double[] x = Rows.row(hidden, row);
    if (normWeight == null) {
      return x;
    }
    double squares = 0;
    for (double value : x) {
      squares += value * value;
    }
    double scale = 1 / Math.sqrt(squares / x.length + normEps);
    for (int i = 0; i < x.length; i++) {
      x[i] *= scale * normWeight.values()[i];
      x[i] = rounded() ? Storage.BF16.stored((float) x[i]) : x[i];
    }
    return x;
  }

  private double[] logits(double[] x) {
    double[] z = new double[shortlist == null ? weight.rows() : shortlist.length];
    IntStream.range(0, z.length)
        .parallel()
        .forEach(i -> z[i] = dot(x, weight.values(), shortlist == null ? i : shortlist[i]));
    return z;
  }

  private static double dot(double[] x, float[] weights, int row) {
    double sum = 0;
    for (int i = 0; i < x.length; i++) {
      sum += x[i] * weights[row * x.length + i];
    }
    return sum;
  }
}
