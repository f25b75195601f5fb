// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import java.util.Arrays;
import org.exeunt.engine.layer.LayerObserver;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;

/** The hidden states that a text leaves after at every depth of a model that runs in full. */
public final class Trace {
  private final float[][] hidden;
  private final int tokens;

  private Trace(int layers, int tokens, int width) {
    this.tokens = tokens;
    hidden = new float[layers + 1][tokens * width];
  }

  /** Runs {@code ids}, at least one, at positions 0, 1, … */
  public static Trace of(LlamaWeights weights, int... ids) {
    return of(weights, DecoderOptions.FULL, ids);
  }

  /** The same with options that leave nothing out, which have no observer. */
  public static Trace of(LlamaWeights weights, DecoderOptions options, int... ids) {
    LlamaConfig config = weights.config();
    Trace trace = new Trace(config.layers(), ids.length, config.width());
    LayerObserver keep = (depth, rows) -> {
      float[] states = rows.hidden().toFloatArray();
      System.arraycopy(
          states, 0, trace.hidden[depth], rows.positionOf(0) * config.width(), states.length);
    };
    try (Decoder decoder = new Decoder(weights, options.withObserver(keep), 1, ids.length)) {
      decoder.prefill(0, ids);
    }
    return trace;
  }

  public int tokens() {
    return tokens;
  }

  /** The states after {@code depth} layers, row by row; not copied. */
  public float[] hidden(int depth) {
    return hidden[depth];
  }

  /** The state of one token after {@code depth} layers. */
  public float[] hidden(int depth, int token) {
    int width = hidden[depth].length / tokens;
    return Arrays.copyOfRange(hidden[depth], token * width, (token + 1) * width);
  }
}
