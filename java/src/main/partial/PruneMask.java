// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.ArrayList;
import java.util.List;
import org.exeunt.jni.exn_prune_mask_tensor;
import org.jspecify.annotations.Nullable;

/**
 * Which weights count least: masks for {@link PruneApply}, of magnitudes (lottery tickets, gradual
 * pruning) or of Wanda's scores.
 *
 * <pre>
 *   score(i,j) = |weight[i,j]|, or |weight[i,j] * norm[j]| where a norm is given
 * </pre>
 *
 * <p>The elements of each row, of each tensor, or of all tensors ({@link Among}) stand in one
 * order: by score, equal ones by tensor and by place in their tensor, row by row. The first k of n
 * are pruned, or the last k ({@link Which#LARGEST}: Antidote's harmful weights), and the mask is 0
 * where a weight is pruned, else 1. (Antidote's own mask is 1 where this one is 0.)
 *
 * <p>With {@link Builder#keepPruned} an element whose mask is 0 already stays pruned and counts for
 * k, so that ratios that grow from call to call, as {@link PruneSchedule}'s, prune iteratively. If
 * there are more than k of those, no other is pruned.
 *
 * <p>Scores are f32: of F16 and BF16 exact, a product with the norm rounded once. A NaN (also of
 * infinity times 0) ranks above infinity, equal to others: pruned last, of {@link Which#LARGEST}
 * first. Masks are exact, the same on every device and for every number of threads; their cost does
 * not grow with k. Bytes that must move: each weight read once, a byte of mask written, and read
 * with {@link Builder#keepPruned}.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class PruneMask extends Op {
  /** Most tensors of one op. */
  public static final int MAX_TENSORS = exeunt.EXN_PRUNE_MAX_TENSORS;

  /** Among which elements the ratio is taken; at most 2^31 - 1. */
  public enum Among {
    /** Those of each row: Wanda, Antidote. */
    ROW(exeunt.EXN_PRUNE_ROW),
    /** Those of each tensor. */
    TENSOR(exeunt.EXN_PRUNE_TENSOR),
    /** Those of all tensors of the op. */
    GLOBAL(exeunt.EXN_PRUNE_GLOBAL);

    final int code;

    Among(int code) {
      this.code = code;
    }
  }

  /** Which end of the order is pruned. */
  public enum Which {
    /** The weights that count least. */
    SMALLEST(exeunt.EXN_PRUNE_SMALLEST),
    /** Those that count most: what harmful inputs rely on (Antidote). */
    LARGEST(exeunt.EXN_PRUNE_LARGEST);

    final int code;

    Which(int code) {
      this.code = code;
    }
  }

  /** How k is made of the ratio, in f64. */
  public enum Rounding {
    /**
     * floor(ratio n), as Wanda's code does; of {@link Which#LARGEST} n - floor((1 - ratio) n), as
     * Antidote's does.
     */
    DOWN(exeunt.EXN_PRUNE_DOWN),
    /** ratio n to the nearest, half to even, as PyTorch's pruning does. */
    NEAREST(exeunt.EXN_PRUNE_NEAREST);

    final int code;

    Rounding(int code) {
      this.code = code;
    }
  }

  private record Item(Tensor weight, Tensor mask, Tensor norm) {}

  /**
   * Masks the smallest magnitudes of one matrix once on {@link Stream#DEFAULT}; see {@link
   * Op.Builder#runOnce()}.
   *
   * @param weight in, [rows,cols], F32, F16 or BF16, row stride free
   * @param ratio share of its elements to prune, 0 to 1
   * @param mask out, [rows,cols], U8, row stride free
   */
  public static void compute(Tensor weight, double ratio, Tensor mask) {
    builder().tensor(weight, mask).ratio(ratio).runOnce();
  }

  public static final class Builder extends Op.Builder<PruneMask> {
    private final List<Item> items = new ArrayList<>();
    private Among among = Among.TENSOR; // scope
    private Which which = Which.SMALLEST;
    private Rounding rounding = Rounding.DOWN;
    private boolean keepsPruned;

    /**
     * Adds a tensor whose scores are magnitudes.
     *
     * @param weight {prune_mask_tensor.weight}
     * @param mask {prune_mask_tensor.mask}
     * @return this
     */
    public Builder tensor(Tensor weight, Tensor mask) {
      return tensor(weight, mask, null);
    }

    /**
     * Adds a tensor; {@value PruneMask#MAX_TENSORS} at most.
     *
     * @param weight {prune_mask_tensor.weight}
     * @param mask {prune_mask_tensor.mask}
     * @param norm in, optional, [cols], F32, compact: the root of the mean of each input's squares
     * @return this
     */
    public Builder tensor(Tensor weight, Tensor mask, @Nullable Tensor norm) {
      items.add(new Item(weight, mask, norm));
      return this;
    }

    /**
     * Whether what the masks have pruned before stays so.
     *
     * @param value false: what the masks hold is not looked at
     * @return this
     */
    public Builder keepPruned(boolean value) {
      keepsPruned = value;
      return this;
    }

    private void writeRest(Params params) {
      params.int32("tensor_count", items.size()).int32("first", keepsPruned ? 0 : 1);
      List<Params> structs = params.array("tensors", exn_prune_mask_tensor.class, items.size());
      for (int i = 0; i < items.size(); i++) {
        structs.get(i)
            .tensor("weight", items.get(i).weight)
            .tensor("norm", items.get(i).norm)
            .written("mask", items.get(i).mask);
      }
    }
  }
}
