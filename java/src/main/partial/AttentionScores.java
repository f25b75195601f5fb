// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * How much attention a few queries pay to each token of a prompt, and, in the same run, which
 * tokens to keep for it.
 *
 * <p>Prompt s has W query rows, {@code (s,i) = query[s W + i]}: the CLS row, the last row, the last
 * W rows, or all of them. Row (s,i) sees the leading {@code visible[s W + i]} slots of its
 * sequence: causality is the caller's. Column j is slot {@code first + j}.
 *
 * <pre>
 *   z[s,i,h,t] = scale &lt;query[s W + i, h], K[h / G, t]&gt;,  t below visible,  G = H / Hkv
 *   a[s,i,h,t] = z, or softmax_t(z) over all visible slots               {@link Kind}
 *   c[s,h,j]   = sum over the rows i that see slot first + j of a[s,i,h,first + j]
 *   b[s,g,j]   = c of each head, or their sum, mean or sums of groups    {@link Heads}
 *   score      = b, pooled over the columns                              {@link Pool}
 * </pre>
 *
 * <p>Columns are scored below {@code limit[s]} and where a row of the prompt sees them; the others
 * get -inf. With {@link Builder#accumulate} the score is added to what {@code scores} holds, and
 * columns that are not scored keep what they hold. The selection is what {@link Select} makes of
 * the scores as they are handed out, its limit being the number of scored columns.
 *
 * <p>{@link #hired}, {@link #promptDistill}, {@link #gemFilter}, {@link #snapKv}, {@link
 * #heavyHitters} and {@link #fastV} start with the scores of the papers; every setting may be
 * changed. The methods as a whole, with what they keep of a prompt, are classes: {@link Hired},
 * {@link PromptDistill}, {@link GemFilter}, {@link SnapKv}, {@link H2o}, {@link FastV}, {@link
 * PyramidDrop}.
 *
 * <p>Everything after loading is f32. Where query and keys are both BF16, the CPU may sum their
 * exact products in pairs, which takes subnormal elements, products and sums for 0. A NaN in a
 * query, or in a key that it sees, makes the scores it enters NaN, and with them the row of the
 * selection invalid: it then keeps everything ({@link Selection}). A softmax row with +inf, or with
 * nothing but -inf, is NaN.
 *
 * <p>A {@code visible} outside 0 to T, a limit outside 0 to N, a sequence outside 0 to S - 1 or a
 * page outside 0 to P - 1 is an {@link IllegalArgumentException} on the CPU, with nothing written;
 * on CUDA, where a run cannot read them, they are clamped, and a prompt whose sequence or page does
 * not exist has NaN scores.
 *
 * <p>Bytes that must move: {@code visible Hkv dh} elements of K for each prompt (once for as many
 * rows as have 2^20 scores with all heads, which bounds the workspace), the queries, {@code 4 N}
 * for each row of scores handed out, and {@code 4 K} for each list.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class AttentionScores extends Op {
  /** What a query pays to a slot. */
  public enum Kind {
    /** The scaled product. */
    RAW(exeunt.EXN_SCORE_RAW),
    /** Its softmax over all visible slots. */
    SOFTMAX(exeunt.EXN_SCORE_SOFTMAX);

    final int code;

    Kind(int code) {
      this.code = code;
    }
  }

  /** What becomes of the H query heads: B rows of scores for each prompt. */
  public enum Heads {
    /** B = H: each has its own. */
    EACH(exeunt.EXN_HEADS_EACH),
    /** B = 1: their sum. */
    SUM(exeunt.EXN_HEADS_SUM),
    /** B = 1: their sum divided by H. */
    MEAN(exeunt.EXN_HEADS_MEAN),
    /** B = Hkv: for each KV head, the sum over the query heads that read it. */
    GROUP_SUM(exeunt.EXN_HEADS_GROUP_SUM);

    final int code;

    Heads(int code) {
      this.code = code;
    }
  }

  /** How neighbouring columns share their scores. */
  public enum Pool {
    /** They do not. */
    NONE(exeunt.EXN_POOL_NONE),
    /**
     * The sum of the columns around, divided by the width: what lies outside the scored columns
     * counts as 0.
     */
    AVG(exeunt.EXN_POOL_AVG),
    /** The largest of the columns around, as far as they are scored. */
    MAX(exeunt.EXN_POOL_MAX);

    final int code;

    Pool(int code) {
      this.code = code;
    }

    /** Refuses the widths that an op would refuse. */
    void requireWidth(int width) {
      if (this == NONE ? width != 0 : width < 1 || width > 255 || width % 2 == 0) {
        throw new IllegalArgumentException("width is " + width + ", expected "
            + (this == NONE ? "0" : "an odd number up to 255") + " for " + this);
      }
    }
  }

  /**
   * Starts building: one row for each prompt, scale {@code 1 / sqrt(dh)}, softmax, each head for
   * itself, no pooling, all slots.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * HiRED (Arif et al. 2024): softmax of the CLS row, summed over heads. Column 0 is slot 1: the
   * CLS slot is seen but not scored.
   *
   * @return a builder
   */
  public static Builder hired() {
    return builder().first(1).heads(Heads.SUM);
  }

  /**
   * PromptDistill (Jin et al. 2025): raw scores of the last row, mean over heads, average pooling
   * of 5. Give its slot as {@link Builder#limit}, so that it is no candidate, and keep it by {@link
   * Selection#withKeep}.
   *
   * @return a builder
   */
  public static Builder promptDistill() {
    return builder().kind(Kind.RAW).heads(Heads.MEAN).pool(Pool.AVG, 5);
  }

  /**
   * GemFilter (Shi et al. 2024): unscaled scores of the last row, summed over heads, average
   * pooling of 5.
   *
   * @return a builder
   */
  public static Builder gemFilter() {
    return builder().kind(Kind.RAW).scale(1).heads(Heads.SUM).pool(Pool.AVG, 5);
  }

  /**
   * SnapKV (Li et al. 2024): softmax of the last rows, summed over them, for each query head,
   * average pooling of 5. Give N less the window as {@link Builder#limit}, and keep the window by
   * {@link Selection#withKeep}. {@link Heads#GROUP_SUM} keeps the heads of a grouped-query cache.
   *
   * @param window how many rows, at least 1; 32 in the authors' code
   * @return a builder
   */
  public static Builder snapKv(long window) {
    return builder().window(window).pool(Pool.AVG, 5);
  }

  /**
   * What the authors of H2O (Zhang et al. 2023) find heavy hitters by: softmax of all rows, added
   * to what the scores hold, piece by piece through the prompt and in every step after it. Fill
   * them with zeros first. {@link H2o} chooses once, after a whole prompt, and adds nothing up.
   *
   * @param rows of the piece, at least 1
   * @return a builder
   */
  public static Builder heavyHitters(long rows) {
    return builder().window(rows).accumulate(true);
  }

  /**
   * FastV (Chen et al. 2024) and PyramidDrop (Xing et al. 2024): softmax of the last row, mean over
   * heads. Say by {@link Selection#withKeep} what is no image token.
   *
   * @return a builder
   */
  public static Builder fastV() {
    return builder().heads(Heads.MEAN);
  }

  public static final class Builder extends Op.Builder<AttentionScores> {
    private Selection select; // selection
    private Long columns;
    private long window = 1;
    private Float scale;
    private Kind kind = Kind.SOFTMAX;
    private Heads heads = Heads.EACH; // reduction
    private Pool pool = Pool.NONE;
    /**
     * How many columns there are.
     *
     * @param count N, 0 or more; left out, those of {@link #scores}, or without them all slots from
     *     {@link #first} on
     * @return this
     */
    public Builder columns(long count) {
      columns = count;
      return this;
    }

    /**
     * How neighbouring columns share their scores.
     *
     * @param how {@link Pool#NONE} where scores are accumulated
     * @param width columns, the scored one in the middle: odd, 1 to 255; 0 for {@link Pool#NONE}
     * @return this
     */
    public Builder pool(Pool how, int width) {
      pool = Named.present("pool", how);
      poolWidth = width;
      return this;
    }

    private long columnsOrDefault() {
      if (columns != null) {
        return columns;
      }
      if (scores != null && scores.rank() > 0) {
        return scores.size(scores.rank() - 1);
      }
      return keys == null ? 0 : Math.max(0, keys.capacity() - first);
    }

    private float scaleOrDefault() {
      if (scale != null) {
        return scale;
      }
      return keys == null ? 1 : (float) (1 / Math.sqrt(Math.max(1, keys.headDim())));
    }
  }
}
