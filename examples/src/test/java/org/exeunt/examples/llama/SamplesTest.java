// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.StopRule;
import org.exeunt.Tensor;
import org.exeunt.examples.gguf.GgufFile;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Samples and branches of one prompt, on a model with random weights. */
class SamplesTest {
  private static final int CAPACITY = 80;
  private static final int END = 0;
  private static final int[] PROMPT = {3, 1, 4, 1, 5, 9, 2, 6};

  @TempDir static Path folder;
  private static LlamaWeights weights;

  @BeforeAll
  static void load() throws IOException {
    try (GgufFile file = GgufFile.open(TinyModel.write(folder.resolve("tiny.gguf")))) {
      weights = LlamaWeights.load(file, DType.F32);
    }
  }

  @AfterAll
  static void close() {
    weights.close();
  }

  private static Decoder decoder(int sequences) {
    return new Decoder(weights, DecoderOptions.FULL.withLogits(), sequences, CAPACITY);
  }

  private static Sampling sampling(int samples, boolean branches, String stop) {
    return new Sampling(
        1.5f, 1, 11, 0, samples, branches, StopRule.Finish.FIRST, StopRule.Choice.FIRST)
        .withStop("--stop", stop);
  }

  /** What an answer draws until it ends, its end included. */
  private static int[] tokens(Answer answer, int most) {
    List<Integer> drawn = new ArrayList<>();
    answer.begin(PROMPT);
    while (drawn.size() < most && (drawn.isEmpty() || last(drawn) != END)) {
      if (!drawn.isEmpty()) {
        answer.goOn();
      }
      drawn.add(answer.next());
    }
    return drawn.stream().mapToInt(Integer::intValue).toArray();
  }

  private static int last(List<Integer> list) {
    return list.get(list.size() - 1);
  }

  // ---- forks

  private static void assertSameSequences(Decoder one, int a, Decoder other, int b) {
    assertEquals(one.position(a), other.position(b));
    assertArrayEquals(one.logits().row(a).toFloatArray(), other.logits().row(b).toFloatArray());
    assertEquals(one.argmax(a), other.argmax(b));
    for (int l = 0; l < TinyModel.LAYERS; l++) {
      int length = one.kv().length(l, a);
      assertEquals(length, other.kv().length(l, b));
      for (boolean keys : new boolean[] {true, false}) {
        assertArrayEquals(known(one, l, a, length, keys), known(other, l, b, length, keys));
      }
    }
  }

  private static float[] known(Decoder decoder, int layer, int sequence, int length, boolean keys) {
    Tensor cache = keys ? decoder.kv().cache(layer).k() : decoder.kv().cache(layer).v();
    return cache.row(sequence).slice(1, 0, length).toFloatArray();
  }

  /** Sequences that are forked, go their ways, and of which one is forked again, at random. */
  @Test
  void forksAreWhatTheyWereForkedFrom() {
    Random random = new Random(5);
    int count = 4;
    try (Decoder decoder = decoder(count)) {
      List<List<Integer>> texts = new ArrayList<>();
      for (int s = 0; s < count; s++) {
        texts.add(new ArrayList<>());
      }
      IntStream.of(PROMPT).forEach(texts.get(2)::add);
      decoder.prefill(2, PROMPT);
      int home = 2;
      for (int round = 0; round < 12; round++) {
        int from = home;
        int[] to =
            IntStream.range(0, count)
                .filter(s -> s != from && (random.nextBoolean() || s == 0))
                .toArray();
        decoder.fork(from, to);
        for (int s : to) {
          texts.set(s, new ArrayList<>(texts.get(from)));
          assertSameSequences(decoder, from, decoder, s);
        }
        for (int step = 0; step < random.nextInt(4); step++) {
          int[] ids = new int[count];
          Arrays.fill(ids, -1);
          IntStream.concat(IntStream.of(from), IntStream.of(to)).forEach(s -> {
            if (s == from || random.nextBoolean()) {
              ids[s] = random.nextInt(24);
              texts.get(s).add(ids[s]);
            }
          });
          decoder.step(ids);
        }
        if (to.length > 0) {
          home = to[random.nextInt(to.length)];
        }
        try (Decoder alone = decoder(1)) {
          List<Integer> text = texts.get(home);
          alone.prefill(0, text.subList(0, PROMPT.length).stream().mapToInt(i -> i).toArray());
          text.subList(PROMPT.length, text.size()).forEach(alone::step);
          assertSameSequences(alone, 0, decoder, home);
        }
      }
    }
  }

  @Test
  void senselessForksAndStepsAreRefused() {
    try (Decoder decoder = decoder(3)) {
      refused(() -> decoder.fork(0, 1), "sequence 0 with 0 tokens");
      decoder.prefill(0, PROMPT);
      refused(() -> decoder.fork(0, 1, 0), "to sequence 0");
      refused(() -> decoder.step(-1, -1, -1), "0 of 3");
      assertEquals(PROMPT.length, decoder.position(0));
    }
    DecoderOptions exits = DecoderOptions.FULL.withExit(
        ExitPolicy.parse("threshold:0.5", null, TinyModel.LAYERS), KvPolicy.PROPAGATE);
    try (Decoder decoder = new Decoder(weights, exits, 2, CAPACITY)) {
      decoder.prefill(0, PROMPT);
      decoder.prefill(1, PROMPT);
      refused(() -> decoder.step(1, -1), "1 of 2", "exit rule");
    }
  }

  // ---- samples

