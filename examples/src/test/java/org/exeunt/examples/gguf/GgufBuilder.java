// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.gguf;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** Writes GGUF files byte by byte, well-formed or not. */
final class GgufBuilder {
  private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();

  /** Starts a version 3 file. */
  static GgufBuilder start(long tensors, long metadata) {
    return new GgufBuilder().raw("GGUF").int32(3).int64(tensors).int64(metadata);
  }

  GgufBuilder raw(String text) {
    bytes.writeBytes(text.getBytes(StandardCharsets.UTF_8));
    return this;
  }

  GgufBuilder raw(byte... values) {
    bytes.writeBytes(values);
    return this;
  }

  GgufBuilder int32(int value) {
    return raw(little(4).putInt(value).array());
  }

  GgufBuilder int64(long value) {
    return raw(little(8).putLong(value).array());
  }

  GgufBuilder string(String text) {
    return int64(text.getBytes(StandardCharsets.UTF_8).length).raw(text);
  }

  GgufBuilder tensor(String name, int type, long offset, long... dimensions) {
    string(name).int32(dimensions.length);
    for (long dimension : dimensions) {
      int64(dimension);
    }
    return int32(type).int64(offset);
  }

  GgufBuilder pad(int alignment) {
    while (bytes.size() % alignment != 0) {
      bytes.write(0);
    }
    return this;
  }

  byte[] toBytes() {
    return bytes.toByteArray();
  }

  Path write(Path file) throws IOException {
    return Files.write(file, toBytes());
  }

  static ByteBuffer little(int size) {
    return ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
  }
}
