// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.engine.TestData;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.decode.HeadScreen;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.ModelChangedException;
import org.exeunt.engine.model.io.ModelFormatException;
import org.exeunt.engine.model.text.Tokenizer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Model files that somebody cuts, or writes over, while they are in use. */
class ChangedModelTest {
  private static final int PROMPT = 3;
  private static final long SOON_NANOS = 10_000_000_000L;

  @TempDir Path folder;
  private Path model;
  private int threads;
  private volatile boolean stopped;

  @BeforeEach
  void write() throws IOException {
    model = TinyModel.write(folder.resolve("tiny.gguf"));
    threads = Backend.threads();
  }

  @AfterEach
  void restore() {
    Backend.setThreads(threads);
  }

  private static void cut(Path file, long bytes) {
    try (RandomAccessFile other = new RandomAccessFile(file.toFile(), "rw")) {
      other.setLength(bytes);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Other bytes in the same file, as many. */
  private static void overwrite(Path file, Random random) throws IOException {
    byte[] other = new byte[1 << 20];
    random.nextBytes(other);
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
      for (long left = channel.size(); left > 0; left -= other.length) {
        channel.write(ByteBuffer.wrap(other, 0, (int) Math.min(left, other.length)));
      }
    }
  }

  private static int[] step(Decoder decoder, int tokens) {
    int[] answer = new int[tokens];
    for (int t = 0; t < tokens; t++) {
      answer[t] = decoder.argmax(0);
      decoder.step(answer[t]);
    }
    return answer;
  }

  private void assertChanged(String how, Runnable use) {
    String message = assertThrows(ModelChangedException.class, use::run).getMessage();
    assertTrue(message.startsWith(model + " " + how), message);
    assertTrue(message.endsWith(" while it was in use: the results cannot be trusted"), message);
  }

  @Test
  void noStepGoesOnWithAFileThatWasCut() throws IOException {
    long size = Files.size(model);
    for (int count : new int[] {1, 2}) {
      Backend.setThreads(count);
      for (long left : new long[] {0, size / 4, size / 2, size - 20_000}) {
        TinyModel.write(model);
        try (GgufFile file = GgufFile.open(model);
            LlamaWeights weights = LlamaWeights.load(file, null);
            Decoder decoder = new Decoder(weights, DecoderOptions.FULL, 1, 40)) {
          decoder.prefill(0, 1, 2, PROMPT);
          step(decoder, 2);
          cut(model, left);
          assertChanged("", () -> decoder.step(1));
          assertChanged("", () -> decoder.prefill(0, 1));
          assertChanged("", weights::requireUnchanged);
          assertChanged("", file::requireUnchanged);
        }
      }
    }
  }

  @Test
  void stepsNoticeSoonThatAFileWasWritten() throws IOException {
    try (GgufFile file = GgufFile.open(model); LlamaWeights weights = LlamaWeights.load(file, null);
        Decoder decoder = new Decoder(weights, DecoderOptions.FULL, 1, 40)) {
      decoder.prefill(0, 1, 2, PROMPT);
      overwrite(model, new Random(1));
      assertChanged("was written to", weights::requireUnchanged);
      long end = System.nanoTime() + SOON_NANOS;
      assertChanged("was written to", () -> {
        while (System.nanoTime() < end) {
          decoder.step(1);
          decoder.restart(0);
          decoder.prefill(0, 1);
        }
      });
    }
  }

  @Test
  void whatWasConvertedDoesNotDependOnTheFile() throws IOException {
    for (DType type : new DType[] {DType.F32, DType.BF16}) {
      TinyModel.write(model);
      try (GgufFile file = GgufFile.open(model);
          LlamaWeights weights = LlamaWeights.load(file, type);
          Decoder decoder = new Decoder(weights, DecoderOptions.FULL, 1, 40)) {
        decoder.prefill(0, 1, 2, PROMPT);
        int[] before = step(decoder, 20);
        cut(model, 0);
        weights.requireUnchanged();
        decoder.restart(0);
        decoder.prefill(0, 1, 2, PROMPT);
        assertArrayEquals(before, step(decoder, 20));
      }
    }
  }

  /** Nor does a file in its place, or its removal: what was opened is still there. */
  @Test
  void aFileMayBeReplacedAndRemoved() throws IOException {
    try (GgufFile file = GgufFile.open(model); LlamaWeights weights = LlamaWeights.load(file, null);
        Decoder decoder = new Decoder(weights, DecoderOptions.FULL, 1, 60)) {
      decoder.prefill(0, 1, 2, PROMPT);
      int[] before = step(decoder, 20);
      Path other = Files.writeString(folder.resolve("other"), "no model");
      Files.move(other, model, StandardCopyOption.REPLACE_EXISTING);
      for (int turn = 0; turn < 2; turn++) {
        weights.requireUnchanged();
        decoder.restart(0);
        decoder.prefill(0, 1, 2, PROMPT);
        assertArrayEquals(before, step(decoder, 20));
        Files.deleteIfExists(model);
      }
    }
  }

  @Test
  void noHeadIsMadeOrKeptOfAFileThatWasCut() throws IOException {
    Path kept = folder.resolve("cache").resolve("tiny.screen");
    String text = "abcdefghijklmnopqrstuvw".repeat(2);
    try (GgufFile file = GgufFile.open(model);
        LlamaWeights weights = LlamaWeights.load(file, null)) {
      Tokenizer tokenizer = new Tokenizer(file);
      HeadScreen.makeAndKeep(kept, weights, tokenizer, text, null).close();
      cut(model, Files.size(model) / 3);
      assertChanged("", () -> HeadScreen.open(kept, weights, null));
      Files.delete(kept);
      assertChanged("", () -> HeadScreen.makeAndKeep(kept, weights, tokenizer, text, null));
      assertFalse(Files.exists(kept));
    }
  }

  /** Cut and restored all the time: whatever part is being read, it is said in a sentence. */
  @Test
  void everyPartOfLoadingSaysSo() throws IOException, InterruptedException {
    byte[] whole = Files.readAllBytes(model);
    Thread cutter = new Thread(() -> {
      Random random = new Random(3);
      while (!stopped) {
        cut(model, random.nextInt(whole.length));
        try {
          Files.write(model, whole);
        } catch (IOException e) {
          throw new UncheckedIOException(e);
        }
      }
    });
    cutter.start();
    int sound = 0;
    int said = 0;
    try {
      for (int trial = 0; trial < 400; trial++) {
        try (GgufFile file = GgufFile.open(model);
            LlamaWeights weights = LlamaWeights.load(file, trial % 2 == 0 ? null : DType.BF16);
            Decoder decoder = new Decoder(weights, DecoderOptions.FULL, 1, 20)) {
          new Tokenizer(file);
          decoder.prefill(0, 1, 2, PROMPT);
          weights.requireUnchanged();
          sound++;
        } catch (ModelChangedException | ModelFormatException e) {
          said++;
          assertEquals(1, e.getMessage().lines().count(), e.getMessage());
        }
      }
    } finally {
      stopped = true;
      cutter.join();
    }
    assertEquals(400, sound + said);
    assertTrue(said > 20, said + " of 400");
  }

  // ---- the program

  private List<String> limit = List.of(); // what starts it, if not itself

  private record Result(int status, String out, String log) {}

  /** Runs it in a process of its own; a moment after its start, if {@code change} is given, that. */
  private Result generate(Runnable change, long afterMillis, String... options)
      throws IOException, InterruptedException {
    List<String> command = new ArrayList<>(limit);
    command.addAll(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
        "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData",
        "-XX:ErrorFile=" + folder.resolve("hs_err.log"), "-cp",
        System.getProperty("java.class.path"), Generate.class.getName(), "--model",
        model.toString(), "--prompt", "Count from one to twenty.", "--max-tokens", "60"));
    command.addAll(List.of(options));
    File out = folder.resolve("out").toFile();
    File log = folder.resolve("log").toFile();
    ProcessBuilder builder =
        new ProcessBuilder(command).redirectOutput(out).redirectError(log).directory(
            folder.toFile());
    builder.environment().put("XDG_CACHE_HOME", folder.resolve("cache").toString());
    Process process = builder.start();
    process.getOutputStream().close();
    if (change != null && !process.waitFor(afterMillis, TimeUnit.MILLISECONDS)) {
      change.run();
    }
    int status = process.waitFor();
    // Without how far it was with what takes long.
    String said =
        Files.readString(log.toPath()).replaceAll("\rmaking the certified head: [^\r\n]*\n?", "");
    return new Result(status, Files.readString(out.toPath()), said);
  }

