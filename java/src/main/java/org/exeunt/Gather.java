// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.ArrayList;
import java.util.List;
import org.exeunt.jni.exn_gather_params;
import org.exeunt.jni.exn_gather_tensor;
import org.exeunt.jni.global.exeunt;

/**
 * The kept tokens of several tensors at once, and their positions: hidden states, RoPE tables, K
 * and V.
 *
 * <p>For every entry i of the list that is not negative, up to {@code count} or K, and every
 * tensor, along its axis:
 *
 * <pre>
 *   out[.., i, ..] = input[.., list[i], ..]
 *   positionOut[i] = position[list[i]], list[i] itself, or firstPosition + i
 * </pre>
 *
 * <p>Elements are moved as they are, whatever they hold; what lies beyond the entries is untouched.
 * The padding of {@link Selection#indices} is skipped, so the list need not be counted on the host;
 * of several rows of a selection, take one: {@code indices.row(r)}.
 *
 * <p>In place: an out tensor (all of them, and positions too) may be exactly its input. The entries
 * used must then ascend strictly, with negative ones behind all others, as a selection's do.
 *
 * <p>An entry beyond the rows, a count outside 0 to K or an in-place list that does not ascend is
 * an {@link IllegalArgumentException} on the CPU, with nothing moved; on CUDA, where a run cannot
 * read them, nothing is moved either and {@code moved} is -1.
 *
 * <p>Bytes that must move: twice the bytes of an entry, for each entry and tensor, and 4 for each
 * entry of the list.
 *
 * <p>Errors, threads, alignment, aliasing beyond the above: {@link Op}.
 */
public final class Gather extends Op {
  /** Most tensors of one op. */
  public static final int MAX_TENSORS = exeunt.EXN_GATHER_MAX_TENSORS;

  private record Item(Tensor input, Tensor out, int axis) {}

  private Gather(Params params, Place place) {
    super(params, place);
  }

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

  /**
   * Starts building: no tensors, positions stay what they are.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_gather_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_gather_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_gather(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link Gather}. */
  public static final class Builder extends Op.Builder<Gather> {
    private final List<Item> items = new ArrayList<>();
    private Tensor list;
    private Tensor count;
    private Tensor position;
    private Tensor positionOut;
    private Tensor moved;
    private Long rows;
    private int positions = exeunt.EXN_POSITIONS_KEEP;
    private int firstPosition;

    private Builder() {}

    /**
     * Which entries are kept.
     *
     * @param tensor in, [K], I32, compact, entries below N; negative entries are skipped
     * @return this
     */
    public Builder list(Tensor tensor) {
      list = tensor;
      return this;
    }

    /**
     * How many entries of the list are used.
     *
     * @param tensor in, optional, [1], I32, from 0 to K; left out, all
     * @return this
     */
    public Builder count(Tensor tensor) {
      count = tensor;
      return this;
    }

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
    public Builder positions(Tensor before, Tensor after) {
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

    /**
     * How many entries were moved.
     *
     * @param tensor out, optional, [1], I32; -1 if the list was refused
     * @return this
     */
    public Builder moved(Tensor tensor) {
      moved = tensor;
      return this;
    }

    @Override
    Gather create(Place place) {
      Params params =
          new Params(exn_gather_params.class)
              .tensor("list", list)
              .tensor("count", count)
              .tensor("position", position)
              .written("position_out", positionOut)
              .written("moved", moved)
              .int64("rows", rowsOrDefault())
              .int32("tensor_count", items.size())
              .int32("positions", positions)
              .int32("first_position", firstPosition);
      List<Params> structs = params.array("tensors", exn_gather_tensor.class, items.size());
      for (int i = 0; i < items.size(); i++) {
        structs.get(i)
            .tensor("input", items.get(i).input)
            .written("out", items.get(i).out)
            .int32("axis", items.get(i).axis);
      }
      return new Gather(params, place);
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
