// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.github.tjake.jlama.safetensors.SafeTensorSupport;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.examples.Models;
import org.exeunt.examples.gguf.GgufFile;
import org.exeunt.examples.gguf.GgufTensor;
import org.exeunt.examples.gguf.Strings;
import org.exeunt.examples.llama.LlamaConfig;

/**
 * The demo's model as Hugging Face and Jlama know it: {@code config.json}, {@code tokenizer.json}
 * and {@code model.safetensors}, made of the GGUF file's metadata, vocabulary and weights.
 */
final class SmolLm {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final int CONTROL = 3; // of tokenizer.ggml.token_type

  private SmolLm() {}

  /** Whether the demo's model is in the cache. */
  static boolean present() {
    return Files.exists(Models.find());
  }

  /** A folder with the model in f32 or bf16, made where it is not yet there. */
  static Path folder(DType type) throws IOException {
    Path folder = Path.of(System.getProperty("basedir", "."), "target",
        "smollm2-" + type.name().toLowerCase(java.util.Locale.ROOT));
    Path weights = folder.resolve("model.safetensors");
    if (!Files.exists(weights)) {
      Files.createDirectories(folder);
      try (GgufFile file = GgufFile.open(Models.find())) {
        LlamaConfig config = LlamaConfig.of(file);
        writeConfig(folder, file, config);
        writeTokenizer(folder, file);
        Path draft = folder.resolve("model.safetensors.draft");
        writeWeights(draft, file, config, type);
        Files.move(draft, weights, StandardCopyOption.ATOMIC_MOVE);
      }
    }
    return folder;
  }

  /** The same, quantised and written by Jlama: blocks with their scales apart, at odd addresses. */
  static Path quantised() throws IOException {
    Path from = folder(DType.BF16);
    Path folder = from.resolveSibling("smollm2-q4");
    if (!Files.exists(folder.resolve("model.safetensors"))) {
      if (Files.exists(folder)) {
        try (Stream<Path> left = Files.list(folder)) { // of a run that was stopped
          for (Path path : left.toList()) {
            Files.delete(path);
          }
        }
      }
      Files.writeString(from.resolve("README.md"), "SmolLM2-135M-Instruct");
      SafeTensorSupport.quantizeModel(from, com.github.tjake.jlama.safetensors.DType.Q4,
          new String[] {"model.embed_tokens."}, null, Optional.of(folder));
    }
    return folder;
  }

  private static void writeConfig(Path folder, GgufFile file, LlamaConfig config)
      throws IOException {
    Map<String, Object> fields = new LinkedHashMap<>();
    fields.put("model_type", "llama");
    fields.put("max_position_embeddings", config.context());
    fields.put("hidden_size", config.width());
    fields.put("intermediate_size", config.feedForward());
    fields.put("num_attention_heads", config.heads());
    fields.put("num_key_value_heads", config.kvHeads());
    fields.put("num_hidden_layers", config.layers());
    fields.put("rms_norm_eps", config.epsilon());
    fields.put("vocab_size", config.vocabulary());
    fields.put("bos_token_id", file.integer("tokenizer.ggml.bos_token_id", 0, 1 << 20));
    fields.put("eos_token_id", file.integer("tokenizer.ggml.eos_token_id", 0, 1 << 20));
    fields.put("hidden_act", "silu");
    fields.put("rope_theta", (double) config.ropeBase());
    JSON.writeValue(folder.resolve("config.json").toFile(), fields);
  }

