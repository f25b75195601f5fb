// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.exeunt.onnxruntime.Graph.attribute;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.bytedeco.javacpp.Loader;
import org.exeunt.presets.LibraryFiles;
import org.junit.jupiter.api.Test;

/** Small graphs, each with and without the provider; what it says it took, and what it left. */
class ClaimTest extends GraphTestBase {
  private interface Weight {
    double at(int n, int k);
  }

  /** ONNX Runtime itself may round the inputs of quantised weights to bytes. */
  private static List<float[]> product(OnnxTensor x, Weight weight) throws OrtException {
    FloatBuffer in = x.getFloatBuffer();
    float[] out = new float[in.remaining() / K * N];
    for (int i = 0; i < out.length; i++) {
      double sum = 0;
      for (int k = 0; k < K; k++) {
        sum += in.get(i / N * K + k) * weight.at(i % N, k);
      }
      out[i] = (float) sum;
    }
    return List.of(out);
  }

  @Test
  void everyActivationBehindABias() throws Exception {
    for (String activation : List.of("Relu", "erf", "erf-first", "erf-half", "silu")) {
      Graph graph = graph();
      String h = graph.node("Gemm", List.of(attribute("transB", 1)), "x",
          graph.floats(random(N * K), N, K), graph.floats(random(N), N));
      String y = switch (activation) {
        case "Relu" -> graph.node("Relu", h);
        case "silu" -> graph.node("Mul", h, graph.node("Sigmoid", h));
        default -> {
          String erf = graph.node("Erf", graph.node("Div", h, graph.scalar((float) Math.sqrt(2))));
          String factor = graph.node("Add", erf, graph.scalar(1));
          yield switch (activation) {
            case "erf" -> graph.node("Mul", graph.node("Mul", h, factor), graph.scalar(0.5f));
            case "erf-first" -> graph.node("Mul", graph.node("Mul", h, graph.scalar(0.5f)), factor);
            default -> graph.node("Mul", h, graph.node("Mul", factor, graph.scalar(0.5f)));
          };
        }
      };
      end(graph, y);
      for (int rows : new int[] {0, 1, 5, 40}) {
        try (OnnxTensor x = tensor(rows, K)) {
          String line = check(graph.model(17), Map.of("x", x), 2e-4f);
          String name = activation.startsWith("erf") ? "GELU"
              : activation.equals("silu")
              ? "SiLU"
              : "ReLU";
          assertTrue(line.endsWith("linear of 96 x 64 f32, bias, " + name), line);
        }
      }
    }
  }

  @Test
  void residualOfTheSameShapeOrOfOneThatIsBroadcast() throws Exception {
    Graph graph =
        new Graph()
            .input("x", Graph.FLOAT, -1, -1, K)
            .input("r", Graph.FLOAT, -1, -1, N)
            .output("y", Graph.FLOAT, -1, -1, N);
    String h = graph.node("Add", graph.floats(random(N), N),
        graph.node("MatMul", "x", graph.floats(random(K * N), K, N)));
    String sum = graph.node("Add", "r", h);
    graph.node("LayerNormalization", List.of(attribute("epsilon", 0.1f)),
        new String[] {sum, graph.floats(random(N), N), graph.floats(random(N), N)}, "y");
    byte[] model = graph.model(17);
    for (long[] shape : new long[][] {{2, 3, N}, {1, 3, N}, {2, 1, N}, {1, 1, N}}) {
      try (OnnxTensor x = tensor(2, 3, K); OnnxTensor r = tensor(shape)) {
        String line = check(model, Map.of("x", x, "r", r), 1e-4f);
        assertTrue(line.endsWith("f32, bias, residual, LayerNorm"), line);
      }
    }
    try (OnnxTensor x = tensor(1, 1, K); OnnxTensor r = tensor(2, 3, N)) {
      check(model, Map.of("x", x, "r", r), 1e-4f);
    }
  }

