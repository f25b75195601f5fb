// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import org.exeunt.engine.model.gguf.GgmlType;

/** As {@link TinyModel}, of architecture gemma3, with tensors of every quantised format. */
public final class TinyGemma {
  public static final int LAYERS = 7; // layer 5 sees everything
  public static final int WINDOW = 8;
  private static final int WIDTH = 32;
  private static final int HEADS = 4;
  private static final int KV_HEADS = 2;
  private static final int HEAD_WIDTH = 16; // not WIDTH / HEADS
  private static final int INNER = 256; // a block of the K formats

  private static final List<GgmlType> SMALL = List.of(
      GgmlType.Q5_0, GgmlType.Q8_0, GgmlType.Q5_1, GgmlType.Q4_0, GgmlType.Q4_1, GgmlType.F32);
  private static final List<GgmlType> LARGE = List.of(GgmlType.Q6_K, GgmlType.Q4_K, GgmlType.Q5_K);

  private TinyGemma() {}

  /** Its metadata, keys in order. */
  public static Map<String, Object> metadata() {
    Map<String, Object> metadata = new LinkedHashMap<>();
    metadata.put("general.architecture", "gemma3");
    metadata.put("gemma3.embedding_length", WIDTH);
    metadata.put("gemma3.attention.head_count", HEADS);
    metadata.put("gemma3.attention.head_count_kv", KV_HEADS);
    metadata.put("gemma3.attention.key_length", HEAD_WIDTH);
    metadata.put("gemma3.attention.value_length", HEAD_WIDTH);
    metadata.put("gemma3.attention.sliding_window", WINDOW);
    metadata.put("gemma3.block_count", LAYERS);
    metadata.put("gemma3.feed_forward_length", INNER);
    metadata.put("gemma3.context_length", TinyModel.CONTEXT);
    metadata.put("gemma3.attention.layer_norm_rms_epsilon", 1e-6f);
    metadata.put("gemma3.rope.freq_base", 1e6f);
    metadata.put("gemma3.rope.scaling.type", "linear");
    metadata.put("gemma3.rope.scaling.factor", 4f);
    metadata.put("tokenizer.ggml.model", "llama");
    String[] tokens = tokens();
    metadata.put("tokenizer.ggml.tokens", tokens);
    int[] types = new int[tokens.length];
    float[] scores = new float[tokens.length];
    for (int id = 0; id < tokens.length; id++) {
      String token = tokens[id];
      boolean control = token.matches("<[a-z_]+>");
      types[id] = control ? 3 : token.equals("\n\n") ? 4 : token.startsWith("<0x") ? 6 : 1;
      scores[id] = -id; // what comes first is joined first
    }
    metadata.put("tokenizer.ggml.scores", scores);
    metadata.put("tokenizer.ggml.token_type", types);
    metadata.put("tokenizer.ggml.bos_token_id", 1);
    metadata.put("tokenizer.ggml.eos_token_id", 0);
    metadata.put("tokenizer.ggml.add_space_prefix", false);
    metadata.put("tokenizer.chat_template",
        "{{ bos_token }}{% set ns = namespace(system='') %}{% for m in messages %}"
            + "{% if m.role == 'system' %}{% set ns.system = m.content + '\n\n' %}{% else %}"
            + "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}"
            + "{{ ns.system + m.content|trim + '<end_of_turn>\n' }}{% set ns.system = '' %}"
            + "{% endif %}{% endfor %}{{ '<start_of_turn>model\n' }}");
    return metadata;
  }

  /** Those of special meaning, 256 bytes, then what text is made of. */
  private static String[] tokens() {
    List<String> tokens =
        new ArrayList<>(List.of("<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", "\n\n"));
    IntStream.range(0, 256).forEach(b -> tokens.add(String.format("<0x%02X>", b)));
    tokens.addAll(List.of("bc", "\u2581a", "ab", "abc", "\u2581\u2581", "\u2581abc", "\u2581"));
    tokens.addAll(Arrays.asList("abcdefghij".split("")));
    return tokens.toArray(String[] ::new);
  }

  public static int vocabulary() {
    return tokens().length;
  }

  /** Its weights; a block of theirs that is quantised has values of its own. */
  public static List<TinyModel.Weight> weights() {
    Random random = new Random(2);
    List<TinyModel.Weight> weights = new ArrayList<>();
    add(weights, random, "token_embd.weight", vocabulary(), WIDTH);
    add(weights, random, "output_norm.weight", 1, WIDTH);
    for (int l = 0; l < LAYERS; l++) {
      String prefix = "blk." + l + ".";
      for (String norm : List.of("attn", "post_attention", "ffn", "post_ffw")) {
        add(weights, random, prefix + norm + "_norm.weight", 1, WIDTH);
      }
      add(weights, random, prefix + "attn_q_norm.weight", 1, HEAD_WIDTH);
      add(weights, random, prefix + "attn_k_norm.weight", 1, HEAD_WIDTH);
      add(weights, random, prefix + "attn_q.weight", HEADS * HEAD_WIDTH, WIDTH);
      add(weights, random, prefix + "attn_k.weight", KV_HEADS * HEAD_WIDTH, WIDTH);
      add(weights, random, prefix + "attn_v.weight", KV_HEADS * HEAD_WIDTH, WIDTH);
      add(weights, random, prefix + "attn_output.weight", WIDTH, HEADS * HEAD_WIDTH);
      add(weights, random, prefix + "ffn_gate.weight", INNER, WIDTH);
      add(weights, random, prefix + "ffn_up.weight", INNER, WIDTH);
      add(weights, random, prefix + "ffn_down.weight", WIDTH, INNER);
    }
    return weights;
  }

  private static void add(
      List<TinyModel.Weight> to, Random random, String name, int rows, int columns) {
    to.add(new TinyModel.Weight(name, rows, columns, TinyModel.values(rows, columns, random)));
  }

  /** Writes the model, its tensors in formats that change from one to the next. */
  public static Path write(Path file) throws IOException {
    return TinyModel.writeWeights(file, metadata(), weights(), weight -> {
      if (weight.rows() == 1) {
        return GgmlType.F32;
      }
      List<GgmlType> formats = weight.columns() % 256 == 0 ? LARGE : SMALL;
      return formats.get(Math.floorMod(weight.name().hashCode(), formats.size()));
    });
  }
}
