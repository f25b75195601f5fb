// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.onnx;

import static org.exeunt.bench.onnx.OnnxGraph.BFLOAT16;
import static org.exeunt.bench.onnx.OnnxGraph.FLOAT;
import static org.exeunt.bench.onnx.OnnxGraph.INT64;

import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Normalizer;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Peer;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.contenders.RowStats;
import org.exeunt.cases.Cases;
import org.exeunt.cases.Facade;
import org.exeunt.jni.exn_cosine_params;
import org.exeunt.jni.exn_cross_entropy_params;
import org.exeunt.jni.exn_exit_head_params;
import org.exeunt.jni.exn_gate_params;
import org.exeunt.jni.exn_perp_grad_params;
import org.exeunt.jni.exn_row_stats_params;
import org.exeunt.jni.exn_stablemax_params;
import org.exeunt.jni.exn_stats;
import org.exeunt.jni.global.exeunt;

/**
 * ONNX Runtime on the CPU: each op composed of standard operators. Of version 1.29
 * RMSNormalization and Attention take 1.4 times as long as what they stand for. Its products know
 * no bf16, so bf16 logits are cast on the way in and out, and bf16 weights become f32 when the
 * session is built; that is the best this peer can do with such a model.
 */
public final class OnnxContenders extends OnnxTokens {
  private static final long LAST = -1;

  public OnnxContenders() {
    offer("stablemax", this::softmax);
    offer("cross_entropy", this::crossEntropy);
    offer("row_stats", this::rowStats);
    offer("exit_head", this::exitHead);
    offer("cosine", this::cosine);
    offer("perp_grad", this::perpGrad);
    offer("gate", this::gate);
  }

  @Override
  public boolean offers(Cases.Listed benchCase) {
    boolean counted =
        benchCase.op().equals("hired_budget") && benchCase.text("score").equals("top_count");
    // Where knows no bf16.
    boolean halves =
        benchCase.op().equals("prune_apply") && benchCase.text("values").contains("bf16");
    return super.offers(benchCase) && !counted && !halves;
  }

  private Contender softmax(Problem problem, int threads) {
    exn_stablemax_params p = problem.params(exn_stablemax_params::new);
    Matrix logits = Matrix.of(p.logits());
    OnnxGraph graph = new OnnxGraph();
    String z = floatInput(graph, "logits", logits);
    String probabilities = Normalizer.values()[p.normalizer()] == Normalizer.SOFTMAX
        ? graph.node("Softmax", axis(LAST), z)
        : normalised(graph, stableScores(graph, z));
    matrixOutput(graph, "out", probabilities, logits);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("logits", logits);
    Supplier<float[]> out = session.matrixOutput("out", logits);
    return contender(session, () -> Problem.put(p.out(), out.get()));
  }

  private Contender crossEntropy(Problem problem, int threads) {
    exn_cross_entropy_params p = problem.params(exn_cross_entropy_params::new);
    Matrix logits = Matrix.of(p.logits());
    OnnxGraph graph = new OnnxGraph();
    int rows = logits.rows();
    String z = floatInput(graph, "logits", logits);
    graph.input("labels", INT64, rows, 1);
    boolean softmax = Normalizer.values()[p.normalizer()] == Normalizer.SOFTMAX;
    String y =
        softmax ? graph.node("Softmax", axis(LAST), z) : normalised(graph, stableScores(graph, z));
    String py = graph.node("GatherElements", axis(1), y, "labels");
    String mean =
        graph.node("ReduceMean", new Attributes().with("keepdims", 0), graph.node("Log", py));
    graph.node("Neg", new Attributes(), new String[] {mean}, "loss");
    graph.output("loss", FLOAT);
    String updates = graph.node("Sub", py, graph.scalar(1));
    String grad = graph.node("ScatterElements", axis(1), y, "labels", updates);
    if (!softmax) {
      String slope = graph.node("Add", graph.node("Abs", z), graph.scalar(1));
      grad = graph.node("Div", grad, slope);
    }
    grad = graph.node("Mul", grad, graph.scalar(1f / rows));
    matrixOutput(graph, "grad", grad, logits);

    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("logits", logits);
    long[] labels = IntStream.of(Facade.tensor(p.labels()).toIntArray()).asLongStream().toArray();
    session.input("labels", labels, rows, 1);
    FloatBuffer loss = session.floatOutput("loss");
    Supplier<float[]> out = session.matrixOutput("grad", logits);
    return contender(session, () -> {
      Problem.put(p.loss(), new float[] {loss.get(0)});
      Problem.put(p.grad(), out.get());
    });
  }

  private Contender rowStats(Problem problem, int threads) {
    exn_row_stats_params p = problem.params(exn_row_stats_params::new);
    Matrix logits = Matrix.of(p.logits());
    OnnxGraph graph = new OnnxGraph();
    String z = floatInput(graph, "logits", logits);
    int rows = logits.rows();
    statistics(graph, z, Normalizer.values()[p.normalizer()], rows);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("logits", logits);
    return new StatsContender(session, rows, p.out());
  }

