// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import java.util.Arrays;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;
import org.exeunt.Tensor;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.Lanes;
import org.exeunt.bench.vector.lanes.VectorPeer;
import org.exeunt.cases.Facade;
import org.exeunt.jni.exn_draft_lookup_params;
import org.openjdk.jmh.annotations.CompilerControl;

/**
 * A text is searched from its end on, a vector of places at once, for the last token as far as a
 * longer match may end there; texts shared out among the workers.
 */
final class VectorDraftLookup extends VectorPeer {
  private static final VectorSpecies<Integer> INTS = Lanes.INTS;

  private final exn_draft_lookup_params p;
  private final int[] context;
  private final int[] length;
  private final int capacity;
  private final int most;
  private final int least;
  private final int longest;
  private final int counted;
  private final int[] drafted;
  private final int[] draftLength;
  private final int[] matched;

  VectorDraftLookup(Problem problem, int threads) {
    super(threads);
    p = problem.params(exn_draft_lookup_params::new);
    if (p.append() != null || p.active() != null || p._limit() != null) {
      throw new UnsupportedOperationException("the Vector API peer looks up and no more");
    }
    Tensor texts = Facade.tensor(p.context());
    context = texts.toIntArray();
    capacity = (int) texts.size(1);
    length = Facade.tensor(p.length()).toIntArray();
    most = (int) Facade.tensor(p.drafted()).size(1);
    least = p.min_ngram();
    longest = p.max_ngram();
    counted = p.most_matched() == 0 ? longest : p.most_matched();
    drafted = new int[length.length * most];
    draftLength = new int[length.length];
    matched = new int[length.length];
  }

  @Override
  public Object run() {
    if (length.length == 1) {
      lookUp(0);
    } else {
      workers.run(thread -> {
        int end = workers.begin(thread + 1, length.length);
        for (int s = workers.begin(thread, length.length); s < end; s++) {
          lookUp(s);
        }
      });
    }
    return drafted;
  }

  private void lookUp(int s) {
    int from = s * capacity;
    int end = from + length[s];
    int next = find(from, end);
    int n = 0;
    if (next >= 0) {
      int space = Math.min(most, capacity - 1 - length[s]);
      for (int at = next; n < space && context[at] >= 0; n++) {
        drafted[s * most + n] = context[at];
        at = at + 1 == end ? next : at + 1;
      }
    }
    Arrays.fill(drafted, s * most + n, (s + 1) * most, -1);
    draftLength[s] = n;
    matched[s] = next < 0 ? 0 : same(from, next, end, counted);
  }

  /** What follows the longest match, of equals the latest; -1 without any. */
  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private int find(int from, int end) {
    int last = context[end - 1];
    int tokens = least - 1;
    int found = -1;
    int at = end - 1; // of the tokens before it the last one is compared
    while (at - INTS.length() >= from && tokens < longest) {
      at -= INTS.length();
      long bits = IntVector.fromArray(INTS, context, at).compare(VectorOperators.EQ, last).toLong();
      while (bits != 0) {
        int lane = 63 - Long.numberOfLeadingZeros(bits);
        bits ^= 1L << lane;
        int m = same(from, at + lane + 1, end, longest);
        if (m > tokens) {
          tokens = m;
          found = at + lane + 1;
        }
        if (tokens == longest) {
          break;
        }
      }
    }
    for (int next = at; next > from && tokens < longest; next--) {
      int m = same(from, next, end, longest);
      if (m > tokens) {
        tokens = m;
        found = next;
      }
    }
    return found;
  }

  /** How many tokens before {@code next} are the last ones of the text. */
  private int same(int from, int next, int end, int most) {
    int m = 0;
    while (m < most && next - 1 - m >= from && context[next - 1 - m] == context[end - 1 - m]) {
      m++;
    }
    return m;
  }

  @Override
  public void deliver() {
    Problem.put(p.drafted(), drafted);
    Problem.put(p.draft_length(), draftLength);
    Problem.put(p.matched(), matched);
  }
}
