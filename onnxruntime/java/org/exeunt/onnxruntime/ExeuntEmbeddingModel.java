// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import ai.onnxruntime.NodeInfo;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.TensorInfo;
import dev.langchain4j.data.embedding.Embedding;
import dev.langchain4j.data.segment.TextSegment;
import dev.langchain4j.model.embedding.onnx.AbstractInProcessEmbeddingModel;
import dev.langchain4j.model.embedding.onnx.OnnxBertBiEncoder;
import dev.langchain4j.model.embedding.onnx.PoolingMode;
import dev.langchain4j.model.output.Response;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Executor;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;

/**
 * An embedding model of langchain4j that runs an ONNX encoder on exeunt. Tokenizer, pooling and the
 * handling of long texts are those of langchain4j's {@code OnnxEmbeddingModel}.
 *
 * <pre>{@code
 * EmbeddingModel model = ExeuntEmbeddingModel.builder()
 *     .model(Path.of("model.onnx"))
 *     .tokenizer(Path.of("tokenizer.json"))
 *     .build();
 * }</pre>
 *
 * <p>The class path needs {@code dev.langchain4j:langchain4j-embeddings}, which this library does
 * not bring.
 *
 * <p>Thread-safe. The close waits for what runs; embedding afterwards is an {@link
 * IllegalStateException}.
 */