  private Contender exitHead(Problem problem, int threads) {
    exn_exit_head_params p = problem.params(exn_exit_head_params::new);
    Matrix hidden = Matrix.of(p.hidden());
    OnnxGraph graph = new OnnxGraph();
    String x = floatInput(graph, "hidden", hidden);
    Matrix weight = Matrix.of(p.weight());
    String w = graph.constant(weight.transposed(), weight.cols(), weight.rows());
    int rows = hidden.rows();
    statistics(graph, graph.node("MatMul", x, w), Normalizer.SOFTMAX, rows);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("hidden", hidden);
    return new StatsContender(session, rows, p.out());
  }

  private Contender cosine(Problem problem, int threads) {
    exn_cosine_params p = problem.params(exn_cosine_params::new);
    Matrix first = Matrix.of(p.a());
    Matrix second = Matrix.of(p.b());
    OnnxGraph graph = new OnnxGraph();
    String a = floatInput(graph, "a", first);
    String b = floatInput(graph, "b", second);
    Attributes overRow = new Attributes().with("axes", new long[] {1}).with("keepdims", 0);
    String ab = graph.node("ReduceSum", new Attributes().with("keepdims", 0),
        graph.node("Mul", a, b), graph.constant(new long[] {1}, 1));
    String aa = graph.node("ReduceSumSquare", overRow, a);
    String bb = graph.node("ReduceSumSquare", overRow, b);
    String norms = graph.node("Sqrt", graph.node("Mul", aa, bb));
    graph.node("Div", new Attributes(), new String[] {ab, norms}, "out");
    graph.output("out", FLOAT, first.rows());
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("a", first);
    session.input("b", second);
    FloatBuffer out = session.floatOutput("out", first.rows());
    return contender(session, () -> Problem.put(p.out(), floats(out)));
  }

  private Contender perpGrad(Problem problem, int threads) {
    exn_perp_grad_params p = problem.params(exn_perp_grad_params::new);
    Matrix weight = Matrix.of(p.weight());
    Matrix grad = Matrix.of(p.grad());
    OnnxGraph graph = new OnnxGraph();
    String w = floatInput(graph, "weight", weight);
    String g = floatInput(graph, "grad", grad);
    String wg = sum(graph, graph.node("Mul", w, g));
    String ww = graph.node("ReduceSumSquare", w);
    String gg = graph.node("ReduceSumSquare", g);
    String projection = graph.node("Div", wg, graph.node("Add", ww, graph.scalar(1e-30f)));
    String perp = graph.node("Sub", g, graph.node("Mul", w, projection));
    String pp = graph.node("ReduceSumSquare", perp);
    String scale = graph.node("Div", graph.node("Sqrt", gg),
        graph.node("Add", graph.node("Sqrt", pp), graph.scalar(1e-30f)));
    matrixOutput(graph, "out", graph.node("Mul", perp, scale), grad);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("weight", weight);
    session.input("grad", grad);
    Supplier<float[]> out = session.matrixOutput("out", grad);
    return contender(session, () -> Problem.put(p.out(), out.get()));
  }

  private Contender gate(Problem problem, int threads) {
    exn_gate_params p = problem.params(exn_gate_params::new);
    Matrix features = Matrix.of(p.features());
    Matrix hiddenBias = Matrix.of(p.hidden_bias());
    Matrix outWeight = Matrix.of(p.out_weight());
    OnnxGraph graph = new OnnxGraph();
    String y = floatInput(graph, "features", features);
    int width = features.cols();
    if (p.kind() != exeunt.EXN_GATE_LINEAR) {
      String h = graph.constant(Matrix.of(p.hidden_weight()).transposed(), width, width);
      String bias = hiddenBias == null ? null : graph.constant(hiddenBias.values(), width);
      for (int i = 0; i < p.repeats(); i++) {
        String block = graph.node("MatMul", y, h);
        block = bias == null ? block : graph.node("Add", block, bias);
        String silu = graph.node("Mul", block, graph.node("Sigmoid", block));
        y = graph.node("Add", y, silu);
      }
    }
    int classes = outWeight.rows();
    String w = graph.constant(outWeight.transposed(), width, classes);
    String logits = graph.node("Add", graph.node("MatMul", y, w),
        graph.constant(Matrix.of(p.out_bias()).values(), classes));
    int rows = features.rows();
    boolean softmax = classes == 2;
    graph.node(softmax ? "Softmax" : "Sigmoid", softmax ? axis(LAST) : new Attributes(),
        new String[] {logits}, "out");
    graph.output("out", FLOAT, rows, classes);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("features", features);
    FloatBuffer out = session.floatOutput("out", rows, classes);
    return contender(session, () -> Problem.put(p.prob(), lastColumn(out, rows, classes)));
  }

