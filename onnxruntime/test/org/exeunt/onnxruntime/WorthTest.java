// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.exeunt.onnxruntime.Graph.attribute;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtSession;
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
    for (int low : new int[] {0, 1, 0x1000}) {
      boolean narrow = low == 0;
      int n = 50; // the last panel is not full
      Graph graph = new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, n);
      float[] weights = random(K * n);
      for (int i = 0; i < weights.length; i++) {
        int word = Float.floatToRawIntBits(weights[i]);
        // Of what is not narrow, the last one alone.
        weights[i] = narrow || i < weights.length - 1
            ? Float.intBitsToFloat(word & 0xffff0000)
            : Float.intBitsToFloat(word & 0xffff0000 | low);
      }
      end(graph, graph.node("MatMul", "x", graph.floats(weights, K, n)));
      Path report = Files.createTempFile(folder, "narrow", ".txt");
      try (OnnxTensor x = tensor(3, K)) {
        Map<String, OnnxTensor> inputs = Map.of("x", x);
        assertArrayEquals(run(graph.model(17), null, inputs).get(0),
            run(graph.model(17), everything().option("f32", "0").report(report), inputs).get(0),
            1e-4f);
      }
      assertEquals(narrow ? "linear of 50 x 64 f32" : "", claimed(Files.readAllLines(report)));
    }
  }

  /** The norm before a product that is left is taken by itself. */
  @Test
  void aNormBeforeWhatDoesNotPay() throws Exception {
    Graph graph = graph();
    end(graph, product(graph, graph.node("LayerNormalization", "x", row(graph, K), row(graph, K))));
    Path report = Files.createTempFile(folder, "pay", ".txt");
    try (OnnxTensor x = tensor(3, K)) {
      Map<String, OnnxTensor> inputs = Map.of("x", x);
      assertArrayEquals(run(graph.model(17), null, inputs).get(0),
          run(graph.model(17), ExeuntProvider.configure().report(report), inputs).get(0), 1e-3f);
    }
    assertEquals("LayerNorm", claimed(Files.readAllLines(report)));
  }

  private static final int NEVER = 0;

  /**
   * From how many thousand weights on (K N / 1024) a product is taken: with fewer than 4 rows, with
   * fewer than 64, and with more.
   */
  private static Map<String, int[]> least() {
    int[] bytes = {16384, 1024, 1024};
    int[] eighths = {64, 128, 512};
    String version = ENVIRONMENT.getVersion();
    boolean rounds = Integer.parseInt(version.split("\\.")[1]) >= 25;
    Map<String, int[]> least = new LinkedHashMap<>();
    least.put("norm before", new int[] {64, 1, 1});
    least.put("norm after", new int[] {64, 1, 1});
    least.put("plain", new int[] {2048, 512, 2048});
    least.put("ReLU", new int[] {2048, 512, 2048});
    least.put("GELU", new int[] {512, 512, 512});
    least.put("SiLU", new int[] {512, 512, 512});
    least.put("two", new int[] {1536, 1024, 2048});
    least.put("head", new int[] {1024, 1024, NEVER});
    least.put("narrow", new int[] {128, 512, 1024});
    least.put("narrow head", new int[] {128, 512, 16384});
    least.put("bf16", new int[] {1, 1, 1});
    least.put("i8, one scale", eighths);
    least.put("i8, a scale for a column", rounds ? bytes : eighths);
    least.put("8 bits", eighths);
    least.put("4 bits", new int[] {64, 128, 1024});
    least.put("4 bits, level 1", new int[] {64, 128, 1024});
    least.put("4 bits, level 4", bytes);
    least.put("8 bits, level 4, long", new int[] {16384, 4096, 4096});
    return least;
  }

  /** Of 1024 columns, without the option all; and whether all products of it are claimed. */
  private boolean taken(String kind, int rows, int n) throws Exception {
    final int k = 1024;
    boolean head = kind.endsWith("head");
    Graph graph = new Graph().input("x", Graph.FLOAT, rows, k);
    graph.output("y", head ? Graph.INT64 : Graph.FLOAT, rows, head ? 1 : n);
    String x = "x";
    if (kind.equals("norm before")) {
      x = graph.node("LayerNormalization", x, row(graph, k), row(graph, k));
    }
    if (kind.contains("bits")) {
      int bits = kind.charAt(0) - '0';
      int block = kind.endsWith("long") ? 64 : 32;
      List<Message> attributes = new ArrayList<>(List.of(attribute("K", k), attribute("N", n),
          attribute("block_size", block), attribute("bits", bits)));
      if (kind.contains("level")) {
        attributes.add(attribute("accuracy_level", kind.charAt(kind.indexOf("level ") + 6) - '0'));
      }
      graph.node("com.microsoft:MatMulNBits", attributes,
          new String[] {x,
              graph.constant(
                  Graph.UINT8, new byte[n * k * bits / 8], n, k / block, block * bits / 8),
              graph.floats(scales(n * k / block), (long) n * k / block)},
          "y");
    } else if (kind.startsWith("i8")) {
      String scale =
          kind.endsWith("one scale") ? graph.scalar("s", 0.01f) : graph.floats(scales(n), n);
      graph.node("MatMul", List.of(),
          new String[] {x,
              graph.node("DequantizeLinear", List.of(attribute("axis", 1)),
                  graph.constant(Graph.INT8, new byte[n * k], k, n), scale)},
          "y");
    } else if (kind.equals("bf16")) {
      String y = graph.node("MatMul", cast(graph, Graph.BFLOAT16, x),
          graph.halves(new short[n * k], Graph.BFLOAT16, k, n));
      end(graph, cast(graph, Graph.FLOAT, y));
    } else {
      int products = kind.equals("two") ? 2 : 1;
      float[] weights = new float[k * n / products];
      Arrays.fill(weights, kind.startsWith("narrow") ? 0.5f : 0.3f);
      String y = "";
      for (int i = 0; i < products; i++) {
        y = graph.node("MatMul", x, graph.floats(weights, k, n / products));
        if (products == 2) {
          graph.output("y" + i, Graph.FLOAT, rows, n / 2);
          graph.node("Neg", List.of(), new String[] {y}, "y" + i);
        }
      }
      String last = switch (kind) {
        case "norm after" -> graph.node("LayerNormalization", y, row(graph, n), row(graph, n));
        case "ReLU" -> graph.node("Relu", y);
        case "GELU" -> graph.node("Gelu", y);
        case "SiLU" -> graph.node("Mul", y, graph.node("Sigmoid", y));
        case "two" -> graph.node("Concat", List.of(attribute("axis", 1)), "y0", "y1");
        case "head", "narrow head" -> graph.node("ArgMax", List.of(attribute("axis", 1)), y);
        default -> y;
      };
      end(graph, last);
    }
    String lines = reported(graph);
    boolean left = lines.contains("left MatMul") && lines.contains("as fast or faster here");
    long claims =
        lines.lines().filter(line -> line.matches("claimed MatMul.* of \\d+ x .*")).count();
    assertEquals(left ? 0 : kind.equals("two") ? 2 : 1, claims, kind + " " + n + ": " + lines);
    return !left;
  }

  /** Without the option all, what ONNX Runtime computes as fast is its own. */
  @Test
  void productsThatDoNotPay() throws Exception {
    for (Map.Entry<String, int[]> one : least().entrySet()) {
      int[] least = one.getValue();
      boolean never = least[2] == NEVER;
      int all = never ? NEVER : Math.max(Math.max(least[0], least[1]), least[2]);
      boolean often = List.of("4 bits", "head").contains(one.getKey());
      for (int rows : often ? new int[] {3, 4, 63, 64, -1} : new int[] {3, 4, 64}) {
        int from = rows < 0 ? all : least[rows < 4 ? 0 : rows < 64 ? 1 : 2];
        String name = one.getKey() + ", " + rows + " rows, " + from;
        int step = one.getKey().equals("two") ? 2 : 1;
        assertFalse(from == NEVER && taken(one.getKey(), rows, 2048), name);
        boolean large = from > 4096 && one.getKey().equals("narrow head"); // 64 MiB
        if (from != NEVER && !large) {
          assertTrue(taken(one.getKey(), rows, from), name);
        }
        if (from > step) {
          assertFalse(taken(one.getKey(), rows, (large ? 4096 : from) - step), name);
        }
      }
    }
  }

  /** Half of the weights of a group decide. */
  @Test
  void groupsThatPayInPart() throws Exception {
    for (int width : new int[] {127, 128, 129}) {
      Graph graph = new Graph().input("x", Graph.FLOAT, 3, 1024);
      for (boolean pays : new boolean[] {true, false}) { // what bf16 holds, from 128 columns on
        int n = pays ? 128 : width;
        float[] weights = new float[1024 * n];
        Arrays.fill(weights, pays ? 0.5f : 0.3f);
        graph.output("y" + pays, Graph.FLOAT, 3, n);
        graph.node(
            "MatMul", List.of(), new String[] {"x", graph.floats(weights, 1024, n)}, "y" + pays);
      }
      assertEquals(width <= 128 ? 2 : 0, claims(reported(graph)), width + " columns beside 128");
    }
  }

  private String reported(Graph graph) throws Exception {
    Path report = Files.createTempFile(folder, "pay", ".txt");
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.setIntraOpNumThreads(1); // nothing runs
      ExeuntProvider.configure().report(report).add(options);
      ENVIRONMENT.createSession(graph.model(21), options).close();
    }
    return Files.readString(report);
  }
}
