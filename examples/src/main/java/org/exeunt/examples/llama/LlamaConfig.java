// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import java.io.IOException;
import org.exeunt.examples.gguf.GgufFile;
import org.exeunt.examples.io.ModelFormatException;

/**
 * The sizes of a Llama-family decoder.
 *
 * @param layers decoder layers
 * @param width length of a hidden state
 * @param heads query heads
 * @param kvHeads key and value heads; each serves {@code heads / kvHeads} query heads
 * @param headWidth length of one head's query, key or value
 * @param feedForward width inside the feed-forward block
 * @param vocabulary tokens
 * @param context most positions the model was trained for
 * @param epsilon added to the mean square by RMSNorm
 * @param ropeBase the base of the rotary frequencies
 */
public record LlamaConfig(
    int layers, int width, int heads, int kvHeads, int headWidth, int feedForward, int vocabulary,
    int context, float epsilon, float ropeBase) {

  /** Reads the sizes from {@code file}'s metadata. */
  public static LlamaConfig of(GgufFile file) throws IOException {
    String architecture = file.string("general.architecture");
    if (!architecture.equals("llama")) {
      throw new ModelFormatException(file.path(),
          "metadata 'general.architecture' is '" + architecture + "', not 'llama'.");
    }
    int width = file.integer("llama.embedding_length", 1, 1 << 16);
    int heads = file.integer("llama.attention.head_count", 1, 1 << 10);
    int kvHeads = file.integer("llama.attention.head_count_kv", 1, heads);
    int headWidth = file.integer("llama.rope.dimension_count", 2, width);
    if (width != heads * headWidth || heads % kvHeads != 0 || headWidth % 2 != 0) {
      throw new ModelFormatException(file.path(), "a width of " + width + " cannot be " + heads
          + " heads of even width " + headWidth + " sharing " + kvHeads + " key heads.");
    }
    return new LlamaConfig(
        file.integer("llama.block_count", 1, 1 << 10), width, heads, kvHeads, headWidth,
        file.integer("llama.feed_forward_length", 1, 1 << 18),
        file.strings("tokenizer.ggml.tokens").length,
        file.integer("llama.context_length", 1, 1 << 20),
        (float) file.number("llama.attention.layer_norm_rms_epsilon"),
        (float) file.number("llama.rope.freq_base"));
  }

  /** Width of all keys, or all values, of one position. */
  public int kvWidth() {
    return kvHeads * headWidth;
  }
}
