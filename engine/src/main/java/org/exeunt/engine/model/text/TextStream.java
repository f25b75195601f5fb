// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.text;

import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;

/**
 * Turns tokens into text as they come. A character may be spread over several tokens: its bytes are
 * held back until it is whole; what never becomes UTF-8 comes out as U+FFFD.
 */
public final class TextStream {
  private static final int LONGEST_CHARACTER = 4;

  private final Tokenizer tokenizer;
  private final CharsetDecoder decoder =
      StandardCharsets.UTF_8.newDecoder()
          .onMalformedInput(CodingErrorAction.REPLACE)
          .onUnmappableCharacter(CodingErrorAction.REPLACE);
  private ByteBuffer pending = ByteBuffer.allocate(LONGEST_CHARACTER);

  public TextStream(Tokenizer tokenizer) {
    this.tokenizer = tokenizer;
    pending.flip();
  }

  /** The characters that {@code token} completes; often all of its own, sometimes none. */
  public String add(int token) {
    byte[] bytes = tokenizer.bytes(token);
    ByteBuffer all = ByteBuffer.allocate(pending.remaining() + bytes.length);
    all.put(pending).put(bytes).flip();
    String text = decode(all, false);
    pending = all;
    return text;
  }

  /** What is left when no more tokens come. */
  public String finish() {
    String text = decode(pending, true);
    decoder.reset();
    return text;
  }

  private String decode(ByteBuffer bytes, boolean end) {
    CharBuffer text = CharBuffer.allocate(bytes.remaining() + LONGEST_CHARACTER);
    decoder.decode(bytes, text, end);
    if (end) {
      decoder.flush(text);
    }
    return text.flip().toString();
  }
}
