// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.PriorityQueue;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.exeunt.examples.gguf.GgufFile;
import org.exeunt.examples.io.ModelFormatException;

/**
 * Byte-level byte-pair encoding with the vocabulary and merges a GGUF file carries.
 *
 * <p>Covers the {@code smollm} flavour: special tokens are cut out of the text first, then every
 * decimal digit becomes a piece of its own, and what is left is split as GPT-2 does. Immutable and
 * safe to share between threads.
 */
public final class Tokenizer {
  private static final int ABSENT = -1;
  private static final int CONTROL_TOKEN = 3;
  private static final int USER_DEFINED_TOKEN = 4;

  private static final Pattern NUMBER = Pattern.compile("\\p{N}");

  /** GPT-2's split; the last alternative is reached only by blanks before another piece. */
  private static final Pattern PIECE = Pattern.compile(
      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?[^\\p{IsWhite_Space}\\p{L}\\p{N}]+"
      + "|\\p{IsWhite_Space}+(?!\\P{IsWhite_Space})|\\p{IsWhite_Space}+");

  private final String[] tokens;
  private final Map<String, Integer> ids = new HashMap<>();
  private final Map<Long, Merge> merges = new HashMap<>();
  private final int[] byteIds = new int[256];
  private final int[] byteOfCharacter = new int[512];
  private final boolean[] special;
  private final Pattern specials;
  private final int endOfSequence;

  /** Two neighbouring tokens become {@code result}; the lowest rank goes first. */
  private record Merge(int rank, int result) {}

  /** Reads the tokenizer's part of {@code file}'s metadata. */
  public Tokenizer(GgufFile file) throws IOException {
    require(file, "tokenizer.ggml.model", "gpt2");
    require(file, "tokenizer.ggml.pre", "smollm");
    tokens = file.strings("tokenizer.ggml.tokens");
    for (int id = 0; id < tokens.length; id++) {
      ids.putIfAbsent(tokens[id], id);
    }
    endOfSequence = file.integer("tokenizer.ggml.eos_token_id", 0, tokens.length - 1);
    special = new boolean[tokens.length];
    specials = readSpecials(file);
    readBytes();
    readMerges(file);
  }

  private static void require(GgufFile file, String key, String wanted) throws IOException {
    String found = file.string(key);
    if (!found.equals(wanted)) {
      throw new ModelFormatException(file.path(),
          "metadata '" + key + "' is '" + found + "'; this tokenizer covers '" + wanted + "'.");
    }
  }

  private Pattern readSpecials(GgufFile file) throws IOException {
    long[] types = file.integers("tokenizer.ggml.token_type");
    if (types.length != tokens.length) {
      throw new ModelFormatException(file.path(),
          "metadata 'tokenizer.ggml.token_type' has " + types.length + " elements for "
              + tokens.length + " tokens.");
    }
    List<String> texts = new ArrayList<>();
    for (int id = 0; id < tokens.length; id++) {
      special[id] = types[id] == CONTROL_TOKEN || types[id] == USER_DEFINED_TOKEN;
      if (special[id] && !tokens[id].isEmpty()) {
        texts.add(tokens[id]);
      }
    }
    // Alternatives are tried in order, so that the longest of two overlapping specials wins.
    texts.sort(Comparator.comparingInt(String::length).reversed());
    return texts.isEmpty()
        ? null
        : Pattern.compile(String.join("|", texts.stream().map(Pattern::quote).toList()));
  }

  /**
   * Vocabularies spell bytes as characters: a printable Latin-1 byte stands for itself, the others
   * are numbered from U+0100. A vocabulary may lack rare bytes; {@link #encode} leaves those out.
   */
  private void readBytes() {
    Arrays.fill(byteOfCharacter, ABSENT);
    int next = 0x100;
    for (int b = 0; b < 256; b++) {
      boolean printable = b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xff && b != 0xad;
      char character = (char) (printable ? b : next++);
      byteOfCharacter[character] = b;
      byteIds[b] = ids.getOrDefault(String.valueOf(character), ABSENT);
    }
  }

  private void readMerges(GgufFile file) throws IOException {
    String[] lines = file.strings("tokenizer.ggml.merges");
    for (int rank = 0; rank < lines.length; rank++) {
      int blank = lines[rank].indexOf(' ', 1);
      Integer left = blank < 0 ? null : ids.get(lines[rank].substring(0, blank));
      Integer right = blank < 0 ? null : ids.get(lines[rank].substring(blank + 1));
      Integer result = left == null || right == null ? null : ids.get(tokens[left] + tokens[right]);
      if (result == null) {
        throw new ModelFormatException(file.path(),
            "merge " + rank + " ('" + lines[rank]
                + "') does not join two tokens of the vocabulary to a third.");
      }
      merges.putIfAbsent(pair(left, right), new Merge(rank, result));
    }
  }

  private static long pair(int left, int right) {
    return (long) left << 32 | right;
  }