  private static void writeTokenizer(Path folder, GgufFile file) throws IOException {
    Strings tokens = file.strings("tokenizer.ggml.tokens");
    Strings merges = file.strings("tokenizer.ggml.merges");
    long[] kinds = file.integers("tokenizer.ggml.token_type");
    Map<String, Object> vocabulary = new LinkedHashMap<>();
    List<Map<String, Object>> added = new ArrayList<>();
    for (int i = 0; i < tokens.size(); i++) {
      vocabulary.put(tokens.get(i), i);
      if (kinds[i] == CONTROL) {
        added.add(Map.of("id", i, "content", tokens.get(i), "special", true));
      }
    }
    List<String> pairs = new ArrayList<>();
    for (int i = 0; i < merges.size(); i++) {
      pairs.add(merges.get(i));
    }
    JSON.writeValue(folder.resolve("tokenizer.json").toFile(),
        Map.of("added_tokens", added, "pre_tokenizer",
            Map.of("type", "Sequence", "pretokenizers",
                List.of(Map.of("type", "Digits", "individual_digits", true),
                    Map.of("type", "ByteLevel", "add_prefix_space", false))),
            "model", Map.of("type", "BPE", "vocab", vocabulary, "merges", pairs)));
  }

  private static void writeWeights(Path path, GgufFile file, LlamaConfig config, DType type)
      throws IOException {
    Map<String, Object> header = new LinkedHashMap<>();
    Map<String, GgufTensor> named = new LinkedHashMap<>();
    long end = 0;
    for (GgufTensor tensor : file.tensors().values()) {
      String name = nameOf(tensor.name());
      long bytes = tensor.rows() * tensor.columns() * type.bytes();
      named.put(name, tensor);
      header.put(name,
          Map.of("dtype", type.name(), "shape",
              tensor.dimensions().size() == 1
                  ? List.of(tensor.columns())
                  : List.of(tensor.rows(), tensor.columns()),
              "data_offsets", List.of(end, end + bytes)));
      end += bytes;
    }
    byte[] text = JSON.writeValueAsBytes(header);
    int padded = (text.length + 63) / 64 * 64 - Long.BYTES; // so that weights begin aligned
    padded += padded < text.length ? 64 : 0;
    try (OutputStream out = Files.newOutputStream(path)) {
      out.write(ByteBuffer.allocate(Long.BYTES)
              .order(ByteOrder.LITTLE_ENDIAN)
              .putLong(0, padded)
              .array());
      out.write(text);
      out.write(" ".repeat(padded - text.length).getBytes());
    }
    try (FileChannel out = FileChannel.open(path, java.nio.file.StandardOpenOption.APPEND)) {
      for (Map.Entry<String, GgufTensor> entry : named.entrySet()) {
        GgufTensor tensor = entry.getValue();
        ByteBuffer rows =
            ByteBuffer.allocate(Math.toIntExact(tensor.rows() * tensor.columns() * type.bytes()))
                .order(ByteOrder.LITTLE_ENDIAN);
        int heads = entry.getKey().contains("q_proj") ? config.heads()
            : entry.getKey().contains("k_proj")
            ? config.kvHeads()
            : 0;
        file.readRows(tensor, (index, row) -> {
          int place = heads == 0 ? index : halves(index, (int) tensor.rows() / heads);
          put(rows, place * row.length, row, type);
        });
        out.write(rows.clear());
      }
    }
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

  private static String nameOf(String gguf) {
    String[] parts = gguf.split("\\.");
    return switch (parts[0]) {
      case "token_embd" -> "model.embed_tokens.weight";
      case "output_norm" -> "model.norm.weight";
      case "output" -> "lm_head.weight";
      default ->
        "model.layers." + parts[1] + "." + switch (parts[2]) {
          case "attn_norm" -> "input_layernorm";
          case "attn_q" -> "self_attn.q_proj";
          case "attn_k" -> "self_attn.k_proj";
          case "attn_v" -> "self_attn.v_proj";
          case "attn_output" -> "self_attn.o_proj";
          case "ffn_norm" -> "post_attention_layernorm";
          case "ffn_gate" -> "mlp.gate_proj";
          case "ffn_up" -> "mlp.up_proj";
          case "ffn_down" -> "mlp.down_proj";
          default -> throw new IllegalArgumentException(gguf);
        } + ".weight";
    };
  }
}
