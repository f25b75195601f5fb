// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.layer;

/** Looks at the rows on their way through the layers. */
@FunctionalInterface
public interface LayerObserver {
  /**
   * Called when the rows have run {@code depth} layers, 0 after the embedding; what {@code rows}
   * shows is that of layer {@code depth - 1}.
   */
  void reached(int depth, Rows rows);
}
