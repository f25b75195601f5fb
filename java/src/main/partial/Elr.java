// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

public final class Elr extends Op {
  public static final class Builder extends Op.Builder<Elr> {
    private long ignoreIndex = -100;
    private float beta = .7f;
    private float lambda = 3;
    private CrossEntropy.Reduction reduction = CrossEntropy.Reduction.MEAN;
  }
}
