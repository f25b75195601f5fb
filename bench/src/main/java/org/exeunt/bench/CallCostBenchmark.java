// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.util.concurrent.TimeUnit;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.exeunt.Backend;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.reference.CosineProblem;
import org.exeunt.bench.reference.Matrix;
import org.exeunt.bench.reference.Storage;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_cosine_params;
import org.exeunt.jni.global.exeunt;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/**
 * What a call from Java adds to a kernel: the smallest native call, the cosine of two rows of 16
 * elements through the raw binding, and the same through the API. The API's cost over the kernel
 * is (API - raw binding) + the smallest native call.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
public class CallCostBenchmark {
  private static final int ELEMENTS = 16;

  /** What is called. */
  @Param({"empty", "binding", "exeunt", "onnxruntime"}) public String contender;

  /** Only 1: so little work is never split. */
  @Param({"1"}) public int threads;

  private Call call;
  private PointerScope pointers;
  private Contender<float[]> contenderRunning;

  /** A call without arguments or results. */
  private interface Call {
    int call();
  }

  @Setup
  public void setUp() {
    Backend.setThreads(threads);
    Matrix a = Matrix.normal(1, ELEMENTS, Storage.F32, 1, 1, 0);
    CosineProblem problem = new CosineProblem(a, Matrix.near(a, 1, 1));
    switch (contender) {
      case "empty":
        call = exeunt::exn_abi_version;
        break;
      case "binding":
        call = binding(problem);
        break;
      default:
        contenderRunning = Lineup.of(contender).on(problem, threads);
        contenderRunning.run();
        problem.check(contenderRunning.result());
        call = this::runContender;
    }
  }

  private int runContender() {
    contenderRunning.run();
    return 0;
  }

  /** The raw binding with a params struct that was filled once. */
  private Call binding(CosineProblem problem) {
    pointers = new PointerScope();
    FloatPointer out = new FloatPointer(1);
    exn_cosine_params params = new exn_cosine_params();
    params.struct_size(params.sizeof());
    params.a(tensor(new FloatPointer(problem.a.values()), 1, ELEMENTS));
    params.b(tensor(new FloatPointer(problem.b.values()), 1, ELEMENTS));
    params.out(tensor(out, 1));
    long address = params.address();
    long[] bytes = new long[1];
    require(exeunt.exn_cosine_workspace_size(address, bytes));
    long workspace = bytes[0] == 0 ? 0 : new BytePointer(bytes[0]).address();
    require(exeunt.exn_cosine(address, workspace, bytes[0], 0));
    problem.check(new float[] {out.get(0)});
    return () -> exeunt.exn_cosine(address, workspace, bytes[0], 0);
  }

  private static void require(int status) {
    if (status != exeunt.EXN_OK) {
      throw new IllegalStateException(exeunt.exn_last_error());
    }
  }

  private static DLTensor tensor(Pointer data, long... shape) {
    DLTensor tensor = new DLTensor();
    tensor.data(data);
    tensor.device().device_type(exeunt.kDLCPU).device_id(0);
    tensor.ndim(shape.length);
    tensor.dtype().code((byte) exeunt.kDLFloat).bits((byte) 32).lanes((short) 1);
    tensor.shape(new LongPointer(shape));
    tensor.strides(null);
    tensor.byte_offset(0);
    return tensor;
  }

  @TearDown
  public void tearDown() {
    if (pointers != null) {
      pointers.close();
    }
    if (contenderRunning != null) {
      contenderRunning.close();
    }
  }

  @Benchmark
  public int run() {
    return call.call();
  }
}
