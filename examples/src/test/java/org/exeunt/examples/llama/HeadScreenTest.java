// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Screen;
import org.exeunt.examples.TestData;
import org.exeunt.examples.gguf.GgufFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Greedy decoding with a certified head, beside the full one. */
class HeadScreenTest {
  private static final int TOKENS = 60;
  private static final int MOST_TEXT = 2000;

  @TempDir Path folder;

  private interface Check {
    void see(LlamaWeights weights) throws IOException;
  }

  private void tiny(DType type, Check check) throws IOException {
    Path model = TinyModel.write(folder.resolve("tiny.gguf"));
    try (GgufFile file = GgufFile.open(model);
        LlamaWeights weights = LlamaWeights.load(file, type)) {
      check.see(weights);
    }
  }

  private static int[] text() {
    return IntStream.range(0, 40).map(i -> 1 + i * i % 17).toArray();
  }

  private static int[] answer(LlamaWeights weights, Screen screen, int tokens, int... prompt) {
    DecoderOptions options = DecoderOptions.FULL.withScreen(screen);
    int[] answer = new int[tokens];
    try (Decoder decoder = new Decoder(weights, options, 1, prompt.length + tokens)) {
      decoder.prefill(0, prompt);
      for (int t = 0; t < tokens; t++) {
        answer[t] = decoder.argmax(0);
        decoder.step(answer[t]);
      }
      if (screen != null) {
        DecodeWork work = decoder.work();
        assertEquals(tokens, work.headReadings());
        assertTrue(work.certified() > 0.9 * tokens, work.certified() + " of " + tokens);
      }
    }
    return answer;
  }

  @Test
  void everyTokenIsTheFullHeads() throws IOException {
    for (DType type : new DType[] {null, DType.F32, DType.BF16}) {
      tiny(type, weights -> {
        try (Screen screen = HeadScreen.make(weights, text(), null)) {
          assertEquals(weights.config().width(), screen.dim());
          for (int first = 1; first < 6; first++) {
            assertArrayEquals(answer(weights, null, TOKENS, first, 2, first),
                answer(weights, screen, TOKENS, first, 2, first));
          }
        }
      });
    }
  }

  @Test
  void isMadeOnceAndAgainIfDamaged() throws IOException {
    Path model = TinyModel.write(folder.resolve("tiny.gguf"));
    Path kept = folder.resolve("deep").resolve("tiny.screen");
    ByteArrayOutputStream log = new ByteArrayOutputStream();
    PrintStream out = new PrintStream(log, true, StandardCharsets.UTF_8);
    try (GgufFile file = GgufFile.open(model);
        LlamaWeights weights = LlamaWeights.load(file, null)) {
      Tokenizer tokenizer = new Tokenizer(file);
      String text = "abcdefghijklmnopqrstuvw".repeat(2);
      HeadScreen.openOrMake(kept, weights, tokenizer, text, false, out).close();
      byte[] first = Files.readAllBytes(kept);
      long date = Files.getLastModifiedTime(kept).toMillis();
      try (Screen again = HeadScreen.openOrMake(kept, weights, tokenizer, text, false, out)) {
        again.check(weights.head().tensor(), weights.head().blocks());
      }
      assertEquals(date, Files.getLastModifiedTime(kept).toMillis());
      assertEquals("", log.toString(StandardCharsets.UTF_8));
      for (boolean verify : new boolean[] {false, true}) {
        log.reset();
        byte[] damaged = first.clone();
        damaged[verify ? damaged.length - 1 : 70] ^= 1;
        Files.write(kept, damaged);
        HeadScreen.openOrMake(kept, weights, tokenizer, text, verify, out).close();
        assertTrue(
            log.toString(StandardCharsets.UTF_8).startsWith("making the certified head anew: "),
            log.toString(StandardCharsets.UTF_8));
        assertArrayEquals(first, Files.readAllBytes(kept));
      }
    }
  }

  @Test
  void whatNeedsAllLogitsIsRefused() throws IOException {
    tiny(null, weights -> {
      try (Screen screen = HeadScreen.make(weights, text(), null)) {
        DecoderOptions options = DecoderOptions.FULL.withScreen(screen);
        ExitPolicy threshold = ExitPolicy.parse("threshold:0.9", null, TinyModel.LAYERS);
        for (DecoderOptions wrong :
            List.of(options.withLogits(), options.withExit(threshold, KvPolicy.PROPAGATE))) {
          String message = assertThrows(
              IllegalArgumentException.class, () -> new Decoder(weights, wrong, 1, 8).close())
                               .getMessage();
          assertTrue(message.startsWith("a certified head "), message);
        }
      }
    });
  }

  /**
   * Of many answers with EXEUNT_LONG=1, since it takes minutes. What the text gives of states the
   * model need not write, which takes longest.
   */
  @Test
  void gemmaAnswersAsWithItsFullHead() throws IOException {
    int tokens = System.getenv("EXEUNT_LONG") == null ? 40 : 5000;
    try (GgufFile file = GgufFile.open(TestData.gemma3());
        LlamaWeights weights = LlamaWeights.load(file, null)) {
      int[] text = new Tokenizer(file).encodePrompt(TestData.text());
      text = Arrays.copyOf(text, Math.min(text.length, MOST_TEXT));
      try (Screen screen = HeadScreen.make(weights, text, null)) {
        int[] words = text;
        int each = Math.min(tokens, 25); // before it repeats itself
        for (int done = 0; done < tokens; done += each) {
          int from = done / each * 7 % (text.length - 8);
          int[] prompt = IntStream.range(from, from + 8).map(i -> words[i]).toArray();
          assertArrayEquals(
              answer(weights, null, each, prompt), answer(weights, screen, each, prompt));
        }
      }
    }
  }
}
