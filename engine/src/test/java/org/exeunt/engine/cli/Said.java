// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.function.IntSupplier;

/** What a program said on standard output and standard error, and its exit status. */
record Said(int status, String out, String log) {
  static Said by(IntSupplier program) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    ByteArrayOutputStream log = new ByteArrayOutputStream();
    PrintStream outBefore = System.out;
    PrintStream logBefore = System.err;
    System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
    System.setErr(new PrintStream(log, true, StandardCharsets.UTF_8));
    try {
      int status = program.getAsInt();
      return new Said(
          status, out.toString(StandardCharsets.UTF_8), log.toString(StandardCharsets.UTF_8));
    } finally {
      System.setOut(outBefore);
      System.setErr(logBefore);
    }
  }
}
