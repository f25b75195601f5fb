// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;
import org.exeunt.Backend;
import org.exeunt.Device;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.measure.Between;
import org.exeunt.bench.measure.Bursts;
import org.exeunt.bench.measure.Callers;
import org.exeunt.bench.measure.LastLevelCache;
import org.exeunt.bench.measure.Limit;
import org.exeunt.bench.measure.Neighbour;
import org.exeunt.bench.measure.Operands;
import org.exeunt.bench.measure.Streamed;
import org.exeunt.bench.measure.Turns;
import org.exeunt.bench.measure.WarmUp;
import org.exeunt.cases.Cases;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.infra.ThreadParams;

/**
 * Every contender on every case of every op, in every scene. The contender's result is checked
 * before anything is timed; a mismatch stops the case.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
public class OpBenchmark {
  private static final CyclicBarrier CALLERS = new CyclicBarrier(Scene.CALLERS.callers());

  /** The op, whose case table is read. */
  @Param({}) public String op;

  /** Id of the case in the table of the op. */
  @Param({}) public String id;

  /** Who runs it; see {@link Lineup#of}. */
  @Param({"exeunt", "onnxruntime", "vector", "cuda"}) public String contender;

  /** Threads that a run may use. */
  @Param({"1", "2"}) public int threads;

  /** Where its large operands are; see {@link Operands}. */
  @Param({"cache", "memory", "device"}) public String operands;

  /** What goes on around the calls; see {@link Scene}. */
  @Param({"loop", "bursts", "neighbour", "callers"}) public String scene;

  private Problem problem;
  private Contender running;
  private Between between;

  @Setup
  public void setUp(ThreadParams thread) {
    Backend.setThreads(threads);
    Cases.Listed benchCase = Problem.find(op, id);
    boolean memory = Operands.of(operands) == Operands.MEMORY;
    int copies = memory ? Streamed.copies(Streamed.bytes(benchCase), LastLevelCache.bytes()) : 1;
    boolean destinations = Streamed.destinations(benchCase);
    boolean device = Operands.of(operands) == Operands.DEVICE;
    problem = new Problem(benchCase, device ? Device.cuda(0) : Device.CPU);
    running = Lineup.of(contender, copies, destinations).on(problem, threads);
    running.run();
    problem.check(running);
    WarmUp.run(running, contender.equals(Plan.JAVA), copies);
    between = between(memory, destinations, thread.getThreadIndex());
    Limit.add(between);
  }

  private Between between(boolean memory, boolean destinations, int caller) {
    switch (Scene.of(scene)) {
      case BURSTS:
        return new Bursts();
      case NEIGHBOUR:
        return new Neighbour();
      case CALLERS:
        return new Callers(running, caller, CALLERS);
      default:
        // Peers are compared with exeunt, which runs on every case; the limit is the CPU's.
        return contender.equals(Plan.OURS) && problem.device().equals(Device.CPU)
            ? new Turns(running, problem, memory, destinations)
            : new Between() {};
    }
  }

  @Setup(Level.Iteration)
  public void begin() {
    between.begin();
  }

  @Setup(Level.Invocation)
  public void before() {
    between.before();
  }

  @TearDown(Level.Invocation)
  public void after() {
    between.after();
  }

  @TearDown
  public void tearDown() {
    between.close();
    running.close();
    problem.close();
  }

  @Benchmark
  public Object run() {
    return running.run();
  }
}
