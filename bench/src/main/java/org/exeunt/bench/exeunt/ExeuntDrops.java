// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.exeunt;

import java.util.stream.IntStream;
import org.exeunt.AttentionScores;
import org.exeunt.DType;
import org.exeunt.Gather;
import org.exeunt.KvCache;
import org.exeunt.KvCompact;
import org.exeunt.Op;
import org.exeunt.Scope;
import org.exeunt.Select;
import org.exeunt.Selection;
import org.exeunt.Tensor;
import org.exeunt.bench.Contender;
import org.exeunt.bench.DropContenders;
import org.exeunt.bench.reference.AttentionScoresProblem;
import org.exeunt.bench.reference.CacheLayout;
import org.exeunt.bench.reference.GatherProblem;
import org.exeunt.bench.reference.KvCompactProblem;
import org.exeunt.bench.reference.ScoresResult;
import org.exeunt.bench.reference.SelectProblem;

/** The ops that drop tokens, through the Java API. */
abstract class ExeuntDrops extends ExeuntLayers implements DropContenders {
  @Override
  public Contender<int[]> select(SelectProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor indices = scope.allocate(DType.I32, problem.scores.rows(), problem.k);
    Select op = Select.builder()
        .scores(tensor(scope, problem.scores))
        .select(Selection.top(problem.k, indices))
        .build(scope);
    return new OpContender<>(scope, op, indices::toIntArray);
  }

  @Override
  public Contender<ScoresResult> attentionScores(AttentionScoresProblem problem, int threads) {
    Scope scope = open(threads);
    CacheLayout layout = problem.layout;
    int rows = layout.sequences * problem.scoreHeads();
    Tensor keys = vector(scope, layout.arrange(problem.k));
    Tensor scores = !problem.scores ? null
        : scope.allocate(DType.F32, layout.sequences, problem.scoreHeads(), problem.columns);
    Selection selection = problem.choice == null ? null : selection(scope, problem, rows);
    AttentionScores op = AttentionScores.builder()
        .query(tensor(scope, problem.query)
            .reshape(problem.query.rows(), problem.queryHeads, layout.dim))
        .keys(cache(scope, layout, keys, keys))
        .visible(ints(scope, problem.visible))
        .limit(problem.limit == problem.columns ? null
            : ints(scope, IntStream.range(0, layout.sequences).map(s -> problem.limit).toArray()))
        .scores(scores)
        .select(selection)
        .columns(problem.columns)
        .first(problem.first)
        .window(problem.window)
        .scale(problem.scale)
        .kind(problem.softmax ? AttentionScores.Kind.SOFTMAX : AttentionScores.Kind.RAW)
        .heads(AttentionScores.Heads.values()[problem.heads.ordinal()])
        .pool(AttentionScores.Pool.values()[problem.pool.ordinal()], problem.poolWidth)
        .build(scope);
    return new OpContender<>(scope, op, () -> new ScoresResult(
        scores == null ? null : scores.toFloatArray(),
        selection == null ? null : selection.indices().toIntArray()));
  }

  private static Selection selection(Scope scope, AttentionScoresProblem problem, int rows) {
    AttentionScoresProblem.Choice choice = problem.choice;
    Tensor indices = scope.allocate(DType.I32, rows, choice.room());
    Selection selection = Selection.top(choice.k(), indices)
        .withCount(scope.allocate(DType.I32, rows))
        .withValid(scope.allocate(DType.U8, rows));
    return choice.keepFrom() == problem.columns ? selection : selection.withKeep(
        scope.copyOf(new int[] {choice.keepFrom(), problem.columns}, 1, 2));
  }

  /** With scores: the selection, then the gather that reads its list. */
  @Override
  public Contender<float[]> gather(GatherProblem problem, int threads) {
    Scope scope = open(threads);
    long[] from = {problem.outer, problem.entries, problem.inner};
    long[] to = {problem.outer, problem.room(), problem.inner};
    Tensor list = ints(scope, problem.list);
    Gather.Builder builder = Gather.builder().list(list);
    Tensor first = null;
    for (int t = 0; t < problem.tensors.length; t++) {
      Tensor input = vector(scope, problem.tensors[t]).reshape(from);
      Tensor out = problem.inPlace
          ? input : scope.allocate(dtype(problem.tensors[t].storage()), to);
      builder.tensor(input, out, 1);
      first = t == 0 ? out : first;
    }
    Gather gather = builder.build(scope);
    if (problem.scores == null) {
      return new OpContender<>(scope, gather, first::toFloatArray);
    }
    Select select = Select.builder()
        .scores(tensor(scope, problem.scores))
        .select(Selection.top(problem.list.length, list.reshape(1, problem.list.length)))
        .build(scope);
    return new Chain(scope, select, gather, first);
  }

  @Override
  public Contender<float[]> kvCompact(KvCompactProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor k = vector(scope, problem.k);
    KvCache source = cache(scope, problem.layout, k, vector(scope, problem.v));
    int elements = problem.destination.elements();
    DType dtype = dtype(problem.k.storage());
    Tensor kept = problem.inPlace ? k : scope.allocate(dtype, elements);
    KvCache destination = problem.inPlace ? source
        : cache(scope, problem.destination, kept, scope.allocate(dtype, elements));
    int lists = problem.lists.length;
    int size = problem.lists[0].length;
    KvCompact.Builder builder = source.compactTo(destination)
        .perHead(problem.perHead)
        .packed(
            ints(scope, IntStream.range(0, lists)
                .flatMap(g -> IntStream.of(problem.lists[g])).toArray()),
            ints(scope, IntStream.rangeClosed(0, lists).map(g -> g * size).toArray()))
        .newLength(scope.allocate(DType.I32, lists));
    if (problem.layout.kind == CacheLayout.Kind.PAGED) {
      builder.length(ints(scope, new int[] {problem.layout.slots}))
          .freed(scope.allocate(DType.I32, problem.layout.blockTable.length),
              scope.allocate(DType.I32, 1));
    }
    return new OpContender<>(scope, builder.build(scope), kept::toFloatArray);
  }

  /** From scores to kept rows. */
  private record Chain(Scope scope, Op select, Op gather, Tensor out)
      implements Contender<float[]> {
    @Override
    public Object run() {
      select.run();
      gather.run();
      return out;
    }

    @Override
    public float[] result() {
      return out.toFloatArray();
    }

    @Override
    public void close() {
      scope.close();
    }
  }
}
