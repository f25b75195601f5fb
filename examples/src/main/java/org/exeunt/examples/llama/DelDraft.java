// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import java.nio.FloatBuffer;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.DraftRule.Form;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * The model's own first layers, as many as promise most (DEL; Entezari Zarch et al. 2025). After
 * each verification the head is asked what each of some depths would have said in every row, all in
 * one go; a depth that would often have been right, for the layers it runs, drafts next, until a
 * token is less probable than right ones behind that depth are.
 */
final class DelDraft extends SelfDraft {
  /** Tokens of a prompt that are learnt from, as in DEL's code. */
  private static final int CONTEXT = 32;

  private final Scope scope = Scope.open();
  private final int candidates;
  private final DelRule[] rules;
  private final int[] context; // columns of the prompt, by sequence
  private final Tensor hidden;
  private final FloatBuffer rows;
  private final Map<Integer, RowHead> heads = new HashMap<>();

  /** @param candidates after how many layers it may draft, ascending */
  DelDraft(Decoder decoder, Form form, int length, int... candidates) {
    super(
        decoder, new DraftScore.Probability(), CONTEXT + length + 1, withAll(decoder, candidates));
    this.candidates = candidates.length;
    int sequences = decoder.sequences();
    LlamaConfig config = decoder.weights().config();
    rules = new DelRule[sequences];
    context = new int[sequences];
    try {
      for (int s = 0; s < sequences; s++) {
        rules[s] =
            new DelRule(scope, form, config.layers(), length, CONTEXT + length + 1, candidates);
      }
      long most =
          (long) sequences * (CONTEXT * (candidates.length + 1) + (length + 1) * candidates.length);
      hidden = scope.allocate(Device.CPU, DType.F32, most, config.width());
    } catch (RuntimeException | Error e) {
      scope.close();
      throw e;
    }
    rows = hidden.floatBuffer();
  }

  /** Of a prompt, the last layer's states tell what the whole model says. */
  private static int[] withAll(Decoder decoder, int... candidates) {
    int[] depths = Arrays.copyOf(candidates, candidates.length + 1);
    depths[candidates.length] = decoder.weights().config().layers();
    return depths;
  }

  @Override
  int place(int sequence) {
    return rules[sequence].candidate();
  }

  @Override
  public DraftRule rule(int sequence) {
    return rules[sequence];
  }

  @Override
  public void restart(int sequence) {
    rules[sequence].restart();
  }

  @Override
  public void verified(Drafts drafts, Decision decision, RowHead model) {
    int count = 0;
    for (int s = 0; s < rules.length; s++) {
      count = drafts.going(s) ? gather(drafts, s, count) : count;
    }
    RowHead head = heads.computeIfAbsent(
        count, n -> new RowHead(new Head(scope, decoder.weights(), hidden.rows(0, n), false)));
    head.run();
    decoder.work().head(head.head(), count);
    int row = 0;
    int modelRow = 0;
    for (int s = 0; s < rules.length; s++) {
      if (!drafts.going(s)) {
        continue;
      }
      int columns = context[s] + drafts.count(s) + 1;
      for (int column = 0; column < columns; column++) {
        for (int k = 0; k < candidates; k++, row++) {
          rules[s].shadow(k, column, head.argmax(row), head.probability(row));
        }
        if (column < context[s]) {
          rules[s].whole(column, head.argmax(row++));
        } else {
          int chosen = decision.chosen(s, column - context[s]);
          rules[s].whole(column, chosen < 0 ? model.argmax(modelRow) : chosen);
          modelRow++;
        }
      }
      rules[s].learn(columns, context[s]);
    }
  }

  /** Puts a sequence's states side by side, from row {@code count} on; returns the next row. */
  private int gather(Drafts drafts, int s, int count) {
    // Where tokens of a prompt were dropped, layers have states of different ones.
    boolean knowsPrompt = rules[s].begins() && decoder.options().drop() == null;
    context[s] = knowsPrompt ? Math.min(CONTEXT, decoder.position(s)) : 0;
    int next = count;
    int newest = decoder.position(s);
    for (int position = newest - context[s]; position <= newest + drafts.count(s); position++) {
      int places = position < newest ? candidates + 1 : candidates;
      for (int place = 0; place < places; place++) {
        kept.copy(s, position, place, rows, next++);
      }
    }
    return next;
  }

  @Override
  public void close() {
    scope.close();
  }
}
