// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.function.IntConsumer;
import org.bytedeco.javacpp.FloatPointer;
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
 * In a process of its own, which has the compiler that programs have.
 */
@ExtendWith(ForcedPath.class)
class CallCostTest {
  private static final int WARM_UP = 20_000;

  /** Some 100 microseconds: most bursts are over before anything else takes the core. */
  private static final int CALLS = 500;

  private static final int BURSTS = 2_000;
  private static final int TRIES = 50;
  private static final double PROMISED_NS = 100;

  /** Machines on which the native call is slow are slow here, too. */
  private static double promised(double bareNs) {
    return Math.max(PROMISED_NS, 2 * bareNs);
  }

  @Test
  void facadeOverNativeMethod() {
    check("a tensor");
  }

  /** A run holds the pointer so that it is not freed; both tensors are over the same one. */
  @Test
  void facadeOverNativeMethodWithAPointer() {
    check("a pointer");
  }

  private static void check(String over) {
    String output = Subprocess.of(CallCostTest.class, over).option("-XX:TieredStopAtLevel=4").run();
    System.out.print(output);
    assertTrue(output.contains("call cost: "), output);
  }

  /** Ends with an error if a call costs more than is promised. */
  public static void main(String[] arguments) {
    if (arguments[0].equals("a pointer")) {
      overAPointer();
    } else {
      overATensor();
    }
  }

  private static void overATensor() {
    try (Scope scope = Scope.open()) {
      Tensor a = scope.allocate(Device.CPU, DType.F32, 1, 16);
      Tensor out = scope.allocate(Device.CPU, DType.F32, 1);
      measure("Cosine.run", scope, a, out);
    }
  }

  private static void overAPointer() {
    try (Scope scope = Scope.open(); FloatPointer pointer = new FloatPointer(16)) {
      Tensor a = Tensor.of(pointer, DType.F32, Device.CPU, 1, 16).copyFrom(new float[16]);
      Tensor out = scope.allocate(Device.CPU, DType.F32, 1);
      measure("Cosine.run over a pointer", scope, a, out);
    }
  }

  private static void measure(String what, Scope scope, Tensor a, Tensor out) {
    try (PointerScope pointers = new PointerScope()) {
      Cosine op = Cosine.builder().a(a).b(a).out(out).build(scope);
      warmUpOtherOps(scope, out);
      exn_cosine_params params = new exn_cosine_params();
      params.struct_size(params.sizeof());
      params.a(dl(a)).b(params.a()).out(dl(out));
      long address = params.address();
      IntConsumer bare = calls -> {
        int failures = 0;
        for (int i = 0; i < calls; i++) {
          failures |= exeunt.exn_cosine(address, 0, 0, 0);
        }
        assertTrue(failures == 0);
      };
      IntConsumer facade = calls -> {
        for (int i = 0; i < calls; i++) {
          op.run(Stream.DEFAULT);
        }
      };
      double[] ns = {0, Double.MAX_VALUE};
      for (int i = 0; i < TRIES && ns[1] - ns[0] >= promised(ns[0]); i++) {
        ns = fastest(bare, facade);
        System.out.printf(
            "call cost: bare native method %.1f ns, %s %.1f ns, facade %.1f ns (16 elements,"
                + " fastest of %d)%n",
            ns[0], what, ns[1], ns[1] - ns[0], BURSTS);
      }
      assertTrue(ns[1] - ns[0] < promised(ns[0]), Arrays.toString(ns));
    }
  }

  /** Programs run several kinds of op: calls inside {@code Op.run} must not stay monomorphic. */
  private static void warmUpOtherOps(Scope scope, Tensor out) {
    Tensor a = scope.allocate(Device.CPU, DType.F32, 1, 16);
    Tensor square = scope.allocate(Device.CPU, DType.F32, 1, 16);
    Op[] ops = {StableMax.forward().logits(a).out(square).build(scope),
        PerpGrad.builder().weight(a).grad(a).out(square).build(scope),
        Gate.builder().features(a).output(a, null).prob(out).build(scope)};
    for (int i = 0; i < WARM_UP; i++) {
      for (Op op : ops) {
        op.run(Stream.DEFAULT);
      }
    }
  }

  private static double[] fastest(IntConsumer... programs) {
    double[] ns = new double[programs.length];
    Arrays.fill(ns, Double.MAX_VALUE);
    for (int burst = 0; burst < BURSTS; burst++) {
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
