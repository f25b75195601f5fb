// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.exeunt.onnxruntime.Graph.attribute;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtSession.SessionOptions.OptLevel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Nodes of bf16 that ONNX Runtime has for f32 alone. */
class Bf16NodesTest extends GraphTestBase {
  Bf16NodesTest() {
    spread = 0.25f;
  }

  private static final int STRING = 8;

  private interface Bf16 {
    void of(Graph graph, int type, String x);
  }

  /** Nodes of bf16, for which ONNX Runtime alone has f32 only. */
  private String bf16(String name, int opset, Bf16 nodes, long... shape) throws Exception {
    String all = "";
    byte[][] models = new byte[2][];
    for (int i = 0; i < 2; i++) {
      long[] open = new long[shape.length];
      java.util.Arrays.fill(open, -1);
      Graph graph = new Graph().input("x", Graph.FLOAT, open);
      int type = i == 0 ? Graph.FLOAT : Graph.BFLOAT16;
      random.setSeed(5);
      nodes.of(graph, type, cast(graph, type, "x"));
      models[i] = graph.model(opset);
    }
    long[] none = shape.clone();
    none[0] = 0;
    for (long[] extents : new long[][] {shape, none}) {
      try (OnnxTensor x = tensor(extents)) {
        List<float[]> expected = run(models[0], null, Map.of("x", x));
        List<String> report = report(models[1], Map.of("x", x), expected, 4e-2f, OptLevel.ALL_OPT);
        assertTrue(report.stream().anyMatch(line -> line.contains("nodes of bf16, to be computed")),
            name + ": " + report);
        all += report;
      }
    }
    return all;
  }

  private static void end(Graph graph, String value, String name, long... shape) {
    graph.output(name, Graph.FLOAT, shape);
    graph.node("Cast", List.of(attribute("to", Graph.FLOAT)), new String[] {value}, name);
  }

  private static String row(Graph graph, int type, float... values) {
    short[] bits = new short[values.length];
    for (int i = 0; i < bits.length; i++) {
      bits[i] = (short) (Float.floatToRawIntBits(values[i]) >>> 16);
    }
    return type == Graph.FLOAT
        ? graph.floats(values, values.length)
        : graph.halves(bits, type, values.length);
  }

