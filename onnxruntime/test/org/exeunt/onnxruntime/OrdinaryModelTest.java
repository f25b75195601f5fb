// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.exeunt.onnxruntime.Graph.attribute;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxTensor;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Graphs of which several patterns want the same nodes, or others want what lies within them. */
class OrdinaryModelTest extends GraphTestBase {
  OrdinaryModelTest() {
    spread = 0.25f;
  }

  private String linear(Graph graph, String x, int columns, int rows) {
    return graph.node("MatMul", x, graph.floats(random(columns * rows), columns, rows));
  }

  private String norm(Graph graph, String op, String x) {
    String weight = graph.floats(random(K), K);
    if (op.equals("LayerNormalization")) {
      return graph.node(op, x, weight, graph.floats(random(K), K));
    }
    if (!op.equals("spelt")) {
      return graph.node(op, x, weight);
    }
    List<Message> last = List.of(attribute("axes", new long[] {-1}));
    String d = graph.node("Sub", x, graph.node("ReduceMean", last, x));
    String v = graph.node("ReduceMean", last, graph.node("Pow", d, graph.scalar(2)));
    String root = graph.node("Sqrt", graph.node("Add", v, graph.scalar(1e-5f)));
    return graph.node(
        "Add", graph.node("Mul", graph.node("Div", d, root), weight), graph.floats(random(K), K));
  }

  @Test
  void aNormBetweenTwoProductsIsTakenOnce() throws Exception {
    for (String op : List.of("LayerNormalization", "SimplifiedLayerNormalization", "spelt")) {
      for (boolean residual : new boolean[] {false, true}) {
        Graph graph =
            new Graph().input("x", Graph.FLOAT, -1, -1, K).output("y", Graph.FLOAT, -1, -1, 32);
        String h = linear(graph, "x", K, K);
        h = norm(graph, op, residual ? graph.node("Add", h, "x") : h);
        graph.node("Identity", List.of(), new String[] {linear(graph, h, K, 32)}, "y");
        try (OnnxTensor x = tensor(2, 3, K)) {
          assertEquals(2, claims(beside(graph.model(17), Map.of("x", x), 2e-4f)), op);
        }
      }
    }
  }

  @Test
  void oneSumOfTwoProducts() throws Exception {
    Graph graph =
        new Graph()
            .input("x", Graph.FLOAT, -1, -1, K)
            .input("r", Graph.FLOAT, -1, -1, 32)
            .output("y", Graph.FLOAT, -1, -1, 48);
    graph.node("Add", List.of(),
        new String[] {linear(graph, "x", K, 48), linear(graph, "r", 32, 48)}, "y");
    try (OnnxTensor x = tensor(2, 3, K); OnnxTensor r = tensor(2, 3, 32)) {
      String report = beside(graph.model(17), Map.of("x", x, "r", r), 2e-4f);
      assertEquals(2, claims(report), report);
    }
  }

  @Test
  void aNormThatTheResidualReadsStays() throws Exception {
    for (boolean cast : new boolean[] {false, true}) {
      Graph graph =
          new Graph().input("x", Graph.FLOAT, -1, -1, K).output("y", Graph.FLOAT, -1, -1, K);
      String q = norm(graph, "LayerNormalization", "x");
      if (cast) {
        String half = graph.node("Cast", List.of(attribute("to", Graph.FLOAT16)), q);
        q = graph.node("Cast", List.of(attribute("to", Graph.FLOAT)), half);
      }
      graph.node("Add", List.of(), new String[] {linear(graph, q, K, K), q}, "y");
      try (OnnxTensor x = tensor(2, 3, K)) {
        String report = beside(graph.model(17), Map.of("x", x), 5e-3f);
        assertTrue(report.contains("residual"), report);
      }
    }
  }

  @Test
  void anInputOfUnknownRank() throws Exception {
    Graph graph =
        new Graph()
            .input("x", Graph.FLOAT, -1)
            .input("to", Graph.INT64, -1)
            .output("y", Graph.FLOAT, -1, -1, 32);
    String shaped = graph.node("Reshape", "x", "to");
    String h = graph.node(
        "Relu", graph.node("Add", linear(graph, shaped, K, 48), graph.floats(random(48), 48)));
    String z = linear(graph, h, 48, 32);
    graph.node("Unsqueeze", List.of(),
        new String[] {
            graph.node("ReduceSum", List.of(attribute("keepdims", 0)), z), graph.longs(0, 1, 2)},
        "y");
    for (long[] shape : new long[][] {{K}, {3, K}, {2, 3, K}, {0, K}}) {
      int count = 1;
      for (long extent : shape) {
        count *= (int) extent;
      }
      try (OnnxTensor x = tensor(count);
          OnnxTensor to = OnnxTensor.createTensor(MiniLm.environment(), shape)) {
        String report = beside(graph.model(17), Map.of("x", x, "to", to), 2e-3f);
        assertEquals(2, claims(report), report);
      }
    }
  }

