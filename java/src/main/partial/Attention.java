// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

public final class Attention extends Op {
  /**
   * Starts building: scale {@code 1 / sqrt(dh)}, no soft cap.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  public static final class Builder extends Op.Builder<Attention> {
    private Float scale;

    private float scaleOrDefault() {
      if (scale != null) {
        return scale;
      }
      return cache == null ? 1 : (float) (1 / Math.sqrt(Math.max(1, cache.headDim())));
    }
  }
}
