// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_ssm_step_params;
import org.exeunt.jni.global.exeunt;

/**
 * What is no product in a step of a Mamba block (Gu and Dao 2023, and the step of its code), for any
 * number of tokens. The states stay in f32.
 *
 * <p>{@link #convolution()}: the last N inputs of each channel move down by one, x comes last, and
 * {@code out_d = SiLU(sum_k conv[s,d,k] weight[d,k] + bias_d)}.
 *
 * <p>{@link #scan()}, with {@code dt_d = softplus(dt_d + bias_d)} and {@code h = state[s,d,:]}:
 *
 * <pre>
 *   h_i   &lt;- h_i exp(dt_d weight[d,i]) + dt_d b_i x_d
 *   out_d  = (sum_i h_i c_i + skip_d x_d) SiLU(z_d)
 * </pre>
 *
 * where {@code weight} is A = {@code -exp(A_log)}, which whoever loads a model makes once. Without
 * {@code skip} it is 0, without {@code z} there is no gate.
 *
 * <p>The projections around are {@link Linear}, or {@link Gate} for a block that ends in an exit's
 * probability; dt, b, c and z may be columns of what they wrote ({@link Tensor#slice}). Row r is a
 * token of {@code sequence[r]}, whose state is {@code state[sequence[r]]}; several rows of one
 * sequence are its tokens, in ascending order, so a prompt is a run, too. An inactive row changes no
 * state, and its row of the output is 0: so a block with a residual connection passes it on
 * unchanged (DYNAMAX's skipped layers); its sequence must be one all the same. A scan without output
 * moves states on and nothing else.
 *
 * <p>Arithmetic is f32. A NaN or an infinity in a channel gives what the formula gives, in that
 * channel; in b or c, in that row. A sequence that there is not is an {@link
 * IllegalArgumentException} on the CPU, with nothing written; on CUDA such a row is inactive. Bytes
 * that must move: {@code 8 Di N} for each sequence that has an active row, {@code 4 Di N} for the
 * weight, {@code 4 Di} for bias and for skip, and the elements of the rows.
 *
 * <p>Errors, threads, alignment: {@link Op}. The output may be exactly x.
 */
public final class SsmStep extends Op {
  /** Most values of a channel's state. */
  public static final int MOST_STATES = exeunt.EXN_SSM_MOST_STATES;

  private SsmStep(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building the convolution of a channel's last inputs.
   *
   * @return a builder that needs x, state, weight and out
   */
  public static Builder convolution() {
    return new Builder(exeunt.EXN_SSM_CONV);
  }

  /**
   * Starts building the scan.
   *
   * @return a builder that needs x, state, weight, dt, b and c
   */
  public static Builder scan() {
    return new Builder(exeunt.EXN_SSM_SCAN);
  }

  @Override
  int supported(long params) {
    return exeunt.exn_ssm_step_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_ssm_step_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_ssm_step(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link SsmStep}. */
  public static final class Builder extends Op.Builder<SsmStep> {
    private final int stage;
    private Tensor x;
    private Tensor state;
    private Tensor weight;
    private Tensor bias;
    private Tensor dt;
    private Tensor b;
    private Tensor c;
    private Tensor skip;
    private Tensor z;
    private Tensor out;
    private Tensor sequence;
    private Tensor active;

    private Builder(int stage) {
      this.stage = stage;
    }

    /**
     * The inputs of the channels.
     *
     * @param tensor in, [R,Di], F32, F16 or BF16, last stride 1; R may be 0, Di at least 1
     * @return this
     */
    public Builder x(Tensor tensor) {
      x = tensor;
      return this;
    }

    /**
     * What each sequence remembers: the last inputs, or h.
     *
     * @param tensor in and out, [S,Di,N], F32, compact; S at least 1, N from 1 to {@value
     *     SsmStep#MOST_STATES} (Mamba: 4 for the convolution, 16 for the scan)
     * @return this
     */
    public Builder state(Tensor tensor) {
      state = tensor;
      return this;
    }

    /**
     * The convolution's weight, or A of the scan.
     *
     * @param tensor in, [Di,N], F32, compact
     * @return this
     */
    public Builder weight(Tensor tensor) {
      weight = tensor;
      return this;
    }

    /**
     * The convolution's bias, or that of dt.
     *
     * @param tensor in, optional, [Di], F32, compact
     * @return this
     */
    public Builder bias(Tensor tensor) {
      bias = tensor;
      return this;
    }

    /**
     * The step of each channel, before softplus; scan only.
     *
     * @param tensor in, [R,Di], F32, F16 or BF16, last stride 1
     * @return this
     */
    public Builder dt(Tensor tensor) {
      dt = tensor;
      return this;
    }

    /**
     * How the input enters the state; scan only.
     *
     * @param tensor in, [R,N], F32, F16 or BF16, last stride 1
     * @return this
     */
    public Builder b(Tensor tensor) {
      b = tensor;
      return this;
    }

    /**
     * How the state is read; scan only.
     *
     * @param tensor in, [R,N], F32, F16 or BF16, last stride 1
     * @return this
     */
    public Builder c(Tensor tensor) {
      c = tensor;
      return this;
    }

    /**
     * What passes the state by, D of Mamba; scan only.
     *
     * @param tensor in, optional, [Di], F32, compact
     * @return this
     */
    public Builder skip(Tensor tensor) {
      skip = tensor;
      return this;
    }

    /**
     * The gate; scan only.
     *
     * @param tensor in, optional, [R,Di], F32, F16 or BF16, last stride 1
     * @return this
     */
    public Builder z(Tensor tensor) {
      z = tensor;
      return this;
    }

    /**
     * The result.
     *
     * @param tensor out, [R,Di], F32, F16 or BF16, last stride 1; optional for the scan; may be
     *     exactly x
     * @return this
     */
    public Builder out(Tensor tensor) {
      out = tensor;
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
     * Which rows take part.
     *
     * @param tensor in, optional, [R], U8, compact; left out, all do
     * @return this
     */
    public Builder active(Tensor tensor) {
      active = tensor;
      return this;
    }

    @Override
    SsmStep create(Place place) {
      return new SsmStep(
          new Params(exn_ssm_step_params.class)
              .tensor("x", x)
              .written("state", state)
              .tensor("weight", weight)
              .tensor("bias", bias)
              .tensor("dt", dt)
              .tensor("b", b)
              .tensor("c", c)
              .tensor("skip", skip)
              .tensor("z", z)
              .written("out", out)
              .tensor("sequence", sequence)
              .tensor("active", active)
              .int32("stage", stage),
          place);
    }
  }
}
