// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.function.IntUnaryOperator;
import java.util.stream.IntStream;
import org.exeunt.AttentionScores;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.PromptDistill;
import org.exeunt.SnapKv;
import org.exeunt.Tensor;
import org.exeunt.engine.drop.PromptDrop;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.policy.ExitPolicy;
import org.exeunt.engine.policy.FfnSkip;
import org.exeunt.engine.policy.KvPolicy;
import org.exeunt.engine.policy.Schedule;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What must hold for any model, on one with random weights; equal means equal bit for bit. */
class DecoderTest {
  private static final int CAPACITY = 64;
  private static final int STEPS = 20;
  private static final int VOCABULARY = 24;
  private static final int WIDTH = 32;

  /** Mixed depths, none of them special. */
  private static final IntUnaryOperator DEPTHS =
      position -> 1 + (position * 7 + position / 3) % TinyModel.LAYERS;

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

  private static int[] tokens(int count, int seed) {
    return new Random(seed).ints(count, 0, VOCABULARY).toArray();
  }

  /** What is left of one sequence: the logits of every step, and all keys and values. */
  private record Remains(List<float[]> logits, List<float[]> keysAndValues) {
    static Remains of(Decoder decoder, int sequence, List<float[]> logits) {
      List<float[]> kv = new ArrayList<>();
      for (int l = 0; l < TinyModel.LAYERS; l++) {
        int length = decoder.kv().length(l, sequence);
        kv.add(known(decoder.kv().cache(l).k(), sequence, length));
        kv.add(known(decoder.kv().cache(l).v(), sequence, length));
      }
      return new Remains(logits, kv);
    }

    private static float[] known(Tensor cache, int sequence, int length) {
      return cache.row(sequence).slice(1, 0, length).toFloatArray();
    }

    void assertSame(Remains other) {
      assertSameKeysAndValues(other);
      assertEquals(logits.size(), other.logits.size());
      for (int step = 0; step < logits.size(); step++) {
        assertArrayEquals(logits.get(step), other.logits.get(step), "logits of step " + step);
      }
    }

    void assertSameKeysAndValues(Remains other) {
      for (int i = 0; i < keysAndValues.size(); i++) {
        assertArrayEquals(keysAndValues.get(i), other.keysAndValues.get(i),
            (i % 2 == 0 ? "keys" : "values") + " of layer " + i / 2);
      }
    }
  }

  /** Runs prompts of different lengths, then the same number of steps for all of them. */
  private static List<Remains> run(DecoderOptions options, boolean finish, int... seeds) {
    int count = seeds.length;
    List<List<float[]>> logits = new ArrayList<>();
    try (Decoder decoder = new Decoder(weights, options.withLogits(), count, CAPACITY)) {
      for (int s = 0; s < count; s++) {
        logits.add(new ArrayList<>());
        decoder.prefill(s, tokens(3 + seeds[s], seeds[s]));
      }
      for (int step = 0; step < STEPS; step++) {
        int at = step;
        decoder.step(
            IntStream.range(0, count).map(s -> tokens(STEPS, 100 + seeds[s])[at]).toArray());
        for (int s = 0; s < count; s++) {
          logits.get(s).add(decoder.logits().row(s).toFloatArray());
        }
      }
      if (finish) {
        decoder.finish();
      }
      return IntStream.range(0, count)
          .mapToObj(s -> Remains.of(decoder, s, logits.get(s)))
          .toList();
    }
  }

  @ParameterizedTest
  @EnumSource
  void aBatchOfMixedExitsEqualsItsSequencesOneByOne(KvPolicy policy) {
    DecoderOptions mixed = DecoderOptions.FULL.withExit(ExitPolicy.fixed(DEPTHS), policy);
    int[] seeds = {1, 4, 5, 9, 12};
    List<Remains> batch = run(mixed, true, seeds);
    for (int s = 0; s < seeds.length; s++) {
      run(mixed, true, seeds[s]).get(0).assertSame(batch.get(s));
    }
  }

  /** Rules decide from what the head finds; here they decide differently from row to row. */
  @ParameterizedTest
  @EnumSource
  void rulesDecideForEachSequenceOnItsOwn(KvPolicy policy) {
    for (String rule :
        new String[] {"threshold:0.2", "calm:0.2,4,3", "margin:0.1", "entropy:2.6", "patience:1"}) {
      DecoderOptions options =
          DecoderOptions.FULL.withExit(ExitPolicy.parse(rule, "1,1", TinyModel.LAYERS), policy);
      List<Remains> batch = run(options, true, 2, 3, 6);
      for (int s = 0; s < 3; s++) {
        run(options, true, new int[] {2, 3, 6}[s]).get(0).assertSame(batch.get(s));
      }
    }
  }

