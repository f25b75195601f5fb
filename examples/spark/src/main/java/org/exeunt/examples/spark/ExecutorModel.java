// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.spark;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.exeunt.DType;
import org.exeunt.engine.encode.Encoder;
import org.exeunt.engine.encode.EncoderFiles;
import org.exeunt.engine.encode.EncoderWeights;
import org.exeunt.engine.model.text.WordPiece;

/**
 * The encoder of a JVM: the first task that needs it loads it, all share its weights, and the end of
 * the JVM closes it. Tasks that run beside each other have an encoder each over these weights, which
 * the next task takes over, with its memory and the ops that it has built.
 */
final class ExecutorModel {
  private static final int BATCH = 32;
  private static final int LONGEST = 128;

  private static final Map<String, ExecutorModel> MODELS = new ConcurrentHashMap<>();
  private static final AtomicInteger LOADED = new AtomicInteger();

  private final EncoderWeights weights;
  private final WordPiece tokenizer;
  private final Deque<Encoder> idle = new ArrayDeque<>();
  private boolean closed;

  /** The model in a folder of this machine. */
  static ExecutorModel of(String folder) {
    return MODELS.computeIfAbsent(folder, ExecutorModel::new);
  }

  /** How many models this JVM has loaded. */
  static int loaded() {
    return LOADED.get();
  }

  private ExecutorModel(String folder) {
    EncoderFiles files = new EncoderFiles(Path.of(folder));
    for (Path file : List.of(files.tokenizer(), files.model())) {
      if (!Files.isRegularFile(file)) {
        throw new IllegalStateException(
            file + " does not exist, and every machine with an executor needs it");
      }
    }
    try {
      tokenizer = WordPiece.open(files.tokenizer());
      weights = EncoderWeights.load(files.model(), DType.BF16);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    LOADED.incrementAndGet();
    Runtime.getRuntime().addShutdownHook(new Thread(this::close, "close-encoder"));
  }

  WordPiece tokenizer() {
    return tokenizer;
  }

  /** An encoder for the calling task alone. */
  Encoder borrow() {
    synchronized (idle) {
      if (closed) {
        throw new IllegalStateException("the encoder is closed, since this JVM ends");
      }
      Encoder encoder = idle.poll();
      return encoder != null ? encoder : new Encoder(weights, BATCH, LONGEST);
    }
  }

  /** Takes one back. */
  void giveBack(Encoder encoder) {
    synchronized (idle) {
      if (closed) {
        encoder.close();
      } else {
        idle.push(encoder);
      }
    }
  }

  /** Frees everything that no task is using; what one is goes with the JVM. */
  private void close() {
    synchronized (idle) {
      closed = true;
      idle.forEach(Encoder::close);
      idle.clear();
      try {
        weights.close();
      } catch (IllegalStateException e) {
        return; // an op is running
      }
    }
  }
}
