// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.invalid;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import org.exeunt.Attention;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitRule;
import org.exeunt.FfnSkipRule;
import org.exeunt.HiddenStack;
import org.exeunt.KvCache;
import org.exeunt.KvPropagate;
import org.exeunt.Rope;
import org.exeunt.Scope;
import org.exeunt.StopRule;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** What steps of a decoder leave for the next run, and for the ops that follow. */
@Tag("kernels")
@ExtendWith(ForcedPath.class)
class StepTest {
  private final Scope scope = Scope.open();

  @AfterEach
  void close() {
    scope.close();
  }

  /** What a refused run was given does not stay. */
  @Test
  void exitRuleTakesTheLastStepThatRan() {
    Tensor exitLayer = scope.allocate(DType.I32, 2);
    ExitRule rule =
        ExitRule.builder()
            .score(scope.copyOf(new float[] {1, 0}, 2))
            .threshold(ExitRule.Comparator.GE, 0.5f)
            .decay(ExitRule.Decay.CALM_CODE, 4, 8)
            .state(ExitRule.allocateState(scope, Device.defaultDevice(), 2))
            .exitLayer(exitLayer)
            .build(scope);
    Stream stream = Stream.DEFAULT;
    rule.run(stream, 3, true, false, 0);
    invalid(() -> rule.run(stream, 5, false, true, -1), "step_index", "-1");
    rule.run();
    stream.synchronize();
    assertArrayEquals(new int[] {3, -1}, exitLayer.toIntArray());
  }

  @Test
  void ffnSkipRuleTakesTheLastStepThatRan() {
    Tensor skip = scope.allocate(DType.U8, 2);
    FfnSkipRule rule =
        FfnSkipRule.builder()
            .cosine(scope.copyOf(new float[] {1, 1}, 2))
            .state(FfnSkipRule.allocateState(scope, Device.defaultDevice(), 2))
            .skip(skip)
            .modelLayers(4)
            .coldLayers(0, 4)
            .warmUp(1)
            .threshold(0.5f)
            .build(scope);
    rule.run(-1, 3);
    rule.run(0, 3);
    invalid(() -> rule.run(9, 0), "layer", "9");
    invalid(() -> rule.run(-1, -1), "token_index", "-1");
    rule.run();
    Stream.DEFAULT.synchronize();
    assertArrayEquals(new int[] {1, 1}, skip.toIntArray());
  }

  @Test
  void stopRuleTakesTheLastFirstThatRan() {
    Tensor token = scope.copyOf(new int[] {1, 2}, 2);
    Tensor reason = scope.allocate(DType.I32, 2);
    Tensor winner = scope.allocate(DType.I32, 1);
    StopRule rule =
        StopRule.firstFinish(4, scope.copyOf(new int[] {2}, 1))
            .token(token)
            .state(StopRule.allocateState(scope, Device.defaultDevice(), 2))
            .reason(reason)
            .winner(winner)
            .build(scope);
    rule.run(true);
    Stream.DEFAULT.synchronize();
    assertArrayEquals(
        new int[] {StopRule.Reason.CANCELLED.ordinal(), StopRule.Reason.TOKEN.ordinal()},
        reason.toIntArray());
    assertArrayEquals(new int[] {1}, winner.toIntArray());
    if (Device.defaultDevice().equals(Device.CPU)) {
      invalid(() -> rule.run(false), "all 2 rows have ended");
    }
    token.copyFrom(new int[] {2, 2});
    rule.run(); // a first one
    Stream.DEFAULT.synchronize();
    assertArrayEquals(new int[] {0}, winner.toIntArray());
  }

  /** The ops that follow take gathered tags as they are: those of rows that are not there too. */
  @Test
  void gatheredTagsSwitchOff() {
    Tensor stack = scope.allocate(DType.F32, 5, 4);
    Tensor stackTags = scope.allocate(DType.I32, 4, 5);
    Tensor count = scope.copyOf(new int[] {0}, 1);
    Tensor rows = scope.copyOf(new float[] {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 3, 4);
    Tensor tags = scope.copyOf(new int[] {1, 0, 0, 2, 0, 1, 0, 0, 0, 3, 1, 2}, 4, 3);
    Tensor leaves = scope.allocate(DType.U8, 3).copyFrom(new int[] {1, 0, 1});
    HiddenStack.push()
        .stack(stack)
        .count(count)
        .rows(rows)
        .tags(stackTags, tags)
        .mask(leaves)
        .runOnce();
    HiddenStack.gather().stack(stack).count(count).rows(rows).tags(stackTags, tags).runOnce();
    Tensor sequence = tags.row(0);
    Tensor slot = tags.row(1);
    Tensor position = tags.row(2);

    Tensor table = Rope.table(scope, Device.defaultDevice(), 4, 4, 10000);
    Tensor heads = rows.reshape(3, 1, 4);
    Rope.builder()
        .input(heads)
        .position(position)
        .table(table, Rope.Style.HALF)
        .out(heads)
        .runOnce();
    float[] expected = new float[2 * 3 * 4];
    System.arraycopy(new float[] {1, 2, 3, 4}, 0, expected, (3 + 2) * 4, 4);
    System.arraycopy(new float[] {9, 10, 11, 12}, 0, expected, 4, 4);
    KvCache appended = emptyCache();
    appended.append().k(heads).v(heads).sequence(sequence).slot(slot).runOnce();
    assertArrayEquals(expected, appended.k().toFloatArray());
    assertArrayEquals(expected, appended.v().toFloatArray());

    float[] identity = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
    Tensor weight = scope.copyOf(identity, 4, 4);
    KvCache owed = emptyCache();
    KvPropagate.builder()
        .hidden(rows)
        .exitLayer(scope.copyOf(new int[] {0, 0, 0}, 3))
        .sequence(sequence)
        .slot(slot)
        .rope(table, Rope.Style.HALF, position)
        .modelLayers(2)
        .layer(KvPropagate.Layer.of(1, null, weight, weight, owed))
        .runOnce();
    assertArrayEquals(expected, owed.k().toFloatArray());

    Tensor out = scope.allocate(DType.F32, 3, 1, 4);
    Attention.builder()
        .query(heads)
        .cache(owed)
        .sequence(sequence)
        .visible(tags.row(3))
        .out(out)
        .runOnce();
    assertArrayEquals(new float[4], out.row(2).toFloatArray());
  }

  private KvCache emptyCache() {
    Device device = Device.defaultDevice();
    KvCache cache =
        KvCache.contiguous(scope, device, DType.F32, KvCache.Layout.HEAD_MAJOR, 2, 1, 3, 4);
    cache.k().copyFrom(new float[24]);
    cache.v().copyFrom(new float[24]);
    return cache;
  }
}
