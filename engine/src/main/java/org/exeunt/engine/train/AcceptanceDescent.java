// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.train;

import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.IntConsumer;
import java.util.stream.IntStream;
import org.exeunt.Backend;
import org.exeunt.BlockFormat;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Linear;
import org.exeunt.Packed;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.Workspace;

/**
 * Adam (Kingma and Ba 2015) on the weights of an acceptance head, in f32. The D x D weight is what
 * takes the time: products with it are {@link Linear}'s, and it lies in memory twice, in panels (see
 * {@link Packed}) of its outputs and of its inputs, for the ways forth and back. Its gradient never
 * lies in memory as a whole: some rows at a time are made and taken at once.
 *
 * <p>Each number is somebody's alone, so threads change no bits.
 */
final class AcceptanceDescent implements AutoCloseable {
  private static final double BETA_1 = .9;
  private static final double BETA_2 = .999;
  private static final double EPSILON = 1e-8;
  private static final int PANEL = 32;
  private static final int MOST_FLOATS = 1 << 28; // of an array, or of a buffer of 1 GiB
  private static final int CHUNK = 2 * PANEL; // rows of the weight whose gradient is made at a time

  private final Scope scope = Scope.open();
  private final Workspace workspace = Workspace.in(scope, Device.CPU);
  private final int dim;
  private final int repeats;
  private final double rate;
  private final Tensor byOutput; // the weight's panels: [outputs / 32][D inputs][32]
  private final Tensor byInput; // [inputs / 32][D outputs][32]
  private final Tensor bias;
  private final Tensor[] inputs; // of each block: [rows, D]
  private final Tensor sums; // W x + b of a block
  private final Tensor back; // the loss's derivatives by a block's output, then its input
  private final Tensor slopes; // those by `sums` of a block
  private final Tensor allSlopes; // those of all blocks, one column for each and token: [D, K]
  private final Tensor allInputs; // panels of the blocks' inputs: [inputs / 32][K][32]
  private final float[][] states; // of each block, and of the output: [rows, D]
  private final float[][] factors; // of each block: the derivative of SiLU
  private final float[][] derivatives; // `slopes` of each block
  private final float[] backs;
  private final float[] mean;
  private final float[] square;
  private final Lane[] lanes;
  private final Map<Integer, Products> products = new HashMap<>(); // by the number of tokens
  private final double[] rest; // hiddenBias, out and outBias
  private final double[] restGradient;
  private final double[] restMean;
  private final double[] restSquare;
  private long taken;

  /** @param most tokens of a step, at most {@link #mostTokens} */
  AcceptanceDescent(int dim, int repeats, int most, double rate) {
    this.dim = dim;
    this.repeats = repeats;
    this.rate = rate;
    states = new float[repeats + 1][most * dim];
    factors = new float[repeats][most * dim];
    derivatives = new float[repeats][most * dim];
    backs = new float[most * dim];
    int size = repeats == 0 ? 0 : dim * dim;
    mean = new float[size];
    square = new float[size];
    rest = new double[2 * dim + 1];
    restGradient = new double[rest.length];
    restMean = new double[rest.length];
    restSquare = new double[rest.length];
    lanes = new Lane[Math.max(1, Math.min(Backend.threads(), (dim - 1) / CHUNK + 1))];
    inputs = new Tensor[repeats];
    try {
      byOutput = zeros(size);
      byInput = zeros(size);
      bias = zeros(dim);
      for (int block = 0; block < repeats; block++) {
        inputs[block] = floats(most, dim);
      }
      sums = floats(most, dim);
      back = floats(most, dim);
      slopes = floats(most, dim);
      allSlopes = floats((long) repeats * most * dim);
      allInputs = floats((long) repeats * most * dim);
      Arrays.setAll(lanes, lane -> new Lane());
    } catch (RuntimeException | Error e) {
      scope.close();
      throw e;
    }
  }

