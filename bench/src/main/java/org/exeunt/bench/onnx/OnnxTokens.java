// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.onnx;

import static org.exeunt.bench.onnx.OnnxContenders.contender;
import static org.exeunt.bench.onnx.OnnxContenders.floatInput;
import static org.exeunt.bench.onnx.OnnxContenders.matrixOutput;
import static org.exeunt.bench.onnx.OnnxContenders.type;
import static org.exeunt.bench.onnx.OnnxGraph.FLOAT;
import static org.exeunt.bench.onnx.OnnxGraph.INT64;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.function.Supplier;
import org.exeunt.Tensor;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.cases.Facade;
import org.exeunt.jni.exn_row_compaction_params;
import org.exeunt.jni.exn_ssm_step_params;
import org.exeunt.jni.exn_token_bias_params;
import org.exeunt.jni.global.exeunt;

/** What a step of a decoder does beside attention: states, logits and rows that change in place. */
abstract class OnnxTokens extends OnnxTraining {
  /** What its Exp and Softplus are off, in sums of states that are about 1. */
  private static final double F32_EXP = 1e-6;

  OnnxTokens() {
    offer("ssm_step", this::ssmStep);
    offer("token_bias", this::tokenBias);
    offer("row_compaction", this::rowCompaction);
  }

  /** Each row has a state of its own, of the same number. */
  private Contender ssmStep(Problem problem, int threads) {
    exn_ssm_step_params p = problem.params(exn_ssm_step_params::new);
    Matrix x = Matrix.of(p.x());
    Matrix state = Matrix.of(p.state());
    Matrix weight = Matrix.of(p.weight());
    long rows = x.rows();
    long channels = x.cols();
    long width = weight.cols();
    long[] shape = {rows, channels, width};
    if (state.rows() != rows || p.active() != null) {
      throw new UnsupportedOperationException("the peer steps as many states as there are rows");
    }
    OnnxGraph graph = new OnnxGraph();
    graph.input("state", FLOAT, shape);
    String in = floatInput(graph, "x", x);
    String w = graph.constant(weight.values(), 1, channels, width);
    String bias = graph.constant(Matrix.of(p.bias()).values(), channels);
    boolean scans = p.stage() == exeunt.EXN_SSM_SCAN;
    String y;
    if (scans) {
      String dt = graph.node(
          "Softplus", graph.node("Add", floatInput(graph, "dt", Matrix.of(p.dt())), bias));
      String decay =
          graph.node("Exp", graph.node("Mul", reshaped(graph, dt, rows, channels, 1), w));
      String taken = graph.node("Mul",
          reshaped(graph, graph.node("Mul", dt, in), rows, channels, 1),
          reshaped(graph, floatInput(graph, "b", Matrix.of(p.b())), rows, 1, width));
      graph.node("Add", new Attributes(), new String[] {graph.node("Mul", "state", decay), taken},
          "state_after");
      String c = reshaped(graph, floatInput(graph, "c", Matrix.of(p.c())), rows, width, 1);
      String seen = reshaped(graph, graph.node("MatMul", "state_after", c), rows, channels);
      String skip = graph.constant(Matrix.of(p.skip()).values(), channels);
      y = graph.node("Mul", graph.node("Add", seen, graph.node("Mul", in, skip)),
          silu(graph, floatInput(graph, "z", Matrix.of(p.z()))));
    } else {
      String last = graph.node("Slice", "state", graph.constant(new long[] {1}, 1),
          graph.constant(new long[] {width}, 1), graph.constant(new long[] {2}, 1));
      graph.node("Concat", new Attributes().with("axis", 2),
          new String[] {last, reshaped(graph, in, rows, channels, 1)}, "state_after");
      String sum = graph.node("ReduceSum", new Attributes().with("keepdims", 0),
          graph.node("Mul", "state_after", w), graph.constant(new long[] {2}, 1));
      y = silu(graph, graph.node("Add", sum, bias));
    }
    graph.output("state_after", FLOAT, shape);
    Matrix like = Matrix.of(p.out());
    matrixOutput(graph, "out", y, like);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("x", x);
    if (scans) {
      session.input("dt", Matrix.of(p.dt()));
      session.input("b", Matrix.of(p.b()));
      session.input("c", Matrix.of(p.c()));
      session.input("z", Matrix.of(p.z()));
    }
    Supplier<float[]> after = session.updated("state_after", "state", state, shape);
    Supplier<float[]> out = session.matrixOutput("out", like);
    return contender(session, F32_EXP, () -> {
      Problem.put(p.state(), after.get());
      Problem.put(p.out(), out.get());
    });
  }