  @Test
  void aNormBeforeSeveralProducts() throws Exception {
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, K);
    String x = graph.node("LayerNormalization", List.of(attribute("epsilon", 0.1f)), "x",
        graph.floats(random(K), K), graph.floats(random(K), K));
    for (int i = 0; i < 3; i++) {
      graph.output("y" + i, Graph.FLOAT, -1, N);
      graph.node("MatMul", List.of(), new String[] {x, graph.floats(random(K * N), K, N)}, "y" + i);
    }
    try (OnnxTensor input = tensor(9, K)) {
      check(graph.model(17), Map.of("x", input), 1e-4f);
    }
  }

  @Test
  void aHeadWithoutLogits() throws Exception {
    int vocabulary = 5000;
    for (boolean probabilities : new boolean[] {true, false}) {
      Graph graph =
          new Graph()
              .input("x", Graph.FLOAT, -1, -1, K)
              .output("best", Graph.INT64, -1, -1)
              .output("p", Graph.FLOAT, -1, -1, 1)
              .output("top", Graph.FLOAT, -1, -1, 1)
              .output("index", Graph.INT64, -1, -1, 1);
      String z = graph.node("MatMul", "x", graph.floats(random(K * vocabulary), K, vocabulary));
      String p = probabilities ? graph.node("Softmax", z) : z;
      graph.node("ArgMax", List.of(attribute("axis", -1), attribute("keepdims", 0)),
          new String[] {z}, "best");
      graph.node("ReduceMax", List.of(attribute("axes", new long[] {-1})), new String[] {p}, "p");
      graph.node("TopK", List.of(), new String[] {p, graph.longs(1)}, "top", "index");
      try (OnnxTensor x = tensor(2, 3, K)) {
        String line = check(graph.model(17), Map.of("x", x), 1e-4f);
        assertTrue(line.endsWith("exit head of 5000 x 64 f32"), line);
      }
    }
  }

  @Test
  void logitsThatSomebodyReadsStay() throws Exception {
    Graph graph =
        new Graph()
            .input("x", Graph.FLOAT, -1, K)
            .output("best", Graph.INT64, -1)
            .output("z", Graph.FLOAT, -1, N);
    graph.node("MatMul", List.of(), new String[] {"x", graph.floats(random(K * N), K, N)}, "z");
    graph.node("ArgMax", List.of(attribute("axis", -1), attribute("keepdims", 0)),
        new String[] {"z"}, "best");
    try (OnnxTensor x = tensor(4, K)) {
      String line = check(graph.model(17), Map.of("x", x), 1e-4f);
      assertTrue(line.endsWith("linear of 96 x 64 f32"), line);
    }
  }

  /** Before 1.24.4 ONNX Runtime gives what is fused in bodies the names of what is fused beside. */
  @Test
  void productsInBodies() throws Exception {
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, K).input("c", Graph.BOOL);
    String h = graph.node("MatMul", "x", graph.floats(random(K * K), K, K));
    float[] weights = random(K * N);
    Graph[] branches = new Graph[2];
    for (int i = 0; i < 2; i++) {
      branches[i] = new Graph().output("y" + i, Graph.FLOAT, -1, N);
      weights[1] += i; // so that most of both constants is alike
      String w = branches[i].floats("w" + i, weights, K, N);
      branches[i].node("MatMul", List.of(), new String[] {h, w}, "y" + i);
    }
    graph.node("If",
        List.of(attribute("then_branch", branches[0]), attribute("else_branch", branches[1])),
        new String[] {"c"}, "y");
    byte[] model = graph.output("y", Graph.FLOAT, -1, N).model(17);
    String version = System.getProperty("exeunt.onnxruntime.version", "");
    boolean bodies = !version.matches("1\\.24\\.[0-3]");
    for (boolean first : new boolean[] {true, false}) {
      try (OnnxTensor x = tensor(3, K);
          OnnxTensor c = OnnxTensor.createTensor(ENVIRONMENT, first)) {
        String report = beside(model, Map.of("x", x, "c", c), 1e-3f);
        assertEquals(bodies ? 3 : 1, claims(report), report);
        assertEquals(!bodies, report.contains("left a body: "), report);
      }
    }
  }

  @Test
  void blocksOfFourAndEightBits() throws Exception {
    for (int bits : new int[] {4, 8}) {
      for (int block : new int[] {32, 64}) {
        for (boolean zeros : bits == 4 ? new boolean[] {false, true} : new boolean[] {false}) {
          Graph graph = graph();
          int blocks = K / block;
          byte[] quants = new byte[N * K * bits / 8];
          random.nextBytes(quants);
          float[] scales = new float[N * blocks];
          for (int i = 0; i < scales.length; i++) {
            scales[i] = (1 + random.nextInt(1000)) / 65536f; // as f16 holds it
          }
          List<String> inputs = new ArrayList<>(List.of("x",
              graph.constant(Graph.UINT8, quants, N, blocks, (long) block * bits / 8),
              graph.floats(scales, (long) N * blocks)));
          byte[] points = new byte[N * ((blocks + 1) / 2)];
          random.nextBytes(points);
          if (zeros) {
            inputs.add(graph.constant(Graph.UINT8, points, points.length));
          }
          graph.node("com.microsoft:MatMulNBits",
              List.of(attribute("K", K), attribute("N", N), attribute("bits", bits),
                  attribute("block_size", block)),
              inputs.toArray(new String[0]), "y");
          Weight weight = (n, k) -> {
            int at = n * K + k;
            int pair = points[n * ((blocks + 1) / 2) + k / block / 2] & 255;
            int zero = zeros ? pair >> 4 * (k / block % 2) & 15 : 1 << bits - 1;
            int q = bits == 8 ? quants[at] & 255 : (quants[at / 2] & 255) >> 4 * (at % 2) & 15;
            return scales[n * blocks + k / block] * (q - zero);
          };
          try (OnnxTensor x = tensor(3, K)) {
            String line = check(graph.model(17), Map.of("x", x), product(x, weight), 1e-2f);
            assertTrue(line.endsWith("in blocks of " + bits + " bits"), line);
          }
        }
      }
    }
  }

  @Test
  void dequantisedWeights() throws Exception {
    for (int type : new int[] {Graph.INT8, Graph.UINT8}) {
      for (boolean columns : new boolean[] {false, true}) {
        Graph graph = graph();
        byte[] quants = new byte[N * K];
        random.nextBytes(quants);
        int count = columns ? N : 1;
        float[] scales = new float[count];
        byte[] zeros = new byte[count];
        for (int i = 0; i < count; i++) {
          scales[i] = (1 + random.nextInt(1000)) / 65536f;
          zeros[i] = type == Graph.INT8 ? 0 : (byte) 128;
        }
        long[] shape = columns ? new long[] {N} : new long[0];
        String w = graph.node("DequantizeLinear", List.of(attribute("axis", 1)),
            graph.constant(type, quants, K, N), graph.floats(scales, shape),
            graph.constant(type, zeros, shape));
        graph.node("MatMul", List.of(), new String[] {"x", w}, "y");
        Weight weight = (n, k) -> {
          int q = type == Graph.INT8 ? quants[k * N + n] : (quants[k * N + n] & 255) - 128;
          return scales[columns ? n : 0] * q;
        };
        try (OnnxTensor x = tensor(3, K)) {
          String line = check(graph.model(17), Map.of("x", x), product(x, weight), 1e-2f);
          assertTrue(line.endsWith("in blocks of 8 bits"), line);
        }
      }
    }
  }

  @Test
  void whatIsLeftAndWhy() throws Exception {
    Graph graph =
        new Graph()
            .input("x", Graph.FLOAT, -1, K)
            .input("w", Graph.FLOAT, K, N)
            .output("y", Graph.FLOAT, -1, N);
    graph.node("MatMul", List.of(), new String[] {"x", "w"}, "y");
    try (OnnxTensor x = tensor(3, K); OnnxTensor w = tensor(K, N)) {
      assertEquals("left MatMul node_y: its right operand is no constant",
          check(graph.model(17), Map.of("x", x, "w", w), 1e-4f));
    }
    Graph wide = graph();
    wide.node("MatMul", List.of(), new String[] {"x", wide.floats(random(K * N), K, N)}, "y");
    Path report = folder.resolve("wide.txt");
    try (OnnxTensor x = tensor(3, K)) {
      run(wide.model(17), ExeuntProvider.configure().option("f32", "0").report(report),
          Map.of("x", x));
    }
    assertTrue(Files.readString(report).startsWith(
        "left MatMul node_y: its weights are f32, which option f32 leaves alone"));
    Graph scaled = graph();
    scaled.node("Gemm", List.of(attribute("alpha", 2f)),
        new String[] {"x", scaled.floats(random(K * N), K, N)}, "y");
    try (OnnxTensor x = tensor(3, K)) {
      assertEquals("left Gemm node_y: transA, alpha and beta are not 0, 1 and 1",
          check(scaled.model(17), Map.of("x", x), 1e-4f));
    }
  }

  /** All of a graph in bf16: what f32 makes of the same numbers, rounded. */
  @Test
  void bf16() throws Exception {
    Graph graph = graph();
    short[] bits = new short[K * N];
    float[] wide = new float[K * N];
    for (int i = 0; i < bits.length; i++) {
      bits[i] = (short) (Float.floatToRawIntBits((float) random.nextGaussian()) >>> 16);
      wide[i] = Float.intBitsToFloat(bits[i] << 16);
    }
    String x = cast(graph, Graph.BFLOAT16, "x");
    String y = graph.node("MatMul", x, graph.halves(bits, Graph.BFLOAT16, K, N));
    y = graph.node("Add", y, graph.halves(Arrays.copyOf(bits, N), Graph.BFLOAT16, N));
    graph.node("Cast", List.of(attribute("to", Graph.FLOAT)), new String[] {y}, "y");
    Graph reference = graph();
    end(reference,
        reference.node("Add", reference.node("MatMul", "x", reference.floats(wide, K, N)),
            reference.floats(Arrays.copyOf(wide, N), N)));
    for (int rows : new int[] {1, 7, 70}) {
      float[] values = random(rows * K);
      for (int i = 0; i < values.length; i++) { // what bf16 holds, so that no Cast rounds
        values[i] = Float.intBitsToFloat(Float.floatToRawIntBits(values[i]) & 0xffff0000);
      }
      try (OnnxTensor in = OnnxTensor.createTensor(
               ENVIRONMENT, FloatBuffer.wrap(values), new long[] {rows, K})) {
        float[] expected = run(reference.model(17), null, Map.of("x", in)).get(0);
        float[] actual = run(graph.model(17), everything(), Map.of("x", in)).get(0);
        assertArrayEquals(expected, actual, 1e-3f);
      }
    }
  }

  @Test
  void f16() throws Exception {
    Graph graph = graph();
    short[] bits = new short[K * N];
    for (int i = 0; i < bits.length; i++) { // 0.5 to 2, of both signs
      bits[i] = (short) ((random.nextInt() & 0x87ff) + 0x3800);
    }
    String x = cast(graph, Graph.FLOAT16, "x");
    String y = graph.node("MatMul", x, graph.halves(bits, Graph.FLOAT16, K, N));
    graph.node("Cast", List.of(attribute("to", Graph.FLOAT)), new String[] {y}, "y");
    for (int rows : new int[] {1, 9, 130}) {
      try (OnnxTensor in = tensor(rows, K)) {
        String line = check(graph.model(17), Map.of("x", in), 0.1f);
        assertTrue(line.endsWith("linear of 96 x 64 f16"), line);
      }
    }
  }

  @Test
  void manyRows() throws Exception {
    Graph graph =
        new Graph()
            .input("x", Graph.FLOAT, -1, K)
            .input("r", Graph.FLOAT, -1, N)
            .output("y", Graph.FLOAT, -1, N);
    String h = graph.node("Gemm", List.of(attribute("transB", 1)), "x",
        graph.floats(random(N * K), N, K), graph.floats(random(N), N));
    graph.node("Add", List.of(), new String[] {graph.node("Relu", h), "r"}, "y");
    // Every height of a tile, and what is parted.
    for (int rows = 1; rows < 400; rows += rows < 60 ? 1 : 113) {
      try (OnnxTensor x = tensor(rows, K); OnnxTensor r = tensor(rows, N)) {
        String line = check(graph.model(17), Map.of("x", x, "r", r), 1e-4f);
        assertTrue(line.endsWith("linear of 96 x 64 f32, bias, ReLU, residual"), line);
      }
    }
  }

  /** Outputs that fill no panel, inputs of odd length, and rows that lie 4 KiB apart. */
  @Test
  void oddShapes() throws Exception {
    for (int[] shape : new int[][] {{1, 1}, {31, 33}, {33, 7}, {50, 1024}, {150, 1000}}) {
      for (int type : new int[] {Graph.FLOAT, Graph.BFLOAT16, Graph.FLOAT16}) {
        int n = shape[0];
        int k = shape[1];
        float[] wide = random(n * k);
        short[] bits = new short[n * k];
        for (int i = 0; i < bits.length; i++) {
          if (type == Graph.BFLOAT16) {
            bits[i] = (short) (Float.floatToRawIntBits(wide[i]) >>> 16);
            wide[i] = Float.intBitsToFloat(bits[i] << 16);
          } else if (type == Graph.FLOAT16) { // whole numbers from -2 to 2
            int value = i * 7 % 5 - 2;
            bits[i] = (short) new int[] {0xc000, 0xbc00, 0, 0x3c00, 0x4000}[value + 2];
            wide[i] = value;
          }
        }
        for (boolean transposed : new boolean[] {false, true}) {
          long[] extents = transposed ? new long[] {n, k} : new long[] {k, n};
          Graph graph = new Graph().input("x", Graph.FLOAT, -1, k).output("y", Graph.FLOAT, -1, n);
          String x = "x";
          String w =
              type == Graph.FLOAT ? graph.floats(wide, extents) : graph.halves(bits, type, extents);
          List<Message> gemm = List.of(attribute("transB", transposed ? 1 : 0));
          if (type != Graph.FLOAT) {
            x = cast(graph, type, "x");
          }
          String y = graph.node("Gemm", gemm, x, w);
          graph.node("Cast", List.of(attribute("to", Graph.FLOAT)), new String[] {y}, "y");
          Graph plain = new Graph().input("x", Graph.FLOAT, -1, k).output("y", Graph.FLOAT, -1, n);
          plain.node("Gemm", gemm, new String[] {"x", plain.floats(wide, extents)}, "y");
          for (int rows : new int[] {1, 3, 17, 90, 260}) {
            float[] values = random(rows * k);
            for (int i = 0; i < values.length; i++) { // what f16 and bf16 hold
              values[i] = Math.round(values[i] * 16) / 16f;
            }
            try (OnnxTensor in = OnnxTensor.createTensor(
                     ENVIRONMENT, FloatBuffer.wrap(values), new long[] {rows, k})) {
              float[] expected = run(plain.model(17), null, Map.of("x", in)).get(0);
              float[] actual = run(graph.model(17), everything(), Map.of("x", in)).get(0);
              assertArrayEquals(expected, actual, 1e-5f * k + 1e-4f,
                  n + " x " + k + " of type " + type + ", " + rows + " rows");
            }
          }
        }
      }
    }
  }

  @Test
  void normsThatStandAlone() throws Exception {
    for (int width : new int[] {5, 384}) {
      for (String op : List.of("LayerNormalization", "SimplifiedLayerNormalization",
               "com.microsoft:SkipLayerNormalization",
               "com.microsoft:SkipSimplifiedLayerNormalization", "spelt out")) {
        Graph graph =
            new Graph()
                .input("x", Graph.FLOAT, -1, -1, width)
                .input("skip", Graph.FLOAT, -1, -1, width)
                .output("y", Graph.FLOAT, -1, -1, width);
        String weight = graph.floats(random(width), width);
        String bias = graph.floats(random(width), width);
        List<Message> epsilon = List.of(attribute("epsilon", 1e-3f));
        boolean rms = op.contains("Simplified");
        if (op.equals("spelt out")) {
          List<Message> last = List.of(attribute("axes", new long[] {-1}));
          String d = graph.node("Sub", "x", graph.node("ReduceMean", last, "x"));
          String variance = graph.node("ReduceMean", last, graph.node("Pow", d, graph.scalar(2)));
          String root = graph.node("Sqrt", graph.node("Add", variance, graph.scalar(1e-3f)));
          graph.node("Add", List.of(),
              new String[] {graph.node("Mul", graph.node("Div", d, root), weight), bias}, "y");
        } else if (op.contains("Skip")) {
          String add = graph.floats(random(width), width);
          graph.output("sum", Graph.FLOAT, -1, -1, width);
          graph.node(op, epsilon,
              rms ? new String[] {"x", "skip", weight, add}
                  : new String[] {"x", "skip", weight, bias, add},
              "y", "", "", "sum");
        } else {
          graph.node(op, epsilon,
              rms ? new String[] {"x", weight} : new String[] {"x", weight, bias}, "y");
        }
        for (int rows : new int[] {0, 1, 70}) {
          try (OnnxTensor x = tensor(2, rows, width);
              OnnxTensor skip = tensor(rows == 1 ? 1 : 2, rows, width)) {
            String line = check(graph.model(17), Map.of("x", x, "skip", skip), 1e-4f);
            assertTrue(line.startsWith("claimed ")
                    && line.endsWith(
                        (op.contains("Skip") ? ": sum, " : ": ") + (rms ? "RMSNorm" : "LayerNorm")),
                op + ": " + line);
          }
        }
      }
    }
  }

  /** Of rows whose length is not known, none is said to be short. */
  @Test
  void softmaxOfUnknownRows() throws Exception {
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, -1).output("y", Graph.FLOAT, -1, -1);
    graph.node("Softmax", List.of(), new String[] {"x"}, "y");
    try (OnnxTensor x = tensor(3, 5)) {
      assertEquals("left to others: 1 Softmax", check(graph.model(17), Map.of("x", x), 1e-6f));
    }
  }

  @Test
  void softmaxOfWideRows() throws Exception {
    for (int width : new int[] {4095, 4096, 5001}) {
      Graph graph =
          new Graph().input("x", Graph.FLOAT, -1, width).output("y", Graph.FLOAT, -1, width);
      graph.node("Softmax", List.of(), new String[] {"x"}, "y");
      for (int rows : new int[] {0, 1, 9}) {
        try (OnnxTensor x = tensor(rows, width)) {
          assertEquals(width < 4096
                  ? "left Softmax node_y: rows that are f16, or of less than 4096 elements, are as "
                      + "fast elsewhere"
                  : "claimed Softmax node_y: softmax",
              check(graph.model(17), Map.of("x", x), 1e-6f));
        }
      }
    }
  }

  /** As a library of custom ops, for those who want no provider. */
  @Test
  void opsWithoutTheProvider() throws Exception {
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, K);
    graph.node("org.exeunt:StableMax", List.of(), new String[] {"x"}, "y");
    Path library = LibraryFiles.unpacked(Loader.Detector.getPlatform(), "exeunt_ort");
    try (OnnxTensor x = tensor(3, K);
        OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.registerCustomOpLibrary(library.toString());
      float[] expected = run(graph.model(17), ExeuntProvider.configure(), Map.of("x", x)).get(0);
      try (OrtSession session = ENVIRONMENT.createSession(graph.model(17), options);
          OrtSession.Result result = session.run(Map.of("x", x))) {
        float[] actual = new float[expected.length];
        ((OnnxTensor) result.get(0)).getFloatBuffer().get(actual);
        assertArrayEquals(expected, actual);
      }
    }
  }

  @Test
  void opsOfOurOwn() throws Exception {
    int vocabulary = 3000;
    float[] weight = random(vocabulary * K);
    float[] scale = random(K);
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, K);
    String[] names = {"argmax", "p1", "margin", "entropy", "max_logit", "lse"};
    String[] ours = new String[6];
    String[] theirs = new String[6];
    for (int i = 0; i < 6; i++) {
      ours[i] = names[i];
      theirs[i] = "stats_" + names[i];
      graph.output(ours[i], i == 0 ? Graph.INT64 : Graph.FLOAT, -1);
      graph.output(theirs[i], i == 0 ? Graph.INT64 : Graph.FLOAT, -1);
    }
    String w = graph.floats(weight, vocabulary, K);
    graph.node("org.exeunt:ExitHead", List.of(attribute("norm", "rms")), // epsilon is 1e-5
        new String[] {"x", w, "", graph.floats(scale, K)}, ours);
    String mean = graph.node(
        "ReduceMean", List.of(attribute("axes", new long[] {-1})), graph.node("Mul", "x", "x"));
    String normed = graph.node("Mul",
        graph.node("Div", "x", graph.node("Sqrt", graph.node("Add", mean, graph.scalar(1e-5f)))),
        graph.floats(scale, K));
    String z = graph.node("Gemm", List.of(attribute("transB", 1)), normed, w);
    graph.node("org.exeunt:RowStats", List.of(), new String[] {z}, theirs);
    graph.output("best", Graph.INT64, -1, 4).output("stable", Graph.FLOAT, -1, vocabulary);
    graph.node("org.exeunt:Select", List.of(attribute("k", 4)), new String[] {z}, "best");
    graph.node("org.exeunt:StableMax", List.of(), new String[] {z}, "stable");
    graph.output("z", Graph.FLOAT, -1, vocabulary);
    graph.node("Identity", List.of(), new String[] {z}, "z");
    int rows = 3;
    try (OnnxTensor x = tensor(rows, K)) {
      List<float[]> out =
          run(graph.model(17), ExeuntProvider.configure().threads(2), Map.of("x", x));
      float[] logits = out.get(14);
      for (int r = 0; r < rows; r++) {
        double lse = 0;
        double stable = 0;
        int best = 0;
        double max = Double.NEGATIVE_INFINITY;
        for (int j = 0; j < vocabulary; j++) {
          double v = logits[r * vocabulary + j];
          lse += Math.exp(v);
          stable += v >= 0 ? v + 1 : 1 / (1 - v);
          if (v > max) {
            max = v;
            best = j;
          }
        }
        double entropy = 0;
        double second = 0;
        for (int j = 0; j < vocabulary; j++) {
          double p = Math.exp(logits[r * vocabulary + j]) / lse;
          entropy -= p * Math.log(p);
          second = j == best ? second : Math.max(second, p);
        }
        double p1 = Math.exp(max) / lse;
        double[] expected = {best, p1, p1 - second, entropy, max, Math.log(lse)};
        for (int i = 0; i < 6; i++) {
          // Outputs come in the order in which the graph lists them, ours and theirs in turn.
          double tolerance = i == 0 ? 0 : 1e-4 * Math.max(1, Math.abs(expected[i]));
          assertEquals(expected[i], out.get(2 * i)[r], tolerance, names[i]);
          assertEquals(expected[i], out.get(2 * i + 1)[r], tolerance, names[i]);
        }
        double p = max >= 0 ? max + 1 : 1 / (1 - max);
        assertEquals(p / stable, out.get(13)[r * vocabulary + best], 1e-5 * p / stable);
        int hits = 0;
        for (int i = 0; i < 4; i++) {
          hits += out.get(12)[r * 4 + i] == best ? 1 : 0;
          assertTrue(i == 0 || out.get(12)[r * 4 + i] > out.get(12)[r * 4 + i - 1]);
        }
        assertEquals(1, hits);
      }
    }
  }

  /** ExitHead beside RowStats of the logits that small ops make, with every attribute given. */
  @Test
  void headsWithAllAttributes() throws Exception {
    int vocabulary = 3000;
    String[] names = {"argmax", "p1", "margin", "entropy", "max_logit", "lse"};
    for (String normalizer : List.of("softmax", "stablemax")) {
      for (boolean low : new boolean[] {false, true}) {
        Graph graph = new Graph().input("x", Graph.FLOAT, -1, K);
        String w = graph.floats(random(vocabulary * K), vocabulary, K);
        float[] bias = random(vocabulary);
        if (low) { // the first half has no share in any sum
          Arrays.fill(bias, 0, vocabulary / 2, -1e4f);
        }
        String b = graph.floats(bias, vocabulary);
        String scale = graph.floats(random(K), K);
        String shift = graph.floats(random(K), K);
        List<Message> all = new ArrayList<>(List.of(attribute("temperature", 0.7f),
            attribute("softcap", low ? 0f : 9f), attribute("normalizer", normalizer)));
        String normed = graph.node(
            "LayerNormalization", List.of(attribute("epsilon", 0.1f)), "x", scale, shift);
        String z = graph.node("Gemm", List.of(attribute("transB", 1)), normed, w, b);
        String[][] outputs = new String[2][6];
        for (int i = 0; i < 6; i++) {
          for (int j = 0; j < 2; j++) {
            outputs[j][i] = names[i] + j;
            graph.output(outputs[j][i], i == 0 ? Graph.INT64 : Graph.FLOAT, -1);
          }
        }
        graph.node("org.exeunt:RowStats", all, new String[] {z}, outputs[0]);
        all.addAll(List.of(attribute("norm", "layer"), attribute("epsilon", 0.1f)));
        graph.node("org.exeunt:ExitHead", all, new String[] {"x", w, b, scale, shift}, outputs[1]);
        graph.output("few", Graph.INT64, -1).output("few_margin", Graph.FLOAT, -1);
        graph.node("org.exeunt:ExitHead", all, new String[] {"x", w, b, scale, shift}, "few", "",
            "few_margin");
        graph.output("z", Graph.FLOAT, -1, -1);
        graph.node("Identity", List.of(), new String[] {z}, "z");
        try (OnnxTensor x = tensor(40, K)) {
          List<float[]> out = run(graph.model(17), ExeuntProvider.configure(), Map.of("x", x));
          for (int i = 0; i < 6; i++) {
            assertArrayEquals(out.get(2 * i), out.get(2 * i + 1), 2e-4f, names[i] + normalizer);
          }
          assertArrayEquals(out.get(0), out.get(12), 0);
          assertArrayEquals(out.get(5), out.get(13), 0);
          // The first row anew, in double precision.
          double sum = 0;
          double most = 0;
          double next = 0;
          for (int j = 0; j < vocabulary; j++) {
            double v = out.get(14)[j];
            v = (low ? v : 9 * Math.tanh(v / 9)) / 0.7;
            double e = normalizer.equals("softmax") ? Math.exp(v) : v >= 0 ? v + 1 : 1 / (1 - v);
            sum += e;
            next = e > most ? most : Math.max(next, e);
            most = Math.max(most, e);
          }
          assertEquals(most / sum, out.get(2)[0], 1e-4);
          assertEquals((most - next) / sum, out.get(4)[0], 1e-4);
          assertEquals(Math.log(sum), out.get(10)[0], 1e-3);
        }
      }
    }
  }

  @Test
  void logarithmsAndMoreThanThereAre() throws Exception {
    Graph graph =
        new Graph()
            .input("x", Graph.FLOAT, -1, K)
            .output("log", Graph.FLOAT, -1, K)
            .output("p", Graph.FLOAT, -1, K)
            .output("all", Graph.INT64, -1, -1)
            .output("none", Graph.INT64, -1, -1);
    graph.node("org.exeunt:StableMax", List.of(attribute("log", 1)), new String[] {"x"}, "log");
    graph.node("org.exeunt:StableMax", List.of(), new String[] {"x"}, "p");
    graph.node("org.exeunt:Select", List.of(attribute("k", K + 9)), new String[] {"x"}, "all");
    graph.node("org.exeunt:Select", List.of(attribute("k", 0)), new String[] {"x"}, "none");
    try (OnnxTensor x = tensor(3, K)) {
      List<float[]> out = run(graph.model(17), ExeuntProvider.configure(), Map.of("x", x));
      for (int i = 0; i < 3 * K; i++) {
        assertEquals(Math.log(out.get(1)[i]), out.get(0)[i], 1e-5);
        assertEquals(i % K, out.get(2)[i]);
      }
      assertEquals(0, out.get(3).length);
    }
  }

  /** Logits that are not finite have an index and a maximum: the first of them. */
  @Test
  void headsOfInfiniteLogits() throws Exception {
    int vocabulary = 8192;
    float[] weights = new float[vocabulary * K];
    weights[100 * K] = weights[200 * K] = weights[8000 * K + 1] = 1e30f;
    float[] bias = new float[vocabulary];
    bias[4000] = 1;
    Graph graph =
        new Graph()
            .input("x", Graph.FLOAT, -1, K)
            .output("y", Graph.INT64, -1, 1)
            .output("z", Graph.FLOAT, -1, 1);
    String z = graph.node("Gemm", List.of(attribute("transB", 1)), "x",
        graph.floats(weights, vocabulary, K), graph.floats(bias, vocabulary));
    graph.node("ArgMax", List.of(attribute("axis", -1)), new String[] {z}, "y");
    graph.node("ReduceMax", List.of(attribute("axes", new long[] {-1})), new String[] {z}, "z");
    float[] values = new float[8 * K];
    values[3 * K] = 1e30f;
    values[5 * K + 1] = 1e30f;
    try (OnnxTensor x =
             OnnxTensor.createTensor(ENVIRONMENT, FloatBuffer.wrap(values), new long[] {8, K})) {
      String line = check(graph.model(17), Map.of("x", x), 0);
      assertTrue(line.endsWith("exit head of 8192 x 64 bf16, bias")
              || line.endsWith("exit head of 8192 x 64 f32, bias"),
          line);
    }
    // All of them are infinite or less than all others, by the bias.
    Arrays.fill(bias, Float.NEGATIVE_INFINITY);
    bias[7000] = bias[7001] = Float.POSITIVE_INFINITY;
    Graph biased = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.INT64, -1, 1);
    z = biased.node("Gemm", List.of(attribute("transB", 1)), "x",
        biased.floats(new float[vocabulary * K], vocabulary, K), biased.floats(bias, vocabulary));
    biased.node("ArgMax", List.of(attribute("axis", -1)), new String[] {z}, "y");
    try (OnnxTensor x = tensor(8, K)) {
      check(biased.model(17), Map.of("x", x), 0);
    }
  }
}
