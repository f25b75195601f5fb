// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.gguf;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.exeunt.examples.io.ModelFormatException;

/** A cursor over a file's header that knows what it is reading when the bytes run out. */
final class HeaderReader {
  private final Path file;
  private final ByteBuffer bytes;

  HeaderReader(Path file, ByteBuffer bytes) {
    this.file = file;
    this.bytes = bytes;
  }

  long position() {
    return bytes.position();
  }

  byte int8(String field) throws ModelFormatException {
    require(1, field);
    return bytes.get();
  }

  short int16(String field) throws ModelFormatException {
    require(2, field);
    return bytes.getShort();
  }

  int int32(String field) throws ModelFormatException {
    require(4, field);
    return bytes.getInt();
  }

  long int64(String field) throws ModelFormatException {
    require(8, field);
    return bytes.getLong();
  }

  /**
   * Reads how many items follow. The count is believed only if that many items of at least
   * {@code itemBytes} fit in what is left, so that nothing is ever allocated on a file's word
   * alone.
   */
  int count(String field, int itemBytes, int limit) throws ModelFormatException {
    long count = int64(field);
    long fits = bytes.remaining() / itemBytes;
    if (count < 0 || count > fits) {
      throw problem(field + " is " + Long.toUnsignedString(count) + ", but only "
          + bytes.remaining() + " bytes of header can follow.");
    }
    if (count > limit) {
      throw problem(field + " is " + count + ", above the " + limit + " this reader accepts.");
    }
    return (int) count;
  }

  String string(String field, int limit) throws ModelFormatException {
    int length = count("the length of " + field, 1, limit);
    if (length == 0) {
      return "";
    }
    byte[] text = new byte[length];
    bytes.get(text);
    return new String(text, StandardCharsets.UTF_8);
  }

  ModelFormatException problem(String sentence) {
    return new ModelFormatException(file, sentence);
  }

  private void require(int count, String field) throws ModelFormatException {
    if (bytes.remaining() < count) {
      throw problem("the header ends at byte " + bytes.limit() + ", but " + field + " needs bytes "
          + bytes.position() + " to " + (bytes.position() + count) + ".");
    }
  }
}
