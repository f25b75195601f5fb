// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

public final class DraftLookup extends Op {
  /** Most tokens that are compared. */
  public static final int MOST = exeunt.EXN_LOOKUP_MOST;

  public static final class Builder extends Op.Builder<DraftLookup> {
    /**
     * How many tokens are to be those at the end of the text.
     *
     * @param least 1 to {@code most}
     * @param most 1 to {@link DraftLookup#MOST}; a longer match is as good
     * @return this
     */
    public Builder ngram(int least, int most) {
      minNgram = least;
      maxNgram = most;
      return this;
    }
  }
}
