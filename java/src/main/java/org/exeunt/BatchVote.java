// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;

/**
 * Labels for a batch of items that go into one prompt, by a vote over rounds in ever other orders,
 * from which items leave once they are settled (BatchPrompt's self-reflection-guided early stopping,
 * Lin et al. 2024). Plain Java, on the host: the rounds are prompts, and labels are read from texts.
 *
 * <pre>
 *   BatchVote&lt;String&gt; vote = new BatchVote&lt;&gt;(items.size(), seed);
 *   while (!vote.isOver()) {
 *     int[] batch = vote.batch();       // in the order in which to ask
 *     vote.take(labels, confident);     // of these, in this order
 *   }
 *   List&lt;String&gt; labels = vote.labels();
 * </pre>
 *
 * <p>An item leaves once two rounds in a row gave it the same label, whether they were confident or
 * not, as the authors' code has it; {@link #onlyConfident()} asks for both, which that code has in a
 * comment. It leaves by its index; the code removes it by its value, so where two items are equal the
 * wrong one may go. After {@value #MOST_ROUNDS} rounds all leave. An answer that says it is confident
 * counts {@value #CONFIDENT_VOTES} votes, another one. The label with the most votes wins; of some
 * with equally many the one that came first. A label of null is no vote, and equals none.
 *
 * <p>Not thread-safe.
 *
 * @param <L> what labels are
 */
public final class BatchVote<L> {
  /** Rounds after which no one is asked again. */
  public static final int MOST_ROUNDS = 9;

  private static final int MOST_ITEMS = 1 << 20;
  /** What an answer counts that says it is confident. */
  public static final int CONFIDENT_VOTES = 5;

  private final SplittableRandom random;
  private final List<Map<L, Integer>> votes = new ArrayList<>();
  private final List<L> last = new ArrayList<>();
  private final boolean[] lastConfident;
  private int[] batch;
  private int rounds;
  private boolean onlyConfident;

  /**
   * Prepares the first round.
   *
   * @param items how many, 0 to 2^20
   * @param seed of the orders
   */
  public BatchVote(int items, long seed) {
    if (items < 0 || items > MOST_ITEMS) {
      throw new IllegalArgumentException("items is " + items + ", expected 0.." + MOST_ITEMS);
    }
    random = new SplittableRandom(seed);
    lastConfident = new boolean[items];
    batch = new int[items];
    for (int i = 0; i < items; i++) {
      batch[i] = i;
      votes.add(new LinkedHashMap<>());
      last.add(null);
    }
    shuffle();
  }

  /**
   * From now on an item leaves only if both answers that agree were confident.
   *
   * @return this
   */
  public BatchVote<L> onlyConfident() {
    onlyConfident = true;
    return this;
  }

  /**
   * Whether there is no one left to ask, or there were enough rounds.
   *
   * @return whether {@link #labels()} are final
   */
  public boolean isOver() {
    return batch.length == 0 || rounds == MOST_ROUNDS;
  }

  /**
   * The items of the round that comes.
   *
   * @return their indices, in the order in which to ask; empty once the vote is over
   */
  public int[] batch() {
    return isOver() ? new int[0] : batch.clone();
  }

  /**
   * Takes the answers of a round.
   *
   * @param labels of each item of {@link #batch()}, in its order
   * @param confident which answers say so
   * @throws IllegalArgumentException if there is not one of each for each item
   * @throws IllegalStateException if the vote is over
   */
  public void take(List<? extends L> labels, boolean... confident) {
    if (isOver()) {
      throw new IllegalStateException("the vote is over after " + rounds + " rounds");
    }
    requireAll("labels", Named.present("labels", labels).size());
    requireAll("confident", Named.present("confident", confident).length);
    int kept = 0;
    for (int i = 0; i < confident.length; i++) {
      int item = batch[i];
      L label = labels.get(i);
      boolean settled = label != null && label.equals(last.get(item))
          && (!onlyConfident || confident[i] && lastConfident[item]);
      if (label != null) {
        votes.get(item).merge(label, confident[i] ? CONFIDENT_VOTES : 1, Integer::sum);
      }
      last.set(item, label);
      lastConfident[item] = confident[i];
      if (!settled) {
        batch[kept++] = item;
      }
    }
    batch = Arrays.copyOf(batch, kept);
    rounds++;
    shuffle();
  }

  /**
   * The labels so far.
   *
   * @return of each item; null where it has none
   */
  public List<@Nullable L> labels() {
    List<L> labels = new ArrayList<>();
    for (Map<L, Integer> ofItem : votes) {
      L winner = null;
      int most = 0;
      for (Map.Entry<L, Integer> entry : ofItem.entrySet()) {
        if (entry.getValue() > most) {
          most = entry.getValue();
          winner = entry.getKey();
        }
      }
      labels.add(winner);
    }
    return labels;
  }

  private void requireAll(String name, int count) {
    if (count != batch.length) {
      throw new IllegalArgumentException(
          name + " has " + count + " elements, but the batch has " + batch.length);
    }
  }

  private void shuffle() {
    for (int i = batch.length - 1; i > 0; i--) {
      int j = random.nextInt(i + 1);
      int moved = batch[i];
      batch[i] = batch[j];
      batch[j] = moved;
    }
  }
}
