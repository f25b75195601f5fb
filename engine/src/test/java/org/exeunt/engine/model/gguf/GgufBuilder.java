// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.gguf;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** Writes GGUF files byte by byte, well-formed or not. */
public final class GgufBuilder {
  private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();

  /** Starts a version 3 file. */
  public static GgufBuilder start(long tensors, long metadata) {
    return new GgufBuilder().raw("GGUF").int32(3).int64(tensors).int64(metadata);
  }

  public GgufBuilder raw(String text) {
    bytes.writeBytes(text.getBytes(StandardCharsets.UTF_8));
    return this;
  }

  public GgufBuilder raw(byte... values) {
    bytes.writeBytes(values);
    return this;
  }

  public GgufBuilder int32(int value) {
    return raw(little(4).putInt(value).array());
  }

  public GgufBuilder int64(long value) {
    return raw(little(8).putLong(value).array());
  }

  public GgufBuilder string(String text) {
    return int64(text.getBytes(StandardCharsets.UTF_8).length).raw(text);
  }

  /** A metadata entry of type uint32. */
  public GgufBuilder entry(String key, int value) {
    return string(key).int32(4).int32(value);
  }

  /** A metadata entry of type string. */
  public GgufBuilder entry(String key, String value) {
    return string(key).int32(8).string(value);
  }

  /** A metadata entry of type float32. */
  public GgufBuilder entry(String key, float value) {
    return string(key).int32(6).int32(Float.floatToIntBits(value));
  }

  /** A metadata entry of type bool. */
  public GgufBuilder entry(String key, boolean value) {
    return string(key).int32(7).raw((byte) (value ? 1 : 0));
  }

  /** A metadata entry: an array of float32. */
  public GgufBuilder entry(String key, float[] values) {
    string(key).int32(9).int32(6).int64(values.length);
    for (float value : values) {
      int32(Float.floatToIntBits(value));
    }
    return this;
  }

  /** A metadata entry of the type that fits: a number, a string, a boolean or an array. */
  public GgufBuilder entry(String key, Object value) {
    if (value instanceof Integer number) {
      return entry(key, number.intValue());
    } else if (value instanceof Float number) {
      return entry(key, number.floatValue());
    } else if (value instanceof Boolean flag) {
      return entry(key, flag.booleanValue());
    } else if (value instanceof String text) {
      return entry(key, text);
    } else if (value instanceof String[] texts) {
      return entry(key, texts);
    } else if (value instanceof float[] numbers) {
      return entry(key, numbers);
    }
    return entry(key, (int[]) value);
  }

  /** A metadata entry: an array of strings. */
  public GgufBuilder entry(String key, String... values) {
    string(key).int32(9).int32(8).int64(values.length);
    for (String value : values) {
      string(value);
    }
    return this;
  }

  /** A metadata entry: an array of int32. */
  public GgufBuilder entry(String key, int... values) {
    string(key).int32(9).int32(5).int64(values.length);
    for (int value : values) {
      int32(value);
    }
    return this;
  }

  public GgufBuilder tensor(String name, int type, long offset, long... dimensions) {
    string(name).int32(dimensions.length);
    for (long dimension : dimensions) {
      int64(dimension);
    }
    return int32(type).int64(offset);
  }

  public GgufBuilder pad(int alignment) {
    while (bytes.size() % alignment != 0) {
      bytes.write(0);
    }
    return this;
  }

  public byte[] toBytes() {
    return bytes.toByteArray();
  }

  public Path write(Path file) throws IOException {
    return Files.write(file, toBytes());
  }

  static ByteBuffer little(int size) {
    return ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
  }
}
