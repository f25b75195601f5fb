// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.exeunt.onnxruntime.Graph.attribute;

import ai.onnxruntime.OnnxTensor;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/**
 * Graphs of products that differ in one thing from what the provider takes. Each runs beside ONNX
 * Runtime alone, and the report must name no more than what may be taken.
 */
class NearMissTest extends GraphTestBase {
  // ---- the product itself ----

  @Test
  void operandsOfOtherTypes() throws Exception {
    Graph wide = graph();
    double[] values = new double[K * N];
    Arrays.setAll(values, i -> random.nextGaussian());
    String y = wide.node(
        "MatMul", cast(wide, Graph.DOUBLE, "x"), wide.constant(Graph.DOUBLE, bytes(values), K, N));
    expect("", end(wide, cast(wide, Graph.FLOAT, y)));
    Graph whole = graph();
    byte[] raw = new byte[4 * K * N];
    for (int i = 0; i < raw.length; i += 4) {
      raw[i] = (byte) random.nextInt(9);
    }
    y = whole.node("MatMul", cast(whole, Graph.INT32, "x"), whole.constant(Graph.INT32, raw, K, N));
    expect("", end(whole, cast(whole, Graph.FLOAT, y)));
    // Its operands are floats, but what comes before the Cast is not.
    Graph before = graph();
    y = product(before, cast(before, Graph.FLOAT, cast(before, Graph.INT64, "x")));
    expect(PLAIN, end(before, y));
  }

  @Test
  void attributesOfGemm() throws Exception {
    for (Message attribute : List.of(attribute("beta", 2f), attribute("alpha", 0.5f))) {
      Graph graph = graph();
      String y = graph.node(
          "Gemm", List.of(attribute), "x", graph.floats(random(K * N), K, N), row(graph, N));
      expect("", end(graph, y));
    }
    Graph turned = new Graph().input("x", Graph.FLOAT, K, -1).output("y", Graph.FLOAT, -1, N);
    turned.node("Gemm", List.of(attribute("transA", 1)),
        new String[] {"x", turned.floats(random(K * N), K, N)}, "y");
    try (OnnxTensor x = tensor(K, 5)) {
      expect("", turned, 17, Map.of("x", x));
    }
    // As many columns as rows, so that no shape tells them apart.
    Graph square = new Graph().input("x", Graph.FLOAT, K, K).output("y", Graph.FLOAT, K, K);
    square.node("Gemm", List.of(attribute("transA", 1)),
        new String[] {"x", square.floats(random(K * K), K, K)}, "y");
    try (OnnxTensor x = tensor(K, K)) {
      expect("", square, 17, Map.of("x", x));
    }
  }

