// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.tensor.BFloat16BufferTensor;
import com.github.tjake.jlama.tensor.Q4ByteBufferTensor;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.Models;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.gguf.GgufTensor;
import org.exeunt.engine.model.gguf.Strings;

/**
 * The demo's model as Hugging Face and Jlama know it: {@code config.json}, the tokenizer and {@code
 * model.safetensors}, made of the GGUF file's metadata, vocabulary and weights.
 */
final class SmolLm {
  /** The layers of {@link #part}, half of them the last ones, and its tokens, the first. */
  static final int PART_LAYERS = 8;
  static final int PART_TOKENS = 8192;

  private static final ObjectMapper JSON = new ObjectMapper();
  private static final int CONTROL = 3; // of tokenizer.ggml.token_type
  private static final int BLOCK = Q4ByteBufferTensor.BLOCK_SIZE;

  private final GgufFile file;
  private final LlamaConfig config;
  private final int layers;
  private final int vocabulary;
  private final DType type;

  private SmolLm(GgufFile file, boolean whole, DType type) throws IOException {
    this.file = file;
    config = LlamaConfig.of(file);
    layers = whole ? config.layers() : PART_LAYERS;
    vocabulary = whole ? config.vocabulary() : PART_TOKENS;
    this.type = type;
  }

  /** Whether the demo's model is in the cache. */
  static boolean present() {
    return Files.exists(Models.find());
  }

  /**
   * A folder with the model.
   *
   * @param type F32, BF16, or Q4 as Jlama quantises: blocks with their scales apart, at odd
   *     addresses, and the embedding in BF16
   */
  static Path folder(DType type) throws IOException {
    return folder(type, true);
  }

  /** The same of a part of its layers and tokens: a model that makes no sense, but runs soon. */
  static Path part(DType type) throws IOException {
    return folder(type, false);
  }

  private static Path folder(DType type, boolean whole) throws IOException {
    String name = (whole ? "smollm2-" : "part-") + type.name().toLowerCase(Locale.ROOT);
    return TestModels.folder(name, folder -> {
      try (GgufFile file = GgufFile.open(Models.find())) {
        SmolLm model = new SmolLm(file, whole, type);
        model.writeConfig(folder);
        model.writeTokenizer(folder);
        model.writeWeights(folder.resolve("model.safetensors"));
      }
    });
  }

  private int token(String key) throws IOException {
    return file.integer("tokenizer.ggml." + key, 0, 1 << 20);
  }

  private void writeConfig(Path folder) throws IOException {
    Map<String, Object> fields = new LinkedHashMap<>();
    fields.put("model_type", "llama");
    fields.put("max_position_embeddings", config.context());
    fields.put("hidden_size", config.width());
    fields.put("intermediate_size", config.feedForward());
    fields.put("num_attention_heads", config.heads());
    fields.put("num_key_value_heads", config.kvHeads());
    fields.put("num_hidden_layers", layers);
    fields.put("rms_norm_eps", config.epsilon());
    fields.put("vocab_size", vocabulary);
    fields.put("bos_token_id", token("bos_token_id"));
    fields.put("eos_token_id", token("eos_token_id"));
    fields.put("hidden_act", "silu");
    fields.put("rope_theta", (double) config.ropeBase());
    JSON.writeValue(folder.resolve("config.json").toFile(), fields);
  }

  private void writeTokenizer(Path folder) throws IOException {
    Strings tokens = file.strings("tokenizer.ggml.tokens");
    Strings merges = file.strings("tokenizer.ggml.merges");
    long[] kinds = file.integers("tokenizer.ggml.token_type");
    Map<String, Object> ids = new LinkedHashMap<>();
    List<Map<String, Object>> added = new ArrayList<>();
    for (int i = 0; i < vocabulary; i++) {
      ids.put(tokens.get(i), i);
      if (kinds[i] == CONTROL) {
        added.add(Map.of("id", i, "content", tokens.get(i), "special", true));
      }
    }
    List<String> pairs = new ArrayList<>();
    for (int i = 0; i < merges.size(); i++) {
      if (ids.containsKey(merges.get(i).replace(" ", ""))) {
        pairs.add(merges.get(i));
      }
    }
    JSON.writeValue(folder.resolve("tokenizer.json").toFile(),
        Map.of("added_tokens", added, "pre_tokenizer",
            Map.of("type", "Sequence", "pretokenizers",
                List.of(Map.of("type", "Digits", "individual_digits", true),
                    Map.of("type", "ByteLevel", "add_prefix_space", false))),
            "model", Map.of("type", "BPE", "vocab", ids, "merges", pairs)));
    JSON.writeValue(folder.resolve("tokenizer_config.json").toFile(),
        Map.of("bos_token", tokens.get(token("bos_token_id")), "eos_token",
            tokens.get(token("eos_token_id")), "chat_template",
            file.string("tokenizer.chat_template")));
  }

