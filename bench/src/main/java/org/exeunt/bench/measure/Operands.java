// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.measure;

import java.util.Locale;

/**
 * Where a call finds the large operands that it reads. A decoder's weights and caches come from
 * memory at each step, since those of the other layers pass through the cache in between; what the
 * step has just made is still in the cache.
 */
public enum Operands {
  /** Each call is given the same memory. */
  CACHE("in cache"),
  /** Each call is given the next copy, and a round over the copies does not fit into the cache. */
  MEMORY("from memory"),
  /** All tensors lie on the first GPU, and each call is given the same. */
  DEVICE("on the GPU");

  private final String words;

  Operands(String words) {
    this.words = words;
  }

  /** The name in tables and parameters. */
  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }

  /** For people. */
  public String words() {
    return words;
  }

  /** The operands with this name. */
  public static Operands of(String name) {
    return valueOf(name.toUpperCase(Locale.ROOT));
  }
}
