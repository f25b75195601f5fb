// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.text;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.function.IntConsumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.gguf.Strings;
import org.exeunt.engine.model.io.ModelFormatException;

/**
 * Byte-level byte-pair encoding ({@code tokenizer.ggml.model} = {@code gpt2}): text is split into
 * pieces, and the bytes of a piece are joined by a list of merges.
 */
final class BytePairs implements Spelling {
  private static final int ABSENT = Vocabulary.ABSENT;

  private final Vocabulary tokens;
  private final Split split;
  private final Pattern pattern;
  private final PairTable merges;
  private final int[] byteIds = new int[256];
  private final char[] characterOfByte = new char[256];
  private final int[] byteOfCharacter = new int[512];

  private static final Pattern NUMBER = Pattern.compile("\\p{N}");

  /** How text is split. */
  enum Split {
    /** Every digit is a piece of its own; what lies between two is split as GPT-2 does. */
    SMOLLM("smollm", false,
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?[^\\p{IsWhite_Space}\\p{L}\\p{N}]+"
            + "|\\p{IsWhite_Space}+(?!\\P{IsWhite_Space})|\\p{IsWhite_Space}+"),
    /** Up to three digits together; a piece that is a token needs no merges. */
    LLAMA_BPE("llama-bpe", true, words("\\p{N}{1,3}")),
    QWEN2("qwen2", false, words("\\p{N}"));

    private final String name;
    private final boolean wholeTokens;
    private final String pattern;

    Split(String name, boolean wholeTokens, String pattern) {
      this.name = name;
      this.wholeTokens = wholeTokens;
      this.pattern = pattern;
    }

    private static String words(String digits) {
      return "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" + digits
          + "| ?[^\\p{IsWhite_Space}\\p{L}\\p{N}]+[\\r\\n]*|\\p{IsWhite_Space}*[\\r\\n]+"
          + "|\\p{IsWhite_Space}+(?!\\P{IsWhite_Space})|\\p{IsWhite_Space}+";
    }

    static Split of(GgufFile file) throws IOException {
      String key = "tokenizer.ggml.pre";
      String name = file.string(key);
      for (Split split : values()) {
        if (split.name.equals(name)) {
          return split;
        }
      }
      throw new ModelFormatException(file.path(),
          "metadata '" + key + "' is '" + name
              + "'; this tokenizer covers 'smollm', 'llama-bpe' and 'qwen2'.");
    }
  }

  BytePairs(GgufFile file, Vocabulary tokens) throws IOException {
    this.tokens = tokens;
    split = Split.of(file);
    pattern = Pattern.compile(split.pattern);
    readBytes();
    merges = merges(file);
  }

  /** Whether prompts begin with a token of their own, unless the file says otherwise. */
  boolean begins() {
    return split == Split.LLAMA_BPE;
  }

  /**
   * Vocabularies spell bytes as characters: a printable Latin-1 byte stands for itself, the others
   * are numbered from U+0100. A vocabulary may lack rare bytes.
   */
  private void readBytes() {
    Arrays.fill(byteOfCharacter, ABSENT);
    int next = 0x100;
    for (int b = 0; b < 256; b++) {
      boolean printable = b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xff && b != 0xad;
      char character = (char) (printable ? b : next++);
      characterOfByte[b] = character;
      byteOfCharacter[character] = b;
      byteIds[b] = tokens.find(String.valueOf(character));
    }
  }

  private PairTable merges(GgufFile file) throws IOException {
    Strings lines = file.strings("tokenizer.ggml.merges");
    PairTable table = new PairTable(lines.size());
    byte[] bytes = lines.bytes();
    for (int rank = 0; rank < lines.size(); rank++) {
      int begin = lines.begin(rank);
      int end = lines.end(rank);
      int blank = begin + 1;
      while (blank < end && bytes[blank] != ' ') {
        blank++;
      }
      int left = blank < end ? tokens.find(bytes, begin, blank) : ABSENT;
      int right = blank < end ? tokens.find(bytes, blank + 1, end) : ABSENT;
      int result = left < 0 || right < 0 ? ABSENT : tokens.joined(left, right);
      if (result < 0) {
        throw new ModelFormatException(file.path(),
            "merge " + rank + " ('" + lines.get(rank)
                + "') does not join two tokens of the vocabulary to a third.");
      }
      table.put(left, right, rank, result);
    }
    return table;
  }

  @Override
  public void encode(String text, IntConsumer result) {
    Matcher number = NUMBER.matcher(text);
    int start = 0;
    while (split == Split.SMOLLM && number.find()) {
      encodeWords(text.substring(start, number.start()), result);
      encodePiece(number.group(), result);
      start = number.end();
    }
    encodeWords(text.substring(start), result);
  }

  private void encodeWords(String text, IntConsumer result) {
    Matcher piece = pattern.matcher(text);
    while (piece.find()) {
      encodePiece(piece.group(), result);
    }
  }

  private void encodePiece(String text, IntConsumer result) {
    byte[] piece = text.getBytes(StandardCharsets.UTF_8);
    int whole = split.wholeTokens ? tokens.find(spelled(piece)) : ABSENT;
    if (whole >= 0) {
      result.accept(whole);
      return;
    }
    int[] symbols = new int[piece.length];
    for (int i = 0; i < piece.length; i++) {
      symbols[i] = byteIds[piece[i] & 0xff];
    }
    Merges.run(merges::get, symbols, id -> {
      if (id != ABSENT) {
        result.accept(id);
      }
    });
  }

  private String spelled(byte... piece) {
    StringBuilder text = new StringBuilder(piece.length);
    for (byte b : piece) {
      text.append(characterOfByte[b & 0xff]);
    }
    return text.toString();
  }

  @Override
  public byte[] bytes(int id) {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    tokens.text(id).codePoints().forEach(c -> {
      if (c < byteOfCharacter.length && byteOfCharacter[c] >= 0) {
        bytes.write(byteOfCharacter[c]);
      } else {
        bytes.writeBytes(Character.toString(c).getBytes(StandardCharsets.UTF_8));
      }
    });
    return bytes.toByteArray();
  }
}