  /** How many tokens a step may be of: as many as arrays can hold. */
  static int mostTokens(int dim, int repeats) {
    return MOST_FLOATS / (dim * Math.max(1, repeats));
  }

  private Tensor floats(long... extents) {
    return scope.allocate(Device.CPU, DType.F32, extents);
  }

  private Tensor zeros(int count) {
    Tensor tensor = floats(count);
    FloatBuffer buffer = tensor.floatBuffer();
    float[] piece = new float[Math.min(count, 1 << 16)];
    while (buffer.hasRemaining()) {
      buffer.put(piece, 0, Math.min(piece.length, buffer.remaining()));
    }
    return tensor;
  }

  /** What a thread has of its own. */
  private final class Lane {
    private final Workspace scratch = Workspace.in(scope, Device.CPU);
    private final Tensor gradient = floats(Math.min(CHUNK, dim), dim);
    private final float[] g = new float[CHUNK * PANEL];
    private final float[] m = new float[CHUNK * PANEL];
    private final float[] v = new float[CHUNK * PANEL];
    private final float[] w = new float[CHUNK * PANEL];
    private final float[] turned = new float[PANEL * PANEL];
  }

  /** The products of a number of tokens. */
  private final class Products {
    private final Linear[] forth = new Linear[repeats];
    private final Linear way; // back through a block
    private final List<List<Linear>> gradient = new ArrayList<>(); // of each lane's chunks

    Products(int count) {
      Tensor outputs = byOutput.reinterpret(DType.U8, 0, dim, 4L * dim);
      Tensor turned = byInput.reinterpret(DType.U8, 0, dim, 4L * dim);
      for (int block = 0; block < repeats; block++) {
        forth[block] =
            product(inputs[block].rows(0, count), outputs)
                .bias(bias)
                .out(sums.rows(0, count))
                .build(scope, workspace);
      }
      way = product(slopes.rows(0, count), turned)
                .residual(back.rows(0, count))
                .out(back.rows(0, count))
                .build(scope, workspace);
      long columns = (long) repeats * count;
      Tensor left = allSlopes.slice(0, 0, dim * columns).reshape(dim, columns);
      Tensor right = allInputs.reinterpret(DType.U8, 0, dim, 4 * columns);
      for (int lane = 0; lane < lanes.length; lane++) {
        List<Linear> own = new ArrayList<>();
        for (int from = lane * CHUNK; from < dim; from += lanes.length * CHUNK) {
          int to = Math.min(dim, from + CHUNK);
          own.add(product(left.rows(from, to), right)
                  .out(lanes[lane].gradient.rows(0, to - from))
                  .build(scope, lanes[lane].scratch));
        }
        gradient.add(own);
      }
    }

    private Linear.Builder product(Tensor input, Tensor panels) {
      return Linear.builder().input(input).weight(panels).weightBlocks(BlockFormat.PACKED_F32);
    }
  }

  /**
   * A step down the loss of some tokens.
   *
   * @param left the share of the rate that is left
   */
  void step(float[][] rows, float[] accepted, int[] order, int first, int count,
      double mismatchWeight, double left) {
    for (int row = 0; row < count; row++) {
      System.arraycopy(rows[order[first + row]], 0, states[0], row * dim, dim);
    }
    Products ops = repeats == 0 ? null : products.computeIfAbsent(count, Products::new);
    for (int block = 0; block < repeats; block++) {
      forth(ops, block, count);
    }
    outputs(accepted, order, first, count, mismatchWeight);
    for (int block = repeats - 1; block >= 0; block--) {
      back(ops, block, count);
    }
    taken++;
    double scale = rate * left / (1 - Math.pow(BETA_1, taken));
    double unbias = 1 / (1 - Math.pow(BETA_2, taken));
    if (repeats > 0) {
      takeWeight(ops, count, (float) scale, (float) unbias);
    }
    takeRest(scale, unbias);
  }

