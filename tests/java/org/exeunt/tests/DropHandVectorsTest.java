// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import org.exeunt.AttentionScores;
import org.exeunt.AttentionScores.Heads;
import org.exeunt.AttentionScores.Kind;
import org.exeunt.AttentionScores.Pool;
import org.exeunt.DType;
import org.exeunt.Gather;
import org.exeunt.HiredBudget;
import org.exeunt.HiredBudget.Remainder;
import org.exeunt.KvCache;
import org.exeunt.Scope;
import org.exeunt.Select;
import org.exeunt.Selection;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** Dropped tokens, worked out by hand. */
@Tag("kernels")
@ExtendWith(ForcedPath.class)
class DropHandVectorsTest {
  private static final float[] SCORES = {1, 0, 0, 5, 0, 0, -2};

  private final Scope scope = Scope.open();

  @AfterEach
  void close() {
    scope.close();
  }

  private Tensor ints(int... values) {
    return scope.copyOf(values, values.length);
  }

  private void finish() {
    Stream.DEFAULT.synchronize();
  }

  @Test
  void tiesGoToTheSmallerColumn() {
    Tensor scores = scope.copyOf(new float[] {3, 1, 3, 2, 3, 0, -0f, 0, 0, 0}, 2, 5);
    Tensor indices = scope.allocate(DType.I32, 2, 3);
    Select.compute(scores, 2, indices);
    finish();
    assertArrayEquals(new int[] {0, 2, -1, 0, 1, -1}, indices.toIntArray());
  }

  @Test
  void headsAreAddedUpInTheirOrder() {
    float big = 0x1p24f;
    Tensor scores = scope.copyOf(
        new float[] {big, 1, 0, 1, 1, 0, 1, big, 3, /* and */ 1, 2, 3, 0, 0, 0, 9, 0, 0}, 6, 3);
    Selection selection = Selection.allocate(scope, 2, 1);
    Select.builder().scores(scores).heads(3).select(selection).runOnce();
    finish();
    assertArrayEquals(new int[] {1, 0}, selection.indices().toIntArray());
    Selection opposite = Selection.allocate(scope, 1, 2);
    float inf = Float.POSITIVE_INFINITY;
    Tensor infinite = scope.copyOf(new float[] {-inf, 1, inf, 2}, 2, 2);
    Select.builder().scores(infinite).heads(2).select(opposite.withK(1)).runOnce();
    finish();
    assertArrayEquals(new int[] {0, 1}, opposite.indices().toIntArray());
    assertArrayEquals(new int[] {0}, opposite.valid().toIntArray());
  }

  /** PromptDistill's end of the prompt: kept whatever it scores, beside the two best before it. */
  @Test
  void rangesAreKeptAndLeftOut() {
    Tensor scores = scope.copyOf(new float[] {9, 1, 5, 7, 0, 3}, 1, 6);
    Selection selection =
        Selection.allocate(scope, 1, 4)
            .withK(2)
            .withKeep(scope.copyOf(new int[] {4, 6}, 1, 2))
            .withDrop(scope.copyOf(new int[] {0, 1}, 1, 2));
    Select.builder().scores(scores).limit(ints(4)).select(selection).runOnce();
    finish();
    assertArrayEquals(new int[] {2, 3, 4, 5}, selection.indices().toIntArray());
    assertArrayEquals(new int[] {4}, selection.count().toIntArray());
  }

  @Test
  void segmentsHaveBudgetsOfTheirOwn() {
    Tensor scores = scope.copyOf(new float[] {4, 3, 2, 1, 9, 8}, 1, 6);
    Tensor budget = scope.copyOf(new int[] {1, 2}, 1, 2);
    Selection selection =
        Selection.top(budget, scope.allocate(DType.I32, 1, 4)).withSegments(ints(0, 4, 6));
    Select.builder().scores(scores).select(selection).runOnce();
    finish();
    assertArrayEquals(new int[] {0, 4, 5, -1}, selection.indices().toIntArray());
  }

  /** Average pooling divides by the width at the edges too; the maximum looks at what is there. */
  @Test
  void pooledScores() {
    assertArrayEquals(new float[] {.2f, 1.2f, 1.2f, 1, .6f, .6f, -.4f}, scores(Pool.AVG, 5), 1e-6f);
    assertArrayEquals(new float[] {1, 5, 5, 5, 5, 5, 0}, scores(Pool.MAX, 5));
    assertArrayEquals(SCORES, scores(Pool.NONE, 0));
  }

  private float[] scores(Pool pool, int width) {
    KvCache keys = KvCache.ofHeadMajor(scope.copyOf(SCORES, 1, 7, 1), null);
    Tensor scores = scope.allocate(DType.F32, 1, 1, 7);
    AttentionScores.builder()
        .query(scope.copyOf(new float[] {1}, 1, 1, 1))
        .keys(keys)
        .visible(ints(7))
        .kind(Kind.RAW)
        .pool(pool, width)
        .scores(scores)
        .runOnce();
    finish();
    return scores.toFloatArray();
  }

