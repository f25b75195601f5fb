// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.train;

import java.util.Arrays;
import java.util.Objects;
import java.util.SplittableRandom;
import java.util.function.IntConsumer;
import java.util.stream.IntStream;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.DraftRule;
import org.exeunt.Gate;
import org.exeunt.Linear;
import org.exeunt.Scope;

/**
 * Fits the acceptance head of SpecDec++, whose probability {@link DraftRule.Builder#specDec} looks
 * at: residual blocks that share one weight and a linear layer, which {@link Gate} runs.
 *
 * <p>Record drafts, and feed it each drafted token: the draft model's last hidden state (after its
 * final norm) where that token was the input, and the probability that the target accepts it, {@code
 * min(1, p / q)} or, where both are greedy, 1 or 0. SpecDec++ lets the target draft 15 % of the
 * tokens, so that states after other tokens than the draft's own are seen as well; those tokens are
 * not fed.
 *
 * <p>The loss is the cross-entropy with these probabilities for labels, a missed rejection weighing
 * more than a missed acceptance:
 *
 * <pre>
 *   sum(p -log a + w (1 - p) -log(1 - a)) / sum(p + w (1 - p)),   a: the head's probability
 * </pre>
 *
 * It is descended by Adam in mini-batches, in an order that is always the same, from the head that
 * knows nothing: the same drafts give the same head, bit by bit, on any number of threads.
 *
 * <p>The fit is f32 on the CPU, its products are {@link Linear}'s; {@link #loss} is double. Keeps 4 D
 * bytes for each token. A fit needs {@code 20 D^2} bytes, and {@code 32 D} for each token of a step
 * and block; {@code 3 D^2} multiply-adds for each token, block and epoch, on the threads of both
 * {@link Backend#threads} and {@link java.util.concurrent.ForkJoinPool#commonPool}, and {@code 40 D^2}
 * bytes of memory read and written in each step, which is most of the time where steps are of few
 * tokens. Not thread-safe.
 */
public final class AcceptanceFit {
  /**
   * How the loss is descended.
   *
   * @param mismatchWeight w, positive and finite (SpecDec++: 6)
   * @param epochs how often each token is seen, 1 or more (SpecDec++: 3)
   * @param batch tokens of a step, 1 or more
   * @param rate step size of Adam, positive and finite; it falls linearly to 0
   */
  public record Settings(double mismatchWeight, int epochs, int batch, double rate) {
    /** SpecDec++'s weight and epochs; steps of 128 tokens at a rate of 0.001. */
    public static final Settings SPECDEC = new Settings(6, 3, 128, 1e-3);

    /**
     * Checks the settings.
     *
     * @param mismatchWeight w, positive and finite
     * @param epochs 1 or more
     * @param batch 1 or more
     * @param rate positive and finite
     * @throws IllegalArgumentException if one is out of range
     */
    public Settings {
      requirePositive("mismatchWeight", mismatchWeight);
      requirePositive("rate", rate);
      if (epochs < 1 || batch < 1) {
        throw new IllegalArgumentException(
            (epochs < 1 ? "epochs is " + epochs : "batch is " + batch) + ", expected at least 1");
      }
    }
  }

