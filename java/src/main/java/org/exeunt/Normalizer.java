// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.global.exeunt;

/** How logits become probabilities. */
public enum Normalizer {
  /** {@code p_j = exp(z_j) / sum exp(z)}. */
  SOFTMAX(exeunt.EXN_SOFTMAX),
  /**
   * {@code p_j = s(z_j) / sum s(z)} with {@code s(x) = x + 1} for {@code x >= 0}, {@code 1 / (1 -
   * x)} below (Prieto et al. 2025, "Grokking at the Edge of Numerical Stability"). For models
   * trained with it.
   */
  STABLEMAX(exeunt.EXN_STABLEMAX);

  final int code;

  Normalizer(int code) {
    this.code = code;
  }
}
