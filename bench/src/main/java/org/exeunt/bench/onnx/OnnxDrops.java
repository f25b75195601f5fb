// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.onnx;

import static org.exeunt.bench.onnx.OnnxContenders.contender;
import static org.exeunt.bench.onnx.OnnxContenders.floatInput;
import static org.exeunt.bench.onnx.OnnxContenders.floats;
import static org.exeunt.bench.onnx.OnnxContenders.type;
import static org.exeunt.bench.onnx.OnnxGraph.FLOAT;
import static org.exeunt.bench.onnx.OnnxGraph.INT64;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.exeunt.KvCache;
import org.exeunt.Tensor;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.cases.Facade;
import org.exeunt.jni.exn_attention_scores_params;
import org.exeunt.jni.exn_embedding_params;
import org.exeunt.jni.exn_gather_params;
import org.exeunt.jni.exn_kv_compact_params;
import org.exeunt.jni.exn_select_params;
import org.exeunt.jni.global.exeunt;

/** Selections by ReduceSum and TopK, a second one sorting the list; moves and rows by Gather. */
abstract class OnnxDrops extends OnnxLayers {
  OnnxDrops() {
    offer("select", this::select);
    offer("attention_scores", this::attentionScores);
    offer("gather", this::gather);
    offer("kv_compact", this::kvCompact);
    offer("embedding", this::embedding);
  }