  /**
   * A fitted head, as {@link Gate} takes it.
   *
   * @param repeats how often the residual block is applied
   * @param hiddenWeight [D,D] row-major, (out, in), of all blocks
   * @param hiddenBias [D], of all blocks
   * @param outWeight [2,D]; the softmax of its second row is the probability
   * @param outBias [2]
   */
  public record Head(
      int repeats, float[] hiddenWeight, float[] hiddenBias, float[] outWeight, float[] outBias) {
    /**
     * Checks the sizes.
     *
     * @param repeats 0 to 64
     * @param hiddenWeight D^2 elements
     * @param hiddenBias D elements
     * @param outWeight 2 D elements
     * @param outBias 2 elements
     * @throws IllegalArgumentException if one does not go with the others, or repeats is not within
     *     0 to 64
     */
    public Head {
      requireRepeats(repeats);
      int dim = Objects.requireNonNull(hiddenBias, "hiddenBias is null").length;
      requireSize("hiddenWeight", hiddenWeight, (long) dim * dim, dim);
      requireSize("outWeight", outWeight, 2L * dim, dim);
      requireSize("outBias", outBias, 2, dim);
    }

    private static void requireSize(String name, float[] values, long expected, int dim) {
      if (Objects.requireNonNull(values, name + " is null").length != expected) {
        throw new IllegalArgumentException(name + " has " + values.length
            + " elements, but hiddenBias has D = " + dim + ": expected " + expected);
      }
    }

    /**
     * Copies the weights to the device of a builder's other tensors and gives them to it.
     *
     * @param scope owns the copies
     * @param device where they go
     * @param gate the builder of a gate; features and prob remain to be said
     * @return {@code gate}
     */
    public Gate.Builder applyTo(Scope scope, Device device, Gate.Builder gate) {
      int dim = hiddenBias.length;
      Objects.requireNonNull(scope, "scope is null");
      return Objects.requireNonNull(gate, "gate is null")
          .residual(scope.allocate(device, DType.F32, dim, dim).copyFrom(hiddenWeight),
              scope.allocate(device, DType.F32, dim).copyFrom(hiddenBias), repeats)
          .output(scope.allocate(device, DType.F32, 2, dim).copyFrom(outWeight),
              scope.allocate(device, DType.F32, 2).copyFrom(outBias));
    }
  }

  private static final int MOST_AT_ONCE = 256; // tokens whose states are kept for the gradient

  private final int dim;
  private final int repeats;
  private float[][] states = new float[16][];
  private float[] accepted = new float[16];
  private int samples;

  /**
   * An empty fit.
   *
   * @param dim D, 1 to 16384
   * @param repeats how often the residual block is applied, 0 to 64 (SpecDec++: 3)
   * @throws IllegalArgumentException if one is out of range
   */
  public AcceptanceFit(int dim, int repeats) {
    if (dim < 1 || dim > 16384) {
      throw new IllegalArgumentException("dim is " + dim + ", expected 1..16384");
    }
    requireRepeats(repeats);
    this.dim = dim;
    this.repeats = repeats;
  }

  /**
   * Adds a drafted token.
   *
   * @param state [D], finite: the hidden state where the token was the input
   * @param probability 0 to 1: that the target accepts the token
   * @throws IllegalArgumentException if the length differs from D, a value is not finite or the
   *     probability out of range; nothing was added
   */
  public void add(float[] state, float probability) {
    Objects.requireNonNull(state, "state");
    if (state.length != dim) {
      throw new IllegalArgumentException(
          "state has " + state.length + " elements, but the fit has D = " + dim);
    }
    for (int i = 0; i < dim; i++) {
      if (!Float.isFinite(state[i])) {
        throw new IllegalArgumentException("state[" + i + "] is " + state[i] + ", not finite");
      }
    }
    if (!(probability >= 0 && probability <= 1)) {
      throw new IllegalArgumentException("probability is " + probability + ", expected 0..1");
    }
    if (samples == states.length) {
      states = Arrays.copyOf(states, 2 * samples);
      accepted = Arrays.copyOf(accepted, 2 * samples);
    }
    states[samples] = state.clone();
    accepted[samples++] = probability;
  }

  /**
   * How many tokens were added.
   *
   * @return 0 at first
   */
  public int samples() {
    return samples;
  }

  /**
   * Fits a head to what was added so far; more may be added afterwards.
   *
   * @param settings how
   * @return the head
   * @throws IllegalArgumentException if a step is of more than 2^28 / (D * repeats) tokens
   * @throws IllegalStateException if nothing was added
   * @throws OutOfMemoryError if there is not enough memory
   */
  public Head solve(Settings settings) {
    Objects.requireNonNull(settings, "settings");
    requireSamples("solve()");
    int most = Math.min(settings.batch(), samples);
    if (most > AcceptanceDescent.mostTokens(dim, repeats)) {
      throw new IllegalArgumentException("a step of " + most + " tokens is too many for D = " + dim
          + " and " + repeats + " repeats: at most " + AcceptanceDescent.mostTokens(dim, repeats));
    }
    int[] order = IntStream.range(0, samples).toArray();
    SplittableRandom random = new SplittableRandom(1);
    long steps = (long) settings.epochs() * ((samples - 1L) / settings.batch() + 1);
    try (AcceptanceDescent descent = new AcceptanceDescent(dim, repeats, most, settings.rate())) {
      long taken = 0;
      for (int epoch = 0; epoch < settings.epochs(); epoch++) {
        shuffle(order, random);
        for (int first = 0; first < samples; first += most) {
          descent.step(states, accepted, order, first, Math.min(most, samples - first),
              settings.mismatchWeight(), 1 - (double) taken++ / steps);
        }
      }
      return descent.head();
    }
  }

