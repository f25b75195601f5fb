// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import static org.exeunt.bench.vector.lanes.Lanes.COUNT;
import static org.exeunt.bench.vector.lanes.Lanes.FLOATS;
import static org.exeunt.bench.vector.lanes.Lanes.INTS;

import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.Lanes;
import org.exeunt.bench.vector.lanes.VectorPeer;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_prune_mask_params;
import org.exeunt.jni.global.exeunt;
import org.openjdk.jmh.annotations.CompilerControl;

/**
 * The smallest scores of each row or of the tensor: a histogram of leading bits finds the bin of
 * the k-th one, one of the next bits what is left, until few are, which are sorted; then one pass
 * writes the mask.
 */
final class VectorPruneMask extends VectorPeer {
  private static final int KEY_BITS = 31;
  private static final int DIGIT_BITS = 11;
  private static final int FEW = 64;

  private final DLTensor target;
  private final boolean byRow;
  private final int rows;
  private final int cols;
  private final int wanted;
  private final float[] wide;
  private final short[] halves;
  private final float[] norm;
  private final int[] keys;
  private final boolean[] mask;
  private final int[] near;
  private final int[] sizes; // of the parts of near
  private final int[][] counts;

  VectorPruneMask(Problem problem, int threads) {
    super(threads);
    exn_prune_mask_params p = problem.params(exn_prune_mask_params::new);
    Matrix weight = Matrix.of(p.tensors().weight());
    Matrix factors = Matrix.of(p.tensors().norm());
    target = p.tensors().mask();
    byRow = p.scope() == exeunt.EXN_PRUNE_ROW;
    rows = weight.rows();
    cols = weight.cols();
    int size = rows * cols;
    wanted = (int) (p.ratio() * (byRow ? cols : size));
    if (p.tensor_count() != 1 || p.first() == 0 || p.which() != exeunt.EXN_PRUNE_SMALLEST
        || p.rounding() != exeunt.EXN_PRUNE_DOWN || cols % COUNT != 0 || wanted == 0) {
      throw new UnsupportedOperationException("the Vector API peer makes the first mask of one");
    }
    halves = weight.halves();
    wide = halves == null ? weight.values() : null;
    norm = factors == null ? null : factors.values();
    keys = new int[size];
    mask = new boolean[size];
    near = new int[size];
    sizes = new int[workers.threads()];
    counts = new int[workers.threads()][1 << DIGIT_BITS];
  }

  @Override
  public Object run() {
    if (byRow) {
      workers.run(this::markRows);
    } else {
      markTensor();
    }
    return mask;
  }

  private int begin(int thread) {
    return cols * workers.begin(thread, rows);
  }

  private void markRows(int thread) {
    for (int from = begin(thread); from < begin(thread + 1); from += cols) {
      makeKeys(from);
      System.arraycopy(keys, from, near, from, cols);
      mark(from, from + cols, cut(near, from, from + cols, wanted, KEY_BITS, counts[thread]));
    }
  }

  private void markTensor() {
    int shift = KEY_BITS - DIGIT_BITS;
    workers.run(thread -> {
      Arrays.fill(counts[thread], 0);
      for (int from = begin(thread); from < begin(thread + 1); from += cols) {
        makeKeys(from);
        count(keys, from, from + cols, shift, counts[thread]);
      }
    });
    int left = wanted;
    int bin = 0;
    for (int in = all(bin); in < left; in = all(++bin)) {
      left -= in;
    }
    int found = bin;
    workers.run(
        thread -> sizes[thread] = list(keys, begin(thread), begin(thread + 1), shift, found, near));
    int listed = 0;
    for (int thread = 0; thread < sizes.length; thread++) {
      System.arraycopy(near, begin(thread), near, listed, sizes[thread]);
      listed += sizes[thread];
    }
    Cut cut = cut(near, 0, listed, left, shift, counts[0]);
    workers.run(thread -> markBelow(begin(thread), begin(thread + 1), cut.key));
    keepEqual(mask.length, cut);
  }

  private int all(int bin) {
    int sum = 0;
    for (int[] of : counts) {
      sum += of[bin];
    }
    return sum;
  }

  /** The key of the last one pruned, and how many of its equals stay. */
  private record Cut(int key, int kept) {}

  /** Of the k-th smallest of keys that are alike but for so many bits; moves them about. */
  private static Cut cut(int[] keys, int from, int to, int k, int bits, int[] counts) {
    if (to - from <= FEW || bits == 0) {
      Arrays.sort(keys, from, to);
      int last = from + k - 1;
      int end = last + 1;
      while (end < to && keys[end] == keys[last]) {
        end++;
      }
      return new Cut(keys[last], end - last - 1);
    }
    int shift = Math.max(0, bits - DIGIT_BITS);
    Arrays.fill(counts, 0);
    count(keys, from, to, shift, counts);
    int bin = 0;
    int left = k;
    while (counts[bin] < left) {
      left -= counts[bin++];
    }
    int size = list(keys, from, to, shift, bin, keys);
    return cut(keys, from, from + size, left, shift, counts);
  }

  private static void count(int[] keys, int from, int to, int shift, int[] counts) {
    for (int i = from; i < to; i++) {
      counts[keys[i] >>> shift & counts.length - 1]++;
    }
  }

  /** Writes the keys of a bin from {@code from} on; returns how many there are. */
  private static int list(int[] keys, int from, int to, int shift, int bin, int[] list) {
    int at = from;
    for (int i = from; i < to; i++) {
      int key = keys[i];
      list[at] = key;
      at += (key >>> shift & (1 << DIGIT_BITS) - 1) == bin ? 1 : 0;
    }
    return at - from;
  }

  /** Of a row: the bits of |score|, which order as it does. */
  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private void makeKeys(int from) {
    for (int i = 0; i < cols; i += COUNT) {
      FloatVector score = Lanes.load(wide, halves, from + i);
      if (norm != null) {
        score = score.mul(FloatVector.fromArray(FLOATS, norm, i));
      }
      score.reinterpretAsInts()
          .lanewise(VectorOperators.AND, Integer.MAX_VALUE)
          .intoArray(keys, from + i);
    }
  }

  private void mark(int from, int to, Cut cut) {
    markBelow(from, to, cut.key);
    keepEqual(to, cut);
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private void markBelow(int from, int to, int key) {
    for (int i = from; i < to; i += COUNT) {
      IntVector.fromArray(INTS, keys, i).compare(VectorOperators.GT, key).intoArray(mask, i);
    }
  }

  /** The first of the equals are pruned. */
  private void keepEqual(int to, Cut cut) {
    int i = to;
    for (int left = cut.kept; left > 0;) {
      if (keys[--i] == cut.key) {
        mask[i] = true;
        left--;
      }
    }
  }

  @Override
  public void deliver() {
    int[] words = new int[mask.length];
    for (int i = 0; i < words.length; i++) {
      words[i] = mask[i] ? 1 : 0;
    }
    Problem.put(target, words);
  }
}
