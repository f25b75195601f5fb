// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import static org.exeunt.bench.vector.lanes.Lanes.COUNT;
import static org.exeunt.bench.vector.lanes.Lanes.FLOATS;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import org.exeunt.DType;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.Lanes;
import org.exeunt.bench.vector.lanes.VectorPeer;
import org.exeunt.bench.vector.lanes.VectorRows;
import org.exeunt.cases.Facade;
import org.exeunt.jni.exn_elr_params;
import org.exeunt.jni.global.exeunt;
import org.openjdk.jmh.annotations.CompilerControl;

/** ELR's targets, mean loss and gradient: rows shared out among the workers, four passes each. */
final class VectorElr extends VectorPeer {
  private static final float LEAST = 1e-4f;
  private static final float MOST = 1 - 1e-4f;

  private final exn_elr_params p;
  private final int rows;
  private final int cols;
  private final float[] logits;
  private final int[] labels;
  private final int[] index;
  private final float beta;
  private final float lambda;
  private final float[] targets;
  private final float[] grad;
  private final double[] losses;
  private final Row[] parts;
  private float loss;

  VectorElr(Problem problem, int threads) {
    super(threads);
    p = problem.params(exn_elr_params::new);
    Matrix z = Matrix.of(p.logits());
    rows = z.rows();
    cols = z.cols();
    if (z.storage() != DType.F32 || p.reduction() != exeunt.EXN_REDUCE_MEAN) {
      throw new UnsupportedOperationException("the Vector API peer has the mean of f32");
    }
    logits = z.values();
    labels = Facade.tensor(p.labels()).toIntArray();
    index = Facade.tensor(p.index()).toIntArray();
    beta = p.beta();
    lambda = p.lambda();
    targets = Matrix.of(p.targets()).values();
    grad = new float[rows * cols];
    losses = new double[rows];
    parts = new Row[workers.threads()];
    for (int thread = 0; thread < parts.length; thread++) {
      parts[thread] = new Row();
    }
  }

  @Override
  public Object run() {
    workers.run(thread -> {
      for (int r = workers.begin(thread, rows); r < workers.begin(thread + 1, rows); r++) {
        losses[r] = parts[thread].run(r);
      }
    });
    double sum = 0;
    for (double of : losses) {
      sum += of;
    }
    loss = (float) (sum / rows);
    return grad;
  }

  /** What a worker has of its row: the gradient's place holds probabilities until the last pass. */
  private final class Row {
    private float seen;
    private float passed;

    double run(int r) {
      int from = r * cols;
      int to = index[r] * cols;
      float max = VectorRows.max(logits, from, from + cols);
      double sum = VectorRows.exponentials(logits, from, from + cols, max, grad, from);
      float clamped = clampedSum(from, (float) (1 / sum));
      moveTarget(from, to, (1 - beta) / clamped);
      float rest = 1 - seen;
      pull(from, to, 1f / rows, lambda / rest);
      grad[from + labels[r]] -= 1f / rows;
      return Math.log(sum) + max - logits[from + labels[r]] + lambda * Math.log(rest);
    }

    /** p *= factor; returns the sum of what the clamp makes of them. */
    @CompilerControl(CompilerControl.Mode.DONT_INLINE)
    private float clampedSum(int from, float factor) {
      int whole = Lanes.whole(cols, COUNT);
      FloatVector sums = FloatVector.zero(FLOATS);
      for (int i = from; i < from + whole; i += COUNT) {
        FloatVector q = FloatVector.fromArray(FLOATS, grad, i).mul(factor);
        q.intoArray(grad, i);
        sums = sums.add(q.max(LEAST).min(MOST));
      }
      float sum = sums.reduceLanes(VectorOperators.ADD);
      for (int i = from + whole; i < from + cols; i++) {
        grad[i] *= factor;
        sum += Math.min(Math.max(grad[i], LEAST), MOST);
      }
      return sum;
    }

    @CompilerControl(CompilerControl.Mode.DONT_INLINE)
    private void moveTarget(int from, int to, float taken) {
      int whole = Lanes.whole(cols, COUNT);
      FloatVector seenOf = FloatVector.zero(FLOATS);
      FloatVector passedOf = seenOf;
      for (int i = 0; i < whole; i += COUNT) {
        FloatVector q = FloatVector.fromArray(FLOATS, grad, from + i);
        FloatVector c = q.max(LEAST).min(MOST);
        FloatVector t = FloatVector.fromArray(FLOATS, targets, to + i).mul(beta).add(c.mul(taken));
        t.intoArray(targets, to + i);
        FloatVector product = t.mul(c);
        seenOf = seenOf.add(product);
        VectorMask<Float> free = q.compare(VectorOperators.EQ, c);
        passedOf = passedOf.add(FloatVector.zero(FLOATS).blend(product, free));
      }
      seen = seenOf.reduceLanes(VectorOperators.ADD);
      passed = passedOf.reduceLanes(VectorOperators.ADD);
      for (int i = whole; i < cols; i++) {
        float q = grad[from + i];
        float c = Math.min(Math.max(q, LEAST), MOST);
        float t = beta * targets[to + i] + c * taken;
        targets[to + i] = t;
        seen += t * c;
        passed += q == c ? t * c : 0;
      }
    }

    /** The gradient but for the label's 1. */
    @CompilerControl(CompilerControl.Mode.DONT_INLINE)
    private void pull(int from, int to, float share, float pull) {
      int whole = Lanes.whole(cols, COUNT);
      for (int i = 0; i < whole; i += COUNT) {
        FloatVector q = FloatVector.fromArray(FLOATS, grad, from + i);
        FloatVector t = FloatVector.fromArray(FLOATS, targets, to + i);
        VectorMask<Float> free = q.compare(VectorOperators.EQ, q.max(LEAST).min(MOST));
        FloatVector own = FloatVector.zero(FLOATS).blend(t, free);
        FloatVector factor = FloatVector.broadcast(FLOATS, passed).sub(own).mul(pull).add(1f);
        q.mul(factor).mul(share).intoArray(grad, from + i);
      }
      for (int i = whole; i < cols; i++) {
        float q = grad[from + i];
        float own = q >= LEAST && q <= MOST ? targets[to + i] : 0;
        grad[from + i] = q * (1 + pull * (passed - own)) * share;
      }
    }
  }

  @Override
  public void deliver() {
    Problem.put(p.loss(), new float[] {loss});
    Problem.put(p.grad(), grad);
    Problem.put(p.targets(), targets);
  }
}