  /** log_softmax -> exp -> sum(p log p) -> top 2, the shortest composition there is. */
  private static void statistics(OnnxGraph graph, String z, Normalizer normalizer, int rows) {
    String logP;
    String p;
    if (normalizer == Normalizer.SOFTMAX) {
      logP = graph.node("LogSoftmax", axis(LAST), z);
      p = graph.node("Exp", logP);
    } else {
      p = normalised(graph, stableScores(graph, z));
      logP = graph.node("Log", p);
    }
    String sum = graph.node("ReduceSum", new Attributes().with("keepdims", 0),
        graph.node("Mul", p, logP), graph.constant(new long[] {1}, 1));
    graph.node("Neg", new Attributes(), new String[] {sum}, "entropy");
    graph.output("entropy", FLOAT, rows);
    graph.node(
        "TopK", axis(LAST), new String[] {p, graph.constant(new long[] {2}, 1)}, "top", "index");
    graph.output("top", FLOAT, rows, 2).output("index", INT64, rows, 2);
  }

  private static String stableScores(OnnxGraph graph, String z) {
    String positive = graph.node("Add", z, graph.scalar(1));
    String negative = graph.node("Reciprocal", graph.node("Sub", graph.scalar(1), z));
    String isNegative = graph.node("Less", z, graph.scalar(0));
    return graph.node("Where", isNegative, negative, positive);
  }

  private static String normalised(OnnxGraph graph, String scores) {
    String sum = graph.node("ReduceSum", new Attributes().with("keepdims", 1), scores,
        graph.constant(new long[] {1}, 1));
    return graph.node("Div", scores, sum);
  }

  private static String sum(OnnxGraph graph, String x) {
    return graph.node("ReduceSum", x);
  }

  private static Attributes axis(long axis) {
    return new Attributes().with("axis", axis);
  }

  /** A graph input as f32, cast if it is stored as bf16. */
  static String floatInput(OnnxGraph graph, String name, Matrix matrix) {
    int type = type(matrix.storage());
    graph.input(name, type, matrix.rows(), matrix.cols());
    return type == FLOAT ? name : graph.node("Cast", new Attributes().with("to", FLOAT), name);
  }

  static int type(DType storage) {
    return storage == DType.F32 ? FLOAT : BFLOAT16;
  }

  /** A graph output in the shape and storage of {@code like}. */
  static void matrixOutput(OnnxGraph graph, String name, String value, Matrix like) {
    int type = type(like.storage());
    if (type == FLOAT) {
      graph.node("Identity", new Attributes(), new String[] {value}, name);
    } else {
      graph.node("Cast", new Attributes().with("to", type), new String[] {value}, name);
    }
    graph.output(name, type, like.rows(), like.cols());
  }

  private static float[] lastColumn(FloatBuffer buffer, int rows, int cols) {
    float[] values = new float[rows];
    for (int r = 0; r < rows; r++) {
      values[r] = buffer.get(r * cols + cols - 1);
    }
    return values;
  }

  static float[] floats(FloatBuffer buffer) {
    float[] values = new float[buffer.capacity()];
    buffer.duplicate().get(values);
    return values;
  }

  static Contender contender(OnnxSession session, Runnable delivery) {
    return contender(session, 0, delivery);
  }

  static Contender contender(OnnxSession session, double more, Runnable delivery) {
    return new Peer() {
      @Override
      public double more() {
        return more;
      }

      @Override
      public Object run() {
        return session.run();
      }

      @Override
      public void deliver() {
        delivery.run();
      }

      @Override
      public void close() {
        session.close();
      }
    };
  }

  /** The decision is made in Java, so a run includes handing the statistics over. */
  private static final class StatsContender implements Peer {
    private final OnnxSession session;
    private final FloatBuffer entropy;
    private final FloatBuffer top;
    private final LongBuffer index;
    private final RowStats stats;
    private final exn_stats target;

    StatsContender(OnnxSession session, int rows, exn_stats target) {
      this.target = target;
      this.session = session;
      entropy = session.floatOutput("entropy", rows);
      top = session.floatOutput("top", rows, 2);
      index = session.longOutput("index", rows, 2);
      stats = new RowStats(rows);
    }

    @Override
    public Object run() {
      session.run();
      for (int r = 0; r < stats.argmax.length; r++) {
        stats.argmax[r] = (int) index.get(2 * r);
        stats.p1[r] = top.get(2 * r);
        stats.margin[r] = top.get(2 * r) - top.get(2 * r + 1);
        stats.entropy[r] = entropy.get(r);
      }
      return stats;
    }

    @Override
    public void deliver() {
      stats.deliver(target);
    }

    @Override
    public void close() {
      session.close();
    }
  }
}
