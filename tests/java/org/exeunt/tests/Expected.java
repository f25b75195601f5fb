// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertTrue;

import org.exeunt.DType;

/**
 * A number and how far a correct implementation in the contract's precision may be from it. NaN
 * asks for NaN, an infinity for itself, an infinite bound for nothing.
 *
 * <p>Three tiers: exact (bound 0) for indices, flags and sums of small integers; derived for
 * reductions, {@link #sumError} unit roundoffs of the sum of magnitudes; and a table for what
 * storing in a narrow type adds.
 */
record Expected(double value, double bound) {
  static final Expected NAN = new Expected(Double.NaN, 0);
  static final Expected ZERO = new Expected(0, 0);

  /** Unit roundoff of f32, the precision of every reduction but those of f64 storage. */
  static final double F32 = 0x1p-24;

  /**
   * What the headers promise of a sum of weights over a row of f32, f16 or bf16 logits, and of the
   * statistics made of it.
   */
  static final double STATS = 1e-6;

  /**
   * Unit roundoff of the arithmetic for a storage type; the oracle's own doubles count too where
   * that is f64.
   */
  static double arithmetic(DType dtype) {
    return dtype == DType.F64 ? 0x1p-52 : F32;
  }

  static double rounding(DType dtype) {
    switch (dtype) {
      case F64:
        return 0x1p-53;
      case F16:
        return 0x1p-11;
      case BF16:
        return 0x1p-8;
      default:
        return F32;
    }
  }

  /** Below this a result may be flushed to zero. */
  static double smallest(DType dtype) {
    switch (dtype) {
      case F64:
        return 0x1p-1022;
      case F16:
        return 0x1p-24;
      default:
        return 0x1p-126;
    }
  }

  /** Errors of a sum of n terms, in unit roundoffs of the sum of magnitudes. */
  static double sumError(int n) {
    return 8 + 0.5 * Math.sqrt(n);
  }

  /**
   * A result that had {@code error} and was then stored as {@code dtype}; an infinity where it is
   * beyond that type's range.
   */
  static Expected stored(DType dtype, double value, double error) {
    double nearest = HostTensor.rounded(dtype, value);
    if (Double.isInfinite(nearest)) {
      return new Expected(nearest, 0);
    }
    double storing = rounding(dtype) * Math.abs(value) * 1.01 + smallest(dtype);
    return new Expected(value, Double.isFinite(value) ? error + storing : 0);
  }

  boolean agrees(double got) {
    if (Double.isInfinite(bound)) {
      return true;
    }
    if (Double.isNaN(value)) {
      return Double.isNaN(got);
    }
    if (Double.isInfinite(value)) {
      return got == value;
    }
    return Math.abs(got - value) <= bound;
  }

  void check(String what, double got) {
    assertTrue(
        agrees(got), () -> what + ": got " + got + ", expected " + value + " within " + bound);
  }

  /** Compares a whole matrix. */
  static void checkAll(String what, Expected[] expected, HostTensor got) {
    assertTrue(expected.length == got.size(), what);
    for (int i = 0; i < expected.length; i++) {
      int row = i / got.cols;
      int col = i % got.cols;
      if (!expected[i].agrees(got.at(row, col))) { // a text for each of a million would be slow
        expected[i].check(what + " [" + row + "," + col + "]", got.at(row, col));
      }
    }
  }
}
