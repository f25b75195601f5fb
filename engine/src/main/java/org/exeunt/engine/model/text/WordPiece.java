// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.text;

import java.io.IOException;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.text.Normalizer;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import org.exeunt.engine.model.io.ModelFile;
import org.exeunt.engine.model.io.ModelFormatException;
import org.exeunt.engine.model.io.StrictJson;

/**
 * BERT's tokenizer for texts without case: words and signs, then the longest known pieces of each
 * word, from the left. What a text says is never a special token.
 */
public final class WordPiece {
  private static final long MOST_BYTES = 16 << 20;
  private static final int MOST_PIECES = 1 << 22;
  private static final String INSIDE = "##";

  private final Map<String, Integer> ids = new HashMap<>();
  private final int unknown;
  private final int begin;
  private final int end;
  private final int longestWord; // in characters; a longer one is unknown as a whole

  /** Reads a tokenizer.json, as Hugging Face writes it. */
  public static WordPiece open(Path path) throws IOException {
    try (ModelFile file = ModelFile.open(path)) {
      if (file.size() > MOST_BYTES) {
        throw new ModelFormatException(path,
            "has " + file.size() + " bytes, above the " + MOST_BYTES + " this reader accepts.");
      }
      CharBuffer text = StandardCharsets.UTF_8.newDecoder().decode(file.read(0, file.size()));
      return new WordPiece(path, StrictJson.parse(text.toString()));
    } catch (CharacterCodingException e) {
      throw new ModelFormatException(path, "is not UTF-8.");
    } catch (IllegalArgumentException e) {
      throw new ModelFormatException(path, "is not JSON: " + e.getMessage() + ".");
    }
  }

  private WordPiece(Path path, Object json) throws ModelFormatException {
    Object model = member(path, json, "model");
    require(path, "type", member(path, model, "type"), "WordPiece");
    require(path, "continuing_subword_prefix", member(path, model, "continuing_subword_prefix"),
        INSIDE);
    Object normalizer = member(path, json, "normalizer");
    require(path, "normalizer", member(path, normalizer, "type"), "BertNormalizer");
    require(path, "lowercase", member(path, normalizer, "lowercase"), true);
    longestWord = (int) whole(
        path, "max_input_chars_per_word", member(path, model, "max_input_chars_per_word"), 1 << 10);
    if (!(member(path, model, "vocab") instanceof Map<?, ?> vocabulary)) {
      throw new ModelFormatException(path, "vocab is not an object.");
    }
    for (Map.Entry<?, ?> piece : vocabulary.entrySet()) {
      ids.put((String) piece.getKey(),
          (int) whole(path, "the id of '" + piece.getKey() + "'", piece.getValue(), MOST_PIECES));
    }
    unknown = special(path, String.valueOf(member(path, model, "unk_token")));
    begin = special(path, "[CLS]");
    end = special(path, "[SEP]");
  }

  private static Object member(Path path, Object json, String name) throws ModelFormatException {
    if (!(json instanceof Map<?, ?> object) || !object.containsKey(name)) {
      throw new ModelFormatException(path, "has no '" + name + "'.");
    }
    return object.get(name);
  }

  private static void require(Path path, String name, Object value, Object expected)
      throws ModelFormatException {
    if (!expected.equals(value)) {
      throw new ModelFormatException(path, name + " is " + value + ", not " + expected + ".");
    }
  }

  private static long whole(Path path, String name, Object value, int most)
      throws ModelFormatException {
    if (!(value instanceof Long number) || number < 0 || number > most) {
      throw new ModelFormatException(
          path, name + " is " + value + ", not a whole number from 0 to " + most + ".");
    }
    return number;
  }

  private int special(Path path, String token) throws ModelFormatException {
    Integer id = ids.get(token);
    if (id == null) {
      throw new ModelFormatException(path, "vocab has no '" + token + "'.");
    }
    return id;
  }

  /** One more than the largest id. */
  public int size() {
    return ids.values().stream().mapToInt(id -> id + 1).max().orElse(0);
  }

