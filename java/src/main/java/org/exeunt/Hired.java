// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.Arrays;
import java.util.Objects;

/**
 * HiRED (Arif et al. 2024): of a high-resolution image that is encoded as a full view and some
 * sub-images, only a budget of tokens goes to the language model. An early layer of the vision
 * encoder says how the budget is shared, a late one which tokens are kept.
 *
 * <p>Give {@link #choose} the CLS queries and the keys of both layers, partition 0 being the full
 * image. Its budget and every list stay in device memory; gather the features of each partition by
 * its list ({@link Gather}). Tokens are removed in front of the language model, so positions are
 * what the shorter sequence gives.
 *
 * <p>{@link #standard} is the paper's form: sub-images share by the sum of attention in their cell
 * of the grid. {@link #asInCode} is what the authors' code does. Neither stitches or unpads: where
 * a model joins its sub-images to one large grid, the lists' order within each is row-major.
 *
 * <p>Follows hasanar1f/HiRED at 502d6dd (algorithm and defaults). Immutable, thread-safe.
 */
public final class Hired {
  /** Share of all tokens that {@link #standard} keeps. */
  public static final double RATE = .2;

  /** Share of them that the full image may keep. */
  public static final double ALPHA = .5;

  /** The early encoder block of CLIP ViT-L/14 that shares the budget. */
  public static final int EARLY_BLOCK = 0;

  /** The late encoder block of CLIP ViT-L/14 that chooses: the one the features come from. */
  public static final int LATE_BLOCK = 22;

  /**
   * How an image was cut.
   *
   * @param patchRows rows of tokens in a partition, at least 1
   * @param patchCols tokens in such a row, at least 1
   * @param gridRows rows of sub-images, 0 or more
   * @param gridCols sub-images in a row; 0 if there are none
   */
  public record Grid(int patchRows, int patchCols, int gridRows, int gridCols) {
    /**
     * Checks the values.
     *
     * @param patchRows rows of tokens in a partition, at least 1
     * @param patchCols tokens in such a row, at least 1
     * @param gridRows rows of sub-images, 0 or more
     * @param gridCols sub-images in a row; 0 if there are none
     * @throws IllegalArgumentException if one is out of range, or tokens or partitions are 2^31 - 1
     *     or more
     */
    public Grid {
      requireSize("patches", patchRows, patchCols, 1);
      requireSize("grid", gridRows, gridCols, 0);
    }

    private static void requireSize(String name, int rows, int cols, int least) {
      if (rows < least || cols < least || (long) rows * cols >= Integer.MAX_VALUE) {
        throw new IllegalArgumentException(name + (least == 0 ? " is " : " are ") + rows + " x "
            + cols + ", expected at least " + least + " x " + least + " and fewer than "
            + Integer.MAX_VALUE + " in all");
      }
    }

    /**
     * Tokens of a partition.
     *
     * @return Nv
     */
    public int patches() {
      return patchRows * patchCols;
    }

    /**
     * The full image and its sub-images.
     *
     * @return P
     */
    public int partitions() {
      return 1 + gridRows * gridCols;
    }
  }

  /**
   * One encoder block.
   *
   * @param query the CLS row of each partition, [P,H,dh], F32, F16 or BF16
   * @param keys P sequences, the CLS key in slot 0, the tokens' after it; values are not read
   */
  public record Block(Tensor query, KvCache keys) {
    /**
     * Checks that both are there.
     *
     * @param query the CLS row of each partition, [P,H,dh]
     * @param keys P sequences, the CLS key in slot 0
     * @throws NullPointerException if one is missing
     */
    public Block {
      Objects.requireNonNull(query, "query");
      Objects.requireNonNull(keys, "keys");
    }
  }

  private final double rate;
  private final double alpha;
  private final HiredBudget.Score score;
  private final HiredBudget.Region region;
  private final HiredBudget.Remainder remainder;

  private Hired(double rate, double alpha, HiredBudget.Score score, HiredBudget.Region region,
      HiredBudget.Remainder remainder) {
    this.rate = rate;
    this.alpha = alpha;
    this.score = score;
    this.region = region;
    this.remainder = remainder;
  }

