// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.fuzz;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;

/** A binary file in the making: chunks of fields, so that faults know where one begins. */
final class Draft {
  /** One field. */
  static final class Field {
    byte[] bytes;
    final boolean number; // little-endian

    Field(byte[] bytes, boolean number) {
      this.bytes = bytes;
      this.number = number;
    }
  }

  private static final long[] NUMBERS = {0, 1, -1, 2, 3, 5, 6, 7, 8, 9, 10, 13, 31, 32, 33, 64, 255,
      256, 65535, 65536, 65537, (1 << 20) + 1, 1 << 22, (1 << 22) + 1, 1 << 24, 1 << 25, 1 << 30,
      Integer.MAX_VALUE, Integer.MIN_VALUE, 1L << 31, 1L << 32, (1L << 32) + 1, 1L << 40, 1L << 59,
      1L << 60, 1L << 61, 1L << 62, Long.MAX_VALUE / 2, Long.MAX_VALUE - 31, Long.MAX_VALUE - 7,
      Long.MAX_VALUE, Long.MIN_VALUE, Long.MIN_VALUE + 32, -32, -33, 0x7fc00000, 0x7f800000,
      0x7ff0000000000000L};
  private static final byte[][] TEXTS = {{}, {(byte) 0xff}, {(byte) 0xc0, (byte) 0x80},
      {(byte) 0xed, (byte) 0xa0, (byte) 0x80}, {(byte) 0xf4, (byte) 0x90, (byte) 0x80, (byte) 0x80},
      {0}, {'a', 0, 'b'}, {27, '[', '2', 'J'}, " ".getBytes(StandardCharsets.UTF_8),
      "\\E.*\\Q".getBytes(StandardCharsets.UTF_8), "\u2028\n".getBytes(StandardCharsets.UTF_8),
      "%s%n".getBytes(StandardCharsets.UTF_8), "x".repeat(70_000).getBytes(StandardCharsets.UTF_8)};

  private List<List<Field>> chunks = new ArrayList<>();

  Draft() {
    chunk();
  }

  /** Begins a chunk: what may be left out or come twice as a whole. */
  Draft chunk() {
    chunks.add(new ArrayList<>());
    return this;
  }

  private Draft add(byte[] bytes, boolean number) {
    chunks.get(chunks.size() - 1).add(new Field(bytes, number));
    return this;
  }

  Draft int8(int value) {
    return add(new byte[] {(byte) value}, true);
  }

  Draft int16(int value) {
    return add(little(2).putShort((short) value).array(), true);
  }

  Draft int32(int value) {
    return add(little(4).putInt(value).array(), true);
  }

  Draft int64(long value) {
    return add(little(8).putLong(value).array(), true);
  }

  Draft raw(byte... bytes) {
    return add(bytes, false);
  }

  Draft string(String text) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    return int64(bytes.length).raw(bytes);
  }

  Draft pad(int alignment) {
    return raw(new byte[(alignment - toBytes().length % alignment) % alignment]);
  }

  private static ByteBuffer little(int size) {
    return ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
  }

  byte[] toBytes() {
    int size = chunks.stream().flatMap(List::stream).mapToInt(f -> f.bytes.length).sum();
    ByteBuffer all = ByteBuffer.allocate(size);
    chunks.forEach(chunk -> chunk.forEach(field -> all.put(field.bytes)));
    return all.array();
  }

  /** The whole with one to three faults in it. */
  byte[] spoiled(Random random) {
    Draft copy = new Draft();
    copy.chunks = new ArrayList<>();
    for (List<Field> chunk : chunks) {
      List<Field> fields = new ArrayList<>();
      chunk.forEach(field -> fields.add(new Field(field.bytes.clone(), field.number)));
      copy.chunks.add(fields);
    }
    for (int faults = 1 + random.nextInt(3); faults > 0; faults--) {
      copy.spoil(random);
    }
    return cut(copy.toBytes(), random);
  }

  private void spoil(Random random) {
    List<Field> chunk = chunks.get(random.nextInt(chunks.size()));
    switch (random.nextInt(12)) {
      case 0 -> chunks.remove(chunk);
      case 1 -> chunks.add(random.nextInt(chunks.size() + 1), chunk); // its fields twice
      case 2 ->
        Collections.swap(chunks, random.nextInt(chunks.size()), random.nextInt(chunks.size()));
      default -> {
        if (!chunk.isEmpty()) {
          spoil(chunk.get(random.nextInt(chunk.size())), random);
        }
      }
    }
    if (chunks.isEmpty()) {
      chunk();
    }
  }

  private void spoil(Field field, Random random) {
    if (!field.number) {
      if (random.nextBoolean() || field.bytes.length == 0) {
        field.bytes = TEXTS[random.nextInt(TEXTS.length)];
      } else {
        field.bytes[random.nextInt(field.bytes.length)] = (byte) random.nextInt();
      }
      return;
    }
    ByteBuffer value = little(8).put(0, field.bytes);
    long now = value.getLong(0);
    value.putLong(0, switch (random.nextInt(6)) {
      case 0 -> now + 1;
      case 1 -> now - 1;
      case 2 -> now ^ 1L << random.nextInt(8 * field.bytes.length);
      default -> NUMBERS[random.nextInt(NUMBERS.length)];
    });
    value.get(0, field.bytes);
  }

  private static byte[] cut(byte[] bytes, Random random) {
    switch (random.nextInt(8)) {
      case 0:
        return Arrays.copyOf(bytes, random.nextInt(bytes.length + 1));
      case 1:
        return Arrays.copyOf(bytes, bytes.length + random.nextInt(100));
      case 2:
        for (int i = random.nextInt(4); i > 0 && bytes.length > 0; i--) {
          bytes[random.nextInt(bytes.length)] = (byte) random.nextInt();
        }
        return bytes;
      default:
        return bytes;
    }
  }
}
