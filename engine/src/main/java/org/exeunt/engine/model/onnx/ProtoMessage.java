// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.onnx;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.exeunt.engine.model.io.ModelFile;
import org.exeunt.engine.model.io.ModelFormatException;

/**
 * The fields of one protobuf message, in turn. Every field, and every message inside, lies within
 * the message around it, or the file is refused.
 */
final class ProtoMessage {
  private static final int PIECE = 1 << 16;
  private static final int VARINT = 0;
  private static final int FIXED64 = 1;
  private static final int BYTES = 2;
  private static final int FIXED32 = 5;

  /** What was read of the file last, for all messages of it. */
  private static final class Piece {
    private final ModelFile file;
    private byte[] bytes = {};
    private long begin;

    private Piece(ModelFile file) {
      this.file = file;
    }

    private byte get(long at, long end) throws IOException {
      if (at < begin || at - begin >= bytes.length) {
        bytes = file.read(at, Math.min(PIECE, end - at)).array();
        begin = at;
      }
      return bytes[(int) (at - begin)];
    }
  }

  private final Piece piece;
  private final String name;
  private final long end;
  private long at;
  private int field;
  private int wire;
  private long value; // of a varint; where bytes begin
  private long length;

  /** The message that a file is. */
  ProtoMessage(ModelFile file) {
    this(new Piece(file), "the model", 0, file.size());
  }

  private ProtoMessage(Piece piece, String name, long begin, long end) {
    this.piece = piece;
    this.name = name;
    this.end = end;
    at = begin;
  }

  /** Goes on to the next field; false at the end. */
  boolean next() throws IOException {
    if (at == end) {
      return false;
    }
    long begin = at;
    long tag = varint();
    field = (int) (tag >>> 3);
    wire = (int) (tag & 7);
    if (tag >>> 3 == 0 || tag >>> 32 != 0) {
      throw problem("has a field of number " + (tag >>> 3) + " at byte " + begin + ".");
    }
    switch (wire) {
      case VARINT -> value = varint();
      case FIXED64 -> skip(Long.BYTES);
      case FIXED32 -> skip(Integer.BYTES);
      case BYTES -> {
        long count = varint();
        value = at;
        length = count;
        skip(count);
      }
      default ->
        throw problem(
            "has a field of type " + wire + " at byte " + begin + ", not of 0, 1, 2 or 5.");
    }
    return true;
  }

  private void skip(long count) throws ModelFormatException {
    if (count < 0 || count > end - at) {
      throw problem("ends at byte " + end + ", but field " + field + " at byte " + at + " needs "
          + Long.toUnsignedString(count) + " bytes.");
    }
    at += count;
  }

  private long varint() throws IOException {
    long result = 0;
    for (int shift = 0; shift < Long.SIZE; shift += 7) {
      if (at == end) {
        throw problem("ends at byte " + end + ", within a number.");
      }
      byte next = piece.get(at++, end);
      result |= (next & 0x7fL) << shift;
      if (next >= 0) {
        return result;
      }
    }
    throw problem("has a number of more than ten bytes before byte " + at + ".");
  }

  /** The field's number. */
  int field() {
    return field;
  }

  /** The field's number if it holds a message, a string or bytes, else 0. */
  int bytesField() {
    return wire == BYTES ? field : 0;
  }

  /** The field's number if it holds a whole number, else 0. */
  int numberField() {
    return wire == VARINT ? field : 0;
  }

  long number() {
    return value;
  }

  /** Where the field's bytes begin in the file. */
  long begin() {
    return value;
  }

  /** How many bytes the field has. */
  long length() {
    return length;
  }

  /** The message in the field. */
  ProtoMessage message(String what) {
    return new ProtoMessage(piece, what, value, value + length);
  }

  /** The numbers of a packed field, one after the other. */
  ProtoMessage packed() {
    return message(name);
  }

  /** The next number of {@link #packed}. */
  long nextPacked() throws IOException {
    return varint();
  }

  boolean atEnd() {
    return at == end;
  }

  String string(int limit) throws IOException {
    if (length > limit) {
      throw problem(
          "has a name of " + length + " bytes, above the " + limit + " this reader accepts.");
    }
    byte[] text = new byte[(int) length];
    for (int i = 0; i < text.length; i++) {
      text[i] = piece.get(value + i, end);
    }
    return new String(text, StandardCharsets.UTF_8);
  }

  ModelFormatException problem(String sentence) {
    return new ModelFormatException(piece.file.path(), name + " " + sentence);
  }
}
