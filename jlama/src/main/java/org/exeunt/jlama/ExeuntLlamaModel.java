// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.github.tjake.jlama.math.ActivationFunction;
import com.github.tjake.jlama.model.TransformerBlock;
import com.github.tjake.jlama.model.functions.SampleOutput;
import com.github.tjake.jlama.model.llama.LlamaConfig;
import com.github.tjake.jlama.model.llama.LlamaModel;
import com.github.tjake.jlama.model.llama.LlamaTokenizer;
import com.github.tjake.jlama.safetensors.Config;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.safetensors.SafeTensorSupport;
import com.github.tjake.jlama.safetensors.WeightLoader;
import com.github.tjake.jlama.safetensors.tokenizer.Tokenizer;
import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.GrowingCache;
import com.github.tjake.jlama.tensor.KvBufferCache;
import com.github.tjake.jlama.util.JsonSupport;
import com.github.tjake.jlama.util.PhysicalCoreExecutor;
import java.io.File;
import java.io.IOException;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import org.exeunt.ExitHead;
import org.exeunt.Scope;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Jlama's Llama on exeunt's ops: its files, tokenizer, sessions, {@code generate} and whatever
 * calls these stay Jlama's; layers, keys and values, and the choice of the most probable token are
 * exeunt's, on Jlama's memory in place (4-bit weights: {@link Q4Weights}). Tokens may leave before
 * the last layer ({@link Exit}).
 *
 * <p>A model that this class does not take (another working type than F32, shards, another
 * activation) runs as Jlama's own, which the log says.
 *
 * <p>Threads: as of Jlama's models, one call at a time; others wait. It may be closed while another
 * thread generates, whose next token is then an {@link IllegalStateException}; nothing of a
 * conversation is left in files.
 */
@SuppressWarnings("rawtypes")
public class ExeuntLlamaModel extends LlamaModel {
  private static final Logger LOG = LoggerFactory.getLogger(ExeuntLlamaModel.class);
  private static final int MOST_SESSIONS = 4;

  // The first three are set while Jlama's constructor runs, hence without initial values.
  private List<Layer> layers; // null: Jlama's own are used
  private Scope scope;
  private Tensor ropeTable;
  private final Exit exit;
  private final Map<GrowingCache.Buffer, Session> sessions =
      new LinkedHashMap<>(MOST_SESSIONS, 0.75f, true);
  private final Tensor headState;
  private final Statistics statistics;
  private final ExitHead head;
  private final Pace pace;
  private File ownFolder; // null: the caller has named one, or none
  private AbstractTensor left; // the state with which the newest token left early
  private long tokens;
  private long layersRun;

  /**
   * As Jlama's constructor.
   *
   * @param config sizes
   * @param weights of the whole model
   * @param tokenizer for texts
   * @param workingType of activations, keys and values: F32
   * @param workingQuantisation what Jlama rounds activations to; exeunt does not
   * @param quantisation what the weights become when they are loaded; empty: what they are
   * @param exit when a token leaves early; null: never
   */
  public ExeuntLlamaModel(Config config, WeightLoader weights, Tokenizer tokenizer,
      DType workingType, DType workingQuantisation, Optional<DType> quantisation, Exit exit) {
    super(config, weights, tokenizer, workingType, workingQuantisation, quantisation);
    this.exit = exit;
    if (layers == null) {
      headState = null;
      statistics = null;
      head = null;
      pace = null;
      return;
    }
    pace = Threads.pace();
    boolean done = false;
    try {
      headState = scope.allocate(org.exeunt.Device.CPU, org.exeunt.DType.F32, 1, c.embeddingLength);
      statistics =
          Statistics.allocate(scope, org.exeunt.Device.CPU, 1, Statistic.ARGMAX, Statistic.P1);
      Weight vocabulary = Weight.of("the head", sampleOutput.getOutputLogitsWeights());
      head =
          ExitHead.builder()
              .hidden(headState)
              .rmsNorm(Weight.vector(scope, weights.load("model.norm.weight")), c.layerNormEps)
              .weight(vocabulary.tensor())
              .weightBlocks(vocabulary.blocks())
              .out(statistics)
              .build(scope);
      done = true;
    } finally {
      if (!done) {
        scope.close();
      }
    }
  }