  @Test
  void nodesOfBf16() throws Exception {
    bf16("ints", 17,
        (graph, type, x)
            -> end(graph,
                graph.node("Tanh",
                    graph.node("Transpose", List.of(attribute("perm", new long[] {1, 0, 2})), x)),
                "y", -1, -1, -1),
        2, 3, 7);
    bf16("a float", 17,
        (graph, type, x)
            -> end(
                graph, graph.node("LeakyRelu", List.of(attribute("alpha", 0.5f)), x), "y", -1, -1),
        3, 7);
    bf16("a string", 18,
        (graph, type, x)
            -> end(graph,
                graph.node("Tanh",
                    graph.node(
                        "Pad", List.of(attribute("mode", "edge")), x, graph.longs(0, 2, 0, 2))),
                "y", -1, -1),
        3, 7);
    bf16("truths", 17,
        (graph, type, x)
            -> end(graph,
                graph.node("Where", graph.node("Less", x, row(graph, type, 0)),
                    graph.node("Tanh", x), graph.node("Neg", x)),
                "y", -1, -1),
        3, 7);
    bf16("an input that is left out", 17,
        (graph, type, x)
            -> end(graph,
                graph.node("Clip", x, "",
                    graph.constant(type,
                        type == Graph.FLOAT ? new byte[] {0, 0, (byte) 0x80, 0x3e}
                                            : new byte[] {(byte) 0x80, 0x3e})),
                "y", -1, -1),
        3, 7);
    // ONNX Runtime's own dies of a bias that is named so.
    bf16("the last input that is left out", 17, (graph, type, x) -> {
      String w = graph.node("Reshape", row(graph, type, 1, 2, 3, 4, 5, 6), graph.longs(2, 3));
      String[] inputs = type == Graph.FLOAT ? new String[] {x, w} : new String[] {x, w, ""};
      end(graph, graph.node("LayerNormalization", List.of(attribute("axis", 1)), inputs), "y", -1,
          -1, -1);
    }, 4, 2, 3);
    bf16("whole numbers", 17, (graph, type, x) -> {
      graph.output("y", Graph.INT64, -1, 1);
      graph.node(
          "ArgMax", List.of(attribute("axis", 1)), new String[] {graph.node("Tanh", x)}, "y");
    }, 3, 7);
    bf16("two constants", 17,
        (graph, type, x)
            -> end(graph,
                graph.node("Mul", graph.node("Sub", x, row(graph, type, 1, 2, 3, 4, 5)),
                    row(graph, type, 0.5f, -1, 2, 0, 1)),
                "y", -1, -1),
        3, 5);
    bf16("another domain", 17,
        (graph, type, x)
            -> end(graph, graph.node("com.microsoft:QuickGelu", List.of(attribute("alpha", 1f)), x),
                "y", -1, -1),
        3, 7);
    String report = bf16("a tensor", 21, (graph, type, x) -> {
      Message value =
          new Message()
              .with(1, 1L)
              .with(2, (long) type)
              .with(9, type == Graph.FLOAT ? new byte[] {0, 0, 0, 0x3f} : new byte[] {0, 0x3f});
      String all = graph.node("ConstantOfShape",
          List.of(new Message().with(1, "value").with(5, value).with(20, 4L)),
          graph.node("Shape", x));
      end(graph, graph.node("Add", graph.node("Tanh", x), all), "y", -1, -1);
    }, 3, 7);
    assertTrue(report.contains("f32: ConstantOfShape Add Cast"), report);
    bf16("a type that is named", 22,
        (graph, type, x)
            -> end(graph,
                graph.node("Add", graph.node("Tanh", x),
                    graph.node("EyeLike", List.of(attribute("dtype", type)), "x")),
                "y", -1, -1),
        3, 7);
    bf16("words", 17, (graph, type, x) -> {
      String word = graph.node("Cast", List.of(attribute("to", STRING)), graph.node("Neg", x));
      String number = graph.node("Cast", List.of(attribute("to", Graph.FLOAT)), word);
      graph.node("Tanh", List.of(), new String[] {number}, "y");
      graph.output("y", Graph.FLOAT, -1, -1);
    }, 3, 7);
    bf16("a result that others read outside as well", 17, (graph, type, x) -> {
      end(graph, graph.node("Tanh", x), "y", -1, -1);
      end(graph, graph.node("Neg", graph.node("Cast", List.of(attribute("to", type)), "y")), "z",
          -1, -1);
    }, 3, 7);
    bf16("a result that is not read", 17, (graph, type, x) -> {
      graph.node("Neg", List.of(), new String[] {x}, "dead");
      end(graph, graph.node("Tanh", x), "y", -1, -1);
    }, 3, 7);
    // What lies between two nodes of bf16 is f32 and no part of them; others read what is within.
    bf16("between", 17, (graph, type, x) -> {
      String a = graph.node("Tanh", x);
      String b = graph.node("Softsign", cast(graph, Graph.FLOAT, a));
      String c = graph.node("Cast", List.of(attribute("to", type)), graph.node("Softplus", b));
      end(graph, graph.node("Add", a, graph.node("Neg", c)), "y", -1, -1);
      end(graph, graph.node("Neg", a), "z", -1, -1);
    }, 3, 7);
    bf16("several inputs", 17, (graph, type, x) -> {
      graph.input("unread", Graph.FLOAT);
      String to = graph.node("Cast", List.of(attribute("to", type)),
          graph.node("Softplus", cast(graph, Graph.FLOAT, x)));
      end(graph, graph.node("Mul", graph.node("Tanh", x), graph.node("Neg", to)), "y", -1, -1);
    }, 3, 5);
  }

  /** A table stays as it is, and what only moves elements about is ONNX Runtime's. */
  @Test
  void nodesOfBf16ThatStay() throws Exception {
    Graph graph = new Graph().input("i", Graph.INT64, -1).output("y", Graph.FLOAT, -1, 3);
    String rows = graph.node("Gather", graph.halves(new short[12], Graph.BFLOAT16, 4, 3), "i");
    String more = graph.node("Gather", graph.halves(new short[12], Graph.BFLOAT16, 4, 3), "i");
    end(graph, graph.node("Add", graph.node("Tanh", rows), more), "z", -1, 3);
    graph.node("Neg", List.of(), new String[] {rows}, "dead");
    String turned = graph.node("Transpose", graph.node("Transpose", rows));
    graph.node("Shape", List.of(), new String[] {rows}, "shape");
    graph.output("shape", Graph.INT64, -1);
    graph.node("Cast", List.of(attribute("to", Graph.FLOAT)), new String[] {turned}, "y");
    graph.node("org.exeunt:RowStats", List.of(), new String[] {rows}, "best");
    graph.output("best", Graph.INT64, -1);
    for (long[] which : new long[][] {{2, 0}, {}}) {
      Path file = Files.createTempFile(folder, "stays", ".txt");
      try (OnnxTensor i = OnnxTensor.createTensor(
               ENVIRONMENT, java.nio.LongBuffer.wrap(which), new long[] {which.length})) {
        run(graph.model(17), everything().report(file), Map.of("i", i), OptLevel.NO_OPT);
      }
      String report = Files.readString(file);
      assertTrue(report.contains("to be computed in f32: Tanh Add Cast\n"), report);
      assertEquals(2, claims(report), report); // and what is not read
      assertTrue(!report.contains("could not be compiled"), report);
    }
  }

