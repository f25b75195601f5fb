// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.exeunt.onnxruntime.Graph.attribute;

import ai.onnxruntime.OnnxTensor;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Norms and softmax that differ in one thing from what the provider takes, as NearMissTest. */
class NearNormTest extends GraphTestBase {
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
    for (float epsilon : new float[] {-1e-3f, Float.POSITIVE_INFINITY}) {
      norm("", 17,
          (graph, x)
              -> graph.node(
                  "LayerNormalization", List.of(attribute("epsilon", epsilon)), x, row(graph, N)));
    }
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

  /** An axis that there is none of ends as it does without the provider. */
  @Test
  void normsOverNoAxis() throws Exception {
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, 4, N).output("y", Graph.FLOAT, -1, 4, N);
    end(graph, graph.node("LayerNormalization", List.of(attribute("axis", 3)), "x", row(graph, N)));
    try (OnnxTensor x = tensor(2, 4, N)) {
      beside(graph.model(17), Map.of("x", x), 1e-4f);
    }
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
            wide.node("LayerNormalization", cast(wide, Graph.DOUBLE, "x"),
                wide.constant(Graph.DOUBLE, bytes(ones), K))));
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
      case "axes turned" -> List.of(attribute("axes", new long[] {1, 0}));
      case "all axes" -> List.of();
      case "axis lost" -> List.of(attribute("axes", new long[] {-1}), attribute("keepdims", 0));
      default -> last;
    };
    String mean = graph.node("ReduceMean", first, x);
    String d = change.equals("negated") ? graph.node("Sub", mean, x) : graph.node("Sub", x, mean);
    String power = graph.node("Pow", d, graph.scalar(change.equals("fourth power") ? 4 : 2));
    String variance =
        graph.node("ReduceMean", change.equals("variance of all") ? List.of() : last, power);
    String eps = change.equals("eps of more axes")
        ? graph.floats(new float[] {1e-3f}, 1, 1, 1)
        : graph.scalar(change.equals("eps below") ? -1e-3f : 1e-3f);
    String plus = graph.node(change.equals("less") ? "Sub" : "Add", variance, eps);
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
               "difference seen", "eps below", "eps of more axes", "axes turned", "power seen",
               "variance seen", "root seen", "quotient seen", "scaled seen", "input seen",
               "mean leaves", "difference leaves", "input leaves")) {
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
}
