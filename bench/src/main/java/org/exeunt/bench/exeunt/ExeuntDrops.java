// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.exeunt;

import java.util.Arrays;
import java.util.function.Supplier;
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
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.reference.AttentionScoresProblem;
import org.exeunt.bench.reference.CacheLayout;
import org.exeunt.bench.reference.GatherProblem;
import org.exeunt.bench.reference.KvCompactProblem;
import org.exeunt.bench.reference.Matrix;
import org.exeunt.bench.reference.ScoresResult;
import org.exeunt.bench.reference.SelectProblem;

/** The ops that drop tokens, through the Java API. */
abstract class ExeuntDrops extends ExeuntLayers {
  ExeuntDrops(int copies) {
    super(copies);
    offer("select", this::select);
    offer("attention_scores", this::attentionScores);
    offer("gather", this::gather);
    offer("kv_compact", this::kvCompact);
  }

  private Contender<int[]> select(SelectProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor indices = scope.allocate(DType.I32, problem.rows(), problem.k);
    Select op =
        Select.builder()
            .scores(tensor(scope, problem.scores))
            .heads(problem.heads)
            .select(Selection.top(problem.k, indices))
            .build(scope);
    return new OpContender<>(scope, op, indices::toIntArray);
  }

  private Contender<ScoresResult> attentionScores(AttentionScoresProblem problem, int threads) {
    Scope scope = open(threads);
    CacheLayout layout = problem.layout;
    int rows = layout.sequences * problem.scoreHeads();
    Copies keys = new Copies(scope, copies, layout.arrange(problem.k));
    Tensor query =
        tensor(scope, problem.query).reshape(problem.query.rows(), problem.queryHeads, layout.dim);
    Tensor visible = ints(scope, problem.visible);
    Tensor limit = problem.limit == problem.columns
        ? null
        : ints(scope, IntStream.range(0, layout.sequences).map(s -> problem.limit).toArray());
    Tensor scores = !problem.scores
        ? null
        : scope.allocate(DType.F32, layout.sequences, problem.scoreHeads(), problem.columns);
    Selection selection = problem.choice == null ? null : selection(scope, problem, rows);
    Turns turns = turns(copy
        -> AttentionScores.builder()
            .query(query)
            .keys(cache(scope, layout, keys.vector(copy, 0), keys.vector(copy, 0)))
            .visible(visible)
            .limit(limit)
            .scores(scores)
            .select(selection)
            .columns(problem.columns)
            .first(problem.first)
            .window(problem.window)
            .scale(problem.scale)
            .kind(problem.softmax ? AttentionScores.Kind.SOFTMAX : AttentionScores.Kind.RAW)
            .heads(AttentionScores.Heads.values()[problem.heads.ordinal()])
            .pool(AttentionScores.Pool.values()[problem.pool.ordinal()], problem.poolWidth)
            .build(scope));
    return new OpContender<>(scope, turns,
        ()
            -> new ScoresResult(scores == null ? null : scores.toFloatArray(),
                selection == null ? null : selection.indices().toIntArray()));
  }

  private static Selection selection(Scope scope, AttentionScoresProblem problem, int rows) {
    AttentionScoresProblem.Choice choice = problem.choice;
    Tensor indices = scope.allocate(DType.I32, rows, choice.room());
    Selection selection =
        Selection.top(choice.k(), indices)
            .withCount(scope.allocate(DType.I32, rows))
            .withValid(scope.allocate(DType.U8, rows));
    return choice.keepFrom() == problem.columns
        ? selection
        : selection.withKeep(scope.copyOf(new int[] {choice.keepFrom(), problem.columns}, 1, 2));
  }

  /** With scores: the selection, then the gather that reads its list. */
  private Contender<float[]> gather(GatherProblem problem, int threads) {
    Scope scope = open(threads);
    long[] from = {problem.outer, problem.entries, problem.inner};
    long[] to = {problem.outer, problem.room(), problem.inner};
    Tensor list = ints(scope, problem.list);
    // Rows that were just chosen go on in one place; caches are each layer's own.
    boolean chosen = problem.scores != null;
    Copies inputs = new Copies(scope, copies, problem.tensors);
    Copies outs = problem.inPlace
        ? inputs
        : new Copies(scope, chosen ? 1 : copies,
              Arrays.stream(problem.tensors)
                  .map(t
                      -> Matrix.zeros(
                          1, problem.outer * problem.room() * problem.inner, t.storage()))
                  .toArray(Matrix[] ::new));
    Turns gather = turns(copy -> {
      Gather.Builder builder = Gather.builder().list(list);
      for (int t = 0; t < problem.tensors.length; t++) {
        builder.tensor(
            inputs.tensor(copy, t).reshape(from), outs.tensor(chosen ? 0 : copy, t).reshape(to), 1);
      }
      return builder.build(scope);
    });
    Supplier<float[]> first = () -> outs.vector(chosen ? 0 : gather.last(), 0).toFloatArray();
    if (!chosen) {
      return new OpContender<>(scope, gather, first);
    }
    Select select =
        Select.builder()
            .scores(tensor(scope, problem.scores))
            .heads(problem.scores.rows())
            .select(Selection.top(problem.list.length, list.reshape(1, problem.list.length)))
            .build(scope);
    return new Chain(scope, select, gather, first);
  }

  private Contender<float[]> kvCompact(KvCompactProblem problem, int threads) {
    Scope scope = open(threads);
    Copies sources = new Copies(scope, copies, problem.k, problem.v);
    Matrix room = Matrix.zeros(1, problem.destination.elements(), problem.k.storage());
    Copies destinations = problem.inPlace ? sources : new Copies(scope, copies, room, room);
    int lists = problem.lists.length;
    int size = problem.lists[0].length;
    Tensor list = ints(
        scope, IntStream.range(0, lists).flatMap(g -> IntStream.of(problem.lists[g])).toArray());
    Tensor start = ints(scope, IntStream.rangeClosed(0, lists).map(g -> g * size).toArray());
    Tensor newLength = scope.allocate(DType.I32, lists);
    Turns turns = turns(copy -> {
      KvCache source =
          cache(scope, problem.layout, sources.vector(copy, 0), sources.vector(copy, 1));
      KvCache destination = problem.inPlace
          ? source
          : cache(scope, problem.destination, destinations.vector(copy, 0),
                destinations.vector(copy, 1));
      KvCompact.Builder builder =
          source.compactTo(destination)
              .perHead(problem.perHead)
              .packed(list, start)
              .newLength(newLength);
      if (problem.layout.kind == CacheLayout.Kind.PAGED) {
        builder.length(ints(scope, new int[] {problem.layout.slots}))
            .freed(scope.allocate(DType.I32, problem.layout.blockTable.length),
                scope.allocate(DType.I32, 1));
      }
      return builder.build(scope);
    });
    return new OpContender<>(
        scope, turns, () -> destinations.vector(turns.last(), 0).toFloatArray());
  }

  /** From scores to kept rows. */
  private record Chain(Scope scope, Op select, Turns gather, Supplier<float[]> out)
      implements Contender<float[]> {
    @Override
    public Object run() {
      select.run();
      gather.run();
      return gather;
    }

    @Override
    public float[] result() {
      return out.get();
    }

    @Override
    public void close() {
      scope.close();
    }
  }
}
