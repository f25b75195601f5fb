// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.train;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.openblas.global.openblas_nolapack;

/** Loads OpenBLAS. */
public final class Blas {
  private Blas() {}

  static {
    // The newest OpenBLAS binding is one patch release older than JavaCPP here. The two fit, but
    // JavaCPP warns on System.err, which would be the first thing a user of the demo sees.
    PrintStream console = System.err;
    ByteArrayOutputStream said = new ByteArrayOutputStream();
    System.setErr(new PrintStream(said, true, StandardCharsets.UTF_8));
    try {
      Loader.load(openblas_nolapack.class);
    } finally {
      System.setErr(console);
      said.toString(StandardCharsets.UTF_8)
          .lines()
          .filter(line -> !line.startsWith("Warning: Versions of org.bytedeco:"))
          .forEach(console::println);
    }
  }

  /** Makes sure that the library is loaded. */
  public static void load() {
    // The static initialiser has done it.
  }

  /** Sets how many threads products may use. */
  public static void setThreads(int threads) {
    openblas_nolapack.blas_set_num_threads(threads);
  }
}
