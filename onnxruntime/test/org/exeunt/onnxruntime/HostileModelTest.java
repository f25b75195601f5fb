// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.exeunt.onnxruntime.Graph.attribute;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Models whose sizes do not fit one another: ONNX Runtime judges them, with the provider too. */
class HostileModelTest extends GraphTestBase {
  HostileModelTest() {
    spread = 0.25f;
  }

  private int rowsOfBits = N;

  /** MatMulNBits with so many scales and, unless it is negative, bytes of zero points. */
  private byte[] bits(long k, long n, long block, int scales, int zeros, float scale) {
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, -1).output("y", Graph.FLOAT, -1, -1);
    float[] values = new float[scales];
    java.util.Arrays.fill(values, scale);
    List<String> inputs = new ArrayList<>(List.of("x",
        graph.constant(Graph.UINT8, new byte[rowsOfBits * K / 2], rowsOfBits, K / 32, 16),
        graph.floats(values, scales)));
    if (zeros >= 0) {
      inputs.add(graph.constant(Graph.UINT8, new byte[zeros], zeros));
    }
    graph.node("com.microsoft:MatMulNBits",
        List.of(attribute("K", k), attribute("N", n), attribute("block_size", block)),
        inputs.toArray(new String[0]), "y");
    return graph.model(17);
  }

  @Test
  void blocksOfBits() throws Exception {
    int scales = N * K / 32;
    try (OnnxTensor x = tensor(3, K); OnnxTensor none = tensor(3, 0)) {
      Map<String, OnnxTensor> inputs = Map.of("x", x);
      String sound = beside(bits(K, N, 32, scales, N, 0x1p-8f), inputs, 5e-2f);
      assertEquals(1, claims(sound), sound);
      byte[][] models = {bits(K, N, 0, scales, -1, 1), bits(K, N, -32, scales, -1, 1),
          bits(0, N, 32, scales, -1, 1), bits(K, 0, 32, scales, -1, 1),
          bits(K, -1, 32, scales, -1, 1), bits(K, N, 32, scales - 1, -1, 1),
          bits(K, N, 32, 3, -1, 1), bits(K, N, 32, scales, N - 1, 1), bits(K, N, 32, scales, 0, 1),
          bits(K, N, 32, scales, -1, 1e9f), bits(K, N, 32, scales, -1, 1e-9f),
          bits(1L << 62, N, 1L << 61, scales, -1, 1)};
      for (byte[] model : models) {
        String report = beside(model, inputs, 1e7f);
        assertEquals(0, claims(report), report);
      }
      beside(bits(0, N, 32, scales, -1, 1), Map.of("x", none), 0);
      rowsOfBits = N - 1;
      String report = beside(bits(K, N, 32, scales, -1, 1), inputs, 1e7f);
      assertEquals(0, claims(report), report);
    }
  }

  @Test
  void fewerZeroPointsThanScales() throws Exception {
    for (int zeros : new int[] {0, 1, N - 1, N}) {
      Graph graph = graph();
      float[] scales = new float[N];
      java.util.Arrays.fill(scales, 0x1p-8f);
      String w = graph.node("DequantizeLinear", List.of(attribute("axis", 1)),
          graph.constant(Graph.INT8, new byte[K * N], K, N), graph.floats(scales, N),
          graph.constant(Graph.INT8, new byte[zeros], zeros));
      graph.node("MatMul", List.of(), new String[] {"x", w}, "y");
      try (OnnxTensor x = tensor(3, K)) {
        String report = beside(graph.model(17), Map.of("x", x), 1e-3f);
        assertEquals(zeros == N ? 1 : 0, claims(report), report);
      }
    }
  }

  private byte totalLength = 8;

  /** GroupQueryAttention, with a cache of a type of its own, and of the tables some. */
  private byte[] attention(int heads, int cacheType, List<Message> more, boolean... tables) {
    int dim = 16;
    List<Message> attributes = new ArrayList<>(more);
    attributes.add(attribute("num_heads", heads));
    attributes.add(attribute("kv_num_heads", 2));
    Graph graph =
        new Graph()
            .input("q", Graph.FLOAT, -1, -1, 4 * dim)
            .input("k", Graph.FLOAT, -1, -1, 2 * dim)
            .input("v", Graph.FLOAT, -1, -1, 2 * dim)
            .output("y", Graph.FLOAT, -1, -1, 4 * dim);
    String keys = "pk";
    String values = "pv";
    graph.input(keys, Graph.FLOAT, -1, 2, -1, dim).input(values, Graph.FLOAT, -1, 2, -1, dim);
    if (cacheType != Graph.FLOAT) {
      keys = cast(graph, cacheType, keys);
      values = cast(graph, cacheType, values);
    }
    graph.output("nk", cacheType, -1, 2, -1, dim).output("nv", cacheType, -1, 2, -1, dim);
    String lengths = graph.constant(Graph.INT32, new byte[] {7, 0, 0, 0}, 1);
    String total = graph.constant(Graph.INT32, new byte[] {totalLength, 0, 0, 0}, 1);
    List<String> all = new ArrayList<>(List.of("q", "k", "v", keys, values, lengths, total));
    for (boolean given : tables) {
      all.add(given ? graph.floats(random(64 * dim / 2), 64, dim / 2) : "");
    }
    graph.node("com.microsoft:GroupQueryAttention", attributes, all.toArray(new String[0]), "y",
        "nk", "nv");
    return graph.model(17);
  }

  @Test
  void attentionOfOtherTypesAndHeads() throws Exception {
    Map<String, OnnxTensor> inputs = new HashMap<>();
    try (OnnxTensor q = tensor(1, 3, 64); OnnxTensor k = tensor(1, 3, 32);
        OnnxTensor v = tensor(1, 3, 32); OnnxTensor pk = tensor(1, 2, 5, 16);
        OnnxTensor pv = tensor(1, 2, 5, 16)) {
      inputs.putAll(Map.of("q", q, "k", k, "v", v, "pk", pk, "pv", pv));
      String sound = beside(attention(4, Graph.FLOAT, List.of()), inputs, 1e-4f);
      assertTrue(sound.contains("attention of 4 heads"), sound);
      for (byte[] model : new byte[][] {attention(4, Graph.FLOAT16, List.of()),
               attention(0, Graph.FLOAT, List.of()), attention(-4, Graph.FLOAT, List.of()),
               attention(3, Graph.FLOAT, List.of()),
               attention(4, Graph.FLOAT, List.of(attribute("k_quant_type", "N".repeat(70)))),
               attention(4, Graph.FLOAT, List.of(), true), // no sines
               attention(4, Graph.FLOAT, List.of(), false, true)}) {
        String report = beside(model, inputs, 1e-4f);
        assertEquals(0, claims(report), report);
      }
    }
  }

  @Test
  void aSequenceIsLongerThanTheTotal() throws Exception {
    try (OnnxTensor q = tensor(1, 3, 64); OnnxTensor k = tensor(1, 3, 32);
        OnnxTensor v = tensor(1, 3, 32); OnnxTensor pk = tensor(1, 2, 9, 16);
        OnnxTensor pv = tensor(1, 2, 9, 16)) {
      totalLength = 7; // and 8 in slots for 9
      String report = beside(attention(4, Graph.FLOAT, List.of()),
          Map.of("q", q, "k", k, "v", v, "pk", pk, "pv", pv), 1e-4f);
      assertEquals(1, claims(report), report);
    }
  }

  @Test
  void whatIsSkippedHasTheShapeOfTheInput() throws Exception {
    Graph graph =
        new Graph()
            .input("x", Graph.FLOAT, -1, -1, 32)
            .input("s", Graph.FLOAT, -1, -1, -1)
            .output("y", Graph.FLOAT, -1, -1, 32);
    graph.node("com.microsoft:SkipLayerNormalization", List.of(),
        new String[] {"x", "s", graph.floats(random(32), 32)}, "y");
    byte[] model = graph.model(17);
    for (long[] shape :
        new long[][] {{2, 3, 32}, {1, 3, 32}, {3, 2, 32}, {2, 1, 32}, {1, 1, 32}, {6, 1, 32}}) {
      try (OnnxTensor x = tensor(2, 3, 32); OnnxTensor s = tensor(shape)) {
        beside(model, Map.of("x", x, "s", s), 1e-4f);
      }
    }
  }

  private void refused(Graph graph, String sentence) throws OrtException {
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      ExeuntProvider.addTo(options);
      OrtException e = assertThrows(OrtException.class, () -> {
        try (OrtSession session = ENVIRONMENT.createSession(graph.model(17), options);
            OnnxTensor x = tensor(3, 32)) {
          session.run(Map.of("x", x)).close();
        }
      });
      assertTrue(e.getMessage().contains(sentence), e.getMessage());
    }
  }

  private static Graph head(List<Message> attributes, int rows) {
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, 32).output("y", Graph.INT64, -1);
    graph.node("org.exeunt:ExitHead", attributes,
        new String[] {"x", graph.floats(new float[rows * 32], rows, 32)}, "y");
    return graph;
  }

  @Test
  void headsWithoutRowsAndWithLongWords() throws Exception {
    refused(head(List.of(), 0), "exeunt: weight is [0,32], expected at least one row");
    String word = "s".repeat(80);
    refused(head(List.of(attribute("normalizer", word)), 5),
        "exeunt: attribute normalizer is '" + word + "', expected one of: softmax, stablemax");
    refused(head(List.of(attribute("norm", 3)), 5), "Attribute name and type don't match");
  }

  /** A graph may say of a value in it what is not so: ONNX Runtime finds out in a run. */
  @Test
  void shapesThatAreNotAsTheGraphSays() throws Exception {
    for (String op : List.of("LayerNormalization", "MatMul", "residual of one", "Gemm", "skip",
             "skip of itself", "LayerNormalization of one", "Softmax")) {
      long width = op.endsWith("of one") ? 1 : op.equals("Softmax") ? 4096 : 32;
      Graph graph =
          new Graph()
              .input("x", Graph.FLOAT, -1)
              .input("to", Graph.INT64, -1)
              .input("z", Graph.FLOAT, -1, 32)
              .output("h", Graph.FLOAT, -1, width)
              .output("y", Graph.FLOAT);
      graph.node("Reshape", List.of(attribute("allowzero", 1)), new String[] {"x", "to"}, "h");
      String weights = graph.floats(random(32 * 8), 32, 8);
      String y = switch (op) {
        case "LayerNormalization" -> graph.node(op, "h", graph.floats(random(32), 32));
        case "LayerNormalization of one" ->
          graph.node("LayerNormalization", "h", graph.floats(random(1), 1));
        case "Softmax" -> graph.node("Softmax", "h");
        case "skip of itself" ->
          graph.node("com.microsoft:SkipSimplifiedLayerNormalization", "h", "h",
              graph.floats(random(32), 32));
        case "residual of one" ->
          graph.node("Add", graph.node("MatMul", "z", graph.floats(random(32), 32, 1)), "h");
        case "skip" ->
          graph.node("com.microsoft:SkipSimplifiedLayerNormalization", "z", "h",
              graph.floats(random(32), 32));
        default -> graph.node(op, "h", weights);
      };
      graph.node("ReduceSum", List.of(attribute("keepdims", 0)), new String[] {y}, "y");
      for (long[] shape : new long[][] {{3, width}, {3, 16}, {3, 48}, {16}, {3, 5}, {0, width},
               {1, width}, {3, 0}, {}, {1, 2, 3, width}}) {
        if (op.equals("LayerNormalization of one") && shape.length > 0
            && shape[shape.length - 1] != 1) {
          continue; // ONNX Runtime alone takes a scale of one element for all of a row
        }
        int count = 1;
        for (long extent : shape) {
          count *= (int) extent;
        }
        try (OnnxTensor x = tensor(count); OnnxTensor z = tensor(3, 32);
            OnnxTensor to = OnnxTensor.createTensor(
                ENVIRONMENT, java.nio.LongBuffer.wrap(shape), new long[] {shape.length})) {
          Map<String, OnnxTensor> inputs = Map.of("x", x, "to", to, "z", z);
          if (!op.startsWith("residual")
              || shape.length != 1 && (shape.length == 0 || shape[shape.length - 1] == 1)) {
            beside(graph.model(17), inputs, 1e-3f);
          } else { // ONNX Runtime alone makes longer rows of them
            OrtException e =
                assertThrows(OrtException.class, () -> run(graph.model(17), everything(), inputs));
            assertTrue(e.getMessage().contains("a product has rows of one"), e.getMessage());
          }
        }
      }
    }
  }

  @Test
  void residualsThatFitNothing() throws Exception {
    Graph graph =
        new Graph()
            .input("x", Graph.FLOAT, -1, 32)
            .input("r", Graph.FLOAT, -1, -1)
            .output("y", Graph.FLOAT, -1, -1);
    graph.node("Add", List.of(),
        new String[] {graph.node("MatMul", "x", graph.floats(random(32 * 8), 32, 8)), "r"}, "y");
    byte[] model = graph.model(17);
    for (int rows : new int[] {0, 1, 2, 3}) {
      for (long[] shape : new long[][] {{0, 8}, {1, 8}, {2, 8}, {3, 1}, {3, 0}, {3, 7}, {2, 2}}) {
        try (OnnxTensor x = tensor(rows, 32); OnnxTensor r = tensor(shape)) {
          beside(model, Map.of("x", x, "r", r), 1e-4f);
        }
      }
    }
  }

  @Test
  void whatIsSkippedInOtherWays() throws Exception {
    for (String change : List.of("two axes", "no batch", "four axes", "given bias", "given add",
             "constant", "mean", "no weight for each", "short bias", "short add")) {
      boolean two = change.equals("two axes");
      long[] x = two ? new long[] {-1, 32}
          : change.equals("four axes")
          ? new long[] {-1, -1, -1, 32}
          : new long[] {-1, -1, 32};
      Graph graph =
          new Graph()
              .input("x", Graph.FLOAT, x)
              .input("s", Graph.FLOAT, two || change.equals("no batch") ? new long[] {-1, -1} : x)
              .input("b", Graph.FLOAT, 32)
              .output("y", Graph.FLOAT, x);
      String skip = change.equals("constant") ? graph.floats(random(3 * 32), 1, 3, 32) : "s";
      String[] inputs = {"x", skip,
          graph.floats(random(32), change.equals("no weight for each") ? 16 : 32),
          change.equals("given bias") ? "b"
              : change.equals("short bias")
              ? graph.floats(random(16), 16)
              : graph.floats(random(32), 32),
          change.equals("given add") ? "b"
              : change.equals("short add")
              ? graph.floats(random(16), 16)
              : graph.floats(random(32), 32)};
      if (change.equals("no weight for each")) {
        inputs[2] = graph.floats(random(16), 16);
      }
      String[] outputs = change.equals("mean") ? new String[] {"y", "mean"} : new String[] {"y"};
      if (change.equals("mean")) {
        graph.output("mean", Graph.FLOAT, -1, -1, 1);
      }
      graph.node("com.microsoft:SkipLayerNormalization", List.of(), inputs, outputs);
      long[][] shapes = two           ? new long[][] {{3, 32}, {1, 32}, {3, 1}, {1, 1}}
          : change.equals("no batch") ? new long[][] {{3, 32}, {2, 32}, {1, 32}, {6, 32}}
          : change.equals("four axes")
          ? new long[][] {{1, 2, 3, 32}}
          : new long[][] {{2, 3, 32}};
      for (long[] shape : shapes) {
        try (OnnxTensor in = two ? tensor(3, 32)
                : change.equals("four axes")
                ? tensor(1, 2, 3, 32)
                : tensor(2, 3, 32);
            OnnxTensor s = tensor(shape); OnnxTensor b = tensor(32)) {
          String report = beside(graph.model(17), Map.of("x", in, "s", s, "b", b), 2e-4f);
          assertEquals(two || change.equals("no batch") ? 1 : 0, claims(report), change + report);
        }
      }
    }
  }

  /** Numbers of bytes with zero points: which of them still are bytes, and where one is not. */
  @Test
  void bytesLessTheirZeroPoints() throws Exception {
    int k = 32;
    int n = 48;
    // type, zero point of the first, of the others, of the last column (-1000: none), a weight of
    // the last column, whether it can be held, and if not the last another column
    int[][] cases = {{Graph.UINT8, -1000, 0, 0, 127, 1}, {Graph.UINT8, -1000, 0, 0, 128, 0},
        {Graph.UINT8, 0, 0, 0, 127, 1}, {Graph.UINT8, 0, 0, 0, 128, 0},
        {Graph.UINT8, 128, 128, 128, 255, 1}, {Graph.UINT8, 128, 128, 127, 255, 0},
        {Graph.UINT8, 127, 128, 128, 100, 1}, {Graph.UINT8, 129, 128, 128, 0, 1},
        {Graph.UINT8, 1, 128, 128, 255, 1}, {Graph.INT8, 0, 0, 0, -128, 1},
        {Graph.INT8, 0, 0, 1, -128, 0}, {Graph.INT8, 0, 0, -1, 127, 0},
        {Graph.INT8, 0, 0, 1, -127, 1}, {Graph.INT8, 3, -20, 17, 90, 1},
        {Graph.INT8, 3, -20, -37, 90, 1}, {Graph.INT8, 3, -20, -38, 90, 0},
        {Graph.UINT8, 1, 128, 128, 255, 0, 0}, {Graph.UINT8, 128, 128, 128, 255, 1, 0}};
    for (int[] one : cases) {
      for (boolean turned : new boolean[] {false, true}) {
        Graph graph = new Graph().input("x", Graph.FLOAT, -1, k).output("y", Graph.FLOAT, -1, n);
        int special = one.length > 6 ? one[6] : n - 1;
        byte[] quants = new byte[k * n];
        byte[] zeros = new byte[n];
        for (int i = 0; i < n; i++) {
          zeros[i] = (byte) (i == 0 ? one[1] : i == n - 1 ? one[3] : one[2]);
          for (int j = 0; j < k; j++) {
            int near = (one[1] == -1000 ? 0 : i == 0 ? one[1] : i == n - 1 ? one[3] : one[2]);
            int least = one[0] == Graph.UINT8 ? 0 : -100;
            int value = Math.max(least, near - random.nextInt(50));
            quants[turned ? i * k + j : j * n + i] =
                (byte) (i == special && j == k - 1 ? one[4] : value);
          }
        }
        float[] scales = new float[n];
        for (int i = 0; i < n; i++) {
          scales[i] = (1 + random.nextInt(500)) / 65536f;
        }
        List<String> inputs =
            new ArrayList<>(List.of(graph.constant(one[0], quants, turned ? n : k, turned ? k : n),
                graph.floats(scales, n)));
        if (one[1] != -1000) {
          inputs.add(graph.constant(one[0], zeros, n));
        }
        String w = graph.node("DequantizeLinear", List.of(attribute("axis", turned ? 0 : 1)),
            inputs.toArray(new String[0]));
        graph.node(
            "Gemm", List.of(attribute("transB", turned ? 1 : 0)), new String[] {"x", w}, "y");
        try (OnnxTensor x = tensor(3, k)) {
          String report = beside(graph.model(17), Map.of("x", x), 2e-2f);
          assertEquals(one[5], claims(report), java.util.Arrays.toString(one) + report);
        }
      }
    }
  }

  /** Of 4 bits in an odd number of blocks, and scales of which the last one decides. */
  @Test
  void blocksInOddNumbers() throws Exception {
    int k = 96;
    int n = 40;
    float[] lasts = {0.01f, 0, 1e-6f, 1.03e-6f, 6e-5f, 65504, 70000, -0.01f, 0.0100037f};
    for (float last : lasts) {
      for (int points : new int[] {0, 1}) {
        Graph graph = new Graph().input("x", Graph.FLOAT, -1, k).output("y", Graph.FLOAT, -1, n);
        byte[] quants = new byte[n * k / 2];
        random.nextBytes(quants);
        float[] scales = new float[n * 3];
        for (int i = 0; i < scales.length; i++) {
          scales[i] = (1 + random.nextInt(1000)) / 65536f;
        }
        scales[n * 3 - 1] = last;
        List<String> inputs = new ArrayList<>(List.of(
            "x", graph.constant(Graph.UINT8, quants, n, 3, 16), graph.floats(scales, n * 3)));
        if (points > 0) {
          byte[] zeros = new byte[n * 2];
          random.nextBytes(zeros);
          zeros[2 * n - 1] = 15;
          inputs.add(graph.constant(Graph.UINT8, zeros, n, 2));
        }
        graph.node("com.microsoft:MatMulNBits",
            List.of(attribute("K", k), attribute("N", n), attribute("block_size", 32)),
            inputs.toArray(new String[0]), "y");
        try (OnnxTensor x = tensor(3, k)) {
          String report =
              beside(graph.model(17), Map.of("x", x), Math.max(2e-3f, Math.abs(last) * 0.1f));
          boolean held =
              last != 1e-6f && last != 1.03e-6f && last != 70000 && !(last == 65504 && points > 0);
          assertEquals(held ? 1 : 0, claims(report), last + " " + points + report);
        }
      }
    }
  }

  /** GroupQueryAttention whose lengths and shapes come with a run. */
  @Test
  void attentionOfOtherShapes() throws Exception {
    int dim = 16;
    Graph graph = new Graph();
    for (String name : List.of("q", "k", "v")) {
      graph.input(name, Graph.FLOAT, -1, -1, -1);
    }
    for (String name : List.of("pk", "pv")) {
      graph.input(name, Graph.FLOAT, -1, -1, -1, -1);
    }
    graph.input("lengths", Graph.INT32, -1).input("total", Graph.INT32, -1);
    for (String name : List.of("y", "nk", "nv")) {
      graph.output(name, Graph.FLOAT,
          name.equals("y") ? new long[] {-1, -1, -1} : new long[] {-1, -1, -1, -1});
    }
    graph.node("com.microsoft:GroupQueryAttention",
        List.of(attribute("num_heads", 4), attribute("kv_num_heads", 2)),
        new String[] {"q", "k", "v", "pk", "pv", "lengths", "total"}, "y", "nk", "nv");
    byte[] model = graph.model(17);
    long[][] sound = {{1, 3, 64}, {1, 3, 32}, {1, 3, 32}, {1, 2, 5, dim}, {1, 2, 5, dim}};
    List<long[][]> all = new ArrayList<>();
    all.add(sound);
    long[][][] changes = {{{0}, {1, 3, 60}}, {{0}, {1, 3, 62}}, {{1}, {1, 2, 32}},
        {{1}, {1, 3, 16}}, {{1}, {2, 3, 32}}, {{2}, {1, 2, 32}}, {{2}, {1, 3, 16}},
        {{3}, {1, 2, 4, dim}}, {{3}, {1, 1, 5, dim}}, {{3}, {2, 2, 5, dim}}, {{3}, {1, 2, 5, 8}},
        {{4}, {1, 2, 4, dim}}, {{4}, {1, 1, 5, dim}}, {{4}, {1, 2, 5, 8}}, {{0}, {1, 3, 0}}};
    for (long[][] change : changes) {
      long[][] shapes = sound.clone();
      shapes[(int) change[0][0]] = change[1];
      all.add(shapes);
    }
    for (long[] both : new long[][] {
             {1, 1, 5, dim}, {2, 2, 5, dim}, {1, 2, 5, 8}, {1, 3, 16}, {1, 2, 32}, {2, 3, 32}}) {
      long[][] shapes = sound.clone();
      int first = both.length == 4 ? 3 : 1;
      shapes[first] = shapes[first + 1] = both;
      all.add(shapes);
    }
    long[][] prompt = sound.clone();
    prompt[3] = prompt[4] = new long[] {1, 2, 0, dim};
    all.add(prompt);
    long[][] first = {{1, 1, 64}, {1, 1, 32}, {1, 1, 32}, {1, 2, 0, dim}, {1, 2, 0, dim}};
    all.add(first);
    for (long[][] shapes : all) {
      int[][] lengths = shapes == sound
          ? new int[][] {{7}, {-2}, {-1}, {1}, {2}, {6}, {8}, {100}, {7, 7}, {}}
          : shapes == prompt ? new int[][] {{2}, {-2}, {3}}
          : shapes == first
          ? new int[][] {{0}}
          : new int[][] {{7}};
      int sum = shapes == prompt ? 3 : shapes == first ? 0 : 8;
      for (int[] length : lengths) {
        for (int[] total :
            length == lengths[0] ? new int[][] {{sum}, {sum, sum}} : new int[][] {{sum}}) {
          Map<String, OnnxTensor> inputs = new HashMap<>();
          for (int i = 0; i < 5; i++) {
            inputs.put(List.of("q", "k", "v", "pk", "pv").get(i), tensor(shapes[i]));
          }
          inputs.put("lengths",
              OnnxTensor.createTensor(
                  ENVIRONMENT, java.nio.IntBuffer.wrap(length), new long[] {length.length}));
          inputs.put("total",
              OnnxTensor.createTensor(
                  ENVIRONMENT, java.nio.IntBuffer.wrap(total), new long[] {total.length}));
          String report = beside(model, inputs, 1e-4f);
          assertEquals(1, claims(report), report);
          inputs.values().forEach(OnnxTensor::close);
        }
      }
    }
    Map<String, OnnxTensor> none = new HashMap<>();
    for (String name : List.of("q", "k", "v", "pk", "pv")) {
      none.put(name, name.startsWith("p") ? tensor(1, 2, 5, 0) : tensor(1, 3, 0));
    }
    for (String name : List.of("lengths", "total")) {
      int[] one = {name.equals("total") ? 8 : 7};
      none.put(
          name, OnnxTensor.createTensor(ENVIRONMENT, java.nio.IntBuffer.wrap(one), new long[] {1}));
    }
    OrtException failure = assertThrows(OrtException.class, () -> run(model, everything(), none));
    assertTrue(failure.getMessage().contains("rows of 0 elements do not make 4 heads"),
        failure.getMessage());
    none.values().forEach(OnnxTensor::close);
  }

  /** What attention may be told, and what need not be read of it. */
  @Test
  void attentionOfOtherAttributes() throws Exception {
    for (String change : List.of("", "scale", "softcap", "tables", "deep tables", "keys unread",
             "values unread", "scores", "unasked scores")) {
      int dim = 16;
      Graph graph =
          new Graph()
              .input("q", Graph.FLOAT, -1, -1, 4 * dim)
              .input("k", Graph.FLOAT, -1, -1, 2 * dim)
              .input("v", Graph.FLOAT, -1, -1, 2 * dim)
              .input("pk", Graph.FLOAT, -1, 2, -1, dim)
              .input("pv", Graph.FLOAT, -1, 2, -1, dim)
              .output("y", Graph.FLOAT, -1, -1, 4 * dim);
      for (String name : List.of("nk", "nv")) {
        if (!change.equals(name.equals("nk") ? "keys unread" : "values unread")) {
          graph.output(name, Graph.FLOAT, -1, 2, -1, dim);
        }
      }
      boolean turned = change.equals("tables");
      boolean scores = change.endsWith("scores");
      long[] table =
          change.equals("deep tables") ? new long[] {64, dim / 2, 1} : new long[] {64, dim / 2};
      List<Message> attributes = new ArrayList<>(List.of(attribute("num_heads", 4),
          attribute("kv_num_heads", 2), attribute("do_rotary", 1),
          attribute("scale", change.equals("scale") ? -0.3f : 0.3f),
          attribute("softcap", change.equals("softcap") ? -2f : 2f)));
      if (change.equals("scores")) {
        attributes.add(attribute("qk_output", 1));
      }
      if (scores) {
        graph.output("qk", Graph.FLOAT, -1, -1, -1, -1);
      }
      graph.node("com.microsoft:GroupQueryAttention", attributes,
          new String[] {"q", "k", "v", "pk", "pv",
              graph.constant(Graph.INT32, new byte[] {7, 0, 0, 0}, 1),
              graph.constant(Graph.INT32, new byte[] {8, 0, 0, 0}, 1),
              graph.floats(random(64 * dim / 2), table),
              turned ? graph.floats(random(64 * dim / 2), dim / 2, 64)
                     : graph.floats(random(64 * dim / 2), table)},
          scores ? new String[] {"y", "nk", "nv", "qk"} : new String[] {"y", "nk", "nv"});
      Map<String, OnnxTensor> inputs = new HashMap<>();
      inputs.put("q", tensor(1, 3, 4 * dim));
      inputs.put("k", tensor(1, 3, 2 * dim));
      inputs.put("v", tensor(1, 3, 2 * dim));
      inputs.put("pk", tensor(1, 2, 5, dim));
      inputs.put("pv", tensor(1, 2, 5, dim));
      String report = beside(graph.model(17), inputs, 1e-4f);
      assertEquals(change.isEmpty() ? 1 : 0, claims(report), change + report);
      inputs.values().forEach(OnnxTensor::close);
    }
  }

  @Test
  void productsOfNoKindThatThereIs() throws Exception {
    for (String change :
        List.of("blocks of 96", "a scale of two axes", "another GELU", "a long word",
            "rows that do not fit", "a layout of others", "Gemm of three axes", "another Gemm")) {
      Graph graph = new Graph().input("x", Graph.FLOAT, -1, 96).output("y", Graph.FLOAT, -1, 8);
      String y = switch (change) {
        case "blocks of 96" ->
          graph.node("com.microsoft:MatMulNBits",
              List.of(attribute("K", 96), attribute("N", 8), attribute("block_size", 96)), "x",
              graph.constant(Graph.UINT8, new byte[8 * 48], 8, 1, 48), graph.floats(random(8), 8));
        case "a scale of two axes" ->
          graph.node("MatMul", "x",
              graph.node("DequantizeLinear", graph.constant(Graph.INT8, new byte[96 * 8], 96, 8),
                  graph.floats(new float[] {0.5f}, 1, 1)));
        case "rows that do not fit", "a layout of others" -> {
          int k = change.equals("a layout of others") ? 96 : 64;
          List<Message> attributes = new ArrayList<>(
              List.of(attribute("K", k), attribute("N", 8), attribute("block_size", 32)));
          if (k == 96) {
            attributes.add(attribute("weight_prepacked", 1));
          }
          yield graph.node("com.microsoft:MatMulNBits", attributes, "x",
              graph.constant(Graph.UINT8, new byte[8 * k / 2], 8, k / 32, 16),
              graph.floats(random(8 * k / 32), 8 * k / 32));
        }
        case "Gemm of three axes" ->
          graph.node("Gemm", graph.node("Unsqueeze", "x", graph.longs(0)),
              graph.floats(random(96 * 8), 96, 8));
        case "another Gemm" -> graph.node("Gemm", "x", graph.floats(random(64 * 8), 64, 8));
        default ->
          graph.node("Gelu",
              List.of(
                  attribute("approximate", change.equals("a long word") ? "e".repeat(80) : "erf")),
              graph.node("MatMul", "x", graph.floats(random(96 * 8), 96, 8)));
      };
      graph.node("Identity", List.of(), new String[] {y}, "y");
      try (OnnxTensor x = tensor(3, 96)) {
        String report = beside(graph.model(20), Map.of("x", x), 1e-3f);
        boolean taken = change.endsWith("GELU") || change.endsWith("word");
        assertEquals(taken ? 1 : 0, claims(report), change + report);
      }
    }
  }
}
