// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.util.Locale;

/** How logits become probabilities. */
public enum Normalizer {
  SOFTMAX,
  STABLEMAX;

  /** The normalizer that a case table calls {@code name}. */
  public static Normalizer of(String name) {
    return valueOf(name.toUpperCase(Locale.ROOT));
  }
}
