// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * Decides on the device which rows skip the next feed-forward block (FFN-SkipLLM; a reconstruction
 * from its text, the authors published no code). Run it once before layer 0, with layer -1, and
 * once after the feed-forward block of every layer but the last: it writes the mask of layer + 1.
 *
 * <pre>
 *   rule.run(stream, -1, tokenIndex);
 *   for (int layer = 0; layer &lt; layers; layer++) {
 *     ...
 *     ffn[layer].run(stream);                        // obeys skip, writes cosine
 *     if (layer + 1 &lt; layers) rule.run(stream, layer, tokenIndex);
 *   }
 * </pre>
 *
 * <ul>
 *   <li>layer -1: the row's state is forgotten (a new token);
 *   <li>from layer 0 on, inside [coldStart, coldEnd), with {@code cosine >= threshold}: the row
 *       begins to skip;
 *   <li>{@code skip = 1} if the row skips, layer + 1 is inside [coldStart, coldEnd), its token
 *       index is at least {@code warmUp}, and it has skipped fewer than {@code budget} blocks of
 *       this token.
 * </ul>
 *
 * <p>With a threshold of 1 or more no row begins: a cosine that rounds to 1 proves nothing. Nor does
 * that of a skipped block, a NaN: a row that skips goes on to coldEnd or to its budget. Threshold, cold layers and warm-up have no known good
 * values: calibrate the first two for each model ({@link FfnSkipFit}), and try the warm-up out.
 * Bytes that must move: about 21 for each row.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}. Layer and token index are read when the run
 * is called; runs queued before keep theirs (a captured graph keeps those of its capture). {@link
 * #run()} takes those of the last run that was not refused.
 */
public final class FfnSkipRule extends Op {
  /** 32-bit words of state for each row. */
  public static final int STATE_WORDS = exeunt.EXN_FFN_SKIP_STATE_WORDS;

  private final int layerOffset = Params.offset(exn_ffn_skip_rule_params.class, "layer");
  private final int tokenOffset = Params.offset(exn_ffn_skip_rule_params.class, "token_index");

  /**
   * Allocates the state of a rule; its contents do not matter before a run with layer -1.
   *
   * @param scope owns the memory
   * @param device device of the other tensors
   * @param rows R
   * @return [R, {@value #STATE_WORDS}], I32
   */
  public static Tensor allocateState(Scope scope, Device device, long rows) {
    return Named.present("scope", scope).allocate(device, DType.I32, rows, STATE_WORDS);
  }

  /**
   * Writes the mask of the next layer; does not synchronise.
   *
   * @param stream where to queue the work; ignored on the CPU
   * @param layer the layer whose block has just run, or -1 before layer 0; at most L - 2
   * @param tokenIndex of all rows, 0 or more; ignored where the builder was given tokens
   */
  public void run(Stream stream, int layer, int tokenIndex) {
    long handle = enter(stream);
    try {
      int layerBefore = paramsBlock().getInt(layerOffset);
      int tokenBefore = paramsBlock().getInt(tokenOffset);
      writeStep(layer, tokenIndex);
      try {
        launch(handle);
      } catch (Throwable e) {
        writeStep(layerBefore, tokenBefore);
        throw e;
      }
    } finally {
      leave(stream);
    }
  }

  /**
   * Writes the mask of the next layer on {@link Stream#DEFAULT}; see {@link #run(Stream, int,
   * int)}.
   *
   * @param layer the layer whose block has just run, or -1 before layer 0; at most L - 2
   * @param tokenIndex of all rows, 0 or more; ignored where the builder was given tokens
   */
  public void run(int layer, int tokenIndex) {
    run(Stream.DEFAULT, layer, tokenIndex);
  }

  private void writeStep(int layer, int tokenIndex) {
    paramsBlock().putInt(layerOffset, layer).putInt(tokenOffset, tokenIndex);
  }

  public static final class Builder extends Op.Builder<FfnSkipRule> {
    private int layer = -1;
    private Integer modelLayers;
    private Integer coldStart;
    private Integer coldEnd;
    private Integer warmUp;
    private int budget = -1;
    private Float threshold;

    /**
     * The layers whose block may be skipped.
     *
     * @param start the first, 0 to L
     * @param end one past the last, {@code start} to L
     * @return this
     */
    public Builder coldLayers(int start, int end) {
      coldStart = start;
      coldEnd = end;
      return this;
    }

    /**
     * What plain {@link Op#run(Stream)} uses; {@link FfnSkipRule#run(Stream, int, int)} changes
     * them.
     *
     * @param number the layer whose block has just run, or -1 (the default)
     * @param index token index of all rows, 0 or more
     * @return this
     */
    public Builder at(int number, int index) {
      layer = number;
      tokenIndex = index;
      return this;
    }
  }
}
