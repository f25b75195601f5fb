// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.onnx;

import static org.exeunt.bench.onnx.OnnxContenders.contender;
import static org.exeunt.bench.onnx.OnnxContenders.floatInput;
import static org.exeunt.bench.onnx.OnnxGraph.BFLOAT16;
import static org.exeunt.bench.onnx.OnnxGraph.FLOAT;
import static org.exeunt.bench.onnx.OnnxGraph.INT64;

import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Peers;
import org.exeunt.bench.reference.AttentionScoresProblem;
import org.exeunt.bench.reference.CacheLayout;
import org.exeunt.bench.reference.GatherProblem;
import org.exeunt.bench.reference.KvCompactProblem;
import org.exeunt.bench.reference.Matrix;
import org.exeunt.bench.reference.ScoresResult;
import org.exeunt.bench.reference.SelectProblem;
import org.exeunt.bench.reference.Storage;

/** Selections by ReduceSum and TopK, a second one sorting the list; moves by Gather. */
abstract class OnnxDrops extends OnnxLayers {
  OnnxDrops() {
    offer("select", this::select);
    offer("attention_scores", this::attentionScores);
    offer("gather", this::gather);
    offer("kv_compact", this::kvCompact);
  }

  private Contender<int[]> select(SelectProblem problem, int threads) {
    OnnxGraph graph = new OnnxGraph();
    int rows = problem.rows();
    ascending(graph, summed(graph, problem.scores, problem.heads), problem.k, "indices");
    graph.output("indices", INT64, rows, problem.k);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("scores", problem.scores);
    LongBuffer indices = session.longOutput("indices", rows, problem.k);
    return contender(session, () -> ints(indices));
  }

  /** The input `scores`, rows of as many heads added up. */
  private static String summed(OnnxGraph graph, Matrix scores, int heads) {
    String input = floatInput(graph, "scores", scores);
    if (heads == 1) {
      return input;
    }
    String apart = reshaped(graph, input, -1, heads, scores.cols());
    String sums = graph.freshName();
    graph.node("ReduceSum", new Attributes().with("keepdims", 0),
        new String[] {apart, graph.constant(new long[] {1}, 1)}, sums);
    return sums;
  }

  /** The k best along the last axis: which, then in ascending order. */
  private static String ascending(OnnxGraph graph, String scores, int k, String name) {
    String count = graph.constant(new long[] {k}, 1);
    String best = graph.freshName();
    graph.node("TopK", new Attributes().with("axis", -1).with("sorted", 0),
        new String[] {scores, count}, graph.freshName(), best);
    graph.node("TopK", new Attributes().with("axis", -1).with("largest", 0),
        new String[] {best, count}, name, graph.freshName());
    return name;
  }

  static int[] ints(LongBuffer buffer) {
    return IntStream.range(0, buffer.capacity()).map(i -> (int) buffer.get(i)).toArray();
  }

  /** For each cached head its queries times K, softmax, mean over all heads; the cache is f32. */
  private Contender<ScoresResult> attentionScores(AttentionScoresProblem problem, int threads) {
    Peers.lastRow(problem);
    OnnxGraph graph = new OnnxGraph();
    CacheLayout layout = problem.layout;
    Matrix k = layout.arrange(problem.k).widened();
    String q =
        reshaped(graph, floatInput(graph, "query", problem.query), layout.heads, -1, layout.dim);
    String keys =
        reshaped(graph, floatInput(graph, "k", k), layout.heads, layout.slots, layout.dim);
    String turned =
        graph.node("Transpose", new Attributes().with("perm", new long[] {0, 2, 1}), keys);
    String z = graph.node("Mul", graph.node("MatMul", q, turned), graph.scalar(problem.scale));
    String a = problem.softmax ? graph.node("Softmax", new Attributes().with("axis", -1), z) : z;
    graph.node("ReduceMean", new Attributes().with("axes", new long[] {0, 1}).with("keepdims", 0),
        new String[] {a}, "scores");
    if (problem.scores) {
      graph.output("scores", FLOAT, problem.columns);
    }
    if (problem.choice != null) {
      ascending(graph, "scores", problem.choice.k(), "indices");
      graph.output("indices", INT64, problem.choice.k());
    }
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("query", problem.query);
    session.input("k", k);
    FloatBuffer scores = problem.scores ? session.floatOutput("scores", problem.columns) : null;
    LongBuffer indices =
        problem.choice == null ? null : session.longOutput("indices", problem.choice.k());
    return contender(
        session, () -> new ScoresResult(floats(scores), indices == null ? null : ints(indices)));
  }

  private static float[] floats(FloatBuffer buffer) {
    if (buffer == null) {
      return null;
    }
    float[] values = new float[buffer.capacity()];
    buffer.duplicate().get(values);
    return values;
  }

  private Contender<float[]> gather(GatherProblem problem, int threads) {
    Peers.copy(problem, problem.inPlace);
    OnnxGraph graph = new OnnxGraph();
    int kept = problem.list.length;
    if (problem.scores == null) {
      graph.input("list", INT64, kept);
    } else {
      String scores = summed(graph, problem.scores, problem.scores.rows());
      String list = ascending(graph, scores, kept, graph.freshName());
      graph.node("Reshape", new Attributes(),
          new String[] {list, graph.constant(new long[] {kept}, 1)}, "list");
    }
    long[] from = {problem.outer, problem.entries, problem.inner};
    return moved(graph, problem.tensors, from, problem.list, problem.scores, threads);
  }

  private Contender<float[]> kvCompact(KvCompactProblem problem, int threads) {
    Peers.copy(problem, problem.inPlace);
    CacheLayout layout = problem.layout;
    if (layout.kind != CacheLayout.Kind.HEAD || problem.perHead
        || problem.destination.slots != problem.lists[0].length) {
      throw nothing("a list for each head, or a cache with room to spare,");
    }
    OnnxGraph graph = new OnnxGraph();
    graph.input("list", INT64, problem.lists[0].length);
    long[] from = {layout.heads, layout.slots, layout.dim};
    return moved(graph, new Matrix[] {problem.k, problem.v}, from, problem.lists[0], null, threads);
  }

  /** Gathers along axis 1 of each tensor; the result is the first one's. */
  private static Contender<float[]> moved(
      OnnxGraph graph, Matrix[] tensors, long[] from, int[] list, Matrix scores, int threads) {
    Storage storage = tensors[0].storage();
    Matrix like = Matrix.normal(1, (int) (from[0] * list.length * from[2]), storage, 1, 0, 0);
    for (int t = 0; t < tensors.length; t++) {
      int type = storage == Storage.F32 ? FLOAT : BFLOAT16;
      graph.input("in" + t, type, 1, tensors[t].cols());
      String kept = graph.node(
          "Gather", new Attributes().with("axis", 1), reshaped(graph, "in" + t, from), "list");
      graph.node("Reshape", new Attributes(),
          new String[] {kept, graph.constant(new long[] {1, like.cols()}, 2)}, "out" + t);
      graph.output("out" + t, type, 1, like.cols());
    }
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    if (scores == null) {
      long[] entries = IntStream.of(list).asLongStream().toArray();
      session.input("list", entries, entries.length);
    } else {
      session.input("scores", scores);
    }
    Supplier<float[]> first = null;
    for (int t = 0; t < tensors.length; t++) {
      session.input("in" + t, tensors[t]);
      Supplier<float[]> out = session.matrixOutput("out" + t, like);
      first = t == 0 ? out : first;
    }
    return contender(session, first);
  }
}