  /**
   * The tokens of a text between those that mark its begin and end.
   *
   * @param most tokens to return, at least 2; what is beyond is cut off
   */
  public int[] encode(String text, int most) {
    int[] tokens = new int[Math.min(most, text.length() + 2)];
    int count = 0;
    tokens[count++] = begin;
    int room = most - 1;
    String clean = clean(text);
    for (int at = 0; at < clean.length() && count < room;) {
      int sign = clean.codePointAt(at);
      int next = at + Character.charCount(sign);
      if (sign == ' ') {
        at = next;
        continue;
      }
      while (!standsAlone(sign) && next < clean.length() && clean.charAt(next) != ' '
          && !standsAlone(clean.codePointAt(next))) {
        next += Character.charCount(clean.codePointAt(next));
      }
      String word = clean.substring(at, next);
      if (tokens.length < count + word.length() + 1) {
        tokens = Arrays.copyOf(tokens, 2 * (count + word.length() + 1));
      }
      count = Math.min(room, addPieces(word, tokens, count));
      at = next;
    }
    tokens = Arrays.copyOf(tokens, count + 1);
    tokens[count] = end;
    return tokens;
  }

  private int addPieces(String word, int[] tokens, int count) {
    int from = word.codePointCount(0, word.length()) > longestWord ? -1 : 0;
    int added = count;
    while (from >= 0 && from < word.length()) {
      int to = word.length();
      while (to > from && !ids.containsKey(piece(word, from, to))) {
        to--;
      }
      if (to == from) {
        from = -1;
      } else {
        tokens[added++] = ids.get(piece(word, from, to));
        from = to;
      }
    }
    if (from < 0) {
      added = count;
      tokens[added++] = unknown;
    }
    return added;
  }

  private static String piece(String word, int from, int to) {
    return from == 0 ? word.substring(0, to) : INSIDE + word.substring(from, to);
  }

  /** Blanks for whatever separates, no accents, small letters. */
  private static String clean(String text) {
    StringBuilder clean = new StringBuilder(text.length());
    text.codePoints().forEach(sign -> {
      if (isBlank(sign)) {
        clean.append(' ');
      } else if (sign != 0xfffd && !isControl(sign)) {
        clean.appendCodePoint(sign);
      }
    });
    StringBuilder plain = new StringBuilder(clean.length());
    Normalizer.normalize(clean, Normalizer.Form.NFD)
        .codePoints()
        .filter(sign -> Character.getType(sign) != Character.NON_SPACING_MARK)
        .forEach(plain::appendCodePoint);
    return plain.toString().toLowerCase(Locale.ROOT);
  }

  private static boolean isBlank(int sign) {
    return sign == '\t' || sign == '\n' || sign == '\r' || Character.isWhitespace(sign)
        || Character.isSpaceChar(sign);
  }

  private static boolean isControl(int sign) {
    return switch (Character.getType(sign)) {
      case Character.CONTROL, Character.FORMAT, Character.UNASSIGNED, Character.PRIVATE_USE,
          Character.SURROGATE ->
        true;
      default -> false;
    };
  }

  /** Signs and Chinese characters, each of which is a word. */
  private static boolean standsAlone(int sign) {
    if (sign < 0x80) {
      return sign > ' ' && sign < 0x7f && !Character.isLetterOrDigit(sign);
    }
    return switch (Character.getType(sign)) {
      case Character.CONNECTOR_PUNCTUATION, Character.DASH_PUNCTUATION, Character.START_PUNCTUATION,
          Character.END_PUNCTUATION, Character.INITIAL_QUOTE_PUNCTUATION,
          Character.FINAL_QUOTE_PUNCTUATION, Character.OTHER_PUNCTUATION ->
        true;
      default -> isChinese(sign);
    };
  }

  private static boolean isChinese(int sign) {
    return sign >= 0x4e00 && sign <= 0x9fff || sign >= 0x3400 && sign <= 0x4dbf
        || sign >= 0x20000 && sign <= 0x2a6df || sign >= 0x2a700 && sign <= 0x2b73f
        || sign >= 0x2b740 && sign <= 0x2b81f || sign >= 0x2b920 && sign <= 0x2ceaf
        || sign >= 0xf900 && sign <= 0xfaff || sign >= 0x2f800 && sign <= 0x2fa1f;
  }
}
