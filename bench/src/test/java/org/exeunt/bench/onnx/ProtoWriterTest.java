// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.onnx;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Arrays;
import java.util.HexFormat;
import org.junit.jupiter.api.Test;

/** Bytes worked out by hand from the description of the wire format. */
class ProtoWriterTest {
  private static void assertBytes(String expected, ProtoWriter writer) {
    assertEquals(expected, HexFormat.of().formatHex(writer.toByteArray()));
  }

  @Test
  void varintsTakeSevenBitsPerByteLowestFirst() {
    assertBytes("0800", new ProtoWriter().integer(1, 0));
    assertBytes("087f", new ProtoWriter().integer(1, 127));
    assertBytes("088001", new ProtoWriter().integer(1, 128));
    assertBytes("089601", new ProtoWriter().integer(1, 150));
  }

  @Test
  void negativeIntegersTakeTenBytes() {
    assertBytes("08ffffffffffffffffff01", new ProtoWriter().integer(1, -1));
  }

  @Test
  void fieldNumbersAboveFifteenTakeTwoBytes() {
    assertBytes("a00101", new ProtoWriter().integer(20, 1));
  }

  @Test
  void textAndBytesCarryTheirLength() {
    assertBytes("120774657374696e67", new ProtoWriter().text(2, "testing"));
    assertBytes("4a020102", new ProtoWriter().bytes(9, new byte[] {1, 2}));
  }

  @Test
  void messagesNestWithTheLengthOfTheirContent() {
    ProtoWriter inner = new ProtoWriter().integer(1, 150);
    assertBytes("1a03089601", new ProtoWriter().message(3, inner));
    ProtoWriter outer = new ProtoWriter().message(3, inner).integer(4, 1);
    assertBytes("0a071a030896012001", new ProtoWriter().message(1, outer));
  }

  @Test
  void longPayloadsGetLongLengths() {
    byte[] encoded = new ProtoWriter().bytes(1, new byte[300]).toByteArray();
    assertEquals(303, encoded.length);
    assertEquals("0aac02", HexFormat.of().formatHex(Arrays.copyOf(encoded, 3)));
  }
}
