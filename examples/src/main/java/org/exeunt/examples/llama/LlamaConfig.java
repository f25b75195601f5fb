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
 * @param ropeFactor positions are divided by this before they turn a head (linear scaling); 1 if
 *     not at all
 */
public record LlamaConfig(int layers, int width, int heads, int kvHeads, int headWidth,
    int feedForward, int vocabulary, int context, float epsilon, float ropeBase, float ropeFactor) {
  /** What one call of {@code KvPropagate} can serve. */
  private static final int MAX_LAYERS = 128;

  /** Reads the sizes from {@code file}'s metadata. */
  public static LlamaConfig of(GgufFile file) throws IOException {
    String architecture = file.string("general.architecture");
    if (!architecture.equals("llama")) {
      throw new ModelFormatException(
          file.path(), "metadata 'general.architecture' is '" + architecture + "', not 'llama'.");
    }
    int width = file.integer("llama.embedding_length", 1, 1 << 16);
    int heads = file.integer("llama.attention.head_count", 1, 1 << 10);
    int kvHeads = file.integer("llama.attention.head_count_kv", 1, heads);
    int headWidth = file.integer("llama.rope.dimension_count", 2, width);
    if (width != heads * headWidth || heads % kvHeads != 0 || headWidth % 2 != 0) {
      throw new ModelFormatException(file.path(),
          "a width of " + width + " cannot be " + heads + " heads of even width " + headWidth
              + " sharing " + kvHeads + " key heads.");
    }
    return new LlamaConfig(file.integer("llama.block_count", 1, MAX_LAYERS), width, heads, kvHeads,
        headWidth, file.integer("llama.feed_forward_length", 1, 1 << 18),
        file.strings("tokenizer.ggml.tokens").length,
        file.integer("llama.context_length", 1, 1 << 20),
        positive(file, "llama.attention.layer_norm_rms_epsilon"),
        positive(file, "llama.rope.freq_base"), ropeFactor(file));
  }

  private static float positive(GgufFile file, String key) throws IOException {
    float value = (float) file.number(key);
    if (!(value > 0 && value < Float.POSITIVE_INFINITY)) {
      throw new ModelFormatException(
          file.path(), "metadata '" + key + "' is " + value + ", not a finite number above 0.");
    }
    return value;
  }

  private static float ropeFactor(GgufFile file) throws IOException {
    String key = "llama.rope.scaling.type";
    String type = file.metadata().containsKey(key) ? file.string(key) : "none";
    if (file.tensors().containsKey("rope_freqs.weight") || !type.matches("none|linear")) {
      throw new ModelFormatException(file.path(),
          "its rotary frequencies are scaled in a way ("
              + (type.equals("none") ? "tensor 'rope_freqs.weight'" : type)
              + ") that this decoder does not know; it knows linear scaling.");
    }
    float factor = type.equals("linear") ? (float) file.number("llama.rope.scaling.factor") : 1;
    if (!(factor >= 1 && factor < Float.POSITIVE_INFINITY)) {
      throw new ModelFormatException(
          file.path(), "metadata 'llama.rope.scaling.factor' is " + factor + ", not 1 or more.");
    }
    return factor;
  }

  /** Width of all keys, or all values, of one position. */
  public int kvWidth() {
    return kvHeads * headWidth;
  }

  /** Width of all queries, keys and values of one position. */
  public int queryKeyValueWidth() {
    return width + 2 * kvWidth();
  }
}
