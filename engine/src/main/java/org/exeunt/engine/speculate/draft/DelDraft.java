// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import java.nio.FloatBuffer;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.DraftRule.Form;
import org.exeunt.Tensor;
import org.exeunt.TranslatorFit.Translator;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.Head;
import org.exeunt.engine.decode.RowHead;
import org.exeunt.engine.model.LlamaConfig;

/**
 * The model's own first layers, as many as promise most (DEL; Entezari Zarch et al. 2025). After
 * each verification the head is asked what each of some depths would have said in every row, all in
 * one go; a depth that would often have been right, for the layers it runs, drafts next, until a
 * token is less probable than right ones after that depth are.
 */
public final class DelDraft extends SelfDraft {
  /** Tokens of a prompt that are learnt from, as in DEL's code. */
  private static final int CONTEXT = 32;

  private final int candidates;
  private final DelRule[] rules;
  private final int[] context; // columns of the prompt, by sequence
  private final Tensor hidden;
  private final FloatBuffer rows;
  private final Map<Long, RowHead> shadowHeads = new HashMap<>(); // by first and last row
  private final Map<Long, RowHead> wholeHeads = new HashMap<>();

  /**
   * @param translators of the candidates' depths; null: none
   * @param shortlist tokens that are looked at; 0: all
   * @param candidates after how many layers it may draft, ascending
   */
  public DelDraft(Decoder decoder, Form form, Map<Integer, Translator> translators, int shortlist,
      int length, int... candidates) {
    super(decoder, new DraftScore.Probability(), translators, shortlist, CONTEXT + length + 1,
        withAll(decoder, candidates), candidates);
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
  public DraftPolicy rule(int sequence) {
    return rules[sequence];
  }

  @Override
  public void restart(int sequence) {
    super.restart(sequence);
    rules[sequence].restart();
  }

  @Override
  public void verified(Drafts drafts, Decision decision, RowHead model) {
    int[] first = gather(drafts);
    heads.translate(hidden, Arrays.copyOf(first, candidates + 1));
    RowHead head = read(true, 0, first[candidates]);
    RowHead whole = read(false, first[candidates], first[candidates + 1]);
    int row = 0;
    for (int k = 0; k < candidates; k++) {
      for (int s = 0; s < rules.length; s++) {
        int columns = drafts.going(s) ? columns(drafts, s) : 0;
        for (int column = 0; column < columns; column++, row++) {
          rules[s].shadow(k, column, head.argmax(row), head.probability(row));
        }
      }
    }
    int wholeRow = 0;
    int modelRow = 0;
    for (int s = 0; s < rules.length; s++) {
      if (!drafts.going(s)) {
        continue;
      }
      for (int column = 0; column < context[s]; column++) {
        rules[s].whole(column, whole.argmax(wholeRow++));
      }
      for (int i = 0; i <= drafts.count(s); i++, modelRow++) {
        int chosen = decision.chosen(s, i);
        rules[s].whole(context[s] + i, chosen < 0 ? model.argmax(modelRow) : chosen);
      }
      rules[s].learn(columns(drafts, s), context[s]);
    }
  }

  /**
   * What the head finds for some of the states; null: there are none.
   *
   * @param guess whether a shortlist will do: what the whole model says is looked for among all
   */
  private RowHead read(boolean guess, int from, int to) {
    if (from == to) {
      return null;
    }
    Map<Long, RowHead> known = guess ? shadowHeads : wholeHeads;
    RowHead head = known.computeIfAbsent((long) from << 32 | to, key -> {
      Tensor states = hidden.rows(from, to);
      return guess
          ? heads.ofTranslated(states)
          : new RowHead(new Head(scope, decoder.weights(), states, false));
    });
    decoder.work().run(head.head(), to - from);
    return head;
  }

  private int columns(Drafts drafts, int s) {
    return context[s] + drafts.count(s) + 1;
  }

  /**
   * Puts states side by side, candidate by candidate, and then the last layer's of prompts.
   *
   * @return the first row of each, and the row after all
   */
  private int[] gather(Drafts drafts) {
    int[] first = new int[candidates + 2];
    for (int s = 0; s < rules.length; s++) {
      // Where tokens of a prompt were dropped, layers have states of different ones.
      boolean knowsPrompt = rules[s].begins() && decoder.options().drop() == null;
      context[s] = knowsPrompt ? Math.min(CONTEXT, decoder.position(s)) : 0;
    }
    int next = 0;
    for (int place = 0; place <= candidates; place++) {
      first[place] = next;
      for (int s = 0; s < rules.length; s++) {
        int columns = !drafts.going(s) ? 0 : place < candidates ? columns(drafts, s) : context[s];
        for (int column = 0; column < columns; column++) {
          kept.copy(s, decoder.position(s) - context[s] + column, place, rows, next++);
        }
      }
    }
    first[candidates + 1] = next;
    return first;
  }
}
