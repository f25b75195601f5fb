// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.device.speculate;

import java.util.Arrays;
import java.util.List;
import org.exeunt.DType;
import org.exeunt.DraftLookup;
import org.exeunt.RowCompaction;
import org.exeunt.Stream;
import org.exeunt.Tensor;

/** Prompt lookup: what followed the last few tokens where they occurred before. */
final class DeviceLookupDraft implements DeviceDraft {
  private final DeviceRound round;
  private final Tensor texts; // [S,T], the newest token as well
  private final Tensor lengths;
  private final DraftLookup lookup;
  private final List<RowCompaction> places;

  /** @param most how many of the last tokens are looked for, one less each time */
  DeviceLookupDraft(DeviceRound round, int most) {
    this.round = round;
    int slots = round.kv.capacity() + 1;
    texts = round.scope.allocate(round.device(), DType.I32, round.sequences, slots);
    lengths = round.integers(new int[round.sequences]);
    lookup =
        DraftLookup.builder()
            .context(texts)
            .length(lengths)
            .append(round.out)
            .active(round.active)
            .drafted(round.drafted)
            .draftLength(round.draftLength)
            .ngram(1, most)
            .build(round.scope, round.workspace);
    places = round.placeTokens();
  }

  @Override
  public void queue(Stream stream) {
    lookup.run(stream);
    places.forEach(place -> place.run(stream));
  }

  @Override
  public int depth() {
    return 0;
  }

  @Override
  public int readings() {
    return 0;
  }

  @Override
  public void begin(int sequence, int token, int... prompt) {
    int[] text = Arrays.copyOf(prompt, prompt.length + 1);
    text[prompt.length] = token;
    texts.row(sequence).slice(0, 0, text.length).copyFrom(text);
    lengths.slice(0, sequence, sequence + 1).copyFrom(new int[] {text.length});
    int[] none = new int[round.longest + 1];
    Arrays.fill(none, -1);
    round.out.row(sequence).copyFrom(none); // nothing has come out of a round
  }
}
