// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.exeunt.onnxruntime.Graph.attribute;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxTensor;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Readers of logits that differ in one thing from what makes a product an exit head. */
class NearHeadTest extends GraphTestBase {
  /** A head of whole numbers, so that ties are exact. */
  private String logits(Graph graph, String x) {
    float[] weights = new float[K * N];
    for (int i = 0; i < weights.length; i++) {
      weights[i] = random.nextInt(3) - 1;
    }
    return graph.node("MatMul", x, graph.floats(weights, K, N));
  }

  private void head(String claims, int opset, Graph graph) throws Exception {
    float[] values = new float[2 * 5 * K];
    for (int i = 0; i < values.length; i++) {
      values[i] = random.nextInt(3) - 1;
    }
    try (OnnxTensor x =
             OnnxTensor.createTensor(ENVIRONMENT, FloatBuffer.wrap(values), new long[] {2, 5, K})) {
      expect(claims, graph, opset, Map.of("x", x));
    }
  }

  private static Graph heads(int type, long... shape) {
    return new Graph().input("x", Graph.FLOAT, -1, -1, K).output("y", type, shape);
  }

  @Test
  void headsThatAreNone() throws Exception {
    String exit = "exit head of 96 x 64 f32";
    for (String change : List.of("last tie", "axis 0", "axis 1", "axis 2", "axis lost")) {
      boolean lost = change.equals("axis lost");
      Graph graph = lost ? heads(Graph.INT64, -1, -1) : heads(Graph.INT64, -1, -1, -1);
      List<Message> attributes = new ArrayList<>();
      attributes.add(
          attribute("axis", change.startsWith("axis ") && !lost ? change.charAt(5) - '0' : -1));
      if (lost) {
        attributes.add(attribute("keepdims", 0));
      }
      if (change.equals("last tie")) {
        attributes.add(attribute("select_last_index", 1));
      }
      graph.node("ArgMax", attributes, new String[] {logits(graph, "x")}, "y");
      head(change.equals("axis 2") || lost ? exit : PLAIN, 17, graph);
    }
    Graph unnamed = heads(Graph.INT64, -1, -1, -1); // ArgMax goes over axis 0 by default
    unnamed.node("ArgMax", List.of(), new String[] {logits(unnamed, "x")}, "y");
    head(PLAIN, 17, unnamed);
    for (long[] axes : new long[][] {{2}, {-1}, {0}, {1, 2}, {2, 1}, {}}) {
      for (int opset : new int[] {17, 18}) {
        for (int keep : new int[] {0, 1, 2}) { // it keeps them at 1 alone
          if (axes.length == 0 && keep != 1) {
            continue;
          }
          boolean last = axes.length == 1 && axes[0] != 0;
          Graph graph = keep == 1 ? heads(Graph.FLOAT, -1, -1, -1)
              : axes.length == 2
              ? heads(Graph.FLOAT, -1)
              : heads(Graph.FLOAT, -1, -1);
          List<Message> attributes = new ArrayList<>(List.of(attribute("keepdims", keep)));
          List<String> inputs = new ArrayList<>(List.of(logits(graph, "x")));
          if (axes.length > 0 && opset == 17) {
            attributes.add(attribute("axes", axes));
          } else if (axes.length > 0) {
            inputs.add(graph.longs(axes));
          }
          graph.node("ReduceMax", attributes, inputs.toArray(new String[0]), "y");
          head(last ? exit : PLAIN, opset, graph);
        }
      }
    }
    for (String change : List.of("", "two", "smallest", "axis 1")) {
      Graph graph = heads(Graph.FLOAT, -1, -1, -1).output("at", Graph.INT64, -1, -1, -1);
      graph.node("TopK",
          change.equals("smallest") ? List.of(attribute("largest", 0))
              : change.equals("axis 1")
              ? List.of(attribute("axis", 1))
              : List.of(),
          new String[] {logits(graph, "x"), graph.longs(change.equals("two") ? 2 : 1)}, "y", "at");
      head(change.isEmpty() ? exit : PLAIN, 17, graph);
    }
  }