  /**
   * Loads a model as Jlama's {@code ModelSupport.loadModel} does.
   *
   * @param folder with {@code config.json}, {@code tokenizer.json} and the weights
   * @param workingType of activations, keys and values: F32
   * @param quantisation what the weights become when they are loaded; empty: what they are
   * @param threads for Jlama and exeunt; empty: Jlama's default
   * @param exit when a token leaves early; null: never
   * @return the model, to be closed
   * @throws IOException if a file cannot be read
   * @throws UnsupportedOperationException if this Jlama is not one that the class was made for
   */
  public static ExeuntLlamaModel load(File folder, DType workingType, Optional<DType> quantisation,
      Optional<Integer> threads, Exit exit) throws IOException {
    File file = new File(folder, "config.json");
    if (SafeTensorSupport.detectModel(file)
        != com.github.tjake.jlama.model.ModelSupport.ModelType.LLAMA) {
      throw new IllegalArgumentException(file + " describes a model of type "
          + SafeTensorSupport.detectModel(file) + ", expected LLAMA");
    }
    threads.ifPresent(PhysicalCoreExecutor::overrideThreadCount);
    LlamaConfig config = JsonSupport.om.readValue(file, LlamaConfig.class);
    config.setWorkingDirectory(null); // a folder of its own, below the temporary one
    try {
      ExeuntLlamaModel model = new ExeuntLlamaModel(config, SafeTensorSupport.loadWeights(folder),
          new LlamaTokenizer(folder.toPath()), workingType, workingType, quantisation, exit);
      model.ownFolder = config.workingDirectory().orElse(null);
      return model;
    } catch (IncompatibleClassChangeError e) {
      throw new UnsupportedOperationException(JlamaVersion.another(e), e);
    }
  }

  /**
   * Whether exeunt runs the layers.
   *
   * @return false if this model is run by Jlama's own
   */
  public boolean onExeunt() {
    return layers != null;
  }

  /**
   * Tokens of answers that were computed so far.
   *
   * @return their number
   */
  public synchronized long tokens() {
    return tokens;
  }

  /**
   * Layers that they ran, all together.
   *
   * @return at most {@link #tokens} times the layers of the model
   */
  public synchronized long layersRun() {
    return layersRun;
  }

  /**
   * How probable the token was that was chosen last, without temperature.
   *
   * @return of softmax over the whole vocabulary
   * @throws IllegalStateException unless {@link #onExeunt}, and after the close
   */
  public synchronized float probability() {
    if (layers == null) {
      throw new IllegalStateException("the model runs as Jlama's own, which knows no probability");
    }
    requireOpen();
    return statistics.p1().floatBuffer().get(0);
  }

  @Override
  protected TransformerBlock[] loadTransformerBlockWeights() {
    try {
      refuseOthers();
    } catch (UnsupportedOperationException e) {
      return jlamas(e);
    }
    scope = Scope.open();
    try {
      DType type = modelQType.orElse(modelDType);
      Layer[] loaded = loadLayers(type);
      for (Layer layer : loaded) {
        layer.requireLike(loaded[0]);
      }
      ropeTable = ropeTable();
      kvBufferCache = new GrowingCache(this);
      layers = Arrays.asList(loaded);
      return new TransformerBlock[0];
    } catch (UnsupportedOperationException e) {
      scope.close();
      return jlamas(e);
    } catch (RuntimeException | Error e) {
      scope.close();
      throw e;
    }
  }

  /** The last thing that Jlama's constructor loads, after the layers. */
  @Override
  protected SampleOutput loadOutputWeights() {
    try {
      return super.loadOutputWeights();
    } catch (RuntimeException | Error e) {
      if (layers != null) {
        scope.close();
      }
      throw e;
    }
  }

  private TransformerBlock[] jlamas(UnsupportedOperationException reason) {
    LOG.warn("the model runs as Jlama's own: {}", reason.getMessage());
    return super.loadTransformerBlockWeights();
  }

  private Tensor ropeTable() {
    float[] turns = new float[c.contextLength * c.headSize];
    float[][] frequencies = c.ropeFreqs.orElseThrow();
    for (int i = 0; i < frequencies.length; i++) {
      turns[2 * i] = frequencies[i][0];
      turns[2 * i + 1] = frequencies[i][1];
    }
    return scope.copyOf(turns, c.contextLength, c.headSize / 2, 2);
  }

  /** What {@code generate} takes its sessions from. */
  KvBufferCache kv() {
    return kvBufferCache;
  }

  private void refuseOthers() {
    String reason = Products.reason();
    if (!reason.isEmpty()) {
      throw new UnsupportedOperationException(reason);
    }
    if (workingDType != DType.F32) {
      throw new UnsupportedOperationException(
          "the working type is " + workingDType + ", exeunt's layers keep F32");
    }
    if (c.dctx().numberOfLayers != c.numberOfLayers || c.dctx().hasModelShard()) {
      throw new UnsupportedOperationException("this is a shard of a model");
    }
    if (c.activationFunction != ActivationFunction.Type.SILU || c.ropeFreqs.isEmpty()) {
      throw new UnsupportedOperationException("the activation is " + c.activationFunction
          + (c.ropeFreqs.isEmpty() ? ", without rotary positions" : "")
          + ": exeunt's layers are a Llama's");
    }
    if (c.attnLogitSoftCapping != null || c.finalLogitSoftCapping != null
        || c.residualMultiplier != null || c.attentionMultiplier != null
        || c.embeddingMultiplier != null || c.logitMultiplier != null) {
      throw new UnsupportedOperationException(
          "it caps or scales scores, states or logits: exeunt's layers are a Llama's");
    }
  }

