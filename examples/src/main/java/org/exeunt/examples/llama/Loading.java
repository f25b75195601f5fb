// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import java.io.IOException;
import java.io.PrintStream;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.examples.gguf.GgufFile;

/** Weights, and the native library, that a thread of its own loads; others read words meanwhile. */
public final class Loading implements AutoCloseable {
  private final Thread thread;
  private LlamaWeights weights;
  private Throwable failure;

  /**
   * Begins to load; the arguments are those of {@link LlamaWeights#load}.
   *
   * @param threads CPU threads to use from then on; 0: as many as there are
   * @param head whether each token reads the head, and not a screen of it
   */
  public Loading(GgufFile file, DType type, int threads, boolean head, PrintStream log) {
    thread = new Thread("loading") {
      @Override
      public void run() {
        try {
          if (threads > 0) {
            Backend.setThreads(threads);
          }
          weights = LlamaWeights.load(file, type, log);
          weights.touch(head);
        } catch (Throwable e) { // of whatever kind: it is thrown again where somebody waits
          failure = e;
        }
      }
    };
    thread.start();
  }

  /** Waits for the weights, which {@link #close} closes. */
  public LlamaWeights weights() throws IOException {
    join();
    if (failure instanceof IOException e) {
      throw e;
    } else if (failure instanceof RuntimeException e) {
      throw e;
    } else if (failure instanceof Error e) {
      throw e;
    }
    return weights;
  }

  private void join() {
    boolean interrupted = false;
    while (thread.isAlive()) {
      try {
        thread.join();
      } catch (InterruptedException e) {
        interrupted = true; // it does not take long, and who waits would leave half of it
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  @Override
  public void close() {
    join();
    if (weights != null) {
      weights.close();
    }
  }
}
