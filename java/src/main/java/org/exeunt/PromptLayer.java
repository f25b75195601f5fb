// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.Objects;

/**
 * What one layer knows of one prompt that is being prefilled: the input of the methods that drop
 * tokens ({@link PromptDistill}, {@link GemFilter}, {@link SnapKv}, {@link H2o}, {@link FastV},
 * {@link PyramidDrop}).
 *
 * <p>The methods choose in the prefill, where all rows of the prompt are at hand: {@code query} has
 * as many rows as the layer has tokens. A decode step, or a piece of a prompt, does not, and is an
 * {@link IllegalStateException}: chosen from one query row, the rest of the cache would be lost.
 *
 * <p>Choosing fails as building and running an {@link AttentionScores} does ({@link Op}): with the
 * argument's name where query and keys do not fit each other, and with an {@link
 * IllegalStateException} where a scope is closed. It allocates, and waits for the stream.
 *
 * <p>Immutable; holds no memory of its own.
 *
 * @param query the rows' queries after RoPE, [T,H,dh], F32, F16 or BF16, each row's heads compact
 * @param keys the layer's cache; values are not read
 * @param sequence the prompt's sequence in that cache
 * @param tokens slots of the sequence that are in use in this layer
 */
public record PromptLayer(Tensor query, KvCache keys, int sequence, int tokens) {
  /**
   * Checks what can be checked without a backend.
   *
   * @param query the rows' queries after RoPE, [T,H,dh]
   * @param keys the layer's cache
   * @param sequence the prompt's sequence in it
   * @param tokens slots of the sequence that are in use
   * @throws NullPointerException if the query or the keys are missing
   * @throws IllegalArgumentException if the query has not three axes, or the tokens or the sequence
   *     do not fit the cache
   */
  public PromptLayer {
    Objects.requireNonNull(query, "query");
    Objects.requireNonNull(keys, "keys");
    if (query.rank() != 3) {
      throw new IllegalArgumentException(
          "query has rank " + query.rank() + ", expected 3 (tokens, heads, head dimension)");
    }
    if (sequence < 0 || sequence >= keys.sequences()) {
      throw new IllegalArgumentException(
          "sequence is " + sequence + ", but the cache has " + keys.sequences() + " sequences");
    }
    if (tokens < 1 || tokens > keys.capacity()) {
      throw new IllegalArgumentException(
          "tokens is " + tokens + ", expected 1 to the cache's " + keys.capacity() + " slots");
    }
  }

  /** Refuses what is no prefill. */
  void requirePrefill(String method) {
    if (query.size(0) != tokens) {
      throw new IllegalStateException(method
          + " chooses tokens in the prefill of a whole prompt: this pass has " + query.size(0)
          + " rows, but the layer holds " + tokens + " tokens");
    }
  }

  /** How many rows of scores {@code heads} leaves. */
  long scoreRows(AttentionScores.Heads heads) {
    return switch (heads) {
      case EACH -> query.size(1);
      case GROUP_SUM -> keys.heads();
      case SUM, MEAN -> 1;
    };
  }

  /**
   * Scores the prompt by its last rows and selects.
   *
   * @param method how the scores are made
   * @param window trailing rows that are asked
   * @param heads what becomes of their heads
   * @param limit tokens from here on are no candidates
   * @param k how many candidates to keep
   * @param keep ranges of tokens that are kept besides: begin, end, begin, end, ...
   */
  Selection choose(Scope scope, Stream stream, AttentionScores.Builder method, int window,
      AttentionScores.Heads heads, int limit, int k, int... keep) {
    Named.present("scope", scope);
    Named.present("stream", stream);
    Device device = query.device();
    int[] seen = new int[window];
    for (int i = 0; i < window; i++) {
      seen[i] = tokens - window + 1 + i;
    }
    // Room for all tokens: a prompt with a broken score keeps them.
    Selection chosen = Selection.allocate(scope, device, scoreRows(heads), tokens).withK(k);
    try (Scope passing = Scope.open()) {
      Tensor ranges = null;
      if (keep.length > 0) {
        ranges = passing.allocate(device, DType.I32, keep.length / 2, 2).copyFrom(keep);
      }
      method.query(query.rows(tokens - window, tokens))
          .keys(keys)
          .sequence(ints(passing, device, sequence))
          .visible(ints(passing, device, seen))
          .limit(ints(passing, device, limit))
          .columns(tokens)
          .window(window)
          .heads(heads)
          .select(chosen.withKeep(ranges))
          .runOnce(stream);
      stream.synchronize(); // what passes is read until then
    } catch (RuntimeException | Error e) {
      chosen.discard(scope, e);
      throw e;
    }
    return chosen;
  }

  private static Tensor ints(Scope scope, Device device, int... values) {
    return scope.allocate(device, DType.I32, values.length).copyFrom(values);
  }
}
