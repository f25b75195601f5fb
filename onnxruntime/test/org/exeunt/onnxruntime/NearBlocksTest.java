// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.exeunt.onnxruntime.Graph.attribute;
import static org.junit.jupiter.api.Assertions.assertEquals;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Quantised weights that differ in one thing from what the provider takes. */
class NearBlocksTest extends GraphTestBase {
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
          wide ? graph.constant(Graph.INT16, quants(2 * k * n), k, n)
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

  /** A scale that f16 does not hold is the nearest that it does. */
  @Test
  void scalesThatAreRounded() throws Exception {
    Graph graph = graph();
    float[] scales = new float[N * K / 32];
    Arrays.fill(scales, 0.9999f); // between 0.99951 and 1
    byte[] quants = new byte[N * K / 2];
    Arrays.fill(quants, (byte) 0xff); // 15 - 8
    graph.node("com.microsoft:MatMulNBits",
        List.of(attribute("K", K), attribute("N", N), attribute("block_size", 32)),
        new String[] {"x", graph.constant(Graph.UINT8, quants, N, K / 32, 16),
            graph.floats(scales, scales.length)},
        "y");
    float[] ones = new float[K];
    Arrays.fill(ones, 1);
    try (OnnxTensor x =
             OnnxTensor.createTensor(ENVIRONMENT, FloatBuffer.wrap(ones), new long[] {1, K})) {
      float[] y = run(graph.model(17), everything(), Map.of("x", x)).get(0);
      assertEquals(0.9999f * 7 * K, y[0], 0.06f);
    }
  }
}