  private static String silu(OnnxGraph graph, String x) {
    return graph.node("Mul", x, graph.node("Sigmoid", x));
  }

  /** ScatterElements into logits that stay where they are. */
  private Contender tokenBias(Problem problem, int threads) {
    exn_token_bias_params p = problem.params(exn_token_bias_params::new);
    Matrix logits = Matrix.of(p.logits());
    long[] ids = longs(Facade.tensor(p.ids()).toIntArray());
    int rows = logits.rows();
    long[] places = new long[rows * ids.length];
    for (int r = 0; r < rows; r++) {
      System.arraycopy(ids, 0, places, r * ids.length, ids.length);
    }
    OnnxGraph graph = new OnnxGraph();
    Attributes columns = new Attributes().with("axis", 1);
    String z = floatInput(graph, "logits", logits);
    graph.input("ids", INT64, ids.length).input("places", INT64, rows, ids.length);
    String biased = graph.node("Add",
        graph.node("Mul", graph.node("Gather", columns, z, "ids"), graph.scalar(p.scale())),
        graph.scalar(p.add()));
    graph.node("ScatterElements", columns, new String[] {z, "places", biased}, "after");
    graph.output("after", FLOAT, rows, logits.cols());
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("ids", ids, ids.length);
    session.input("places", places, rows, ids.length);
    Supplier<float[]> after = session.updated("after", "logits", logits);
    return contender(session, () -> Problem.put(p.logits(), after.get()));
  }

  /** Gather, or ScatterND to rows that stay where they are, of a list whose count is known. */
  private Contender rowCompaction(Problem problem, int threads) {
    exn_row_compaction_params p = problem.params(exn_row_compaction_params::new);
    Tensor input = Facade.tensor(p.input());
    Tensor target = Facade.tensor(p.out());
    long[] list =
        Arrays.stream(Facade.tensor(p.list()).toIntArray())
            .takeWhile(row -> row >= 0)
            .asLongStream()
            .toArray();
    long cols = input.size(1);
    int type = type(input.dtype());
    OnnxGraph graph = new OnnxGraph();
    if (p.direction() == exeunt.EXN_ROWS_GATHER) {
      graph.input("in", type, input.shape()).input("list", INT64, list.length);
      graph.node("Gather", new Attributes(), new String[] {"in", "list"}, "out");
      graph.output("out", type, list.length, cols);
      OnnxSession session = new OnnxSession(graph.toModel(), threads);
      session.input("in", input, input.shape());
      session.input("list", list, list.length);
      ByteBuffer rows = session.output("out", input.dtype(), list.length, cols);
      return contender(session, () -> target.byteBuffer().put(rows.rewind()));
    }
    graph.input("before", type, target.shape()).input("list", INT64, list.length, 1);
    graph.input("in", type, list.length, cols);
    graph.node("ScatterND", new Attributes(), new String[] {"before", "list", "in"}, "out");
    graph.output("out", type, target.shape());
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("list", list, list.length, 1);
    session.input("in", input.rows(0, list.length), list.length, cols);
    ByteBuffer rows = session.updated("out", "before", target);
    return contender(session, () -> target.byteBuffer().put(rows.rewind()));
  }
}