  /** Loads all layers. When it throws, no thread still loads one into the scope, which then closes. */
  private Layer[] loadLayers(DType type) {
    Layer[] loaded = new Layer[c.numberOfLayers];
    Throwable[] thrown = new Throwable[loaded.length];
    IntStream.range(0, loaded.length).parallel().forEach(l -> {
      try {
        loaded[l] = layer(l, type);
      } catch (RuntimeException | Error e) {
        thrown[l] = e;
      }
    });
    for (Throwable one : thrown) {
      if (one instanceof RuntimeException e) {
        throw e;
      } else if (one instanceof Error e) {
        throw e;
      }
    }
    return loaded;
  }

  private Layer layer(int index, DType type) {
    String base = "model.layers." + index + ".";
    return new Layer(Weight.vector(scope, weights.load(base + "input_layernorm.weight")),
        weight(base + "self_attn.q_proj.weight", type),
        weight(base + "self_attn.k_proj.weight", type),
        weight(base + "self_attn.v_proj.weight", type),
        weight(base + "self_attn.o_proj.weight", type),
        Weight.vector(scope, weights.load(base + "post_attention_layernorm.weight")),
        weight(base + "mlp.gate_proj.weight", type), weight(base + "mlp.up_proj.weight", type),
        weight(base + "mlp.down_proj.weight", type));
  }

  private Weight weight(String name, DType type) {
    return Weight.of(name, weights.load(name).quantize(type));
  }

  @Override
  public synchronized AbstractTensor forward(AbstractTensor embedding, int startPos,
      KvBufferCache.KvBuffer buffer, Optional<Consumer<List<AbstractTensor>>> reducer) {
    if (layers == null) {
      return super.forward(embedding, startPos, buffer, reducer);
    }
    requireOpen();
    if (reducer.isPresent()) {
      throw new UnsupportedOperationException("exeunt's layers have no reducer of shards");
    }
    int rows = embedding.shape().first();
    if (startPos < 0 || startPos + rows > c.contextLength) {
      throw new IllegalArgumentException("positions " + startPos + " to " + (startPos + rows - 1)
          + " are not all in the model's context of " + c.contextLength);
    }
    if (!(buffer instanceof GrowingCache.Buffer memory)) {
      throw new IllegalArgumentException("the buffer of keys and values is not of this model");
    }
    Session session = session(memory, startPos + rows);
    left = null;
    if (rows == 1) {
      step(session, embedding, startPos);
    } else {
      pace.prompt();
      try (LayerRun run = session.prompt(rows)) {
        Tensor states = Weight.view(embedding, rows, c.embeddingLength);
        run.hidden().copyFrom(states, Stream.DEFAULT);
        run.at(startPos);
        for (int l = 0; l < layers.size(); l++) {
          run.layer(l);
        }
        states.copyFrom(run.hidden(), Stream.DEFAULT);
      }
    }
    return embedding;
  }

  private void requireOpen() {
    if (!scope.isOpen()) {
      throw new IllegalStateException("the model is closed");
    }
  }

  private void step(Session session, AbstractTensor embedding, int position) {
    pace.begin();
    long begin = System.nanoTime();
    LayerRun run = session.step();
    Tensor state = Weight.view(embedding, 1, c.embeddingLength);
    run.hidden().copyFrom(state, Stream.DEFAULT);
    run.at(position);
    int depth = 0;
    while (depth < layers.size()) {
      run.layer(depth++);
      if (exit != null && exit.looks(depth, layers.size())) {
        look(run.hidden());
        if (probability() >= exit.probability()) {
          session.propagate(depth, position);
          left = embedding;
          break;
        }
      }
    }
    tokens++;
    layersRun += depth;
    state.copyFrom(run.hidden(), Stream.DEFAULT);
    pace.end((double) (System.nanoTime() - begin) / depth);
  }

  /** Finds the most probable token of a state, without its logits. */
  private int look(Tensor state) {
    headState.copyFrom(state, Stream.DEFAULT);
    head.run();
    return statistics.argmax().intBuffer().get(0);
  }

  private Session session(GrowingCache.Buffer buffer, int positions) {
    buffer.reserve(positions);
    Session session = sessions.get(buffer);
    if (session != null && session.fits(buffer)) {
      return session;
    }
    if (session != null) {
      session.close();
    } else if (sessions.size() == MOST_SESSIONS) {
      sessions.remove(sessions.keySet().iterator().next()).close();
    }
    session = new Session(c, layers, ropeTable, buffer);
    sessions.put(buffer, session);
    return session;
  }

  /** With a temperature Jlama samples from logits. */
  @Override
  public synchronized int sample(
      AbstractTensor output, float temperature, float uniform, AbstractTensor logits) {
    if (layers == null || temperature != 0) {
      return super.sample(output, temperature, uniform, logits);
    }
    requireOpen();
    // The head was read for a token that left early.
    int token = output == left
        ? statistics.argmax().intBuffer().get(0)
        : look(Weight.view(output, 1, c.embeddingLength));
    return token >= 0 ? token : super.sample(output, temperature, uniform, logits);
  }

  @Override
  public synchronized void close() {
    super.close();
    if (layers != null) {
      sessions.values().forEach(Session::close);
      sessions.clear();
      scope.close();
    }
    if (ownFolder != null) {
      ownFolder.delete(); // unless there is something in it
    }
  }
}
