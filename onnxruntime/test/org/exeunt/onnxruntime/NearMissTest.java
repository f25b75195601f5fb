// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.exeunt.onnxruntime.Graph.attribute;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtSession.SessionOptions.OptLevel;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/**
 * Graphs that differ in one thing from what the provider takes. Each runs beside ONNX Runtime alone,
 * and the report must name no more than what may be taken.
 */
class NearMissTest extends GraphTestBase {
  private static final int DOUBLE = 11;
  private static final int INT16 = 5;

  /** From x of [-1,K] to y of [-1,N]. */
  private static Graph graph() {
    return new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, N);
  }

  private String product(Graph graph, String x) {
    return graph.node("MatMul", x, graph.floats(random(K * N), K, N));
  }

  private String row(Graph graph, int width) {
    return graph.floats(random(width), width);
  }

  private static String cast(Graph graph, int type, String value) {
    return graph.node("Cast", List.of(attribute("to", type)), value);
  }

  private static Graph end(Graph graph, String value) {
    return graph.node("Identity", List.of(), new String[] {value}, "y");
  }

  /** What the report says was claimed, without the names of nodes. */
  private static String claims(List<String> report) {
    return report.stream()
        .filter(line -> line.startsWith("claimed "))
        .distinct()
        .map(line -> line.substring(line.indexOf(": ") + 2))
        .collect(Collectors.joining("; "));
  }

  /**
   * Compares results as ONNX Runtime optimises a graph and as it is, and what is claimed of the
   * latter: ONNX Runtime's own fusions come first, and would leave less to be mistaken.
   */
  private void expect(String claims, Graph graph, int opset, Map<String, OnnxTensor> inputs,
      float tolerance) throws Exception {
    byte[] model = graph.model(opset);
    for (OptLevel level : List.of(OptLevel.ALL_OPT, OptLevel.NO_OPT)) {
      List<float[]> alone = run(model, null, inputs, level);
      List<String> report = report(model, inputs, alone, tolerance, level);
      if (level == OptLevel.NO_OPT) {
        assertEquals(claims, claims(report), () -> String.join("\n", report));
      }
    }
  }

  private void expect(String claims, Graph graph, int opset, Map<String, OnnxTensor> inputs)
      throws Exception {
    expect(claims, graph, opset, inputs, 5e-4f);
  }

  private void expect(String claims, Graph graph, int opset) throws Exception {
    for (int rows : new int[] {3, 1}) {
      try (OnnxTensor x = tensor(rows, K)) {
        expect(claims, graph, opset, Map.of("x", x));
      }
    }
  }

  private void expect(String claims, Graph graph) throws Exception {
    expect(claims, graph, 17);
  }

  private static final String PLAIN = "linear of 96 x 64 f32";

  private static byte[] bytes(double[] values) {
    ByteBuffer raw = ByteBuffer.allocate(8 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    raw.asDoubleBuffer().put(values);
    return raw.array();
  }

  // ---- the product itself ----

  @Test
  void operandsOfOtherTypes() throws Exception {
    Graph wide = graph();
    double[] values = new double[K * N];
    Arrays.setAll(values, i -> random.nextGaussian());
    String y =
        wide.node("MatMul", cast(wide, DOUBLE, "x"), wide.constant(DOUBLE, bytes(values), K, N));
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

  /** f32 weights that bf16 holds are taken even where f32 is to be left alone. */
  @Test
  void narrowWeightsUnderTheOptionF32() throws Exception {
    for (boolean narrow : new boolean[] {true, false}) {
      Graph graph = graph();
      float[] weights = random(K * N);
      for (int i = 0; i < weights.length; i++) {
        int word = Float.floatToRawIntBits(weights[i]);
        // Of what is not narrow, the last one alone.
        weights[i] = narrow || i < weights.length - 1
            ? Float.intBitsToFloat(word & 0xffff0000)
            : Float.intBitsToFloat(word | 1);
      }
      end(graph, graph.node("MatMul", "x", graph.floats(weights, K, N)));
      Path report = Files.createTempFile(folder, "narrow", ".txt");
      try (OnnxTensor x = tensor(3, K)) {
        Map<String, OnnxTensor> inputs = Map.of("x", x);
        assertArrayEquals(run(graph.model(17), null, inputs).get(0),
            run(graph.model(17), everything().option("f32", "0").report(report), inputs).get(0),
            1e-4f);
      }
      assertEquals(narrow ? PLAIN : "", claims(Files.readAllLines(report)));
    }
  }

  /** Without the option all, what ONNX Runtime computes as fast is its own. */
  @Test
  void productsThatDoNotPay() throws Exception {
    String left = "ONNX Runtime is as fast or faster here";
    Map<String, String> cases = new LinkedHashMap<>();
    cases.put("64 x 96", "left MatMul node_y: " + left);
    cases.put("1448 x 1449", "claimed MatMul node_y: linear of 1449 x 1448 f32");
    cases.put("1448 x 1448", "left MatMul node_y: " + left);
    cases.put("256 x 256 after a norm", "claimed MatMul node_y: linear of 256 x 256 f32");
    cases.put("256 x 255 after a norm", "left MatMul node_y: " + left);
    cases.put("64 x 96 in few rows after a norm", "left MatMul node_y: " + left);
    cases.put(
        "64 x 96 in several rows after a norm", "claimed MatMul node_y: linear of 96 x 64 f32");
    cases.put("1024 x 1024 as bf16", "claimed MatMul node_y: linear of 1024 x 1024 f32");
    cases.put("1024 x 1023 as bf16", "left MatMul node_y: " + left);
    cases.put("724 x 725 in several rows", "claimed MatMul node_y: linear of 725 x 724 f32");
    for (Map.Entry<String, String> one : cases.entrySet()) {
      String[] words = one.getKey().split(" ");
      int k = Integer.parseInt(words[0]);
      int n = Integer.parseInt(words[2]);
      int rows = one.getKey().contains("few ") ? 3 : one.getKey().contains("several") ? 4 : -1;
      float[] weights = random(k * n);
      for (int i = 0; i < weights.length && one.getKey().endsWith("bf16"); i++) {
        weights[i] = Float.intBitsToFloat(Float.floatToRawIntBits(weights[i]) & 0xffff0000);
      }
      Graph graph = new Graph().input("x", Graph.FLOAT, rows, k).output("y", Graph.FLOAT, rows, n);
      String x = one.getKey().endsWith("norm")
          ? graph.node("LayerNormalization", "x", row(graph, k), row(graph, k))
          : "x";
      graph.node("MatMul", List.of(), new String[] {x, graph.floats(weights, k, n)}, "y");
      Path report = Files.createTempFile(folder, "pay", ".txt");
      try (OnnxTensor in = tensor(Math.max(rows, 2), k)) {
        Map<String, OnnxTensor> inputs = Map.of("x", in);
        assertArrayEquals(run(graph.model(17), null, inputs).get(0),
            run(graph.model(17), ExeuntProvider.configure().report(report), inputs).get(0), 1e-3f);
      }
      List<String> lines = Files.readAllLines(report);
      assertTrue(lines.contains(one.getValue()), one.getKey() + ": " + lines);
      // The norm before a product that is left is taken by itself.
      assertEquals(one.getKey().endsWith("norm") && one.getValue().startsWith("left"),
          lines.stream().anyMatch(line -> line.endsWith(": LayerNorm")), one.getKey());
    }
  }

  /** The same of weights in blocks, and of two products of one input. */
  @Test
  void blocksThatDoNotPay() throws Exception {
    // N, elements of a scale, accuracy_level (-1: not given), rows (-1: not known), whether it is
    // taken with K = 512
    int[][] cases = {{2048, 32, -1, -1, 1}, {2047, 32, -1, -1, 0}, {2048, 32, 1, -1, 1},
        {2048, 32, 4, -1, 0}, {32768, 32, 4, -1, 1}, {32767, 32, 4, -1, 0}, {2048, 32, 4, 8, 1},
        {2047, 32, 4, 8, 0}, {8192, 64, 4, 8, 1}, {8191, 64, 4, 8, 0}, {1024, 0, 0, -1, 1},
        {1023, 0, 0, -1, 0}};
    for (int[] one : cases) {
      int n = one[0];
      int block = one[1];
      int rows = one[3];
      Graph graph =
          new Graph().input("x", Graph.FLOAT, rows, 512).output("y", Graph.FLOAT, rows, n);
      if (block == 0) { // a scale for all
        String w = graph.node("DequantizeLinear",
            graph.constant(Graph.INT8, quants(512 * n), 512, n), graph.scalar(0.01f));
        graph.node("MatMul", List.of(), new String[] {"x", w}, "y");
      } else {
        List<Message> attributes = new ArrayList<>(
            List.of(attribute("K", 512), attribute("N", n), attribute("block_size", block)));
        if (one[2] >= 0) {
          attributes.add(attribute("accuracy_level", one[2]));
        }
        int scales = n * 512 / block;
        graph.node("com.microsoft:MatMulNBits", attributes,
            new String[] {"x",
                graph.constant(Graph.UINT8, new byte[n * 256], n, 512 / block, block / 2),
                graph.floats(scales(scales), scales)},
            "y");
      }
      paid(graph, rows, one[4], Arrays.toString(one));
    }
    // Half of the weights of a group decide.
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, 512);
    for (int width : new int[] {2048, 8}) {
      float[] weights = random(512 * width);
      for (int i = 0; i < weights.length; i++) { // as bf16 holds them
        weights[i] = Float.intBitsToFloat(Float.floatToRawIntBits(weights[i]) & 0xffff0000);
      }
      graph.output("y" + width, Graph.FLOAT, -1, width);
      graph.node(
          "MatMul", List.of(), new String[] {"x", graph.floats(weights, 512, width)}, "y" + width);
    }
    paid(graph, -1, 2, "two products");
  }

  private void paid(Graph graph, int rows, int claims, String name) throws Exception {
    Path report = Files.createTempFile(folder, "pay", ".txt");
    try (OnnxTensor x = tensor(Math.max(rows, 2), 512)) {
      run(graph.model(21), ExeuntProvider.configure().report(report), Map.of("x", x));
    }
    String lines = Files.readString(report);
    assertEquals(claims, GraphTestBase.claims(lines), name + lines);
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
            "inner sum", "plain product", "sum", "seen", "divided")) {
      expect(PLAIN, gelu(change));
    }
  }

  @Test
  void castsToOtherTypes() throws Exception {
    for (int type : new int[] {Graph.INT64, DOUBLE}) {
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

  // ---- norms ----

  /** A norm that cannot be taken, alone and after a product of as many rows. */
  private interface Normed {
    String of(Graph graph, String x);
  }

  private void norm(String kind, int opset, Normed norm) throws Exception {
    for (boolean behind : new boolean[] {false, true}) {
      Graph graph =
          new Graph()
              .input("x", Graph.FLOAT, -1, 4, behind ? K : N)
              .input("s", Graph.FLOAT, N)
              .output("y", Graph.FLOAT, -1, 4, N);
      String x = behind ? product(graph, "x") : graph.node("Neg", "x");
      end(graph, norm.of(graph, x));
      for (int rows : new int[] {2, 1}) {
        try (OnnxTensor x0 = tensor(rows, 4, behind ? K : N); OnnxTensor s = tensor(N)) {
          String claims = !behind ? kind : PLAIN + (kind.isEmpty() ? "" : ", " + kind);
          expect(claims, graph, opset, Map.of("x", x0, "s", s));
        }
      }
    }
  }

  @Test
  void normsOverOtherAxesOrBySomethingElse() throws Exception {
    for (long axis : new long[] {1, -2}) { // over two axes, by a row that is broadcast
      norm("", 17,
          (graph, x)
              -> graph.node("LayerNormalization", List.of(attribute("axis", axis)), x,
                  row(graph, N), row(graph, N)));
      norm("", 17,
          (graph, x)
              -> graph.node("LayerNormalization", List.of(attribute("axis", axis)), x,
                  graph.floats(random(4 * N), 4, N), graph.floats(random(4 * N), 4, N)));
    }
    for (long axis : new long[] {2, -1}) {
      norm("LayerNorm", 17,
          (graph, x)
              -> graph.node("LayerNormalization", List.of(attribute("axis", axis)), x,
                  row(graph, N), row(graph, N)));
      norm("RMSNorm", 23,
          (graph, x)
              -> graph.node(
                  "RMSNormalization", List.of(attribute("axis", axis)), x, row(graph, N)));
    }
    norm("", 23,
        (graph, x)
            -> graph.node("RMSNormalization", List.of(attribute("axis", 1)), x,
                graph.floats(random(4 * N), 4, N)));
    norm("", 17, (graph, x) -> graph.node("LayerNormalization", x, "s", row(graph, N)));
    norm("", 17, (graph, x) -> graph.node("LayerNormalization", x, row(graph, N), "s"));
    norm("LayerNorm", 17, (graph, x) -> graph.node("LayerNormalization", x, row(graph, N)));
    norm("", 17,
        (graph, x)
            -> graph.node(
                "LayerNormalization", x, graph.floats(new float[] {2}, 1), row(graph, N)));
    norm("", 17, (graph, x) -> graph.node("LayerNormalization", x, graph.scalar(2), row(graph, N)));
    norm("", 17, (graph, x) -> graph.node("LayerNormalization", x, row(graph, N), graph.scalar(2)));
  }

  /** What epsilon is where none is given: small rows tell. */
  @Test
  void epsilonsThatAreNotGiven() throws Exception {
    for (boolean layer : new boolean[] {true, false}) {
      for (boolean behind : new boolean[] {true, false}) {
        Graph graph = graph();
        String x = graph.node("Mul", "x", graph.scalar(1e-4f));
        String of = behind
            ? product(graph, x)
            : graph.node("Concat", List.of(attribute("axis", 1)), x,
                  graph.node("Slice", x, graph.longs(0), graph.longs(N - K), graph.longs(1)));
        end(graph,
            layer ? graph.node("LayerNormalization", of, row(graph, N), row(graph, N))
                  : graph.node("RMSNormalization", of, row(graph, N)));
        String norm = layer ? "LayerNorm" : "RMSNorm";
        expect(behind ? PLAIN + ", " + norm : norm, graph, 23);
      }
    }
  }

  @Test
  void normsWhoseStatisticsAreRead() throws Exception {
    Graph graph =
        new Graph()
            .input("x", Graph.FLOAT, -1, K)
            .output("y", Graph.FLOAT, -1, K)
            .output("mean", Graph.FLOAT, -1, 1);
    graph.node("LayerNormalization", List.of(), new String[] {"x", row(graph, K), row(graph, K)},
        "y", "mean");
    expect("", graph);
    Graph wide = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, K);
    double[] ones = new double[K];
    Arrays.setAll(ones, i -> 1 + i);
    end(wide,
        cast(wide, Graph.FLOAT,
            wide.node("LayerNormalization", cast(wide, DOUBLE, "x"),
                wide.constant(DOUBLE, bytes(ones), K))));
    expect("", wide);
  }

  /** LayerNorm in small ops over [6,6], whole and with one thing changed. */
  private Graph speltOut(String change, boolean behind) {
    int width = 6;
    Graph graph = new Graph().input("x", Graph.FLOAT, 6, 6).output("y", Graph.FLOAT, 6, width);
    String x =
        behind ? graph.node("MatMul", "x", graph.floats(random(36), 6, 6)) : graph.node("Neg", "x");
    List<Message> last = List.of(attribute("axes", new long[] {-1}));
    List<Message> first = switch (change) {
      case "first axis" -> List.of(attribute("axes", new long[] {0}));
      case "second axis" -> List.of(attribute("axes", new long[] {1}));
      case "both axes" -> List.of(attribute("axes", new long[] {0, 1}));
      case "all axes" -> List.of();
      case "axis lost" -> List.of(attribute("axes", new long[] {-1}), attribute("keepdims", 0));
      default -> last;
    };
    String mean = graph.node("ReduceMean", first, x);
    String d = change.equals("negated") ? graph.node("Sub", mean, x) : graph.node("Sub", x, mean);
    String power = graph.node("Pow", d, graph.scalar(change.equals("fourth power") ? 4 : 2));
    String variance =
        graph.node("ReduceMean", change.equals("variance of all") ? List.of() : last, power);
    String plus = change.equals("less")
        ? graph.node("Sub", variance, graph.scalar(1e-3f))
        : graph.node("Add", variance, graph.scalar(1e-3f));
    String root = graph.node(change.equals("no root") ? "Exp" : "Sqrt", plus);
    String quotient = switch (change) {
      case "inverse" -> graph.node("Div", root, d);
      case "of x" -> graph.node("Div", x, root);
      case "product" -> graph.node("Mul", d, root);
      default -> graph.node("Div", d, root);
    };
    String weight = switch (change) {
      case "matrix" -> graph.floats(random(36), 6, 6);
      case "column" -> graph.floats(random(6), 6, 1);
      case "scalar" -> graph.scalar(2);
      case "one element" -> graph.floats(new float[] {2}, 1);
      case "given" -> graph.input("s", Graph.FLOAT, 6) == graph ? "s" : "";
      default -> row(graph, 6);
    };
    String bias = switch (change) {
      case "bias of a matrix" -> graph.floats(random(36), 6, 6);
      case "scalar bias" -> graph.scalar(2);
      default -> row(graph, 6);
    };
    String scaled = graph.node(change.equals("added") ? "Add" : "Mul", quotient, weight);
    String y = graph.node(change.equals("multiplied") ? "Mul" : "Add", scaled, bias);
    switch (change) { // outputs of the graph themselves
      case "mean leaves" -> graph.output(mean, Graph.FLOAT, -1, -1);
      case "difference leaves" -> graph.output(d, Graph.FLOAT, -1, -1);
      case "input leaves" -> graph.output(x, Graph.FLOAT, -1, -1);
      default -> {
      }
    }
    String seen = switch (change) {
      case "mean seen" -> mean;
      case "difference seen" -> d;
      case "power seen" -> power;
      case "variance seen" -> variance;
      case "root seen" -> root;
      case "quotient seen" -> quotient;
      case "input seen" -> x;
      case "scaled seen" -> scaled;
      default -> "";
    };
    if (!seen.isEmpty()) {
      graph.output("seen", Graph.FLOAT, -1, -1);
      graph.node("Tanh", List.of(), new String[] {seen}, "seen");
    }
    return end(graph, y);
  }

  @Test
  void whatIsNearlyLayerNorm() throws Exception {
    for (boolean behind : new boolean[] {false, true}) {
      String plain = behind ? "linear of 6 x 6 f32" : "";
      for (String change : List.of("", "second axis", "first axis", "both axes", "all axes",
               "axis lost", "negated", "fourth power", "variance of all", "less", "no root",
               "inverse", "of x", "product", "matrix", "column", "scalar", "one element", "given",
               "bias of a matrix", "scalar bias", "added", "multiplied", "mean seen",
               "difference seen", "power seen", "variance seen", "root seen", "quotient seen",
               "scaled seen", "input seen", "mean leaves", "difference leaves", "input leaves")) {
        Graph graph = speltOut(change, behind);
        boolean taken = change.isEmpty() || change.equals("second axis");
        // Rows with a mean and a spread that tell axes apart, and roots of what is above 0.
        float[] values = random(36);
        for (int i = 0; i < 36; i++) {
          values[i] = (1 + i / 6) * values[i] + i % 6;
        }
        try (OnnxTensor x =
                 OnnxTensor.createTensor(ENVIRONMENT, FloatBuffer.wrap(values), new long[] {6, 6});
            OnnxTensor s = tensor(6)) {
          expect(taken ? (behind ? plain + ", LayerNorm" : "LayerNorm") : plain, graph, 17,
              change.equals("given") ? Map.of("x", x, "s", s) : Map.of("x", x));
        }
      }
    }
    // From opset 18 on the axes are an input.
    for (long[] axes : new long[][] {{-1}, {0}, {0, 1}, {-1, 0}}) {
      Graph graph = new Graph().input("x", Graph.FLOAT, 6, 6).output("y", Graph.FLOAT, 6, 6);
      String x = graph.node("Neg", "x");
      String d = graph.node("Sub", x, graph.node("ReduceMean", x, graph.longs(axes)));
      String v = graph.node("ReduceMean", graph.node("Pow", d, graph.scalar(2)), graph.longs(axes));
      String root = graph.node("Sqrt", graph.node("Add", v, graph.scalar(1e-3f)));
      end(graph,
          graph.node(
              "Add", graph.node("Mul", graph.node("Div", d, root), row(graph, 6)), row(graph, 6)));
      try (OnnxTensor x0 = tensor(6, 6)) {
        expect(axes.length == 1 && axes[0] == -1 ? "LayerNorm" : "", graph, 18, Map.of("x", x0));
      }
    }
  }

  @Test
  void skipsThatAreNotAsTheyShould() throws Exception {
    String[] changes = {"", "no epsilon", "given weight", "given bias", "given add", "mean read"};
    for (String op : List.of("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")) {
      boolean layer = op.equals("SkipLayerNormalization");
      for (String change : changes) {
        if (change.equals("given bias") && !layer) {
          continue;
        }
        Graph graph =
            new Graph()
                .input("x", Graph.FLOAT, -1, -1, K)
                .input("skip", Graph.FLOAT, -1, -1, K)
                .input("s", Graph.FLOAT, K)
                .output("y", Graph.FLOAT, -1, -1, K);
        String x = graph.node("Mul", "x", graph.scalar(1e-4f));
        String skip = graph.node("Mul", "skip", graph.scalar(1e-4f));
        List<String> inputs =
            new ArrayList<>(List.of(x, skip, change.equals("given weight") ? "s" : row(graph, K)));
        if (layer) {
          inputs.add(change.equals("given bias") ? "s" : row(graph, K));
        }
        if (change.equals("given add")) {
          inputs.add("s");
        }
        graph.node("com.microsoft:" + op,
            change.equals("no epsilon") ? List.of() : List.of(attribute("epsilon", 1e-8f)),
            inputs.toArray(new String[0]), "y");
        try (OnnxTensor in = tensor(2, 3, K); OnnxTensor other = tensor(2, 3, K);
            OnnxTensor s = tensor(K)) {
          boolean taken = !change.startsWith("given");
          expect(taken ? "sum, " + (layer ? "LayerNorm" : "RMSNorm") : "", graph, 17,
              Map.of("x", in, "skip", other, "s", s));
        }
      }
    }
  }

  /** A skip of one sequence for all of a batch, and a sum that alone is read. */
  @Test
  void skipsThatAreBroadcast() throws Exception {
    Graph graph =
        new Graph()
            .input("x", Graph.FLOAT, -1, -1, K)
            .input("skip", Graph.FLOAT, 1, -1, K)
            .output("y", Graph.FLOAT, -1, -1, K)
            .output("sum", Graph.FLOAT, -1, -1, K);
    graph.node("com.microsoft:SkipLayerNormalization", List.of(),
        new String[] {"x", "skip", row(graph, K), row(graph, K)}, "y", "", "", "sum");
    try (OnnxTensor x = tensor(3, 5, K); OnnxTensor skip = tensor(1, 5, K)) {
      expect("sum, LayerNorm", graph, 17, Map.of("x", x, "skip", skip));
    }
  }

  // ---- softmax and heads ----

  @Test
  void softmaxOverOtherAxes() throws Exception {
    int wide = 4096;
    Graph first = new Graph().input("x", Graph.FLOAT, 3, wide).output("y", Graph.FLOAT, 3, wide);
    first.node("Softmax", List.of(attribute("axis", 0)), new String[] {"x"}, "y");
    try (OnnxTensor x = tensor(3, wide)) {
      expect("", first, 13, Map.of("x", x));
    }
    // Before opset 13 it went over all axes from `axis` on, by default from 1.
    for (long axis : new long[] {0, 1, 2}) {
      for (int opset : new int[] {11, 12, 13}) {
        Graph graph =
            new Graph().input("x", Graph.FLOAT, 2, 3, wide).output("y", Graph.FLOAT, 2, 3, wide);
        graph.node("Softmax", axis == 0 ? List.of() : List.of(attribute("axis", axis)),
            new String[] {"x"}, "y");
        try (OnnxTensor x = tensor(2, 3, wide)) {
          boolean last = axis == 2 || axis == 0 && opset == 13;
          expect(last ? "softmax" : "", graph, opset, Map.of("x", x));
        }
      }
    }
    Graph narrow = new Graph().input("x", Graph.FLOAT, 3, wide).output("y", Graph.FLOAT, 3, wide);
    end(narrow,
        cast(narrow, Graph.FLOAT, narrow.node("Softmax", cast(narrow, Graph.FLOAT16, "x"))));
    try (OnnxTensor x = tensor(3, wide)) {
      expect("", narrow, 13, Map.of("x", x));
    }
  }

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
    for (long[] axes : new long[][] {{2}, {-1}, {0}, {1, 2}, {}}) {
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

  // ---- what comes first ----

  @Test
  void whatOthersReadAsWell() throws Exception {
    for (String change : List.of("norm", "cast", "norm's input", "norm of two")) {
      Graph graph = graph().output("seen", Graph.FLOAT, -1, -1);
      String x = change.equals("cast")
          ? cast(graph, Graph.FLOAT, cast(graph, Graph.FLOAT16, "x"))
          : graph.node("LayerNormalization", "x", row(graph, K), row(graph, K));
      String y = product(graph, x);
      if (change.equals("norm of two")) {
        y = graph.node("Mul", y, product(graph, x));
      }
      graph.node("Tanh", List.of(),
          new String[] {change.equals("norm's input") ? "x"
                  : change.equals("norm of two")
                  ? y
                  : x},
          "seen");
      end(graph, y);
      String expected = switch (change) {
        case "norm" -> PLAIN + "; LayerNorm";
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

  // ---- quantised weights ----

  private byte[] quants(int count) {
    byte[] quants = new byte[count];
    random.nextBytes(quants);
    return quants;
  }

  private float[] scales(int count) {
    float[] scales = new float[count];
    for (int i = 0; i < count; i++) {
      scales[i] = (1 + random.nextInt(1000)) / 262144f; // as f16 holds it
    }
    return scales;
  }

  @Test
  void blocksOfOtherKinds() throws Exception {
    for (String change : List.of("", "block of 16", "K of 80", "K of 96", "order", "given scales",
             "points of eight bits", "points of f32", "bias", "given bias")) {
      int k = change.equals("K of 80") ? 80 : change.equals("K of 96") ? 96 : 64;
      int bits = change.equals("points of eight bits") ? 8 : 4;
      int block = change.equals("block of 16") ? 16 : change.equals("K of 80") ? 32 : 64;
      int blocks = (k + block - 1) / block;
      Graph graph =
          new Graph()
              .input("x", Graph.FLOAT, -1, k)
              .input("s", Graph.FLOAT, (long) N * blocks)
              .input("b", Graph.FLOAT, N)
              .output("y", Graph.FLOAT, -1, N);
      List<String> inputs = new ArrayList<>(List.of("x",
          graph.constant(Graph.UINT8, quants(N * blocks * block * bits / 8), N, blocks,
              (long) block * bits / 8),
          change.equals("given scales")
              ? "s"
              : graph.floats(scales(N * blocks), (long) N * blocks)));
      if (change.equals("points of eight bits")) {
        inputs.add(graph.constant(Graph.UINT8, quants(N * blocks), (long) N * blocks));
      } else if (change.equals("points of f32")) {
        float[] points = new float[N * blocks];
        for (int i = 0; i < points.length; i++) {
          points[i] = random.nextInt(16);
        }
        inputs.add(graph.floats(points, N, blocks));
      } else if (change.equals("order")) {
        byte[] order = new byte[4 * k];
        for (int i = 0; i < k; i++) {
          order[4 * i] = (byte) (i / block);
        }
        inputs.addAll(List.of("", graph.constant(Graph.INT32, order, k)));
      } else if (change.endsWith("bias")) {
        inputs.addAll(List.of("", "", change.equals("bias") ? row(graph, N) : "b"));
      }
      graph.node("com.microsoft:MatMulNBits",
          List.of(attribute("K", k), attribute("N", N), attribute("bits", bits),
              attribute("block_size", block)),
          inputs.toArray(new String[0]), "y");
      try (OnnxTensor x = tensor(3, k); OnnxTensor s = tensor(N * blocks);
          OnnxTensor b = tensor(N)) {
        expect(change.isEmpty() ? "linear of 96 x 64 in blocks of 4 bits"
                : change.equals("bias")
                ? "linear of 96 x 64 in blocks of 4 bits, bias"
                : "",
            graph, 17, Map.of("x", x, "s", s, "b", b));
      }
    }
  }

  @Test
  void dequantisedInOtherWays() throws Exception {
    String taken = "linear of 64 x 64 in blocks of 8 bits";
    for (String change : List.of("", "one scale", "rows", "turned rows", "turned columns",
             "turned columns, counted", "columns, counted", "blocks of 32", "blocks of 16",
             "blocks along rows", "turned blocks", "given scales", "given points", "40 rows",
             "read twice", "i16", "quantised input", "96 rows in blocks of 64")) {
      int k = change.equals("40 rows") ? 40 : change.startsWith("96") ? 96 : 64;
      int n = 64;
      boolean turned = change.startsWith("turned");
      Graph graph =
          new Graph()
              .input("x", Graph.FLOAT, -1, k)
              .input("s", Graph.FLOAT, n)
              .input("z", Graph.INT8, n)
              .output("y", Graph.FLOAT, -1, n);
      List<Message> attributes = new ArrayList<>();
      int block = change.contains("of 16") ? 16 : change.contains("of 64") ? 64 : 32;
      if (change.contains("blocks")) {
        attributes.add(attribute("block_size", block));
      }
      attributes.add(attribute("axis", switch (change) {
        case "rows", "turned columns", "blocks of 32", "blocks of 16", "96 rows in blocks of 64" ->
          0;
        case "turned columns, counted" -> -2;
        case "columns, counted" -> -1;
        default -> 1;
      }));
      int along = change.equals("rows") || change.equals("turned rows") ? k : n;
      String scale = change.equals("given scales") ? "s"
          : change.equals("one scale")             ? graph.floats(scales(1))
          : change.equals("turned blocks") || change.equals("blocks along rows")
          ? graph.floats(scales(k * n / block), k, n / block)
          : change.contains("blocks")
          ? graph.floats(scales((k + block - 1) / block * n), (k + block - 1) / block, n)
          : graph.floats(scales(along), along);
      boolean wide = change.equals("i16");
      List<String> inputs = new ArrayList<>(List.of(
          wide ? graph.constant(INT16, quants(2 * k * n), k, n)
               : graph.constant(Graph.INT8, quants(k * n), k, n),
          scale));
      if (change.equals("given points")) {
        inputs.add("z");
      }
      String w = graph.node("DequantizeLinear", attributes, inputs.toArray(new String[0]));
      String x = "x";
      if (change.equals("quantised input")) {
        String of = graph.floats(new float[] {1 / 32f});
        x = graph.node("DequantizeLinear", graph.node("QuantizeLinear", "x", of), of);
      }
      String y = turned
          ? graph.node("Gemm", List.of(attribute("transB", 1)), x, w)
          : graph.node("MatMul", x, w);
      if (change.equals("read twice")) {
        y = graph.node("Mul", y, graph.node("MatMul", graph.node("Tanh", x), w));
      }
      end(graph, y);
      float[] values = random(3 * k);
      for (int i = 0; i < values.length; i++) {
        values[i] = Math.round(values[i] * 16) / 16f;
      }
      try (OnnxTensor in =
               OnnxTensor.createTensor(ENVIRONMENT, FloatBuffer.wrap(values), new long[] {3, k});
          OnnxTensor s = tensor(n);
          OnnxTensor z = OnnxTensor.createTensor(
              ENVIRONMENT, ByteBuffer.wrap(quants(n)), new long[] {n}, OnnxJavaType.INT8)) {
        boolean takes =
            List.of("", "one scale", "turned columns", "turned columns, counted",
                    "columns, counted", "blocks of 32", "turned blocks")
                .contains(change);
        // ONNX Runtime may round the inputs of weights of bytes to bytes.
        expect(change.equals("read twice") ? taken + "; " + taken
                : takes                    ? taken
                                           : "",
            graph, 21, Map.of("x", in, "s", s, "z", z), takes ? 0.1f : 1e-3f);
      }
    }
  }
}
