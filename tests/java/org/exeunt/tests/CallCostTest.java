// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.function.IntConsumer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.exeunt.Cosine;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Gate;
import org.exeunt.Op;
import org.exeunt.PerpGrad;
import org.exeunt.Scope;
import org.exeunt.StableMax;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_cosine_params;
import org.exeunt.jni.global.exeunt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * What a run through the facade costs over the bare native method, on the smallest kernel there is.
 */
@ExtendWith(ForcedPath.class)
class CallCostTest {
  private static final int CALLS = 20_000;
  private static final int BATCHES = 200;

  /** The promise is 100 ns; this bound holds on a machine that is busy with something else. */
  private static final double GENEROUS_NS = 1000;

  @Test
  void facadeOverNativeMethod() {
    try (Scope scope = Scope.open();
        PointerScope pointers = new PointerScope()) {
      Tensor a = scope.allocate(Device.CPU, DType.F32, 1, 16);
      Tensor out = scope.allocate(Device.CPU, DType.F32, 1);
      Cosine op = Cosine.builder().a(a).b(a).out(out).build(scope);
      warmUpOtherOps(scope, a, out);
      exn_cosine_params params = new exn_cosine_params();
      params.struct_size(params.sizeof());
      params.a(dl(a)).b(params.a()).out(dl(out));
      long address = params.address();
      IntConsumer bare =
          calls -> {
            int failures = 0;
            for (int i = 0; i < calls; i++) {
              failures |= exeunt.exn_cosine(address, 0, 0, 0);
            }
            assertTrue(failures == 0);
          };
      IntConsumer facade =
          calls -> {
            for (int i = 0; i < calls; i++) {
              op.run(Stream.DEFAULT);
            }
          };
      double[] ns = fastest(bare, facade);
      System.out.printf(
          "call cost: bare native method %.1f ns, Cosine.run %.1f ns, facade %.1f ns (16 elements,"
              + " fastest of %d)%n",
          ns[0], ns[1], ns[1] - ns[0], BATCHES);
      assertTrue(ns[1] - ns[0] < GENEROUS_NS, Arrays.toString(ns));
    }
  }

  /** Programs run several kinds of op: calls inside {@code Op.run} must not stay monomorphic. */
  private static void warmUpOtherOps(Scope scope, Tensor a, Tensor out) {
    Tensor square = scope.allocate(Device.CPU, DType.F32, 1, 16);
    Op[] ops = {
      StableMax.forward().logits(a).out(square).build(scope),
      PerpGrad.builder().weight(a).grad(a).out(square).build(scope),
      Gate.builder().features(a).output(a, null).prob(out).build(scope)
    };
    for (int i = 0; i < CALLS; i++) {
      for (Op op : ops) {
        op.run(Stream.DEFAULT);
      }
    }
  }

  private static double[] fastest(IntConsumer... programs) {
    double[] ns = new double[programs.length];
    Arrays.fill(ns, Double.MAX_VALUE);
    for (int batch = 0; batch < BATCHES; batch++) {
      for (int p = 0; p < programs.length; p++) {
        long start = System.nanoTime();
        programs[p].accept(CALLS);
        ns[p] = Math.min(ns[p], (double) (System.nanoTime() - start) / CALLS);
      }
    }
    return ns;
  }

  private static DLTensor dl(Tensor t) {
    DLTensor dl = new DLTensor();
    dl.data(new Address(t.address())).ndim(t.rank()).shape(new LongPointer(t.shape()));
    dl.strides(null).byte_offset(0);
    dl.device().device_type(exeunt.kDLCPU).device_id(0);
    dl.dtype().code((byte) exeunt.kDLFloat).bits((byte) 32).lanes((short) 1);
    return dl;
  }

  private static final class Address extends Pointer {
    Address(long address) {
      this.address = address;
    }
  }
}
