// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.file.Path;

/** A small shared library that stands in for another. */
final class SharedLibrary {
  private SharedLibrary() {}

  /** Compiles C to `library`, whose name also becomes its soname. */
  static Path of(String source, Path library) throws IOException, InterruptedException {
    Process gcc =
        new ProcessBuilder(System.getProperty("exeunt.test.compiler", "gcc"), "-shared", "-fPIC",
            "-Wl,-soname," + library.getFileName(), "-x", "c", "-", "-o", library.toString())
            .redirectErrorStream(true)
            .start();
    gcc.outputWriter().append(source).close();
    String output = new String(gcc.getInputStream().readAllBytes());
    assertEquals(0, gcc.waitFor(), output);
    return library;
  }
}
