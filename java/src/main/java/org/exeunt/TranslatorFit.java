// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.Objects;

/**
 * Fits the affine translator of an {@link ExitHead}: the map {@code y = T x + t} that carries the
 * hidden state of an early exit towards the state the LM head was trained on, by ridge regression
 * in closed form. One fit per exit; a stock model's middle layers gain much agreement by it, at
 * about 1 % of the head's cost.
 *
 * <p>Feed it pairs of rows from a calibration text: {@code from} the state at the exit as the
 * translator will see it (with {@link ExitHead.Translate#RMS}: divided by its root mean
 * square), {@code to} the state that should come out of the translator. Use several
 * samples per column at least; with fewer, only the penalty keeps the result finite.
 *
 * <p>The penalty is a share of the mean diagonal of the normal equations and leaves the bias alone.
 * Sums and the solution are double. Needs {@code 16 D^2} bytes, time {@code O(D^2)} per sample and
 * {@code O(D^3)} to solve. Plain Java, CPU only. Not thread-safe.
 *
 * <p>"Tuned lens" (Belrose et al. 2023) trains the same map by descent on the KL divergence.
 */
public final class TranslatorFit {
  /**
   * A fitted translator.
   *
   * @param weight [D,D] row-major, (out, in), as {@link ExitHead.Builder} takes it
   * @param bias [D]
   */
  public record Translator(float[] weight, float[] bias) {}

  private final int dim;
  private final int width; // columns of the design matrix: D and one for the bias
  private final double[] gram; // [width, width], lower triangle
  private final double[] cross; // [width, dim]
  private final double[] x;
  private long samples;

  /**
   * An empty fit.
   *
   * @param dim D, 1 to 16384
   * @throws IllegalArgumentException if {@code dim} is out of range
   */
  public TranslatorFit(int dim) {
    if (dim < 1 || dim > 16384) {
      throw new IllegalArgumentException("dim is " + dim + ", expected 1..16384");
    }
    this.dim = dim;
    width = dim + 1;
    gram = new double[width * width];
    cross = new double[width * dim];
    x = new double[width];
  }

  /**
   * Adds one pair of rows.
   *
   * @param from [D], finite
   * @param to [D], finite
   * @throws IllegalArgumentException if a length differs from D or a value is not finite; nothing
   *     was added
   */
  public void add(float[] from, float[] to) {
    require("from", from);
    require("to", to);
    for (int i = 0; i < dim; i++) {
      x[i] = from[i];
    }
    x[dim] = 1;
    for (int i = 0; i < width; i++) {
      addScaled(gram, i * width, x[i], x, i + 1);
      addScaled(cross, i * dim, x[i], to);
    }
    samples++;
  }

  /**
   * How many pairs were added.
   *
   * @return 0 at first
   */
  public long samples() {
    return samples;
  }

  /**
   * Solves the normal equations of what was added so far; more may be added afterwards.
   *
   * @param penalty share of the mean diagonal that is added to the diagonal, positive; 1e-3 is a
   *     good start
   * @return the translator
   * @throws IllegalArgumentException if the penalty is not positive and finite
   * @throws IllegalStateException if nothing was added
   */
  public Translator solve(double penalty) {
    if (!(penalty > 0) || Double.isInfinite(penalty)) {
      throw new IllegalArgumentException("penalty is " + penalty + ", expected a finite value > 0");
    }
    if (samples == 0) {
      throw new IllegalStateException("samples is 0, at least 1 is needed before solve()");
    }
    double[] factor = gram.clone();
    double trace = 0;
    for (int i = 0; i < dim; i++) {
      trace += gram[i * width + i];
    }
    double ridge = Math.max(penalty * trace / dim, Double.MIN_NORMAL);
    for (int i = 0; i < dim; i++) {
      factor[i * width + i] += ridge;
    }
    choleskyInPlace(factor);
    double[] solution = cross.clone();
    substitute(factor, solution);
    return unpack(solution);
  }

  private void require(String name, float[] row) {
    Objects.requireNonNull(row, name);
    if (row.length != dim) {
      throw new IllegalArgumentException(
          name + " has " + row.length + " elements, but the fit has D = " + dim);
    }
    for (int i = 0; i < dim; i++) {
      if (!Float.isFinite(row[i])) {
        throw new IllegalArgumentException(name + "[" + i + "] is " + row[i] + ", not finite");
      }
    }
  }

  private static void addScaled(double[] sum, int at, double factor, double[] row, int count) {
    for (int j = 0; j < count; j++) {
      sum[at + j] += factor * row[j];
    }
  }

  private static void addScaled(double[] sum, int at, double factor, float[] row) {
    for (int j = 0; j < row.length; j++) {
      sum[at + j] += factor * row[j];
    }
  }

  /** The lower triangle of a positive definite matrix becomes its Cholesky factor, row by row. */
  private void choleskyInPlace(double[] a) {
    for (int i = 0; i < width; i++) {
      for (int j = 0; j <= i; j++) {
        double sum = a[i * width + j];
        for (int k = 0; k < j; k++) {
          sum -= a[i * width + k] * a[j * width + k];
        }
        // Without its ridge the bias's own pivot is at least 0; rounding may leave it below.
        a[i * width + j] =
            i == j ? Math.sqrt(Math.max(sum, Double.MIN_NORMAL)) : sum / a[j * width + j];
      }
    }
  }

  /** Solves L L' S = B for all columns of B at once, in place. */
  private void substitute(double[] factor, double[] b) {
    for (int i = 0; i < width; i++) {
      for (int k = 0; k < i; k++) {
        subtractRow(b, i, factor[i * width + k], k);
      }
      divideRow(b, i, factor[i * width + i]);
    }
    for (int i = width - 1; i >= 0; i--) {
      for (int k = i + 1; k < width; k++) {
        subtractRow(b, i, factor[k * width + i], k);
      }
      divideRow(b, i, factor[i * width + i]);
    }
  }

  private void subtractRow(double[] b, int row, double factor, int other) {
    for (int j = 0; j < dim; j++) {
      b[row * dim + j] -= factor * b[other * dim + j];
    }
  }

  private void divideRow(double[] b, int row, double divisor) {
    for (int j = 0; j < dim; j++) {
      b[row * dim + j] /= divisor;
    }
  }

  private Translator unpack(double[] solution) {
    float[] weight = new float[dim * dim];
    float[] bias = new float[dim];
    for (int out = 0; out < dim; out++) {
      for (int in = 0; in < dim; in++) {
        weight[out * dim + in] = (float) solution[in * dim + out];
      }
      bias[out] = (float) solution[dim * dim + out];
    }
    return new Translator(weight, bias);
  }
}