  /**
   * The paper's form with the authors' settings: a fifth of all tokens, half of them from the full
   * image.
   *
   * @return the method
   */
  public static Hired standard() {
    return new Hired(RATE, ALPHA, HiredBudget.Score.SUM, HiredBudget.Region.GRID,
        HiredBudget.Remainder.TRUNCATE);
  }

  /**
   * What the authors' code does: the top tokens are counted, in strips.
   *
   * @return the method
   */
  public static Hired asInCode() {
    return new Hired(RATE, ALPHA, HiredBudget.Score.TOP_COUNT, HiredBudget.Region.STRIP,
        HiredBudget.Remainder.TRUNCATE);
  }

  /**
   * This method with other shares.
   *
   * @param ofAll share of all tokens to keep, 0 to 1
   * @param ofFullImage share of those that the full image may keep, 0 to 1
   * @return a new method
   * @throws IllegalArgumentException if a share is out of range
   */
  public Hired withRate(double ofAll, double ofFullImage) {
    if (!(ofAll >= 0 && ofAll <= 1 && ofFullImage >= 0 && ofFullImage <= 1)) {
      throw new IllegalArgumentException(
          "the shares are " + ofAll + " and " + ofFullImage + ", expected 0 to 1");
    }
    return new Hired(ofAll, ofFullImage, score, region, remainder);
  }

  /**
   * This method, which loses no token to truncation.
   *
   * @return a new method
   */
  public Hired withoutLoss() {
    return new Hired(rate, alpha, score, region, HiredBudget.Remainder.LARGEST_REMAINDER);
  }

  /**
   * Chooses the tokens of one image.
   *
   * @param scope owns the lists
   * @param stream where to run; waits for it
   * @param early the block that shares the budget
   * @param late the block that chooses
   * @param grid how the image was cut
   * @return P lists of tokens, 0 to Nv - 1, ascending, in Nv columns; {@link Selection#budget}
   *     holds the budgets
   * @throws IllegalArgumentException if a tensor does not fit the grid, or the grid does not divide
   *     the tokens
   */
  public Selection choose(Scope scope, Stream stream, Block early, Block late, Grid grid) {
    Named.present("scope", scope);
    Named.present("stream", stream);
    Named.present("early", early);
    Named.present("late", late);
    int partitions = Named.present("grid", grid).partitions();
    int patches = grid.patches();
    Device device = late.query.device();
    requirePartitions("early", early, partitions);
    requirePartitions("late", late, partitions);
    Tensor budget = scope.allocate(device, DType.I32, 1, partitions);
    Selection chosen =
        Selection.allocate(scope, device, partitions, patches)
            .withBudget(budget.reshape(partitions));
    try (Scope passing = Scope.open()) {
      Tensor attention = passing.allocate(device, DType.F32, 1, 1, patches);
      int[] all = new int[partitions];
      Arrays.fill(all, patches + 1);
      Tensor visible = passing.allocate(device, DType.I32, partitions).copyFrom(all);
      AttentionScores.hired()
          .query(early.query.rows(0, 1))
          .keys(early.keys)
          .visible(visible.rows(0, 1))
          .columns(patches)
          .scores(attention)
          .runOnce(stream);
      HiredBudget.builder()
          .attention(attention.reshape(1, patches))
          .budget(budget)
          .rate(rate, alpha)
          .patches(grid.patchRows, grid.patchCols)
          .grid(grid.gridRows, grid.gridCols)
          .score(score)
          .region(region)
          .remainder(remainder)
          .runOnce(stream);
      AttentionScores.hired()
          .query(late.query)
          .keys(late.keys)
          .visible(visible)
          .columns(patches)
          .select(chosen)
          .runOnce(stream);
      stream.synchronize(); // what passes is read until then
    } catch (RuntimeException | Error e) {
      chosen.discard(scope, e);
      scope.discard(e, budget);
      throw e;
    }
    return chosen;
  }

  private static void requirePartitions(String name, Block block, int partitions) {
    if (block.query.rank() != 3 || block.query.size(0) != partitions) {
      throw new IllegalArgumentException(name + ".query is " + block.query
          + ", expected a row for each of " + partitions + " partitions");
    }
  }
}
