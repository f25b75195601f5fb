// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.FloatBuffer;
import java.nio.ShortBuffer;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.examples.gguf.GgufFile;
import org.exeunt.examples.gguf.GgufTensor;
import org.exeunt.examples.io.ModelFormatException;

/**
 * The weights of a decoder, dequantised when they are loaded.
 *
 * <p>Matrices are F32 or BF16, norms always F32. The query, key and value projections of a layer
 * form one matrix, so that one product computes all three. Immutable, and safe to share between
 * decoders; close it last.
 */
public final class LlamaWeights implements AutoCloseable {
  private static final String HEAD = "output.weight";
  private static final String ROPE_FACTORS = "rope_freqs.weight";
  private static final List<String> PROJECTIONS = List.of("attn_q", "attn_k", "attn_v");

  private final Scope scope = Scope.open();
  private final LlamaConfig config;
  private final DType type;
  private final Tensor memory;
  private final Tensor embedding;
  private final List<Layer> layers;
  private final Tensor outputNorm;
  private final Tensor head;
  private final Tensor ropeFactors;

  /**
   * One decoder layer; what a model has not is null.
   *
   * @param attentionNorm [D]
   * @param queryKeyValue [(H + 2 Hkv) dh, D]: all queries, then all keys, then all values
   * @param bias [(H + 2 Hkv) dh], of the three
   * @param queryNorm [dh]
   * @param keyNorm [dh]
   * @param output [D, H dh]
   * @param attentionBranchNorm [D], of what attention adds
   * @param feedForwardNorm [D]
   * @param gate [F, D]
   * @param up [F, D]
   * @param down [D, F]
   * @param feedForwardBranchNorm [D], of what the feed-forward block adds
   */
  public record Layer(Tensor attentionNorm, Tensor queryKeyValue, Tensor bias, Tensor queryNorm,
      Tensor keyNorm, Tensor output, Tensor attentionBranchNorm, Tensor feedForwardNorm,
      Tensor gate, Tensor up, Tensor down, Tensor feedForwardBranchNorm) {
    /** Bytes of the matrices that attention reads. */
    long attentionBytes() {
      return queryKeyValue.byteSize() + output.byteSize();
    }

    /** Bytes of the matrices of the feed-forward block. */
    long feedForwardBytes() {
      return gate.byteSize() + up.byteSize() + down.byteSize();
    }
  }

  /**
   * Loads all weights of {@code file}.
   *
   * @param type what the matrices become, {@code F32} or {@code BF16}
   * @throws ModelFormatException if the file is no model this decoder can run
   * @throws IOException if it cannot be read, or there is no memory for it
   */
  public static LlamaWeights load(GgufFile file, DType type) throws IOException {
    LlamaConfig config = LlamaConfig.of(file);
    Shapes shapes = new Shapes(file, config, new HashSet<>());
    shapes.check();
    LlamaWeights weights;
    try {
      weights = new LlamaWeights(shapes, type);
    } catch (OutOfMemoryError e) {
      throw new IOException(file.path() + ": there is no memory for its " + shapes.parameters()
              + " weights as " + type + ".",
          e);
    }
    try {
      weights.read(file);
      return weights;
    } catch (IOException | RuntimeException | Error e) {
      weights.close();
      throw e;
    }
  }

  private LlamaWeights(Shapes shapes, DType type) {
    config = shapes.config();
    this.type = type;
    try {
      WeightArena arena = new WeightArena(scope, arenaBytes(shapes));
      layers = IntStream.range(0, config.layers()).mapToObj(l -> takeLayer(arena, shapes)).toList();
      memory = arena.memory();
      outputNorm = arena.take(DType.F32, config.width());
      embedding = arena.take(type, config.vocabulary(), config.width());
      head = shapes.ownHead() ? arena.take(type, config.vocabulary(), config.width()) : embedding;
      ropeFactors = shapes.ropeFactors()
          ? scope.allocate(Device.CPU, DType.F32, config.headWidth() / 2)
          : null;
    } catch (RuntimeException | Error e) {
      scope.close();
      throw e;
    }
  }

