// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import org.exeunt.Tensor;

/**
 * By what a layer's rows may be switched off, where they lie.
 *
 * @param active [R], 0 for rows that get no slot in a cache; null: all get one
 * @param visible [R], how many slots attention sees; -1 for rows that need none
 * @param passing [R], not 0 for rows that pass feed-forward blocks; null: none do
 */
record Switches(Tensor active, Tensor visible, Tensor passing) {
  /** Those of rows that all go on; a rule may let them pass. */
  static Switches of(Rows rows, int count, FfnSkip skip) {
    return new Switches(null, rows.visible(count), skip == null ? null : rows.skip(count));
  }
}