  /** Each sample as one answer alone draws it, whose seed is the sample's. */
  private static List<int[]> alone(int samples, int most) {
    List<int[]> all = new ArrayList<>();
    for (int s = 0; s < samples; s++) {
      Sampler sampler =
          new Sampler(weights.config().vocabulary(), 1.5, 1, 11 + s * 0x9e3779b97f4a7c15L);
      try (Answer answer = new HostAnswer(decoder(1), sampler)) {
        all.add(tokens(answer, most));
      }
    }
    return all;
  }

  @Test
  void theFirstToFinishIsTheAnswer() {
    int samples = 6;
    int most = 40;
    List<int[]> all = alone(samples, most);
    int winner =
        IntStream.range(0, samples)
            .filter(s -> last(all.get(s)) == END)
            .boxed()
            .min((a, b) -> all.get(a).length - all.get(b).length)
            .orElse(0);
    try (Answer answer =
             new SampledAnswer(decoder(samples), sampling(samples, false, "first"), ends(), most)) {
      assertArrayEquals(all.get(winner), tokens(answer, most));
      // All of them stop there.
      assertEquals(PROMPT.length + all.get(winner).length - 1, answer.position());
    }
  }

  private static int last(int... tokens) {
    return tokens[tokens.length - 1];
  }

  private static int[] ends() {
    return new int[] {END};
  }

  /** The mean of ln p at the temperature, in double. */
  private static double score(boolean certainty, int... tokens) {
    double sum = 0;
    try (Decoder decoder = decoder(1)) {
      decoder.prefill(0, PROMPT);
      for (int i = 0; i < tokens.length; i++) {
        float[] z = decoder.logits().row(0).toFloatArray();
        double all = 0;
        double mean = 0;
        for (float logit : z) {
          all += Math.exp(logit / 1.5);
          mean += logit / 1.5 / z.length;
        }
        double lse = Math.log(all);
        sum += certainty ? lse - mean - Math.log(z.length) : z[tokens[i]] / 1.5 - lse;
        if (i + 1 < tokens.length) {
          decoder.step(tokens[i]);
        }
      }
    }
    return sum / tokens.length;
  }

  @Test
  void theBestOfAllIsTheAnswer() {
    int samples = 5;
    int most = 20;
    List<int[]> all = alone(samples, most);
    List<Integer> winners = new ArrayList<>();
    for (boolean certainty : new boolean[] {false, true}) {
      int best =
          IntStream.range(0, samples)
              .boxed()
              .max(
                  (a, b)
                      -> Double.compare(score(certainty, all.get(a)), score(certainty, all.get(b))))
              .orElseThrow();
      winners.add(best);
      Sampling sampling = sampling(samples, false, certainty ? "certainty" : "perplexity");
      try (Answer answer = new SampledAnswer(decoder(samples), sampling, ends(), most)) {
        assertArrayEquals(all.get(best), tokens(answer, most));
      }
    }
    assertTrue(winners.stream().anyMatch(winner -> winner > 0), "the first sample is no choice");
  }

  // ---- branches

  @Test
  void oneBranchIsAnOrdinaryAnswer() {
    try (Answer answer = new BranchedAnswer(
             decoder(1), sampling(1, true, "first"), ends(), new int[] {7, 12})) {
      assertArrayEquals(alone(1, 30).get(0), tokens(answer, 30));
    }
  }

  /** Whatever was tried, what stays is one text, and its cache is that text's. */
  @Test
  void whatStaysIsOneText() {
    int most = 40;
    int[] marks = {2, 7, 12, 17};
    int[] plain = alone(1, most).get(0);
    try (Decoder decoder = decoder(4)) {
      BranchedAnswer answer =
          new BranchedAnswer(decoder, sampling(4, true, "first"), ends(), marks);
      int[] drawn = tokens(answer, most);
      assertNotEquals(Arrays.toString(plain), Arrays.toString(drawn));
      int position = answer.position();
      assertTrue(answer.work().tokens() > position - PROMPT.length, "nothing was tried");
      int home =
          IntStream.range(0, 4)
              .filter(s -> decoder.position(s) == position)
              .filter(s -> sameAsAlone(decoder, s, position, drawn))
              .findFirst()
              .orElse(-1);
      assertTrue(home >= 0, "no sequence holds " + Arrays.toString(drawn));
    }
    try (Answer again = new BranchedAnswer(decoder(4), sampling(4, true, "first"), ends(), marks)) {
      assertTrue(tokens(again, most).length > 0);
    }
  }

  private static boolean sameAsAlone(Decoder decoder, int sequence, int position, int... drawn) {
    int known = Math.min(position, PROMPT.length + drawn.length);
    try (Decoder alone = decoder(1)) {
      alone.prefill(0, PROMPT);
      for (int i = 0; i < known - PROMPT.length; i++) {
        alone.step(drawn[i]);
      }
      for (int l = 0; l < TinyModel.LAYERS; l++) {
        if (!Arrays.equals(
                known(alone, l, 0, known, true), known(decoder, l, sequence, known, true))) {
          return false;
        }
      }
    }
    return true;
  }

  @Test
  void aBiasEndsAnswersSooner() {
    int ended = 0;
    Sampling eager =
        new Sampling(1.5f, 1, 11, 50, 1, true, StopRule.Finish.FIRST, StopRule.Choice.FIRST);
    try (Answer answer = new BranchedAnswer(decoder(1), eager, ends(), new int[0])) {
      ended = tokens(answer, 30).length;
    }
    assertEquals(1, ended);
  }

  private static void refused(Runnable call, String... words) {
    String message = assertThrows(IllegalArgumentException.class, call::run).getMessage();
    for (String word : words) {
      assertTrue(message.contains(word), word + " in: " + message);
    }
  }
}