  /**
   * Cuts or writes over the model at some moment of a run: the answer is whole, or a sentence and
   * the status say that it is none. EXEUNT_LONG=1 tries more often, with certified heads as well.
   */
  @Test
  void aRunEndsInAnAnswerOrASentence() throws IOException, InterruptedException {
    Path real = TestData.model();
    boolean many = System.getenv("EXEUNT_LONG") != null;
    model = folder.resolve("copy.gguf");
    Files.copy(real, model);
    long start = System.nanoTime();
    Result whole = generate(null, 0);
    long millis = (System.nanoTime() - start) / 1_000_000;
    assertEquals(0, whole.status, whole.log);
    Random random = new Random(5);
    int said = 0;
    int trials = many ? 60 : Boolean.getBoolean("exeunt.quick") ? 3 : 14;
    for (int trial = 0; trial < trials; trial++) {
      Files.copy(real, model, StandardCopyOption.REPLACE_EXISTING);
      boolean cuts = trial % 3 != 2;
      long left = (long) (random.nextDouble() * Files.size(model));
      long moment = millis * (trial + 1) / (trials + 2);
      Random other = new Random(trial);
      List<String> options = new ArrayList<>(List.of("--threads", trial % 2 == 0 ? "1" : "2"));
      if (many && trial % 4 == 3) {
        options.addAll(List.of("--head", "certified"));
      }
      Result result = generate(() -> {
        try {
          if (cuts) {
            cut(model, left);
          } else {
            overwrite(model, other);
          }
        } catch (IOException e) {
          throw new UncheckedIOException(e);
        }
      }, moment, options.toArray(String[] ::new));
      String all = "trial " + trial + " after " + moment + " ms: " + result;
      if (result.status == 0) {
        assertEquals(whole.out, result.out, all);
        assertEquals("", result.log, all);
        continue;
      }
      said++;
      List<String> lines = result.log.lines().toList();
      assertEquals(1, lines.size(), all);
      assertTrue(lines.get(0).startsWith("generate: " + model), all);
      // A file that was damaged before it was opened cannot be told from one that always was.
      boolean before = result.status == 2 && result.out.isEmpty();
      assertTrue(
          before || result.status == 1 && lines.get(0).contains(" while it was in use: "), all);
    }
    assertFalse(Files.exists(folder.resolve("hs_err.log")));
    assertTrue(said >= trials / 2, said + " of " + trials);
  }

