// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
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

  private static final Pattern ENTRY = Pattern.compile(
      "\"([^\"]+)\"\\s*:\\s*\\{\\s*\"dtype\"\\s*:\\s*\"(\\w+)\"\\s*,"
      + "\\s*\"shape\"\\s*:\\s*\\[([^]]*)]"
      + "\\s*,\\s*\"data_offsets\"\\s*:\\s*\\[(\\d+)\\s*,\\s*(\\d+)]\\s*}");

  private final Map<String, Array> tensors = new TreeMap<>();

  Safetensors(Path path) {
    ByteBuffer file;
    try {
      file = ByteBuffer.wrap(Files.readAllBytes(path)).order(ByteOrder.LITTLE_ENDIAN);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    int header = (int) file.getLong(0);
    Matcher entry = ENTRY.matcher(new String(file.array(), 8, header, StandardCharsets.UTF_8));
    while (entry.find()) {
      String[] extents = entry.group(3).isBlank() ? new String[0] : entry.group(3).split(",");
      long[] shape = Arrays.stream(extents).mapToLong(e -> Long.parseLong(e.strip())).toArray();
      DType dtype = DType.valueOf(entry.group(2));
      int from = Integer.parseInt(entry.group(4));
      int size = Integer.parseInt(entry.group(5)) - from;
      ByteBuffer bytes = file.slice(8 + header + from, size).order(ByteOrder.LITTLE_ENDIAN);
      tensors.put(entry.group(1), new Array(dtype, shape, bytes));
    }
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
