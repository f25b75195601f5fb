// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.exeunt.onnxruntime.Graph.attribute;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
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
      Graph graph = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, N);
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
      graph.node("Identity", List.of(), new String[] {y}, "y");
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
    Graph[] branches = new Graph[2];
    for (int i = 0; i < 2; i++) {
      branches[i] = new Graph().output("y" + i, Graph.FLOAT, -1, N);
      String w = branches[i].floats("w" + i, random(K * N), K, N);
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
          Graph graph = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, N);
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
        Graph graph = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, N);
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
    Graph wide = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, N);
    wide.node("MatMul", List.of(), new String[] {"x", wide.floats(random(K * N), K, N)}, "y");
    Path report = folder.resolve("wide.txt");
    try (OnnxTensor x = tensor(3, K)) {
      run(wide.model(17), ExeuntProvider.configure().option("f32", "0").report(report),
          Map.of("x", x));
    }
    assertTrue(Files.readString(report).startsWith(
        "left MatMul node_y: its weights are f32, which option f32 leaves alone"));
    Graph scaled = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, N);
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
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, N);
    short[] bits = new short[K * N];
    float[] wide = new float[K * N];
    for (int i = 0; i < bits.length; i++) {
      bits[i] = (short) (Float.floatToRawIntBits((float) random.nextGaussian()) >>> 16);
      wide[i] = Float.intBitsToFloat(bits[i] << 16);
    }
    String x = graph.node("Cast", List.of(attribute("to", Graph.BFLOAT16)), "x");
    String y = graph.node("MatMul", x, graph.halves(bits, Graph.BFLOAT16, K, N));
    graph.node("Cast", List.of(attribute("to", Graph.FLOAT)), new String[] {y}, "y");
    Graph reference = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, N);
    reference.node("MatMul", List.of(), new String[] {"x", reference.floats(wide, K, N)}, "y");
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
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, N);
    short[] bits = new short[K * N];
    for (int i = 0; i < bits.length; i++) { // 0.5 to 2, of both signs
      bits[i] = (short) ((random.nextInt() & 0x87ff) + 0x3800);
    }
    String x = graph.node("Cast", List.of(attribute("to", Graph.FLOAT16)), "x");
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
            x = graph.node("Cast", List.of(attribute("to", type)), "x");
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

  /** A layer of GroupQueryAttention, its inputs rounded to a type first. */
  private final class GroupQuery {
    final int heads;
    final int kvHeads;
    final int dim;
    final boolean packed;
    private final List<Message> attributes;
    private final float[] cosines;
    private final float[] sines;
    private final List<String> optional = new ArrayList<>();

    GroupQuery(int heads, int kvHeads, int dim, boolean packed, Message... more) {
      this.heads = heads;
      this.kvHeads = kvHeads;
      this.dim = dim;
      this.packed = packed;
      attributes = new ArrayList<>(List.of(more));
      attributes.add(attribute("num_heads", heads));
      attributes.add(attribute("kv_num_heads", kvHeads));
      int positions = 64;
      cosines = new float[positions * dim / 2];
      sines = new float[positions * dim / 2];
      for (int i = 0; i < cosines.length; i++) {
        double angle = i / (dim / 2) * Math.pow(100, -2.0 * (i % (dim / 2)) / dim);
        cosines[i] = (float) Math.cos(angle);
        sines[i] = (float) Math.sin(angle);
      }
    }

    /** What comes behind the tables: position_ids, attention_bias, head_sink. */
    GroupQuery with(String... names) {
      optional.addAll(List.of(names));
      return this;
    }

    byte[] model(int type) {
      Graph graph = new Graph();
      long row = (long) heads * dim;
      long keys = (long) kvHeads * dim;
      long[] cache = {-1, kvHeads, -1, dim};
      graph.input("query", Graph.FLOAT, -1, -1, packed ? row + 2 * keys : row);
      List<String> inputs = new ArrayList<>(List.of("query", "", ""));
      if (!packed) {
        graph.input("key", Graph.FLOAT, -1, -1, keys).input("value", Graph.FLOAT, -1, -1, keys);
        inputs = new ArrayList<>(List.of("query", "key", "value"));
      }
      graph.input("past_key", Graph.FLOAT, cache).input("past_value", Graph.FLOAT, cache);
      graph.input("lengths", Graph.INT32, -1).input("total", Graph.INT32);
      graph.output("y", Graph.FLOAT, -1, -1, row);
      graph.output("present_key", Graph.FLOAT, cache).output("present_value", Graph.FLOAT, cache);
      inputs.addAll(List.of("past_key", "past_value", "lengths", "total"));
      String[] outputs = {"y", "present_key", "present_value"};
      String cos = graph.floats(cosines, cosines.length / (dim / 2), dim / 2);
      String sin = graph.floats(sines, sines.length / (dim / 2), dim / 2);
      if (type != Graph.FLOAT) {
        for (int i = 0; i < 5; i++) {
          if (!inputs.get(i).isEmpty()) {
            inputs.set(i, graph.node("Cast", List.of(attribute("to", type)), inputs.get(i)));
          }
        }
        cos = graph.halves(narrow(cosines, type), type, cosines.length / (dim / 2), dim / 2);
        sin = graph.halves(narrow(sines, type), type, sines.length / (dim / 2), dim / 2);
      }
      inputs.addAll(List.of(cos, sin));
      for (String name : optional) {
        inputs.add(name);
        switch (name) {
          case "positions" -> graph.input(name, Graph.INT64, -1, -1);
          case "bias" -> graph.input(name, Graph.FLOAT, 1, 1, -1, -1);
          case "sink" -> graph.input(name, Graph.FLOAT, heads);
          default -> {
          }
        }
      }
      String[] results =
          type == Graph.FLOAT ? outputs : new String[] {"y_", "present_key_", "present_value_"};
      graph.node(
          "com.microsoft:GroupQueryAttention", attributes, inputs.toArray(new String[0]), results);
      for (int i = 0; i < 3 && type != Graph.FLOAT; i++) {
        graph.node(
            "Cast", List.of(attribute("to", Graph.FLOAT)), new String[] {results[i]}, outputs[i]);
      }
      return graph.model(17);
    }

    /** New rows of each sequence, slots before them, and how many tokens a sequence has then. */
    Map<String, OnnxTensor> inputs(int rows, int past, int total, int... lengths)
        throws OrtException {
      Map<String, OnnxTensor> inputs = new HashMap<>();
      long batch = lengths.length;
      long keys = (long) kvHeads * dim;
      long row = (long) heads * dim;
      inputs.put("query", tensor(batch, rows, packed ? row + 2 * keys : row));
      if (!packed) {
        inputs.put("key", tensor(batch, rows, keys));
        inputs.put("value", tensor(batch, rows, keys));
      }
      inputs.put("past_key", tensor(batch, kvHeads, past, dim));
      inputs.put("past_value", tensor(batch, kvHeads, past, dim));
      int[] last = new int[lengths.length];
      for (int i = 0; i < last.length; i++) {
        last[i] = lengths[i] - 1;
      }
      inputs.put("lengths",
          OnnxTensor.createTensor(ENVIRONMENT, IntBuffer.wrap(last), new long[] {batch}));
      inputs.put("total",
          OnnxTensor.createTensor(ENVIRONMENT, IntBuffer.wrap(new int[] {total}), new long[0]));
      return inputs;
    }
  }

  private static short[] narrow(float[] values, int type) {
    short[] bits = new short[values.length];
    for (int i = 0; i < bits.length; i++) {
      int word = Float.floatToRawIntBits(values[i]);
      // Of f16 cut off at its 10 bits, and 0 below its smallest normal number.
      int half = Math.abs(values[i]) < 6.2e-5f
          ? 0
          : word >>> 16 & 0x8000 | (word & 0x7fffffff) - (112 << 23) >>> 13;
      bits[i] = (short) (type == Graph.FLOAT16 ? half : word >>> 16);
    }
    return bits;
  }

  @Test
  void groupQueryAttention() throws Exception {
    Message rotary = attribute("do_rotary", 1);
    for (GroupQuery layer :
        List.of(new GroupQuery(4, 2, 32, false), new GroupQuery(6, 2, 48, false, rotary),
            new GroupQuery(3, 1, 16, true, rotary, attribute("rotary_interleaved", 1)),
            new GroupQuery(2, 2, 80, true, attribute("softcap", 2f), attribute("scale", 0.3f)))) {
      for (int type : new int[] {Graph.FLOAT, Graph.FLOAT16, Graph.BFLOAT16}) {
        byte[] model = layer.model(type);
        List<Map<String, OnnxTensor>> runs = List.of(layer.inputs(7, 0, 7, 7, 7), // prompts
            layer.inputs(1, 0, 1, 1), // the first token of all
            layer.inputs(1, 9, 10, 10), // a step whose past is full
            layer.inputs(1, 20, 14, 3, 14, 9), // steps within a larger buffer
            layer.inputs(5, 11, 16, 16)); // a prompt behind another
        for (Map<String, OnnxTensor> inputs : runs) {
          // ONNX Runtime's for f32 stands in for bf16, for which it has none.
          byte[] reference = type == Graph.BFLOAT16 ? layer.model(Graph.FLOAT) : model;
          float tolerance = type == Graph.FLOAT ? 1e-5f : type == Graph.FLOAT16 ? 6e-3f : 6e-2f;
          String line = check(model, inputs, run(reference, null, inputs), tolerance);
          assertTrue(line.contains(": attention of " + layer.heads + " heads, " + layer.kvHeads
                         + " of keys and values"),
              line);
          inputs.values().forEach(OnnxTensor::close);
        }
      }
    }
  }

  /** Work for two threads: heads of one sequence, an odd number of them, and whole sequences. */
  @Test
  void groupQueryAttentionOfTwoThreads() throws Exception {
    Message rotary = attribute("do_rotary", 1);
    for (GroupQuery layer :
        List.of(new GroupQuery(6, 3, 32, false, rotary), new GroupQuery(6, 3, 32, true))) {
      byte[] model = layer.model(Graph.FLOAT);
      for (Map<String, OnnxTensor> inputs :
          List.of(layer.inputs(40, 0, 40, 40), layer.inputs(40, 0, 40, 40, 40, 40),
              layer.inputs(30, 20, 50, 50), layer.inputs(20, 60, 50, 50))) {
        String line = check(model, inputs, 1e-5f);
        assertTrue(line.contains(": attention of 6 heads"), line);
        inputs.values().forEach(OnnxTensor::close);
      }
    }
  }

  /** Of sequences that are shorter than the others of a first prompt, what is no padding. */
  @Test
  void groupQueryAttentionOfPaddedPrompts() throws Exception {
    GroupQuery layer = new GroupQuery(4, 2, 32, false, attribute("do_rotary", 1));
    int rows = 7;
    int[] lengths = {3, 7, 1};
    Map<String, OnnxTensor> inputs = layer.inputs(rows, 0, rows, lengths);
    byte[] model = layer.model(Graph.FLOAT);
    List<float[]> expected = run(model, null, inputs);
    List<float[]> actual = run(model, everything(), inputs);
    for (int b = 0; b < lengths.length; b++) {
      int row = layer.heads * layer.dim;
      for (int i = b * rows * row; i < (b * rows + lengths[b]) * row; i++) {
        assertEquals(expected.get(0)[i], actual.get(0)[i], 1e-5f, "sequence " + b);
      }
      for (int head = b * layer.kvHeads; head < (b + 1) * layer.kvHeads; head++) {
        for (int i = head * rows * layer.dim; i < (head * rows + lengths[b]) * layer.dim; i++) {
          assertEquals(expected.get(1)[i], actual.get(1)[i], 1e-5f, "keys of sequence " + b);
          assertEquals(expected.get(2)[i], actual.get(2)[i], 1e-5f, "values of sequence " + b);
        }
      }
    }
    inputs.values().forEach(OnnxTensor::close);
  }

  @Test
  void groupQueryAttentionAtGivenPositions() throws Exception {
    GroupQuery layer = new GroupQuery(4, 2, 32, false, attribute("do_rotary", 1)).with("positions");
    for (long first : new long[] {0, 5, 31}) {
      // In a first prompt ONNX Runtime counts on from the first position.
      Map<String, OnnxTensor> inputs = layer.inputs(3, 4, 7, 7);
      long[] positions = {first + 2, first, first + 7};
      inputs.put("positions",
          OnnxTensor.createTensor(ENVIRONMENT, LongBuffer.wrap(positions), new long[] {1, 3}));
      String line = check(layer.model(Graph.FLOAT), inputs, 1e-5f);
      assertTrue(line.endsWith(", rotary"), line);
      inputs.values().forEach(OnnxTensor::close);
    }
    Map<String, OnnxTensor> beyond = layer.inputs(1, 0, 1, 1);
    beyond.put("positions",
        OnnxTensor.createTensor(ENVIRONMENT, LongBuffer.wrap(new long[] {64}), new long[] {1, 1}));
    OrtException failure =
        assertThrows(OrtException.class, () -> run(layer.model(Graph.FLOAT), everything(), beyond));
    assertTrue(failure.getMessage().contains("a row is at position 64, cos_cache has 64"),
        failure.getMessage());
    beyond.values().forEach(OnnxTensor::close);
  }

  /** Past and present in one buffer, over several steps. */
  @Test
  void groupQueryAttentionInPlace() throws Exception {
    GroupQuery layer = new GroupQuery(4, 2, 32, false, attribute("do_rotary", 1));
    byte[] model = layer.model(Graph.FLOAT);
    int slots = 12;
    int count = layer.kvHeads * slots * layer.dim;
    long[] shape = {1, layer.kvHeads, slots, layer.dim};
    List<OnnxTensor> caches = new ArrayList<>();
    List<FloatBuffer> buffers = new ArrayList<>();
    for (int i = 0; i < 4; i++) {
      FloatBuffer buffer =
          ByteBuffer.allocateDirect(4 * count).order(ByteOrder.nativeOrder()).asFloatBuffer();
      buffers.add(buffer);
      caches.add(OnnxTensor.createTensor(ENVIRONMENT, buffer, shape));
    }
    try (OrtSession.SessionOptions alone = new OrtSession.SessionOptions();
        OrtSession.SessionOptions with = new OrtSession.SessionOptions()) {
      ExeuntProvider.configure().threads(2).add(with);
      try (OrtSession expected = ENVIRONMENT.createSession(model, alone);
          OrtSession actual = ENVIRONMENT.createSession(model, with)) {
        for (int step = 0; step < slots; step++) {
          Map<String, OnnxTensor> inputs = layer.inputs(1, slots, step + 1, step + 1);
          List<float[]> outputs = new ArrayList<>();
          for (int side = 0; side < 2; side++) {
            inputs.put("past_key", caches.get(2 * side));
            inputs.put("past_value", caches.get(2 * side + 1));
            Map<String, OnnxTensor> pinned = Map.of(
                "present_key", caches.get(2 * side), "present_value", caches.get(2 * side + 1));
            try (OrtSession.Result result =
                     (side == 0 ? expected : actual).run(inputs, Set.of("y"), pinned)) {
              float[] y = new float[layer.heads * layer.dim];
              ((OnnxTensor) result.get("y").get()).getFloatBuffer().get(y);
              outputs.add(y);
            }
          }
          assertArrayEquals(outputs.get(0), outputs.get(1), 1e-5f, "step " + step);
          for (int i = 0; i < 2; i++) {
            for (int j = 0; j < count; j++) {
              assertEquals(buffers.get(i).get(j), buffers.get(i + 2).get(j), 1e-5f);
            }
          }
        }
      }
    }
  }

  @Test
  void groupQueryAttentionThatIsLeft() throws Exception {
    Map<Message, String> reasons = Map.of(attribute("local_window_size", 4),
        "it sees a window (local_window_size) and not all that came before",
        attribute("smooth_softmax", 1), "its softmax has a sink (smooth_softmax or head_sink)");
    for (Map.Entry<Message, String> reason : reasons.entrySet()) {
      GroupQuery layer = new GroupQuery(4, 2, 32, false, reason.getKey());
      assertEquals("left GroupQueryAttention node_y: " + reason.getValue(),
          check(layer.model(Graph.FLOAT), layer.inputs(1, 9, 10, 10), 1e-5f));
    }
    for (String input : List.of("bias", "sink")) {
      GroupQuery layer = new GroupQuery(4, 2, 32, false);
      layer = input.equals("bias") ? layer.with("", "bias") : layer.with("", "", "sink");
      Map<String, OnnxTensor> inputs = layer.inputs(1, 9, 10, 10);
      inputs.put(input, input.equals("bias") ? tensor(1, 1, 1, 10) : tensor(4));
      assertEquals("left GroupQueryAttention node_y: "
              + (input.equals("bias") ? "it has an attention_bias"
                                      : "its softmax has a sink (smooth_softmax or head_sink)"),
          check(layer.model(Graph.FLOAT), inputs, 1e-5f));
      inputs.values().forEach(OnnxTensor::close);
    }
    // What no run can mean: more tokens than slots, and more before the new ones than there were.
    GroupQuery layer = new GroupQuery(4, 2, 32, false);
    for (int[] sizes : new int[][] {{1, 9, 10}, {3, 5, 12}}) {
      OrtException failure = assertThrows(OrtException.class,
          ()
              -> run(layer.model(Graph.FLOAT), everything(),
                  layer.inputs(sizes[0], sizes[1], sizes[2], 12)));
      assertTrue(failure.getMessage().contains("seqlens_k[0] is 11"), failure.getMessage());
    }
    GroupQuery placed =
        new GroupQuery(4, 2, 32, false, attribute("do_rotary", 1)).with("positions");
    Map<String, OnnxTensor> inputs = placed.inputs(3, 4, 7, 7);
    inputs.put("positions",
        OnnxTensor.createTensor(ENVIRONMENT, LongBuffer.wrap(new long[2]), new long[] {1, 2}));
    OrtException failure = assertThrows(
        OrtException.class, () -> run(placed.model(Graph.FLOAT), everything(), inputs));
    assertTrue(failure.getMessage().contains("position_ids is [1,2], expected i64 of [1,3]"),
        failure.getMessage());
    inputs.values().forEach(OnnxTensor::close);
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
    graph.node("org.exeunt:ExitHead",
        List.of(attribute("norm", "rms"), attribute("epsilon", 1e-5f)),
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
          java.util.Arrays.fill(bias, 0, vocabulary / 2, -1e4f);
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
    java.util.Arrays.fill(bias, Float.NEGATIVE_INFINITY);
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
