// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.ArrayList;
import java.util.List;
import org.exeunt.jni.exn_prune_apply_params;
import org.exeunt.jni.exn_prune_apply_tensor;
import org.exeunt.jni.global.exeunt;

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

  private PruneApply(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building.
   *
   * @return a builder without masks
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * Zeros what a mask prunes of one matrix, once on {@link Stream#DEFAULT}; see {@link
   * Op.Builder#runOnce()}.
   *
   * @param mask in, [rows,cols], U8, row stride free: 0 pruned, else kept
   * @param weight in-out, [rows,cols], F64, F32, F16 or BF16, row stride free
   */
  public static void compute(Tensor mask, Tensor weight) {
    builder().tensor(mask, weight).runOnce();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_prune_apply_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_prune_apply_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_prune_apply(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link PruneApply}. */
  public static final class Builder extends Op.Builder<PruneApply> {
    private final List<Item> items = new ArrayList<>();

    private Builder() {}

    /**
     * Adds a mask and what it prunes.
     *
     * @param mask in, [rows,cols], U8, row stride free: 0 pruned, else kept
     * @param weight in-out, optional, [rows,cols], F64, F32, F16 or BF16, row stride free
     * @return this
     */
    public Builder tensor(Tensor mask, Tensor weight) {
      return tensor(mask, weight, null, null, null);
    }

    /**
     * Adds a mask and what it prunes, any of which may be null; {@value PruneApply#MAX_TENSORS}
     * masks at most.
     *
     * @param mask in, [rows,cols], U8, row stride free: 0 pruned, else kept
     * @param weight in-out, optional, [rows,cols], F64, F32, F16 or BF16, row stride free
     * @param grad in-out, optional, as the weight, its dtype free
     * @param momentum in-out, optional, as the gradient: AdamW's first moment
     * @param variance in-out, optional, as the gradient: AdamW's second moment
     * @return this
     */
    public Builder tensor(
        Tensor mask, Tensor weight, Tensor grad, Tensor momentum, Tensor variance) {
      items.add(new Item(mask, weight, grad, momentum, variance));
      return this;
    }

    @Override
    PruneApply create(Place place) {
      Params params = new Params(exn_prune_apply_params.class).int32("tensor_count", items.size());
      List<Params> structs = params.array("tensors", exn_prune_apply_tensor.class, items.size());
      for (int i = 0; i < items.size(); i++) {
        structs.get(i)
            .tensor("mask", items.get(i).mask)
            .written("weight", items.get(i).weight)
            .written("grad", items.get(i).grad)
            .written("momentum", items.get(i).momentum)
            .written("variance", items.get(i).variance);
      }
      return new PruneApply(params, place);
    }
  }
}