  private void forth(Products ops, int block, int count) {
    FloatBuffer in = inputs[block].floatBuffer();
    in.put(0, states[block], 0, count * dim);
    ops.forth[block].run();
    FloatBuffer out = sums.floatBuffer();
    float[] x = states[block];
    float[] next = states[block + 1];
    float[] factor = factors[block];
    each(count, row -> {
      out.get(row * dim, next, row * dim, dim);
      for (int j = row * dim; j < (row + 1) * dim; j++) {
        float z = next[j];
        float s = sigmoid(z);
        next[j] = x[j] + z * s;
        factor[j] = s * (1 + z * (1 - s));
      }
    });
  }

  /** The loss's slopes by the output's weights, and by what goes in there. */
  private void outputs(float[] accepted, int[] order, int first, int count, double mismatchWeight) {
    Arrays.fill(restGradient, 0);
    double total = 0; // of the labels' weights
    for (int row = 0; row < count; row++) {
      double p = accepted[order[first + row]];
      total += p + mismatchWeight * (1 - p);
    }
    float[] last = states[repeats];
    for (int row = 0; row < count; row++) {
      double logit = rest[2 * dim];
      for (int j = 0; j < dim; j++) {
        logit += rest[dim + j] * last[row * dim + j];
      }
      double p = accepted[order[first + row]];
      double missed = mismatchWeight * (1 - p);
      double a = 1 / (1 + Math.exp(-logit));
      double slope = (missed * a - p / (1 + Math.exp(logit))) / total;
      restGradient[2 * dim] += slope;
      for (int j = 0; j < dim; j++) {
        restGradient[dim + j] += slope * last[row * dim + j];
        backs[row * dim + j] = (float) (slope * rest[dim + j]);
      }
    }
  }

  private void back(Products ops, int block, int count) {
    float[] factor = factors[block];
    float[] slope = derivatives[block];
    FloatBuffer in = slopes.floatBuffer();
    FloatBuffer through = back.floatBuffer();
    each(count, row -> {
      for (int j = row * dim; j < (row + 1) * dim; j++) {
        slope[j] = backs[j] * factor[j];
      }
      in.put(row * dim, slope, row * dim, dim);
      through.put(row * dim, backs, row * dim, dim);
    });
    for (int row = 0; row < count; row++) {
      for (int j = 0; j < dim; j++) {
        restGradient[j] += slope[row * dim + j];
      }
    }
    if (block > 0) { // who asks for the derivatives by the states?
      ops.way.run();
      through.get(0, backs, 0, count * dim);
    }
  }

  /** Puts what the gradient is made of into its places, then makes and takes it. */
  private void takeWeight(Products ops, int count, float scale, float unbias) {
    int columns = repeats * count;
    FloatBuffer left = allSlopes.floatBuffer();
    FloatBuffer right = allInputs.floatBuffer();
    each((dim - 1) / PANEL + 1, panel -> {
      int from = panel * PANEL;
      int width = Math.min(PANEL, dim - from);
      float[] turned = new float[width * columns];
      float[] strip = new float[width * columns];
      for (int column = 0; column < columns; column++) {
        int at = column % count * dim + from;
        float[] slope = derivatives[column / count];
        System.arraycopy(states[column / count], at, strip, column * width, width);
        for (int j = 0; j < width; j++) {
          turned[j * columns + column] = slope[at + j];
        }
      }
      left.put(from * columns, turned);
      right.put(from * columns, strip);
    });
    FloatBuffer outputs = byOutput.floatBuffer();
    FloatBuffer turned = byInput.floatBuffer();
    each(lanes.length, lane -> {
      int from = lane * CHUNK;
      for (Linear product : ops.gradient.get(lane)) {
        product.run();
        take(lanes[lane], from, Math.min(CHUNK, dim - from), outputs, turned, scale, unbias);
        from += lanes.length * CHUNK;
      }
    });
  }

