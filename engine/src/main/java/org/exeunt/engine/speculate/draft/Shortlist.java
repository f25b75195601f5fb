// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import java.nio.IntBuffer;
import java.util.BitSet;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * The tokens among which drafts are looked for, as a head over them takes a fraction of the time
 * (FR-Spec; Zhao et al. 2025): three in four are the vocabulary's first, which a tokenizer has
 * merged first since they are the most frequent ones; the others are the newest of the texts so far
 * that do not belong to these.
 */
public final class Shortlist {
  private final Tensor tokens;
  private final IntBuffer ids;
  private final BitSet members = new BitSet();
  private final int[] seen; // by sequence: how many tokens of its text
  private final int fixed;
  private int next; // place of the oldest of the others

  /**
   * @param size how many tokens
   * @throws IllegalArgumentException if the vocabulary has fewer
   */
  Shortlist(Scope scope, int sequences, int vocabulary, int size) {
    check(size, vocabulary);
    tokens = scope.allocate(Device.CPU, DType.I32, size);
    ids = tokens.intBuffer();
    for (int id = 0; id < size; id++) {
      ids.put(id, id);
    }
    members.set(0, size);
    seen = new int[sequences];
    fixed = size - size / 4;
    next = fixed;
  }

  public static void check(int size, int vocabulary) {
    if (size > vocabulary) {
      throw new IllegalArgumentException(
          "--draft-shortlist is '" + size + "', but the vocabulary has " + vocabulary + " tokens");
    }
  }

  /** All of them, in any order, [N]. */
  Tensor tokens() {
    return tokens;
  }

  /** A sequence begins anew. */
  void restart(int sequence) {
    seen[sequence] = 0;
  }

  /** Takes the tokens in that texts have gained. */
  void read(Drafts drafts) {
    for (int s = 0; s < seen.length; s++) {
      TokenList text = drafts.context(s);
      for (int i = seen[s]; i < text.size(); i++) {
        add(text.get(i));
      }
      seen[s] = text.size();
    }
  }

  private void add(int id) {
    if (members.get(id) || fixed == ids.capacity()) {
      return;
    }
    members.clear(ids.get(next));
    members.set(id);
    ids.put(next, id);
    next = next + 1 == ids.capacity() ? fixed : next + 1;
  }
}
