// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.exeunt.BlockFormat;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Ffn;
import org.exeunt.InputRounding;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.ModelChangedException;
import org.exeunt.engine.model.io.ModelFormatException;

/**
 * The weights of a decoder: as the file has them, in place, or converted when they are loaded.
 *
 * <p>Norms and biases are F32. Immutable, and safe to share between decoders; close it last. What is
 * in place changes with the file: decoders ask {@link #checkUnchanged} after each step.
 */
public final class LlamaWeights implements AutoCloseable {
  private static final String HEAD = "output.weight";
  private static final String EMBEDDING = "token_embd.weight";
  private static final String ROPE_FACTORS = "rope_freqs.weight";
  private static final List<String> PROJECTIONS = List.of("attn_q", "attn_k", "attn_v");
  private static final List<String> FEED_FORWARD = List.of("ffn_gate", "ffn_up", "ffn_down");

  private final Scope scope = Scope.open();
  private final LlamaConfig config;
  private final DType type;
  private final Parts parts;
  private final Tensor memory;
  private final GgufFile source; // null: nothing is in place any more
  private final PackedRows packed; // null: nothing is packed

  /**
   * One decoder layer; what a model has not is null.
   *
   * @param attentionNorm [D]
   * @param query [H dh, D]
   * @param key [Hkv dh, D]
   * @param value [Hkv dh, D]
   * @param bias [(H + 2 Hkv) dh], of queries, then keys, then values
   * @param queryNorm [dh]
   * @param keyNorm [dh]
   * @param output [D, H dh]
   * @param attentionBranchNorm [D], of what attention adds
   * @param feedForwardNorm [D]
   * @param gate [F, D]
   * @param up [F, D], in blocks or of a type as gate
   * @param down [D, F], as well
   * @param feedForwardBranchNorm [D], of what the feed-forward block adds
   */
  public record Layer(Tensor attentionNorm, Weight query, Weight key, Weight value, Tensor bias,
      Tensor queryNorm, Tensor keyNorm, Weight output, Tensor attentionBranchNorm,
      Tensor feedForwardNorm, Weight gate, Weight up, Weight down, Tensor feedForwardBranchNorm) {
    /** Bytes of the matrices that attention reads. */
    public long attentionBytes() {
      return query.bytes() + keyValueBytes() + output.bytes();
    }

    /** Bytes of the matrices that keys and values are made with. */
    public long keyValueBytes() {
      return key.bytes() + value.bytes();
    }

    /** Bytes of the matrices of the feed-forward block. */
    public long feedForwardBytes() {
      return gate.bytes() + up.bytes() + down.bytes();
    }

    /** The same matrices, with inputs rounded so to meet those that have blocks. */
    public Layer meeting(InputRounding inputs) {
      return new Layer(attentionNorm, query.meeting(inputs), key.meeting(inputs),
          value.meeting(inputs), bias, queryNorm, keyNorm, output.meeting(inputs),
          attentionBranchNorm, feedForwardNorm, gate.meeting(inputs), up.meeting(inputs),
          down.meeting(inputs), feedForwardBranchNorm);
    }

    /** All that rows are multiplied with. */
    public List<Weight> matrices() {
      return List.of(query, key, value, output, gate, up, down);
    }

    private Layer copied(WeightCopies copies) {
      List<Weight> projections = copies.together(query, key, value);
      return new Layer(copies.of(attentionNorm), projections.get(0), projections.get(1),
          projections.get(2), copies.of(bias), copies.of(queryNorm), copies.of(keyNorm),
          copies.of(output), copies.of(attentionBranchNorm), copies.of(feedForwardNorm),
          copies.of(gate), copies.of(up), copies.of(down), copies.of(feedForwardBranchNorm));
    }

    /** The feed-forward block, without its norm. */
    public Ffn.Builder feedForward(LlamaConfig.Architecture architecture) {
      return Ffn.builder()
          .gate(gate.tensor(), null)
          .up(up.tensor(), null)
          .down(down.tensor(), null)
          .weightBlocks(gate.blocks(), up.blocks(), down.blocks())
          .inputRounding(up.inputs())
          .activation(architecture.activation());
    }
  }

  private record Parts(
      List<Layer> layers, Tensor outputNorm, Weight embedding, Weight head, Tensor ropeFactors) {}

