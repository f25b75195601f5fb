// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import java.util.Arrays;
import org.exeunt.bench.contenders.Peer;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.cases.Facade;
import org.exeunt.jni.exn_exit_rule_params;
import org.exeunt.jni.global.exeunt;

/** A threshold, or PALBERT's quantile, of each row that has not left, at each exit point. */
final class JavaExitRule implements Peer {
  private final Call[] calls;
  private final boolean quantile;
  private final float threshold;
  private final boolean[] left;
  private final float[] remaining; // prod (1 - lambda)
  private final int[] exitLayer;

  /** One exit point and what it gives. */
  private static final class Call {
    final exn_exit_rule_params p;
    final float[] score;
    final int[] mask;
    final int[] active;
    int count;

    Call(exn_exit_rule_params p) {
      this.p = p;
      score = Facade.tensor(p.score()).toFloatArray();
      mask = new int[score.length];
      active = new int[score.length];
    }
  }

  JavaExitRule(Problem problem) {
    calls = new Call[problem.opened().calls()];
    for (int i = 0; i < calls.length; i++) {
      calls[i] = new Call(problem.params(i, exn_exit_rule_params::new));
    }
    exn_exit_rule_params p = calls[0].p;
    quantile = p.rule() == exeunt.EXN_RULE_QUANTILE;
    boolean plain = p.rule() == exeunt.EXN_RULE_THRESHOLD && p.comparator() == exeunt.EXN_COMPARE_GE
        && p.decay() == exeunt.EXN_DECAY_NONE;
    if (!plain && !quantile || p.scope() != exeunt.EXN_SCOPE_EACH || p.valid() != null) {
      throw new UnsupportedOperationException("the Java peer has a threshold and a quantile");
    }
    threshold = p.threshold();
    left = new boolean[calls[0].score.length];
    remaining = new float[left.length];
    exitLayer = new int[left.length];
  }

  @Override
  public Object run() {
    Arrays.fill(left, false);
    Arrays.fill(remaining, 1);
    Arrays.fill(exitLayer, -1);
    for (int layer = 0; layer < calls.length; layer++) {
      decide(calls[layer], layer);
    }
    return calls;
  }

  private void decide(Call call, int layer) {
    int count = 0;
    for (int r = 0; r < left.length; r++) {
      boolean leaves = !left[r] && verdict(r, call.score[r]);
      call.mask[r] = leaves ? 1 : 0;
      if (leaves) {
        left[r] = true;
        exitLayer[r] = layer;
      } else if (!left[r]) {
        call.active[count++] = r;
      }
    }
    Arrays.fill(call.active, count, left.length, -1);
    call.count = count;
  }

  private boolean verdict(int r, float score) {
    if (!quantile) {
      return score >= threshold;
    }
    remaining[r] *= 1 - score;
    return 1 - remaining[r] > threshold;
  }

  @Override
  public void deliver() {
    exn_exit_rule_params p = calls[0].p;
    for (Call call : calls) {
      Problem.put(call.p.exit_mask(), call.mask);
      Problem.put(call.p.active_list(), call.active);
      Problem.put(call.p.active_count(), new int[] {call.count});
    }
    int[] state = new int[left.length * exeunt.EXN_EXIT_STATE_WORDS];
    for (int r = 0; r < left.length; r++) {
      state[(r + 1) * exeunt.EXN_EXIT_STATE_WORDS - 1] = left[r] ? 1 : 0;
    }
    Problem.put(p.state(), state);
    Problem.put(p.exit_layer(), exitLayer);
  }
}
