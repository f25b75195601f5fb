// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_exit_head_params;
import org.exeunt.jni.global.exeunt;

/**
 * Hidden state, optional translator, optional norm, LM head, {@link Statistics} of the logits,
 * which are never written: LM exits in the manner of CALM, LayerSkip, DEL, FREE, EE-LLM.
 *
 * <pre>
 *   x = hidden                                        [R,D]
 *   x = T x' + t, x' = x or x / rms(x)                translator, one affine map for each exit
 *   x = x / sqrt(mean x^2 + eps) * w                  RMSNorm, or
 *   x = (x - mean x) / sqrt(var x + eps) * w + b      LayerNorm
 *   z = W x + bias                                    [R,V], on the fly
 * </pre>
 *
 * <p>When hidden and weight are both BF16 (or both F16), x is rounded to that type before the
 * product, as a framework's norm would; otherwise x stays f32. Products are accumulated in f32.
 * Where both are BF16, the CPU may sum the exact products of W and x in pairs, which takes
 * subnormal elements, products and sums for 0. A row's result does not depend on the other rows.
 * With a shortlist only the listed vocabulary rows are read: the statistics are those of the
 * distribution renormalised over the list, and argmax is the vocabulary id. A list entry outside
 * the vocabulary is an {@link IllegalArgumentException} on the CPU and makes every row invalid on
 * CUDA. Invalid rows: {@link RowStats}.
 *
 * <p>Quantised weights ({@link Builder#weightBlocks}, {@link Builder#translatorBlocks}) meet an f32
 * x that is rounded as in {@link Linear}, whose bound holds for each logit; a row of x with an
 * element that is not finite makes its logits NaN, a block with a scale that is not finite those of
 * its row of W NaN or infinite.
 *
 * <p>Bytes that must move: {@code V D} weight elements, or V rows of blocks, once for each block of
 * up to 64 rows, {@code R D} hidden elements.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class ExitHead extends Op {
  /** What the translator is fed. */
  public enum Translate {
    /** The hidden state as it is. */
    RAW(exeunt.EXN_TRANSLATE_RAW),
    /**
     * The hidden state divided by {@code sqrt(mean hidden^2 + eps)}, with the norm's eps and
     * without its weight.
     */
    RMS(exeunt.EXN_TRANSLATE_RMS);

    final int code;

    Translate(int code) {
      this.code = code;
    }
  }

  private ExitHead(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building: no norm, no translator, softmax, temperature 1, no soft cap.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * Computes softmax statistics behind an RMSNorm once on {@link Stream#DEFAULT}; see {@link
   * Op.Builder#runOnce()}.
   *
   * @param hidden [R,D], F32, F16 or BF16
   * @param normWeight [D], F32
   * @param normEps added to the mean square, 0 or more
   * @param weight [V,D], F32, F16 or BF16
   * @param out what to compute
   */
  public static void compute(
      Tensor hidden, Tensor normWeight, float normEps, Tensor weight, Statistics out) {
    builder().hidden(hidden).rmsNorm(normWeight, normEps).weight(weight).out(out).runOnce();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_exit_head_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_exit_head_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_exit_head(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link ExitHead}. */
  public static final class Builder extends StatisticsBuilder<ExitHead, Builder> {
    private Tensor hidden;
    private Tensor weight;
    private BlockFormat weightBlocks;
    private Tensor bias;
    private final InputNorm norm = new InputNorm();
    private Translate translate = Translate.RAW;
    private Tensor translatorWeight;
    private Tensor translatorBias;
    private BlockFormat translatorBlocks;
    private Tensor shortlist;

    private Builder() {}

    /**
     * The hidden states.
     *
     * @param tensor in, [R,D], F32, F16 or BF16, last stride 1; R may be 0, D at least 1
     * @return this
     */
    public Builder hidden(Tensor tensor) {
      hidden = tensor;
      return this;
    }

    /**
     * The LM head.
     *
     * @param tensor in, [V,D], F32, F16 or BF16, or blocks in a U8 tensor ({@link
     *     #weightBlocks}), last stride 1; V from 1 to 2^31 - 1
     * @return this
     */
    public Builder weight(Tensor tensor) {
      weight = tensor;
      return this;
    }

    /**
     * What blocks the rows of the LM head are made of.
     *
     * @param format the format; null, the default: elements of the weight's type
     * @return this
     */
    public Builder weightBlocks(BlockFormat format) {
      weightBlocks = format;
      return this;
    }

    /**
     * The LM head's bias.
     *
     * @param tensor in, optional, [V], F32, compact
     * @return this
     */
    public Builder bias(Tensor tensor) {
      bias = tensor;
      return this;
    }

    /**
     * Leaves the norm out (the default).
     *
     * @return this
     */
    public Builder noNorm() {
      norm.set(Norm.Kind.NONE, null, null);
      return this;
    }

    /**
     * RMSNorm before the head.
     *
     * @param normWeight in, [D], F32, compact
     * @param eps added to the mean square, 0 or more, finite
     * @return this
     */
    public Builder rmsNorm(Tensor normWeight, float eps) {
      norm.set(Norm.Kind.RMS, normWeight, null);
      return normEps(eps);
    }

    /**
     * LayerNorm before the head.
     *
     * @param normWeight in, [D], F32, compact
     * @param normBias in, optional, [D], F32, compact
     * @param eps added to the variance, 0 or more, finite
     * @return this
     */
    public Builder layerNorm(Tensor normWeight, Tensor normBias, float eps) {
      norm.set(Norm.Kind.LAYER, normWeight, normBias);
      return normEps(eps);
    }

    /**
     * The eps of the norms; {@link Translate#RMS} uses it even where no norm follows.
     *
     * @param eps 0 or more, finite
     * @return this
     */
    public Builder normEps(float eps) {
      norm.eps(eps);
      return this;
    }

    /**
     * An affine map before the norm, fitted for this exit ("tuned lens").
     *
     * @param translatorWeight in, [D,D] (out, in), F32, F16 or BF16, or blocks in a U8 tensor
     *     ({@link #translatorBlocks}), last stride 1
     * @param translatorBias in, optional, [D], F32, compact
     * @param input what the map is fed
     * @return this
     */
    public Builder translator(Tensor translatorWeight, Tensor translatorBias, Translate input) {
      this.translatorWeight = translatorWeight;
      this.translatorBias = translatorBias;
      translate = Named.present("translate", input);
      return this;
    }

    /**
     * What blocks the rows of the translator are made of.
     *
     * @param format the format; null, the default: elements of its type
     * @return this
     */
    public Builder translatorBlocks(BlockFormat format) {
      translatorBlocks = format;
      return this;
    }

    /**
     * The vocabulary rows to look at.
     *
     * @param tensor in, optional, [N], I32, compact, at least one entry, each from 0 to V - 1
     * @return this
     */
    public Builder shortlist(Tensor tensor) {
      shortlist = tensor;
      return this;
    }

    @Override
    Builder self() {
      return this;
    }

    @Override
    ExitHead create(Place place) {
      Params params =
          new Params(exn_exit_head_params.class)
              .tensor("hidden", hidden)
              .tensor("weight", weight)
              .tensor("bias", bias)
              .tensor("translator_weight", translatorWeight)
              .tensor("translator_bias", translatorBias)
              .tensor("shortlist", shortlist)
              .int32("translate", translate.code)
              .int32("weight_blocks", BlockFormat.tagOf(weightBlocks))
              .int32("translator_blocks", BlockFormat.tagOf(translatorBlocks));
      norm.write(params);
      return new ExitHead(write(params), place);
    }
  }
}
