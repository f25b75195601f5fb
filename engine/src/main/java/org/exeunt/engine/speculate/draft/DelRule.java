// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.DraftRule;
import org.exeunt.DraftRule.Form;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** DEL for one sequence: which of some depths drafts, and until when, as the op draft_rule says. */
final class DelRule implements DraftPolicy {
  /** How much of its statistics DEL's code keeps. */
  private static final float OMEGA = .95f;

  private final int length;
  private final int columns;
  private final Form form;
  private final DraftRule step;
  private final DraftRule update;
  private final DraftRule reset;
  private final FloatBuffer score;
  private final ByteBuffer drafting;
  private final IntBuffer plan;
  private final IntBuffer shadowTokens;
  private final FloatBuffer shadowProbs;
  private final IntBuffer finalTokens;
  private final IntBuffer columnCount;
  private final IntBuffer contextCount;
  private boolean first;

  /**
   * @param candidates layers that each candidate runs
   * @param length most tokens of a draft
   * @param columns most columns of an update
   */
  DelRule(Scope scope, Form form, int modelLayers, int length, int columns, int... candidates) {
    this.length = length;
    this.columns = columns;
    this.form = form;
    Tensor candidate = ints(scope, candidates.length).copyFrom(candidates);
    Tensor statistics = floats(scope, 1, candidates.length, 4);
    Tensor plans = DraftRule.allocatePlan(scope, Device.CPU, 1);
    Tensor scores = floats(scope, 1);
    Tensor goesOn = scope.allocate(Device.CPU, DType.U8, 1);
    Tensor shadowToken = ints(scope, 1, candidates.length, columns);
    Tensor shadowProb = floats(scope, 1, candidates.length, columns);
    Tensor finalToken = ints(scope, 1, columns);
    Tensor count = ints(scope, 1);
    Tensor context = ints(scope, 1);
    reset =
        DraftRule.reset()
            .statistics(statistics)
            .plan(plans)
            .candidate(candidate)
            .modelLayers(modelLayers)
            .build(scope);
    step =
        DraftRule.step()
            .del(form, 0, length)
            .score(scores)
            .state(DraftRule.allocateState(scope, Device.CPU, 1))
            .drafting(goesOn)
            .statistics(statistics)
            .plan(plans)
            .build(scope);
    update =
        DraftRule.update()
            .del(form, 0, length)
            .omega(OMEGA)
            .statistics(statistics)
            .plan(plans)
            .candidate(candidate)
            .modelLayers(modelLayers)
            .shadows(shadowToken, shadowProb)
            .finalToken(finalToken)
            .columns(count)
            .context(context)
            .build(scope);
    score = scores.floatBuffer();
    drafting = goesOn.byteBuffer();
    plan = plans.intBuffer();
    shadowTokens = shadowToken.intBuffer();
    shadowProbs = shadowProb.floatBuffer();
    finalTokens = finalToken.intBuffer();
    columnCount = count.intBuffer();
    contextCount = context.intBuffer();
    reset.run();
  }

  private static Tensor floats(Scope scope, long... shape) {
    return scope.allocate(Device.CPU, DType.F32, shape);
  }

  private static Tensor ints(Scope scope, long... shape) {
    return scope.allocate(Device.CPU, DType.I32, shape);
  }

  /** Which candidate drafts. */
  int candidate() {
    return plan.get(0);
  }

  /** Whether nothing has been learnt yet. */
  boolean begins() {
    return plan.get(3) == 0;
  }

  @Override
  public int most(int kind) {
    first = true;
    return begins() ? 1 : form == Form.PAPER ? Math.min(length, plan.get(2)) : length;
  }

  @Override
  public boolean goesOn(float probability) {
    score.put(0, probability);
    step.run(first);
    first = false;
    return drafting.get(0) != 0;
  }

  /** What a candidate would have given in a column. */
  void shadow(int candidate, int column, int token, float probability) {
    shadowTokens.put(candidate * columns + column, token);
    shadowProbs.put(candidate * columns + column, probability);
  }

  /** What the whole model gave there. */
  void whole(int column, int token) {
    finalTokens.put(column, token);
  }

  /**
   * Learns from the first {@code count} columns.
   *
   * @param context columns of the prompt in front
   */
  void learn(int count, int context) {
    columnCount.put(0, count);
    contextCount.put(0, context);
    update.run();
  }

  void restart() {
    reset.run();
  }
}
