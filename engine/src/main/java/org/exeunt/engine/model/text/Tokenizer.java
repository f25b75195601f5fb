// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.text;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.stream.IntStream;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.ModelFormatException;

/**
 * Turns text into the tokens of a GGUF file's vocabulary and back.
 *
 * <p>Special tokens are cut out of the text first; what is left is spelled by {@link BytePairs} or
 * {@link ScoredPieces}, as the file says. Immutable and safe to share between threads.
 */
public final class Tokenizer {
  private static final int CONTROL_TOKEN = 3;
  private static final int USER_DEFINED_TOKEN = 4;

  /** Tokens that end a turn of a conversation, whether or not the file says so. */
  private static final List<String> TURN_ENDS =
      List.of("<end_of_turn>", "<|eot_id|>", "<|im_end|>");

  private final Vocabulary tokens;
  private final boolean[] special;
  private final SpecialTokens specials = new SpecialTokens();
  private final boolean[] ends;
  private final Spelling spelling;
  private final boolean blankFirst;
  private final int begin; // -1: none
  private final int endOfSequence;

  /** Reads the tokenizer's part of {@code file}'s metadata. */
  public Tokenizer(GgufFile file) throws IOException {
    String model = file.string("tokenizer.ggml.model");
    tokens = new Vocabulary(file.strings("tokenizer.ggml.tokens"));
    long[] types = types(file);
    special = new boolean[tokens.size()];
    readSpecials(types);
    endOfSequence = file.integer("tokenizer.ggml.eos_token_id", 0, tokens.size() - 1);
    ends = new boolean[tokens.size()];
    readEnds(file);
    boolean begins;
    switch (model) {
      case "gpt2" -> {
        BytePairs pairs = new BytePairs(file, tokens);
        spelling = pairs;
        begins = pairs.begins();
        blankFirst = false;
      }
      case "llama" -> {
        spelling = new ScoredPieces(file, tokens, types);
        begins = true;
        blankFirst = file.flag("tokenizer.ggml.add_space_prefix", true);
      }
      default ->
        throw new ModelFormatException(file.path(),
            "metadata 'tokenizer.ggml.model' is '" + model
                + "'; this tokenizer covers 'gpt2' and 'llama'.");
    }
    begin = file.flag("tokenizer.ggml.add_bos_token", begins)
        ? file.integer("tokenizer.ggml.bos_token_id", 0, tokens.size() - 1)
        : -1;
  }

  private long[] types(GgufFile file) throws IOException {
    long[] types = file.integers("tokenizer.ggml.token_type");
    if (types.length != tokens.size()) {
      throw new ModelFormatException(file.path(),
          "metadata 'tokenizer.ggml.token_type' has " + types.length + " elements for "
              + tokens.size() + " tokens.");
    }
    return types;
  }

  private void readSpecials(long... types) {
    for (int id = 0; id < tokens.size(); id++) {
      special[id] = types[id] == CONTROL_TOKEN || types[id] == USER_DEFINED_TOKEN;
      if (special[id] && !tokens.text(id).isEmpty()) {
        specials.add(tokens.text(id), id);
      }
    }
  }

  private void readEnds(GgufFile file) throws IOException {
    ends[endOfSequence] = true;
    String key = "tokenizer.ggml.eot_token_id";
    if (file.metadata().containsKey(key)) {
      ends[file.integer(key, 0, tokens.size() - 1)] = true;
    }
    for (String text : TURN_ENDS) {
      int id = tokens.find(text);
      if (id >= 0 && special[id]) {
        ends[id] = true;
      }
    }
  }

  /** The number of tokens in the vocabulary. */
  public int size() {
    return tokens.size();
  }

  /** The first token that another tokenizer reads otherwise, or lacks; -1: it has the same tokens. */
  public int firstOther(Tokenizer other) {
    int common = Math.min(size(), other.size());
    for (int id = 0; id < common; id++) {
      if (!tokens.text(id).equals(other.tokens.text(id)) || special[id] != other.special[id]) {
        return id;
      }
    }
    return size() == other.size() ? -1 : common;
  }

  /** The token that ends a text. */
  public int endOfSequence() {
    return endOfSequence;
  }

  /** Whether an answer is over with this token: it ends a text or a turn. */
  public boolean ends(int id) {
    return ends[id];
  }

  /**
   * Encodes {@code text}; special tokens spelled out in it are recognised, none are added. A byte
   * for which the vocabulary has no token (a few control characters) is left out.
   */
  public int[] encode(String text) {
    IntStream.Builder result = IntStream.builder();
    int start = 0; // of what holds no special token
    for (int i = 0; i < text.length();) {
      int id = specials.at(text, i);
      if (id < 0) {
        i++;
        continue;
      }
      spell(text.substring(start, i), result);
      result.accept(id);
      i += tokens.text(id).length();
      start = i;
    }
    spell(text.substring(start), result);
    return result.build().toArray();
  }

  /** Encodes a whole prompt: {@link #encode}, after the token that this model begins with. */
  public int[] encodePrompt(String text) {
    IntStream first = begin < 0 ? IntStream.empty() : IntStream.of(begin);
    return IntStream.concat(first, IntStream.of(encode(text))).toArray();
  }

  /** The same of a text that a chat template has written, which may begin with that token itself. */
  public int[] encodeChat(String text) {
    int[] ids = encode(text);
    return ids.length > 0 && ids[0] == begin ? ids : encodePrompt(text);
  }

  private void spell(String text, IntStream.Builder result) {
    if (!text.isEmpty()) {
      spelling.encode(blankFirst ? " " + text : text, result);
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
    if (id < 0 || id >= tokens.size()) {
      throw new IllegalArgumentException(
          "token " + id + " is not one of the " + tokens.size() + " of the vocabulary");
    }
    return special[id] ? tokens.text(id).getBytes(StandardCharsets.UTF_8) : spelling.bytes(id);
  }
}