  @Test
  void whatGemmAdds() throws Exception {
    for (long[] shape : new long[][] {{3, N}, {3, 1}, {1}, {}, {1, N}, {N}}) {
      boolean taken = shape.length > 0 && shape[shape.length - 1] == N && shape[0] != 3;
      int count = 1;
      for (long extent : shape) {
        count *= (int) extent;
      }
      Graph graph = graph();
      String y = graph.node(
          "Gemm", "x", graph.floats(random(K * N), K, N), graph.floats(random(count), shape));
      try (OnnxTensor x = tensor(3, K)) {
        expect(taken ? PLAIN + ", bias" : "", end(graph, y), 17, Map.of("x", x));
      }
    }
    Graph one = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, 1);
    String column = one.floats(random(K), K, 1);
    end(one, one.node("Gemm", "x", column, one.floats(random(1))));
    try (OnnxTensor x = tensor(3, K)) {
      expect("", one, 17, Map.of("x", x));
    }
    for (long[] shape : new long[][] {{N}, {-1, N}, {1, N}, {-1, -1}, {-1, 1}, {1}, {}}) {
      boolean taken = shape.length > 0 && shape[shape.length - 1] == N;
      Graph given = graph().input("c", Graph.FLOAT, shape);
      String y = given.node("Gemm", "x", given.floats(random(K * N), K, N), "c");
      long[] actual = shape.clone();
      for (int i = 0; i < shape.length; i++) {
        actual[i] = shape[i] >= 0 ? shape[i] : i == 0 ? 3 : N;
      }
      try (OnnxTensor x = tensor(3, K); OnnxTensor c = tensor(actual)) {
        expect(taken ? PLAIN + ", residual" : "", end(given, y), 17, Map.of("x", x, "c", c));
      }
    }
  }

  @Test
  void weightsThatAreNoMatrix() throws Exception {
    Graph batch = new Graph().input("x", Graph.FLOAT, 2, -1, K).output("y", Graph.FLOAT, 2, -1, N);
    end(batch, batch.node("MatMul", "x", batch.floats(random(2 * K * N), 2, K, N)));
    try (OnnxTensor x = tensor(2, 3, K)) {
      expect("", batch, 17, Map.of("x", x));
    }
    Graph vector = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1);
    end(vector, vector.node("MatMul", "x", row(vector, K)));
    expect("", vector);
    for (int[] shape : new int[][] {{K, 0}, {0, N}}) {
      Graph empty =
          new Graph().input("x", Graph.FLOAT, -1, shape[0]).output("y", Graph.FLOAT, -1, shape[1]);
      end(empty, empty.node("MatMul", "x", empty.floats(new float[0], shape[0], shape[1])));
      try (OnnxTensor x = tensor(3, shape[0])) {
        expect("", empty, 17, Map.of("x", x));
      }
    }
  }

  // ---- what follows ----

  @Test
  void addsThatAreNoBias() throws Exception {
    for (long[] shape : new long[][] {{1}, {}, {3, 1}, {3, N}, {1, N}, {N}}) {
      int count = 1;
      for (long extent : shape) {
        count *= (int) extent;
      }
      boolean taken = shape.length > 0 && shape[shape.length - 1] == N && shape[0] != 3;
      Graph graph = graph();
      end(graph, graph.node("Add", product(graph, "x"), graph.floats(random(count), shape)));
      try (OnnxTensor x = tensor(3, K)) {
        expect(taken ? PLAIN + ", bias" : PLAIN, graph, 17, Map.of("x", x));
      }
    }
    Graph column = graph(); // one row becomes N
    end(column, column.node("Add", product(column, "x"), column.floats(random(N), N, 1)));
    try (OnnxTensor x = tensor(1, K)) {
      expect(PLAIN, column, 17, Map.of("x", x));
    }
    Graph deeper = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, 1, -1, N);
    end(deeper, deeper.node("Add", product(deeper, "x"), deeper.floats(random(N), 1, 1, N)));
    expect(PLAIN, deeper);
    Graph two = graph();
    end(two, two.node("Add", two.node("Add", product(two, "x"), row(two, N)), row(two, N)));
    expect(PLAIN + ", bias", two);
    Graph late = graph();
    end(late, late.node("Add", late.node("Relu", product(late, "x")), row(late, N)));
    expect(PLAIN + ", ReLU", late);
  }

  @Test
  void residualsThatAreNone() throws Exception {
    // Of fewer axes, and of more: values alone tell whether they are broadcast as they should be.
    Graph fewer =
        new Graph()
            .input("x", Graph.FLOAT, -1, -1, K)
            .input("r", Graph.FLOAT, -1, N)
            .output("y", Graph.FLOAT, -1, -1, N);
    end(fewer, fewer.node("Add", product(fewer, "x"), "r"));
    for (int rows : new int[] {4, 1}) {
      try (OnnxTensor x = tensor(2, 4, K); OnnxTensor r = tensor(rows, N)) {
        expect(PLAIN + ", residual", fewer, 17, Map.of("x", x, "r", r));
      }
    }
    Graph more =
        new Graph()
            .input("x", Graph.FLOAT, -1, K)
            .input("r", Graph.FLOAT, -1, -1, N)
            .output("y", Graph.FLOAT, -1, -1, N);
    end(more, more.node("Add", "r", product(more, "x")));
    try (OnnxTensor x = tensor(4, K); OnnxTensor r = tensor(2, 4, N)) {
      expect(PLAIN + ", residual", more, 17, Map.of("x", x, "r", r));
    }
    Graph twice = graph();
    String y = product(twice, "x");
    expect(PLAIN, end(twice, twice.node("Add", y, y)));
    Graph constant = graph();
    end(constant,
        constant.node("Add", product(constant, "x"), constant.floats(random(3 * N), 3, N)));
    try (OnnxTensor x = tensor(3, K)) {
      expect(PLAIN, constant, 17, Map.of("x", x));
    }
    Graph two = graph().input("r", Graph.FLOAT, -1, N);
    end(two, two.node("Add", two.node("Add", product(two, "x"), "r"), two.node("Abs", "r")));
    Graph relu = graph().input("r", Graph.FLOAT, -1, N);
    end(relu, relu.node("Relu", relu.node("Add", product(relu, "x"), "r")));
    Graph bias = graph().input("r", Graph.FLOAT, -1, N);
    end(bias,
        bias.node(
            "Relu", bias.node("Add", bias.node("Add", product(bias, "x"), "r"), row(bias, N))));
    for (Graph graph : List.of(two, relu, bias)) {
      try (OnnxTensor x = tensor(3, K); OnnxTensor r = tensor(3, N)) {
        expect(PLAIN + ", residual", graph, 17, Map.of("x", x, "r", r));
      }
    }
  }

  /** What a product of two reads may depend on the other one. */
  @Test
  void residualFromTheNextProduct() throws Exception {
    Graph graph =
        new Graph().input("x", Graph.FLOAT, -1, -1, K).output("y", Graph.FLOAT, -1, -1, N);
    String a = product(graph, "x");
    String b = product(graph, "x");
    end(graph, graph.node("Add", a, graph.node("Tanh", b)));
    try (OnnxTensor x = tensor(2, 3, K)) {
      expect(PLAIN + "; " + PLAIN, graph, 17, Map.of("x", x));
    }
  }

  @Test
  void oneActivation() throws Exception {
    for (String domain : List.of("", "com.microsoft:")) {
      Graph graph = graph();
      end(graph, graph.node("Relu", graph.node(domain + "Gelu", product(graph, "x"))));
      expect(PLAIN + ", GELU", graph, 20);
    }
    for (String approximate : List.of("tanh", "none")) {
      Graph graph = graph();
      end(graph,
          graph.node("Gelu", List.of(attribute("approximate", approximate)), product(graph, "x")));
      expect(PLAIN + (approximate.equals("tanh") ? ", GELU (tanh)" : ", GELU"), graph, 20);
    }
    for (boolean biased : new boolean[] {false, true}) {
      Graph graph = graph();
      String y = product(graph, "x");
      String bias = row(graph, N);
      end(graph,
          biased ? graph.node("com.microsoft:FastGelu", y, bias)
                 : graph.node("com.microsoft:FastGelu", y));
      expect(biased ? PLAIN : PLAIN + ", GELU (tanh)", graph);
    }
  }

  @Test
  void siluOfAnother() throws Exception {
    Graph other = graph().input("z", Graph.FLOAT, -1, N);
    end(other, other.node("Mul", "z", other.node("Sigmoid", product(other, "x"))));
    Graph twice = graph().input("z", Graph.FLOAT, -1, N);
    String y = product(twice, "x");
    String sigmoid = twice.node("Sigmoid", y);
    end(twice, twice.node("Add", twice.node("Mul", y, sigmoid), twice.node("Mul", "z", sigmoid)));
    Graph seen = graph().input("z", Graph.FLOAT, -1, N).output("h", Graph.FLOAT, -1, N);
    y = seen.node("Add", product(seen, "x"), row(seen, N));
    end(seen, seen.node("Mul", y, seen.node("Sigmoid", y)));
    seen.node("Identity", List.of(), new String[] {y}, "h");
    // y sigmoid(y) + tanh(y): three readers.
    Graph third = graph().input("z", Graph.FLOAT, -1, N);
    y = product(third, "x");
    end(third,
        third.node("Add", third.node("Mul", y, third.node("Sigmoid", y)), third.node("Tanh", y)));
    Graph added = graph().input("z", Graph.FLOAT, -1, N);
    y = product(added, "x");
    end(added, added.node("Add", y, added.node("Sigmoid", y)));
    // sigmoid(y) times another, where y has two readers as well.
    Graph beside = graph().input("z", Graph.FLOAT, -1, N);
    y = product(beside, "x");
    end(beside,
        beside.node(
            "Sub", beside.node("Mul", "z", beside.node("Sigmoid", y)), beside.node("Tanh", y)));
    Map<Graph, String> all = Map.of(beside, PLAIN, other, PLAIN, twice, PLAIN, seen,
        PLAIN + ", bias", third, PLAIN, added, PLAIN);
    for (Map.Entry<Graph, String> graph : all.entrySet()) {
      try (OnnxTensor x = tensor(3, K); OnnxTensor z = tensor(3, N)) {
        expect(graph.getValue(), graph.getKey(), 17, Map.of("x", x, "z", z));
      }
    }
  }

  /** GELU by erf, whole and with one thing changed. */
  private Graph gelu(String change) {
    Graph graph = graph();
    String h = product(graph, "x");
    float root = (float) Math.sqrt(2);
    String scaled = switch (change) {
      case "times" -> graph.node("Mul", h, graph.scalar(1 / root));
      case "times another" -> graph.node("Mul", h, graph.scalar(0.8f));
      case "by another" -> graph.node("Div", h, graph.scalar(1.5f));
      case "by nearly" -> graph.node("Div", h, graph.scalar(root * 1.0002f));
      case "by a row" -> {
        float[] roots = new float[N];
        Arrays.fill(roots, 1, N, 3);
        roots[0] = root;
        yield graph.node("Div", h, graph.floats(roots, N));
      }
      case "by more axes" -> graph.node("Div", h, graph.floats(new float[] {root}, 1, 1, 1));
      case "divides" -> graph.node("Div", graph.scalar(root), h);
      default -> graph.node("Div", h, graph.scalar(root));
    };
    String erf = graph.node(change.equals("tanh") ? "Tanh" : "Erf", scaled);
    String plus = change.equals("minus")
        ? graph.node("Sub", erf, graph.scalar(1))
        : graph.node("Add", erf, graph.scalar(change.equals("two") ? 2 : 1));
    String half = graph.scalar(change.endsWith("third") ? 0.3f : 0.5f);
    if (change.startsWith("first")) {
      String left = change.endsWith("of another")
          ? graph.node("Mul", graph.node("Abs", h), half)
          : graph.node("Mul", h, half);
      return end(graph, graph.node("Mul", left, plus));
    }
    if (change.startsWith("inner")) {
      String factor = graph.node("Mul", plus, half);
      return end(graph,
          change.endsWith("sum") ? graph.node("Add", h, factor) : graph.node("Mul", h, factor));
    }
    if (change.equals("plain product")) {
      return end(graph, graph.node("Mul", h, plus));
    }
    if (change.equals("leaves")) {
      graph.output(h, Graph.FLOAT, -1, N);
    }
    String product = graph.node(change.equals("sum") ? "Add" : "Mul", h, plus);
    if (change.equals("seen")) {
      graph.output("seen", Graph.FLOAT, -1, N);
      graph.node("Tanh", List.of(), new String[] {erf}, "seen");
    }
    return end(graph, graph.node(change.equals("divided") ? "Div" : "Mul", product, half));
  }

  @Test
  void whatIsNearlyGelu() throws Exception {
    for (String change : List.of("", "times", "first", "inner")) {
      expect(PLAIN + ", GELU", gelu(change));
    }
    for (String change :
        List.of("times another", "by another", "by nearly", "by a row", "by more axes", "divides",
            "tanh", "minus", "two", "third", "first third", "first of another", "inner third",
            "inner sum", "plain product", "sum", "seen", "leaves", "divided")) {
      expect(PLAIN, gelu(change));
    }
  }

  /** A product of two constants is left, and what follows is taken by itself. */
  @Test
  void productsOfConstants() throws Exception {
    Graph graph = graph();
    String y =
        graph.node("MatMul", graph.floats(random(3 * K), 3, K), graph.floats(random(K * N), K, N));
    y = graph.node("LayerNormalization", y, row(graph, N));
    end(graph, graph.node("Add", y, product(graph, "x")));
    try (OnnxTensor x = tensor(3, K)) {
      expect("linear of 96 x 64 f32, residual; LayerNorm", graph, 17, Map.of("x", x));
    }
  }

  @Test
  void castsToOtherTypes() throws Exception {
    for (int type : new int[] {Graph.INT64, Graph.DOUBLE}) {
      Graph graph = graph();
      String y = cast(graph, type, product(graph, "x"));
      end(graph, cast(graph, Graph.FLOAT, graph.node("Add", y, y)));
      expect(PLAIN, graph);
    }
  }

  @Test
  void nothingFollowsANorm() throws Exception {
    for (String op : List.of("bias", "Relu", "residual", "norm", "Cast")) {
      Graph graph = graph();
      String y =
          graph.node("LayerNormalization", product(graph, "x"), row(graph, N), row(graph, N));
      String last = switch (op) {
        case "bias" -> graph.node("Add", y, row(graph, N));
        case "Relu" -> graph.node("Relu", y);
        case "residual" -> {
          graph.input("r", Graph.FLOAT, -1, N);
          yield graph.node("Add", y, "r");
        }
        case "Cast" -> graph.node("Sin", cast(graph, Graph.FLOAT, y));
        default ->
          graph.node("LayerNormalization", graph.node("Add", y, row(graph, N)), row(graph, N));
      };
      end(graph, last);
      try (OnnxTensor x = tensor(3, K); OnnxTensor r = tensor(3, N)) {
        expect(PLAIN + ", LayerNorm" + (op.equals("norm") ? "; LayerNorm" : ""), graph, 17,
            op.equals("residual") ? Map.of("x", x, "r", r) : Map.of("x", x));
      }
    }
  }

  // ---- what comes first ----

  @Test
  void whatOthersReadAsWell() throws Exception {
    for (String change :
        List.of("norm", "cast", "norm's input", "norm of two", "norm leaves", "narrow norm")) {
      Graph graph = graph().output("seen", Graph.FLOAT, -1, -1);
      String narrow = cast(graph, Graph.FLOAT16, "x");
      if (change.equals("narrow norm")) {
        short[] ones = new short[K];
        Arrays.fill(ones, (short) 0x3c00);
        narrow = graph.node("LayerNormalization", narrow, graph.halves(ones, Graph.FLOAT16, K));
      }
      String x = change.equals("cast") || change.equals("narrow norm")
          ? cast(graph, Graph.FLOAT, narrow)
          : graph.node("LayerNormalization", "x", row(graph, K), row(graph, K));
      if (change.equals("norm leaves")) {
        graph.output(x, Graph.FLOAT, -1, K);
      }
      String y = product(graph, x);
      if (change.equals("norm of two")) {
        y = graph.node("Mul", y, product(graph, x));
      }
      graph.node("Tanh", List.of(),
          new String[] {change.equals("norm's input")                            ? "x"
                  : change.equals("norm of two") || change.equals("norm leaves") ? y
                  : change.equals("narrow norm")
                  ? cast(graph, Graph.FLOAT, graph.node("Neg", narrow))
                  : x},
          "seen");
      end(graph, y);
      String expected = switch (change) {
        case "norm", "norm leaves", "narrow norm" -> PLAIN + "; LayerNorm";
        case "norm of two" -> PLAIN + "; " + PLAIN;
        default -> PLAIN;
      };
      expect(expected, graph);
    }
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, 4, K / 4).output("y", Graph.FLOAT, -1, N);
    String normed = graph.node("LayerNormalization", "x", row(graph, K / 4));
    end(graph, product(graph, graph.node("Reshape", normed, graph.longs(-1, K))));
    try (OnnxTensor x = tensor(3, 4, K / 4)) {
      expect(PLAIN + "; LayerNorm", graph, 17, Map.of("x", x));
    }
  }
}
