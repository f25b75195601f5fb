// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.text;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.exeunt.engine.model.gguf.Strings;

/**
 * The texts of all tokens, and which token has a text. A hash table over the bytes as they lie in
 * the file: a quarter of a million strings would take a JVM that has just started longer than the
 * first answer.
 */
final class Vocabulary {
  static final int ABSENT = -1;
  private static final byte[] NOTHING = {};

  private final Strings texts;
  private final int[] table; // ids; as many again are free

  Vocabulary(Strings texts) {
    this.texts = texts;
    table = new int[Integer.highestOneBit(Math.max(1, texts.size())) * 4];
    Arrays.fill(table, ABSENT);
    byte[] bytes = texts.bytes();
    for (int id = 0; id < texts.size(); id++) {
      int slot = slot(bytes, texts.begin(id), texts.end(id), NOTHING, 0, 0);
      if (table[slot] == ABSENT) { // of two alike, the first
        table[slot] = id;
      }
    }
  }

  int size() {
    return texts.size();
  }

  String text(int id) {
    return texts.get(id);
  }

  /** The token with this text, or {@link #ABSENT}. */
  int find(String text) {
    return find(text.getBytes(StandardCharsets.UTF_8));
  }

  int find(byte[] text) {
    return find(text, 0, text.length);
  }

  int find(byte[] text, int begin, int end) {
    return table[slot(text, begin, end, NOTHING, 0, 0)];
  }

  /** The token whose text is that of two others, or {@link #ABSENT}. */
  int joined(int left, int right) {
    byte[] bytes = texts.bytes();
    return table[slot(
        bytes, texts.begin(left), texts.end(left), bytes, texts.begin(right), texts.end(right))];
  }

  /** Where the text of two parts is, or belongs. */
  private int slot(byte[] a, int aBegin, int aEnd, byte[] b, int bBegin, int bEnd) {
    int hash = 0;
    for (int i = aBegin; i < aEnd; i++) {
      hash = 31 * hash + a[i];
    }
    for (int i = bBegin; i < bEnd; i++) {
      hash = 31 * hash + b[i];
    }
    hash *= 0x9e3779b9;
    int slot = (hash ^ hash >>> 15) & table.length - 1;
    while (table[slot] != ABSENT && !is(table[slot], a, aBegin, aEnd, b, bBegin, bEnd)) {
      slot = slot + 1 & table.length - 1;
    }
    return slot;
  }

  private boolean is(int id, byte[] a, int aBegin, int aEnd, byte[] b, int bBegin, int bEnd) {
    int begin = texts.begin(id);
    int middle = begin + aEnd - aBegin;
    return texts.end(id) == middle + bEnd - bBegin
        && Arrays.equals(texts.bytes(), begin, middle, a, aBegin, aEnd)
        && Arrays.equals(texts.bytes(), middle, texts.end(id), b, bBegin, bEnd);
  }
}