  /** The depths at which tokens leave: of two prompts and their answers, one after the other. */
  private static List<int[]> exits(String rule) {
    DecoderOptions options = DecoderOptions.FULL.withExit(
        ExitPolicy.parse(rule, "1,1", TinyModel.LAYERS), KvPolicy.RECOMPUTE);
    List<int[]> depths = new ArrayList<>();
    int[] sequences = IntStream.range(0, 12).toArray();
    try (Decoder decoder = new Decoder(weights, options, sequences.length, CAPACITY)) {
      for (int answer = 0; answer < 2; answer++) {
        for (int s : sequences) {
          decoder.prefill(s, tokens(3 + s, s));
        }
        for (int step = 0; step < 4; step++) {
          decoder.step(tokens(sequences.length, step));
          depths.add(IntStream.of(sequences).map(decoder::exitDepth).toArray());
        }
      }
    }
    return depths;
  }

  /** It is the first token's alone if it falls at once; exact keys make the others comparable. */
  @Test
  void calmsThresholdFallsAlongEachAnswer() {
    List<int[]> before = exits("threshold:0.2");
    List<int[]> after = exits("threshold:0.18");
    List<int[]> calm = exits("calm:0.2,100,1");
    List<int[]> steady = exits("calm:0.2,0,1");
    for (int i = 0; i < before.size(); i++) {
      assertTrue(!Arrays.equals(before.get(i), after.get(i)), "nothing to tell them apart by");
      assertArrayEquals((i % 4 == 0 ? before : after).get(i), calm.get(i), "token " + i);
      assertArrayEquals(before.get(i), steady.get(i), "token " + i);
    }
  }

  @Test
  void recomputedKeysAndValuesAreThoseOfFullDepth() {
    int[] seeds = {2, 7, 8};
    List<Remains> full = run(DecoderOptions.FULL, false, seeds);
    List<Remains> recomputed = run(
        DecoderOptions.FULL.withExit(ExitPolicy.fixed(DEPTHS), KvPolicy.RECOMPUTE), true, seeds);
    for (int s = 0; s < seeds.length; s++) {
      recomputed.get(s).assertSameKeysAndValues(full.get(s));
    }
  }

  /** More tokens leave in a row than may wait, so that some have to run in full. */
  @Test
  void tokensThatAlwaysLeaveAreRecomputedInTime() {
    DecoderOptions early =
        DecoderOptions.FULL.withExit(ExitPolicy.fixed(position -> 2), KvPolicy.RECOMPUTE);
    int[] prompt = tokens(4, 1);
    int[] rest = tokens(CAPACITY - 4, 2);
    try (Decoder decoder = new Decoder(weights, early, 1, CAPACITY);
        Decoder full = new Decoder(weights, DecoderOptions.FULL, 1, CAPACITY)) {
      decoder.prefill(0, prompt);
      full.prefill(0, prompt);
      full.prefill(0, rest);
      int deepest = 0;
      for (int token : rest) {
        decoder.step(token);
        deepest = Math.max(deepest, decoder.exitDepth(0));
      }
      assertEquals(TinyModel.LAYERS, deepest);
      decoder.finish();
      Remains.of(full, 0, List.of()).assertSameKeysAndValues(Remains.of(decoder, 0, List.of()));
    }
  }

  @Test
  void layersThatATokenSkippedAreShorterWithoutPropagation() {
    int[] expected = new int[TinyModel.LAYERS];
    for (int l = 0; l < TinyModel.LAYERS; l++) {
      int layer = l;
      expected[l] =
          5 + (int) IntStream.range(5, 5 + STEPS).filter(p -> DEPTHS.applyAsInt(p) > layer).count();
    }
    List<Remains> none =
        run(DecoderOptions.FULL.withExit(ExitPolicy.fixed(DEPTHS), KvPolicy.NONE), false, 2);
    List<Remains> propagated =
        run(DecoderOptions.FULL.withExit(ExitPolicy.fixed(DEPTHS), KvPolicy.PROPAGATE), false, 2);
    for (int l = 0; l < TinyModel.LAYERS; l++) {
      assertEquals(expected[l] * 16, none.get(0).keysAndValues().get(2 * l).length);
      assertEquals((5 + STEPS) * 16, propagated.get(0).keysAndValues().get(2 * l).length);
    }
  }

