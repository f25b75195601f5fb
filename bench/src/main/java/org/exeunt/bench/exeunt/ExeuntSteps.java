// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.exeunt;

import java.nio.IntBuffer;
import java.util.Arrays;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitRule;
import org.exeunt.FfnSkipRule;
import org.exeunt.HiddenStack;
import org.exeunt.HiredBudget;
import org.exeunt.KvLength;
import org.exeunt.LayerSchedule;
import org.exeunt.Op;
import org.exeunt.RopeTable;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.reference.CacheLayout;
import org.exeunt.bench.reference.FfnSkipRuleProblem;
import org.exeunt.bench.reference.HiddenStackProblem;
import org.exeunt.bench.reference.HiredBudgetProblem;
import org.exeunt.bench.reference.KvAppendProblem;
import org.exeunt.bench.reference.KvLengthProblem;
import org.exeunt.bench.reference.LayerScheduleProblem;
import org.exeunt.bench.reference.RopeTableProblem;
import org.exeunt.bench.reference.ScheduleResult;
import org.exeunt.bench.reference.StackResult;

/** What is written, counted, decided or tabulated around layers, through the Java API. */
abstract class ExeuntSteps extends ExeuntDrops {
  ExeuntSteps(int copies) {
    super(copies);
    offer("kv_append", this::kvAppend);
    offer("kv_length", this::kvLength);
    offer("hidden_stack", this::hiddenStack);
    offer("ffn_skip_rule", this::ffnSkipRule);
    offer("hired_budget", this::hiredBudget);
    offer("rope_table", this::ropeTable);
    offer("layer_schedule", this::layerSchedule);
  }

  private Contender<float[]> kvAppend(KvAppendProblem problem, int threads) {
    Scope scope = open(threads);
    CacheLayout layout = problem.layout;
    Tensor k = zeros(scope, dtype(problem.cache), layout.elements());
    Tensor v = zeros(scope, dtype(problem.cache), layout.elements());
    long[] shape = {problem.k.rows(), layout.heads, layout.dim};
    Op op =
        cache(scope, layout, k, v)
            .append()
            .k(tensor(scope, problem.k).reshape(shape))
            .v(tensor(scope, problem.v).reshape(shape))
            .sequence(layout.sequences == 1 ? null : ints(scope, problem.sequence))
            .slot(ints(scope, problem.slot))
            .build(scope);
    return new OpContender<>(scope, op, () -> {
      float[] both = Arrays.copyOf(k.toFloatArray(), 2 * layout.elements());
      System.arraycopy(v.toFloatArray(), 0, both, layout.elements(), layout.elements());
      return both;
    });
  }

  private static Tensor zeros(Scope scope, DType dtype, int elements) {
    return scope.allocate(dtype, elements).copyFrom(new float[elements]);
  }

  private Contender<int[]> kvLength(KvLengthProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor length = ints(scope, problem.start);
    if (problem.limit != null) {
      Op op = KvLength.crop().length(length).limit(ints(scope, problem.limit)).build(scope);
      return new OpContender<>(scope, op, length::toIntArray);
    }
    int rows = problem.sequence.length;
    Tensor slot = scope.allocate(DType.I32, rows);
    Tensor visible = scope.allocate(DType.I32, rows);
    Op op =
        KvLength.advance(problem.capacity)
            .length(length)
            .sequence(problem.start.length == 1 ? null : ints(scope, problem.sequence))
            .slot(slot)
            .visible(visible)
            .build(scope);
    return new Repeated<>(
        scope, op, length.intBuffer(), problem.start, () -> joined(slot, visible, length));
  }

  private static int[] joined(Tensor... tensors) {
    return Arrays.stream(tensors).flatMapToInt(t -> IntStream.of(t.toIntArray())).toArray();
  }

  private Contender<StackResult> hiddenStack(HiddenStackProblem problem, int threads) {
    Scope scope = open(threads);
    DType dtype = dtype(problem.pushed[0].storage());
    int tagsPerRow = problem.tagsPerRow();
    Tensor stack = scope.allocate(dtype, problem.capacity, problem.dim());
    Tensor stackTags = scope.allocate(DType.I32, tagsPerRow, problem.capacity);
    Tensor count = ints(scope, new int[] {0});
    Tensor overflow = scope.allocate(DType.I32, 1);
    HiddenStack push = null;
    for (int n = 0; n < problem.pushed.length; n++) {
      HiddenStack.Builder builder =
          HiddenStack.push()
              .rows(tensor(scope, problem.pushed[n]))
              .tags(stackTags, ints(scope, problem.tags[n]).reshape(tagsPerRow, problem.rows()));
      if (problem.mask != null) {
        builder.mask(scope.allocate(DType.U8, problem.rows())
                .copyFrom(IntStream.range(0, problem.rows())
                        .map(r -> problem.mask[r] ? 1 : 0)
                        .toArray()));
      }
      push = builder.stack(stack).count(count).overflow(overflow).build(scope);
      if (problem.gather) {
        push.run();
      }
    }
    if (!problem.gather) {
      return new Repeated<>(
          scope, push, count.intBuffer(), new int[1], () -> result(count, stack, stackTags));
    }
    Tensor rows = scope.allocate(dtype, problem.capacity, problem.dim());
    Tensor tags = scope.allocate(DType.I32, tagsPerRow, problem.capacity);
    Op gather =
        HiddenStack.gather()
            .rows(rows)
            .tags(stackTags, tags)
            .stack(stack)
            .count(count)
            .overflow(overflow)
            .build(scope);
    return new OpContender<>(scope, gather, () -> result(count, rows, tags));
  }