  private long arenaBytes(Shapes shapes) {
    LlamaConfig c = config;
    long norm = WeightArena.sizeOf(DType.F32, c.width());
    long norms =
        c.isGemma() ? 4 * norm + 2 * WeightArena.sizeOf(DType.F32, c.headWidth()) : 2 * norm;
    long bias = shapes.biased() ? WeightArena.sizeOf(DType.F32, c.queryKeyValueWidth()) : 0;
    long attention = WeightArena.sizeOf(type, c.queryKeyValueWidth(), c.width())
        + WeightArena.sizeOf(type, c.width(), c.queryWidth());
    long feedForward = 3 * WeightArena.sizeOf(type, c.feedForward(), c.width());
    long table = WeightArena.sizeOf(type, c.vocabulary(), c.width());
    return c.layers() * (norms + bias + attention + feedForward) + norm
        + (shapes.ownHead() ? 2 : 1) * table;
  }

  private Layer takeLayer(WeightArena arena, Shapes shapes) {
    int width = config.width();
    int inner = config.feedForward();
    boolean gemma = config.isGemma();
    return new Layer(arena.take(DType.F32, width),
        arena.take(type, config.queryKeyValueWidth(), width),
        shapes.biased() ? arena.take(DType.F32, config.queryKeyValueWidth()) : null,
        gemma ? arena.take(DType.F32, config.headWidth()) : null,
        gemma ? arena.take(DType.F32, config.headWidth()) : null,
        arena.take(type, width, config.queryWidth()), gemma ? arena.take(DType.F32, width) : null,
        arena.take(DType.F32, width), arena.take(type, inner, width),
        arena.take(type, inner, width), arena.take(type, width, inner),
        gemma ? arena.take(DType.F32, width) : null);
  }

  private void read(GgufFile file) throws IOException {
    try {
      IntStream.range(0, config.layers()).parallel().forEach(l -> {
        try {
          readLayer(file, "blk." + l + ".", layers.get(l));
        } catch (IOException e) {
          throw new UncheckedIOException(e);
        }
      });
    } catch (UncheckedIOException e) {
      throw e.getCause();
    }
    readVector(file, "output_norm.weight", outputNorm);
    read(file, "token_embd.weight", embedding);
    if (head != embedding) {
      read(file, HEAD, head);
    }
    if (ropeFactors != null) {
      readVector(file, ROPE_FACTORS, ropeFactors);
      for (float factor : ropeFactors.toFloatArray()) {
        if (!(factor > 0 && factor < Float.POSITIVE_INFINITY)) {
          throw new ModelFormatException(file.path(),
              "tensor '" + ROPE_FACTORS + "' has a factor " + factor
                  + ", not a finite number above 0.");
        }
      }
    }
  }

  private void readLayer(GgufFile file, String prefix, Layer layer) throws IOException {
    int[] ends = {0, config.queryWidth(), config.queryWidth() + config.kvWidth(),
        config.queryKeyValueWidth()};
    for (int i = 0; i < PROJECTIONS.size(); i++) {
      String name = prefix + PROJECTIONS.get(i);
      read(file, name + ".weight", layer.queryKeyValue().rows(ends[i], ends[i + 1]));
      if (layer.bias() != null) {
        Tensor bias = layer.bias().slice(0, ends[i], ends[i + 1]);
        if (file.tensors().containsKey(name + ".bias")) {
          readVector(file, name + ".bias", bias);
        } else {
          bias.copyFrom(new float[ends[i + 1] - ends[i]]);
        }
      }
    }
    readVector(file, prefix + "attn_norm.weight", layer.attentionNorm());
    read(file, prefix + "attn_output.weight", layer.output());
    readVector(file, prefix + "ffn_norm.weight", layer.feedForwardNorm());
    read(file, prefix + "ffn_gate.weight", layer.gate());
    read(file, prefix + "ffn_up.weight", layer.up());
    read(file, prefix + "ffn_down.weight", layer.down());
    if (config.isGemma()) {
      readVector(file, prefix + "attn_q_norm.weight", layer.queryNorm());
      readVector(file, prefix + "attn_k_norm.weight", layer.keyNorm());
      readVector(file, prefix + "post_attention_norm.weight", layer.attentionBranchNorm());
      readVector(file, prefix + "post_ffw_norm.weight", layer.feedForwardBranchNorm());
    }
  }

  private static void readVector(GgufFile file, String name, Tensor into) throws IOException {
    read(file, name, into.reshape(1, into.size(0)));
  }

  private static void read(GgufFile file, String name, Tensor into) throws IOException {
    GgufTensor tensor = file.tensor(name, into.size(0), into.size(1));
    if (into.dtype() == DType.F32) {
      FloatBuffer floats = into.floatBuffer();
      file.readRows(tensor, (i, row) -> floats.put(row));
    } else {
      ShortBuffer bits = into.shortBuffer();
      short[] rounded = new short[(int) into.size(1)];
      file.readRows(tensor, (i, row) -> {
        for (int j = 0; j < row.length; j++) {
          rounded[j] = DType.floatToBf16(row[j]);
        }
        bits.put(rounded);
      });
    }
  }

