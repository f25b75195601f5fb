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
    refused(ExeuntProvider.configure().option("threads", "two"), product(),
        "exeunt: option threads is 'two', expected a whole number from 0 to 256");
    refused(ExeuntProvider.configure().report(java.nio.file.Path.of("/nowhere/at/all")), product(),
        "exeunt: option report is '/nowhere/at/all', which cannot be written: ");
  }

  @Test
  void attributes() throws OrtException {
    Graph graph = new Graph().input("x", Graph.FLOAT, -1, 4).output("y", Graph.FLOAT, -1, 4);
    graph.node("org.exeunt:StableMax", List.of(attribute("log", 2)), new String[] {"x"}, "y");
    refused(
        ExeuntProvider.configure(), graph.model(17), "exeunt: attribute log is 2, expected 0 or 1");
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
