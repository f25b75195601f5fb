// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.exeunt.onnxruntime.Graph.attribute;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxTensor;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Which products are left since ONNX Runtime computes them as fast. */
class WorthTest extends GraphTestBase {
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
      assertEquals(narrow ? PLAIN : "", claimed(Files.readAllLines(report)));
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
    assertEquals(claims, claims(lines), name + lines);
  }
}