public final class ExeuntEmbeddingModel
    extends AbstractInProcessEmbeddingModel implements AutoCloseable {
  private static final Set<String> REQUIRED = Set.of("input_ids", "attention_mask");
  private static final Set<String> TAKEN = Set.of("input_ids", "attention_mask", "token_type_ids");

  private final Users users;
  private final OrtSession session;
  private final OnnxBertBiEncoder encoder;
  private final Integer width;

  private ExeuntEmbeddingModel(Builder builder, Users users) {
    super(users.on(builder.executor));
    this.users = users;
    OrtSession opened = null;
    boolean done = false;
    try (InputStream tokenizer = builder.tokenizer.open()) {
      opened = builder.session();
      session = opened;
      width = width(session);
      encoder = builder.encoder(session, tokenizer);
      done = true;
    } catch (OrtException | IOException e) {
      throw new IllegalArgumentException(e.getMessage(), e);
    } finally {
      if (!done) {
        close(opened);
      }
    }
  }

  /** Refuses a model that is no such encoder. The width of its vectors, null if it does not say. */
  private static Integer width(OrtSession session) throws OrtException {
    Set<String> inputs = session.getInputNames();
    if (!inputs.containsAll(REQUIRED) || !TAKEN.containsAll(inputs)) {
      throw new IllegalArgumentException("model has the inputs " + new TreeSet<>(inputs)
          + ", expected input_ids, attention_mask and, if it takes them, token_type_ids");
    }
    NodeInfo first = session.getOutputInfo().values().iterator().next();
    long[] shape = first.getInfo() instanceof TensorInfo tensor ? tensor.getShape() : new long[0];
    if (shape.length != 3 && shape.length != 0) { // none: it does not say
      throw new IllegalArgumentException("model has the first output " + first
          + ", expected the hidden states of all tokens, [batch, tokens, width]");
    }
    return shape.length == 3 && shape[2] > 0 ? Math.toIntExact(shape[2]) : null;
  }

  /**
   * Starts building.
   *
   * @return a builder to which a model and a tokenizer have to be given
   */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  protected OnnxBertBiEncoder model() {
    users.requireOpen();
    return encoder;
  }

  @Override
  protected Integer knownDimension() {
    return width;
  }

  @Override
  public Response<List<Embedding>> embedAll(List<TextSegment> segments) {
    users.requireOpen();
    boolean entered = users.enter();
    try {
      return super.embedAll(segments);
    } finally {
      users.leave(entered);
    }
  }

  /** Frees the encoder. Closing twice is allowed. */
  @Override
  public void close() {
    if (users.close()) {
      close(session);
    }
  }

  private static void close(OrtSession session) {
    try {
      if (session != null) {
        session.close();
      }
    } catch (OrtException e) {
      throw new IllegalStateException(e);
    }
  }

  /** Who is embedding: ONNX Runtime does not ask whether a session is in use when it is closed. */
  private static final class Users {
    private int count;
    private boolean closed;

    synchronized void requireOpen() {
      if (closed) {
        throw new IllegalStateException("the embedding model is closed");
      }
    }

    /** False where it is closed; who goes on meets {@link #requireOpen}. */
    synchronized boolean enter() {
      count += closed ? 0 : 1;
      return !closed;
    }

    synchronized void leave(boolean entered) {
      count -= entered ? 1 : 0;
      notifyAll();
    }

    Executor on(Executor executor) {
      return task -> executor.execute(() -> {
        boolean entered = enter();
        try {
          task.run();
        } finally {
          leave(entered);
        }
      });
    }

    /** Waits for them. False if it was closed before. */
    synchronized boolean close() {
      boolean first = !closed;
      closed = true;
      boolean interrupted = false;
      while (count > 0) {
        try {
          wait();
        } catch (InterruptedException e) {
          interrupted = true;
        }
      }
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
      return first;
    }
  }

  private interface Source {
    InputStream open() throws IOException;
  }

  /** What an {@link ExeuntEmbeddingModel} is made of. */
  public static final class Builder {
    private Path modelFile;
    private Source model;
    private Source tokenizer;
    private PoolingMode poolingMode = PoolingMode.MEAN;
    private Executor executor;
    private int threads;
    private ExeuntProvider provider = ExeuntProvider.configure();

    private Builder() {}

    /**
     * The encoder, from a file.
     *
     * @param file an ONNX model with the inputs {@code input_ids}, {@code attention_mask} and, if it
     *     takes them, {@code token_type_ids}, whose first output is the hidden states of all tokens
     * @return this
     */
    public Builder model(Path file) {
      modelFile = file;
      model = null;
      return this;
    }

    /**
     * The encoder, from the class path.
     *
     * @param name of the resource, such as {@code all-minilm-l6-v2.onnx} of langchain4j's own models
     * @return this
     */
    public Builder modelResource(String name) {
      modelFile = null;
      model = resource("model", name);
      return this;
    }

    /**
     * The tokenizer, from a file.
     *
     * @param file {@code tokenizer.json} as Hugging Face has it
     * @return this
     */
    public Builder tokenizer(Path file) {
      tokenizer = file == null ? null : () -> Files.newInputStream(existing("tokenizer", file));
      return this;
    }

    /**
     * The tokenizer, from the class path.
     *
     * @param name of the resource
     * @return this
     */
    public Builder tokenizerResource(String name) {
      tokenizer = resource("tokenizer", name);
      return this;
    }

    /**
     * How the states of a text's tokens become one vector.
     *
     * @param mode the default is {@code MEAN}
     * @return this
     */
    public Builder poolingMode(PoolingMode mode) {
      poolingMode = mode;
      return this;
    }

    /**
     * What embeds the texts of a list side by side.
     *
     * @param executor null, the default: as many threads as cores; {@code Runnable::run}: one text
     *     after another
     * @return this
     */
    public Builder executor(Executor executor) {
      this.executor = executor;
      return this;
    }

    /**
     * Threads that compute one text.
     *
     * @param threads 0, the default: as many as ONNX Runtime takes, one per core
     * @return this
     * @throws IllegalArgumentException if it is negative
     */
    public Builder threads(int threads) {
      if (threads < 0) {
        throw new IllegalArgumentException("threads is " + threads + ", expected 0 or more");
      }
      this.threads = threads;
      return this;
    }

    /**
     * Settings of exeunt.
     *
     * @param provider the default is {@link ExeuntProvider#configure()}
     * @return this
     */
    public Builder provider(ExeuntProvider provider) {
      this.provider = provider;
      return this;
    }

    /**
     * Loads the encoder and the tokenizer.
     *
     * @return the model, to be closed when done
     * @throws IllegalArgumentException if an argument is missing or wrong, a file cannot be read, or
     *     the provider cannot be added, with the reason
     */
    public ExeuntEmbeddingModel build() {
      if (modelFile == null) {
        given("model", model);
      }
      given("tokenizer", tokenizer);
      given("poolingMode", poolingMode);
      given("provider", provider);
      if (executor == null) {
        int cores = Runtime.getRuntime().availableProcessors();
        ThreadPoolExecutor pool =
            new ThreadPoolExecutor(cores, cores, 1, TimeUnit.SECONDS, new LinkedBlockingQueue<>());
        pool.allowCoreThreadTimeOut(true);
        executor = pool;
      }
      return new ExeuntEmbeddingModel(this, new Users());
    }

    private OrtSession session() throws OrtException, IOException {
      OrtEnvironment environment = ExeuntProvider.environment();
      try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
        // It would warn of nodes that exeunt leaves to others, which the report lists.
        options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR);
        if (threads > 0) {
          options.setIntraOpNumThreads(threads);
          provider.threadsUnlessSet(threads);
        }
        provider.add(options);
        if (modelFile != null) {
          String file = existing("model", modelFile).toString();
          return loaded(() -> environment.createSession(file, options));
        }
        try (InputStream in = model.open()) {
          byte[] bytes = in.readAllBytes();
          return loaded(() -> environment.createSession(bytes, options));
        }
      }
    }

    private interface Loading {
      OrtSession load() throws OrtException;
    }

    private static OrtSession loaded(Loading loading) {
      try {
        return loading.load();
      } catch (OrtException e) {
        throw new IllegalArgumentException("model cannot be loaded: " + e.getMessage(), e);
      }
    }

    private OnnxBertBiEncoder encoder(OrtSession session, InputStream tokenizer) {
      try {
        return new OnnxBertBiEncoder(ExeuntProvider.environment(), session, tokenizer, poolingMode);
      } catch (RuntimeException e) {
        throw new IllegalArgumentException("tokenizer cannot be loaded: " + e.getMessage(), e);
      }
    }

    private static void given(String name, Object value) {
      if (value == null) {
        throw new IllegalArgumentException(name + " is missing, and there is no default");
      }
    }

    private static Path existing(String what, Path file) throws IOException {
      if (!Files.isRegularFile(file)) {
        throw new FileNotFoundException(what + ": '" + file + "' is no file");
      }
      return file;
    }

    private static Source resource(String what, String name) {
      return name == null ? null : () -> {
        String plain = name.startsWith("/") ? name.substring(1) : name;
        ClassLoader loader = Thread.currentThread().getContextClassLoader();
        InputStream in =
            (loader == null ? ClassLoader.getSystemClassLoader() : loader)
                .getResourceAsStream(plain);
        if (in == null) {
          throw new FileNotFoundException(what + ": no resource '" + name + "' on the class path");
        }
        return in;
      };
    }
  }
}
