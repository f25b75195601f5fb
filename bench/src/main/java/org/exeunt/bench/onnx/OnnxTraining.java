// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.onnx;

import static org.exeunt.bench.onnx.OnnxContenders.contender;
import static org.exeunt.bench.onnx.OnnxContenders.floatInput;
import static org.exeunt.bench.onnx.OnnxContenders.floats;
import static org.exeunt.bench.onnx.OnnxGraph.BOOL;
import static org.exeunt.bench.onnx.OnnxGraph.FLOAT;
import static org.exeunt.bench.onnx.OnnxGraph.INT64;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.cases.Facade;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_column_norms_params;
import org.exeunt.jni.exn_elr_params;
import org.exeunt.jni.exn_prune_apply_params;
import org.exeunt.jni.exn_prune_apply_tensor;
import org.exeunt.jni.exn_prune_mask_params;
import org.exeunt.jni.global.exeunt;

/** What changes weights, or what they learn from. */
abstract class OnnxTraining extends OnnxSteps {
  OnnxTraining() {
    offer("column_norms", this::columnNorms);
    offer("prune_mask", this::pruneMask);
    offer("prune_apply", this::pruneApply);
    offer("elr", this::elr);
  }

  /** A row of ones, where rows are left out of their flags, times the squares. */
  private Contender columnNorms(Problem problem, int threads) {
    exn_column_norms_params p = problem.params(exn_column_norms_params::new);
    Matrix x = Matrix.of(p.x());
    float[] flags = new float[x.rows()];
    Arrays.fill(flags, 1);
    if (p.active() != null) {
      int[] active = Facade.tensor(p.active()).toIntArray();
      IntStream.range(0, flags.length).forEach(r -> flags[r] = active[r] != 0 ? 1 : 0);
    }
    Matrix active = new Matrix(1, flags.length, DType.F32, flags);
    OnnxGraph graph = new OnnxGraph();
    String values = floatInput(graph, "x", x);
    String of = floatInput(graph, "active", active);
    graph.node(
        "MatMul", new Attributes(), new String[] {of, graph.node("Mul", values, values)}, "sums");
    graph.node("Sqrt", new Attributes(),
        new String[] {graph.node("Mul", "sums", graph.scalar(p.scale()))}, "norms");
    graph.output("sums", FLOAT, 1, x.cols()).output("norms", FLOAT, 1, x.cols());
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("x", x);
    session.input("active", active);
    FloatBuffer sums = session.floatOutput("sums", 1, x.cols());
    FloatBuffer norms = session.floatOutput("norms", 1, x.cols());
    return contender(session, () -> {
      Problem.put(p.sums(), floats(sums));
      Problem.put(p.norms(), floats(norms));
    });
  }

  /** TopK of the smallest scores, and false scattered to where they are. */
  private Contender pruneMask(Problem problem, int threads) {
    exn_prune_mask_params p = problem.params(exn_prune_mask_params::new);
    Matrix weight = Matrix.of(p.tensors().weight());
    Matrix norm = Matrix.of(p.tensors().norm());
    boolean byRow = p.scope() == exeunt.EXN_PRUNE_ROW;
    int rows = weight.rows();
    int cols = weight.cols();
    long[] shape = byRow ? new long[] {rows, cols} : new long[] {1, (long) rows * cols};
    long k = (long) (p.ratio() * shape[1]);
    OnnxGraph graph = new OnnxGraph();
    String scores = floatInput(graph, "weight", weight);
    if (norm != null) {
      scores = graph.node("Mul", scores, floatInput(graph, "norm", norm));
    }
    String all = reshaped(graph, graph.node("Abs", scores), shape);
    String pruned = graph.freshName();
    graph.node("TopK", new Attributes().with("axis", 1).with("largest", 0).with("sorted", 0),
        new String[] {all, graph.constant(new long[] {k}, 1)}, graph.freshName(), pruned);
    graph.input("kept", BOOL, shape).input("not", BOOL, shape[0], k);
    graph.node("ScatterElements", new Attributes().with("axis", 1),
        new String[] {"kept", pruned, "not"}, "mask");
    graph.output("mask", BOOL, shape);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("weight", weight);
    if (norm != null) {
      session.input("norm", norm);
    }
    byte[] ones = new byte[rows * cols];
    Arrays.fill(ones, (byte) 1);
    session.boolInput("kept", direct(ones), shape);
    session.boolInput("not", direct(new byte[(int) (shape[0] * k)]), shape[0], k);
    ByteBuffer mask = session.boolOutput("mask", shape);
    return contender(session,
        ()
            -> Problem.put(
                p.tensors().mask(), IntStream.range(0, ones.length).map(mask::get).toArray()));
  }

  private static ByteBuffer direct(byte[] values) {
    return ByteBuffer.allocateDirect(values.length).put(values).rewind();
  }