  /** An axis in a tensor without axes: ONNX Runtime takes none. */
  @Test
  void axesThatAreNoList() throws Exception {
    Graph graph = heads(Graph.FLOAT, -1, -1, -1);
    String axis =
        graph.constant(Graph.INT64, new byte[] {-1, -1, -1, -1, -1, -1, -1, -1}, new long[0]);
    graph.node("ReduceMax", List.of(), new String[] {logits(graph, "x"), axis}, "y");
    Graph best = heads(Graph.FLOAT, -1, -1, -1).output("at", Graph.INT64, -1, -1, -1);
    String one = best.constant(Graph.INT64, new byte[] {1, 0, 0, 0, 0, 0, 0, 0}, new long[0]);
    best.node("TopK", List.of(), new String[] {logits(best, "x"), one}, "y", "at");
    try (OnnxTensor x = tensor(2, 5, K)) {
      beside(graph.model(18), Map.of("x", x), 1e-4f);
      beside(best.model(18), Map.of("x", x), 1e-4f);
    }
  }

  /** Heads whose weights fill no block of those that are turned at a time. */
  @Test
  void headsOfOddShapes() throws Exception {
    for (int[] shape : new int[][] {{1, 1}, {31, 33}, {77, 96}, {33, 5000}}) {
      int n = shape[0];
      int k = shape[1];
      for (boolean narrow : new boolean[] {false, true}) { // of 2 bytes
        Graph graph = new Graph().input("x", Graph.FLOAT, -1, k).output("y", Graph.FLOAT, -1, 1);
        float[] weights = random(n * k);
        for (int i = 0; i < weights.length && narrow; i++) {
          weights[i] = Float.intBitsToFloat(Float.floatToRawIntBits(weights[i]) & 0xffff0000);
        }
        String z = graph.node("MatMul", "x", graph.floats(weights, k, n));
        graph.node("ReduceMax", List.of(attribute("axes", new long[] {-1})), new String[] {z}, "y");
        try (OnnxTensor x = tensor(40, k); OnnxTensor none = tensor(0, k)) {
          String report = beside(graph.model(17), Map.of("x", x), 1e-2f);
          assertTrue(report.contains("exit head of " + n + " x " + k), report);
          // ONNX Runtime alone says [0,N] of the maxima of no rows.
          assertEquals(0, run(graph.model(17), everything(), Map.of("x", none)).get(0).length);
        }
      }
    }
  }

