// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.Function;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.engine.model.gguf.GgmlType;
import org.exeunt.engine.model.gguf.GgufBuilder;

/** A sound model of a few thousand random weights, for tests that need no knowledge in them. */
public final class TinyModel {
  public static final int LAYERS = 5;
  public static final int CONTEXT = 96;
  private static final int WIDTH = 32;
  private static final int KV_WIDTH = 16;
  private static final int INNER = 64;
  private static final String LETTERS = "abcdefghijklmnopqrstuvw";

  private record Piece(String name, int rows, int columns) {}

  /** A matrix of a model, or with one row a vector. */
  public record Weight(String name, int rows, int columns, float... values) {}

  private TinyModel() {}

  /** Its metadata, keys in order. */
  public static Map<String, Object> metadata() {
    Map<String, Object> metadata = new LinkedHashMap<>();
    metadata.put("general.architecture", "llama");
    metadata.put("llama.embedding_length", WIDTH);
    metadata.put("llama.attention.head_count", 4);
    metadata.put("llama.attention.head_count_kv", 2);
    metadata.put("llama.rope.dimension_count", WIDTH / 4);
    metadata.put("llama.block_count", LAYERS);
    metadata.put("llama.feed_forward_length", INNER);
    metadata.put("llama.context_length", CONTEXT);
    metadata.put("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    metadata.put("llama.rope.freq_base", 1e4f);
    metadata.put("tokenizer.ggml.model", "gpt2");
    metadata.put("tokenizer.ggml.pre", "smollm");
    metadata.put("tokenizer.ggml.tokens", tokens());
    metadata.put("tokenizer.ggml.token_type",
        IntStream.range(0, tokens().length).map(id -> id == 0 ? 3 : 1).toArray());
    metadata.put("tokenizer.ggml.merges", new String[0]);
    metadata.put("tokenizer.ggml.eos_token_id", 0);
    metadata.put("tokenizer.chat_template",
        "{% for message in messages %}{% if loop.first and messages[0].role != 'system' %}"
            + "{{ 'system\nbe kind\n' }}{% endif %}"
            + "{{ message.role + '\n' + message.content + '\n' }}{% endfor %}"
            + "{% if add_generation_prompt %}{{ 'assistant\n' }}{% endif %}");
    return metadata;
  }

  private static String[] tokens() {
    List<String> tokens = new ArrayList<>(List.of("<end>"));
    LETTERS.chars().forEach(letter -> tokens.add(String.valueOf((char) letter)));
    return tokens.toArray(String[] ::new);
  }

  private static List<Piece> pieces() {
    int vocabulary = tokens().length;
    List<Piece> pieces = new ArrayList<>();
    pieces.add(new Piece("token_embd.weight", vocabulary, WIDTH));
    pieces.add(new Piece("output_norm.weight", 1, WIDTH));
    for (int l = 0; l < LAYERS; l++) {
      String prefix = "blk." + l + ".";
      pieces.add(new Piece(prefix + "attn_norm.weight", 1, WIDTH));
      pieces.add(new Piece(prefix + "attn_q.weight", WIDTH, WIDTH));
      pieces.add(new Piece(prefix + "attn_k.weight", KV_WIDTH, WIDTH));
      pieces.add(new Piece(prefix + "attn_v.weight", KV_WIDTH, WIDTH));
      pieces.add(new Piece(prefix + "attn_output.weight", WIDTH, WIDTH));
      pieces.add(new Piece(prefix + "ffn_norm.weight", 1, WIDTH));
      pieces.add(new Piece(prefix + "ffn_gate.weight", INNER, WIDTH));
      pieces.add(new Piece(prefix + "ffn_up.weight", INNER, WIDTH));
      pieces.add(new Piece(prefix + "ffn_down.weight", WIDTH, INNER));
    }
    return pieces;
  }

  /** Writes the model to {@code file}. */
  public static Path write(Path file) throws IOException {
    return write(file, metadata(), null);
  }

  /** Its weights. */
  public static List<Weight> weights() {
    Random random = new Random(1);
    return pieces()
        .stream()
        .map(
            piece -> new Weight(piece.name(), piece.rows(), piece.columns(), values(piece, random)))
        .toList();
  }

  /** Writes the model with other metadata, and without one of its tensors if that has a name. */
  public static Path write(Path file, Map<String, Object> metadata, String missing)
      throws IOException {
    return writeWeights(file, metadata,
        weights().stream().filter(weight -> !weight.name().equals(missing)).toList());
  }

  /** Writes a model of other weights, in F32. */
  public static Path writeWeights(Path file, Map<String, Object> metadata, List<Weight> weights)
      throws IOException {
    return writeWeights(file, metadata, weights, weight -> GgmlType.F32);
  }

  /** Writes the model with matrices in blocks of five formats, which change from one to the next. */
  public static Path writeBlocks(Path file) throws IOException {
    List<GgmlType> formats =
        List.of(GgmlType.Q4_0, GgmlType.Q8_0, GgmlType.Q5_1, GgmlType.Q4_1, GgmlType.Q5_0);
    return writeWeights(file, metadata(), weights(),
        weight
        -> weight.rows() == 1
            ? GgmlType.F32
            : formats.get(Math.floorMod(weight.name().hashCode(), formats.size())));
  }

  /** Writes a model; blocks of quantised types have a weight's shape, but values of their own. */
  public static Path writeWeights(Path file, Map<String, Object> metadata, List<Weight> weights,
      Function<Weight, GgmlType> types) throws IOException {
    return writeWeights(file, metadata, weights, types, 32);
  }

  /** The same with an alignment, from 1 on, that the metadata has to name as well. */
  public static Path writeWeights(Path file, Map<String, Object> metadata, List<Weight> weights,
      Function<Weight, GgmlType> types, int alignment) throws IOException {
    GgufBuilder gguf = GgufBuilder.start(weights.size(), metadata.size());
    metadata.forEach(gguf::entry);
    List<byte[]> data = new ArrayList<>();
    long offset = 0;
    for (Weight weight : weights) {
      GgmlType type = types.apply(weight);
      gguf.tensor(weight.name(), type.id(), offset, weight.columns(), weight.rows());
      data.add(type.blocks() == null ? plain(weight, type) : blocks(weight, type));
      offset += (data.get(data.size() - 1).length + alignment - 1) / alignment * alignment;
    }
    for (byte[] bytes : data) {
      gguf.pad(alignment).raw(bytes);
    }
    return gguf.write(file);
  }

  private static byte[] plain(Weight weight, GgmlType type) {
    ByteBuffer bytes =
        ByteBuffer.allocate(weight.values().length * type.blockBytes())
            .order(ByteOrder.LITTLE_ENDIAN);
    for (float value : weight.values()) {
      switch (type) {
        case F32 -> bytes.putFloat(value);
        case F16 -> bytes.putShort(DType.floatToF16(value));
        case BF16 -> bytes.putShort(DType.floatToBf16(value));
        default -> throw new IllegalArgumentException(type + " has blocks");
      }
    }
    return bytes.array();
  }

  /** Random quants, with scales that keep them within some quarters. */
  private static byte[] blocks(Weight weight, GgmlType type) {
    int count = weight.values().length / type.blockElements();
    ByteBuffer bytes =
        ByteBuffer.allocate(count * type.blockBytes()).order(ByteOrder.LITTLE_ENDIAN);
    new Random(weight.name().hashCode()).nextBytes(bytes.array());
    for (int at = 0; at < bytes.limit(); at += type.blockBytes()) {
      switch (type) {
        case Q4_0, Q5_0 -> bytes.putShort(at, half(-6));
        case Q8_0 -> bytes.putShort(at, half(-9));
        case Q4_1, Q5_1 ->
          bytes.putShort(at, half(-6)).putShort(at + 2, (short) (half(-3) | 0x8000));
        case Q4_K, Q5_K -> bytes.putShort(at, half(-12)).putShort(at + 2, half(-9));
        case Q6_K -> bytes.putShort(at + 208, half(-14));
        default -> throw new IllegalArgumentException(type + " has no blocks");
      }
    }
    return bytes.array();
  }

  /** A power of two as F16. */
  private static short half(int exponent) {
    return (short) (exponent + 15 << 10);
  }

  private static float[] values(Piece piece, Random random) {
    return values(piece.rows(), piece.columns(), random);
  }

  public static float[] values(int rows, int columns, Random random) {
    float[] values = new float[rows * columns];
    boolean norm = rows == 1;
    for (int i = 0; i < values.length; i++) {
      double value = random.nextGaussian();
      values[i] = (float) (norm ? 1 + value / 10 : value / Math.sqrt(WIDTH));
    }
    return values;
  }
}
