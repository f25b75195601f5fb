// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.exeunt.onnxruntime.Graph.attribute;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.nio.FloatBuffer;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Input that makes no sense ends in one sentence that names it. */
class RefusalTest {
  private static final OrtEnvironment ENVIRONMENT = MiniLm.environment();

  private static byte[] product() {
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, -1).output("y", Graph.FLOAT, -1, 2);
    graph.node("MatMul", List.of(), new String[] {"x", graph.floats(new float[8], 4, 2)}, "y");
    return graph.model(17);
  }

  private static void refused(ExeuntProvider provider, byte[] model, String sentence)
      throws OrtException {
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      provider.add(options);
      OrtException e =
          assertThrows(OrtException.class, () -> ENVIRONMENT.createSession(model, options));
      assertTrue(e.getMessage().contains(sentence), e.getMessage());
    }
  }

  @Test
  void options() throws OrtException {
    refused(ExeuntProvider.configure().option("treads", "2"), product(),
        "exeunt: there is no option 'treads'; the options are ");
    refused(ExeuntProvider.configure().threads(257), product(),
        "exeunt: option threads is '257', expected a whole number from 0 to 256");
    for (String number : List.of("two", "", "-1", "2 ", "1e1", "99999999999999999999")) {
      refused(ExeuntProvider.configure().option("threads", number), product(),
          "exeunt: option threads is '" + number + "', expected a whole number from 0 to 256");
    }
    for (int threads : new int[] {0, 256}) {
      try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
        GraphTestBase.everything().threads(threads).add(options);
        try (OrtSession session = ENVIRONMENT.createSession(product(), options);
            OnnxTensor x = OnnxTensor.createTensor(ENVIRONMENT, new float[3][4])) {
          session.run(Map.of("x", x)).close();
        }
      }
    }
    refused(ExeuntProvider.configure().report(java.nio.file.Path.of("/nowhere/at/all")), product(),
        "exeunt: option report is '/nowhere/at/all', which cannot be written: ");
  }

  @Test
  void attributes() throws OrtException {
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, 4).output("y", Graph.FLOAT, -1, 4);
    graph.node("org.exeunt:StableMax", List.of(attribute("log", 2)), new String[] {"x"}, "y");
    refused(
        ExeuntProvider.configure(), graph.model(17), "exeunt: attribute log is 2, expected 0 or 1");
    Graph few = new Graph().input("x", Graph.FLOAT, -1, 4).output("y", Graph.INT64, -1, -1);
    few.node("org.exeunt:Select", List.of(attribute("k", -1)), new String[] {"x"}, "y");
    refused(
        ExeuntProvider.configure(), few.model(17), "exeunt: attribute k is -1, expected 0 or more");
    Graph head = new Graph().input("x", Graph.FLOAT, -1, 4).output("y", Graph.INT64, -1);
    head.node("org.exeunt:ExitHead", List.of(attribute("norm", "batch")),
        new String[] {"x", head.floats(new float[8], 2, 4)}, "y");
    refused(ExeuntProvider.configure(), head.model(17),
        "exeunt: attribute norm is 'batch', expected one of: none, rms, layer");
  }

  private static void fails(byte[] model, long[] shape, String sentence) throws OrtException {
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      GraphTestBase.everything().add(options);
      int count = 1;
      for (long extent : shape) {
        count *= (int) extent;
      }
      try (OrtSession session = ENVIRONMENT.createSession(model, options);
          OnnxTensor x = OnnxTensor.createTensor(ENVIRONMENT, FloatBuffer.allocate(count), shape)) {
        OrtException e = assertThrows(OrtException.class, () -> session.run(Map.of("x", x)));
        assertTrue(e.getMessage().contains(sentence), e.getMessage());
      }
    }
  }

  @Test
  void shapesOfARun() throws OrtException {
    fails(product(), new long[] {3, 5},
        "exeunt: the rows of a product's input have 5 elements, expected 4");
    Graph head = new Graph().input("x", Graph.FLOAT, -1, -1).output("y", Graph.INT64, -1);
    head.node(
        "org.exeunt:ExitHead", List.of(), new String[] {"x", head.floats(new float[8], 2, 4)}, "y");
    fails(head.model(17), new long[] {3, 5},
        "exeunt: the rows of hidden have 5 elements, expected 4, as weight has");
    fails(head.model(17), new long[] {3, 0}, "exeunt: hidden has no last axis with an element");
    for (String op : List.of("StableMax", "RowStats", "Select")) {
      int type = op.equals("StableMax") ? Graph.FLOAT : Graph.INT64;
      Graph scalar = new Graph().input("x", Graph.FLOAT).output("y", type);
      scalar.node("org.exeunt:" + op, op.equals("Select") ? List.of(attribute("k", 1)) : List.of(),
          new String[] {"x"}, "y");
      fails(scalar.model(17), new long[0], " has no last axis with an element");
    }
    for (String change : List.of("bias", "norm_weight", "norm_bias", "axes", "type")) {
      Graph graph = new Graph().input("x", Graph.FLOAT, -1, 4).output("y", Graph.INT64, -1);
      String weight = change.equals("axes") ? graph.floats(new float[8], 2, 2, 2)
          : change.equals("type")
          ? graph.constant(Graph.INT64, new byte[64], 2, 4)
          : graph.floats(new float[8], 2, 4);
      String row = graph.floats(new float[3], 3);
      graph.node("org.exeunt:ExitHead", List.of(),
          new String[] {"x", weight, change.equals("bias") ? row : "",
              change.equals("norm_weight") ? row : "", change.equals("norm_bias") ? row : ""},
          "y");
      fails(graph.model(17), new long[] {3, 4}, "exeunt: " + switch (change) {
        case "axes" -> "weight has 3 axes, expected 2";
        case "type" -> "weight has the ONNX element type 7, expected f32, f16 or bf16";
        default -> change + " has 3 elements of the ONNX element type 1, expected ";
      });
    }
  }

  /** The build runs tests on the oldest and on the newest: this is the one that it meant. */
  @Test
  void theVersionIsTheOneToTest() {
    String meant = System.getProperty("exeunt.onnxruntime.version");
    assertTrue(meant == null || meant.equals(ENVIRONMENT.getVersion()),
        ENVIRONMENT.getVersion() + " runs, " + meant + " was meant");
  }

  @Test
  void whereItCanBeAddedItIs() throws OrtException {
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      assertEquals("", ExeuntProvider.addIfPossible(options));
    }
  }
}