  /** Two heads, which share one key: softmax(0, ln 3) and softmax(0, 0). */
  @Test
  void softmaxScores() {
    KvCache keys = KvCache.ofHeadMajor(scope.copyOf(new float[] {0, 1}, 1, 2, 1), null);
    Tensor scores = scope.allocate(DType.F32, 1, 1, 2);
    Selection selection = Selection.allocate(scope, 1, 1);
    AttentionScores.Builder builder =
        AttentionScores.builder()
            .query(scope.copyOf(new float[] {(float) Math.log(3), 0}, 1, 2, 1))
            .keys(keys)
            .visible(ints(2))
            .scores(scores)
            .select(selection);
    builder.heads(Heads.MEAN).runOnce();
    finish();
    assertArrayEquals(new float[] {.375f, .625f}, scores.toFloatArray(), 1e-6f);
    assertArrayEquals(new int[] {1}, selection.indices().toIntArray());
    builder.heads(Heads.SUM).accumulate(true).runOnce();
    finish();
    assertArrayEquals(new float[] {1.125f, 1.875f}, scores.toFloatArray(), 1e-6f);
  }

  /** Two pieces of one row, which see one and two slots: (1, 0) and softmax(0, ln 3). */
  @Test
  void heavyHittersAddUpOverPieces() {
    KvCache keys = KvCache.ofHeadMajor(scope.copyOf(new float[] {0, 1}, 1, 2, 1), null);
    Tensor scores = scope.copyOf(new float[] {0, 0}, 1, 1, 2);
    AttentionScores.Builder piece =
        AttentionScores.heavyHitters(1)
            .query(scope.copyOf(new float[] {(float) Math.log(3)}, 1, 1, 1))
            .keys(keys)
            .scores(scores);
    for (int seen = 1; seen <= 2; seen++) {
      piece.visible(ints(seen)).runOnce();
      finish();
    }
    assertArrayEquals(new float[] {1.25f, .75f}, scores.toFloatArray(), 1e-6f);
  }

  /** Of six tokens three go to the image; 1.5 each to the sub-images, of which half is lost. */
  @Test
  void hiredBudgets() {
    assertArrayEquals(new int[] {3, 1, 1}, budgets(HiredBudget.asInCode()));
    assertArrayEquals(new int[] {3, 2, 1},
        budgets(HiredBudget.asInCode().remainder(Remainder.LARGEST_REMAINDER)));
    // The paper weighs .5 against .5 here, to the same end.
    assertArrayEquals(new int[] {3, 1, 1}, budgets(HiredBudget.builder()));
  }

  private int[] budgets(HiredBudget.Builder builder) {
    Tensor budget = scope.allocate(DType.I32, 1, 3);
    builder.attention(scope.copyOf(new float[] {.4f, .1f, .3f, .2f}, 1, 4))
        .budget(budget)
        .patches(4, 1)
        .grid(2, 1)
        .rate(.5, .5)
        .runOnce();
    finish();
    return budget.toIntArray();
  }

  @Test
  void gatheredTokens() {
    Tensor hidden = scope.copyOf(new float[] {0, 1, 10, 11, 20, 21, 30, 31}, 4, 2);
    Tensor heads = scope.copyOf(new float[] {0, 1, 2, 3, 10, 11, 12, 13}, 2, 4, 1);
    Tensor kept = scope.allocate(DType.F32, 3, 2).copyFrom(new float[6]);
    Tensor position = ints(5, 6, 7, 8);
    Tensor moved = ints(0);
    Gather.builder()
        .list(ints(1, 3, -1))
        .tensor(hidden, kept)
        .tensor(heads, heads, 1)
        .positions(position, position)
        .moved(moved)
        .runOnce();
    finish();
    assertArrayEquals(new float[] {10, 11, 30, 31, 0, 0}, kept.toFloatArray());
    assertArrayEquals(new float[] {1, 3, 2, 3, 11, 13, 12, 13}, heads.toFloatArray());
    assertArrayEquals(new int[] {6, 8, 7, 8}, position.toIntArray());
    assertEquals(2, moved.toIntArray()[0]);
    Gather.builder().list(ints(1, 3)).rows(4).renumber(100, position).runOnce();
    finish();
    assertArrayEquals(new int[] {100, 101, 7, 8}, position.toIntArray());
  }

  /** Each head keeps slots of its own; the longer one decides which pages are free. */
  @Test
  void compactedPages() {
    Tensor table = scope.copyOf(new int[] {2, 0, 1}, 1, 3);
    Tensor k = scope.copyOf(new float[] {20, 21, 30, 31, 40, 41, 50, 51, 0, 1, 10, 11}, 3, 2, 2, 1);
    Tensor v = scope.copyOf(new float[12], 3, 2, 2, 1);
    Tensor list = scope.copyOf(new int[] {1, 4, 2, -1}, 2, 2);
    Tensor lengths = ints(0, 0);
    Tensor freed = ints(9, 9, 9);
    Tensor freedCount = ints(9);
    KvCache.ofPages(k, v, table)
        .compact()
        .perHead(true)
        .padded(list, ints(2, 1))
        .length(ints(5))
        .newLength(lengths)
        .freed(freed, freedCount)
        .runOnce();
    finish();
    assertArrayEquals(
        new float[] {20, 21, 30, 31, 40, 41, 50, 51, 10, 21, 40, 11}, k.toFloatArray());
    assertArrayEquals(new int[] {2, 1}, lengths.toIntArray());
    assertArrayEquals(new int[] {0, 1, -1}, freed.toIntArray());
    assertArrayEquals(new int[] {2}, freedCount.toIntArray());
  }
}