  private Contender select(Problem problem, int threads) {
    exn_select_params p = problem.params(exn_select_params::new);
    Matrix scores = Matrix.of(p.scores());
    int heads = Math.max(1, (int) p.heads());
    long k = p.selection().k();
    OnnxGraph graph = new OnnxGraph();
    int rows = scores.rows() / heads;
    ascending(graph, summed(graph, scores, heads), k, "indices");
    graph.output("indices", INT64, rows, k);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("scores", scores);
    LongBuffer indices = session.longOutput("indices", rows, k);
    return contender(session, () -> Problem.put(p.selection().indices(), ints(indices)));
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
  private static String ascending(OnnxGraph graph, String scores, long k, String name) {
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
  private Contender attentionScores(Problem problem, int threads) {
    exn_attention_scores_params p = problem.params(exn_attention_scores_params::new);
    OnnxGraph graph = new OnnxGraph();
    KvCache cached = Facade.cache(p.keys());
    long heads = cached.heads();
    long dim = cached.headDim();
    Matrix query = Matrix.of(p.query());
    Matrix k = Matrix.of(p.keys().k()).widened();
    String q = reshaped(graph, floatInput(graph, "query", query), heads, -1, dim);
    String keys = reshaped(graph, floatInput(graph, "k", k), heads, cached.capacity(), dim);
    String turned =
        graph.node("Transpose", new Attributes().with("perm", new long[] {0, 2, 1}), keys);
    String z = graph.node("Mul", graph.node("MatMul", q, turned), graph.scalar(p.scale()));
    String a = p.kind() == exeunt.EXN_SCORE_SOFTMAX
        ? graph.node("Softmax", new Attributes().with("axis", -1), z)
        : z;
    graph.node("ReduceMean", new Attributes().with("axes", new long[] {0, 1}).with("keepdims", 0),
        new String[] {a}, "scores");
    boolean handedOut = p.scores() != null;
    boolean chosen = p.selection().indices() != null;
    if (handedOut) {
      graph.output("scores", FLOAT, p.columns());
    }
    if (chosen) {
      ascending(graph, "scores", p.selection().k(), "indices");
      graph.output("indices", INT64, p.selection().k());
    }
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("query", query);
    session.input("k", k);
    FloatBuffer scores = handedOut ? session.floatOutput("scores", p.columns()) : null;
    LongBuffer indices = chosen ? session.longOutput("indices", p.selection().k()) : null;
    return contender(session, () -> {
      if (handedOut) {
        Problem.put(p.scores(), floats(scores));
      }
      if (chosen) {
        Problem.put(p.selection().indices(), ints(indices));
      }
    });
  }

  private Contender gather(Problem problem, int threads) {
    exn_gather_params p = problem.params(exn_gather_params::new);
    OnnxGraph graph = new OnnxGraph();
    Matrix scores = null;
    if (problem.opened().calls() > 1) {
      long kept = Facade.tensor(p.list()).elements();
      scores = Matrix.of(problem.params(0, exn_select_params::new).scores());
      String sums = summed(graph, scores, scores.rows());
      String list = ascending(graph, sums, kept, graph.freshName());
      graph.node("Reshape", new Attributes(),
          new String[] {list, graph.constant(new long[] {kept}, 1)}, "list");
    }
    Tensor[] from = new Tensor[p.tensor_count()];
    Tensor[] to = new Tensor[from.length];
    for (int t = 0; t < from.length; t++) {
      from[t] = Facade.tensor(p.tensors().getPointer(t).input());
      to[t] = Facade.tensor(p.tensors().getPointer(t).out());
    }
    int axis = p.tensors().axis();
    long[] shape = {axis == 0 ? 1 : from[0].size(0), p.rows(), from[0].size(axis + 1)};
    return moved(graph, scores, Facade.tensor(p.list()), from, to, shape, threads);
  }

  private Contender kvCompact(Problem problem, int threads) {
    exn_kv_compact_params p = problem.params(exn_kv_compact_params::new);
    KvCache from = Facade.cache(p.source());
    KvCache to = Facade.cache(p.destination());
    return moved(new OnnxGraph(), null, Facade.tensor(p.list()), new Tensor[] {from.k(), from.v()},
        new Tensor[] {to.k(), to.v()}, new long[] {from.heads(), from.capacity(), from.headDim()},
        threads);
  }

  /** Rows of a table, cast where the output has another type. */
  private Contender embedding(Problem problem, int threads) {
    exn_embedding_params p = problem.params(exn_embedding_params::new);
    Tensor table = Facade.tensor(p.table());
    Tensor ids = Facade.tensor(p.ids());
    Tensor out = Facade.tensor(p.out());
    long[] shape = {table.size(0), table.size(1)};
    long[] kept = {ids.elements(), shape[1]};
    int type = type(out.dtype());
    OnnxGraph graph = new OnnxGraph();
    graph.input("table", type(table.dtype()), shape);
    graph.input("ids", INT64, kept[0]);
    String rows = graph.node("Gather", "table", "ids");
    graph.node("Cast", new Attributes().with("to", type), new String[] {rows}, "out");
    graph.output("out", type, kept);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("table", table, shape);
    session.input("ids", IntStream.of(ids.toIntArray()).asLongStream().toArray(), kept[0]);
    ByteBuffer result = session.output("out", out.dtype(), kept);
    return contender(session, () -> out.byteBuffer().put(result.rewind()));
  }

  /**
   * Gathers along axis 1 of each tensor, bit by bit; the graph knows the list, or, without scores
   * that it is made of, it is an input.
   */
  private static Contender moved(OnnxGraph graph, Matrix scores, Tensor list, Tensor[] from,
      Tensor[] to, long[] shape, int threads) {
    if (scores == null) {
      graph.input("list", INT64, list.elements());
    }
    long[] kept = {shape[0], list.elements(), shape[2]};
    for (int t = 0; t < from.length; t++) {
      int type = type(from[t].dtype());
      graph.input("in" + t, type, shape);
      graph.node(
          "Gather", new Attributes().with("axis", 1), new String[] {"in" + t, "list"}, "out" + t);
      graph.output("out" + t, type, kept);
    }
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    if (scores == null) {
      session.input("list", IntStream.of(list.toIntArray()).asLongStream().toArray(), kept[1]);
    } else {
      session.input("scores", scores);
    }
    List<ByteBuffer> results = new ArrayList<>();
    for (int t = 0; t < from.length; t++) {
      session.input("in" + t, from[t], shape);
      results.add(session.output("out" + t, from[t].dtype(), kept));
    }
    return contender(session, () -> {
      for (int t = 0; t < to.length; t++) {
        to[t].byteBuffer().put(results.get(t).rewind());
      }
    });
  }
}