  /** As {@link #load(GgufFile, DType, Path, PrintStream)}, in place, without a word. */
  public static LlamaWeights load(GgufFile file, DType type) throws IOException {
    return load(file, type, null, null);
  }

  /**
   * Loads all weights of {@code file}.
   *
   * @param type what the matrices become, {@code F32} or {@code BF16}; null: they stay as they are,
   *     in place, but for what no op takes (elements at odd addresses; feed-forward blocks that mix
   *     blocks and elements), which becomes F32
   * @param kept where packed rows are kept, which take the place of the layers' matrices where they
   *     are faster and {@code type} is null; null: nothing is packed
   * @param log where to say how far it is if that takes long; null: nowhere
   * @throws ModelFormatException if the file is no model this decoder can run
   * @throws IOException if it cannot be read, or there is no memory for it
   * @throws ModelChangedException if it changes meanwhile
   */
  public static LlamaWeights load(GgufFile file, DType type, Path kept, PrintStream log)
      throws IOException {
    Shapes shapes = Shapes.of(file);
    shapes.check();
    PackedRows packed =
        kept == null || type != null ? null : PackedRows.of(file, shapes.matrices(), kept, log);
    WeightArena counted = WeightArena.counting();
    parts(shapes, new WeightReader(file, type, packed, counted));
    LlamaWeights weights;
    try {
      weights = new LlamaWeights(shapes, type, packed, counted, log);
    } catch (OutOfMemoryError e) {
      throw new IOException(file.path() + ": there is no memory for its " + shapes.parameters()
              + " weights" + (type == null ? "." : " as " + type + "."),
          e);
    }
    return weights;
  }

  private LlamaWeights(Shapes shapes, DType type, PackedRows packed, WeightArena counted,
      PrintStream log) throws IOException {
    config = shapes.config();
    this.type = type;
    this.packed = packed;
    try {
      WeightArena arena = WeightArena.like(scope, counted);
      GgufFile file = shapes.file();
      WeightReader reader = new WeightReader(file, type, packed, arena);
      parts = parts(shapes, reader);
      reader.convert(log);
      memory = type == null ? file.mapAround(file.tensors().get(EMBEDDING)) : arena.memory();
      checkFactors(file);
      file.requireUnchanged();
      source = type == null ? file : null;
    } catch (IOException | RuntimeException | Error e) {
      scope.close();
      throw e;
    }
  }

  private LlamaWeights(LlamaWeights host, Device device) {
    config = host.config;
    type = host.type;
    memory = null;
    source = null;
    packed = null;
    try {
      WeightCopies copies = new WeightCopies(scope, device);
      List<Layer> layers = new ArrayList<>();
      for (Layer layer : host.parts.layers) {
        layers.add(layer.copied(copies));
      }
      Weight embedding = copies.of(host.parts.embedding);
      Weight head =
          host.parts.head == host.parts.embedding ? embedding : copies.of(host.parts.head);
      parts = new Parts(layers, copies.of(host.parts.outputNorm), embedding, head,
          copies.of(host.parts.ropeFactors));
      Stream.DEFAULT.synchronize();
      host.requireUnchanged();
    } catch (RuntimeException | Error e) {
      scope.close();
      throw e;
    }
  }

  /** Matrices of random numbers, in a model's sizes: it says nothing, but takes as long. */
  private LlamaWeights(LlamaConfig config, boolean ownHead, RandomMatrices counted) {
    this.config = config;
    type = counted.type();
    source = null;
    packed = null;
    try {
      RandomMatrices matrices = counted.allocated(scope);
      parts = parts(config, ownHead, matrices);
      memory = matrices.memory();
    } catch (RuntimeException | Error e) {
      scope.close();
      throw e;
    }
  }

  /**
   * Random weights in a model's sizes, to time what has no use for knowledge.
   *
   * @param blocks of all matrices; null: they are BF16
   * @param ownHead whether the head is not the embedding itself
   */
  public static LlamaWeights random(LlamaConfig config, BlockFormat blocks, boolean ownHead) {
    RandomMatrices counted = new RandomMatrices(WeightArena.counting(), blocks);
    parts(config, ownHead, counted);
    return new LlamaWeights(config, ownHead, counted);
  }

