// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.onnx;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * The few pieces of the protocol buffers wire format that an ONNX model needs. A message is kept
 * as a list of pieces, so nesting messages copies no weights.
 */
final class ProtoWriter {
  private static final int VARINT = 0;
  private static final int BYTES = 2;

  private final List<byte[]> pieces = new ArrayList<>();
  private long size;

  ProtoWriter integer(int field, long value) {
    return key(field, VARINT).varint(value);
  }

  ProtoWriter text(int field, String value) {
    return bytes(field, value.getBytes(StandardCharsets.UTF_8));
  }

  ProtoWriter bytes(int field, byte[] value) {
    return key(field, BYTES).varint(value.length).append(value);
  }

  ProtoWriter message(int field, ProtoWriter value) {
    key(field, BYTES).varint(value.size);
    pieces.addAll(value.pieces);
    size += value.size;
    return this;
  }

  byte[] toByteArray() {
    byte[] result = new byte[Math.toIntExact(size)];
    int at = 0;
    for (byte[] piece : pieces) {
      System.arraycopy(piece, 0, result, at, piece.length);
      at += piece.length;
    }
    return result;
  }

  private ProtoWriter key(int field, int wireType) {
    return varint((long) field << 3 | wireType);
  }

  private ProtoWriter varint(long value) {
    byte[] buffer = new byte[10];
    int length = 0;
    long rest = value;
    while ((rest & ~0x7fL) != 0) {
      buffer[length++] = (byte) (rest & 0x7f | 0x80);
      rest >>>= 7;
    }
    buffer[length++] = (byte) rest;
    return append(Arrays.copyOf(buffer, length));
  }

  private ProtoWriter append(byte[] piece) {
    pieces.add(piece);
    size += piece.length;
    return this;
  }
}
