// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.layer;

import org.exeunt.Tensor;
import org.exeunt.engine.policy.FfnSkip;

/**
 * By what a layer's rows may be switched off, where they lie.
 *
 * @param active [R], 0 for rows that get no slot in a cache; null: all get one
 * @param visible [R], how many slots attention sees; -1 for rows that need none
 * @param passing [R], not 0 for rows that pass feed-forward blocks; null: none do
 */
public record Switches(Tensor active, Tensor visible, Tensor passing) {
  /** Those of rows that all go on; a rule may let them pass. */
  public static Switches of(Rows rows, int count, FfnSkip skip) {
    return new Switches(null, rows.visible(count), skip == null ? null : rows.skip(count));
  }
}
