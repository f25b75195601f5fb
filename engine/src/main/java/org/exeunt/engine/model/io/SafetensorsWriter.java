// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.io;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.Channels;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Writes what {@link SafetensorsFile} reads; the file is there whole, or not at all. */
public final class SafetensorsWriter {
  private static final int AT_ONCE = 1 << 14; // elements

  private record Part(float[] floats, int... ints) {
    int elements() {
      return floats != null ? floats.length : ints.length;
    }
  }

  private final JsonObject header = new JsonObject();
  private final List<Part> parts = new ArrayList<>();
  private long bytes;

  /** Adds an F32 tensor, which is not copied. */
  public SafetensorsWriter add(String name, float[] values, long... shape) {
    describe(name, SafetensorsFile.Type.F32, values.length, shape);
    parts.add(new Part(values));
    return this;
  }

  /** Adds an I32 tensor. */
  public SafetensorsWriter add(String name, int[] values, long... shape) {
    describe(name, SafetensorsFile.Type.I32, values.length, shape);
    parts.add(new Part(null, values));
    return this;
  }

  private void describe(String name, SafetensorsFile.Type type, long elements, long... shape) {
    long end = bytes + elements * type.bytes();
    JsonObject tensor = new JsonObject();
    tensor.addProperty("dtype", type.name());
    tensor.add("shape", array(shape));
    tensor.add("data_offsets", array(bytes, end));
    header.add(name, tensor);
    bytes = end;
  }

  private static JsonArray array(long... values) {
    JsonArray array = new JsonArray();
    Arrays.stream(values).forEach(array::add);
    return array;
  }

  /** Writes the file; folders above it are made. */
  public void write(Path path) throws IOException {
    KeptFiles.replace(path, channel -> {
      OutputStream out = Channels.newOutputStream(channel);
      byte[] text = header.toString().getBytes(StandardCharsets.UTF_8);
      int padded = text.length + 7 & -8;
      byte[] front = Arrays.copyOf(little(8).putLong(padded).array(), 8 + padded);
      Arrays.fill(front, 8, front.length, (byte) ' ');
      System.arraycopy(text, 0, front, 8, text.length);
      out.write(front);
      for (Part part : parts) {
        write(out, part);
      }
    });
  }

  private static void write(OutputStream out, Part part) throws IOException {
    for (int from = 0; from < part.elements(); from += AT_ONCE) {
      int count = Math.min(AT_ONCE, part.elements() - from);
      ByteBuffer some = little(4 * count);
      if (part.floats != null) {
        some.asFloatBuffer().put(part.floats, from, count);
      } else {
        some.asIntBuffer().put(part.ints, from, count);
      }
      out.write(some.array());
    }
  }

  private static ByteBuffer little(int size) {
    return ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
  }
}