  /** Bf16 that ONNX Runtime refuses when it knows all shapes, which in bodies it does late. */
  @Test
  void nodesOfBf16ThatCannotRun() throws Exception {
    for (long axis : new long[] {Long.MIN_VALUE, Long.MIN_VALUE + 1, 1L << 40}) {
      Graph graph = new Graph().input("x", Graph.FLOAT, -1, 8).output("y", Graph.FLOAT, -1, 8);
      String x = cast(graph, Graph.BFLOAT16, "x");
      String y = graph.node("Softmax", List.of(attribute("axis", axis)), x);
      graph.node("Cast", List.of(attribute("to", Graph.FLOAT)), new String[] {y}, "y");
      try (OnnxTensor in = tensor(3, 8)) {
        String report = beside(graph.model(17), Map.of("x", in), 0);
        assertTrue(!report.contains("Softmax Cast") && !report.contains("f32: Softmax"), report);
      }
    }
    Graph graph =
        new Graph()
            .input("x", Graph.FLOAT, -1, 8)
            .input("a", Graph.BOOL)
            .input("b", Graph.BOOL)
            .output("y", Graph.FLOAT, -1, -1);
    String x = cast(graph, Graph.BFLOAT16, "x");
    String[] conditions = {"a", "b"};
    for (int i = 0; i < 2; i++) {
      Graph[] branches = new Graph[2];
      for (int j = 0; j < 2; j++) {
        String of = x;
        branches[j] = new Graph().output("y" + i + j, Graph.BFLOAT16, -1, -1);
        if (i == 1 && j == 0) {
          String none = branches[j].node(
              "MatMul", of, branches[j].halves(new short[0], Graph.BFLOAT16, 8, 0));
          branches[j].node("Add", List.of(),
              new String[] {none, branches[j].halves(new short[5], Graph.BFLOAT16, 5)}, "y10");
        } else {
          branches[j].node("Neg", List.of(), new String[] {of}, "y" + i + j);
        }
      }
      x = graph.node("If",
          List.of(attribute("then_branch", branches[0]), attribute("else_branch", branches[1])),
          conditions[i]);
    }
    graph.node("Cast", List.of(attribute("to", Graph.FLOAT)), new String[] {x}, "y");
    try (OnnxTensor in = tensor(3, 8);
        OnnxTensor no = OnnxTensor.createTensor(ENVIRONMENT, false)) {
      String report = beside(graph.model(17), Map.of("x", in, "a", no, "b", no), 0);
      assertTrue(!report.contains("f32: MatMul"), report);
    }
  }

  /** What cannot be computed in f32 either ends as it does without the provider. */
  @Test
  void nodesOfBf16ForWhichThereIsNoF32() throws Exception {
    Graph graph =
        new Graph().input("x", Graph.FLOAT, 2, 4, 3, 3).output("y", Graph.FLOAT, -1, -1, -1, -1);
    String x = graph.node("Tanh", cast(graph, Graph.BFLOAT16, "x"));
    String y = graph.node(
        "DepthToSpace", List.of(attribute("blocksize", 2), attribute("mode", "none such")), x);
    graph.node("Cast", List.of(attribute("to", Graph.FLOAT)), new String[] {y}, "y");
    try (OnnxTensor in = tensor(2, 4, 3, 3)) {
      String report = beside(graph.model(17), Map.of("x", in), 0);
      assertTrue(report.contains(": could not be compiled: "), report);
      assertTrue(report.contains(": is in a cluster with one that was"), report);
    }
  }
}
