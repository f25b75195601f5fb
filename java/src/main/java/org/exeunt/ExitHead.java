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
 * <p>With a {@link Screen} ({@link Builder#screen(Screen)}) the head is not read, but a form of it
 * that is several times smaller, then those rows of the head that may hold the largest logit:
 * argmax, maximum and valid are the full head's, bit for bit (with {@link Screen.Bounds#CALIBRATED}
 * unless a bound fails). Log-sum-exp and p1 are estimates: p1 lies in {@link Builder#p1Low} to
 * {@link Builder#p1High}, which hold the full head's, with proven bounds. Other statistics need all
 * logits and are refused, as are a shortlist and StableMax. Of a row whose candidates are more than
 * {@link Builder#screenBudget}, whose input is not finite or beyond 2^96, or whose bounds are not
 * finite, the full head is read, and all outputs are its own. Whether the screen was made of this
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
    private Tensor screen;
    private int screenLevel;
    private Screen.Bounds screenBounds = Screen.Bounds.PROVEN;
    private int screenBudget;
    private float screenFactor;
    private Tensor certified;
    private Tensor p1Low;
    private Tensor p1High;
    private Tensor rowsRead;

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

    /**
     * Reads this in place of the head, as far as that suffices. On the CPU.
     *
     * @param value made of the head that {@link #weight} gives; kept reachable, and open while the
     *     op runs; null, the default: the head itself is read
     * @return this
     */
    public Builder screen(Screen value) {
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
    public Builder screenImage(Tensor image) {
      screen = image;
      return this;
    }

    /**
     * Where the hidden states come from.
     *
     * @param level of the screen's levels, from 0; left out, 0
     * @return this
     */
    public Builder screenLevel(int level) {
      screenLevel = level;
      return this;
    }

    /**
     * How the errors of the screen are bounded.
     *
     * @param bounds proven ones, the default, or calibrated ones
     * @return this
     */
    public Builder screenBounds(Screen.Bounds bounds) {
      screenBounds = Named.present("bounds", bounds);
      return this;
    }

    /**
     * Standard deviations of calibrated bounds.
     *
     * @param factor positive and finite; 0, the default, means 8
     * @return this
     */
    public Builder screenFactor(float factor) {
      screenFactor = factor;
      return this;
    }

    /**
     * Most rows of the head that are read one by one for a hidden state; where more are candidates,
     * the full head is read.
     *
     * @param rows 1 to V; 0, the default, means {@code V / 50 + 64}, at most V
     * @return this
     */
    public Builder screenBudget(int rows) {
      screenBudget = rows;
      return this;
    }

    /**
     * How the result of a row is known: 0, the full head was read; 1, by proven bounds without it;
     * 2, by calibrated bounds without it, which is likely, not proven.
     *
     * @param tensor out, optional, [R], U8, compact; with a screen
     * @return this
     */
    public Builder certified(Tensor tensor) {
      certified = tensor;
      return this;
    }

    /**
     * The lower end of an interval that p1 is in.
     *
     * @param tensor out, optional, [R], F32, compact; with a screen, and with {@link #p1High}
     * @return this
     */
    public Builder p1Low(Tensor tensor) {
      p1Low = tensor;
      return this;
    }

    /**
     * The upper end of an interval that p1 is in.
     *
     * @param tensor out, optional, [R], F32, compact; with a screen, and with {@link #p1Low}
     * @return this
     */
    public Builder p1High(Tensor tensor) {
      p1High = tensor;
      return this;
    }

    /**
     * How many rows of the head were read for a hidden state; V if the full head was.
     *
     * @param tensor out, optional, [R], I32, compact; with a screen
     * @return this
     */
    public Builder rowsRead(Tensor tensor) {
      rowsRead = tensor;
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
              .int32("translator_blocks", BlockFormat.tagOf(translatorBlocks))
              .tensor("screen", screen)
              .written("certified", certified)
              .written("p1_low", p1Low)
              .written("p1_high", p1High)
              .written("rows_read", rowsRead)
              .int32("screen_level", screenLevel)
              .int32("screen_mode", screenBounds.code)
              .int32("screen_budget", screenBudget)
              .float32("screen_factor", screenFactor);
      norm.write(params);
      return new ExitHead(write(params), place);
    }
  }
}
