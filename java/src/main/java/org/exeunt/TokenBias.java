// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_token_bias_params;
import org.exeunt.jni.global.exeunt;

/**
 * Changes the logits of a few tokens where they lie, before {@link RowStats} or a draw: {@code z =
 * scale z + add} in f32, each operation rounded, then to the dtype of the logits, to nearest even.
 * All others stay as they are.
 *
 * <p>TLDR divides the logit of the token that ends the thinking by a temperature T, {@code scale(1 /
 * T)}. What that does to a negative logit has the other sign, so most will want {@link Builder#add},
 * which multiplies the token's odds by {@code e^add} whatever its logit is; negative infinity
 * forbids the token. A logit of negative infinity stays so, NaN stays NaN.
 *
 * <p>An id outside of 0 to V - 1, and one that is listed twice, are an {@link
 * IllegalArgumentException} on the CPU, with nothing written; on CUDA, where a run cannot read ids,
 * the one is ignored, and the other changed once.
 *
 * <p>Bytes that must move: an element read and written for each row and id, 4 for each id.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class TokenBias extends Op {
  private TokenBias(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building: all rows, scale 1, nothing added.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_token_bias_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_token_bias_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_token_bias(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link TokenBias}. */
  public static final class Builder extends Op.Builder<TokenBias> {
    private Tensor logits;
    private Tensor ids;
    private Tensor mask;
    private float scale = 1;
    private float add;

    private Builder() {}

    /**
     * The logits.
     *
     * @param tensor in and out, [R,V], F32, F16 or BF16, last stride 1; V at least 1, R may be 0
     * @return this
     */
    public Builder logits(Tensor tensor) {
      logits = tensor;
      return this;
    }

    /**
     * Which tokens.
     *
     * @param tensor in, [K], I32, compact, entries from 0 to V - 1, none twice; K may be 0
     * @return this
     */
    public Builder ids(Tensor tensor) {
      ids = tensor;
      return this;
    }

    /**
     * Which rows, such as those that still think.
     *
     * @param tensor in, optional, [R], U8, compact; 0: the row stays as it is
     * @return this
     */
    public Builder mask(Tensor tensor) {
      mask = tensor;
      return this;
    }

    /**
     * What the logits are multiplied by.
     *
     * @param value positive and finite; left out, 1
     * @return this
     */
    public Builder scale(float value) {
      scale = value;
      return this;
    }

    /**
     * What is added to the logits.
     *
     * @param value finite, or negative infinity; left out, 0
     * @return this
     */
    public Builder add(float value) {
      add = value;
      return this;
    }

    @Override
    TokenBias create(Place place) {
      return new TokenBias(
          new Params(exn_token_bias_params.class)
              .written("logits", logits)
              .tensor("ids", ids)
              .tensor("mask", mask)
              .float32("scale", scale)
              .float32("add", add),
          place);
    }
  }
}
