// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * SnapKV (Li et al. 2024): after the prefill of each layer its cache shrinks to what the last
 * tokens of the prompt attend to, and those tokens themselves.
 *
 * <p>{@link #choose} gives a list for each query head, as the authors do: compact into a cache with
 * a head for each of them ({@link KvCache#compactTo}). {@link #grouped} sums the query heads that
 * share keys, gives a list for each KV head, and so keeps the grouped-query cache small ({@link
 * KvCache#compact}). Keys stay turned by their original positions, and the next token has the
 * position it would have had. The authors leave the kept prefix in the order of its scores; here it
 * ascends, which attention does not notice.
 *
 * <p>Follows FasterDecoding/SnapKV at e216ddc (algorithm and defaults). Immutable, thread-safe.
 */
public final class SnapKv {
  /** Rows that choose, with {@link #standard}. */
  public static final int WINDOW = 32;

  /** Slots kept by {@link #standard}. */
  public static final int CAPACITY = 2048;

  /** Width of {@link #standard}'s pooling. */
  public static final int POOL = 5;

  private final int window;
  private final int capacity;
  private final AttentionScores.Pool pool;
  private final int poolWidth;
  private final boolean grouped;

  private SnapKv(
      int window, int capacity, AttentionScores.Pool pool, int poolWidth, boolean grouped) {
    this.window = window;
    this.capacity = capacity;
    this.pool = pool;
    this.poolWidth = poolWidth;
    this.grouped = grouped;
  }

  /**
   * The authors' settings: 32 rows choose, 2048 slots are kept, average pooling of 5.
   *
   * @return the method
   */
  public static SnapKv standard() {
    return of(WINDOW, CAPACITY);
  }

  /**
   * Settings of one's own.
   *
   * @param window how many rows choose, at least 1; they are kept
   * @param capacity how many slots are kept in all, more than the window
   * @return the method, with average pooling of 5
   * @throws IllegalArgumentException if a value is out of range
   */
  public static SnapKv of(int window, int capacity) {
    if (window < 1) {
      throw new IllegalArgumentException("window is " + window + ", expected at least 1");
    }
    if (capacity <= window) {
      throw new IllegalArgumentException(
          "capacity is " + capacity + ", expected more than the window of " + window);
    }
    return new SnapKv(window, capacity, AttentionScores.Pool.AVG, POOL, false);
  }

  /**
   * This method with another pooling.
   *
   * @param how average or largest; none with width 0
   * @param width odd, 1 to 255
   * @return a new method
   * @throws IllegalArgumentException if the width is another
   */
  public SnapKv withPooling(AttentionScores.Pool how, int width) {
    Named.present("how", how).requireWidth(width);
    return new SnapKv(window, capacity, how, width, grouped);
  }

  /**
   * This method with one list for each KV head: not the authors' form.
   *
   * @return a new method
   */
  public SnapKv grouped() {
    return new SnapKv(window, capacity, pool, poolWidth, true);
  }

  /**
   * Whether a prompt is long enough to be shortened.
   *
   * @param tokens of the prompt
   * @return true from the capacity on
   */
  public boolean prunes(int tokens) {
    return tokens >= capacity;
  }

  /**
   * Chooses the slots that a layer keeps.
   *
   * @param scope owns the lists
   * @param stream where to run; waits for it
   * @param prompt the layer
   * @return a list of {@code capacity} slots for each query head, or KV head if grouped: ascending,
   *     the window at its end
   * @throws IllegalStateException if the pass is no prefill
   * @throws IllegalArgumentException if the prompt is shorter than the capacity
   */
  public Selection choose(Scope scope, Stream stream, PromptLayer prompt) {
    Named.present("prompt", prompt).requirePrefill("SnapKV");
    int tokens = prompt.tokens();
    if (!prunes(tokens)) {
      throw new IllegalArgumentException(
          "the prompt has " + tokens + " tokens, fewer than the capacity of " + capacity);
    }
    return prompt.choose(scope, stream, AttentionScores.snapKv(window).pool(pool, poolWidth),
        window, grouped ? AttentionScores.Heads.GROUP_SUM : AttentionScores.Heads.EACH,
        tokens - window, capacity - window, tokens - window, tokens);
  }
}
