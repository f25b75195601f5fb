// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

public final class SsmStep extends Op {
  /** Most values of a channel's state. */
  public static final int MOST_STATES = exeunt.EXN_SSM_MOST_STATES;

  /**
   * Starts building the convolution of a channel's last inputs.
   *
   * @return a builder that needs x, state, weight and out
   */
  public static Builder convolution() {
    return new Builder(exeunt.EXN_SSM_CONV);
  }

  /**
   * Starts building the scan.
   *
   * @return a builder that needs x, state, weight, dt, b and c
   */
  public static Builder scan() {
    return new Builder(exeunt.EXN_SSM_SCAN);
  }

  public static final class Builder extends Op.Builder<SsmStep> {
    private final int stage;

    private Builder(int stage) {
      this.stage = stage;
    }
  }
}
