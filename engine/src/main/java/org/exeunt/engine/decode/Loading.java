// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.Screen;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.gguf.GgufFile;

/**
 * Weights, the native library, and a screen of the head that was kept, which a thread of its own
 * loads; others read words meanwhile.
 */
public final class Loading implements AutoCloseable {
  private final Thread thread;
  private LlamaWeights weights;
  private Screen screen;
  private Throwable failure;

  /**
   * Begins to load; the arguments are those of {@link LlamaWeights#load}.
   *
   * @param threads CPU threads to use from then on; 0: as many as there are
   * @param head whether each token reads the head, and not a screen of it
   * @param packed where packed rows are kept; null: nothing is packed
   * @param kept where a screen may be; null: none is needed
   */
  public Loading(GgufFile file, DType type, int threads, boolean head, Path packed, Path kept,
      PrintStream log) {
    thread = new Thread("loading") {
      @Override
      public void run() {
        try {
          if (threads > 0) {
            Backend.setThreads(threads);
          }
          weights = LlamaWeights.load(file, type, packed, log);
          weights.touch(head);
          screen = kept == null ? null : HeadScreen.open(kept, weights, log);
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

  /** Waits as well, for {@link HeadScreen#open}, which {@link #close} closes; null if it has none. */
  public Screen screen() {
    join();
    return screen;
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
    if (screen != null) {
      screen.close();
    }
    if (weights != null) {
      weights.close();
    }
  }
}
