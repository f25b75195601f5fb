// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.exeunt.BatchVote;
import org.exeunt.BordaVote;
import org.junit.jupiter.api.Test;

class VoteTest {
  // ---- Borda

  /** Ranks: c, a, b, b. Votes at power 1: c 4, a 3, b 2 + 1. */
  @Test
  void theSurestCountsMost() {
    List<String> answers = List.of("a", "b", "c", "b");
    float[] confidences = {.7f, .5f, .9f, .3f};
    assertEquals("c", BordaVote.winner(answers, confidences, 1));
    assertEquals("b", BordaVote.winner(answers, confidences, 0)); // the majority
    assertEquals("b", BordaVote.winner(answers, confidences, .1)); // 1.15, 1.12, 2.07
    assertEquals("c", BordaVote.winner(answers, confidences, 2)); // 16, 9, 5
  }

  /** a 3, b 2 + 1: the answer whose surest sample ranks higher. */
  @Test
  void ofTiesTheFirstWins() {
    assertEquals("a", BordaVote.winner(List.of("b", "a", "b"), new float[] {.2f, .9f, .1f}, 1));
    assertEquals("b", BordaVote.winner(List.of("b", "a"), new float[] {.5f, .5f}, 1));
    assertEquals("a", BordaVote.winner(List.of("a", "b"), new float[] {-0f, 0f}, 1));
  }

  @Test
  void nobodyVotesForNothing() {
    assertNull(BordaVote.winner(Arrays.asList(null, null), new float[] {1, 2}, 1));
    assertNull(BordaVote.winner(List.of(), new float[0], 1));
    // The rank is kept: of three samples the last two, 2 and 1.
    assertEquals("a", BordaVote.winner(Arrays.asList("b", null, "a"), new float[] {1, 3, 2}, 1));
    assertEquals("a", BordaVote.winner(List.of("b", "a"), new float[] {Float.NaN, -9}, 1));
  }

  @Test
  void senselessVotesAreRefused() {
    refused(() -> BordaVote.winner(List.of("a"), new float[2], 1), "confidences has 2", "1");
    for (double bad : new double[] {-1, Double.NaN, Double.POSITIVE_INFINITY}) {
      refused(() -> BordaVote.winner(List.of("a"), new float[1], bad), "power", "" + bad);
    }
    refused(() -> BordaVote.winner(null, new float[1], 1), "answers is null");
  }

  // ---- batches

  /** Answers item i of a round with {@code labels[i]}. */
  private static void answer(BatchVote<String> vote, boolean confident, String... labels) {
    int[] batch = vote.batch();
    List<String> ofBatch = new ArrayList<>();
    boolean[] sure = new boolean[batch.length];
    for (int i = 0; i < batch.length; i++) {
      ofBatch.add(labels[batch[i]]);
      sure[i] = confident;
    }
    vote.take(ofBatch, sure);
  }

  private static int[] sorted(int[] values) {
    return IntStream.of(values).sorted().toArray();
  }

  /** Items 0 and 2 give the same labels, yet each leaves by itself. */
  @Test
  void itemsLeaveOnceTheyRepeatThemselves() {
    BatchVote<String> vote = new BatchVote<>(4, 7);
    assertArrayEquals(new int[] {0, 1, 2, 3}, sorted(vote.batch()));
    answer(vote, false, "x", "x", "y", "x");
    assertArrayEquals(new int[] {0, 1, 2, 3}, sorted(vote.batch()));
    answer(vote, false, "y", "x", "x", "y");
    assertArrayEquals(new int[] {0, 2, 3}, sorted(vote.batch()));
    answer(vote, false, "x", "?", "x", "x");
    assertArrayEquals(new int[] {0, 3}, sorted(vote.batch()));
    answer(vote, false, "x", "?", "?", "z");
    assertArrayEquals(new int[] {3}, vote.batch());
    answer(vote, false, "?", "?", "?", "z");
    assertTrue(vote.isOver());
    assertArrayEquals(new int[0], vote.batch());
    // Of item 3: x y x z z, where x and z have two each, and x came first.
    assertEquals(List.of("x", "x", "x", "x"), vote.labels());
    assertThrows(IllegalStateException.class, () -> vote.take(List.of()));
  }

  @Test
  void nineRoundsAreEnoughAndOneConfidentAnswerOutvotesFour() {
    BatchVote<String> vote = new BatchVote<>(1, 0);
    for (int round = 0; round < BatchVote.MOST_ROUNDS; round++) {
      assertFalse(vote.isOver());
      answer(vote, round == 1, round % 2 == 0 ? "a" : "b"); // a 5; b 5 + 3
    }
    assertTrue(vote.isOver());
    assertEquals(List.of("b"), vote.labels());
  }

  @Test
  void onlyConfidentAnswersSettle() {
    BatchVote<String> vote = new BatchVote<String>(1, 0).onlyConfident();
    answer(vote, true, "a");
    answer(vote, false, "a");
    answer(vote, true, "a");
    assertFalse(vote.isOver());
    answer(vote, true, "a");
    assertTrue(vote.isOver());
  }

  @Test
  void withoutLabels() {
    BatchVote<String> vote = new BatchVote<>(2, 3);
    answer(vote, false, null, "a");
    answer(vote, false, null, "a");
    assertArrayEquals(new int[] {0}, vote.batch());
    assertEquals(Arrays.asList(null, "a"), vote.labels());
    assertTrue(new BatchVote<String>(0, 0).isOver());
    // A round without a label lies between two with the same one.
    BatchVote<String> gap = new BatchVote<>(1, 0);
    answer(gap, false, "a");
    answer(gap, false, (String) null);
    answer(gap, false, "a");
    assertFalse(gap.isOver());
  }

  /** Each round has its own order, the same for the same seed. */
  @Test
  void ordersChange() {
    BatchVote<String> vote = new BatchVote<>(20, 1);
    int[] first = vote.batch();
    assertArrayEquals(first, new BatchVote<String>(20, 1).batch());
    String[] labels = IntStream.range(0, 20).mapToObj(i -> "x").toArray(String[] ::new);
    answer(vote, false, labels);
    assertFalse(Arrays.equals(first, vote.batch()));
    assertArrayEquals(sorted(first), sorted(vote.batch()));
  }

  @Test
  void senselessBatchesAreRefused() {
    refused(() -> new BatchVote<String>(-1, 0), "items", "-1");
    BatchVote<String> vote = new BatchVote<>(2, 0);
    refused(() -> vote.take(List.of("a"), true, true), "labels has 1", "2");
    refused(() -> vote.take(List.of("a", "b"), true), "confident has 1", "2");
    assertEquals(2, vote.batch().length);
  }

  private static void refused(Runnable call, String... words) {
    String message = assertThrows(IllegalArgumentException.class, call::run).getMessage();
    for (String word : words) {
      assertTrue(message.contains(word), word + " in: " + message);
    }
  }
}