  /** The number of tokens in the vocabulary. */
  public int size() {
    return tokens.length;
  }

  /** The token that ends an answer. */
  public int endOfSequence() {
    return endOfSequence;
  }

  /**
   * Encodes {@code text}; special tokens spelled out in it are recognised, none are added. A byte
   * for which the vocabulary has no token (a few control characters) is left out.
   */
  public int[] encode(String text) {
    IntList result = new IntList();
    int start = 0;
    if (specials != null) {
      Matcher matcher = specials.matcher(text);
      while (matcher.find()) {
        encodeOrdinary(text.substring(start, matcher.start()), result);
        result.add(ids.get(matcher.group()));
        start = matcher.end();
      }
    }
    encodeOrdinary(text.substring(start), result);
    return result.toArray();
  }

  private void encodeOrdinary(String text, IntList result) {
    Matcher number = NUMBER.matcher(text);
    int start = 0;
    while (number.find()) {
      encodeWords(text.substring(start, number.start()), result);
      encodePiece(number.group(), result);
      start = number.end();
    }
    encodeWords(text.substring(start), result);
  }

  private void encodeWords(String text, IntList result) {
    Matcher piece = PIECE.matcher(text);
    while (piece.find()) {
      encodePiece(piece.group(), result);
    }
  }

  /**
   * Applies merges in order of rank, the leftmost first among equals. The symbols form a linked
   * list and the possible merges a heap, so that a piece of n bytes takes O(n log n), however long
   * it is.
   */
  private void encodePiece(String text, IntList result) {
    byte[] piece = text.getBytes(StandardCharsets.UTF_8);
    int n = piece.length;
    int[] symbol = new int[n];
    int[] previous = new int[n];
    int[] next = new int[n];
    for (int i = 0; i < n; i++) {
      symbol[i] = byteIds[piece[i] & 0xff];
      previous[i] = i - 1;
      next[i] = i + 1 < n ? i + 1 : -1;
    }
    PriorityQueue<Candidate> candidates = new PriorityQueue<>();
    for (int i = 0; i + 1 < n; i++) {
      offer(candidates, i, i + 1, symbol);
    }
    while (!candidates.isEmpty()) {
      Candidate best = candidates.poll();
      int left = best.at;
      int right = next[left];
      if (symbol[left] != best.left || right < 0 || symbol[right] != best.right) {
        continue; // an earlier merge took one of the two
      }
      symbol[left] = best.merge.result;
      symbol[right] = ABSENT;
      next[left] = next[right];
      if (next[right] >= 0) {
        previous[next[right]] = left;
        offer(candidates, left, next[right], symbol);
      }
      if (previous[left] >= 0) {
        offer(candidates, previous[left], left, symbol);
      }
    }
    for (int i = 0; i >= 0 && n > 0; i = next[i]) {
      if (symbol[i] != ABSENT) {
        result.add(symbol[i]);
      }
    }
  }

  private void offer(PriorityQueue<Candidate> candidates, int left, int right, int[] symbol) {
    Merge merge = merges.get(pair(symbol[left], symbol[right]));
    if (merge != null) {
      candidates.add(new Candidate(merge, left, symbol[left], symbol[right]));
    }
  }

  private record Candidate(Merge merge, int at, int left, int right)
      implements Comparable<Candidate> {
    @Override
    public int compareTo(Candidate other) {
      int byRank = Integer.compare(merge.rank, other.merge.rank);
      return byRank != 0 ? byRank : Integer.compare(at, other.at);
    }
  }

  /**
   * The text of {@code ids}, special tokens included; bytes that are not UTF-8 become U+FFFD.
   *
   * @throws IllegalArgumentException if the vocabulary lacks one of them
   */
  public String decode(int... ids) {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    for (int id : ids) {
      bytes.writeBytes(bytes(id));
    }
    return bytes.toString(StandardCharsets.UTF_8);
  }

  /**
   * The bytes of one token; a character may be spread over several tokens.
   *
   * @throws IllegalArgumentException if the vocabulary has no such token
   */
  public byte[] bytes(int id) {
    if (id < 0 || id >= tokens.length) {
      throw new IllegalArgumentException(
          "token " + id + " is not one of the " + tokens.length + " of the vocabulary");
    }
    String token = tokens[id];
    if (special[id]) {
      return token.getBytes(StandardCharsets.UTF_8);
    }
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    token.codePoints().forEach(c -> {
      if (c < byteOfCharacter.length && byteOfCharacter[c] >= 0) {
        bytes.write(byteOfCharacter[c]);
      } else {
        bytes.writeBytes(Character.toString(c).getBytes(StandardCharsets.UTF_8));
      }
    });
    return bytes.toByteArray();
  }

  private static final class IntList {
    private int[] values = new int[64];
    private int size;

    void add(int value) {
      if (size == values.length) {
        values = Arrays.copyOf(values, 2 * size);
      }
      values[size++] = value;
    }

    int[] toArray() {
      return Arrays.copyOf(values, size);
    }
  }
}
