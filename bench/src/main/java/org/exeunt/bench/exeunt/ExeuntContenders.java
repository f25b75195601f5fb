// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.exeunt;

import java.nio.IntBuffer;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Op;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Contenders;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.cases.Cases;
import org.exeunt.cases.Facade;
import org.exeunt.cases.OpCase;
import org.exeunt.jni.exn_hidden_stack_params;
import org.exeunt.jni.exn_kv_length_params;
import org.exeunt.jni.global.exeunt;

/**
 * The library under test, through its Java API: every op on its case's own tensors. Large operands
 * exist in copies, one after another in memory on huge pages, as the layers of a model that was
 * loaded lie; each run takes the next.
 */
public final class ExeuntContenders extends Contenders {
  /** Less memory than this does not come on huge pages. */
  private static final long HUGE_PAGE = 2 << 20;

  private final int copies;
  private final boolean destinations;

  /** On the same operands at each run. */
  public ExeuntContenders() {
    this(1, false);
  }

  /** On the next of so many copies; of outputs too where each layer has some of its own. */
  public ExeuntContenders(int copies, boolean destinations) {
    this.copies = copies;
    this.destinations = destinations;
  }

  @Override
  public boolean offers(Cases.Listed benchCase) {
    return Facade.ops().contains(benchCase.op());
  }

  @Override
  public Contender on(Problem problem, int threads) {
    return problem.device().equals(Device.CPU) ? new Calls(problem) : new DeviceCalls(problem);
  }

  /** The calls of a case on its own device; a run waits until they are done. */
  private static final class DeviceCalls implements Contender {
    private final Scope scope = Scope.open();
    private final Stream stream;
    private final Op[] ops;

    DeviceCalls(Problem problem) {
      OpCase opened = problem.opened();
      stream = Stream.create(problem.device());
      ops = new Op[opened.calls()];
      for (int call = 0; call < ops.length; call++) {
        ops[call] = Facade.builder(opened.op(call), opened.params(call)).build(scope);
      }
    }

    @Override
    public Object run() {
      for (Op op : ops) {
        op.run(stream);
      }
      stream.synchronize();
      return ops;
    }

    @Override
    public void close() {
      scope.close();
      stream.close();
    }
  }

  /** The calls of a case, built for each copy of its large operands. */
  private final class Calls implements Contender {
    private final Scope scope = Scope.open();
    private final Op[][] ops = new Op[copies][];
    private final IntBuffer words;
    private final int[] start;
    private int last = copies - 1;

    Calls(Problem problem) {
      OpCase opened = problem.opened();
      long stride = opened.streamedBytes(destinations);
      long address = scope.allocate(DType.U8, Math.max(HUGE_PAGE, copies * stride)).address();
      int first = setUpOnce(opened);
      // The first one comes last: it is where the case is judged.
      for (int copy = copies - 1; copy >= 0; copy--) {
        opened.moveTo(address + copy * stride, destinations);
        ops[copy] = new Op[opened.calls() - first];
        for (int call = first; call < opened.calls(); call++) {
          ops[copy][call - first] =
              Facade.builder(opened.op(call), opened.params(call)).build(scope);
        }
      }
      Tensor counters = counters(problem);
      words = counters == null ? null : counters.intBuffer();
      start = counters == null ? null : counters.toIntArray();
    }

    /** Of a stack that is gathered the pushes are not timed. Returns the first call that is. */
    private static int setUpOnce(OpCase opened) {
      int first = opened.listed().op().equals("hidden_stack") ? opened.calls() - 1 : 0;
      for (int call = 0; call < first; call++) {
        opened.run(call);
      }
      return first;
    }

    /** What a run goes on from, and is put back by the next; null: nothing. */
    private static Tensor counters(Problem problem) {
      if (problem.listed().op().equals("kv_length")) {
        exn_kv_length_params p = problem.params(exn_kv_length_params::new);
        return p.action() == exeunt.EXN_KV_ADVANCE ? Facade.tensor(p.length()) : null;
      }
      if (problem.listed().op().equals("hidden_stack")) {
        exn_hidden_stack_params p = problem.params(exn_hidden_stack_params::new);
        return p.action() == exeunt.EXN_STACK_PUSH ? Facade.tensor(p.count()) : null;
      }
      return null;
    }

    @Override
    public Object run() {
      if (words != null) {
        words.put(0, start);
      }
      int next = last + 1 == copies ? 0 : last + 1;
      last = next;
      for (Op op : ops[next]) {
        op.run();
      }
      return ops;
    }

    @Override
    public void close() {
      scope.close();
    }
  }
}
