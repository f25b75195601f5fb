// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.ArrayList;
import java.util.List;
import org.exeunt.jni.exn_prune_apply_tensor;
import org.jspecify.annotations.Nullable;

/**
 * Zeros where masks, such as those of {@link PruneMask}, say so: in weights, and in what an
 * optimiser keeps of them.
 *
 * <p>What a mask prunes becomes 0 whatever it held: a NaN or an infinity too, which a product with
 * 0 would keep. All other elements keep their bits. Bytes that must move: for each element 1, and
 * twice that of each tensor.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class PruneApply extends Op {
  /** Most masks of one op. */
  public static final int MAX_TENSORS = exeunt.EXN_PRUNE_MAX_TENSORS;

  private record Item(Tensor mask, Tensor weight, Tensor grad, Tensor momentum, Tensor variance) {}

  /**
   * Zeros what a mask prunes of one matrix, once on {@link Stream#DEFAULT}; see {@link
   * Op.Builder#runOnce()}.
   *
   * @param mask {prune_apply_tensor.mask}
   * @param weight {prune_apply_tensor.weight}
   */
  public static void compute(Tensor mask, @Nullable Tensor weight) {
    builder().tensor(mask, weight).runOnce();
  }

  public static final class Builder extends Op.Builder<PruneApply> {
    private final List<Item> items = new ArrayList<>();

    /**
     * Adds a mask and what it prunes.
     *
     * @param mask {prune_apply_tensor.mask}
     * @param weight {prune_apply_tensor.weight}
     * @return this
     */
    public Builder tensor(Tensor mask, @Nullable Tensor weight) {
      return tensor(mask, weight, null, null, null);
    }

    /**
     * Adds a mask and what it prunes, any of which may be null; {@value PruneApply#MAX_TENSORS}
     * masks at most.
     *
     * @param mask {prune_apply_tensor.mask}
     * @param weight {prune_apply_tensor.weight}
     * @param grad {prune_apply_tensor.grad}
     * @param momentum {prune_apply_tensor.momentum}
     * @param variance {prune_apply_tensor.variance}
     * @return this
     */
    public Builder tensor(Tensor mask, @Nullable Tensor weight, @Nullable Tensor grad,
        @Nullable Tensor momentum, @Nullable Tensor variance) {
      items.add(new Item(mask, weight, grad, momentum, variance));
      return this;
    }

    private void writeRest(Params params) {
      params.int32("tensor_count", items.size());
      List<Params> structs = params.array("tensors", exn_prune_apply_tensor.class, items.size());
      for (int i = 0; i < items.size(); i++) {
        structs.get(i)
            .tensor("mask", items.get(i).mask)
            .written("weight", items.get(i).weight)
            .written("grad", items.get(i).grad)
            .written("momentum", items.get(i).momentum)
            .written("variance", items.get(i).variance);
      }
    }
  }
}