  /** Takes the gradient of rows {@code from} on, panel after panel of their inputs. */
  private void take(Lane lane, int from, int rows, FloatBuffer outputs, FloatBuffer turned,
      float scale, float unbias) {
    FloatBuffer gradient = lane.gradient.floatBuffer();
    for (int in = 0; in < dim; in += PANEL) {
      int width = Math.min(PANEL, dim - in);
      int count = rows * width;
      int at = in * dim + from * width; // in the weight's panels
      int own = from * dim + in * rows; // in the order in which they are taken
      for (int row = 0; row < rows; row++) {
        gradient.get(row * dim + in, lane.g, row * width, width);
      }
      System.arraycopy(mean, own, lane.m, 0, count);
      System.arraycopy(square, own, lane.v, 0, count);
      turned.get(at, lane.w, 0, count);
      adam(lane.w, lane.m, lane.v, lane.g, count, scale, unbias);
      System.arraycopy(lane.m, 0, mean, own, count);
      System.arraycopy(lane.v, 0, square, own, count);
      turned.put(at, lane.w, 0, count);
      for (int row = 0; row < rows; row += PANEL) {
        int high = Math.min(PANEL, rows - row);
        for (int i = 0; i < width; i++) {
          for (int o = 0; o < high; o++) {
            lane.turned[i * high + o] = lane.w[(row + o) * width + i];
          }
        }
        outputs.put((from + row) * dim + in * high, lane.turned, 0, width * high);
      }
    }
  }

  private static void adam(
      float[] w, float[] m, float[] v, float[] g, int count, float scale, float unbias) {
    float keeps1 = (float) BETA_1;
    float takes1 = (float) (1 - BETA_1);
    float keeps2 = (float) BETA_2;
    float takes2 = (float) (1 - BETA_2);
    float epsilon = (float) EPSILON;
    for (int i = 0; i < count; i++) {
      m[i] = keeps1 * m[i] + takes1 * g[i];
      v[i] = keeps2 * v[i] + takes2 * g[i] * g[i];
      w[i] -= scale * m[i] / ((float) Math.sqrt(v[i] * unbias) + epsilon);
    }
  }

  private void takeRest(double scale, double unbias) {
    FloatBuffer biases = bias.floatBuffer();
    for (int i = 0; i < rest.length; i++) {
      double g = restGradient[i];
      restMean[i] = BETA_1 * restMean[i] + (1 - BETA_1) * g;
      restSquare[i] = BETA_2 * restSquare[i] + (1 - BETA_2) * g * g;
      rest[i] -= scale * restMean[i] / (Math.sqrt(restSquare[i] * unbias) + EPSILON);
      if (i < dim) {
        biases.put(i, (float) rest[i]);
      }
    }
  }

  /** The weights so far. */
  AcceptanceFit.Head head() {
    float[] hidden = new float[dim * dim];
    FloatBuffer panels = byInput.floatBuffer();
    for (int in = 0; in < dim && repeats > 0; in += PANEL) {
      int width = Math.min(PANEL, dim - in);
      for (int out = 0; out < dim; out++) {
        panels.get(in * dim + out * width, hidden, out * dim + in, width);
      }
    }
    float[] biases = new float[dim];
    float[] out = new float[2 * dim];
    for (int i = 0; i < dim; i++) {
      biases[i] = (float) rest[i];
      out[dim + i] = (float) (rest[dim + i] / 2);
      out[i] = -out[dim + i];
    }
    float half = (float) (rest[2 * dim] / 2);
    return new AcceptanceFit.Head(repeats, hidden, biases, out, new float[] {-half, half});
  }

  private static float sigmoid(float x) {
    return (float) (1 / (1 + Math.exp(-x)));
  }

  private static void each(int count, IntConsumer action) {
    IntStream.range(0, count).parallel().forEach(action);
  }

  @Override
  public void close() {
    scope.close();
  }
}