  /**
   * The loss of a head on what was added, and where it grows: for another optimiser than the one
   * here.
   *
   * @param head with the D and the repeats of this fit
   * @param mismatchWeight w, positive and finite
   * @param gradient [D * D + 2 D + 1], receives the loss's derivatives by hiddenWeight, hiddenBias,
   *     and by what the second row of outWeight, and of outBias, has more than the first; null: none
   *     are wanted
   * @return the loss
   * @throws IllegalArgumentException if a size or the weight is wrong
   * @throws IllegalStateException if nothing was added
   */
  public double loss(Head head, double mismatchWeight, double[] gradient) {
    Objects.requireNonNull(head, "head");
    if (head.hiddenBias().length != dim || head.repeats() != repeats) {
      throw new IllegalArgumentException("head has D = " + head.hiddenBias().length + " and "
          + head.repeats() + " repeats, but the fit has D = " + dim + " and " + repeats);
    }
    requirePositive("mismatchWeight", mismatchWeight);
    if (gradient != null && gradient.length != size()) {
      throw new IllegalArgumentException(
          "gradient has " + gradient.length + " elements, but the head has " + size());
    }
    requireSamples("loss()");
    int[] order = IntStream.range(0, samples).toArray();
    return new Descent(Math.min(samples, MOST_AT_ONCE))
        .lossAndGradient(pack(head), order, 0, samples, mismatchWeight,
            gradient == null ? new double[size()] : gradient);
  }

  private void requireSamples(String before) {
    if (samples == 0) {
      throw new IllegalStateException("samples is 0, at least 1 is needed before " + before);
    }
  }

  private static void requireRepeats(int repeats) {
    if (repeats < 0 || repeats > 64) {
      throw new IllegalArgumentException("repeats is " + repeats + ", expected 0..64");
    }
  }

  private static void requirePositive(String name, double value) {
    if (!(value > 0) || Double.isInfinite(value)) {
      throw new IllegalArgumentException(name + " is " + value + ", expected a finite value > 0");
    }
  }

  // ---- weights: [D,D] and [D] of the block, [D] and 1 of the two outputs' difference ------------

  private int size() {
    return outBias() + 1;
  }

  private int hiddenBias() {
    return dim * dim;
  }

  private int out() {
    return dim * dim + dim;
  }

  private int outBias() {
    return dim * dim + 2 * dim;
  }

  private double[] pack(Head head) {
    double[] weights = new double[size()];
    for (int i = 0; i < dim * dim; i++) {
      weights[i] = head.hiddenWeight()[i];
    }
    for (int i = 0; i < dim; i++) {
      weights[hiddenBias() + i] = head.hiddenBias()[i];
      weights[out() + i] = (double) head.outWeight()[dim + i] - head.outWeight()[i];
    }
    weights[outBias()] = (double) head.outBias()[1] - head.outBias()[0];
    return weights;
  }

  private static void shuffle(int[] order, SplittableRandom random) {
    for (int i = order.length - 1; i > 0; i--) {
      int other = random.nextInt(i + 1);
      int held = order[i];
      order[i] = order[other];
      order[other] = held;
    }
  }

  /** Loss and gradient of some tokens, at most `rows` of them at once. */
  private final class Descent {
    private final int rows;
    private final double[][] input; // of each block, and of the output: [rows, D]
    private final double[][] inner; // W x + b of each block
    private final double[] back; // the loss's derivatives by a block's output, then its input
    private final double[] turned; // the transpose of W

    Descent(int rows) {
      this.rows = rows;
      input = new double[repeats + 1][rows * dim];
      inner = new double[repeats][rows * dim];
      back = new double[rows * dim];
      turned = new double[dim * dim];
    }