  private void writeWeights(Path path) throws IOException {
    Safetensors out = new Safetensors();
    for (GgufTensor tensor : file.tensors().values()) {
      String[] parts = tensor.name().split("\\.");
      if (parts[0].equals("blk")) {
        int layer = Integer.parseInt(parts[1]);
        int left = config.layers() - layers;
        if (layer >= layers / 2 && layer < layers / 2 + left) {
          continue;
        }
        parts[1] = String.valueOf(layer < layers / 2 ? layer : layer - left);
      }
      String name = nameOf(parts);
      int rows = (int) tensor.rows();
      if (rows == config.vocabulary()) {
        rows = vocabulary;
      }
      long columns = tensor.columns();
      boolean vector = tensor.dimensions().size() == 1;
      List<Long> shape = vector ? List.of(columns) : List.of((long) rows, columns);
      int count = rows;
      if (type != DType.Q4) {
        out.add(name, type.name(), shape, rows * columns * type.size(),
            () -> rows(tensor, name, count, type));
      } else if (vector || parts[0].equals("token_embd")) {
        out.add(name, "BF16", shape, rows * columns * Short.BYTES,
            () -> rows(tensor, name, count, DType.BF16));
      } else {
        Q4ByteBufferTensor[] quantised = new Q4ByteBufferTensor[1];
        out.add(name, "Q4", shape, rows * columns / 2, () -> {
          BFloat16BufferTensor values = new BFloat16BufferTensor(count, (int) columns);
          values.getMemorySegment().asByteBuffer().put(rows(tensor, name, count, DType.BF16));
          quantised[0] = new Q4ByteBufferTensor(values);
          return quantised[0].getMemorySegment().asByteBuffer();
        });
        out.add(name + ".qb", "F32", List.of((long) rows, columns / BLOCK),
            rows * columns / BLOCK * Float.BYTES,
            () -> quantised[0].getBlockF().getMemorySegment().asByteBuffer());
      }
    }
    out.write(path, type == DType.Q4 ? 5 : 0);
  }

  /** The first rows of a tensor in f32 or bf16. */
  private ByteBuffer rows(GgufTensor tensor, String name, int count, DType to) throws IOException {
    ByteBuffer bytes =
        ByteBuffer.allocate(count * (int) tensor.columns() * to.size())
            .order(ByteOrder.LITTLE_ENDIAN);
    int heads = name.contains("q_proj") ? config.heads()
        : name.contains("k_proj")
        ? config.kvHeads()
        : 0;
    file.readRows(tensor, 0, count, (index, row) -> {
      int place = heads == 0 ? index : halves(index, count / heads);
      put(bytes, place * row.length, row, to);
    });
    return bytes.clear();
  }

  /**
   * GGUF has the elements of a head that turn together side by side, Hugging Face half a head
   * apart.
   */
  private static int halves(int row, int width) {
    int within = row % width;
    return row - within + within % 2 * (width / 2) + within / 2;
  }

  private static void put(ByteBuffer out, int first, float[] row, DType type) {
    for (int i = 0; i < row.length; i++) {
      if (type == DType.F32) {
        out.putFloat((first + i) * Float.BYTES, row[i]);
      } else {
        int bits = Float.floatToRawIntBits(row[i]);
        out.putShort((first + i) * Short.BYTES, (short) (bits + 0x7fff + (bits >> 16 & 1) >> 16));
      }
    }
  }

  private static String nameOf(String[] gguf) {
    return switch (gguf[0]) {
      case "token_embd" -> "model.embed_tokens.weight";
      case "output_norm" -> "model.norm.weight";
      case "output" -> "lm_head.weight";
      default ->
        "model.layers." + gguf[1] + "." + switch (gguf[2]) {
          case "attn_norm" -> "input_layernorm";
          case "attn_q" -> "self_attn.q_proj";
          case "attn_k" -> "self_attn.k_proj";
          case "attn_v" -> "self_attn.v_proj";
          case "attn_output" -> "self_attn.o_proj";
          case "ffn_norm" -> "post_attention_layernorm";
          case "ffn_gate" -> "mlp.gate_proj";
          case "ffn_up" -> "mlp.up_proj";
          case "ffn_down" -> "mlp.down_proj";
          default -> throw new IllegalArgumentException(String.join(".", gguf));
        } + ".weight";
    };
  }
}