  @Test
  void aPromptMayComeInPiecesOrTokenByToken() {
    int[] ids = tokens(50, 3);
    float[] whole = logitsAfter(ids.length, ids);
    assertArrayEquals(whole, logitsAfter(1, ids));
    assertArrayEquals(whole, logitsAfter(17, ids));
  }

  private static float[] logitsAfter(int piece, int[] ids) {
    try (Decoder decoder = new Decoder(weights, DecoderOptions.FULL.withLogits(), 1, CAPACITY)) {
      decoder.prefill(0, Arrays.copyOf(ids, piece));
      for (int at = piece; at < ids.length; at += piece) {
        if (piece == 1) {
          decoder.step(ids[at]);
        } else {
          decoder.prefill(0, Arrays.copyOfRange(ids, at, Math.min(ids.length, at + piece)));
        }
      }
      return decoder.logits().row(0).toFloatArray();
    }
  }

  @Test
  void theNumberOfThreadsDoesNotMatter() {
    int before = Backend.threads();
    DecoderOptions options =
        DecoderOptions.FULL.withExit(ExitPolicy.fixed(DEPTHS), KvPolicy.PROPAGATE);
    try {
      Backend.setThreads(1);
      Remains one = run(options, false, 5).get(0);
      Backend.setThreads(3);
      run(options, false, 5).get(0).assertSame(one);
    } finally {
      Backend.setThreads(before);
    }
  }

  /** Blocks that add next to nothing have cosines that round to 1, which proves nothing. */
  @Test
  void aThresholdOfOneSkipsNoBlock() throws IOException {
    List<TinyModel.Weight> parts = TinyModel.weights();
    parts.stream().filter(weight -> weight.name().endsWith("ffn_down.weight")).forEach(weight -> {
      for (int i = 0; i < weight.values().length; i++) {
        weight.values()[i] *= 1e-5f;
      }
    });
    try (GgufFile file = GgufFile.open(
             TinyModel.writeWeights(folder.resolve("still.gguf"), TinyModel.metadata(), parts));
        LlamaWeights still = LlamaWeights.load(file, DType.F32)) {
      for (float threshold : new float[] {0.999f, 1}) {
        FfnSkip skip = new FfnSkip(0, TinyModel.LAYERS, 0, threshold, -1);
        try (Decoder decoder =
                 new Decoder(still, DecoderOptions.FULL.withFfnSkip(skip), 1, CAPACITY)) {
          decoder.prefill(0, tokens(5, 1));
          decoder.step(1);
          assertEquals(threshold < 1 ? 1 : TinyModel.LAYERS, decoder.work().feedForwards());
        }
      }
    }
  }

  private static final String FALLING = "skipdecode:5,1,8,0";

  private static Decoder scheduled(int sequences) {
    Schedule schedule = Schedule.parse(FALLING, TinyModel.LAYERS);
    return new Decoder(
        weights, DecoderOptions.FULL.withSchedule(schedule).withLogits(), sequences, CAPACITY);
  }

  /** The logits of a sequence that goes on after a prompt, alone. */
  private static List<float[]> scheduledAlone(int[] prompt, int... steps) {
    List<float[]> logits = new ArrayList<>();
    try (Decoder decoder = scheduled(1)) {
      decoder.prefill(0, prompt);
      for (int token : steps) {
        decoder.step(token);
        logits.add(decoder.logits().row(0).toFloatArray());
      }
    }
    return logits;
  }

  /**
   * One sequence has begun and needs most layers, the other, before or after it, is about to end and
   * needs few: the first one gets what it gets alone.
   */
  @Test
  void whereSchedulesDifferTheLongestHolds() {
    int[] prompt = tokens(5, 1);
    int[] steps = tokens(4, 2);
    List<float[]> expected = scheduledAlone(prompt, steps);
    for (int fresh = 0; fresh < 2; fresh++) {
      try (Decoder decoder = scheduled(2)) {
        int old = 1 - fresh;
        decoder.prefill(old, tokens(7, 3));
        int[] ids = {-1, -1};
        for (int token : tokens(7, 4)) {
          ids[old] = token;
          decoder.step(ids);
        }
        decoder.prefill(fresh, prompt);
        for (int i = 0; i < steps.length; i++) {
          ids[fresh] = steps[i];
          long before = decoder.work().layers();
          decoder.step(ids);
          assertTrue(decoder.work().layers() - before >= 2 * (4 - i), "too few layers");
          assertArrayEquals(expected.get(i), decoder.logits().row(fresh).toFloatArray(),
              "step " + i + " of sequence " + fresh);
        }
      }
    }
  }

