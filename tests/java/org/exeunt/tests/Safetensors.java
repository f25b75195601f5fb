// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.exeunt.DType;

/** Reads a safetensors file: 8 bytes of header length, a JSON header, raw row-major tensors. */
final class Safetensors {
  /** A tensor of the file. */
  record Array(DType dtype, long[] shape, ByteBuffer bytes) {
    int size() {
      return bytes.capacity() / dtype.bytes();
    }

    double at(int element) {
      return switch (dtype) {
        case F32 -> bytes.getFloat(4 * element);
        case F64 -> bytes.getDouble(8 * element);
        case I32 -> bytes.getInt(4 * element);
        case I64 -> bytes.getLong(8 * element);
        case U8 -> bytes.get(element) & 0xFF;
        case F16 -> DType.f16ToFloat(bytes.getShort(2 * element));
        case BF16 -> DType.bf16ToFloat(bytes.getShort(2 * element));
      };
    }
  }

  private final Map<String, Array> tensors = new TreeMap<>();

  Safetensors(Path path) {
    ByteBuffer file;
    try {
      file = ByteBuffer.wrap(Files.readAllBytes(path)).order(ByteOrder.LITTLE_ENDIAN);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    int header = (int) file.getLong(0);
    String text = new String(file.array(), 8, header, StandardCharsets.UTF_8);
    for (var entry : JsonParser.parseString(text).getAsJsonObject().entrySet()) {
      if (!entry.getKey().equals("__metadata__")) {
        JsonObject tensor = entry.getValue().getAsJsonObject();
        long[] range = longs(tensor.get("data_offsets"));
        ByteBuffer bytes =
            file.slice(8 + header + (int) range[0], (int) (range[1] - range[0]))
                .order(ByteOrder.LITTLE_ENDIAN);
        tensors.put(entry.getKey(),
            new Array(DType.valueOf(tensor.get("dtype").getAsString()), longs(tensor.get("shape")),
                bytes));
      }
    }
  }

  private static long[] longs(JsonElement array) {
    return array.getAsJsonArray().asList().stream().mapToLong(JsonElement::getAsLong).toArray();
  }

  /** What stands before the slash of the tensors' names. */
  TreeSet<String> cases() {
    TreeSet<String> names = new TreeSet<>();
    tensors.keySet().forEach(name -> names.add(name.substring(0, name.indexOf('/'))));
    return names;
  }

  /** A tensor, or null. */
  Array find(String name) {
    return tensors.get(name);
  }

  Array get(String name) {
    if (!tensors.containsKey(name)) {
      throw new IllegalStateException("no tensor '" + name + "'");
    }
    return tensors.get(name);
  }
}
