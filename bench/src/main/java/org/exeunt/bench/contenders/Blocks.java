// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.contenders;

import java.util.Locale;
import java.util.stream.Stream;
import org.exeunt.BlockFormat;
import org.exeunt.DType;

/** Words of the case tables that say what a weight's rows are made of: a dtype, or blocks. */
public final class Blocks {
  private Blocks() {}

  /** Whether it is blocks, which no peer reads. */
  public static boolean are(String word) {
    return Stream.of(BlockFormat.values()).anyMatch(f -> f.name().equalsIgnoreCase(word));
  }

  /** Bytes of a row of so many elements. */
  public static long rowBytes(String word, long columns) {
    String name = word.toUpperCase(Locale.ROOT);
    return are(word)
        ? BlockFormat.valueOf(name).rowBytes(columns)
        : columns * DType.valueOf(name).bytes();
  }
}
