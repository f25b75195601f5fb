// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import org.exeunt.examples.TestData;
import org.exeunt.examples.gguf.GgufFile;
import org.exeunt.examples.io.SafetensorsFile;
import org.exeunt.examples.linalg.Matrix;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

class LlamaModelTest {
  private static LlamaModel model;

  @BeforeAll
  static void load() throws IOException {
    try (GgufFile file = GgufFile.open(TestData.model())) {
      model = new LlamaModel(file);
    }
  }

  /** The recorded tensors come from a forward pass in double precision. */
  @Test
  void everyLayerIsAsRecorded() throws IOException {
    try (SafetensorsFile golden =
        SafetensorsFile.open(TestData.golden("model/layers.safetensors"))) {
      LlamaModel.Trace trace = model.forward(golden.ints("ids"));
      float[] hidden = golden.floats("hidden");
      float[] keys = golden.floats("k");
      float[] values = golden.floats("v");
      assertEquals(31, trace.hidden().size());
      for (int layer = 0; layer <= 30; layer++) {
        assertClose("hidden state entering layer " + layer, hidden, layer,
            trace.hidden().get(layer));
      }
      for (int layer = 0; layer < 30; layer++) {
        assertClose("keys of layer " + layer, keys, layer, trace.keys().get(layer));
        assertClose("values of layer " + layer, values, layer, trace.values().get(layer));
      }
    }
  }

  /** Each row's error against its own norm; the residual stream has a few very large elements. */
  private static void assertClose(String what, float[] all, int layer, Matrix actual) {
    int rows = actual.rows();
    int columns = actual.columns();
    float[] values = actual.toArray();
    for (int row = 0; row < rows; row++) {
      double norm = 0;
      double error = 0;
      for (int i = 0; i < columns; i++) {
        double expected = all[(layer * rows + row) * columns + i];
        norm += expected * expected;
        error += Math.pow(values[row * columns + i] - expected, 2);
      }
      double relative = Math.sqrt(error / norm);
      assertTrue(relative < 1e-4, what + ", token " + row + ": relative error " + relative);
    }
  }

  @Test
  void aPrefixDoesNotSeeWhatFollows() {
    int[] ids = {504, 3575, 282, 4649, 314};
    Matrix whole = model.forward(ids).hidden().get(30);
    Matrix prefix = model.forward(new int[] {504, 3575, 282}).hidden().get(30);
    float scale = 0;
    for (int i = 0; i < 576; i++) {
      scale = Math.max(scale, Math.abs(prefix.get(2, i)));
    }
    for (int i = 0; i < 576; i++) {
      assertEquals(prefix.get(2, i), whole.get(2, i), 1e-4f * scale);
    }
  }

  @Test
  void nothingIsAnOrdinaryInput() {
    assertEquals(0, model.forward(new int[0]).hidden().get(30).rows());
  }

  @Test
  void moreThanTheContextIsRefused() {
    assertThrows(IllegalArgumentException.class, () -> model.forward(new int[8193]));
  }
}
