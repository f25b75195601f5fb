// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import java.nio.ByteBuffer;
import java.nio.IntBuffer;
import java.util.function.IntPredicate;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.DraftLookup;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** Prompt lookup: what followed the last few tokens where they occurred before. */
public final class LookupDraft implements DraftSource {
  /** Longer matches are as good as these. */
  public static final int LONGEST = 16;

  private final Scope scope;
  private final DraftLookup lookup;
  private final int slots;
  private final int longest;
  private final IntBuffer texts;
  private final IntBuffer lengths;
  private final ByteBuffer active;
  private final IntBuffer drafted;
  private final IntBuffer counts;
  private final IntBuffer matched;

  /**
   * @param most how many of the last tokens are looked for, one less each time
   * @param capacity tokens of a sequence that the model takes in
   * @param length most tokens of a draft
   */
  public LookupDraft(int most, int sequences, int capacity, int length) {
    slots = capacity + 1; // the newest token is taken in later
    longest = length;
    scope = Scope.open();
    try {
      Tensor context = ints(sequences, slots);
      Tensor lengthOf = ints(sequences);
      Tensor goes = scope.allocate(Device.CPU, DType.U8, sequences);
      Tensor drafts = ints(sequences, length);
      Tensor draftLength = ints(sequences);
      Tensor match = ints(sequences);
      lookup =
          DraftLookup.builder()
              .context(context)
              .length(lengthOf)
              .active(goes)
              .drafted(drafts)
              .draftLength(draftLength)
              .matched(match)
              .ngram(1, most)
              .mostMatched(LONGEST)
              .build(scope);
      texts = context.intBuffer();
      lengths = lengthOf.intBuffer();
      active = goes.byteBuffer();
      drafted = drafts.intBuffer();
      counts = draftLength.intBuffer();
      matched = match.intBuffer();
    } catch (RuntimeException | Error e) {
      scope.close();
      throw e;
    }
    for (int s = 0; s < sequences; s++) {
      restart(s);
    }
  }

  private Tensor ints(long... shape) {
    return scope.allocate(Device.CPU, DType.I32, shape);
  }

  @Override
  public void restart(int sequence) {
    lengths.put(sequence, 0);
  }

  @Override
  public int kind(Drafts drafts, int sequence) {
    lookUp(drafts, s -> s == sequence);
    return matched.get(sequence) > 0 ? matched.get(sequence) : -1;
  }

  @Override
  public void draft(Drafts drafts) {
    lookUp(drafts, s -> true);
    for (int s = 0; s < drafts.sequences(); s++) {
      if (counts.get(s) > 0) {
        hand(drafts, s);
      }
    }
  }

  private void lookUp(Drafts drafts, IntPredicate which) {
    for (int s = 0; s < drafts.sequences(); s++) {
      boolean wanted = drafts.going(s) && which.test(s);
      active.put(s, (byte) (wanted ? 1 : 0));
      if (wanted) {
        takeIn(s, drafts.context(s));
      }
    }
    lookup.run();
  }

  /** The tokens that are new. */
  private void takeIn(int s, TokenList text) {
    for (int i = lengths.get(s); i < text.size(); i++) {
      texts.put(s * slots + i, text.get(i));
    }
    lengths.put(s, text.size());
  }

  private void hand(Drafts drafts, int s) {
    boolean more = drafts.plan(s, matched.get(s), counts.get(s)) > 0;
    if (!more) {
      drafts.guess(s, matched.get(s), drafted.get(s * longest));
    }
    for (int i = 0; more; i++) {
      more = drafts.add(s, drafted.get(s * longest + i), 1);
    }
  }

  @Override
  public void close() {
    scope.close();
  }
}
