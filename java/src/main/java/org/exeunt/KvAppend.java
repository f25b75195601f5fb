// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_kv_append_params;
import org.exeunt.jni.global.exeunt;

/**
 * Writes rows of K and V, converted to the cache's dtype, to their slots of a {@link KvCache}.
 *
 * <p>A slot of -1 switches a row off: nothing is read or written for it, and its sequence may be
 * anything. Any other slot outside 0 to T - 1, a sequence outside 0 to S - 1 or a page outside 0 to
 * P - 1 is an {@link IllegalArgumentException} on the CPU, with nothing written; on CUDA, where a
 * run cannot read them, such a row is switched off. Two rows of one run that write one slot, be it
 * through a page that their sequences share, are an error of the caller: on the CPU the last one
 * stays (a native library built without NDEBUG refuses them), on CUDA one of them.
 *
 * <p>Bytes that must move: {@code 2 Hkv dh} elements read and as many written for each row.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class KvAppend extends Op {
  private KvAppend(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building; {@link KvCache#append()} does so with the cache.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_kv_append_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_kv_append_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_kv_append(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link KvAppend}. */
  public static final class Builder extends Op.Builder<KvAppend> {
    private KvCache cache;
    private Tensor k;
    private Tensor v;
    private Tensor sequence;
    private Tensor slot;

    private Builder() {}

    /**
     * The cache.
     *
     * @param description in and out
     * @return this
     */
    public Builder cache(KvCache description) {
      cache = description;
      return this;
    }

    /**
     * The keys.
     *
     * @param tensor in, [R,Hkv,dh], F32, F16 or BF16, each row's heads compact; R may be 0
     * @return this
     */
    public Builder k(Tensor tensor) {
      k = tensor;
      return this;
    }

    /**
     * The values.
     *
     * @param tensor in, [R,Hkv,dh], dtype of the keys, each row's heads compact
     * @return this
     */
    public Builder v(Tensor tensor) {
      v = tensor;
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
     * The slot of each row.
     *
     * @param tensor in, [R], I32, compact; -1 switches the row off
     * @return this
     */
    public Builder slot(Tensor tensor) {
      slot = tensor;
      return this;
    }

    @Override
    KvAppend create(Place place) {
      Params params =
          new Params(exn_kv_append_params.class)
              .tensor("k", k)
              .tensor("v", v)
              .tensor("sequence", sequence)
              .tensor("slot", slot);
      KvCache.write(cache, params, "cache", true);
      return new KvAppend(params, place);
    }
  }
}
