// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

public final class RowCompaction extends Op {
  /**
   * Starts building an op that collects the listed rows.
   *
   * @return an empty builder
   */
  public static Builder gather() {
    return new Builder(exeunt.EXN_ROWS_GATHER);
  }

  /**
   * Starts building an op that puts rows back where the list says.
   *
   * @return an empty builder
   */
  public static Builder scatter() {
    return new Builder(exeunt.EXN_ROWS_SCATTER);
  }

  public static final class Builder extends Op.Builder<RowCompaction> {
    private final int direction;

    private Builder(int direction) {
      this.direction = direction;
    }
  }
}
