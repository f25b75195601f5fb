// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.gguf;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.exeunt.engine.model.io.ModelFile;
import org.exeunt.engine.model.io.ModelFormatException;

/**
 * A cursor over a file's header that knows what it is reading when the bytes run out.
 *
 * <p>Headers have a hundred thousand strings and more, which a JVM that has just started must get
 * through: so this works on an array, where a buffer would take several times as long.
 */
final class HeaderReader {
  private static final int PIECE = 1 << 18;

  private final ModelFile file;
  private final long end;
  private long begin; // of the piece, in the file
  private byte[] piece = {};
  private int at; // in the piece

  /** @param end where the header ends at the latest */
  HeaderReader(ModelFile file, long end) {
    this.file = file;
    this.end = end;
  }

  long position() {
    return begin + at;
  }

  byte int8(String field) throws IOException {
    require(1, field);
    return piece[at++];
  }

  short int16(String field) throws IOException {
    require(2, field);
    at += 2;
    return (short) (piece[at - 2] & 0xff | piece[at - 1] << 8);
  }

  int int32(String field) throws IOException {
    require(4, field);
    at += 4;
    return word(at - 4);
  }

  long int64(String field) throws IOException {
    require(8, field);
    at += 8;
    return (long) word(at - 4) << 32 | word(at - 8) & 0xffffffffL;
  }

  private int word(int from) {
    return piece[from] & 0xff | (piece[from + 1] & 0xff) << 8 | (piece[from + 2] & 0xff) << 16
        | piece[from + 3] << 24;
  }

  /**
   * Reads how many items follow. The count is believed only if that many items of at least
   * {@code itemBytes} fit in what is left, so that nothing is ever allocated on a file's word
   * alone.
   */
  int count(String field, int itemBytes, int limit) throws IOException {
    long count = int64(field);
    long left = end - position();
    if (count < 0 || count > left / itemBytes) {
      throw problem(field + " is " + Long.toUnsignedString(count) + ", but only " + left
          + " bytes of header can follow.");
    }
    if (count > limit) {
      throw problem(field + " is " + count + ", above the " + limit + " this reader accepts.");
    }
    return (int) count;
  }

  String string(String field, int limit) throws IOException {
    int length = count("the length of " + field, 1, limit);
    require(length, field);
    at += length;
    return new String(piece, at - length, length, StandardCharsets.UTF_8);
  }

  /** So many strings. */
  Strings strings(String field, int count, int limit) throws IOException {
    Strings strings = new Strings(count);
    for (int i = 0; i < count; i++) {
      if (!next(strings, limit)) {
        // What an element is called is put together only where it may be said.
        String element = "element " + i + " of " + field;
        int length = count("the length of " + element, 1, limit);
        require(length, element);
        at += length;
        strings.add(piece, at - length, at);
      }
    }
    return strings;
  }

  /** Reads a string that lies in the piece as a whole; else false. */
  private boolean next(Strings strings, int limit) {
    int left = piece.length - at - Long.BYTES;
    if (left < 0 || word(at + 4) != 0) {
      return false;
    }
    int length = word(at);
    if (length < 0 || length > left || length > limit) {
      return false;
    }
    at += Long.BYTES + length;
    strings.add(piece, at - length, at);
    return true;
  }

  ModelFormatException problem(String sentence) {
    return new ModelFormatException(file.path(), sentence);
  }

  private void require(int count, String field) throws IOException {
    if (piece.length - at >= count) {
      return;
    }
    long from = position();
    if (end - from < count) {
      throw problem("the header ends at byte " + end + ", but " + field + " needs bytes " + from
          + " to " + (from + count) + ".");
    }
    piece = file.read(from, Math.min(end - from, Math.max(count, PIECE))).array();
    begin = from;
    at = 0;
  }
}
