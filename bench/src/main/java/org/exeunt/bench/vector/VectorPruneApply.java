// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import java.util.ArrayList;
import java.util.List;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorSpecies;
import org.exeunt.DType;
import org.exeunt.Tensor;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.Lanes;
import org.exeunt.bench.vector.lanes.VectorPeer;
import org.exeunt.cases.Facade;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_prune_apply_params;
import org.exeunt.jni.exn_prune_apply_tensor;
import org.openjdk.jmh.annotations.CompilerControl;

/** Zeros by a mask, in place; elements shared out among the workers. */
final class VectorPruneApply extends VectorPeer {
  private static final VectorSpecies<Short> SHORTS = ShortVector.SPECIES_PREFERRED;

  /** A tensor; one of the arrays is null. */
  private record Values(DLTensor target, float[] wide, short[] halves) {}

  private final List<Values> tensors = new ArrayList<>();
  private final boolean[] mask;

  VectorPruneApply(Problem problem, int threads) {
    super(threads);
    exn_prune_apply_params p = problem.params(exn_prune_apply_params::new);
    exn_prune_apply_tensor t = p.tensors();
    int[] words = Facade.tensor(t.mask()).toIntArray();
    if (p.tensor_count() != 1 || words.length % SHORTS.length() != 0) {
      throw new UnsupportedOperationException("the Vector API peer prunes whole vectors");
    }
    mask = new boolean[words.length];
    for (int i = 0; i < mask.length; i++) {
      mask[i] = words[i] != 0;
    }
    for (DLTensor target : new DLTensor[] {t.weight(), t.grad(), t.momentum(), t.variance()}) {
      if (target != null) {
        tensors.add(values(target));
      }
    }
  }

  /** Bit by bit. */
  private Values values(DLTensor target) {
    Tensor tensor = Facade.tensor(target);
    if (tensor.dtype() == DType.F32) {
      return new Values(target, tensor.toFloatArray(), null);
    }
    short[] halves = new short[mask.length];
    tensor.shortBuffer().get(halves);
    return new Values(target, null, halves);
  }

  @Override
  public Object run() {
    workers.run(thread -> {
      int units = mask.length / SHORTS.length();
      int from = SHORTS.length() * workers.begin(thread, units);
      int to = SHORTS.length() * workers.begin(thread + 1, units);
      for (Values values : tensors) {
        if (values.wide != null) {
          zero(mask, values.wide, from, to);
        } else {
          zero(mask, values.halves, from, to);
        }
      }
    });
    return tensors;
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private static void zero(boolean[] mask, float[] values, int from, int to) {
    FloatVector nothing = FloatVector.zero(Lanes.FLOATS);
    for (int i = from; i < to; i += Lanes.COUNT) {
      nothing
          .blend(FloatVector.fromArray(Lanes.FLOATS, values, i),
              VectorMask.fromArray(Lanes.FLOATS, mask, i))
          .intoArray(values, i);
    }
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private static void zero(boolean[] mask, short[] values, int from, int to) {
    ShortVector nothing = ShortVector.zero(SHORTS);
    for (int i = from; i < to; i += SHORTS.length()) {
      nothing.blend(ShortVector.fromArray(SHORTS, values, i), VectorMask.fromArray(SHORTS, mask, i))
          .intoArray(values, i);
    }
  }

  @Override
  public void deliver() {
    for (Values values : tensors) {
      if (values.wide != null) {
        Problem.put(values.target, values.wide);
      } else {
        Facade.tensor(values.target).shortBuffer().put(values.halves);
      }
    }
  }
}
