// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import static java.nio.charset.StandardCharsets.UTF_8;
import static java.nio.file.StandardOpenOption.CREATE;
import static java.nio.file.StandardOpenOption.WRITE;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.Screen;
import org.exeunt.Tensor;
import org.exeunt.engine.TestData;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.text.Tokenizer;
import org.exeunt.engine.policy.ExitPolicy;
import org.exeunt.engine.policy.KvPolicy;
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

  private static final String ESSAY = "abcdefghijklmnopqrstuvw".repeat(2);
  private final ByteArrayOutputStream log = new ByteArrayOutputStream();
  private final PrintStream out = new PrintStream(log, true, UTF_8);

  /** What was said, but for how far it was, which comes where it takes long. */
  private String said() {
    String said =
        log.toString(UTF_8).replaceAll("\\rmaking the certified head: [^\\r\\n]*\\n?", "");
    log.reset();
    return said;
  }

  private interface Use {
    void see(LlamaWeights weights, Tokenizer tokenizer) throws IOException;
  }

  private static void opened(Path model, Use use) throws IOException {
    try (GgufFile file = GgufFile.open(model);
        LlamaWeights weights = LlamaWeights.load(file, null)) {
      use.see(weights, new Tokenizer(file));
    }
  }

  /** The model with other words' rows for the words, and nothing else, and the date of another. */
  private Path exchanged(Path model) throws IOException {
    FileTime date = Files.getLastModifiedTime(model);
    long size = Files.size(model);
    Path other = folder.resolve("exchanged.gguf");
    TinyModel.writeWeights(other, TinyModel.metadata(),
        TinyModel.weights()
            .stream()
            .map(weight -> {
              float[] values = weight.values().clone();
              if (weight.name().equals("token_embd.weight")) {
                for (int i = 0; i < values.length; i++) {
                  values[i] = weight.values()[values.length - 1 - i];
                }
              }
              return new TinyModel.Weight(weight.name(), weight.rows(), weight.columns(), values);
            })
            .toList());
    Files.move(other, model, StandardCopyOption.REPLACE_EXISTING);
    Files.setLastModifiedTime(model, date);
    assertEquals(size, Files.size(model));
    return model;
  }

  private Screen openOrMake(Path kept, LlamaWeights weights, Tokenizer tokenizer) {
    return HeadScreen.openOrMake(kept, weights, tokenizer, ESSAY, out);
  }

  private List<String> beside(Path kept) throws IOException {
    try (Stream<Path> files = Files.list(kept.getParent())) {
      return files.map(file -> file.getFileName().toString()).sorted().toList();
    }
  }

  @Test
  void isMadeOnce() throws IOException {
    Path kept = folder.resolve("deep").resolve("tiny.screen");
    opened(TinyModel.write(folder.resolve("tiny.gguf")), (weights, tokenizer) -> {
      assertNull(HeadScreen.open(kept, weights, out));
      openOrMake(kept, weights, tokenizer).close();
      assertEquals(List.of("tiny.screen"), beside(kept));
      FileTime date = Files.getLastModifiedTime(kept);
      try (Screen again = openOrMake(kept, weights, tokenizer)) {
        again.check(weights.head().tensor(), weights.head().blocks());
        int[] full = answer(weights, null, TOKENS, 1, 2, 1);
        assertArrayEquals(full, answer(weights, again, TOKENS, 1, 2, 1));
        // What was checked stays what it is.
        Files.write(kept, new byte[(int) Files.size(kept)]);
        assertArrayEquals(full, answer(weights, again, TOKENS, 1, 2, 1));
        Files.write(kept, new byte[0]);
        assertArrayEquals(full, answer(weights, again, TOKENS, 1, 2, 1));
        Files.setLastModifiedTime(kept, date);
      }
      assertEquals("", said());
    });
  }

  /** The screen of a head of random numbers. */
  private byte[] screenOf(int rows, int columns) throws IOException {
    Path file = folder.resolve("random.screen");
    Random random = new Random(rows);
    try (Scope scope = Scope.open()) {
      Tensor[] matrices = new Tensor[2];
      for (int i = 0; i < 2; i++) {
        float[] values = new float[(i == 0 ? rows : 2 * columns) * columns];
        for (int at = 0; at < values.length; at++) {
          values[at] = (float) random.nextGaussian();
        }
        matrices[i] = scope.copyOf(values, values.length / columns, columns);
      }
      try (Screen screen = Screen.builder().weight(matrices[0]).states(matrices[1]).build()) {
        screen.save(file);
      }
    }
    return Files.readAllBytes(file);
  }

  /** Changes of a kept file, each of which must be seen. */
  private interface Damage {
    byte[] of(byte[] whole);
  }

  @Test
  void isMadeAgainWhateverIsWrongWithIt() throws IOException {
    Path kept = folder.resolve("tiny.screen");
    byte[] wide = screenOf(24, 64);
    byte[] longer = screenOf(25, 32);
    Map<String, Damage> damages = new LinkedHashMap<>();
    damages.put("its checksum differs", whole -> {
      Arrays.fill(whole, whole.length / 2, whole.length / 2 + 512, (byte) 0);
      return whole;
    });
    damages.put("checksum differs", whole -> {
      whole[whole.length - 1] ^= 1;
      return whole;
    });
    damages.put("damaged header", whole -> {
      whole[70] ^= 1;
      return whole;
    });
    damages.put("of another version", whole -> {
      whole[8]++;
      return whole;
    });
    damages.put("not as long as it says", whole -> Arrays.copyOf(whole, whole.length / 2));
    damages.put("not as long", whole -> Arrays.copyOf(whole, whole.length + 1));
    damages.put("shorter than its header", whole -> new byte[] {1, 2, 3});
    damages.put("is empty", whole -> new byte[0]);
    damages.put("does not begin as one", whole -> "a text".repeat(1000).getBytes(UTF_8));
    damages.put("image has 64 columns, but weight has 32", whole -> wide);
    damages.put("image has 25 rows, but weight has 24", whole -> longer);
    opened(TinyModel.write(folder.resolve("tiny.gguf")), (weights, tokenizer) -> {
      openOrMake(kept, weights, tokenizer).close();
      byte[] first = Files.readAllBytes(kept);
      assertEquals("", said());
      for (Map.Entry<String, Damage> damage : damages.entrySet()) {
        byte[] damaged = damage.getValue().of(first.clone());
        assertFalse(Arrays.equals(first, damaged));
        Files.write(kept, damaged);
        openOrMake(kept, weights, tokenizer).close();
        String why = said();
        assertTrue(why.startsWith("making the certified head anew: "), why);
        assertTrue(why.contains(damage.getKey()), why);
        assertEquals(1, why.lines().count(), why);
        assertArrayEquals(first, Files.readAllBytes(kept), damage.getKey());
      }
    });
  }

  @Test
  void aModelExchangedForOneOfEqualSizeAndDateGetsItsOwn() throws IOException {
    Path model = TinyModel.write(folder.resolve("tiny.gguf"));
    Path kept = folder.resolve("tiny.screen");
    opened(model, (weights, tokenizer) -> openOrMake(kept, weights, tokenizer).close());
    opened(exchanged(model), (weights, tokenizer) -> {
      try (Screen screen = openOrMake(kept, weights, tokenizer)) {
        String why = said();
        assertTrue(why.contains("was made of another head"), why);
        for (int first = 1; first < 6; first++) {
          assertArrayEquals(answer(weights, null, TOKENS, first, 2, first),
              answer(weights, screen, TOKENS, first, 2, first));
        }
      }
      openOrMake(kept, weights, tokenizer).close();
      assertEquals("", said());
    });
  }

  @Test
  void olderOnesAndWhatWasNotFinishedAreRemoved() throws IOException {
    Path kept = folder.resolve("cache").resolve("m.gguf.file-0123abcd.screen");
    Files.createDirectories(kept.getParent());
    List<String> others = List.of("m.gguf.bf16-1-2-0123abcd-0.1.screen",
        "m.gguf.file-1-2-0123abce-0.1.screen", "m.gguf.file-fedc0123.screen", "other.part");
    List<String> old = List.of("m.gguf.file-5dcebc0-18f-0123abcd-0.1.0.screen",
        "m.gguf.file-1-2-0123abcd-0.9-SNAPSHOT.screen");
    for (String name : others) {
      Files.writeString(kept.resolveSibling(name), "");
    }
    for (String name : old) {
      Files.writeString(kept.resolveSibling(name), "");
    }
    Path unfinished = kept.resolveSibling(kept.getFileName() + ".123.part");
    Files.writeString(unfinished, "half");
    Path going = kept.resolveSibling(kept.getFileName() + ".124.part");
    try (FileChannel writer = FileChannel.open(going, CREATE, WRITE)) {
      assertTrue(writer.tryLock().isValid());
      opened(TinyModel.write(folder.resolve("tiny.gguf")),
          (weights, tokenizer) -> openOrMake(kept, weights, tokenizer).close());
    }
    List<String> expected = new ArrayList<>(others);
    expected.add(kept.getFileName().toString());
    expected.add(going.getFileName().toString());
    assertEquals(expected.stream().sorted().toList(), beside(kept));
    assertEquals("", said());
  }

  @Test
  void servesOnceWhereItCannotBeKept() throws IOException {
    Path file = Files.writeString(folder.resolve("file"), "no folder");
    Path blocked = Files.createDirectories(folder.resolve("blocked.screen"));
    opened(TinyModel.write(folder.resolve("tiny.gguf")), (weights, tokenizer) -> {
      for (Path kept : List.of(file.resolve("tiny.screen"), blocked)) {
        try (Screen screen = openOrMake(kept, weights, tokenizer)) {
          String why = said();
          assertTrue(why.contains("the certified head cannot be kept, and is made anew"), why);
          assertArrayEquals(
              answer(weights, null, TOKENS, 1, 2, 1), answer(weights, screen, TOKENS, 1, 2, 1));
        }
      }
    });
    assertEquals(List.of("blocked.screen", "file", "tiny.gguf"), beside(blocked));
  }

  @Test
  void severalMayMakeItAtOnce() throws IOException, InterruptedException {
    Path kept = folder.resolve("cache").resolve("tiny.screen");
    Path model = TinyModel.write(folder.resolve("tiny.gguf"));
    List<Throwable> failures = Collections.synchronizedList(new ArrayList<>());
    List<Thread> threads = new ArrayList<>();
    for (int i = 0; i < 4; i++) {
      threads.add(new Thread(() -> {
        try {
          opened(model, (weights, tokenizer) -> {
            for (int turn = 0; turn < 5; turn++) {
              HeadScreen.makeAndKeep(kept, weights, tokenizer, ESSAY, out).close();
              try (Screen now = HeadScreen.open(kept, weights, out)) {
                assertNotNull(now);
              }
            }
          });
        } catch (Throwable e) {
          failures.add(e);
        }
      }));
    }
    threads.forEach(Thread::start);
    for (Thread thread : threads) {
      thread.join();
    }
    assertEquals(List.of(), failures);
    assertEquals("", said());
    assertEquals(List.of("tiny.screen"), beside(kept));
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