  public LlamaConfig config() {
    return config;
  }

  /** What the matrices are stored as. */
  public DType type() {
    return type;
  }

  /** The layers, bottom first. */
  public List<Layer> layers() {
    return layers;
  }

  /** The token embedding, [V,D]. */
  public Tensor embedding() {
    return embedding;
  }

  /** The weight of the RMSNorm before the language-model head, [D]. */
  public Tensor outputNorm() {
    return outputNorm;
  }

  /** The language-model head, [V,D]; the embedding itself where the file brings no other. */
  public Tensor head() {
    return head;
  }

  /** What the rotary frequencies are divided by, one by one, [dh/2]; null if by nothing. */
  public Tensor ropeFactors() {
    return ropeFactors;
  }

  /** All weights as one piece of memory, in the order of use. */
  public Tensor memory() {
    return memory;
  }

  /** Bytes of all matrices that one token at full depth reads, head included. */
  public long bytesPerToken() {
    return layers.stream().mapToLong(l -> l.attentionBytes() + l.feedForwardBytes()).sum()
        + head.byteSize();
  }

  @Override
  public void close() {
    scope.close();
  }

  /** Looks for every tensor, and for others, before memory is taken for any of them. */
  private record Shapes(GgufFile file, LlamaConfig config, Set<String> known) {
    boolean ownHead() {
      return file.tensors().containsKey(HEAD);
    }

    boolean ropeFactors() {
      return !config.isGemma() && file.tensors().containsKey(ROPE_FACTORS);
    }

    /** Whether any layer adds to its queries, keys or values. */
    boolean biased() {
      return !config.isGemma()
          && file.tensors().keySet().stream().anyMatch(n -> n.matches(".*attn_[qkv]\\.bias"));
    }

    void check() throws ModelFormatException {
      tensor("token_embd.weight", config.vocabulary(), config.width());
      tensor("output_norm.weight", 1, config.width());
      if (ownHead()) {
        tensor(HEAD, config.vocabulary(), config.width());
      }
      if (ropeFactors()) {
        tensor(ROPE_FACTORS, 1, config.headWidth() / 2);
      }
      for (int l = 0; l < config.layers(); l++) {
        checkLayer("blk." + l + ".");
      }
      for (String name : file.tensors().keySet()) {
        if (!known.contains(name)) { // an expert, say
          throw new ModelFormatException(file.path(),
              "has a tensor '" + name + "', which this "
                  + "decoder does not know; without it all that it computed would be wrong.");
        }
      }
    }

    private void checkLayer(String prefix) throws ModelFormatException {
      int width = config.width();
      for (String name : PROJECTIONS) {
        int rows = name.equals("attn_q") ? config.queryWidth() : config.kvWidth();
        tensor(prefix + name + ".weight", rows, width);
        if (biased() && file.tensors().containsKey(prefix + name + ".bias")) {
          tensor(prefix + name + ".bias", 1, rows);
        }
      }
      tensor(prefix + "attn_norm.weight", 1, width);
      tensor(prefix + "attn_output.weight", width, config.queryWidth());
      tensor(prefix + "ffn_norm.weight", 1, width);
      tensor(prefix + "ffn_gate.weight", config.feedForward(), width);
      tensor(prefix + "ffn_up.weight", config.feedForward(), width);
      tensor(prefix + "ffn_down.weight", width, config.feedForward());
      if (config.isGemma()) {
        tensor(prefix + "attn_q_norm.weight", 1, config.headWidth());
        tensor(prefix + "attn_k_norm.weight", 1, config.headWidth());
        tensor(prefix + "post_attention_norm.weight", 1, width);
        tensor(prefix + "post_ffw_norm.weight", 1, width);
      }
    }

    /** Java's buffers, through which the weights are written, end at 2 GiB. */
    private void tensor(String name, int rows, int columns) throws ModelFormatException {
      known.add(name);
      file.tensor(name, rows, columns);
      long bytes = (long) rows * columns * Float.BYTES;
      if (bytes > Integer.MAX_VALUE) {
        throw new ModelFormatException(file.path(),
            "tensor '" + name + "' takes " + bytes + " bytes as f32, above the " + Integer.MAX_VALUE
                + " of this engine.");
      }
    }

    long parameters() {
      return file.tensors().values().stream().mapToLong(t -> t.rows() * t.columns()).sum();
    }
  }
}
