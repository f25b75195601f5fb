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
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.examples.gguf.GgufFile;
import org.exeunt.examples.gguf.GgufTensor;
import org.exeunt.examples.io.ModelFormatException;

/**
 * The weights of a Llama-family decoder, dequantised when they are loaded.
 *
 * <p>Matrices are F32 or BF16, norms always F32. The query, key and value projections of a layer
 * form one matrix, so that one product computes all three. Immutable, and safe to share between
 * decoders; close it last.
 */
public final class LlamaWeights implements AutoCloseable {
  private static final String HEAD = "output.weight";

  private final Scope scope = Scope.open();
  private final LlamaConfig config;
  private final DType type;
  private final Tensor memory;
  private final Tensor embedding;
  private final List<Layer> layers;
  private final Tensor outputNorm;
  private final Tensor head;

  /**
   * One decoder layer.
   *
   * @param attentionNorm [D]
   * @param queryKeyValue [(H + 2 Hkv) dh, D]: all queries, then all keys, then all values
   * @param output [D, H dh]
   * @param feedForwardNorm [D]
   * @param gate [F, D]
   * @param up [F, D]
   * @param down [D, F]
   */
  public record Layer(Tensor attentionNorm, Tensor queryKeyValue, Tensor output,
      Tensor feedForwardNorm, Tensor gate, Tensor up, Tensor down) {
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
      weights = new LlamaWeights(config, type, shapes.ownHead());
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

  private LlamaWeights(LlamaConfig config, DType type, boolean ownHead) {
    this.config = config;
    this.type = type;
    try {
      WeightArena arena = new WeightArena(scope, arenaBytes(config, type, ownHead));
      layers = IntStream.range(0, config.layers()).mapToObj(l -> takeLayer(arena)).toList();
      memory = arena.memory();
      outputNorm = arena.take(DType.F32, config.width());
      embedding = arena.take(type, config.vocabulary(), config.width());
      head = ownHead ? arena.take(type, config.vocabulary(), config.width()) : embedding;
    } catch (RuntimeException | Error e) {
      scope.close();
      throw e;
    }
  }

  private static long arenaBytes(LlamaConfig c, DType type, boolean ownHead) {
    long norm = WeightArena.sizeOf(DType.F32, c.width());
    long square = WeightArena.sizeOf(type, c.width(), c.width());
    long attention = WeightArena.sizeOf(type, c.queryKeyValueWidth(), c.width()) + square;
    long feedForward = 3 * WeightArena.sizeOf(type, c.feedForward(), c.width());
    long table = WeightArena.sizeOf(type, c.vocabulary(), c.width());
    return c.layers() * (2 * norm + attention + feedForward) + norm + (ownHead ? 2 : 1) * table;
  }

  private Layer takeLayer(WeightArena arena) {
    int width = config.width();
    int inner = config.feedForward();
    return new Layer(arena.take(DType.F32, width),
        arena.take(type, config.queryKeyValueWidth(), width), arena.take(type, width, width),
        arena.take(DType.F32, width), arena.take(type, inner, width),
        arena.take(type, inner, width), arena.take(type, width, inner));
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
    read(file, "output_norm.weight", outputNorm.reshape(1, config.width()));
    read(file, "token_embd.weight", embedding);
    if (head != embedding) {
      read(file, HEAD, head);
    }
  }

  private void readLayer(GgufFile file, String prefix, Layer layer) throws IOException {
    Tensor projections = layer.queryKeyValue();
    int keys = config.width();
    int values = keys + config.kvWidth();
    read(file, prefix + "attn_norm.weight", layer.attentionNorm().reshape(1, config.width()));
    read(file, prefix + "attn_q.weight", projections.rows(0, keys));
    read(file, prefix + "attn_k.weight", projections.rows(keys, values));
    read(file, prefix + "attn_v.weight", projections.rows(values, projections.size(0)));
    read(file, prefix + "attn_output.weight", layer.output());
    read(file, prefix + "ffn_norm.weight", layer.feedForwardNorm().reshape(1, config.width()));
    read(file, prefix + "ffn_gate.weight", layer.gate());
    read(file, prefix + "ffn_up.weight", layer.up());
    read(file, prefix + "ffn_down.weight", layer.down());
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

    void check() throws ModelFormatException {
      tensor("token_embd.weight", config.vocabulary(), config.width());
      tensor("output_norm.weight", 1, config.width());
      if (ownHead()) {
        tensor(HEAD, config.vocabulary(), config.width());
      }
      for (int l = 0; l < config.layers(); l++) {
        checkLayer("blk." + l + ".");
      }
      for (String name : file.tensors().keySet()) {
        if (!known.contains(name)) { // a bias, say
          throw new ModelFormatException(file.path(),
              "has a tensor '" + name + "', which this "
                  + "decoder does not know; without it all that it computed would be wrong.");
        }
      }
    }

    private void checkLayer(String prefix) throws ModelFormatException {
      int width = config.width();
      tensor(prefix + "attn_norm.weight", 1, width);
      tensor(prefix + "attn_q.weight", width, width);
      tensor(prefix + "attn_k.weight", config.kvWidth(), width);
      tensor(prefix + "attn_v.weight", config.kvWidth(), width);
      tensor(prefix + "attn_output.weight", width, width);
      tensor(prefix + "ffn_norm.weight", 1, width);
      tensor(prefix + "ffn_gate.weight", config.feedForward(), width);
      tensor(prefix + "ffn_up.weight", config.feedForward(), width);
      tensor(prefix + "ffn_down.weight", width, config.feedForward());
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
