// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.exeunt.Backend;
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
 * A benchmark of one op: every contender on every case of the op's table. The contender's result
 * is checked before anything is timed; a mismatch stops the case.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
public abstract class OpBenchmark {
  /** Id of the case in the table of the op. */
  @Param({})
  public String id;

  /** Who runs it; see {@link Contenders#of}. */
  @Param({"exeunt", "onnxruntime", "vector"})
  public String contender;

  /** Threads that a run may use. */
  @Param({"1", "2"})
  public int threads;

  /** Where its large operands are; see {@link Operands}. */
  @Param({"cache", "memory"})
  public String operands;

  private Contender<?> running;

  /** The case table of the op. */
  abstract String op();

  /** Sets the contender up on the case and has its result checked with {@link #checked}. */
  abstract Prepared prepare(BenchCase benchCase, Contenders contenders);

  @Setup
  public void setUp() {
    Backend.setThreads(threads);
    BenchCase benchCase = CaseTable.load(op()).get(id);
    boolean memory = Operands.of(operands) == Operands.MEMORY;
    int copies =
        memory ? Streamed.copies(Streamed.bytes(benchCase), LastLevelCache.bytes()) : 1;
    Prepared prepared = prepare(benchCase, Contenders.of(contender, copies));
    running = prepared.contender;
    WarmUp.run(running, contender.equals(Plan.JAVA), copies);
    if (contender.equals(Plan.OURS)) {
      // Peers are compared with exeunt, which runs on every case.
      Limit.arm(prepared, memory, Streamed.destinations(benchCase));
    }
  }

  @TearDown
  public void tearDown() {
    running.close();
  }

  @Benchmark
  public Object run() {
    return running.run();
  }

  /** Runs once and compares with the reference, which throws if they differ. */
  static <R> Prepared checked(Contender<R> contender, Consumer<R> reference, long bytes) {
    return checked(contender, reference, bytes, 0);
  }

  /** Of the bytes, {@code moved} are written elsewhere as they were read, and count twice. */
  static <R> Prepared checked(
      Contender<R> contender, Consumer<R> reference, long bytes, long moved) {
    contender.run();
    reference.accept(contender.result());
    return new Prepared(contender, bytes, moved, 0);
  }

  /**
   * A contender whose result is right, the bytes that its op must read, write and move, and the
   * multiply-adds that it must do; 0 for an op that does few for each byte.
   */
  record Prepared(Contender<?> contender, long bytes, long moved, long multiplyAdds) {
    Prepared computing(long number) {
      return new Prepared(contender, bytes, moved, number);
    }
  }
}
