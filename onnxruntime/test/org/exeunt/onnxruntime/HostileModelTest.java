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

  /** MatMulNBits with so many scales and, unless it is negative, bytes of zero points. */
  private byte[] bits(long k, long n, long block, int scales, int zeros, float scale) {
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, -1).output("y", Graph.FLOAT, -1, -1);
    float[] values = new float[scales];
    java.util.Arrays.fill(values, scale);
    List<String> inputs = new ArrayList<>(List.of("x",
        graph.constant(Graph.UINT8, new byte[N * K / 2], N, K / 32, 16),
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
    }
  }

  @Test
  void fewerZeroPointsThanScales() throws Exception {
    for (int zeros : new int[] {0, 1, N - 1, N}) {
      Graph graph = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, N);
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
      keys = graph.node("Cast", List.of(attribute("to", cacheType)), keys);
      values = graph.node("Cast", List.of(attribute("to", cacheType)), values);
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
}
