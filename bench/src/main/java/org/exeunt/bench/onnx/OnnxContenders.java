// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.onnx;

import static org.exeunt.bench.onnx.OnnxGraph.BFLOAT16;
import static org.exeunt.bench.onnx.OnnxGraph.FLOAT;
import static org.exeunt.bench.onnx.OnnxGraph.INT64;

import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.util.function.Supplier;
import org.exeunt.bench.cases.BenchCase;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Peers;
import org.exeunt.bench.reference.CosineProblem;
import org.exeunt.bench.reference.CrossEntropyProblem;
import org.exeunt.bench.reference.ExitHeadProblem;
import org.exeunt.bench.reference.GateProblem;
import org.exeunt.bench.reference.LossAndGrad;
import org.exeunt.bench.reference.Matrix;
import org.exeunt.bench.reference.Normalizer;
import org.exeunt.bench.reference.PerpGradProblem;
import org.exeunt.bench.reference.RowStats;
import org.exeunt.bench.reference.RowStatsProblem;
import org.exeunt.bench.reference.SoftmaxProblem;
import org.exeunt.bench.reference.Storage;

/**
 * ONNX Runtime on the CPU: each op composed of standard operators. Of version 1.29
 * RMSNormalization and Attention take 1.4 times as long as what they stand for. Its products know
 * no bf16, so bf16 logits are cast on the way in and out, and bf16 weights become f32 when the
 * session is built; that is the best this peer can do with such a model.
 */
public final class OnnxContenders extends OnnxSteps {
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
  public boolean offers(BenchCase benchCase) {
    boolean counted =
        benchCase.op().equals("hired_budget") && benchCase.text("score").equals("top_count");
    return super.offers(benchCase) && Peers.offer(benchCase) && !counted;
  }

  private Contender<float[]> softmax(SoftmaxProblem problem, int threads) {
    OnnxGraph graph = new OnnxGraph();
    String z = floatInput(graph, "logits", problem.logits);
    String p = problem.normalizer == Normalizer.SOFTMAX
        ? graph.node("Softmax", axis(LAST), z)
        : normalised(graph, stableScores(graph, z));
    matrixOutput(graph, "out", p, problem.logits);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("logits", problem.logits);
    Supplier<float[]> out = session.matrixOutput("out", problem.logits);
    return contender(session, out);
  }

  private Contender<LossAndGrad> crossEntropy(CrossEntropyProblem problem, int threads) {
    OnnxGraph graph = new OnnxGraph();
    int rows = problem.logits.rows();
    String z = floatInput(graph, "logits", problem.logits);
    graph.input("labels", INT64, rows, 1);
    boolean softmax = problem.normalizer == Normalizer.SOFTMAX;
    String p =
        softmax ? graph.node("Softmax", axis(LAST), z) : normalised(graph, stableScores(graph, z));
    String py = graph.node("GatherElements", axis(1), p, "labels");
    String mean =
        graph.node("ReduceMean", new Attributes().with("keepdims", 0), graph.node("Log", py));
    graph.node("Neg", new Attributes(), new String[] {mean}, "loss");
    graph.output("loss", FLOAT);
    String updates = graph.node("Sub", py, graph.scalar(1));
    String grad = graph.node("ScatterElements", axis(1), p, "labels", updates);
    if (!softmax) {
      String slope = graph.node("Add", graph.node("Abs", z), graph.scalar(1));
      grad = graph.node("Div", grad, slope);
    }
    grad = graph.node("Mul", grad, graph.scalar(1f / rows));
    matrixOutput(graph, "grad", grad, problem.logits);

    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("logits", problem.logits);
    long[] labels = new long[rows];
    for (int r = 0; r < rows; r++) {
      labels[r] = problem.labels[r];
    }
    session.input("labels", labels, rows, 1);
    FloatBuffer loss = session.floatOutput("loss");
    Supplier<float[]> out = session.matrixOutput("grad", problem.logits);
    return contender(session, () -> new LossAndGrad(loss.get(0), out.get()));
  }

  private Contender<RowStats> rowStats(RowStatsProblem problem, int threads) {
    Peers.four(problem);
    OnnxGraph graph = new OnnxGraph();
    String z = floatInput(graph, "logits", problem.logits);
    int rows = problem.logits.rows();
    statistics(graph, z, problem.normalizer, rows);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("logits", problem.logits);
    return new StatsContender(session, rows);
  }

  private Contender<RowStats> exitHead(ExitHeadProblem problem, int threads) {
    Peers.bare(problem);
    OnnxGraph graph = new OnnxGraph();
    String x = floatInput(graph, "hidden", problem.hidden);
    Matrix weight = problem.weight;
    String w = graph.constant(weight.transposed(), weight.cols(), weight.rows());
    int rows = problem.hidden.rows();
    statistics(graph, graph.node("MatMul", x, w), Normalizer.SOFTMAX, rows);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("hidden", problem.hidden);
    return new StatsContender(session, rows);
  }