  private List<Path> kept() throws IOException {
    Path cache = folder.resolve("cache").resolve("exeunt");
    try (Stream<Path> files = Files.list(cache)) {
      return files.filter(file -> file.toString().contains(".screen")).toList();
    }
  }

  /** The program's own kept head: damaged, of a model of equal size and date, and with no room. */
  @Test
  void aCertifiedHeadIsUsedOnlyForItsOwn() throws IOException, InterruptedException {
    String[] certified = {"--raw", "--prompt", "abcabc", "--stats", "--head", "certified"};
    String[] full = Arrays.copyOf(certified, 3);
    Result first = generate(null, 0, certified);
    assertEquals(0, first.status, first.log);
    assertEquals(generate(null, 0, full).out, first.out);
    assertEquals(1, kept().size());
    byte[] whole = Files.readAllBytes(kept().get(0));
    byte[] damaged = whole.clone();
    Arrays.fill(damaged, whole.length / 2, whole.length / 2 + 600, (byte) 0);
    Files.write(kept().get(0), damaged);
    Result again = generate(null, 0, certified);
    assertEquals(0, again.status, again.log);
    assertEquals(first.out, again.out);
    assertTrue(again.log.startsWith("making the certified head anew: "), again.log);
    assertTrue(again.log.contains("certified without the whole head: "), again.log);
    assertArrayEquals(whole, Files.readAllBytes(kept().get(0)));

    FileTime date = Files.getLastModifiedTime(model);
    Path other = folder.resolve("other.gguf");
    List<TinyModel.Weight> weights = new ArrayList<>();
    for (TinyModel.Weight weight : TinyModel.weights()) {
      float[] values = weight.values().clone();
      for (int i = 0; i < values.length && weight.name().equals("token_embd.weight"); i++) {
        values[i] = weight.values()[values.length - 1 - i];
      }
      weights.add(new TinyModel.Weight(weight.name(), weight.rows(), weight.columns(), values));
    }
    TinyModel.writeWeights(other, TinyModel.metadata(), weights);
    assertEquals(Files.size(model), Files.size(other));
    Files.move(other, model, StandardCopyOption.REPLACE_EXISTING);
    Files.setLastModifiedTime(model, date);
    Result exchanged = generate(null, 0, certified);
    assertEquals(0, exchanged.status, exchanged.log);
    assertEquals(generate(null, 0, full).out, exchanged.out);
    assertTrue(exchanged.log.contains("was made of another head"), exchanged.log);
    assertEquals(1, kept().size());

    Files.delete(kept().get(0));
    limit = List.of("bash", "-c", "ulimit -f 6 && exec \"$0\" \"$@\"");
    Result small = generate(null, 0, certified);
    assertEquals(0, small.status, small.log);
    assertEquals(exchanged.out, small.out);
    assertTrue(
        small.log.startsWith("the certified head cannot be kept, and is made anew each time: "
            + "File too large"),
        small.log);
    assertEquals(List.of(), kept());
  }
}
