// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/**
 * Compares results with the double-precision reference. A mismatch throws, so that no time is ever
 * taken of a wrong result.
 */
final class Check {
  /** For f32 results; {@code floor} keeps numbers near zero from asking for the impossible. */
  static final double F32_TOLERANCE = 1e-3;

  /** For results stored as bf16, which keeps eight bits. */
  static final double BF16_TOLERANCE = 8e-3;

  private Check() {}

  static double tolerance(Storage storage) {
    return storage == Storage.BF16 ? BF16_TOLERANCE : F32_TOLERANCE; // f16 keeps ten bits
  }

  static void close(
      String what, long index, double expected, double actual, double tolerance, double floor) {
    // Written so that a NaN on either side fails.
    if (!(Math.abs(actual - expected) <= tolerance * Math.max(Math.abs(expected), floor))) {
      throw new IllegalStateException(
          what + "[" + index + "] is " + actual + ", the reference says " + expected);
    }
  }

  static void same(String what, long index, long expected, long actual) {
    if (expected != actual) {
      throw new IllegalStateException(
          what + "[" + index + "] is " + actual + ", the reference says " + expected);
    }
  }

  static void length(String what, int expected, int actual) {
    if (expected != actual) {
      throw new IllegalStateException(what + " has " + actual + " elements, not " + expected);
    }
  }
}
