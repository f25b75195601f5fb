// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.gguf;

import java.io.IOException;

/** The value types of GGUF metadata, in the order of their numbers in a file. */
enum MetadataType {
  UINT8(1),
  INT8(1),
  UINT16(2),
  INT16(2),
  UINT32(4),
  INT32(4),
  FLOAT32(4),
  BOOL(1),
  STRING(8),
  ARRAY(12),
  UINT64(8),
  INT64(8),
  FLOAT64(8);

  /** The least bytes one value occupies. */
  private final int bytes;

  MetadataType(int bytes) {
    this.bytes = bytes;
  }

  /** Reads a type number and the value that follows it. */
  static Object read(HeaderReader header, String field, int maxArray, int maxString)
      throws IOException {
    MetadataType type = readType(header, "the type of " + field);
    return switch (type) {
      case STRING -> header.string(field, maxString);
      case ARRAY -> readArray(header, field, maxArray, maxString);
      case FLOAT32, FLOAT64 -> type.floating(header, field);
      case BOOL -> type.integer(header, field) != 0;
      default -> type.integer(header, field);
    };
  }

  private static MetadataType readType(HeaderReader header, String field) throws IOException {
    int id = header.int32(field);
    if (id < 0 || id >= values().length) {
      throw header.problem(field + " is " + Integer.toUnsignedString(id) + "; 0 to "
          + (values().length - 1) + " are defined.");
    }
    return values()[id];
  }

  private static Object readArray(HeaderReader header, String field, int maxArray, int maxString)
      throws IOException {
    MetadataType type = readType(header, "the element type of " + field);
    if (type == ARRAY) {
      throw header.problem(field + " is an array of arrays, which this reader does not accept.");
    }
    int count = header.count("the length of " + field, type.bytes, maxArray);
    switch (type) {
      case STRING -> {
        return header.strings(field, count, maxString);
      }
      case FLOAT32, FLOAT64 -> {
        double[] numbers = new double[count];
        for (int i = 0; i < count; i++) {
          numbers[i] = type.floating(header, field);
        }
        return numbers;
      }
      default -> {
        long[] integers = new long[count];
        for (int i = 0; i < count; i++) {
          integers[i] = type.integer(header, field);
        }
        return integers;
      }
    }
  }

  private long integer(HeaderReader header, String field) throws IOException {
    return switch (this) {
      case UINT8, BOOL -> header.int8(field) & 0xff;
      case INT8 -> header.int8(field);
      case UINT16 -> header.int16(field) & 0xffff;
      case INT16 -> header.int16(field);
      case UINT32 -> Integer.toUnsignedLong(header.int32(field));
      case INT32 -> header.int32(field);
      default -> header.int64(field);
    };
  }

  private double floating(HeaderReader header, String field) throws IOException {
    return this == FLOAT32
        ? Float.intBitsToFloat(header.int32(field))
        : Double.longBitsToDouble(header.int64(field));
  }
}