  @Test
  void headsOfWhatIsNoProductAlone() throws Exception {
    String exit = "exit head of 96 x 64 f32";
    for (String change : List.of("bias", "Relu", "residual", "norm", "twice", "another axis",
             "old axis", "Log", "log of p", "three readers")) {
      Graph graph = heads(Graph.FLOAT, -1, -1, -1);
      String z = logits(graph, "x");
      int opset = change.equals("old axis") ? 12 : 17;
      String of = switch (change) {
        case "bias" -> graph.node("Add", z, row(graph, N));
        case "Relu" -> graph.node("Relu", graph.node("Neg", z));
        case "residual" -> graph.node("Add", z, graph.node("Tile", "x", graph.longs(1, 1, 1)));
        case "norm" -> graph.node("LayerNormalization", z, row(graph, N), row(graph, N));
        case "twice" -> graph.node("Softmax", graph.node("Softmax", z));
        case "another axis" -> graph.node("Softmax", List.of(attribute("axis", 1)), z);
        case "old axis" -> graph.node("Softmax", z);
        case "Log" -> graph.node("Log", graph.node("Abs", z));
        case "log of p" -> graph.node("Log", graph.node("Softmax", z));
        default -> graph.node("Softmax", z);
      };
      if (change.equals("residual")) {
        continue;
      }
      if (change.equals("three readers")) {
        graph.output("sum", Graph.FLOAT, -1, -1, -1);
        graph.node("ReduceSum", List.of(), new String[] {of, graph.longs(1)}, "sum");
      }
      graph.node("ReduceMax", List.of(attribute("axes", new long[] {-1})), new String[] {of}, "y");
      head(switch (change) {
        case "bias" -> exit + ", bias";
        case "norm" -> PLAIN + ", LayerNorm";
        default -> PLAIN;
      }, opset, graph);
    }
    // ReLU and residual right before the reader.
    Graph relu = heads(Graph.INT64, -1, -1, -1);
    relu.node("ArgMax", List.of(attribute("axis", -1)),
        new String[] {relu.node("Relu", logits(relu, "x"))}, "y");
    head(PLAIN + ", ReLU", 17, relu);
    Graph residual = heads(Graph.INT64, -1, -1, -1).input("r", Graph.FLOAT, -1, -1, N);
    residual.node("ArgMax", List.of(attribute("axis", -1)),
        new String[] {residual.node("Add", logits(residual, "x"), "r")}, "y");
    try (OnnxTensor x = tensor(2, 5, K); OnnxTensor r = tensor(2, 5, N)) {
      expect(PLAIN + ", residual", residual, 17, Map.of("x", x, "r", r));
    }
    // Probabilities and largest logits of f16 have no place in f32.
    for (boolean probabilities : new boolean[] {true, false}) {
      Graph half = heads(Graph.FLOAT, -1, -1, -1);
      short[] weights = new short[K * N];
      for (int i = 0; i < weights.length; i++) {
        weights[i] = (short) new int[] {0xbc00, 0, 0x3c00}[random.nextInt(3)];
      }
      String z = half.node(
          "MatMul", cast(half, Graph.FLOAT16, "x"), half.halves(weights, Graph.FLOAT16, K, N));
      String top = half.node("ReduceMax", List.of(attribute("axes", new long[] {-1})),
          probabilities ? half.node("Softmax", z) : z);
      end(half, cast(half, Graph.FLOAT, top));
      try (OnnxTensor x = tensor(2, 5, K)) {
        expect("linear of 96 x 64 f16", half, 17, Map.of("x", x), 6e-2f);
      }
    }
  }

  /** Ties of two parts of a vocabulary, parts with nothing but -inf, and rows with a NaN. */
  @Test
  void headsInParts() throws Exception {
    int vocabulary = 8192;
    int rows = 64;
    float[] weights = new float[vocabulary * K];
    for (int i = 0; i < K; i++) {
      weights[100 * K + i] = weights[8000 * K + i] = 1;
    }
    float[] bias = new float[vocabulary];
    for (String change : List.of("tie", "second is larger", "first is -inf", "last is -inf")) {
      Arrays.fill(bias, 0);
      bias[8000] = change.equals("second is larger") ? 1 : 0;
      if (change.endsWith("-inf")) {
        int from = change.startsWith("first") ? 0 : vocabulary / 2;
        Arrays.fill(bias, from, from + vocabulary / 2, Float.NEGATIVE_INFINITY);
      }
      Graph graph =
          new Graph()
              .input("x", Graph.FLOAT, -1, K)
              .output("y", Graph.INT64, -1, 1)
              .output("p", Graph.FLOAT, -1, 1);
      String z = graph.node("Gemm", List.of(attribute("transB", 1)), "x",
          graph.floats(weights, vocabulary, K), graph.floats(bias, vocabulary));
      graph.node("ArgMax", List.of(attribute("axis", -1)), new String[] {z}, "y");
      graph.node("ReduceMax", List.of(attribute("axes", new long[] {-1})),
          new String[] {graph.node("Softmax", z)}, "p");
      float[] values = new float[rows * K];
      for (int i = 0; i < values.length; i++) {
        values[i] = 0.25f * (i % 3);
      }
      try (OnnxTensor x = OnnxTensor.createTensor(
               ENVIRONMENT, FloatBuffer.wrap(values), new long[] {rows, K})) {
        expect("exit head of 8192 x 64 f32, bias", graph, 17, Map.of("x", x));
      }
    }
  }
}
