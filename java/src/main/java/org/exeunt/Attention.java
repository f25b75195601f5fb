// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_attention_params;
import org.exeunt.jni.global.exeunt;

/**
 * Grouped-query attention (Ainslie et al. 2023) of R query rows over a {@link KvCache}, for decode
 * and for prefill.
 *
 * <pre>
 *   s[r,h,t] = scale &lt;query[r,h], K[h / G, t]&gt;,  t below visible[r],  G = H / Hkv
 *   s = softcap tanh(s / softcap)                if there is a soft cap
 *   out[r,h] = sum_t softmax_t(s[r,h]) V[h / G, t]
 * </pre>
 *
 * <p>Causality is the caller's, through {@code visible}: a row that was appended to slot t sees t +
 * 1 slots. A row that sees nothing ({@code visible} 0, or -1: it is off) gives zeros, whatever its
 * sequence is. {@code scores} hands out s before the softmax, -inf from {@code visible[r]} on: what
 * token dropping selects by. Everything after loading is f32; the running maximum is subtracted, so
 * large scores do not overflow. Where query and cache are both BF16, the CPU may sum the exact
 * products of query and K in pairs, which takes subnormal elements, products and sums for 0. A NaN
 * gives NaN in the row's heads concerned.
 *
 * <p>On the CPU a row has the same bits whatever other rows there are, on CUDA if {@link
 * Builder#batchInvariant} asks for it.
 *
 * <p>A {@code visible} outside -1 to T, a sequence outside 0 to S - 1 or a page outside 0 to P - 1
 * is an {@link IllegalArgumentException} on the CPU, with nothing written; on CUDA, where a run
 * cannot read them, such a row is NaN. A head dimension of which rows of query, K and V do not fit
 * into a block's shared memory is refused on CUDA.
 *
 * <p>Bytes that must move: {@code 2 visible Hkv dh} elements of the cache for each row (rows of one
 * sequence in one run share them in blocks), query and output once, {@code 4 H N} for each row of
 * scores.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class Attention extends Op {
  private Attention(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building: scale {@code 1 / sqrt(dh)}, no soft cap.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_attention_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_attention_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_attention(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link Attention}. */
  public static final class Builder extends Op.Builder<Attention> {
    private Tensor query;
    private KvCache cache;
    private Tensor sequence;
    private Tensor visible;
    private Tensor out;
    private Tensor scores;
    private Float scale;
    private float softcap;
    private boolean batchInvariant;

    private Builder() {}

    /**
     * The queries.
     *
     * @param tensor in, [R,H,dh], F32, F16 or BF16, each row's heads compact; H a multiple of Hkv;
     *     R may be 0
     * @return this
     */
    public Builder query(Tensor tensor) {
      query = tensor;
      return this;
    }

    /**
     * The keys and values.
     *
     * @param description in
     * @return this
     */
    public Builder cache(KvCache description) {
      cache = description;
      return this;
    }

    /**
     * The sequence of each row.
     *
     * @param tensor in, optional, [R], I32, compact; left out, all rows belong to sequence 0
     * @return this
     */
    public Builder sequence(Tensor tensor) {
      sequence = tensor;
      return this;
    }

    /**
     * How many leading slots each row sees.
     *
     * @param tensor in, [R], I32, compact, entries from 0 to T; -1: the row is off
     * @return this
     */
    public Builder visible(Tensor tensor) {
      visible = tensor;
      return this;
    }

    /**
     * The result.
     *
     * @param tensor out, [R,H,dh], F32, F16 or BF16, each row's heads compact
     * @return this
     */
    public Builder out(Tensor tensor) {
      out = tensor;
      return this;
    }

    /**
     * The scores before the softmax.
     *
     * @param tensor out, optional, [R,H,N], F32, compact, N at most T: those of the first N slots
     * @return this
     */
    public Builder scores(Tensor tensor) {
      scores = tensor;
      return this;
    }

    /**
     * Factor of the scores.
     *
     * @param value positive and finite; left out, {@code 1 / sqrt(dh)}
     * @return this
     */
    public Builder scale(float value) {
      scale = value;
      return this;
    }

    /**
     * Soft cap of the scores.
     *
     * @param value 0 or more, finite; 0 means none
     * @return this
     */
    public Builder softcap(float value) {
      softcap = value;
      return this;
    }

    /**
     * Whether each row has the bits that it has alone on CUDA, too, where else the slots are parted
     * by how many rows there are: then drafted tokens, verified together, are those of plain
     * decoding. Costs reads of the cache, which fewer rows share.
     *
     * @param value left out, false
     * @return this
     */
    public Builder batchInvariant(boolean value) {
      batchInvariant = value;
      return this;
    }

    @Override
    Attention create(Place place) {
      Params params =
          new Params(exn_attention_params.class)
              .tensor("query", query)
              .tensor("sequence", sequence)
              .tensor("visible", visible)
              .written("out", out)
              .written("scores", scores)
              .float32("scale", scaleOrDefault())
              .float32("softcap", softcap)
              .int32("batch_invariant", batchInvariant ? 1 : 0);
      KvCache.write(cache, params, "cache", false);
      return new Attention(params, place);
    }

    private float scaleOrDefault() {
      if (scale != null) {
        return scale;
      }
      return cache == null ? 1 : (float) (1 / Math.sqrt(Math.max(1, cache.headDim())));
    }
  }
}
