// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.fuzz;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;

/** JSON of every kind, and the safetensors files that have it as their header. */
final class Texts {
  private static final int DATA = 64;
  private static final String SOUND = "{\"__metadata__\":{\"by\":\"test\"},"
      + "\"f\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
      + "\"h\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[16,22]},"
      + "\"i\":{\"dtype\":\"I32\",\"shape\":[2,1],\"data_offsets\":[24,32]},"
      + "\"d\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[32,40]},"
      + "\"e\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[40,40]}}";
  private static final List<String> TOKENS = List.of("{", "}", "[", "]", ",", ":", "\"", "\"a\"",
      "\"f\"", "0", "-", "-1", "1", "1.5", "1e9", "1e999", "-0", "9223372036854775807",
      "9223372036854775808", "4294967296", "99999999999999999", "1152921504606846976", "true",
      "null", "\\", "\"\\u", "\\ud800", "\\u0000", "\\uFFFF", "\u0661",
      "\"\\u\u0661\u0661\u0661\u0661\"", "\"dtype\"", "\"shape\"", "\"data_offsets\"", "\"F32\"",
      "\"U64\"", "\"__metadata__\"", "{\"a\":", "[[[[[[[[[[", "\t", "\u0000", "\ud83d\ude00", " ");

  private Texts() {}

  static String json(Random random) {
    if (random.nextInt(50) == 0) {
      return (random.nextBoolean() ? "[" : "{\"a\":").repeat(1 << random.nextInt(18));
    }
    return spoiled(SOUND, random);
  }

  private static String spoiled(String sound, Random random) {
    StringBuilder text = new StringBuilder(sound);
    for (int faults = 1 + random.nextInt(3); faults > 0; faults--) {
      int at = random.nextInt(text.length() + 1);
      int end = Math.min(text.length(), at + random.nextInt(random.nextInt(4) == 0 ? 60 : 4));
      switch (random.nextInt(4)) {
        case 0 -> text.delete(at, end);
        case 1 -> text.insert(at, text.substring(at, end));
        case 2 -> text.replace(at, end, TOKENS.get(random.nextInt(TOKENS.size())));
        default -> number(text, random);
      }
    }
    return text.toString();
  }

  /** Puts another number, or what looks like one, in the place of one. */
  private static void number(StringBuilder text, Random random) {
    int[] digits =
        IntStream.range(0, text.length()).filter(i -> Character.isDigit(text.charAt(i))).toArray();
    if (digits.length == 0) {
      return;
    }
    int at = digits[random.nextInt(digits.length)];
    int end = at + 1;
    while (end < text.length() && Character.isDigit(text.charAt(end))) {
      end++;
    }
    text.replace(at, end, TOKENS.get(9 + random.nextInt(13)));
  }

  static byte[] sound() {
    return file(SOUND.getBytes(StandardCharsets.UTF_8), SOUND.length());
  }

  static byte[] safetensors(Random random) {
    byte[] header = spoiled(SOUND, random).getBytes(StandardCharsets.UTF_8);
    long length = header.length;
    switch (random.nextInt(10)) {
      case 0 -> length += random.nextInt(3) - 1;
      case 1 ->
        length = List.of(0L, 1L, -1L, 1L << 24, 1L << 32, Long.MAX_VALUE, Long.MIN_VALUE,
                         Long.MAX_VALUE - 7)
                     .get(random.nextInt(8));
      case 2 -> header[random.nextInt(header.length)] = (byte) random.nextInt();
      default -> {
      }
    }
    byte[] file = file(header, length);
    return random.nextInt(6) == 0 ? Arrays.copyOf(file, random.nextInt(file.length + 1)) : file;
  }

  private static byte[] file(byte[] header, long length) {
    return ByteBuffer.allocate(Long.BYTES + header.length + DATA)
        .order(ByteOrder.LITTLE_ENDIAN)
        .putLong(length)
        .put(header)
        .array();
  }
}
