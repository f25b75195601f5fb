// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.decode.Head;
import org.exeunt.engine.decode.RowHead;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ShortlistTest {
  private static final int CAPACITY = TinyModel.CONTEXT;

  @TempDir static Path folder;

  private static Drafts drafts(int sequences) {
    return new Drafts(sequences, CAPACITY, 4, 1, (from, s) -> kind -> 4, token -> false);
  }

  private static void say(Drafts drafts, int sequence, int... tokens) {
    for (int token : tokens) {
      drafts.context(sequence).add(token);
    }
  }

  private static Set<Integer> listed(Shortlist list) {
    return IntStream.of(list.tokens().toIntArray())
        .boxed()
        .collect(Collectors.toCollection(TreeSet::new));
  }

  @Test
  void theNewestOtherTokensOfTextsAreListed() {
    try (Scope scope = Scope.open()) {
      Drafts drafts = drafts(2);
      Shortlist list = new Shortlist(scope, 2, 24, 8);
      assertEquals(Set.of(0, 1, 2, 3, 4, 5, 6, 7), listed(list));
      say(drafts, 0, 3, 20, 20, 5);
      list.read(drafts);
      assertEquals(Set.of(0, 1, 2, 3, 4, 5, 20, 7), listed(list));
      say(drafts, 0, 6);
      say(drafts, 1, 21);
      list.read(drafts);
      assertEquals(Set.of(0, 1, 2, 3, 4, 5, 21, 6), listed(list), "one of the first comes back");
      say(drafts, 1, 22);
      list.read(drafts);
      list.read(drafts);
      assertEquals(Set.of(0, 1, 2, 3, 4, 5, 21, 22), listed(list), "the oldest goes, once");
      list.restart(1);
      drafts.context(1).clear();
      say(drafts, 1, 23);
      list.read(drafts);
      assertTrue(listed(list).contains(23), "the text of a sequence that begins anew");
    }
  }

  @Test
  void noMoreTokensAreListedThanThereAre() {
    try (Scope scope = Scope.open()) {
      assertEquals(24, new Shortlist(scope, 1, 24, 24).tokens().size(0));
      String message =
          assertThrows(IllegalArgumentException.class, () -> new Shortlist(scope, 1, 24, 25))
              .getMessage();
      assertEquals("--draft-shortlist is '25', but the vocabulary has 24 tokens", message);
      Drafts drafts = drafts(1);
      say(drafts, 0, 23, 9);
      for (int size = 1; size < 4; size++) { // too few to give one away
        Shortlist list = new Shortlist(scope, 1, 24, size);
        list.read(drafts);
        assertEquals(size, listed(list).size());
        assertTrue(listed(list).contains(0));
      }
    }
  }

  /** The best of those that are listed, by the logits of all. */
  @Test
  void draftsAreTheBestOfTheList() throws IOException {
    Path path = TinyModel.write(folder.resolve("tiny.gguf"));
    try (Scope scope = Scope.open(); GgufFile file = GgufFile.open(path);
        LlamaWeights weights = LlamaWeights.load(file, DType.F32);
        Decoder decoder = new Decoder(weights, DecoderOptions.FULL, 1, CAPACITY)) {
      DraftHeads heads = new DraftHeads(scope, decoder, null, 8, 3);
      Drafts drafts = drafts(1);
      say(drafts, 0, 17, 23);
      heads.begin(drafts);
      Set<Integer> listed = Set.of(0, 1, 2, 3, 4, 5, 17, 23);
      decoder.beginPass();
      int rows = 16;
      for (int row = 0; row < rows; row++) {
        decoder.addRow(0, 1 + row, row);
      }
      decoder.embedRows();
      decoder.runRows(0, 3);
      RowHead found = heads.read(0);
      Head all = new Head(scope, weights, decoder.rows().hidden(), true);
      all.run();
      FloatBuffer logits = all.logits().floatBuffer();
      Set<Integer> drafted = new TreeSet<>();
      int others = 0;
      for (int row = 0; row < rows; row++) {
        int best = 0;
        double sum = 0;
        for (int id : listed) {
          best = logits.get(row * 24 + id) > logits.get(row * 24 + best) ? id : best;
          sum += Math.exp(logits.get(row * 24 + id));
        }
        assertEquals(best, found.argmax(row), "row " + row);
        assertEquals(Math.exp(logits.get(row * 24 + best)) / sum, found.probability(row), 1e-5,
            "row " + row);
        drafted.add(best);
        others += best == all.statistics().argmax().intBuffer().get(row) ? 0 : 1;
      }
      assertTrue(
          drafted.size() > 2 && others > 2, drafted + ", " + others + " not the best of all");
      assertEquals(decoder.work().bytes(), layers(weights, 3) + weights.head().bytes() / 3);
    }
  }

  private static long layers(LlamaWeights weights, int count) {
    return weights.layers()
        .subList(0, count)
        .stream()
        .mapToLong(layer -> layer.attentionBytes() + layer.feedForwardBytes())
        .sum();
  }
}
