// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * Beta-Rank: how much each filter of a convolution does for what the layer makes of its inputs, in
 * comparison with the layer's other filters. {@link PruneMask} over the scores, seen as one row, says
 * which filters go.
 *
 * <p>Over a batch of inputs, with the weights w of filter o,
 *
 * <pre>
 *   rank[o]  = mean |w[o]| * sum over positions p of std(out[:,o,p]) / std(window(p))
 *   score[o] = (rank[o] - min rank) / (max rank - min rank)
 * </pre>
 *
 * <p>Standard deviations are those of the whole population, over the batch for an output, and over
 * the batch and all elements of the window for the input. A filter of which the outputs vary much
 * where its inputs hardly do ranks high, whatever the size of its weights.
 *
 * <p>The formula is that of the authors' code (mohofar/Beta-Rank, std_filters); their paper was not at
 * hand, so it is <b>not verified</b> against it. In their code the window begins at axes 1 and 2 of
 * the input, channels and rows, where rows and columns are meant, and takes all columns: {@link
 * Window#CODE} is that, {@link Window#PATCH} what is meant. Windows without elements and with a NaN
 * are skipped, as there. Where the code divides by 0 and makes all scores of a layer NaN, this class
 * goes its own way: a window that does not vary is skipped, too, and scores are 0 where all ranks are
 * equal.
 *
 * <p>Computed on the host, in double precision: the scores are made once for a layer. Immutable
 * values, no state; thread-safe.
 */
public final class BetaRank {
  private BetaRank() {}

  /** Which elements of the input belong to a position of the output. */
  public enum Window {
    /**
     * As the authors' code has it: at position (y, x) the channels from y s on, as many as a filter
     * has rows, and the rows from x s on, as many as it has columns, with all columns.
     */
    CODE,
    /** All channels of the rows from y s on and the columns from x s on that a filter covers. */
    PATCH
  }

  /**
   * Scores the filters of a layer by one batch. The stride s is the width of the input over that of
   * the output, rounded down; padding is not taken into account, and windows end at the edge of the
   * input, as in the authors' code.
   *
   * @param weight [O,C,KH,KW], any floating type, last stride 1
   * @param input [N,C,H,W], what the layer reads
   * @param output [N,O,OH,OW], what it makes of it
   * @param window which elements belong together
   * @return O scores, from 0 to 1; all of them NaN where weights or outputs have one
   * @throws IllegalArgumentException if shapes do not fit, or a size is 0
   */
  public static double[] scores(Tensor weight, Tensor input, Tensor output, Window window) {
    Images w = Images.of("weight", weight);
    Images in = Images.of("input", input);
    Images out = Images.of("output", output);
    if (window == null) {
      throw new IllegalArgumentException("window is null");
    }
    requireSame("input", "channels", in.channels, "weight", w.channels);
    requireSame("output", "channels", out.channels, "weight", w.count, "filters");
    requireSame("output", "images", out.count, "input", in.count);
    if (out.columns > in.columns) {
      throw new IllegalArgumentException("output has " + out.columns + " columns, but input "
          + in.columns + ": there is no stride");
    }
    double[] inverse =
        window == Window.PATCH ? inversesOfPatches(w, in, out) : inversesOfTheCode(w, in, out);
    double[] ranks = new double[w.count];
    for (int filter = 0; filter < w.count; filter++) {
      double sum = 0;
      for (int position = 0; position < inverse.length; position++) {
        if (inverse[position] > 0) {
          sum += deviationOfBatch(out, filter, position) * inverse[position];
        }
      }
      ranks[filter] = meanMagnitude(w, filter) * sum;
    }
    return scaled(ranks);
  }

  /** Sums that lose nothing where values stand far from 0, and that see where nothing varies. */
  private static final class Moments {
    private long count;
    private double mean;
    private double squares;

    void add(double value) {
      double off = value - mean;
      mean += off / ++count;
      squares += off * (value - mean);
    }

    void add(Moments other) {
      if (other.count == 0) {
        return;
      }
      long all = count + other.count;
      double off = other.mean - mean;
      squares += other.squares + off * off * count / all * other.count;
      mean += off * other.count / all;
      count = all;
    }

    double deviation() {
      return Math.sqrt(squares / count);
    }

    /** 0 for a window that is skipped. */
    double inverse() {
      return squares > 0 ? 1 / deviation() : 0;
    }
  }

  private record Images(float[] values, int count, int channels, int rows, int columns) {
    static Images of(String name, Tensor tensor) {
      if (tensor == null) {
        throw new IllegalArgumentException(name + " is null");
      }
      long[] shape = tensor.shape();
      if (shape.length != 4) {
        throw new IllegalArgumentException(name + " has " + shape.length + " axes, expected 4");
      }
      for (int axis = 0; axis < 4; axis++) {
        if (shape[axis] < 1 || shape[axis] > Integer.MAX_VALUE) {
          throw new IllegalArgumentException(
              name + " has size " + shape[axis] + " in axis " + axis + ", expected at least 1");
        }
      }
      return new Images(
          tensor.toFloatArray(), (int) shape[0], (int) shape[1], (int) shape[2], (int) shape[3]);
    }

    float at(int image, int channel, int row, int column) {
      return values[((image * channels + channel) * rows + row) * columns + column];
    }
  }

  private static double deviationOfBatch(Images out, int filter, int position) {
    Moments moments = new Moments();
    for (int image = 0; image < out.count; image++) {
      moments.add(out.at(image, filter, position / out.columns, position % out.columns));
    }
    return moments.deviation();
  }

  private static double meanMagnitude(Images w, int filter) {
    int size = w.channels * w.rows * w.columns;
    double sum = 0;
    for (int i = 0; i < size; i++) {
      sum += Math.abs(w.values[filter * size + i]);
    }
    return sum / size;
  }

  /** 1 / std of each position's patch; all images and channels of a pixel are added up once. */
  private static double[] inversesOfPatches(Images w, Images in, Images out) {
    Moments[] pixels = new Moments[in.rows * in.columns];
    for (int pixel = 0; pixel < pixels.length; pixel++) {
      pixels[pixel] = new Moments();
      for (int image = 0; image < in.count; image++) {
        for (int channel = 0; channel < in.channels; channel++) {
          pixels[pixel].add(in.at(image, channel, pixel / in.columns, pixel % in.columns));
        }
      }
    }
    return inverses(in, out, in.rows, w.rows, in.columns, w.columns,
        (row, column) -> pixels[row * in.columns + column]);
  }

  private static double[] inversesOfTheCode(Images w, Images in, Images out) {
    Moments[] lines = new Moments[in.channels * in.rows];
    for (int line = 0; line < lines.length; line++) {
      lines[line] = new Moments();
      for (int image = 0; image < in.count; image++) {
        for (int column = 0; column < in.columns; column++) {
          lines[line].add(in.at(image, line / in.rows, line % in.rows, column));
        }
      }
    }
    return inverses(in, out, in.channels, w.rows, in.rows, w.columns,
        (channel, row) -> lines[channel * in.rows + row]);
  }

  private interface Cells {
    Moments at(int first, int second);
  }

  /** Of windows of so many cells along two axes of so many, which begin at the position times s. */
  private static double[] inverses(Images in, Images out, int firstSize, int firstWindow,
      int secondSize, int secondWindow, Cells cells) {
    int stride = in.columns / out.columns;
    double[] inverses = new double[out.rows * out.columns];
    for (int position = 0; position < inverses.length; position++) {
      long first = (long) (position / out.columns) * stride;
      long second = (long) (position % out.columns) * stride;
      Moments window = new Moments();
      for (long i = first; i < Math.min(first + firstWindow, firstSize); i++) {
        for (long j = second; j < Math.min(second + secondWindow, secondSize); j++) {
          window.add(cells.at((int) i, (int) j));
        }
      }
      inverses[position] = window.inverse();
    }
    return inverses;
  }

  private static double[] scaled(double[] ranks) {
    double least = Double.POSITIVE_INFINITY;
    double most = Double.NEGATIVE_INFINITY;
    for (double rank : ranks) {
      least = Math.min(least, rank);
      most = Math.max(most, rank);
    }
    double[] scores = new double[ranks.length];
    for (int i = 0; i < scores.length; i++) {
      scores[i] = most == least ? 0 : (ranks[i] - least) / (most - least);
    }
    return scores;
  }

  private static void requireSame(String name, String what, int got, String because, int expected) {
    requireSame(name, what, got, because, expected, what);
  }

  private static void requireSame(
      String name, String what, int got, String because, int expected, String expectedWhat) {
    if (got != expected) {
      throw new IllegalArgumentException(name + " has " + got + " " + what + ", but " + because
          + " has " + expected + " " + expectedWhat);
    }
  }
}
