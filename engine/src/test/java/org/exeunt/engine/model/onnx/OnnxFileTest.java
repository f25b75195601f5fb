// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.exeunt.engine.model.io.ModelFormatException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class OnnxFileTest {
  @TempDir Path folder;

  private OnnxFile open(byte[] bytes) throws IOException {
    return OnnxFile.open(Files.write(folder.resolve("test.onnx"), bytes));
  }

  private String refused(byte[] bytes) {
    String message =
        assertThrows(ModelFormatException.class, () -> open(bytes).close()).getMessage();
    assertTrue(message.endsWith("."), message);
    return message;
  }

  private static byte[] graph(byte[]... fields) {
    return OnnxBuilder.bytes(7, OnnxBuilder.join(fields));
  }

  @Test
  void readsWeightsAndWhoMakesWhat() throws IOException {
    OnnxBuilder builder =
        new OnnxBuilder()
            .floats("w", new float[] {1, -2, 3, 4, 5, 6}, 2, 3)
            .node("MatMul", "y", "x", "w");
    try (OnnxFile file = open(builder.toBytes())) {
      assertEquals(new OnnxFile.Node("MatMul", List.of("x", "w")), file.producer("y"));
      OnnxFile.Tensor w = file.require("w", OnnxFile.Type.F32, 2, -1);
      float[] part = new float[3];
      file.read(w, 2, part);
      assertArrayEquals(new float[] {3, 4, 5}, part);
      assertThrows(ModelFormatException.class, () -> file.producer("x"));
      for (long[] shape : new long[][] {{3, 2}, {6}, {2, 3, 1}, {}}) {
        assertThrows(ModelFormatException.class, () -> file.require("w", OnnxFile.Type.F32, shape));
      }
      assertThrows(ModelFormatException.class, () -> file.require("w", OnnxFile.Type.I64, 2, 3));
      assertThrows(ModelFormatException.class, () -> file.require("v", OnnxFile.Type.F32, 2, 3));
    }
  }

  /** A message that ends early has lost a field, or ends within one. */
  @Test
  void everyTruncationIsReported() {
    byte[] whole = new OnnxBuilder().floats("w", new float[] {1, 2}, 2).toBytes();
    for (int length = 0; length < whole.length; length++) {
      refused(Arrays.copyOf(whole, length));
    }
  }

  @Test
  void namesWhatDoesNotFit() throws IOException {
    assertTrue(refused(new byte[0]).contains("no graph"));
    assertTrue(refused(OnnxBuilder.join(graph(), graph())).contains("two graphs"));
    assertTrue(refused(new byte[] {0x3b}).contains("type 3"));
    assertTrue(refused(new byte[] {0x02, 0}).contains("number 0"));
    byte[] endless = new byte[12];
    Arrays.fill(endless, (byte) 0xff);
    assertTrue(refused(endless).contains("ten bytes"));
    assertTrue(
        refused(new byte[] {0x3a, (byte) 0xff, (byte) 0xff, 0x7f}).contains("needs 2097151 bytes"));
    byte[] tensor = OnnxBuilder.bytes(5, OnnxBuilder.text(8, "w"));
    assertTrue(refused(graph(tensor, tensor)).contains("two tensors 'w'"));
    byte[] node = OnnxBuilder.bytes(1, OnnxBuilder.text(2, "y"));
    assertTrue(refused(graph(node, node)).contains("makes 'y' twice"));
    assertTrue(refused(graph(OnnxBuilder.bytes(5, OnnxBuilder.number(1, -1)))).contains("extent"));
    assertTrue(refused(graph(OnnxBuilder.bytes(5, OnnxBuilder.text(8, "n".repeat(2000)))))
            .contains("a name of 2000 bytes"));
    byte[] huge = OnnxBuilder.bytes(5,
        OnnxBuilder.join(OnnxBuilder.number(1, Long.MAX_VALUE), OnnxBuilder.number(1, 8),
            OnnxBuilder.number(2, 1), OnnxBuilder.text(8, "w")));
    try (OnnxFile file = open(graph(huge))) {
      assertThrows(ModelFormatException.class, () -> file.require("w", OnnxFile.Type.F32, -1, -1));
    }
  }
}