  @Test
  void residualsOfOtherRanks() throws Exception {
    long[][][] cases = {{{2, 3, K}, {3, 48}}, {{2, 3, K}, {48}}, {{3, K}, {2, 1, 48}},
        {{3, K}, {2, 5, 3, 1}}, {{2, 3, K}, {1, 1}}};
    for (long[][] shapes : cases) {
      for (boolean normed : new boolean[] {false, true}) {
        long[] open = new long[shapes[1].length];
        java.util.Arrays.fill(open, -1);
        long[] rows = shapes[0].clone();
        rows[0] = -1;
        Graph graph = new Graph().input("x", Graph.FLOAT, rows).input("r", Graph.FLOAT, open);
        String sum = graph.node("Add", linear(graph, "x", K, 48), "r");
        String y = normed
            ? graph.node("LayerNormalization", sum, graph.floats(random(48), 48),
                  graph.floats(random(48), 48))
            : sum;
        long[] result = new long[Math.max(rows.length, open.length)];
        java.util.Arrays.fill(result, -1);
        graph.output("y", Graph.FLOAT, result);
        graph.node("Identity", List.of(), new String[] {y}, "y");
        try (OnnxTensor x = tensor(shapes[0]); OnnxTensor r = tensor(shapes[1])) {
          String report = beside(graph.model(17), Map.of("x", x, "r", r), 1e-3f);
          assertTrue(report.contains("residual"), report);
        }
      }
    }
  }

  @Test
  void aConstantIsNoInput() throws Exception {
    Graph graph = new Graph().output("a", Graph.FLOAT, 3, K).output("b", Graph.FLOAT, 2, 5000);
    graph.node("LayerNormalization", List.of(),
        new String[] {graph.floats(random(3 * K), 3, K), graph.floats(random(K), K)}, "a");
    graph.node("Softmax", List.of(attribute("axis", -1)),
        new String[] {graph.floats(random(10000), 2, 5000)}, "b");
    beside(graph.model(17), Map.of(), 1e-4f);
  }

  @Test
  void resultsThatNobodyReads() throws Exception {
    for (String name : List.of("dead", "")) {
      Graph graph = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, K);
      graph.node("Relu", List.of(), new String[] {"x"}, "y");
      graph.node("MatMul", List.of(), new String[] {"x", graph.floats(random(K * 8), K, 8)}, name);
      try (OnnxTensor x = tensor(3, K)) {
        assertEquals(0, claims(beside(graph.model(17), Map.of("x", x), 0)));
      }
    }
  }

  @Test
  void zeroPointsThatNoByteHolds() throws Exception {
    for (int zero : new int[] {128, 3}) {
      Graph graph = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, 48);
      byte[] quants = new byte[K * 48];
      new java.util.Random(5).nextBytes(quants);
      byte[] zeros = new byte[48];
      java.util.Arrays.fill(zeros, (byte) zero);
      float[] scales = new float[48];
      java.util.Arrays.fill(scales, 0x1p-9f);
      String w = graph.node("DequantizeLinear", List.of(attribute("axis", 1)),
          graph.constant(Graph.UINT8, quants, K, 48), graph.floats(scales, 48),
          graph.constant(Graph.UINT8, zeros, 48));
      graph.node("MatMul", List.of(), new String[] {"x", w}, "y");
      try (OnnxTensor x = tensor(3, K)) {
        String report = beside(graph.model(17), Map.of("x", x), 2e-2f);
        assertEquals(zero == 128 ? 1 : 0, claims(report), report);
        assertTrue(
            zero == 128 || report.contains("left MatMul node_y: a weight less its zero point is "),
            report);
      }
    }
  }

  @Test
  void rowsOfOneElement() throws Exception {
    for (long width : new long[] {0, 1, 5}) {
      for (boolean open : new boolean[] {false, true}) {
        Graph graph =
            new Graph()
                .input("x", Graph.FLOAT, -1, -1, K)
                .input("r", Graph.FLOAT, -1, -1, open ? -1 : width)
                .output("y", Graph.FLOAT, -1, -1, -1);
        String sum = graph.node("Add", linear(graph, "x", K, 1), "r");
        graph.node("Identity", List.of(), new String[] {sum}, "y");
        try (OnnxTensor x = tensor(1, 3, K); OnnxTensor r = tensor(1, 3, width)) {
          beside(graph.model(17), Map.of("x", x, "r", r), 1e-4f);
        }
      }
    }
  }

  @Test
  void aChainThatIsFusedInBundles() throws Exception {
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, 16).output("y", Graph.FLOAT, -1, 16);
    String h = "x";
    String before = "x";
    for (int i = 0; i < 300; i++) {
      String next =
          graph.node("LayerNormalization", linear(graph, h, 16, 16), graph.floats(random(16), 16));
      if (i % 7 == 3) {
        next = graph.node("Mul", next, before);
      }
      before = h;
      h = next;
      if (i % 50 == 10) {
        graph.output("y" + i, Graph.FLOAT, -1, 16);
        graph.node("Identity", List.of(), new String[] {h}, "y" + i);
      }
    }
    graph.node("Identity", List.of(), new String[] {h}, "y");
    Map<String, OnnxTensor> inputs = new HashMap<>();
    try (OnnxTensor x = tensor(3, 16)) {
      inputs.put("x", x);
      String report = beside(graph.model(17), inputs, 5e-2f);
      assertTrue(claims(report) >= 300, report);
    }
  }
}
