// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import static org.exeunt.bench.vector.lanes.Lanes.COUNT;
import static org.exeunt.bench.vector.lanes.Lanes.FLOATS;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.Lanes;
import org.exeunt.bench.vector.lanes.VectorPeer;
import org.exeunt.cases.Facade;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_ssm_step_params;
import org.exeunt.jni.global.exeunt;
import org.openjdk.jmh.annotations.CompilerControl;

/**
 * A step of Mamba's convolution or scan. Channels are shared out among the workers, and lie side by
 * side: this peer keeps states and weights as [.., N, Di], so that a vector is of channels.
 */
final class VectorSsmStep extends VectorPeer {
  private final exn_ssm_step_params p;
  private final boolean scans;
  private final int rows;
  private final int channels;
  private final int width;
  private final int states;
  private final int[] sequence;
  private final float[] state;
  private final float[] weight;
  private final float[] bias;
  private final float[] skip;
  private final Rows x;
  private final Rows dt;
  private final Rows z;
  private final float[] b;
  private final float[] c;
  private final float[] out;
  private final short[] outHalves;

  /** Rows of one of the two types; the other array is null. */
  private record Rows(float[] wide, short[] halves) {
    static Rows of(DLTensor dl) {
      Matrix m = Matrix.of(dl);
      return m.halves() == null ? new Rows(m.values(), null) : new Rows(null, m.halves());
    }

    FloatVector at(int from) {
      return Lanes.load(wide, halves, from);
    }
  }

  VectorSsmStep(Problem problem, int threads) {
    super(threads);
    p = problem.params(exn_ssm_step_params::new);
    scans = p.stage() == exeunt.EXN_SSM_SCAN;
    Matrix input = Matrix.of(p.x());
    Matrix kernel = Matrix.of(p.weight());
    rows = input.rows();
    channels = input.cols();
    width = kernel.cols();
    boolean whole = p.bias() != null && (!scans || p.skip() != null && p.z() != null);
    if (!whole || p.active() != null || channels % COUNT != 0) {
      throw new UnsupportedOperationException("the Vector API peer steps whole vectors and blocks");
    }
    states = Matrix.of(p.state()).rows();
    sequence = p.sequence() == null ? new int[rows] : Facade.tensor(p.sequence()).toIntArray();
    weight = kernel.transposed();
    state = turned(Matrix.of(p.state()).values(), channels, width);
    bias = Matrix.of(p.bias()).values();
    x = Rows.of(p.x());
    skip = scans ? Matrix.of(p.skip()).values() : null;
    dt = scans ? Rows.of(p.dt()) : null;
    z = scans ? Rows.of(p.z()) : null;
    b = scans ? Matrix.of(p.b()).values() : null;
    c = scans ? Matrix.of(p.c()).values() : null;
    boolean f32 = Matrix.of(p.out()).halves() == null;
    out = f32 ? new float[rows * channels] : null;
    outHalves = f32 ? null : new short[rows * channels];
  }

  /** Each state's matrix transposed. */
  private float[] turned(float[] values, int from, int to) {
    float[] result = new float[values.length];
    for (int s = 0; s < states; s++) {
      for (int i = 0; i < from; i++) {
        for (int j = 0; j < to; j++) {
          result[(s * to + j) * from + i] = values[(s * from + i) * to + j];
        }
      }
    }
    return result;
  }

  @Override
  public Object run() {
    workers.run(thread -> {
      int from = COUNT * workers.begin(thread, channels / COUNT);
      int to = COUNT * workers.begin(thread + 1, channels / COUNT);
      for (int r = 0; r < rows; r++) {
        if (scans) {
          scan(r, from, to);
        } else {
          convolve(r, from, to);
        }
      }
    });
    return state;
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private void scan(int r, int from, int to) {
    int own = sequence[r] * width * channels;
    for (int d = from; d < to; d += COUNT) {
      FloatVector v = dt.at(r * channels + d).add(FloatVector.fromArray(FLOATS, bias, d));
      FloatVector tail = Lanes.exp(v.abs().neg()).lanewise(VectorOperators.LOG1P);
      FloatVector step = v.max(0f).add(tail);
      FloatVector in = x.at(r * channels + d);
      FloatVector taken = step.mul(in);
      FloatVector sum = FloatVector.fromArray(FLOATS, skip, d).mul(in);
      for (int i = 0; i < width; i++) {
        int at = own + i * channels + d;
        FloatVector a = FloatVector.fromArray(FLOATS, weight, i * channels + d);
        FloatVector h =
            FloatVector.fromArray(FLOATS, state, at)
                .fma(Lanes.exp(step.mul(a)), taken.mul(b[r * width + i]));
        h.intoArray(state, at);
        sum = h.fma(FloatVector.broadcast(FLOATS, c[r * width + i]), sum);
      }
      store(sum.mul(silu(z.at(r * channels + d))), r * channels + d);
    }
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private void convolve(int r, int from, int to) {
    int own = sequence[r] * width * channels;
    for (int d = from; d < to; d += COUNT) {
      FloatVector sum = FloatVector.fromArray(FLOATS, bias, d);
      for (int k = 0; k < width; k++) {
        int at = own + k * channels + d;
        FloatVector in = k + 1 < width
            ? FloatVector.fromArray(FLOATS, state, at + channels)
            : x.at(r * channels + d);
        in.intoArray(state, at);
        sum = in.fma(FloatVector.fromArray(FLOATS, weight, k * channels + d), sum);
      }
      store(silu(sum), r * channels + d);
    }
  }

  @CompilerControl(CompilerControl.Mode.INLINE)
  private static FloatVector silu(FloatVector v) {
    FloatVector e = Lanes.exp(v.abs().neg());
    FloatVector share =
        FloatVector.broadcast(FLOATS, 1f).blend(e, v.compare(VectorOperators.LT, 0f));
    return v.mul(share).div(e.add(1f));
  }

  @CompilerControl(CompilerControl.Mode.INLINE)
  private void store(FloatVector v, int at) {
    if (out != null) {
      v.intoArray(out, at);
    } else {
      Lanes.narrow(v, outHalves, at);
    }
  }

  @Override
  public void deliver() {
    Problem.put(p.state(), turned(state, width, channels));
    if (out != null) {
      Problem.put(p.out(), out);
    } else {
      Facade.tensor(p.out()).shortBuffer().put(outHalves);
    }
  }
}
