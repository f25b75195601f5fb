// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.TensorInfo;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** ONNX Runtime, which parses every field, reads what the encoder writes. */
class OnnxGraphTest {
  private final OrtEnvironment environment = OrtEnvironment.getEnvironment();

  @Test
  void declaredNamesTypesAndShapesArrive() throws OrtException {
    OnnxGraph graph = new OnnxGraph().input("half", OnnxGraph.BFLOAT16, 3, 200);
    graph.node("Cast", new Attributes().with("to", OnnxGraph.FLOAT), new String[] {"half"}, "y");
    graph.output("y", OnnxGraph.FLOAT, 3, 200);
    try (OrtSession session = environment.createSession(graph.toModel())) {
      TensorInfo in = (TensorInfo) session.getInputInfo().get("half").getInfo();
      assertEquals(OnnxJavaType.BFLOAT16, in.type);
      assertArrayEquals(new long[] {3, 200}, in.getShape());
      TensorInfo out = (TensorInfo) session.getOutputInfo().get("y").getInfo();
      assertEquals(OnnxJavaType.FLOAT, out.type);
    }
  }

  @Test
  void constantsKeepTheirValuesAndShape() throws OrtException {
    OnnxGraph graph = new OnnxGraph().input("x", OnnxGraph.FLOAT, 1, 2);
    String w = graph.constant(new float[] {1, 2, 3, 4, 5, 6}, 2, 3);
    graph.node("MatMul", new Attributes(), new String[] {"x", w}, "y");
    graph.output("y", OnnxGraph.FLOAT, 1, 3);
    assertArrayEquals(new float[] {21, 27, 33}, run(graph, new float[][] {{1, 5}})[0]);
  }

  @Test
  void attributesOfEachTypeArrive() throws OrtException {
    OnnxGraph graph = new OnnxGraph().input("x", OnnxGraph.FLOAT, 2, 2);
    // Reducing the first axis and keeping it: both attributes must have been read.
    graph.node("ReduceSumSquare", new Attributes().with("axes", new long[] {0}).with("keepdims", 1),
        new String[] {"x"}, "y");
    graph.output("y", OnnxGraph.FLOAT, 1, 2);
    assertArrayEquals(new float[] {10, 20}, run(graph, new float[][] {{1, 2}, {3, 4}})[0]);
  }

  @Test
  void damagedModelIsRejected() {
    byte[] model = "no model at all".getBytes(StandardCharsets.US_ASCII);
    assertThrows(IllegalStateException.class, () -> new OnnxSession(model, 1));
  }

  private float[][] run(OnnxGraph graph, float[][] x) throws OrtException {
    try (OrtSession session = environment.createSession(graph.toModel());
        OnnxTensor input = OnnxTensor.createTensor(environment, x);
        OrtSession.Result result = session.run(Map.of("x", input))) {
      return (float[][]) result.get(0).getValue();
    }
  }
}
