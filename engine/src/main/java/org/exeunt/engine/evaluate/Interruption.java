// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.evaluate;

import java.util.concurrent.CancellationException;

/** Ctrl-C: what runs ends after the token it is at, and the process when the report is written. */
public final class Interruption {
  private boolean wanted;
  private boolean busy;

  /** Listens for the end of the process. */
  public void listen() {
    Runtime.getRuntime().addShutdownHook(new Thread(this::interrupt, "interruption"));
  }

  /** Asks the busy thread to stop, and waits until it has. */
  public synchronized void interrupt() {
    wanted = true;
    if (busy) {
      System.err.println(System.lineSeparator() + "stopping, to write what has been found");
    }
    while (busy) {
      try {
        wait();
      } catch (InterruptedException e) {
        return;
      }
    }
  }

  /** From here on there is something to wait for. */
  public synchronized void begin() {
    busy = true;
  }

  /** All is written. */
  public synchronized void end() {
    busy = false;
    notifyAll();
  }

  /** Throws a {@link CancellationException} if one is to stop. */
  synchronized void check() {
    if (wanted) {
      throw new CancellationException();
    }
  }
}
