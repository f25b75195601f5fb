// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model;

import java.io.IOException;
import java.util.List;
import java.util.Locale;
import org.exeunt.Ffn;
import org.exeunt.Rope;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.ModelFormatException;

/**
 * The sizes of a decoder of the Llama or Gemma 3 family.
 *
 * @param architecture what the two do differently
 * @param layers decoder layers
 * @param width length of a hidden state
 * @param heads query heads
 * @param kvHeads key and value heads; each serves {@code heads / kvHeads} query heads
 * @param headWidth length of one head's query, key or value
 * @param feedForward width inside the feed-forward block
 * @param vocabulary tokens
 * @param context most positions the model was trained for
 * @param epsilon added to the mean square by RMSNorm
 * @param attentionScale what products of queries and keys are multiplied by
 * @param ropeBase the base of the rotary frequencies
 * @param ropeFactor positions are divided by this before they turn a head (linear scaling); 1 if
 *     not at all
 * @param localRopeBase the base in local layers, whose positions are not divided
 * @param window how many positions, its own among them, a token sees in local layers
 * @param localPeriod of so many layers in turn all but the last are local; 1: none is
 */
public record LlamaConfig(Architecture architecture, int layers, int width, int heads, int kvHeads,
    int headWidth, int feedForward, int vocabulary, int context, float epsilon,
    float attentionScale, float ropeBase, float ropeFactor, float localRopeBase, int window,
    int localPeriod) {
  /** What one call of {@code KvPropagate} can serve. */
  private static final int MAX_LAYERS = 128;

  /** How many layers the one Gemma 3 has whose scale does not follow from the width of a head. */
  private static final int GEMMA3_27B_LAYERS = 62;

  /** What is done differently, apart from sizes. */
  public enum Architecture {
    LLAMA(Rope.Style.INTERLEAVED, Ffn.Activation.SILU),
    /**
     * Scales embeddings by {@code sqrt(D)}, norms each head of queries and keys and what attention
     * and feed-forward blocks add, and has local layers.
     */
    GEMMA3(Rope.Style.HALF, Ffn.Activation.GELU_TANH);

    private final Rope.Style ropeStyle;
    private final Ffn.Activation activation;

    Architecture(Rope.Style ropeStyle, Ffn.Activation activation) {
      this.ropeStyle = ropeStyle;
      this.activation = activation;
    }

    /** Which elements of a head turn together. */
    public Rope.Style ropeStyle() {
      return ropeStyle;
    }

    public Ffn.Activation activation() {
      return activation;
    }

    /** Its name, and how its metadata begins. */
    String key() {
      return name().toLowerCase(Locale.ROOT);
    }

    static Architecture of(GgufFile file) throws IOException {
      String name = file.string("general.architecture");
      for (Architecture architecture : values()) {
        if (architecture.key().equals(name)) {
          return architecture;
        }
      }
      throw new ModelFormatException(file.path(),
          "metadata 'general.architecture' is '" + name + "', not 'llama' or 'gemma3'.");
    }
  }

  /** Reads the sizes from {@code file}'s metadata. */
  public static LlamaConfig of(GgufFile file) throws IOException {
    return new Metadata(file, Architecture.of(file)).config();
  }

  /** Whether embeddings are scaled, and heads and branches normed. */
  public boolean isGemma() {
    return architecture == Architecture.GEMMA3;
  }

  /** What the embedding of a token is multiplied by. */
  public float embeddingScale() {
    return isGemma() ? (float) Math.sqrt(width) : 1;
  }

  /** Whether a layer sees a window of positions alone. */
  public boolean isLocal(int layer) {
    return (layer + 1) % localPeriod != 0;
  }

  /** Width of all queries of one position. */
  public int queryWidth() {
    return heads * headWidth;
  }

  /** Width of all keys, or all values, of one position. */
  public int kvWidth() {
    return kvHeads * headWidth;
  }

  /** Width of all queries, keys and values of one position. */
  public int queryKeyValueWidth() {
    return queryWidth() + 2 * kvWidth();
  }

  /** The metadata of one architecture, whose name its keys begin with. */
  private record Metadata(GgufFile file, Architecture architecture) {
    LlamaConfig config() throws IOException {
      for (String softcap : List.of("attn_logit_softcapping", "final_logit_softcapping")) {
        if (has(softcap) && file.number(key(softcap)) != 0) {
          throw problem(softcap, file.number(key(softcap)) + ", and this decoder caps nothing.");
        }
      }
      int layers = integer("block_count", 1, MAX_LAYERS);
      int width = integer("embedding_length", 1, 1 << 16);
      int heads = integer("attention.head_count", 1, 1 << 10);
      int kvHeads = integer("attention.head_count_kv", 1, heads);
      int headWidth = headWidth(width, heads, kvHeads);
      boolean gemma = architecture == Architecture.GEMMA3;
      double scaled = gemma && layers == GEMMA3_27B_LAYERS ? (double) width / heads : headWidth;
      float base = positive("rope.freq_base");
      return new LlamaConfig(architecture, layers, width, heads, kvHeads, headWidth,
          integer("feed_forward_length", 1, 1 << 18), file.strings("tokenizer.ggml.tokens").size(),
          integer("context_length", 1, 1 << 20), positive("attention.layer_norm_rms_epsilon"),
          (float) (1 / Math.sqrt(scaled)), base, ropeFactor(),
          has("rope.freq_base_swa") ? positive("rope.freq_base_swa") : 1e4f,
          gemma ? integer("attention.sliding_window", 1, 1 << 20) : 0,
          gemma ? integer("attention.sliding_window_pattern", 1, MAX_LAYERS, 6) : 1);
    }

    private int headWidth(int width, int heads, int kvHeads) throws IOException {
      boolean own = has("attention.key_length"); // or the width is shared out
      int headWidth = integer(own ? "attention.key_length" : "rope.dimension_count", 2, 1 << 16);
      if (!own && width != heads * headWidth || heads % kvHeads != 0 || headWidth % 2 != 0) {
        throw new ModelFormatException(file.path(),
            "a width of " + width + " cannot be " + heads + " heads of even width " + headWidth
                + " sharing " + kvHeads + " key heads.");
      }
      for (String same : List.of("attention.value_length", "rope.dimension_count")) {
        if (integer(same, 1, 1 << 16, headWidth) != headWidth) {
          throw problem(same,
              integer(same, 1, 1 << 16) + ", but a key has " + headWidth
                  + " elements; this decoder takes the same of both.");
        }
      }
      return headWidth;
    }

    private float ropeFactor() throws IOException {
      String type = has("rope.scaling.type") ? file.string(key("rope.scaling.type")) : "none";
      if (!type.matches("none|linear")) {
        throw new ModelFormatException(file.path(),
            "its rotary frequencies are scaled in a way (" + type
                + ") that this decoder does not know; it knows linear scaling and the factors of a "
                + "tensor 'rope_freqs.weight'.");
      }
      float factor = type.equals("linear") ? (float) file.number(key("rope.scaling.factor")) : 1;
      if (!(factor >= 1 && factor < Float.POSITIVE_INFINITY)) {
        throw problem("rope.scaling.factor", factor + ", not 1 or more.");
      }
      return factor;
    }

    private String key(String name) {
      return architecture.key() + "." + name;
    }

    private boolean has(String name) {
      return file.metadata().containsKey(key(name));
    }

    private int integer(String name, int least, int most) throws IOException {
      return file.integer(key(name), least, most);
    }

    private int integer(String name, int least, int most, int otherwise) throws IOException {
      return has(name) ? integer(name, least, most) : otherwise;
    }

    private float positive(String name) throws IOException {
      float value = (float) file.number(key(name));
      if (!(value > 0 && value < Float.POSITIVE_INFINITY)) {
        throw problem(name, value + ", not a finite number above 0.");
      }
      return value;
    }

    private ModelFormatException problem(String name, String what) {
      return new ModelFormatException(file.path(), "metadata '" + key(name) + "' is " + what);
    }
  }
}