    double lossAndGradient(double[] weights, int[] order, int first, int end, double mismatchWeight,
        double[] gradient) {
      Arrays.fill(gradient, 0);
      double total = 0; // of the labels' weights
      for (int i = first; i < end; i++) {
        double p = accepted[order[i]];
        total += p + mismatchWeight * (1 - p);
      }
      each(dim, out -> {
        for (int in = 0; in < dim; in++) {
          turned[in * dim + out] = weights[out * dim + in];
        }
      });
      double loss = 0;
      for (int i = first; i < end; i += rows) {
        int count = Math.min(rows, end - i);
        forward(weights, order, i, count);
        loss += backward(weights, order, i, count, mismatchWeight, total, gradient);
      }
      return loss / total;
    }

    private void forward(double[] weights, int[] order, int first, int count) {
      each(count, row -> {
        float[] state = states[order[first + row]];
        for (int j = 0; j < dim; j++) {
          input[0][row * dim + j] = state[j];
        }
        for (int block = 0; block < repeats; block++) {
          double[] x = input[block];
          double[] z = inner[block];
          System.arraycopy(weights, hiddenBias(), z, row * dim, dim);
          addProducts(x, row * dim, 1, turned, dim, z, row * dim);
          for (int j = row * dim; j < (row + 1) * dim; j++) {
            input[block + 1][j] = x[j] + z[j] * sigmoid(z[j]);
          }
        }
      });
    }

    private double backward(double[] weights, int[] order, int first, int count,
        double mismatchWeight, double total, double[] gradient) {
      double loss = 0;
      double[] last = input[repeats];
      for (int row = 0; row < count; row++) {
        double logit = weights[outBias()];
        for (int j = 0; j < dim; j++) {
          logit += weights[out() + j] * last[row * dim + j];
        }
        double p = accepted[order[first + row]];
        double missed = mismatchWeight * (1 - p);
        loss += p * softplus(-logit) + missed * softplus(logit);
        double slope = (missed * sigmoid(logit) - p * sigmoid(-logit)) / total;
        gradient[outBias()] += slope;
        for (int j = 0; j < dim; j++) {
          gradient[out() + j] += slope * last[row * dim + j];
          back[row * dim + j] = slope * weights[out() + j];
        }
      }
      for (int block = repeats - 1; block >= 0; block--) {
        backward(weights, block, count, gradient);
      }
      return loss;
    }

    private void backward(double[] weights, int block, int count, double[] gradient) {
      double[] x = input[block];
      double[] z = inner[block]; // becomes the derivatives by it
      each(count, row -> {
        for (int j = row * dim; j < (row + 1) * dim; j++) {
          double s = sigmoid(z[j]);
          z[j] = back[j] * s * (1 + z[j] * (1 - s));
        }
        addProducts(z, row * dim, 1, weights, dim, back, row * dim);
      });
      each(dim, out -> addProducts(z, out, dim, x, count, gradient, out * dim));
      for (int row = 0; row < count; row++) {
        for (int j = 0; j < dim; j++) {
          gradient[hiddenBias() + j] += z[row * dim + j];
        }
      }
    }

    /**
     * sum += factor k times row k of D elements, for `count` rows; factors are `step` apart. Four
     * rows at a time: sums are read and written less often.
     */
    private void addProducts(
        double[] factors, int at, int step, double[] of, int count, double[] sum, int to) {
      int k = 0;
      for (; k + 4 <= count; k += 4) {
        double a = factors[at + k * step];
        double b = factors[at + (k + 1) * step];
        double c = factors[at + (k + 2) * step];
        double d = factors[at + (k + 3) * step];
        int from = k * dim;
        for (int j = 0; j < dim; j++) {
          sum[to + j] += a * of[from + j] + b * of[from + dim + j] + c * of[from + 2 * dim + j]
              + d * of[from + 3 * dim + j];
        }
      }
      for (; k < count; k++) {
        double a = factors[at + k * step];
        for (int j = 0; j < dim; j++) {
          sum[to + j] += a * of[k * dim + j];
        }
      }
    }
  }

  /** Each number is somebody's alone, so that threads change no bits. */
  private static void each(int count, IntConsumer action) {
    IntStream.range(0, count).parallel().forEach(action);
  }

  private static double sigmoid(double x) {
    return 1 / (1 + Math.exp(-x));
  }

  /** ln(1 + e^x). */
  private static double softplus(double x) {
    return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
  }
}
