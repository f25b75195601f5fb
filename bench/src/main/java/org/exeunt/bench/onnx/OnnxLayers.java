// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.onnx;

import static org.exeunt.bench.onnx.OnnxContenders.contender;
import static org.exeunt.bench.onnx.OnnxContenders.floatInput;
import static org.exeunt.bench.onnx.OnnxContenders.matrixOutput;

import java.util.function.Supplier;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Contenders;
import org.exeunt.bench.contenders.Peers;
import org.exeunt.bench.reference.AttentionProblem;
import org.exeunt.bench.reference.FfnProblem;
import org.exeunt.bench.reference.FfnResult;
import org.exeunt.bench.reference.LinearProblem;
import org.exeunt.bench.reference.Matrix;
import org.exeunt.bench.reference.NormProblem;

/** The ops of a transformer layer, composed of standard operators where there are any. */
abstract class OnnxLayers extends Contenders {
  OnnxLayers() {
    offer("norm", this::norm);
    offer("linear", this::linear);
    offer("ffn", this::ffn);
    offer("attention", this::attention);
  }

  private Contender<float[]> norm(NormProblem problem, int threads) {
    OnnxGraph graph = new OnnxGraph();
    String x = floatInput(graph, "input", problem.input);
    String y = normed(graph, x, problem.weight, problem.eps);
    matrixOutput(graph, "out", y, problem.input);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("input", problem.input);
    return contender(session, session.matrixOutput("out", problem.input));
  }

  private static String normed(OnnxGraph graph, String x, Matrix weight, float eps) {
    String w = graph.constant(weight.values(), weight.cols());
    String square = graph.node(
        "ReduceMean", new Attributes().with("axes", new long[] {-1}), graph.node("Mul", x, x));
    String size = graph.node("Sqrt", graph.node("Add", square, graph.scalar(eps)));
    return graph.node("Mul", graph.node("Div", x, size), w);
  }

  private Contender<float[]> linear(LinearProblem problem, int threads) {
    OnnxGraph graph = new OnnxGraph();
    String y = product(graph, floatInput(graph, "input", problem.input), problem.weight);
    Matrix like = Matrix.normal(problem.input.rows(), problem.weight.rows(), problem.out, 1, 0, 0);
    if (problem.residual != null) {
      y = graph.node("Add", y, floatInput(graph, "residual", problem.residual));
    }
    matrixOutput(graph, "out", y, like);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("input", problem.input);
    if (problem.residual != null) {
      session.input("residual", problem.residual);
    }
    return contender(session, session.matrixOutput("out", like));
  }

  private static String product(OnnxGraph graph, String x, Matrix weight) {
    String w = graph.constant(weight.transposed(), weight.cols(), weight.rows());
    return graph.node("MatMul", x, w);
  }

  private Contender<FfnResult> ffn(FfnProblem problem, int threads) {
    Peers.plain(problem);
    OnnxGraph graph = new OnnxGraph();
    String hidden = floatInput(graph, "hidden", problem.hidden);
    String x = normed(graph, hidden, problem.normWeight, problem.eps);
    String gate = product(graph, x, problem.gate);
    String silu = graph.node("Mul", gate, graph.node("Sigmoid", gate));
    String a = graph.node("Mul", silu, product(graph, x, problem.up));
    String out = graph.node("Add", hidden, product(graph, a, problem.down));
    matrixOutput(graph, "out", out, problem.hidden);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("hidden", problem.hidden);
    Supplier<float[]> result = session.matrixOutput("out", problem.hidden);
    return contender(session, () -> new FfnResult(result.get(), null));
  }

  /** One row: for each cached head its queries times K, softmax, times V; the cache is f32. */
  private Contender<float[]> attention(AttentionProblem problem, int threads) {
    Peers.decode(problem);
    OnnxGraph graph = new OnnxGraph();
    int heads = problem.layout.heads;
    int slots = problem.layout.slots;
    int dim = problem.layout.dim;
    Matrix k = problem.layout.arrange(problem.k).widened();
    Matrix v = problem.layout.arrange(problem.v).widened();
    long[] cached = {heads, slots, dim};
    String q = reshaped(graph, floatInput(graph, "query", problem.query), heads, -1, dim);
    String keys = reshaped(graph, floatInput(graph, "k", k), cached);
    String values = reshaped(graph, floatInput(graph, "v", v), cached);
    String turned =
        graph.node("Transpose", new Attributes().with("perm", new long[] {0, 2, 1}), keys);
    String scores = graph.node("Mul", graph.node("MatMul", q, turned), graph.scalar(problem.scale));
    String p = graph.node("Softmax", new Attributes().with("axis", -1), scores);
    String out = reshaped(graph, graph.node("MatMul", p, values), 1, problem.query.cols());
    matrixOutput(graph, "out", out, problem.query);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("query", problem.query);
    session.input("k", k);
    session.input("v", v);
    return contender(session, session.matrixOutput("out", problem.query));
  }

  static String reshaped(OnnxGraph graph, String x, long... shape) {
    return graph.node("Reshape", x, graph.constant(shape, shape.length));
  }

  static UnsupportedOperationException nothing(String what) {
    return new UnsupportedOperationException(what + " has no composition of operators here");
  }
}