  /** A schedule goes by the length of a prompt, which is another after a restart. */
  @Test
  void aRestartForgetsTheSchedule() {
    int[] steps = tokens(6, 2);
    List<float[]> expected = scheduledAlone(tokens(3, 5), steps);
    try (Decoder decoder = scheduled(1)) {
      decoder.prefill(0, tokens(9, 1));
      decoder.step(1);
      decoder.restart(0);
      decoder.prefill(0, tokens(3, 5));
      for (int i = 0; i < steps.length; i++) {
        decoder.step(steps[i]);
        assertArrayEquals(expected.get(i), decoder.logits().row(0).toFloatArray(), "step " + i);
      }
    }
  }

  @Test
  void aScheduleOfAllLayersChangesNothing() {
    Remains full = run(DecoderOptions.FULL, false, 3).get(0);
    for (String all : new String[] {"unified:5", "fixed:0,1,2,3,4", "skipdecode:5,5,9,2"}) {
      run(DecoderOptions.FULL.withSchedule(Schedule.parse(all, TinyModel.LAYERS)), false, 3)
          .get(0)
          .assertSame(full);
    }
  }

  /** Layers that no token runs cannot be missed: the first token after the prompt knows as much. */
  @Test
  void skipDecodeNeverMissesAnEarlierToken() {
    Schedule schedule = Schedule.parse("skipdecode:4,2,8,1", TinyModel.LAYERS);
    try (Decoder decoder =
             new Decoder(weights, DecoderOptions.FULL.withSchedule(schedule), 1, CAPACITY)) {
      decoder.prefill(0, tokens(6, 1));
      for (int token : tokens(STEPS, 2)) {
        decoder.step(token);
      }
      assertEquals(6 + STEPS, decoder.kv().length(0, 0));
      assertEquals(0, decoder.kv().length(1, 0), "no position runs it");
      assertTrue(decoder.kv().length(2, 0) < decoder.kv().length(3, 0));
      assertEquals(6 + STEPS, decoder.kv().length(4, 0));
      assertTrue(decoder.work().layers() < STEPS * 4);
    }
  }

  @Test
  void skippedBlocksAreCountedAndNotRead() {
    // Any cosine is enough, so that from layer 2 on every block is passed after the warm-up.
    FfnSkip always = new FfnSkip(1, TinyModel.LAYERS, 8, -2, -1);
    try (Decoder decoder =
             new Decoder(weights, DecoderOptions.FULL.withFfnSkip(always), 1, CAPACITY)) {
      decoder.prefill(0, tokens(6, 1));
      for (int token : tokens(4, 2)) {
        decoder.step(token);
      }
      DecodeWork work = decoder.work();
      assertEquals(4 * TinyModel.LAYERS, work.layers());
      assertEquals(2 * TinyModel.LAYERS + 2 * 2, work.feedForwards());
      long blocks = 2 * (TinyModel.LAYERS - 2);
      assertEquals(work.bytesAtFullDepth() - blocks * weights.layers().get(0).feedForwardBytes(),
          work.bytes());
    }
  }

  @Test
  void narrowWeightsGiveNearlyTheSame() throws IOException {
    try (GgufFile file = GgufFile.open(folder.resolve("tiny.gguf"));
        LlamaWeights narrow = LlamaWeights.load(file, DType.BF16);
        Decoder decoder = new Decoder(narrow, DecoderOptions.FULL.withLogits(), 1, CAPACITY)) {
      decoder.prefill(0, tokens(30, 3));
      float[] wide = logitsAfter(30, tokens(30, 3));
      float[] found = decoder.logits().row(0).toFloatArray();
      double error = 0;
      for (int i = 0; i < VOCABULARY; i++) {
        error = Math.max(error, Math.abs(wide[i] - found[i]));
      }
      assertTrue(error < 0.1, "largest error of a logit: " + error);
      assertNotEquals(0, error);
    }
  }

