// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.score;

import java.util.Arrays;
import java.util.stream.IntStream;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.decode.LogProbs;
import org.exeunt.engine.model.LlamaWeights;

/**
 * Says how probable a text is, token by token, and which of several continuations is the most
 * probable one. Tokens go through the layers up to 64 at a time, so what a token gets does not
 * depend on what else is scored beside it. Not thread-safe.
 */
public final class Scorer implements AutoCloseable {
  private static final int CHOICES = 4; // continuations that are scored side by side

  private final LlamaWeights weights;
  private final Decoder decoder;
  private final int capacity;
  private final boolean branches;

  private Scorer(LlamaWeights weights, int capacity, boolean branches) {
    this.weights = weights;
    this.capacity = capacity;
    this.branches = branches;
    decoder = new Decoder(weights, DecoderOptions.FULL, branches ? 1 + CHOICES : 1, capacity);
  }

  /**
   * A scorer of texts.
   *
   * @param capacity how many tokens a token's probability may depend on
   * @throws IllegalArgumentException if it is not between 1 and the model's context
   */
  public static Scorer ofTexts(LlamaWeights weights, int capacity) {
    return new Scorer(weights, capacity, false);
  }

  /**
   * A scorer of continuations.
   *
   * @param capacity tokens of the longest context with its longest continuation
   * @throws IllegalArgumentException if it is not between 1 and the model's context
   */
  public static Scorer ofChoices(LlamaWeights weights, int capacity) {
    return new Scorer(weights, capacity, true);
  }

  /**
   * Each token but the first, after those before it. A text that is longer than the capacity goes in
   * windows: each token is scored once, and the tokens of the last window see as many as there is
   * room for.
   *
   * @throws IllegalArgumentException if there are not two tokens
   */
  public LogProbs text(int... ids) {
    int labels = ids.length - 1;
    if (labels < 1) {
      throw new IllegalArgumentException("of " + ids.length + " tokens none comes after another");
    }
    float[] values = new float[labels];
    int[] argmax = new int[labels];
    for (int done = 0; done < labels;) {
      int end = Math.min(labels, done + capacity);
      int start = Math.max(0, end - capacity);
      int known = done - start; // scored by the window before
      int[] wanted = Arrays.copyOfRange(ids, start + 1, end + 1);
      Arrays.fill(wanted, 0, known, -1);
      decoder.restart(0);
      LogProbs window = run(new int[wanted.length], Arrays.copyOfRange(ids, start, end), wanted);
      System.arraycopy(window.values(), known, values, done, end - done);
      System.arraycopy(window.argmax(), known, argmax, done, end - done);
      done = end;
    }
    return new LogProbs(values, argmax);
  }

  /**
   * Continuations of one context, which runs once.
   *
   * @param context at least one token
   * @param continuations at least one token each
   * @throws IllegalArgumentException if one is empty, or the context and it are longer than the
   *     capacity
   */
  public LogProbs[] continuations(int[] context, int[]... continuations) {
    require(context, continuations);
    LogProbs[] all = new LogProbs[continuations.length];
    int shared = context.length - 1; // the last token goes with each of them: it has its label
    decoder.restart(0);
    int[] none = new int[shared];
    Arrays.fill(none, -1);
    run(new int[shared], Arrays.copyOf(context, shared), none);
    for (int from = 0; from < all.length; from += CHOICES) {
      int to = Math.min(all.length, from + CHOICES);
      int[] branch = IntStream.rangeClosed(1, to - from).toArray();
      if (shared == 0) {
        IntStream.of(branch).forEach(decoder::restart);
      } else {
        decoder.fork(0, branch);
      }
      int[][] group = Arrays.copyOfRange(continuations, from, to);
      int[] labels = Arrays.stream(group).flatMapToInt(IntStream::of).toArray();
      int[] sequences = new int[labels.length];
      int[] ids = new int[labels.length];
      int row = 0;
      for (int i = 0; i < group.length; i++) {
        for (int t = 0; t < group[i].length; t++, row++) {
          sequences[row] = branch[i];
          ids[row] = t == 0 ? context[shared] : group[i][t - 1];
        }
      }
      LogProbs found = run(sequences, ids, labels);
      row = 0;
      for (int i = 0; i < group.length; row += group[i].length, i++) {
        all[from + i] = found.range(row, row + group[i].length);
      }
    }
    return all;
  }

  private void require(int[] context, int[]... continuations) {
    if (!branches) {
      throw new IllegalStateException("a scorer of texts has no room for continuations");
    }
    if (context.length == 0) {
      throw new IllegalArgumentException("a context has no token");
    }
    for (int[] continuation : continuations) {
      if (continuation.length == 0 || context.length - 1 + continuation.length > capacity) {
        throw new IllegalArgumentException("a context of " + context.length + " tokens and a "
            + "continuation of " + continuation.length + " are not between 1 and a capacity of "
            + capacity);
      }
    }
  }

  /** Appends {@code ids} to their sequences, of which each has its tokens side by side. */
  private LogProbs run(int[] sequences, int[] ids, int... labels) {
    float[] values = new float[ids.length];
    int[] argmax = new int[ids.length];
    for (int from = 0; from < ids.length;) {
      int to = Math.min(ids.length, from + decoder.mostRows());
      decoder.beginPass();
      int ahead = 0;
      for (int i = from; i < to; i++) {
        ahead = i > from && sequences[i] == sequences[i - 1] ? ahead + 1 : 0;
        decoder.addRow(sequences[i], ids[i], ahead);
      }
      decoder.embedRows();
      decoder.runRows(0, weights.config().layers());
      LogProbs some =
          LogProbs.of(weights, decoder.rows().hidden(), Arrays.copyOfRange(labels, from, to));
      System.arraycopy(some.values(), 0, values, from, to - from);
      System.arraycopy(some.argmax(), 0, argmax, from, to - from);
      for (int i = from; i < to; i++) {
        decoder.keepTokens(sequences[i], 1, 1);
      }
      from = to;
    }
    weights.checkUnchanged();
    return new LogProbs(values, argmax);
  }

  @Override
  public void close() {
    decoder.close();
  }
}
