// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.layer;

import java.nio.FloatBuffer;
import java.util.Arrays;
import org.exeunt.engine.model.LlamaConfig;

/** What the newest tokens of each sequence have left some layers with, dropped ones as well. */
public final class KeptStates implements LayerObserver {
  private final int[] depths;
  private final int[] placeOf; // by depth; -1: not kept
  private final int window;
  private final int width;
  private final float[] states; // by sequence, position modulo window, place

  /**
   * @param window positions of a sequence that are kept
   * @param depths after how many layers, ascending
   */
  public KeptStates(LlamaConfig config, int sequences, int window, int... depths) {
    this.depths = depths.clone();
    this.window = window;
    width = config.width();
    placeOf = new int[config.layers() + 1];
    Arrays.fill(placeOf, -1);
    for (int i = 0; i < depths.length; i++) {
      placeOf[depths[i]] = i;
    }
    states = new float[Math.toIntExact((long) sequences * window * depths.length * width)];
  }

  public int places() {
    return depths.length;
  }

  public int depth(int place) {
    return depths[place];
  }

  private int at(int sequence, int position, int place) {
    return ((sequence * window + position % window) * depths.length + place) * width;
  }

  @Override
  public void reached(int depth, Rows rows) {
    int place = placeOf[depth];
    if (place < 0) {
      return;
    }
    FloatBuffer hidden = rows.allHidden().floatBuffer();
    for (int row = 0; row < rows.count(); row++) {
      hidden.get(row * width, states, at(rows.sequenceOf(row), rows.positionOf(row), place), width);
    }
  }

  /** Gives rows the states that their tokens had at a place. */
  public void restore(int place, Rows rows) {
    FloatBuffer hidden = rows.allHidden().floatBuffer();
    for (int row = 0; row < rows.count(); row++) {
      copy(rows.sequenceOf(row), rows.positionOf(row), place, hidden, row);
    }
  }

  public void copy(int sequence, int position, int place, FloatBuffer to, int row) {
    to.put(row * width, states, at(sequence, position, place), width);
  }
}
