// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.jspecify.annotations.Nullable;

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
 * distribution renormalised over the list, and argmax is the vocabulary id, as labels are; the
 * log-probability of a label that is not listed is -inf. A draw is one of the listed ids, by the
 * noise of its vocabulary id; an id that is listed twice counts once. A list entry outside the
 * vocabulary is an {@link IllegalArgumentException} on the CPU and makes every row invalid on CUDA.
 * Invalid rows: {@link RowStats}.
 *
 * <p>Quantised weights ({@link Builder#weightBlocks}, {@link Builder#translatorBlocks}) meet an f32
 * x that is rounded as in {@link Linear}, whose bound holds for each logit; a row of x with an
 * element that is not finite makes its logits NaN, a block with a scale that is not finite those of
 * its row of W NaN or infinite.
 *
 * <p>With a {@link Screen} ({@link Builder#screen(Screen)}) the head is not read, but a form of it
 * that is several times smaller, then those rows of the head that may hold the largest logit:
 * argmax, maximum and valid are the full head's, bit for bit (with {@link Screen.Bounds#CALIBRATED}
 * unless a bound fails). Log-sum-exp and p1 are estimates: p1 lies in {@link Builder#p1Low} to
 * {@link Builder#p1High}, which hold the full head's, with proven bounds. Other statistics need all
 * logits and are refused, as are labels, a draw, a shortlist and StableMax. Of a row whose
 * candidates are more than {@link Builder#screenBudget}, whose input is not finite or beyond 2^96,
 * or whose bounds are not finite, the full head is read, and all outputs are its own. Whether the screen was made of this
 * head is for {@link Screen#check}. On CUDA an image ({@link Builder#screenImage}) in device memory
 * is taken; where its header is damaged, or of another V, D or size, or lacks the level, the full
 * head is read for all rows, and rows read may be other numbers than on the CPU.
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

  /**
   * Computes softmax statistics after an RMSNorm once on {@link Stream#DEFAULT}; see {@link
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

  public static final class Builder extends StatisticsBuilder<ExitHead, Builder> {
    private final InputNorm norm = new InputNorm(); // norm, norm_weight, norm_bias, norm_eps
    private Translate translate = Translate.RAW;
    private Screen.Bounds screenBounds = Screen.Bounds.PROVEN; // screen_mode

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
     * @param normWeight {norm_weight}
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
     * @param normWeight {norm_weight}
     * @param normBias {norm_bias}
     * @param eps added to the variance, 0 or more, finite
     * @return this
     */
    public Builder layerNorm(Tensor normWeight, @Nullable Tensor normBias, float eps) {
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
     * @param translatorBias {translator_bias}
     * @param input what the map is fed
     * @return this
     */
    public Builder translator(
        Tensor translatorWeight, @Nullable Tensor translatorBias, Translate input) {
      this.translatorWeight = translatorWeight;
      this.translatorBias = translatorBias;
      translate = Named.present("translate", input);
      return this;
    }

    /**
     * Reads this in place of the head, as far as that suffices. On the CPU.
     *
     * @param value made of the head that {@link #weight} gives; kept reachable, and open while the
     *     op runs; null, the default: the head itself is read
     * @return this
     */
    public Builder screen(@Nullable Screen value) {
      screen = value == null ? null : value.image();
      return this;
    }

    /**
     * The same of the image of a screen.
     *
     * @param image in, optional, [bytes], U8, compact, at a multiple of 64: what {@link
     *     Screen#image} gives, or a copy of it in device memory
     * @return this
     */
    public Builder screenImage(@Nullable Tensor image) {
      screen = image;
      return this;
    }

    @Override
    Builder self() {
      return this;
    }
  }
}