  private Contender<float[]> cosine(CosineProblem problem, int threads) {
    OnnxGraph graph = new OnnxGraph();
    String a = floatInput(graph, "a", problem.a);
    String b = floatInput(graph, "b", problem.b);
    Attributes overRow = new Attributes().with("axes", new long[] {1}).with("keepdims", 0);
    String ab = graph.node("ReduceSum", new Attributes().with("keepdims", 0),
        graph.node("Mul", a, b), graph.constant(new long[] {1}, 1));
    String aa = graph.node("ReduceSumSquare", overRow, a);
    String bb = graph.node("ReduceSumSquare", overRow, b);
    String norms = graph.node("Sqrt", graph.node("Mul", aa, bb));
    graph.node("Div", new Attributes(), new String[] {ab, norms}, "out");
    graph.output("out", FLOAT, problem.a.rows());
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("a", problem.a);
    session.input("b", problem.b);
    FloatBuffer out = session.floatOutput("out", problem.a.rows());
    return contender(session, () -> floats(out));
  }

  private Contender<float[]> perpGrad(PerpGradProblem problem, int threads) {
    OnnxGraph graph = new OnnxGraph();
    String w = floatInput(graph, "weight", problem.weight);
    String g = floatInput(graph, "grad", problem.grad);
    String wg = sum(graph, graph.node("Mul", w, g));
    String ww = graph.node("ReduceSumSquare", w);
    String gg = graph.node("ReduceSumSquare", g);
    String projection = graph.node("Div", wg, graph.node("Add", ww, graph.scalar(1e-30f)));
    String perp = graph.node("Sub", g, graph.node("Mul", w, projection));
    String pp = graph.node("ReduceSumSquare", perp);
    String scale = graph.node("Div", graph.node("Sqrt", gg),
        graph.node("Add", graph.node("Sqrt", pp), graph.scalar(1e-30f)));
    matrixOutput(graph, "out", graph.node("Mul", perp, scale), problem.grad);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("weight", problem.weight);
    session.input("grad", problem.grad);
    return contender(session, session.matrixOutput("out", problem.grad));
  }

  private Contender<float[]> gate(GateProblem problem, int threads) {
    OnnxGraph graph = new OnnxGraph();
    String y = floatInput(graph, "features", problem.features);
    int width = problem.features.cols();
    if (problem.repeats > 0) {
      String h = graph.constant(problem.hiddenWeight.transposed(), width, width);
      String bias =
          problem.hiddenBias == null ? null : graph.constant(problem.hiddenBias.values(), width);
      for (int i = 0; i < problem.repeats; i++) {
        String block = graph.node("MatMul", y, h);
        block = bias == null ? block : graph.node("Add", block, bias);
        String silu = graph.node("Mul", block, graph.node("Sigmoid", block));
        y = graph.node("Add", y, silu);
      }
    }
    int classes = problem.outWeight.rows();
    String w = graph.constant(problem.outWeight.transposed(), width, classes);
    String logits = graph.node(
        "Add", graph.node("MatMul", y, w), graph.constant(problem.outBias.values(), classes));
    int rows = problem.features.rows();
    boolean softmax = classes == 2;
    graph.node(softmax ? "Softmax" : "Sigmoid", softmax ? axis(LAST) : new Attributes(),
        new String[] {logits}, "out");
    graph.output("out", FLOAT, rows, classes);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("features", problem.features);
    FloatBuffer out = session.floatOutput("out", rows, classes);
    return contender(session, () -> lastColumn(out, rows, classes));
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
    boolean wide = matrix.storage() == Storage.F32;
    graph.input(name, wide ? FLOAT : BFLOAT16, matrix.rows(), matrix.cols());
    return wide ? name : graph.node("Cast", new Attributes().with("to", FLOAT), name);
  }

  /** A graph output in the shape and storage of {@code like}. */
  static void matrixOutput(OnnxGraph graph, String name, String value, Matrix like) {
    int type = like.storage() == Storage.F32 ? FLOAT : BFLOAT16;
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

  private static float[] floats(FloatBuffer buffer) {
    float[] values = new float[buffer.capacity()];
    buffer.duplicate().get(values);
    return values;
  }

  static <R> Contender<R> contender(OnnxSession session, Supplier<R> result) {
    return new Contender<R>() {
      @Override
      public Object run() {
        return session.run();
      }

      @Override
      public R result() {
        return result.get();
      }

      @Override
      public void close() {
        session.close();
      }
    };
  }

  /** The decision is made in Java, so a run includes handing the statistics over. */
  private static final class StatsContender implements Contender<RowStats> {
    private final OnnxSession session;
    private final FloatBuffer entropy;
    private final FloatBuffer top;
    private final LongBuffer index;
    private final RowStats stats;

    StatsContender(OnnxSession session, int rows) {
      this.session = session;
      entropy = session.floatOutput("entropy", rows);
      top = session.floatOutput("top", rows, 2);
      index = session.longOutput("index", rows, 2);
      stats = new RowStats(rows, false);
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
    public RowStats result() {
      return stats;
    }

    @Override
    public void close() {
      session.close();
    }
  }
}