  private static StackResult result(Tensor count, Tensor rows, Tensor tags) {
    return new StackResult(count.toIntArray()[0], rows.toFloatArray(), tags.toIntArray());
  }

  private Contender<int[]> ffnSkipRule(FfnSkipRuleProblem problem, int threads) {
    return new SkipContender(open(threads), problem);
  }

  private Contender<int[]> hiredBudget(HiredBudgetProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor budget = scope.allocate(DType.I32, problem.images(), 1 + problem.parts());
    Tensor marks =
        problem.count ? scope.allocate(DType.U8, problem.images(), problem.tokens()) : null;
    Op op =
        (problem.count ? HiredBudget.asInCode() : HiredBudget.builder())
            .attention(tensor(scope, problem.attention))
            .budget(budget)
            .marks(marks)
            .valid(scope.allocate(DType.U8, problem.images()))
            .rate(problem.rate, problem.alpha)
            .patches(problem.patchRows, problem.patchCols)
            .grid(problem.gridRows, problem.gridCols)
            .build(scope);
    return new OpContender<>(
        scope, op, () -> problem.count ? joined(budget, marks) : budget.toIntArray());
  }

  private Contender<float[]> ropeTable(RopeTableProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor table = scope.allocate(DType.F32, problem.positions, problem.pairs, 2);
    Op op = RopeTable.builder().table(table).base(problem.base).build(scope);
    return new OpContender<>(scope, op, table::toFloatArray);
  }

  private Contender<ScheduleResult> layerSchedule(LayerScheduleProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor layers = scope.allocate(DType.I32, problem.positions, problem.layers);
    Tensor count = scope.allocate(DType.I32, problem.positions);
    Tensor exitTest = scope.allocate(DType.U8, problem.positions, problem.layers);
    Tensor threshold = problem.calm ? scope.allocate(DType.F32, problem.positions) : null;
    LayerSchedule.Builder builder = problem.calm
        ? LayerSchedule.calm(0, 1, 0).threshold(
              problem.start, ExitRule.Decay.CALM_CODE, 0, problem.horizon, problem.tau)
        : LayerSchedule.skipDecode(0, problem.horizon, problem.most, problem.least, problem.warmUp);
    Op op =
        builder.layers(layers).count(count).exitTest(exitTest).threshold(threshold).build(scope);
    return new OpContender<>(scope, op,
        ()
            -> new ScheduleResult(layers.toIntArray(), count.toIntArray(), exitTest.toIntArray(),
                threshold == null ? null : threshold.toFloatArray()));
  }

  /** An op that goes on from where its last run stopped: every run puts its few words back. */
  private record Repeated<R>(Scope scope, Op op, IntBuffer words, int[] start, Supplier<R> results)
      implements Contender<R> {
    @Override
    public Object run() {
      words.put(0, start);
      op.run();
      return op;
    }

    @Override
    public R result() {
      return results.get();
    }

    @Override
    public void close() {
      scope.close();
    }
  }

  /** One token: a run of the rule before the first layer and after each but the last. */
  private static final class SkipContender implements Contender<int[]> {
    private final Scope scope;
    private final FfnSkipRule[] rules;
    private final Tensor masks;

    SkipContender(Scope scope, FfnSkipRuleProblem problem) {
      this.scope = scope;
      int rows = problem.rows();
      Tensor cosines = tensor(scope, problem.cosines);
      Tensor state = FfnSkipRule.allocateState(scope, Device.CPU, rows);
      masks = scope.allocate(DType.U8, problem.layers(), rows);
      rules = new FfnSkipRule[problem.layers()];
      for (int next = 0; next < rules.length; next++) {
        rules[next] =
            FfnSkipRule.builder()
                .cosine(next == 0 ? null : cosines.row(next - 1))
                .state(state)
                .skip(masks.row(next))
                .modelLayers(rules.length)
                .coldLayers(0, rules.length)
                .warmUp(0)
                .threshold(problem.threshold)
                .at(next - 1, 0)
                .build(scope);
      }
    }

    @Override
    public Object run() {
      for (int next = 0; next < rules.length; next++) {
        rules[next].run(Stream.DEFAULT, next - 1, 0);
      }
      return masks;
    }

    @Override
    public int[] result() {
      return masks.toIntArray();
    }

    @Override
    public void close() {
      scope.close();
    }
  }
}
