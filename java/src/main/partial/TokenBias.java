// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

public final class TokenBias extends Op {
  public static final class Builder extends Op.Builder<TokenBias> {
    private float scale = 1;
  }
}