  @Test
  void whatDoesNotFitIsRefused() {
    assertThrows(IllegalArgumentException.class,
        () -> new Decoder(weights, DecoderOptions.FULL, 1, TinyModel.CONTEXT + 1));
    assertThrows(IllegalArgumentException.class,
        ()
            -> new Decoder(weights,
                DecoderOptions.FULL.withExit(ExitPolicy.fixed(p -> 1), KvPolicy.NONE)
                    .withSchedule(p -> null),
                1, 8));
    try (Decoder decoder = new Decoder(weights, DecoderOptions.FULL, 1, 8)) {
      assertThrows(IllegalArgumentException.class, () -> decoder.prefill(0));
      assertThrows(IllegalArgumentException.class, () -> decoder.prefill(0, new int[9]));
      decoder.prefill(0, new int[8]);
      assertThrows(IllegalArgumentException.class, () -> decoder.step(1));
      assertThrows(IllegalArgumentException.class, () -> decoder.step(1, 2));
      assertEquals(8, decoder.position(0));
    }
  }

  @Test
  void aTraceHoldsEveryDepth() {
    int[] ids = tokens(10, 4);
    Trace trace = Trace.of(weights, ids);
    assertEquals(10, trace.tokens());
    assertArrayEquals(
        weights.embedding().rows(ids[9], ids[9] + 1).toFloatArray(), trace.hidden(0, 9));
    assertArrayEquals(Arrays.copyOf(trace.hidden(TinyModel.LAYERS), 6 * WIDTH),
        Trace.of(weights, Arrays.copyOf(ids, 6)).hidden(TinyModel.LAYERS),
        "a prefix does not see what follows");
  }

  // ---- dropping tokens

  private static float[][] continuation(DecoderOptions options, int[] ids, int prompt) {
    float[][] logits = new float[ids.length - prompt + 1][];
    try (Decoder decoder = new Decoder(weights, options.withLogits(), 1, CAPACITY)) {
      decoder.prefill(0, Arrays.copyOf(ids, prompt));
      logits[0] = decoder.logits().row(0).toFloatArray();
      for (int i = prompt; i < ids.length; i++) {
        decoder.step(ids[i]);
        logits[i - prompt + 1] = decoder.logits().row(0).toFloatArray();
      }
    }
    return logits;
  }

  /** Lists that name every token move nothing. */
  @Test
  void keepingEveryTokenChangesNothing() {
    int[] ids = tokens(30, 5);
    float[][] expected = continuation(DecoderOptions.FULL, ids, 24);
    for (String all : List.of("promptdistill:1,24", "gemfilter:2,24", "snapkv:4,24", "h2o:0.5,0.5",
             "fastv:2,0", "pyramiddrop:1,1,3,1")) {
      DecoderOptions options =
          DecoderOptions.FULL.withDrop(PromptDrop.parse(all, TinyModel.LAYERS));
      assertArrayEquals(expected, continuation(options, ids, 24), all);
    }
  }

  /** How many tokens each layer remembers after a prompt of 24. */
  @Test
  void layersRememberWhatWasKept() {
    assertRemembered("none", 24, 24, 24, 24, 24);
    assertRemembered("promptdistill:1,6", 7, 7, 7, 7, 7);
    assertRemembered("promptdistill:1,10,3,4", 11, 11, 11, 11, 5);
    assertRemembered("promptdistill:1,10,3,4:5,0", 24, 24, 11, 11, 5);
    assertRemembered("promptdistill:1,10,3,4:1,-1", 5, 5, 5, 5, 5);
    assertRemembered("gemfilter:2,9", 9, 9, 9, 9, 9);
    assertRemembered("snapkv:4,10", 10, 10, 10, 10, 10);
    assertRemembered("snapkv:4,25", 24, 24, 24, 24, 24);
    assertRemembered("h2o:0.25,0.125", 9, 9, 9, 9, 9);
    assertRemembered("fastv:2,0.5", 24, 24, 13, 13, 13);
    assertRemembered("pyramiddrop:1,0.5,3,0.25", 24, 12, 12, 6, 6);
  }

  private static void assertRemembered(String drop, int... lengths) {
    DecoderOptions options = DecoderOptions.FULL.withDrop(PromptDrop.parse(drop, TinyModel.LAYERS));
    try (Decoder decoder = new Decoder(weights, options, 1, CAPACITY)) {
      decoder.prefill(0, tokens(24, 6));
      for (int l = 0; l < lengths.length; l++) {
        assertEquals(lengths[l], decoder.kv().length(l, 0), drop + ", layer " + l);
      }
      int next = drop.startsWith("gemfilter") ? 9 : 24; // renumbered there alone
      assertEquals(next, decoder.position(0), drop);
    }
  }

