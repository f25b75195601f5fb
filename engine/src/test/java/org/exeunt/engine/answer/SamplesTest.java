// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.answer;

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
import org.exeunt.Tensor;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.decode.Sampler;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.policy.ExitPolicy;
import org.exeunt.engine.policy.KvPolicy;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Samples and branches of one prompt, on a model with random weights. */
class SamplesTest {
  private static final int CAPACITY = 80;
  private static final int END = 0;
  private static final long SEED = 11;
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
    return sampling(samples, branches, stop, SEED);
  }

  private static Sampling sampling(int samples, boolean branches, String stop, long seed) {
    Sampling sampling = Sampling.of(1.5f, 1, seed, samples).withStop("--stop", stop);
    return branches ? sampling.asBranches() : sampling;
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

  /** Of sequences that have gone different ways, some go on in a decoder of their own. */
  @Test
  void narrowedDecodersGoOnAsBefore() {
    List<List<Integer>> texts = new ArrayList<>();
    Decoder decoder = decoder(4);
    try {
      decoder.prefill(0, PROMPT);
      decoder.fork(0, 1, 2, 3);
      for (int s = 0; s < 4; s++) {
        texts.add(new ArrayList<>());
      }
      for (int step = 0; step < 6; step++) {
        int[] ids = new int[4];
        for (int s = 0; s < 4; s++) {
          ids[s] = step < 6 - s ? (5 * step + 7 * s) % 23 + 1 : -1;
          if (ids[s] >= 0) {
            texts.get(s).add(ids[s]);
          }
        }
        decoder.step(ids);
      }
      Decoder wide = decoder;
      refused(() -> wide.narrowed(), "[] of 4");
      refused(() -> wide.narrowed(1, 1), "[1, 1]");
      refused(() -> wide.narrowed(4), "[4] of 4");
      decoder = decoder.narrowed(3, 1);
      assertEquals(2, decoder.sequences());
      decoder.step(20, 21);
      decoder = decoder.narrowed(1);
      decoder.step(22);
      decoder.fork(0);
      try (Decoder alone = decoder(1)) {
        alone.prefill(0, PROMPT);
        texts.get(1).forEach(alone::step);
        alone.step(21);
        alone.step(22);
        assertSameSequences(alone, 0, decoder, 0);
      }
      // Counted as the steps of one decoder.
      assertEquals(6 + 5 + 4 + 3 + 2 + 1, decoder.work().tokens());
    } finally {
      decoder.close();
    }
    DecoderOptions exits = DecoderOptions.FULL.withExit(
        ExitPolicy.parse("threshold:0.5", null, TinyModel.LAYERS), KvPolicy.PROPAGATE);
    try (Decoder judged = new Decoder(weights, exits, 2, CAPACITY)) {
      refused(() -> judged.narrowed(0), "exit rule");
    }
  }

  // ---- samples

  /** Each sample as one answer alone draws it, whose seed is the sample's. */
  private static List<int[]> alone(int samples, int most) {
    return alone(samples, most, SEED);
  }

  private static List<int[]> alone(int samples, int most, long seed) {
    List<int[]> all = new ArrayList<>();
    for (int s = 0; s < samples; s++) {
      Sampler sampler = new Sampler(
          weights.config().vocabulary(), 1.5, 1, sampling(samples, false, "first", seed).seed(s));
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
    try (Answer answer = sampled(sampling(samples, false, "first"), most)) {
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

  private static Answer sampled(Sampling sampling, int most) {
    return new SampledAnswer(decoder(sampling.samples()), sampling, ends(), most, Arrays::toString);
  }

  /** Whom the head is asked about, if decoders are narrowed once half of their sequences have ended. */
  private static int rowsOfSteps(List<int[]> all, int most) {
    int rows = all.size();
    int sum = 0;
    for (int drawn = 1; drawn < most; drawn++) {
      int behind = drawn;
      int going = (int) all.stream().filter(tokens -> tokens.length > behind).count();
      rows = 2 * going <= rows ? going : rows;
      sum += rows;
    }
    return sum;
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
      try (Answer answer = sampled(sampling, most)) {
        assertArrayEquals(all.get(best), tokens(answer, most));
        assertEquals(rowsOfSteps(all, most), answer.work().rowsAsked());
      }
    }
    assertTrue(winners.stream().anyMatch(winner -> winner > 0), "the first sample is no choice");
  }

  /** What a vote is held about here: whether a sample, without its end, has an even length. */
  private static String parity(int... tokens) {
    return "so:\n" + (tokens.length % 2 == 0 ? "Even." : " odd");
  }

  /** The parity that a vote is for, rank by rank as the authors have it. */
  private static boolean evenWins(double[] certainty, List<int[]> all, double power) {
    Integer[] ranked = IntStream.range(0, certainty.length).boxed().toArray(Integer[] ::new);
    Arrays.sort(ranked, (a, b) -> Double.compare(certainty[b], certainty[a]));
    double even = 0;
    double odd = 0;
    for (int rank = 0; rank < ranked.length; rank++) {
      int[] tokens = all.get(ranked[rank]);
      double vote = last(tokens) == END ? Math.pow(ranked.length - rank, power) : 0;
      even += tokens.length % 2 == 1 ? vote : 0; // its end is not part of it
      odd += tokens.length % 2 == 1 ? 0 : vote;
    }
    return even > odd;
  }

  @Test
  void samplesVoteByTheirRanks() {
    int samples = 7;
    int most = 30;
    long seed = 6; // by which the sure ones are few
    List<int[]> all = alone(samples, most, seed);
    double[] certainty = all.stream().mapToDouble(tokens -> score(true, tokens)).toArray();
    List<Boolean> verdicts = new ArrayList<>();
    for (double power : new double[] {0, .5, 1, 2, 20}) {
      boolean even = evenWins(certainty, all, power);
      verdicts.add(even);
      int best =
          IntStream.range(0, samples)
              .filter(s -> last(all.get(s)) == END && all.get(s).length % 2 == (even ? 1 : 0))
              .boxed()
              .max((a, b) -> Double.compare(certainty[a], certainty[b]))
              .orElseThrow();
      Sampling sampling = sampling(samples, false, "borda:" + power, seed);
      try (Answer answer =
               new SampledAnswer(decoder(samples), sampling, ends(), most, SamplesTest::parity)) {
        assertArrayEquals(all.get(best), tokens(answer, most), "power " + power);
      }
    }
    assertTrue(verdicts.contains(true) && verdicts.contains(false), "powers make no difference");
  }

  @Test
  void whatAnswersComeTo() {
    assertEquals("42", FinalAnswer.of("First 41.\n#### 40\nso \\boxed{ 42 }."));
    assertEquals("\\frac{1}{2}", FinalAnswer.of("\\boxed{3} or \\boxed{\\frac{1}{2}} it is"));
    assertEquals("40", FinalAnswer.of("First 41.\n#### 40."));
    assertEquals("it is paris", FinalAnswer.of("Let me see\nIt is\t Paris!\n\n"));
    assertEquals("open \\boxed{1", FinalAnswer.of("open \\boxed{1"));
    assertEquals(null, FinalAnswer.of(" \n ..."));
  }

  /** Samples whose tokens are too improbable, ends included, neither win nor end others. */
  @Test
  void whoeverIsNotSureAbstains() {
    int samples = 7;
    int most = 40;
    long seed = 9; // by which the first to finish is the least sure
    List<int[]> all = alone(samples, most, seed);
    double[] sure = all.stream().mapToDouble(tokens -> Math.exp(score(false, tokens))).toArray();
    double[] sorted = Arrays.stream(sure).sorted().toArray();
    List<Integer> winners = new ArrayList<>();
    for (int abstain = 1; abstain < samples; abstain++) {
      float below = (float) ((sorted[abstain - 1] + sorted[abstain]) / 2);
      int winner =
          IntStream.range(0, samples)
              .filter(s -> last(all.get(s)) == END && sure[s] >= below)
              .boxed()
              .min((a, b) -> all.get(a).length - all.get(b).length)
              .orElse(IntStream.range(0, samples).filter(s -> sure[s] >= below).min().orElse(-1));
      winners.add(winner);
      try (Answer answer =
               sampled(sampling(samples, false, "first", seed).withAbstention(below), most)) {
        assertArrayEquals(all.get(winner), tokens(answer, most), abstain + " abstain");
        assertEquals(false, answer.abstained());
      }
    }
    assertTrue(winners.stream().distinct().count() > 1, "abstentions make no difference");
    float none = (float) (sorted[samples - 1] * 1.01);
    for (String stop : new String[] {"first", "certainty", "borda:1"}) {
      try (Answer answer =
               sampled(sampling(samples, false, stop, seed).withAbstention(none), most)) {
        answer.begin(PROMPT);
        assertEquals(Answer.ENDED, answer.next());
        assertTrue(answer.abstained(), stop);
      }
    }
  }

  // ---- probes

  private static final int[] QUESTION = {5, 9};

  /** How sure a model is after the prompt and some tokens: of words, or of what it answers. */
  private static double sureness(int[] words, int trial, int end, int... tokens) {
    try (Decoder decoder = decoder(1)) {
      decoder.prefill(0, PROMPT);
      IntStream.of(tokens).forEach(decoder::step);
      IntStream.of(QUESTION).forEach(decoder::step);
      if (words.length > 0) {
        double[] p = probabilities(decoder);
        return IntStream.of(words).mapToDouble(word -> p[word]).sum();
      }
      double sum = 0;
      for (int i = 1;; i++) {
        int next = decoder.argmax(0);
        sum += Math.log(probabilities(decoder)[next]);
        if (i == trial || next == end) {
          return Math.exp(sum / i);
        }
        decoder.step(next);
      }
    }
  }

  private static double[] probabilities(Decoder decoder) {
    float[] z = decoder.logits().row(0).toFloatArray();
    double[] p = new double[z.length];
    Arrays.setAll(p, i -> Math.exp(z[i]));
    double all = Arrays.stream(p).sum();
    return Arrays.stream(p).map(e -> e / all).toArray();
  }

  private static Sampler sampler(boolean draws) {
    return draws ? new Sampler(weights.config().vocabulary(), 1.5, 1, 4) : null;
  }

  @Test
  void anAnswerIsOverOnceTheModelIsSure() {
    int every = 4;
    int late = 0;
    for (boolean draws : new boolean[] {false, true}) {
      int[] plain = new int[30];
      try (Answer answer = new HostAnswer(decoder(1), sampler(draws))) {
        answer.begin(PROMPT);
        for (int i = 0; i < plain.length; i++) {
          plain[i] = answer.next();
          answer.goOn();
        }
      }
      int end =
          IntStream.range(0, 24)
              .filter(id -> IntStream.of(plain).noneMatch(token -> token == id))
              .findFirst()
              .orElseThrow();
      for (int[] words : new int[][] {{3, 7, 11}, {}}) {
        double[] sure = new double[(plain.length - 1) / every];
        Arrays.setAll(sure, i -> sureness(words, 3, end, Arrays.copyOf(plain, (i + 1) * every)));
        int best = extreme(1, sure);
        int worst = extreme(-1, sure);
        late += best + worst;
        double before = Arrays.stream(sure, 0, best).max().orElse(0);
        assertEnds(plain, (best + 1) * every, end, draws,
            new Probe((float) ((sure[best] + before) / 2), 0, every, 3, QUESTION, words));
        before = Arrays.stream(sure, 0, worst).min().orElse(1);
        assertEnds(plain, -(worst + 1) * every, end, draws,
            new Probe(1, (float) ((sure[worst] + before) / 2), every, 3, QUESTION, words));
        double most = Arrays.stream(sure).max().orElseThrow();
        assertNotDisturbed(
            plain, end, draws, new Probe(1, 0, every, 3, QUESTION, words), sure.length, most);
      }
    }
    assertTrue(late > 0, "the first time it is asked decides");
  }

  /** Where the largest is, or with -1 the smallest. */
  private static int extreme(int sign, double... values) {
    return IntStream.range(0, values.length)
        .boxed()
        .max((a, b) -> Double.compare(sign * values[a], sign * values[b]))
        .orElseThrow();
  }

  /** @param length tokens until the model is sure; negative: until it is too unsure */
  private static void assertEnds(int[] plain, int length, int end, boolean draws, Probe probe) {
    int count = Math.abs(length);
    try (ProbedAnswer answer =
             new ProbedAnswer(decoder(1), sampler(draws), probe, token -> token == end)) {
      answer.begin(PROMPT);
      for (int i = 0; i < count; i++) {
        assertEquals(plain[i], answer.next(), "token " + i + " of " + count);
        answer.goOn();
      }
      assertEquals(Answer.ENDED, answer.next());
      assertEquals(length < 0, answer.abstained());
      assertEquals(length > 0, answer.isConfident());
      assertEquals(PROMPT.length + count, answer.position());
    }
  }

  /** Nobody can tell from the tokens, nor from keys and values, that there were probes. */
  private static void assertNotDisturbed(
      int[] plain, int end, boolean draws, Probe probe, int asked, double surest) {
    try (Decoder decoder = decoder(1); Decoder alone = decoder(1)) {
      ProbedAnswer answer = new ProbedAnswer(decoder, sampler(draws), probe, token -> token == end);
      answer.begin(PROMPT);
      for (int token : plain) {
        assertEquals(token, answer.next());
        answer.goOn();
      }
      alone.prefill(0, PROMPT);
      IntStream.of(plain).forEach(alone::step);
      assertSameSequences(alone, 0, decoder, 0);
      assertEquals(asked, answer.asked());
      assertEquals(surest, answer.surest(), 1e-5);
    }
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
    Sampling eager = sampling(1, true, "first").withEndBias(50);
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
