// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * How many visual tokens each partition of an image may keep (HiRED, Arif et al. 2024).
 *
 * <p>An image is encoded as {@code P = 1 + k} partitions of {@code Nv = patchRows patchCols} tokens
 * each: the full image, then its {@code k = gridRows gridCols} sub-images. The attention is what
 * the CLS token of the full image pays to each of its tokens in an early layer, summed over heads
 * ({@link AttentionScores#hired}). With all products in double, truncated to an integer:
 *
 * <pre>
 *   B      = int(P Nv rate)    B_full = min(int(B alpha), Nv)    B_sub = min(B - B_full, k Nv)
 *   s[i]   = what the attention gives region i                    {@link Score}, {@link Region}
 *   q[i]   = float(s[i] / sum s) B_sub, in f32
 *   budget = B_full, int(q[0]), int(q[1]), ..., each 0 to Nv      {@link Remainder}
 * </pre>
 *
 * <p>Equal attention is marked from the smaller index on. If the sum of s is not above 0, every
 * s[i] is 1 (where the authors' code divides 0 by 0). An image with a NaN or an infinity in its
 * attention is invalid: its budgets are all Nv, and no token is marked.
 *
 * <p>The budgets stay in device memory and are read there: {@link Selection#top(Tensor, Tensor)}
 * with a row of scores for each partition, or {@link Selection#withSegments}.
 *
 * <p>Bytes that must move: {@code 4 Nv} for each image, {@code 4 P} and, for marks, Nv written.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class HiredBudget extends Op {
  /** What a sub-image is worth. */
  public enum Score {
    /** The sum of the attention in its region (the paper). */
    SUM(exeunt.EXN_HIRED_SUM),
    /** How many of the image's top {@code int(Nv (1 - alpha))} tokens lie in it (the code). */
    TOP_COUNT(exeunt.EXN_HIRED_TOP_COUNT);

    final int code;

    Score(int code) {
      this.code = code;
    }
  }

  /** Which tokens of the full image show a sub-image. */
  public enum Region {
    /** Those of its cell of the grid. */
    GRID(exeunt.EXN_HIRED_GRID),
    /** The i-th of k equal strips of the tokens in row-major order (the code). */
    STRIP(exeunt.EXN_HIRED_STRIP);

    final int code;

    Region(int code) {
      this.code = code;
    }
  }

  /** What becomes of the tokens that truncation leaves over. */
  public enum Remainder {
    /** They are lost (the code). */
    TRUNCATE(exeunt.EXN_HIRED_TRUNCATE),
    /**
     * They go one by one to the largest fractions {@code q - int(q)}, ties to the smaller
     * sub-image, none above Nv, all over again while some are left.
     */
    LARGEST_REMAINDER(exeunt.EXN_HIRED_LARGEST_REMAINDER);

    final int code;

    Remainder(int code) {
      this.code = code;
    }
  }

  /**
   * Starts building in the form of the authors' code (hasanar1f/HiRED at 502d6dd), where it differs
   * from the paper: top tokens counted over strips, truncated. Rate .2, alpha .5, no sub-images.
   *
   * @return a builder
   */
  public static Builder asInCode() {
    return new Builder().score(Score.TOP_COUNT).region(Region.STRIP);
  }

  public static final class Builder extends Op.Builder<HiredBudget> {
    private double rate = .2;
    private double alpha = .5;
    private Score score = Score.SUM;
    private Region region = Region.GRID;
    private Remainder remainder = Remainder.TRUNCATE;

    /**
     * How much to keep.
     *
     * @param share of all tokens of the image, 0 to 1
     * @param ofFullImage alpha, the share of that for the full image, 0 to 1
     * @return this
     */
    public Builder rate(double share, double ofFullImage) {
      rate = share;
      alpha = ofFullImage;
      return this;
    }

    /**
     * The tokens of a partition.
     *
     * @param rows at least 1; {@link Region#GRID}: a multiple of the grid's
     * @param cols tokens in a row, at least 1; {@link Region#GRID}: a multiple of the grid's
     * @return this
     */
    public Builder patches(long rows, long cols) {
      patchRows = rows;
      patchCols = cols;
      return this;
    }

    /**
     * The sub-images.
     *
     * @param rows 0 or more; 0 with {@code cols} 0: there are none
     * @param cols sub-images in a row; {@link Region#STRIP}: their number divides Nv
     * @return this
     */
    public Builder grid(long rows, long cols) {
      gridRows = rows;
      gridCols = cols;
      return this;
    }
  }
}