  private static Parts parts(LlamaConfig config, boolean ownHead, RandomMatrices matrices) {
    int width = config.width();
    int inner = config.feedForward();
    List<Layer> layers = new ArrayList<>();
    for (int l = 0; l < config.layers(); l++) {
      Tensor attentionNorm = matrices.ones(width);
      Weight projections = matrices.matrix(config.queryKeyValueWidth(), width);
      int keys = config.queryWidth() + config.kvWidth();
      layers.add(new Layer(attentionNorm, projections.rows(0, config.queryWidth()),
          projections.rows(config.queryWidth(), keys),
          projections.rows(keys, config.queryKeyValueWidth()), null, null, null,
          matrices.matrix(width, config.queryWidth()), null, matrices.ones(width),
          matrices.matrix(inner, width), matrices.matrix(inner, width),
          matrices.matrix(width, inner), null));
    }
    Weight embedding = matrices.matrix(config.vocabulary(), width);
    Weight head = ownHead ? matrices.matrix(config.vocabulary(), width) : embedding;
    return new Parts(layers, matrices.ones(width), embedding, head, null);
  }

  /** A copy of them in the memory of a device, to be closed as well. */
  public LlamaWeights on(Device device) {
    return new LlamaWeights(this, device);
  }

  /** All tensors, in the order of use. */
  private static Parts parts(Shapes shapes, WeightReader reader) throws IOException {
    LlamaConfig config = shapes.config();
    List<Layer> layers = new ArrayList<>();
    for (int l = 0; l < config.layers(); l++) {
      layers.add(layer(shapes, reader, "blk." + l + "."));
    }
    Tensor outputNorm = reader.vector("output_norm.weight", config.width());
    Weight embedding = reader.matrix(EMBEDDING, config.vocabulary(), config.width());
    Weight head =
        shapes.ownHead() ? reader.matrix(HEAD, config.vocabulary(), config.width()) : embedding;
    Tensor factors =
        shapes.ropeFactors() ? reader.vector(ROPE_FACTORS, config.headWidth() / 2) : null;
    return new Parts(layers, outputNorm, embedding, head, factors);
  }

  private static Layer layer(Shapes shapes, WeightReader reader, String prefix) throws IOException {
    LlamaConfig config = shapes.config();
    int width = config.width();
    int inner = config.feedForward();
    int[] heads = {config.queryWidth(), config.kvWidth(), config.kvWidth()};
    boolean gemma = config.isGemma();
    Tensor attentionNorm = reader.vector(prefix + "attn_norm.weight", width);
    List<Weight> projections = reader.stacked(names(prefix, PROJECTIONS, ".weight"), width, heads);
    Tensor bias =
        shapes.biased() ? reader.strung(names(prefix, PROJECTIONS, ".bias"), heads) : null;
    Tensor queryNorm =
        gemma ? reader.vector(prefix + "attn_q_norm.weight", config.headWidth()) : null;
    Tensor keyNorm =
        gemma ? reader.vector(prefix + "attn_k_norm.weight", config.headWidth()) : null;
    Weight output = reader.matrix(prefix + "attn_output.weight", width, config.queryWidth());
    Tensor attentionBranchNorm =
        gemma ? reader.vector(prefix + "post_attention_norm.weight", width) : null;
    Tensor feedForwardNorm = reader.vector(prefix + "ffn_norm.weight", width);
    List<String> names = names(prefix, FEED_FORWARD, ".weight");
    List<Weight> block =
        reader.alike(names, new int[] {inner, inner, width}, new int[] {width, width, inner});
    Tensor feedForwardBranchNorm =
        gemma ? reader.vector(prefix + "post_ffw_norm.weight", width) : null;
    return new Layer(attentionNorm, projections.get(0), projections.get(1), projections.get(2),
        bias, queryNorm, keyNorm, output, attentionBranchNorm, feedForwardNorm, block.get(0),
        block.get(1), block.get(2), feedForwardBranchNorm);
  }

  private static List<String> names(String prefix, List<String> middle, String suffix) {
    List<String> names = new ArrayList<>();
    for (String name : middle) {
      names.add(prefix + name + suffix);
    }
    return names;
  }

  private void checkFactors(GgufFile file) throws ModelFormatException {
    if (parts.ropeFactors == null) {
      return;
    }
    for (float factor : parts.ropeFactors.toFloatArray()) {
      if (!(factor > 0 && factor < Float.POSITIVE_INFINITY)) {
        throw new ModelFormatException(file.path(),
            "tensor '" + ROPE_FACTORS + "' has a factor " + factor
                + ", not a finite number above 0.");
      }
    }
  }

