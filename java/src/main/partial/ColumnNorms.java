// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

public final class ColumnNorms extends Op {
  public static final class Builder extends Op.Builder<ColumnNorms> {
    private float scale = 1;
  }
}
