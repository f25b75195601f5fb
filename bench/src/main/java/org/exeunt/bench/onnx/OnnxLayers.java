// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.onnx;

import static org.exeunt.bench.onnx.OnnxContenders.contender;
import static org.exeunt.bench.onnx.OnnxContenders.floatInput;
import static org.exeunt.bench.onnx.OnnxContenders.matrixOutput;

import java.util.function.Supplier;
import org.exeunt.KvCache;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Contenders;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.cases.Facade;
import org.exeunt.jni.exn_attention_params;
import org.exeunt.jni.exn_ffn_params;
import org.exeunt.jni.exn_linear_params;
import org.exeunt.jni.exn_norm_params;

/** The ops of a transformer layer, composed of standard operators where there are any. */
abstract class OnnxLayers extends Contenders {
  OnnxLayers() {
    offer("norm", this::norm);
    offer("linear", this::linear);
    offer("ffn", this::ffn);
    offer("attention", this::attention);
  }

  private Contender norm(Problem problem, int threads) {
    exn_norm_params p = problem.params(exn_norm_params::new);
    Matrix input = Matrix.of(p.input());
    OnnxGraph graph = new OnnxGraph();
    String x = floatInput(graph, "input", input);
    String y = normed(graph, x, Matrix.of(p.weight()), p.eps());
    matrixOutput(graph, "out", y, input);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("input", input);
    Supplier<float[]> out = session.matrixOutput("out", input);
    return contender(session, () -> Problem.put(p.out(), out.get()));
  }

  private static String normed(OnnxGraph graph, String x, Matrix weight, float eps) {
    String w = graph.constant(weight.values(), weight.cols());
    String square = graph.node(
        "ReduceMean", new Attributes().with("axes", new long[] {-1}), graph.node("Mul", x, x));
    String size = graph.node("Sqrt", graph.node("Add", square, graph.scalar(eps)));
    return graph.node("Mul", graph.node("Div", x, size), w);
  }

  private Contender linear(Problem problem, int threads) {
    exn_linear_params p = problem.params(exn_linear_params::new);
    Matrix input = Matrix.of(p.input());
    Matrix residual = Matrix.of(p.residual());
    Matrix like = Matrix.of(p.out());
    OnnxGraph graph = new OnnxGraph();
    Matrix down = Matrix.of(p.adapter_down());
    Matrix scale = Matrix.of(p.adapter_scale());
    String x = floatInput(graph, "input", input);
    String y = product(graph, x, Matrix.of(p.weight()));
    if (down != null) {
      String t = product(graph, x, down);
      t = scale == null ? t : graph.node("Mul", t, floatInput(graph, "scale", scale));
      Matrix up = Matrix.of(p.adapter_up());
      String u = graph.constant(up.values(), up.rows(), up.cols());
      y = graph.node("Add", y, graph.node("MatMul", t, u));
    }
    if (residual != null) {
      y = graph.node("Add", y, floatInput(graph, "residual", residual));
    }
    matrixOutput(graph, "out", y, like);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("input", input);
    if (scale != null) {
      session.input("scale", scale);
    }
    if (residual != null) {
      session.input("residual", residual);
    }
    Supplier<float[]> out = session.matrixOutput("out", like);
    return contender(session, () -> Problem.put(p.out(), out.get()));
  }

  private static String product(OnnxGraph graph, String x, Matrix weight) {
    String w = graph.constant(weight.transposed(), weight.cols(), weight.rows());
    return graph.node("MatMul", x, w);
  }

  private Contender ffn(Problem problem, int threads) {
    exn_ffn_params p = problem.params(exn_ffn_params::new);
    Matrix states = Matrix.of(p.hidden());
    OnnxGraph graph = new OnnxGraph();
    String hidden = floatInput(graph, "hidden", states);
    String x = normed(graph, hidden, Matrix.of(p.norm_weight()), p.norm_eps());
    String gate = product(graph, x, Matrix.of(p.gate_weight()));
    String silu = graph.node("Mul", gate, graph.node("Sigmoid", gate));
    String a = graph.node("Mul", silu, product(graph, x, Matrix.of(p.up_weight())));
    String out = graph.node("Add", hidden, product(graph, a, Matrix.of(p.down_weight())));
    matrixOutput(graph, "out", out, states);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("hidden", states);
    Supplier<float[]> result = session.matrixOutput("out", states);
    return contender(session, () -> Problem.put(p.out(), result.get()));
  }

  /** One row: for each cached head its queries times K, softmax, times V; the cache is f32. */
  private Contender attention(Problem problem, int threads) {
    exn_attention_params p = problem.params(exn_attention_params::new);
    KvCache cache = Facade.cache(p.cache());
    Matrix query = Matrix.of(p.query());
    OnnxGraph graph = new OnnxGraph();
    long heads = cache.heads();
    long dim = cache.headDim();
    Matrix k = Matrix.of(p.cache().k()).widened();
    Matrix v = Matrix.of(p.cache().v()).widened();
    long[] cached = {heads, cache.capacity(), dim};
    String q = reshaped(graph, floatInput(graph, "query", query), heads, -1, dim);
    String keys = reshaped(graph, floatInput(graph, "k", k), cached);
    String values = reshaped(graph, floatInput(graph, "v", v), cached);
    String turned =
        graph.node("Transpose", new Attributes().with("perm", new long[] {0, 2, 1}), keys);
    String scores = graph.node("Mul", graph.node("MatMul", q, turned), graph.scalar(p.scale()));
    String weights = graph.node("Softmax", new Attributes().with("axis", -1), scores);
    String attended = reshaped(graph, graph.node("MatMul", weights, values), 1, query.cols());
    matrixOutput(graph, "out", attended, query);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("query", query);
    session.input("k", k);
    session.input("v", v);
    Supplier<float[]> out = session.matrixOutput("out", query);
    return contender(session, () -> Problem.put(p.out(), out.get()));
  }

  static String reshaped(OnnxGraph graph, String x, long... shape) {
    return graph.node("Reshape", x, graph.constant(shape, shape.length));
  }
}