  @Test
  void parametersOfTheMethodsAreRead() {
    int[] ids = tokens(30, 5);
    SnapKv snap = SnapKv.of(4, 10);
    PromptDistill distill = PromptDistill.of(new PromptDistill.Stage(1, 6));
    Map<String, PromptDrop> drops = Map.of("snapkv:4,10", PromptDrop.of(snap), "snapkv:4,10:avg,1",
        PromptDrop.of(snap.withPooling(AttentionScores.Pool.NONE, 0)), "snapkv:4,10:max,7",
        PromptDrop.of(snap.withPooling(AttentionScores.Pool.MAX, 7)), "promptdistill:1,6",
        PromptDrop.of(distill), "promptdistill:1,6:1", PromptDrop.of(distill.withPooling(1)),
        "promptdistill:1,6:7,0", PromptDrop.of(distill.withPooling(7).withTruncation(0)));
    Set<String> different = new HashSet<>();
    drops.forEach((text, drop) -> {
      float[][] expected = continuation(DecoderOptions.FULL.withDrop(drop), ids, 24);
      assertArrayEquals(expected,
          continuation(
              DecoderOptions.FULL.withDrop(PromptDrop.parse(text, TinyModel.LAYERS)), ids, 24),
          text);
      different.add(Arrays.deepToString(expected));
    });
    assertEquals(drops.size(), different.size(), "each has an effect");
  }

  /** Scores that are no numbers drop nothing, in one head or, from there on, in all. */
  @Test
  void brokenScoresKeepEverything() throws IOException {
    List<TinyModel.Weight> parts = TinyModel.weights();
    parts.stream()
        .filter(weight -> weight.name().equals("blk.0.attn_k.weight"))
        .findFirst()
        .orElseThrow()
        .values()[0] = Float.NaN;
    try (GgufFile file = GgufFile.open(
             TinyModel.writeWeights(folder.resolve("broken.gguf"), TinyModel.metadata(), parts));
        LlamaWeights broken = LlamaWeights.load(file, DType.F32)) {
      for (String drop : List.of("promptdistill:1,6", "gemfilter:2,9", "snapkv:4,10",
               "h2o:0.25,0.125", "fastv:2,0.5", "pyramiddrop:1,0.5,3,0.25")) {
        DecoderOptions options =
            DecoderOptions.FULL.withDrop(PromptDrop.parse(drop, TinyModel.LAYERS));
        try (Decoder decoder = new Decoder(broken, options, 1, CAPACITY)) {
          decoder.prefill(0, tokens(24, 6));
          for (int l = 0; l < TinyModel.LAYERS; l++) {
            assertEquals(24, decoder.kv().length(l, 0), drop + ", layer " + l);
          }
        }
      }
    }
  }

  /** Sequences of a batch drop on their own. */
  @Test
  void aBatchThatDropsEqualsItsSequences() {
    DecoderOptions options = DecoderOptions.FULL.withLogits().withDrop(
        PromptDrop.parse("promptdistill:1,5", TinyModel.LAYERS));
    int[] first = tokens(26, 7);
    int[] second = tokens(17, 8);
    float[][] alone = continuation(options, first, 25);
    float[][] other = continuation(options, second, 16);
    try (Decoder decoder = new Decoder(weights, options, 2, CAPACITY)) {
      decoder.prefill(0, Arrays.copyOf(first, 25));
      decoder.prefill(1, Arrays.copyOf(second, 16));
      decoder.step(first[25], second[16]);
      assertArrayEquals(alone[1], decoder.logits().row(0).toFloatArray());
      assertArrayEquals(other[1], decoder.logits().row(1).toFloatArray());
    }
  }

  @Test
  void aPromptInPiecesCannotDrop() {
    DecoderOptions options =
        DecoderOptions.FULL.withDrop(PromptDrop.parse("fastv:2,0.5", TinyModel.LAYERS));
    try (Decoder decoder = new Decoder(weights, options, 1, CAPACITY)) {
      decoder.prefill(0, tokens(8, 1));
      String message =
          assertThrows(IllegalArgumentException.class, () -> decoder.prefill(0, tokens(8, 2)))
              .getMessage();
      assertTrue(message.contains("has 8 tokens already"), message);
    }
  }
}
