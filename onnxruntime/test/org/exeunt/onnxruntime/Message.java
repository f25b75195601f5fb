// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * A message of protocol buffers as the list of its fields, in the order of the wire. Messages within
 * it stay bytes until they are asked for.
 */
final class Message {
  private static final int VARINT = 0;
  private static final int FIXED64 = 1;
  private static final int BYTES = 2;
  private static final int FIXED32 = 5;

  private record Field(int number, int wire, long value, byte[] bytes) {}

  private final List<Field> fields = new ArrayList<>();

  static Message parse(byte[] bytes) {
    Message message = new Message();
    int[] at = {0};
    while (at[0] < bytes.length) {
      long key = varint(bytes, at);
      int wire = (int) (key & 7);
      int number = (int) (key >>> 3);
      switch (wire) {
        case VARINT -> message.fields.add(new Field(number, wire, varint(bytes, at), null));
        case BYTES -> {
          byte[] value = new byte[(int) varint(bytes, at)];
          System.arraycopy(bytes, at[0], value, 0, value.length);
          at[0] += value.length;
          message.fields.add(new Field(number, wire, 0, value));
        }
        case FIXED32, FIXED64 -> {
          int size = wire == FIXED32 ? 4 : 8;
          long value = 0;
          for (int i = 0; i < size; i++) {
            value |= (bytes[at[0]++] & 0xffL) << 8 * i;
          }
          message.fields.add(new Field(number, wire, value, null));
        }
        default -> throw new IllegalArgumentException("wire type " + wire);
      }
    }
    return message;
  }

  byte[] toBytes() {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    for (Field field : fields) {
      put(out, (long) field.number << 3 | field.wire);
      switch (field.wire) {
        case VARINT -> put(out, field.value);
        case BYTES -> {
          put(out, field.bytes.length);
          out.writeBytes(field.bytes);
        }
        default -> {
          for (int i = 0; i < (field.wire == FIXED32 ? 4 : 8); i++) {
            out.write((int) (field.value >>> 8 * i));
          }
        }
      }
    }
    return out.toByteArray();
  }

  // ---- reading ----

  long integer(int number, long otherwise) {
    for (Field field : fields) {
      if (field.number == number) {
        return field.value;
      }
    }
    return otherwise;
  }

  String text(int number) {
    List<byte[]> found = all(number);
    return found.isEmpty() ? "" : new String(found.get(0), StandardCharsets.UTF_8);
  }

  List<String> texts(int number) {
    return all(number).stream().map(b -> new String(b, StandardCharsets.UTF_8)).toList();
  }

  byte[] bytes(int number) {
    return all(number).get(0);
  }

  Message message(int number) {
    return parse(bytes(number));
  }

  List<Message> messages(int number) {
    return all(number).stream().map(Message::parse).toList();
  }

  private List<byte[]> all(int number) {
    return fields.stream().filter(f -> f.number == number).map(Field::bytes).toList();
  }

  // ---- writing ----

  Message with(int number, long value) {
    fields.add(new Field(number, VARINT, value, null));
    return this;
  }

  Message with(int number, float value) {
    fields.add(new Field(number, FIXED32, Float.floatToRawIntBits(value) & 0xffffffffL, null));
    return this;
  }

  Message with(int number, String value) {
    return with(number, value.getBytes(StandardCharsets.UTF_8));
  }

  Message with(int number, byte[] value) {
    fields.add(new Field(number, BYTES, 0, value));
    return this;
  }

  Message with(int number, Message value) {
    return with(number, value.toBytes());
  }

  Message without(int number) {
    fields.removeIf(field -> field.number == number);
    return this;
  }

  private static long varint(byte[] bytes, int[] at) {
    long value = 0;
    for (int shift = 0;; shift += 7) {
      byte b = bytes[at[0]++];
      value |= (b & 0x7fL) << shift;
      if (b >= 0) {
        return value;
      }
    }
  }

  private static void put(ByteArrayOutputStream out, long value) {
    long rest = value;
    while ((rest & ~0x7fL) != 0) {
      out.write((int) (rest & 0x7f | 0x80));
      rest >>>= 7;
    }
    out.write((int) rest);
  }
}
