// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.device.speculate;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.IntConsumer;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.DraftRule;
import org.exeunt.KvLength;
import org.exeunt.RowCompaction;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.engine.decode.Head;
import org.exeunt.engine.layer.KvState;
import org.exeunt.engine.layer.LayerStack;
import org.exeunt.engine.layer.RopeTables;
import org.exeunt.engine.layer.Rows;
import org.exeunt.engine.layer.Switches;
import org.exeunt.engine.model.LlamaWeights;

/**
 * Drafts one token after the other on a GPU, by the first layers of a model, its final norm and its
 * head. The last one goes in as well, so that the caches of these layers know all of a draft.
 *
 * <p>A graph drafts as many tokens as it was made for: after one that a rule has let be the last,
 * in vain, but for feed-forward blocks, which let those pass that are not verified.
 */
final class DraftSteps {
  private final DeviceRound round;
  private final int layers;
  private final Rows rows; // one for each sequence
  private final LayerStack stack;
  private final Head head;
  private final Tensor ahead;
  private final KvLength tick;
  private final DraftRule rule; // null: all tokens are drafted
  private final Tensor passing; // [S], whether feed-forward blocks let a token pass
  private final Tensor zeros;
  private final Tensor ones;
  private final RowCompaction goOn; // those that do not
  private final List<RowCompaction> tokens = new ArrayList<>();

  /**
   * @param layers how many of them
   * @param least probability of a token after which more are drafted; 0: all are
   */
  DraftSteps(DeviceRound round, LlamaWeights weights, KvState kv, RopeTables ropeTables, int layers,
      float least) {
    this.round = round;
    this.layers = layers;
    int count = round.sequences;
    rows = new Rows(round.scope, weights, count);
    rows.sequence(count).copyFrom(IntStream.range(0, count).toArray());
    boolean stops = least > 0;
    passing = stops ? flags(0) : null;
    zeros = stops ? flags(0) : null;
    ones = stops ? flags(1) : null;
    stack = new LayerStack(round.scope, round.workspace, weights, ropeTables, kv, rows, count, null,
        false, new Switches(null, rows.visible(count), passing), true);
    head = new Head(round.scope, weights, rows.hidden(count), false);
    ahead = round.integers(new int[count]);
    tick =
        KvLength.advance(kv.capacity())
            .length(ahead)
            .sequence(rows.sequence(count))
            .slot(rows.position(count))
            .build(round.scope, round.workspace);
    int longest = round.longest;
    Tensor drafted = round.drafted.reshape((long) count * longest, 1);
    for (int i = 0; i < longest; i++) {
      tokens.add(round.place(rows.token(count).reshape(count, 1), drafted, longest, i));
    }
    int[] all = new int[count];
    Arrays.fill(all, longest);
    round.draftLength.copyFrom(all);
    Tensor drafting = stops ? round.integers(new int[count]) : null;
    rule = stops
        ? DraftRule.step()
              .score(head.statistics().p1())
              .confidence(least, 0, longest)
              .state(DraftRule.allocateState(round.scope, round.device(), count))
              .length(round.draftLength)
              .activeList(drafting)
              .build(round.scope, round.workspace)
        : null;
    goOn = stops
        ? RowCompaction.scatter()
              .input(zeros.reshape(count, 1))
              .list(drafting)
              .out(passing.reshape(count, 1))
              .build(round.scope, round.workspace)
        : null;
  }

  private Tensor flags(int value) {
    int[] all = new int[round.sequences];
    Arrays.fill(all, value);
    return round.scope.allocate(round.device(), DType.U8, all.length).copyFrom(all);
  }

  /** What the layers have made of each sequence's last token, [S,D]. */
  Tensor states() {
    return rows.hidden(round.sequences);
  }

  /** @param after queues something when states are those of the newest token (0), or drafted ones */
  void queue(Stream stream, IntConsumer after) {
    int count = round.sequences;
    ahead.copyFrom(round.length, stream);
    rows.token(count).copyFrom(round.token, stream);
    if (rule != null) {
      passing.copyFrom(zeros, stream);
    }
    for (int i = 0; i <= round.longest; i++) {
      tick.run(stream);
      stack.embed(stream);
      for (int layer = 0; layer < layers; layer++) {
        stack.run(layer, stream);
      }
      after.accept(i);
      if (i < round.longest) {
        draft(i, stream);
      }
    }
  }

  private void draft(int i, Stream stream) {
    head.run(stream);
    rows.token(round.sequences).copyFrom(head.statistics().argmax(), stream);
    tokens.get(i).run(stream);
    if (rule == null) {
      return;
    }
    if (i > 0) { // the last drafted token is verified: those after it pass
      passing.copyFrom(ones, stream);
      goOn.run(stream);
    }
    rule.run(stream, i == 0);
  }
}
