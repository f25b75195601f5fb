// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.util.concurrent.TimeUnit;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.PointerScope;
import org.exeunt.Backend;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Problem;
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
  /** What is called. */
  @Param({"empty", "binding", "exeunt", "onnxruntime"}) public String contender;

  /** Only 1: so little work is never split. */
  @Param({"1"}) public int threads;

  private Problem problem;
  private Call call;
  private PointerScope pointers;
  private Contender contenderRunning;

  /** A call without arguments or results. */
  private interface Call {
    int call();
  }

  @Setup
  public void setUp() {
    Backend.setThreads(threads);
    problem = new Problem(Problem.find("cosine", "call_16"));
    switch (contender) {
      case "empty":
        call = exeunt::exn_abi_version;
        break;
      case "binding":
        call = binding();
        break;
      default:
        contenderRunning = Lineup.of(contender).on(problem, threads);
        contenderRunning.run();
        problem.check(contenderRunning);
        call = this::runContender;
    }
  }

  private int runContender() {
    contenderRunning.run();
    return 0;
  }

  /** The raw binding with a params struct that was filled once. */
  private Call binding() {
    pointers = new PointerScope();
    long address = problem.opened().params(0);
    long[] bytes = new long[1];
    require(exeunt.exn_cosine_workspace_size(address, bytes));
    long workspace = bytes[0] == 0 ? 0 : new BytePointer(bytes[0]).address();
    require(exeunt.exn_cosine(address, workspace, bytes[0], 0));
    problem.check();
    return () -> exeunt.exn_cosine(address, workspace, bytes[0], 0);
  }

  private static void require(int status) {
    if (status != exeunt.EXN_OK) {
      throw new IllegalStateException(exeunt.exn_last_error());
    }
  }

  @TearDown
  public void tearDown() {
    if (pointers != null) {
      pointers.close();
    }
    if (contenderRunning != null) {
      contenderRunning.close();
    }
    problem.close();
  }

  @Benchmark
  public int run() {
    return call.call();
  }
}