  public LlamaConfig config() {
    return config;
  }

  /**
   * What keys and values are stored as beside these weights. F16 would double the error of logits
   * that quantised weights leave.
   */
  public DType cacheType() {
    return type == null ? DType.F32 : type;
  }

  /** Where they lie. */
  public Device device() {
    return parts.outputNorm.device();
  }

  /** Whether any matrix of a layer has blocks. */
  public boolean isQuantised() {
    return parts.layers.stream()
        .flatMap(layer -> layer.matrices().stream())
        .anyMatch(matrix -> matrix.blocks() != null);
  }

  /** The layers, bottom first. */
  public List<Layer> layers() {
    return parts.layers;
  }

  /** The token embedding, [V,D]. */
  public Weight embedding() {
    return parts.embedding;
  }

  /** The weight of the RMSNorm before the language-model head, [D]. */
  public Tensor outputNorm() {
    return parts.outputNorm;
  }

  /** The language-model head, [V,D]; the embedding itself where the file brings no other. */
  public Weight head() {
    return parts.head;
  }

  /** What the rotary frequencies are divided by, one by one, [dh/2]; null if by nothing. */
  public Tensor ropeFactors() {
    return parts.ropeFactors;
  }

  /**
   * All weights as one piece of memory, in the order of use or of the file; what a mapping cannot
   * hold beside the embedding is missing. Null of a copy.
   */
  public Tensor memory() {
    return memory;
  }

  /**
   * Looks whether the file has changed of which some are in place; else there is nothing to look at.
   *
   * @throws ModelChangedException if it has
   */
  public void requireUnchanged() {
    if (source != null) {
      source.requireUnchanged();
    }
    if (packed != null) {
      packed.requireUnchanged();
    }
  }

  /** The same for each step: it sees at once that the file was cut, and soon that it was written. */
  public void checkUnchanged() {
    if (source != null) {
      source.checkUnchanged();
    }
    if (packed != null) {
      packed.checkUnchanged();
    }
  }

  /** Bytes of all matrices that one token at full depth reads, head included. */
  public long bytesPerToken() {
    return parts.layers.stream()
               .mapToLong(layer -> layer.attentionBytes() + layer.feedForwardBytes())
               .sum()
        + parts.head.bytes();
  }

  /**
   * Has the system map what each token reads, so that the first one need not wait for it.
   *
   * @param head whether the head is read; otherwise a few rows of it are
   */
  public void touch(boolean head) {
    for (Layer layer : parts.layers) {
      layer.matrices().forEach(Weight::touch);
    }
    if (head) {
      parts.head.touch();
    }
  }

  @Override
  public void close() {
    scope.close();
  }

  /**
   * Looks for every tensor, and for others, before memory is taken for any of them.
   *
   * @param biased whether any layer adds to its queries, keys or values
   */
  private record Shapes(GgufFile file, LlamaConfig config, boolean biased, Set<String> known) {
    static Shapes of(GgufFile file) throws IOException {
      LlamaConfig config = LlamaConfig.of(file);
      boolean biased = false;
      for (String name : file.tensors().keySet()) {
        for (String projection : PROJECTIONS) {
          biased |= !config.isGemma() && name.endsWith(projection + ".bias");
        }
      }
      return new Shapes(file, config, biased, new HashSet<>());
    }

    boolean ownHead() {
      return file.tensors().containsKey(HEAD);
    }

    boolean ropeFactors() {
      return !config.isGemma() && file.tensors().containsKey(ROPE_FACTORS);
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

    private void tensor(String name, int rows, int columns) throws ModelFormatException {
      known.add(name);
      file.tensor(name, rows, columns);
    }

    /** The layers' matrices, in the order of use. */
    List<String> matrices() {
      List<String> all = new ArrayList<>();
      for (int l = 0; l < config.layers(); l++) {
        String prefix = "blk." + l + ".";
        all.addAll(names(prefix, PROJECTIONS, ".weight"));
        all.add(prefix + "attn_output.weight");
        all.addAll(names(prefix, FEED_FORWARD, ".weight"));
      }
      return all;
    }

    long parameters() {
      return file.tensors().values().stream().mapToLong(t -> t.rows() * t.columns()).sum();
    }
  }
}
