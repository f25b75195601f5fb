// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.exeunt.onnxruntime.Graph.attribute;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxTensor;
import java.util.ArrayList;
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
        String half = cast(graph, Graph.FLOAT16, q);
        q = cast(graph, Graph.FLOAT, half);
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
            .output("y", Graph.FLOAT, -1, -1, -1);
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

  /** One row is a matrix to Gemm, and several matrices are none. */
  @Test
  void rowsOfUnknownRank() throws Exception {
    for (String op : List.of("Gemm", "MatMul")) {
      for (int k : new int[] {K, 1}) {
        Graph graph =
            new Graph()
                .input("x", Graph.FLOAT, -1)
                .input("to", Graph.INT64, -1)
                .output("y", Graph.FLOAT)
                .output("shape", Graph.INT64, -1);
        String y =
            graph.node(op, graph.node("Reshape", "x", "to"), graph.floats(random(k * 48), k, 48));
        graph.node("ReduceSum", List.of(attribute("keepdims", 0)), new String[] {y}, "y");
        graph.node("Shape", List.of(), new String[] {y}, "shape");
        for (long[] shape : new long[][] {{k}, {3, k}, {2, 3, k}, {1, 3, k}, {k, 3}, {}}) {
          int count = 1;
          for (long extent : shape) {
            count *= (int) extent;
          }
          try (OnnxTensor x = tensor(count);
              OnnxTensor to = OnnxTensor.createTensor(
                  ENVIRONMENT, java.nio.LongBuffer.wrap(shape), new long[] {shape.length})) {
            String report = beside(graph.model(17), Map.of("x", x, "to", to), 2e-3f);
            assertEquals(1, claims(report), report);
          }
        }
      }
    }
  }

  /** What follows a product in a type that is not the one in which it is computed. */
  @Test
  void productsOfF16() throws Exception {
    int n = 200;
    for (int rows : new int[] {1, 600}) {
      for (int[] shape : new int[][] {{}, {rows, n}, {1, n}, {rows, 1}, {n}}) {
        for (String steps : List.of("", "Relu", "norm", "first Relu norm")) {
          Graph graph = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, n);
          Map<String, OnnxTensor> inputs = new HashMap<>();
          String in = half(graph, "x");
          if (steps.startsWith("first")) {
            in = graph.node("LayerNormalization", in, halves(graph, K), halves(graph, K));
          }
          String y = graph.node("MatMul", in, halves(graph, K, n));
          y = graph.node("Add", y, halves(graph, n));
          if (steps.contains("Relu")) {
            y = graph.node("Relu", y);
          }
          if (shape.length > 0) {
            long[] open = new long[shape.length];
            java.util.Arrays.fill(open, -1);
            graph.input("r", Graph.FLOAT, open);
            long[] extents = java.util.Arrays.stream(shape).asLongStream().toArray();
            inputs.put("r", tensor(extents));
            y = graph.node("Add", y, half(graph, "r"));
          }
          if (steps.endsWith("norm")) {
            y = graph.node("LayerNormalization", List.of(attribute("epsilon", 0.1f)), y,
                halves(graph, n), halves(graph, n));
          }
          graph.node("Cast", List.of(attribute("to", Graph.FLOAT)),
              new String[] {graph.node("Neg", y)}, "y");
          inputs.put("x", tensor(rows, K));
          String report = beside(graph.model(17), inputs, 2e-2f);
          assertTrue(report.contains("f16, bias" + (steps.contains("Relu") ? ", ReLU" : "")
                         + (shape.length > 0 ? ", residual" : "")
                         + (steps.endsWith("norm") ? ", LayerNorm" : "")),
              report);
          inputs.values().forEach(OnnxTensor::close);
        }
      }
    }
  }

  private static String half(Graph graph, String x) {
    return cast(graph, Graph.FLOAT16, x);
  }

  /** Random numbers in f16: quarters from -1 to 1. */
  private String halves(Graph graph, long... shape) {
    int count = 1;
    for (long extent : shape) {
      count *= (int) extent;
    }
    short[] bits = new short[count];
    for (int i = 0; i < count; i++) {
      int value = random.nextInt(5);
      bits[i] = (short) (new int[] {0, 0x3400, 0x3800, 0x3a00, 0x3c00}[value]
          | (random.nextBoolean() ? 0x8000 : 0));
    }
    return graph.halves(bits, Graph.FLOAT16, shape);
  }

  /** f16 has infinities and numbers of few digits. */
  @Test
  void constantsOfF16() throws Exception {
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, 32).output("y", Graph.FLOAT, -1, 6);
    short[] bias = {(short) 0x7c00, (short) 0xfc00, 0x300, 0x1ff, 1, (short) 0x83ff};
    String y = graph.node(
        "MatMul", half(graph, "x"), graph.halves(new short[32 * 6], Graph.FLOAT16, 32, 6));
    y = graph.node("Add", y, graph.halves(bias, Graph.FLOAT16, 6));
    graph.node(
        "Mul", List.of(), new String[] {cast(graph, Graph.FLOAT, y), graph.scalar(65536)}, "y");
    try (OnnxTensor x = tensor(3, 32)) {
      String report = beside(graph.model(17), Map.of("x", x), 1e-3f);
      assertTrue(report.contains("f16, bias"), report);
    }
  }

  /** Each activation from one end of its range to the other, and of no number. */
  @Test
  void activationsFromEndToEnd() throws Exception {
    float[] identity = new float[32 * 32];
    for (int i = 0; i < 32; i++) {
      identity[i * 33] = 1;
    }
    for (String op : List.of("Relu", "none", "tanh", "SiLU")) {
      Graph graph = new Graph().input("x", Graph.FLOAT, -1, 32).output("y", Graph.FLOAT, -1, 32);
      String h = graph.node("MatMul", "x", graph.floats(identity, 32, 32));
      String y = switch (op) {
        case "Relu" -> graph.node("Relu", h);
        case "SiLU" -> graph.node("Mul", h, graph.node("Sigmoid", h));
        default -> graph.node("Gelu", List.of(attribute("approximate", op)), h);
      };
      graph.node("Identity", List.of(), new String[] {y}, "y");
      for (float end : new float[] {1, 10, 120}) {
        float[] values = new float[32 * 40];
        for (int i = 0; i < values.length; i++) {
          values[i] = end * (2f * i / values.length - 1);
        }
        if (end == 1) {
          java.util.Arrays.fill(values, 64, 96, Float.NaN);
        }
        try (OnnxTensor x = OnnxTensor.createTensor(
                 ENVIRONMENT, java.nio.FloatBuffer.wrap(values), new long[] {40, 32})) {
          String report = beside(graph.model(20), Map.of("x", x), end > 10 ? 2e-5f : 4e-6f);
          assertTrue(report.contains("32 x 32 bf16")
                  || report.contains(op.equals("none") ? "GELU"
                          : op.equals("tanh")          ? "GELU (tanh)"
                          : op.equals("Relu")          ? "ReLU"
                                                       : op),
              report);
        }
      }
    }
  }

  /** Weights in one constant that are read in two ways, and two constants that are nearly one. */
  @Test
  void weightsThatAreShared() throws Exception {
    int k = 96; // the head is parted where no panel ends
    float[] near = random(k * k);
    Graph graph = new Graph();
    String[] constants = {graph.floats(near, k, k), null};
    near[1] += 3;
    constants[1] = graph.floats(near, k, k);
    String[] results = new String[5];
    for (int i = 0; i < 5; i++) {
      if (i < 4) {
        graph.input("x" + i, Graph.FLOAT, -1, k);
      }
      graph.output("y" + i, i == 4 ? Graph.INT64 : Graph.FLOAT, -1, i == 4 ? 1 : k);
      // The head comes after the others: a graph has the order in which it runs.
      String x = i == 4 ? graph.node("Tanh", results[0]) : "x" + i;
      String y = graph.node("Gemm", List.of(attribute("transB", i % 2)), x, constants[i / 2 % 2]);
      results[i] = y;
      graph.node(i == 4 ? "ArgMax" : "Identity",
          i == 4 ? List.of(attribute("axis", -1)) : List.of(), new String[] {y}, "y" + i);
    }
    Map<String, OnnxTensor> inputs = new HashMap<>();
    for (int i = 0; i < 4; i++) {
      inputs.put("x" + i, tensor(64, k));
    }
    String report = beside(graph.model(17), inputs, 2e-4f);
    assertEquals(5, claims(report), report);
    inputs.values().forEach(OnnxTensor::close);
  }

  @Test
  void residualsOfOtherRanks() throws Exception {
    long[][][] cases = {{{2, 3, K}, {3, 48}}, {{2, 3, K}, {48}}, {{3, K}, {2, 1, 48}},
        {{3, K}, {2, 5, 3, 1}}, {{2, 3, K}, {1, 1}}, {{1, K}, {0, 48}}, {{0, K}, {1, 48}},
        {{2, 1, K}, {2, 0, 48}}, {{2, 1100, K}, {1, 1100, 48}}};
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
  void whatGemmAddsFitsItsResult() throws Exception {
    long[][][] cases = {{{3, K}, {3, 48}}, {{3, K}, {1, 48}}, {{1, K}, {1, 48}}, {{0, K}, {0, 48}},
        {{0, K}, {1, 48}}, {{1, K}, {3, 48}}, {{3, K}, {2, 48}}};
    for (long[][] shapes : cases) {
      Graph graph =
          new Graph()
              .input("x", Graph.FLOAT, -1, K)
              .input("c", Graph.FLOAT, -1, 48)
              .output("y", Graph.FLOAT, -1, -1)
              .output("z", Graph.FLOAT, -1, -1);
      String sum = graph.node("Gemm", "x", graph.floats(random(K * 48), K, 48), "c");
      graph.node(
          "LayerNormalization", List.of(), new String[] {sum, graph.floats(random(48), 48)}, "y");
      String plain = graph.node("Gemm", "x", graph.floats(random(K * 48), K, 48), "c");
      graph.node("Relu", List.of(), new String[] {plain}, "z");
      try (OnnxTensor x = tensor(shapes[0]); OnnxTensor c = tensor(shapes[1])) {
        String report = beside(graph.model(17), Map.of("x", x, "c", c), 1e-3f);
        assertEquals(2, report.split("residual", -1).length - 1, report);
      }
    }
  }

  @Test
  void whatGemmAddsIsMadeOfItsInput() throws Exception {
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, K);
    String h = norm(graph, "LayerNormalization", "x");
    String[] results = new String[3];
    String c = h;
    for (int i = 0; i < results.length; i++) {
      c = graph.node("Gemm", h, graph.floats(random(K * K), K, K), c);
      results[i] = c;
    }
    graph.node("Sum", List.of(), results, "y");
    try (OnnxTensor x = tensor(3, K)) {
      String report = beside(graph.model(17), Map.of("x", x), 5e-2f);
      assertEquals(2, report.split("residual", -1).length - 1, report);
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
      graph.node("LayerNormalization", List.of(), new String[] {"x", graph.floats(random(K), K)},
          name + "norm");
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
    List<String> all = new ArrayList<>();
    for (int i = 0; i < 300; i++) {
      String y = linear(graph, h, 16, 16);
      if (i % 7 == 0 && i > 0) { // made and read by others of its bundle
        y = graph.node("Add", y, all.get(i - 3));
      }
      String next = graph.node("LayerNormalization", y, graph.floats(random(16), 16));
      if (i % 7 == 3) {
        next = graph.node("Mul", next, before);
      }
      before = h;
      h = next;
      all.add(h);
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

  /** Norms of each kind in f16, of more rows than one thread takes, and with one result of two. */
  @Test
  void normsOfSums() throws Exception {
    for (boolean layer : new boolean[] {true, false}) {
      for (String read : List.of("y", "sum", "y sum")) {
        for (boolean half : new boolean[] {false, true}) {
          Graph graph =
              new Graph().input("x", Graph.FLOAT, -1, -1, 32).input("s", Graph.FLOAT, -1, -1, -1);
          List<String> inputs = new java.util.ArrayList<>();
          for (String name : List.of("x", "s")) {
            String small = graph.node("Mul", name, graph.scalar(0.01f));
            inputs.add(half ? half(graph, small) : small);
          }
          for (int i = layer ? 0 : 1; i < 3; i++) {
            inputs.add(half ? halves(graph, 32) : graph.floats(random(32), 32));
          }
          List<Message> epsilon =
              read.equals("y sum") ? List.of(attribute("epsilon", 1e-4f)) : List.of();
          graph.node("com.microsoft:Skip" + (layer ? "" : "Simplified") + "LayerNormalization",
              epsilon, inputs.toArray(new String[0]), "y_", "", "", "sum_");
          for (String name : read.split(" ")) {
            graph.output(name, Graph.FLOAT, -1, -1, 32);
            graph.node("Cast", List.of(attribute("to", Graph.FLOAT)),
                new String[] {graph.node("Neg", name + "_")}, name);
          }
          for (long[] shape : new long[][] {{2, 3, 32}, {2, 600, 32}, {1, 600, 32}}) {
            try (OnnxTensor x = tensor(2, shape[1], 32); OnnxTensor s = tensor(shape)) {
              String report = beside(graph.model(17), Map.of("x", x, "s", s), half ? 2e-2f : 2e-4f);
              assertTrue(report.contains(": sum, "), report);
            }
          }
        }
      }
    }
  }

  /** Before opset 13 it went over all axes from the second on. */
  @Test
  void wideSoftmaxOfOldOpsets() throws Exception {
    for (int opset : new int[] {11, 12, 13}) {
      Graph graph =
          new Graph().input("x", Graph.FLOAT, 2, 3, 4096).output("y", Graph.FLOAT, 2, 3, 4096);
      graph.node("Softmax", List.of(), new String[] {"x"}, "y");
      try (OnnxTensor x = tensor(2, 3, 4096)) {
        String report = beside(graph.model(opset), Map.of("x", x), 1e-6f);
        assertEquals(opset == 13 ? 1 : 0, claims(report), report);
      }
    }
  }
}
