// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import static org.exeunt.bench.vector.lanes.Lanes.COUNT;
import static org.exeunt.bench.vector.lanes.Lanes.FLOATS;

import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import org.exeunt.Tensor;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.Lanes;
import org.exeunt.bench.vector.lanes.VectorPeer;
import org.exeunt.bench.vector.lanes.VectorRows;
import org.exeunt.cases.Facade;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_verify_params;
import org.exeunt.jni.global.exeunt;
import org.openjdk.jmh.annotations.CompilerControl;

/**
 * Plain loops over the drafts, and vectors for the softmax of rows that are needed; sequences shared
 * out among the workers.
 */
final class VectorVerify extends VectorPeer {
  private final exn_verify_params p;
  private final int sequences;
  private final int most;
  private final int vocabulary;
  private final int[] drafted;
  private final int[] draftLength;
  private final int[] argmax;
  private final int[] stop;
  private final float[] logits;
  private final short[] halves;
  private final float[] draft;
  private final boolean probabilities;
  private final float[] uniform;
  private final float temperature;
  private final float draftTemperature;
  private final float[][] target; // of a thread: shares of a row
  private final float[][] drawn;
  private final int[] active;
  private final int[] token;
  private final int[] length;
  private final int[] position;
  private final int[] accepted;
  private final int[] out;
  private final int[] outCount;
  private final int[] lastRow;
  private final int[] outcome;

  VectorVerify(Problem problem, int threads) {
    super(threads);
    p = problem.params(exn_verify_params::new);
    Tensor tokens = Facade.tensor(p.drafted());
    sequences = (int) tokens.size(0);
    most = (int) tokens.size(1);
    drafted = tokens.toIntArray();
    draftLength = integers(p.draft_length());
    argmax = integers(p.argmax());
    stop = p.stop() == null ? new int[0] : integers(p.stop());
    Matrix scores = Matrix.of(p.logits());
    vocabulary = scores == null ? 0 : scores.cols();
    if (p.capacity() != 0 || vocabulary % COUNT != 0) {
      throw new UnsupportedOperationException("the Vector API peer verifies without a bound");
    }
    halves = scores == null ? null : scores.halves();
    logits = scores == null || halves != null ? null : scores.values();
    draft = p.draft() == null ? null : Matrix.of(p.draft()).values();
    probabilities = p.draft_kind() == exeunt.EXN_DRAFT_PROBABILITIES;
    uniform = p.uniform() == null ? null : Facade.tensor(p.uniform()).toFloatArray();
    temperature = p.temperature();
    draftTemperature = p.draft_temperature();
    target = new float[workers.threads()][vocabulary];
    drawn = new float[workers.threads()][vocabulary];
    active = integers(p.active());
    token = integers(p.token());
    length = integers(p.length());
    position = integers(p._position());
    accepted = new int[sequences];
    out = new int[sequences * (most + 1)];
    outCount = new int[sequences];
    lastRow = new int[sequences];
    outcome = new int[sequences];
  }

  private static int[] integers(DLTensor dl) {
    return dl == null ? null : Facade.tensor(dl).toIntArray();
  }

  @Override
  public Object run() {
    if (argmax != null) {
      for (int s = 0; s < sequences; s++) {
        verify(s, 0);
      }
    } else {
      workers.run(thread -> {
        int end = workers.begin(thread + 1, sequences);
        for (int s = workers.begin(thread, sequences); s < end; s++) {
          verify(s, thread);
        }
      });
    }
    return out;
  }

  private void verify(int s, int thread) {
    Arrays.fill(out, s * (most + 1), (s + 1) * (most + 1), -1);
    boolean on = active == null || active[s] != 0;
    int count = 0;
    int kept = 0;
    boolean stopped = false;
    if (on) {
      int n = drafts(s);
      int at = s * (most + 1);
      kept = argmax != null ? agreed(s, n) : kept(s, n, thread);
      int after = argmax != null ? argmax[at + kept] : draw(s, thread);
      for (int i = 0; i <= kept && !stopped; i++) {
        int next = i < kept ? drafted[s * most + i] : after;
        out[at + count++] = next;
        for (int end : stop) {
          stopped |= end == next;
        }
      }
      token[s] = out[at + count - 1];
    }
    accepted[s] = Math.min(kept, count);
    outCount[s] = count;
    lastRow[s] = count > 0 ? s * (most + 1) + count - 1 : -1;
    length[s] += count;
    position[s] += count;
    outcome[s] = !on ? exeunt.EXN_VERIFY_OFF
        : stopped
        ? exeunt.EXN_VERIFY_STOPPED
        : exeunt.EXN_VERIFY_GOES_ON;
    if (active != null) {
      active[s] = on && !stopped ? 1 : 0;
    }
  }

