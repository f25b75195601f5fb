// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.measure;

import java.io.IOException;
import java.io.UncheckedIOException;

/** A process of the lowest priority that keeps a core busy as long as this one lives. */
public final class Neighbour implements Between {
  private final Process process;

  public Neighbour() {
    String spin = "while kill -0 " + ProcessHandle.current().pid()
        + " 2>/dev/null; do i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; done";
    try {
      // As much as leads from the highest priority to the lowest, where it ends in any case.
      process = new ProcessBuilder("nice", "-n", "39", "sh", "-c", spin).start();
    } catch (IOException e) {
      throw new UncheckedIOException("no neighbour to be had", e);
    }
  }

  public Process process() {
    return process;
  }

  @Override
  public void close() {
    process.destroyForcibly();
  }
}
