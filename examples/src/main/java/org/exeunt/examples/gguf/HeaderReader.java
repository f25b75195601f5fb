// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.gguf;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.exeunt.examples.io.ModelFile;
import org.exeunt.examples.io.ModelFormatException;

/** A cursor over a file's header that knows what it is reading when the bytes run out. */
final class HeaderReader {
  private static final int PIECE = 1 << 18;

  private final ModelFile file;
  private final long end;
  private long begin; // of the piece, in the file
  private ByteBuffer piece = ByteBuffer.allocate(0);

  /** @param end where the header ends at the latest */
  HeaderReader(ModelFile file, long end) {
    this.file = file;
    this.end = end;
  }

  long position() {
    return begin + piece.position();
  }

  byte int8(String field) throws IOException {
    require(1, field);
    return piece.get();
  }

  short int16(String field) throws IOException {
    require(2, field);
    return piece.getShort();
  }

  int int32(String field) throws IOException {
    require(4, field);
    return piece.getInt();
  }

  long int64(String field) throws IOException {
    require(8, field);
    return piece.getLong();
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
    if (length == 0) {
      return "";
    }
    require(length, field);
    byte[] text = new byte[length];
    piece.get(text);
    return new String(text, StandardCharsets.UTF_8);
  }

  /** So many strings. */
  Strings strings(String field, int count, int limit) throws IOException {
    int[] ends = new int[count];
    byte[] texts = new byte[PIECE];
    int used = 0;
    for (int i = 0; i < count; i++) {
      // What a field is called is put together only where something is wrong with it.
      long length = piece.remaining() >= Long.BYTES ? piece.getLong(piece.position()) : -1;
      if (length < 0 || length > Math.min(limit, piece.remaining() - Long.BYTES)) {
        String element = "element " + i + " of " + field;
        length = count("the length of " + element, 1, limit);
        require((int) length, element);
      } else {
        piece.position(piece.position() + Long.BYTES);
      }
      if (length > texts.length - used) {
        texts = Arrays.copyOf(texts, Math.max(2 * used, used + (int) length));
      }
      piece.get(texts, used, (int) length);
      used += (int) length;
      ends[i] = used;
    }
    return new Strings(texts, ends);
  }

  ModelFormatException problem(String sentence) {
    return new ModelFormatException(file.path(), sentence);
  }

  private void require(int count, String field) throws IOException {
    if (piece.remaining() >= count) {
      return;
    }
    long at = position();
    if (end - at < count) {
      throw problem("the header ends at byte " + end + ", but " + field + " needs bytes " + at
          + " to " + (at + count) + ".");
    }
    piece = file.read(at, Math.min(end - at, Math.max(count, PIECE)));
    begin = at;
  }
}
