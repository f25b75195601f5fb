// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.ArrayList;
import java.util.List;
import org.exeunt.jni.exn_gather_tensor;
import org.jspecify.annotations.Nullable;

public final class Gather extends Op {
  /** Most tensors of one op. */
  public static final int MAX_TENSORS = exeunt.EXN_GATHER_MAX_TENSORS;

  private record Item(Tensor input, Tensor out, int axis) {}

  /**
   * Collects the listed rows of one tensor on {@link Stream#DEFAULT}, without building an op first.
   *
   * @param input in, any dtype, rank 1 or more, N entries along axis 0
   * @param list in, [K], I32, compact, entries below N; negative entries are skipped
   * @param out out, at least K entries along axis 0, else dtype and shape of the input
   */
  public static void compute(Tensor input, Tensor list, Tensor out) {
    builder().list(list).tensor(input, out).runOnce();
  }

  public static final class Builder extends Op.Builder<Gather> {
    private final List<Item> items = new ArrayList<>();
    private Long rows;
    private int positions = exeunt.EXN_POSITIONS_KEEP;

    /**
     * Adds a tensor whose rows are tokens: hidden states [N,D], a RoPE table [N,n/2,2].
     *
     * @param input in, any dtype, rank 1 or more, N entries along axis 0; compact but for a free
     *     stride of axis 0
     * @param out out, at least K entries along axis 0, else dtype, shape and strides as for the
     *     input; may be exactly the input
     * @return this
     */
    public Builder tensor(Tensor input, Tensor out) {
      return tensor(input, out, 0);
    }

    /**
     * Adds a tensor; {@value Gather#MAX_TENSORS} at most.
     *
     * @param input in, any dtype, N entries along the axis; compact, but for a free stride of axis
     *     0 if that is the one
     * @param out out, at least K entries along the axis, else dtype, shape and strides as for the
     *     input; may be exactly the input
     * @param axis where tokens lie: 0 to rank - 1; 1 for K and V as [Hkv,N,dh]
     * @return this
     */
    public Builder tensor(Tensor input, Tensor out, int axis) {
      items.add(new Item(input, out, axis));
      return this;
    }

    /**
     * How many entries there are to choose from.
     *
     * @param count N, from 0 to 2^31 - 1; left out, those of the first tensor, or without tensors
     *     of the positions
     * @return this
     */
    public Builder rows(long count) {
      rows = count;
      return this;
    }

    /**
     * Kept tokens keep their positions (PromptDistill, FastV).
     *
     * @param before in, optional, [N], I32, compact; null: token i is at position i
     * @param after out, at least [K], I32, compact; may be exactly {@code before}
     * @return this
     */
    public Builder positions(@Nullable Tensor before, Tensor after) {
      position = before;
      positionOut = after;
      positions = exeunt.EXN_POSITIONS_KEEP;
      firstPosition = 0;
      return this;
    }

    /**
     * Kept tokens are numbered anew (GemFilter, PyramidDrop).
     *
     * @param first position of the first kept token; that of the last one must be below 2^31
     * @param after out, at least [K], I32, compact
     * @return this
     */
    public Builder renumber(int first, Tensor after) {
      position = null;
      positionOut = after;
      positions = exeunt.EXN_POSITIONS_RENUMBER;
      firstPosition = first;
      return this;
    }

    private void writeRest(Params params) {
      params.int32("tensor_count", items.size());
      List<Params> structs = params.array("tensors", exn_gather_tensor.class, items.size());
      for (int i = 0; i < items.size(); i++) {
        structs.get(i)
            .tensor("input", items.get(i).input)
            .written("out", items.get(i).out)
            .int32("axis", items.get(i).axis);
      }
    }

    private long rowsOrDefault() {
      if (rows != null) {
        return rows;
      }
      Tensor tensor = items.isEmpty() ? position : items.get(0).input;
      int axis = items.isEmpty() ? 0 : items.get(0).axis;
      return tensor != null && axis >= 0 && axis < tensor.rank() ? tensor.size(axis) : 0;
    }
  }
}
