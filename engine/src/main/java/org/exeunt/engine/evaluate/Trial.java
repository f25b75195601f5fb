// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.evaluate;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;
import org.exeunt.engine.answer.Answer;
import org.exeunt.engine.answer.HostAnswer;
import org.exeunt.engine.decode.DecodeWork;
import org.exeunt.engine.evaluate.Evaluation.Method;
import org.exeunt.engine.speculate.DraftModel;
import org.exeunt.engine.speculate.SpeculativeAnswer;
import org.exeunt.engine.speculate.SpeculativeDecoder;

/** One method on its way through the prompts. */
final class Trial implements AutoCloseable {
  private final Evaluation evaluation;
  private final DraftModel drafting; // null: no second model drafts
  private final SpeculativeDecoder speculative; // null: nothing is drafted
  private final Answer answer;
  private final Interruption interruption;
  private final List<int[]> answers = new ArrayList<>(); // of the first turn on each prompt
  private final List<List<Part>> parts = new ArrayList<>(); // by prompt and turn
  private final Set<Integer> unsteady = new HashSet<>(); // prompts that got different answers

  /** What has happened up to some moment, or between two. */
  record Part(long tokens, long nanos, long passes, long drafted, long accepted, long bytes) {
    static final Part NOTHING = new Part(0, 0, 0, 0, 0, 0);

    Part plus(Part o, int sign) {
      return new Part(tokens + sign * o.tokens, nanos + sign * o.nanos, passes + sign * o.passes,
          drafted + sign * o.drafted, accepted + sign * o.accepted, bytes + sign * o.bytes);
    }
  }

  /** @param interruption asked before each token */
  Trial(Evaluation evaluation, Method method, Interruption interruption) throws IOException {
    this.evaluation = evaluation;
    this.interruption = interruption;
    drafting = evaluation.drafting(method);
    try {
      speculative =
          method.speculation() == null ? null : evaluation.speculative(method, drafting, 1);
      answer = speculative == null
          ? new HostAnswer(evaluation.decoder(method, 1), null)
          : new SpeculativeAnswer(speculative);
    } catch (IOException | RuntimeException | Error e) {
      if (drafting != null) {
        drafting.close();
      }
      throw e;
    }
  }

  /**
   * Answers a prompt, for the first time or again.
   *
   * @param index the prompt's number, those before it having been answered
   */
  void run(int index, int... prompt) {
    interruption.check();
    answer.begin(prompt);
    Part before = now();
    int most = evaluation.most();
    IntStream.Builder tokens = IntStream.builder();
    long begin = System.nanoTime();
    int token = answer.next();
    for (int i = 0; i < most && token >= 0 && !evaluation.tokenizer().ends(token); i++) {
      tokens.add(token);
      interruption.check();
      if (i + 1 < most) {
        answer.goOn();
        token = answer.next();
      }
    }
    long nanos = System.nanoTime() - begin;
    int[] found = tokens.build().toArray();
    if (index == answers.size()) {
      answers.add(found);
      parts.add(new ArrayList<>());
    } else if (!Arrays.equals(found, answers.get(index))) {
      unsteady.add(index);
    }
    // Of the last pass some tokens may not have been wanted.
    Part part = now().plus(before, -1);
    parts.get(index).add(new Part(Math.max(0, found.length - (found.length == most ? 1 : 0)), nanos,
        part.passes, part.drafted, part.accepted, part.bytes));
  }

  private Part now() {
    DecodeWork work = answer.work();
    return speculative == null
        ? new Part(0, 0, work.tokens(), 0, 0, work.bytes())
        : new Part(0, 0, speculative.verifications(), speculative.drafted(), speculative.accepted(),
              work.bytes());
  }

  /** What the prompts of these numbers came to, in each of so many turns. */
  Part[] sums(List<Integer> prompts, int turns) {
    Part[] sums = new Part[turns];
    for (int turn = 0; turn < turns; turn++) {
      sums[turn] = Part.NOTHING;
      for (int prompt : prompts) {
        sums[turn] = sums[turn].plus(parts.get(prompt).get(turn), 1);
      }
    }
    return sums;
  }

  /** Whether all turns on a prompt had this answer. */
  boolean always(int prompt, int... expected) {
    return !unsteady.contains(prompt) && Arrays.equals(expected, answers.get(prompt));
  }

  int[] answer(int prompt) {
    return answers.get(prompt);
  }

  @Override
  public void close() throws IOException {
    answer.close();
    if (drafting != null) {
      drafting.close();
    }
  }
}
