// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.text;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.stream.Collectors;
import org.exeunt.engine.encode.TinyEncoder;
import org.exeunt.engine.model.io.ModelFormatException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class WordPieceTest {
  @TempDir Path folder;

  private WordPiece open(String json) throws IOException {
    return WordPiece.open(Files.writeString(folder.resolve("tokenizer.json"), json));
  }

  private static String pieces(int[] tokens) {
    return Arrays.stream(tokens).mapToObj(TinyEncoder.PIECES::get).collect(Collectors.joining(" "));
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', quoteCharacter = '"',
      value = {"\"\" | \"\"", "Good films. | good film ##s .", "GOOD,bad' | good , bad '",
          "\u00e9 a\u0301 | e a", "goodly goods badfilm | good ##ly good ##s bad ##film",
          "unfilms unx | un ##film ##s [UNK]", "a\u4e2d\u4e2da | a \u4e2d \u4e2d a",
          "\"a\u00a0\u2003a\u200ba\" | a [UNK]", "[SEP] | [UNK] [UNK] [UNK]",
          "goodgoodgoodgood | [UNK]", "\ud83d\ude00 so | [UNK] so"})
  void cutsAsBertDoes(String text, String expected) throws IOException {
    String middle = expected.isEmpty() ? " " : " " + expected + " ";
    assertEquals(
        "[CLS]" + middle + "[SEP]", pieces(open(TinyEncoder.tokenizer()).encode(text, 100)));
  }

  @Test
  void cutsOffWhatIsTooLong() throws IOException {
    WordPiece tokenizer = open(TinyEncoder.tokenizer());
    assertEquals(TinyEncoder.PIECES.size(), tokenizer.size());
    assertEquals("[CLS] un ##film [SEP]", pieces(tokenizer.encode("unfilms good", 4)));
    assertArrayEquals(new int[] {2, 3}, tokenizer.encode("good", 2));
    assertEquals(128, tokenizer.encode("good ".repeat(100_000), 128).length);
  }

  @Test
  void refusesOtherTokenizersInASentence() throws IOException {
    String sound = TinyEncoder.tokenizer();
    for (String[] fault : new String[][] {{"WordPiece", "BPE"}, {"##\",\"max", "\",\"max"},
             {"true", "false"}, {"\"bad\":5", "\"bad\":-5"}, {"[CLS]", "[ABC]"}, {"{", "["},
             {"\"model\"", "\"x\""}, {":12", ":1e3"}, {"BertNormalizer", "NFC"}}) {
      String spoiled = sound.replace(fault[0], fault[1]);
      String message = assertThrows(ModelFormatException.class, () -> open(spoiled)).getMessage();
      assertTrue(message.endsWith("."), message);
    }
  }
}