  private int drafts(int s) {
    int most = draftLength == null ? this.most : draftLength[s];
    int n = 0;
    while (n < most && drafted[s * this.most + n] >= 0) {
      n++;
    }
    return n;
  }

  private int agreed(int s, int n) {
    int kept = 0;
    while (kept < n && drafted[s * most + kept] == argmax[s * (most + 1) + kept]) {
      kept++;
    }
    return kept;
  }

  /** How many are kept by chance; leaves the shares of the row after them, and of its draft. */
  private int kept(int s, int n, int thread) {
    for (int i = 0;; i++) {
      double scale = shares(logits, halves, s * (most + 1) + i, temperature, target[thread]);
      if (i == n) {
        return n;
      }
      int x = drafted[s * most + i];
      double q = 1;
      double draftScale = 1;
      if (draft != null && !probabilities) {
        draftScale = shares(draft, null, s * most + i, draftTemperature, drawn[thread]);
        q = drawn[thread][x] * draftScale;
      } else if (draft != null) {
        q = draft[(s * most + i) * vocabulary + x];
      }
      if (!(uniform[s * (most + 1) + i] * q < target[thread][x] * scale)) {
        residual(s * most + i, x, (float) scale, (float) draftScale, thread);
        return i;
      }
    }
  }

  /** e^((z - max) / temperature) of a row; returns what makes probabilities of them. */
  private double shares(float[] wide, short[] halves, int row, float temperature, float[] to) {
    int from = row * vocabulary;
    if (halves != null || temperature != 1) {
      scale(wide, halves, from, 1 / temperature, to);
      float max = VectorRows.max(to, 0, vocabulary);
      return 1 / VectorRows.exponentials(to, 0, vocabulary, max, to, 0);
    }
    float max = VectorRows.max(wide, from, from + vocabulary);
    return 1 / VectorRows.exponentials(wide, from, from + vocabulary, max, to, 0);
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private static void scale(float[] wide, short[] halves, int from, float factor, float[] to) {
    for (int i = 0; i < to.length; i += COUNT) {
      Lanes.load(wide, halves, from + i).mul(factor).intoArray(to, i);
    }
  }

  /** max(0, p - q) takes the place of p. */
  private void residual(int row, int x, float scale, float draftScale, int thread) {
    float[] p = target[thread];
    if (draft == null) {
      p[x] = 0;
    } else if (probabilities) {
      subtract(p, scale, draft, row * vocabulary, 1);
    } else {
      subtract(p, scale, drawn[thread], 0, draftScale);
    }
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private static void subtract(float[] p, float scale, float[] q, int from, float factor) {
    for (int i = 0; i < p.length; i += COUNT) {
      FloatVector.fromArray(FLOATS, p, i)
          .mul(scale)
          .sub(FloatVector.fromArray(FLOATS, q, from + i).mul(factor))
          .max(0f)
          .intoArray(p, i);
    }
  }

  /** From the shares that `kept` has left: blocks are skipped until the one that has it. */
  private int draw(int s, int thread) {
    float[] shares = target[thread];
    double left = uniform[s * (most + 1) + most] * sum(shares, 0, vocabulary);
    int block = 1024;
    int i = 0;
    for (; i + block < vocabulary; i += block) {
      double of = sum(shares, i, i + block);
      if (of > left) {
        break;
      }
      left -= of;
    }
    int last = 0;
    for (; i < vocabulary; i++) {
      if (shares[i] > 0) {
        last = i;
        left -= shares[i];
        if (left < 0) {
          break;
        }
      }
    }
    return last;
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private static double sum(float[] values, int from, int to) {
    FloatVector sum = FloatVector.zero(FLOATS);
    FloatVector other = sum;
    int i = from;
    for (; i + 2 * COUNT <= to; i += 2 * COUNT) {
      sum = sum.add(FloatVector.fromArray(FLOATS, values, i));
      other = other.add(FloatVector.fromArray(FLOATS, values, i + COUNT));
    }
    double all = sum.add(other).reduceLanes(VectorOperators.ADD);
    for (; i < to; i++) {
      all += values[i];
    }
    return all;
  }

  @Override
  public void deliver() {
    Problem.put(p.accepted(), accepted);
    Problem.put(p.token(), token);
    Problem.put(p.out(), out);
    Problem.put(p.out_count(), outCount);
    Problem.put(p.last_row(), lastRow);
    Problem.put(p.outcome(), outcome);
    Problem.put(p.length(), length);
    Problem.put(p._position(), position);
    if (active != null) {
      Problem.put(p.active(), active);
    }
  }
}
