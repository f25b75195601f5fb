// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.text;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.function.IntConsumer;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.ModelFormatException;

/**
 * A SentencePiece vocabulary ({@code tokenizer.ggml.model} = {@code llama}): characters are joined
 * to tokens, the pair whose token has the highest score first. Blanks are spelled U+2581, and a
 * character that is no token as its bytes.
 */
final class ScoredPieces implements Spelling {
  private static final int BYTE_TOKEN = 6;
  private static final int ABSENT = Vocabulary.ABSENT;
  private static final char BLANK = '\u2581';

  private final Vocabulary tokens;
  private final double[] scores;
  private final int[] byteIds = new int[256];
  private final Map<Integer, Integer> byteOfToken = new HashMap<>();

  ScoredPieces(GgufFile file, Vocabulary tokens, long... types) throws IOException {
    this.tokens = tokens;
    scores = file.numbers("tokenizer.ggml.scores");
    if (scores.length != tokens.size()) {
      throw new ModelFormatException(file.path(),
          "metadata 'tokenizer.ggml.scores' has " + scores.length + " elements for " + tokens.size()
              + " tokens.");
    }
    Arrays.fill(byteIds, ABSENT);
    for (int b = 0; b < 256; b++) {
      String digits = Integer.toHexString(b | 0x100).substring(1).toUpperCase(Locale.ROOT);
      int id = tokens.find("<0x" + digits + ">");
      if (id >= 0 && types[id] == BYTE_TOKEN) {
        byteIds[b] = id;
        byteOfToken.put(id, b);
      }
    }
  }

  /** A character that is no token stands for itself below -1. */
  private int symbol(int character) {
    int id = tokens.find(Character.toString(character));
    return id >= 0 ? id : -2 - character;
  }

  private String text(int symbol) {
    return symbol >= 0 ? tokens.text(symbol) : Character.toString(-2 - symbol);
  }

  private Merges.Merge merge(int left, int right) {
    int joined = left >= 0 && right >= 0
        ? tokens.joined(left, right)
        : tokens.find(text(left) + text(right));
    return joined < 0 ? null : new Merges.Merge(-scores[joined], joined);
  }

  @Override
  public void encode(String text, IntConsumer result) {
    int[] symbols = text.replace(' ', BLANK).codePoints().map(this::symbol).toArray();
    Merges.run(this::merge, symbols, symbol -> {
      if (symbol >= 0) {
        result.accept(symbol);
        return;
      }
      for (byte b : text(symbol).getBytes(StandardCharsets.UTF_8)) {
        if (byteIds[b & 0xff] != ABSENT) {
          result.accept(byteIds[b & 0xff]);
        }
      }
    });
  }

  @Override
  public byte[] bytes(int id) {
    Integer single = byteOfToken.get(id);
    return single != null
        ? new byte[] {single.byteValue()}
        : tokens.text(id).replace(BLANK, ' ').getBytes(StandardCharsets.UTF_8);
  }
}