  /** Where, in place. */
  private Contender pruneApply(Problem problem, int threads) {
    exn_prune_apply_params p = problem.params(exn_prune_apply_params::new);
    exn_prune_apply_tensor t = p.tensors();
    int[] mask = Facade.tensor(t.mask()).toIntArray();
    List<DLTensor> targets =
        Arrays.stream(new DLTensor[] {t.weight(), t.grad(), t.momentum(), t.variance()})
            .filter(target -> target != null)
            .toList();
    Matrix like = Matrix.of(targets.get(0));
    OnnxGraph graph = new OnnxGraph();
    graph.input("mask", BOOL, like.rows(), like.cols());
    for (int i = 0; i < targets.size(); i++) {
      graph.input("in" + i, FLOAT, like.rows(), like.cols());
      graph.node(
          "Where", new Attributes(), new String[] {"mask", "in" + i, graph.scalar(0)}, "out" + i);
      graph.output("out" + i, FLOAT, like.rows(), like.cols());
    }
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    byte[] flags = new byte[mask.length];
    IntStream.range(0, flags.length).forEach(i -> flags[i] = (byte) (mask[i] != 0 ? 1 : 0));
    session.boolInput("mask", direct(flags), like.rows(), like.cols());
    List<Supplier<float[]>> results = new ArrayList<>();
    for (int i = 0; i < targets.size(); i++) {
      results.add(session.updated("out" + i, "in" + i, Matrix.of(targets.get(i))));
    }
    return contender(session, () -> {
      for (int i = 0; i < targets.size(); i++) {
        Problem.put(targets.get(i), results.get(i).get());
      }
    });
  }

  /** The targets lie where they did, so that nothing but the batch's rows is moved. */
  private Contender elr(Problem problem, int threads) {
    exn_elr_params p = problem.params(exn_elr_params::new);
    Matrix logits = Matrix.of(p.logits());
    Matrix targets = Matrix.of(p.targets());
    int rows = logits.rows();
    OnnxGraph graph = new OnnxGraph();
    String z = floatInput(graph, "logits", logits);
    graph.input("labels", INT64, rows, 1).input("index", INT64, rows, 1);
    graph.input("targets", FLOAT, targets.rows(), targets.cols());
    String y = graph.node("Softmax", new Attributes().with("axis", 1), z);
    String c = graph.node("Clip", y, graph.scalar(1e-4f), graph.scalar(1 - 1e-4f));
    String kept =
        graph.node("Mul", graph.node("GatherND", "targets", "index"), graph.scalar(p.beta()));
    String share = graph.node("Div", graph.scalar(1 - p.beta()), overRow(graph, c));
    String t = graph.node("Add", kept, graph.node("Mul", c, share));
    graph.node(
        "ScatterND", new Attributes(), new String[] {"targets", "index", t}, "targets_after");
    graph.output("targets_after", FLOAT, targets.rows(), targets.cols());
    String rest = graph.node("Sub", graph.scalar(1), overRow(graph, graph.node("Mul", t, c)));
    String free = graph.node("Where", graph.node("Equal", y, c), t, graph.scalar(0));
    String passed = overRow(graph, graph.node("Mul", free, y));
    String pull = graph.node(
        "Mul", graph.node("Sub", passed, free), graph.node("Div", graph.scalar(p.lambda()), rest));
    String moved = graph.node("Mul", y, graph.node("Add", pull, graph.scalar(1)));
    String labels = "labels";
    Attributes columns = new Attributes().with("axis", 1);
    String label = graph.node("GatherElements", columns, moved, labels);
    String grad = graph.node(
        "ScatterElements", columns, moved, labels, graph.node("Sub", label, graph.scalar(1)));
    graph.node("Mul", new Attributes(), new String[] {grad, graph.scalar(1f / rows)}, "grad");
    graph.output("grad", FLOAT, rows, logits.cols());
    String likelihood = graph.node("Log", graph.node("GatherElements", columns, y, labels));
    String pulled = graph.node("Mul", graph.node("Log", rest), graph.scalar(p.lambda()));
    graph.node("ReduceMean", new Attributes().with("keepdims", 0),
        new String[] {graph.node("Sub", pulled, likelihood)}, "loss");
    graph.output("loss", FLOAT);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("logits", logits);
    session.input("labels", longs(Facade.tensor(p.labels()).toIntArray()), rows, 1);
    session.input("index", longs(Facade.tensor(p.index()).toIntArray()), rows, 1);
    FloatBuffer loss = session.floatOutput("loss");
    Supplier<float[]> out = session.matrixOutput("grad", logits);
    Supplier<float[]> after = session.updated("targets_after", "targets", targets);
    return contender(session, () -> {
      Problem.put(p.loss(), new float[] {loss.get(0)});
      Problem.put(p.grad(), out.get());
      Problem.put(p.targets(), after.get());
    });
  }

  static long[] longs(int[] values) {
    return IntStream.of(values).asLongStream().toArray();
  }

  private static String overRow(OnnxGraph graph, String x) {
    return graph.node("ReduceSum", x, graph.constant(new long[] {1}, 1));
  }
}
