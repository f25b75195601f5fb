// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import java.util.Arrays;
import org.exeunt.bench.contenders.Peer;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.cases.Facade;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_stop_rule_params;
import org.exeunt.jni.global.exeunt;

/** Samples that end by a stop token or their budget, and the best of them, step by step. */
final class JavaStopRule implements Peer {
  private final Call[] calls;
  private final int rows;
  private final int[] stops;
  private final boolean endsAll;
  private final int choice;
  private final int budget;
  private final float logVocabulary;
  private final float low;
  private final float high;
  private final int most;
  private final int[] reason;
  private final boolean[] first;
  private final int[] tokens;
  private final Sums logP;
  private final Sums certainty;

  /** A sum for each row, and what its additions round off. */
  private static final class Sums {
    final float[] sum;
    final float[] rest;

    Sums(int rows) {
      sum = new float[rows];
      rest = new float[rows];
    }

    void clear() {
      Arrays.fill(sum, 0);
      Arrays.fill(rest, 0);
    }

    void add(int r, float term) {
      float s = sum[r] + term;
      float back = s - sum[r];
      rest[r] += sum[r] - (s - back) + (term - back);
      sum[r] = s;
    }

    float mean(int r, int count) {
      return (sum[r] + rest[r]) / count;
    }
  }

  /** One step and what it gives. */
  private static final class Call {
    final exn_stop_rule_params p;
    final boolean first;
    final int[] token;
    final float[] logP;
    final float[] meanLogP;
    final float[] entropy;
    final int[] finished;
    final int[] reason;
    final float[] score;
    final int[] trials;
    final int[] active;
    int count;
    int winner;

    Call(exn_stop_rule_params p) {
      this.p = p;
      first = p.first() != 0;
      token = Facade.tensor(p.token()).toIntArray();
      logP = floats(p.log_p());
      meanLogP = floats(p.mean_log_p());
      entropy = floats(p.entropy());
      finished = new int[token.length];
      reason = new int[token.length];
      score = new float[token.length];
      trials = new int[token.length];
      active = new int[token.length];
    }

    private static float[] floats(DLTensor dl) {
      return dl == null ? null : Facade.tensor(dl).toFloatArray();
    }
  }

  JavaStopRule(Problem problem) {
    calls = new Call[problem.opened().calls()];
    for (int i = 0; i < calls.length; i++) {
      calls[i] = new Call(problem.params(i, exn_stop_rule_params::new));
    }
    exn_stop_rule_params p = calls[0].p;
    if (p.confidence() != null || p.answer_ids() != null || p.log_p() == null
        || p.entropy() == null) {
      throw new UnsupportedOperationException("the Java peer has log p and trials, and no probe");
    }
    rows = calls[0].token.length;
    stops = Facade.tensor(p.stop_ids()).toIntArray();
    endsAll = p.scope() == exeunt.EXN_STOP_FIRST;
    choice = p.choice();
    budget = p.budget();
    logVocabulary = (float) Math.log(p.vocabulary());
    low = p.trials_low();
    high = p.trials_high();
    most = p.most_trials();
    reason = new int[rows];
    first = new boolean[rows];
    tokens = new int[rows];
    logP = new Sums(rows);
    certainty = new Sums(rows);
  }

  @Override
  public Object run() {
    for (Call call : calls) {
      step(call);
    }
    return calls;
  }

  private void step(Call call) {
    if (call.first) {
      Arrays.fill(reason, exeunt.EXN_STOP_RUNNING);
      Arrays.fill(first, false);
      Arrays.fill(tokens, 0);
      logP.clear();
      certainty.clear();
    }
    boolean before = complete();
    for (int r = 0; r < rows; r++) {
      if (reason[r] == exeunt.EXN_STOP_RUNNING) {
        count(call, r);
        first[r] = reason[r] == exeunt.EXN_STOP_TOKEN && !before;
      }
    }
    if (endsAll && complete()) {
      for (int r = 0; r < rows; r++) {
        reason[r] = reason[r] == exeunt.EXN_STOP_RUNNING ? exeunt.EXN_STOP_CANCELLED : reason[r];
      }
    }
    write(call);
  }

  private boolean complete() {
    for (int of : reason) {
      if (of == exeunt.EXN_STOP_TOKEN) {
        return true;
      }
    }
    return false;
  }

  private void count(Call call, int r) {
    int token = call.token[r];
    if (token >= 0) {
      tokens[r]++;
      logP.add(r, call.logP[r]);
      if (call.meanLogP != null) {
        certainty.add(r, -call.meanLogP[r] - logVocabulary);
      }
      for (int stop : stops) {
        if (stop == token) {
          reason[r] = exeunt.EXN_STOP_TOKEN;
        }
      }
    }
    if (reason[r] == exeunt.EXN_STOP_RUNNING && budget > 0 && tokens[r] >= budget) {
      reason[r] = exeunt.EXN_STOP_BUDGET;
    }
  }

  private void write(Call call) {
    Sums sums = choice == exeunt.EXN_CHOOSE_CERTAINTY ? certainty : logP;
    int count = 0;
    int winner = -1;
    float best = 0;
    for (int r = 0; r < rows; r++) {
      boolean runs = reason[r] == exeunt.EXN_STOP_RUNNING;
      call.finished[r] = runs ? 0 : 1;
      call.reason[r] = reason[r];
      call.score[r] = sums.mean(r, tokens[r]);
      float share = (call.entropy[r] - low) / (high - low);
      call.trials[r] = runs ? (int) (1 + (most - 1) * Math.min(1, Math.max(0, share))) : 0;
      if (runs) {
        call.active[count++] = r;
      }
      boolean ended = reason[r] == exeunt.EXN_STOP_TOKEN || reason[r] == exeunt.EXN_STOP_BUDGET;
      boolean may = choice == exeunt.EXN_CHOOSE_FIRST ? first[r] : ended;
      float score = choice == exeunt.EXN_CHOOSE_FIRST ? 0 : call.score[r];
      if (may && (winner < 0 || score > best)) {
        winner = r;
        best = score;
      }
    }
    Arrays.fill(call.active, count, rows, -1);
    call.count = count;
    call.winner = winner;
  }

  @Override
  public void deliver() {
    for (Call call : calls) {
      Problem.put(call.p.finished(), call.finished);
      Problem.put(call.p.reason(), call.reason);
      Problem.put(call.p.score(), call.score);
      Problem.put(call.p.trials(), call.trials);
      Problem.put(call.p.active_list(), call.active);
      Problem.put(call.p.active_count(), new int[] {call.count});
      Problem.put(call.p.winner(), new int[] {call.winner});
    }
    int[] state = new int[rows * exeunt.EXN_STOP_STATE_WORDS];
    for (int r = 0; r < rows; r++) {
      int at = r * exeunt.EXN_STOP_STATE_WORDS;
      state[at] = reason[r] | (first[r] ? 0x100 : 0);
      state[at + 1] = tokens[r];
      state[at + 2] = Float.floatToRawIntBits(logP.sum[r]);
      state[at + 3] = Float.floatToRawIntBits(logP.rest[r]);
      state[at + 4] = Float.floatToRawIntBits(certainty.sum[r]);
      state[at + 5] = Float.floatToRawIntBits(certainty.rest[r]);
    }
    Problem.put(calls[0].p.state(), state);
  }
}
