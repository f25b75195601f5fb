// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.function.Consumer;
import java.util.function.IntPredicate;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.decode.Sampler;
import org.exeunt.engine.drop.PromptDrop;
import org.exeunt.engine.layer.KvState;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyGemma;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.policy.ExitPolicy;
import org.exeunt.engine.policy.FfnSkip;
import org.exeunt.engine.policy.KvPolicy;
import org.exeunt.engine.policy.Schedule;
import org.exeunt.engine.speculate.draft.Drafts;
import org.exeunt.engine.speculate.draft.LookupDraft;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Whatever is drafted, tokens, keys and values are those of a decoder without drafts. */
class SpeculativeDecoderTest {
  private static final int CAPACITY = TinyModel.CONTEXT;
  private static final int MOST = 60; // tokens of an answer
  private static final IntPredicate NEVER = token -> false;

  /**
   * What drafts, how long, and by which rule; a length of 0 is the usual one, a shortlist of 0 all
   * tokens.
   */
  private record Method(String source, int length, String rule, int shortlist) {
    Method(String source, int length, String rule) {
      this(source, length, rule, 0);
    }

    Speculation speculation() {
      Speculation found = Speculation.parse(source, length, rule, TinyModel.LAYERS);
      return shortlist > 0 ? found.withShortlist(shortlist) : found;
    }

    boolean needsModel() {
      return source.contains("model");
    }

    @Override
    public String toString() {
      return source + " " + length + " " + rule + " " + shortlist;
    }
  }

  @TempDir static Path folder;
  private static final Map<String, LlamaWeights> MODELS = new TreeMap<>();
  private static final Map<String, Result> PLAIN = new HashMap<>();
  private static LlamaWeights other; // nearly the same weights: what it drafts is often right

  @BeforeAll
  static void load() throws IOException {
    Path plain = TinyModel.write(folder.resolve("tiny.gguf"));
    Path blocks = TinyModel.writeBlocks(folder.resolve("blocks.gguf"));
    try (GgufFile file = GgufFile.open(plain); GgufFile quantised = GgufFile.open(blocks)) {
      MODELS.put("f32", LlamaWeights.load(file, DType.F32));
      MODELS.put("bf16", LlamaWeights.load(file, DType.BF16));
      MODELS.put("blocks", LlamaWeights.load(quantised, null));
    }
    Path gemma = TinyGemma.write(folder.resolve("gemma.gguf"));
    try (GgufFile file = GgufFile.open(gemma)) {
      MODELS.put("gemma", LlamaWeights.load(file, DType.F32));
    }
    List<TinyModel.Weight> weights = TinyModel.weights();
    Random random = new Random(7);
    for (TinyModel.Weight weight : weights) {
      for (int i = 0; i < weight.values().length; i++) {
        weight.values()[i] += (float) (0.01 * random.nextGaussian());
      }
    }
    try (GgufFile file = GgufFile.open(
             TinyModel.writeWeights(folder.resolve("other.gguf"), TinyModel.metadata(), weights))) {
      other = LlamaWeights.load(file, DType.F32);
    }
  }

  @AfterAll
  static void close() {
    MODELS.values().forEach(LlamaWeights::close);
    other.close();
  }

  /** Tokens of some sequences, and what their caches hold in the end. */
  private record Result(int[][] tokens, List<float[]> keysAndValues) {
    void assertSame(Result expected, String what) {
      for (int s = 0; s < tokens.length; s++) {
        assertArrayEquals(expected.tokens[s], tokens[s], what + ", sequence " + s);
      }
      for (int i = 0; i < keysAndValues.size(); i++) {
        assertArrayEquals(
            expected.keysAndValues.get(i), keysAndValues.get(i), what + ", cache " + i);
      }
    }
  }

  /** Prompts of different lengths, of which some repeat themselves. */
  private static int[] prompt(int sequence, int vocabulary) {
    Random random = new Random(sequence);
    int[] some = random.ints(3 + 4 * sequence, 1, vocabulary).toArray();
    return sequence % 2 == 0
        ? some
        : IntStream.concat(IntStream.of(some), IntStream.of(some)).toArray();
  }

  private static DecoderOptions options(double temperature) {
    return temperature > 0 ? DecoderOptions.FULL.withLogits() : DecoderOptions.FULL;
  }

  private static Sampler[] samplers(int sequences, int vocabulary, double temperature) {
    return temperature == 0
        ? new Sampler[0]
        : IntStream.range(0, sequences)
              .mapToObj(s -> new Sampler(vocabulary, temperature, 0.95, s))
              .toArray(Sampler[] ::new);
  }

  /** Slots that hold all but the newest token of a sequence. */
  private static List<float[]> caches(KvState kv, int layers, int... positions) {
    List<float[]> found = new ArrayList<>();
    for (int s = 0; s < positions.length; s++) {
      for (int l = 0; l < layers; l++) {
        assertTrue(kv.length(l, s) >= positions[s], "layer " + l + " of sequence " + s);
        boolean byHeads = kv.cache(l).k().size(1) != CAPACITY;
        int axis = byHeads ? 1 : 0;
        found.add(kv.cache(l).k().row(s).slice(axis, 0, positions[s]).toFloatArray());
        found.add(kv.cache(l).v().row(s).slice(axis, 0, positions[s]).toFloatArray());
      }
    }
    return found;
  }

  /** Without drafts, one sequence after another: that a batch changes nothing is shown elsewhere. */
  private static Result plain(String model, int sequences, double temperature) {
    return PLAIN.computeIfAbsent(model + sequences + " " + temperature, key -> {
      LlamaWeights weights = MODELS.get(model);
      int vocabulary = weights.config().vocabulary();
      Sampler[] samplers = samplers(sequences, vocabulary, temperature);
      int[][] tokens = new int[sequences][MOST];
      List<float[]> caches = new ArrayList<>();
      for (int s = 0; s < sequences; s++) {
        try (Decoder decoder = new Decoder(weights, options(temperature), 1, CAPACITY)) {
          decoder.prefill(0, prompt(s, vocabulary));
          for (int i = 0; i < MOST; i++) {
            tokens[s][i] = temperature == 0
                ? decoder.argmax(0)
                : samplers[s].draw(decoder.logits().row(0).floatBuffer());
            if (i + 1 < MOST) {
              decoder.step(tokens[s][i]);
            }
          }
          caches.addAll(caches(decoder.kv(), weights.config().layers(), decoder.position(0)));
        }
      }
      return new Result(tokens, caches);
    });
  }

  /** What drafting has come to. */
  private record Counts(long drafted, long accepted, long verifications, long tokens) {}

  /** With drafts, all sequences at once; each leaves when it has its tokens. */
  private static Result speculative(
      String model, Method method, int sequences, double temperature, Consumer<Counts> seen) {
    LlamaWeights weights = MODELS.get(model);
    int layers = weights.config().layers();
    int vocabulary = weights.config().vocabulary();
    try (SpeculativeDecoder decoder = new SpeculativeDecoder(
             new Decoder(weights, options(temperature), sequences, CAPACITY), method.speculation(),
             method.needsModel() ? other : null, NEVER,
             samplers(sequences, vocabulary, temperature))) {
      int[][] tokens = new int[sequences][0];
      int[] positions = new int[sequences];
      for (int s = 0; s < sequences; s++) {
        int[] prompt = prompt(s, vocabulary);
        decoder.prefill(s, prompt);
        positions[s] = prompt.length + MOST - 1;
      }
      for (int going = sequences; going > 0;) {
        for (int s = 0; s < sequences; s++) {
          int[] found = decoder.tokens(s);
          tokens[s] =
              IntStream.concat(IntStream.of(tokens[s]), IntStream.of(found)).limit(MOST).toArray();
          if (found.length > 0 && tokens[s].length == MOST) {
            decoder.end(s);
            going--;
          }
        }
        if (going > 0) {
          decoder.round();
        }
      }
      seen.accept(new Counts(
          decoder.drafted(), decoder.accepted(), decoder.verifications(), decoder.work().tokens()));
      for (int s = 0; s < sequences; s++) {
        for (int l = 0; l < layers; l++) {
          assertEquals(decoder.position(s), decoder.kv().length(l, s), "layer " + l);
        }
      }
      return new Result(tokens, caches(decoder.kv(), layers, positions));
    }
  }

  static Stream<Method> methods() {
    List<Method> methods = new ArrayList<>();
    for (String source : new String[] {
             "selfdraft:1", "selfdraft:3", "selfdraft:4", "lookup:1", "lookup:3", "model:other"}) {
      methods.add(new Method(source, 0, null));
      methods.add(new Method(source, 0, "fixed:5"));
      if (!source.startsWith("lookup")) {
        methods.add(new Method(source, 6, "confidence:0.3"));
      }
    }
    for (String source : new String[] {"del", "del:2,1", "del:4,3", "del-paper", "del-paper:1,3"}) {
      methods.add(new Method(source, 7, null));
    }
    for (String source : new String[] {"selfdraft:3", "model:other", "del:2,1", "del-paper"}) {
      methods.add(new Method(source, 7, null, 10));
    }
    methods.add(new Method("selfdraft:4", 0, "fixed:5", 3));
    for (String source :
        new String[] {"lookup:2+selfdraft:3", "lookup:1+model:other", "selfdraft:4+model:other"}) {
      methods.add(new Method(source, 0, null));
      methods.add(new Method(source, 0, "fixed:3"));
    }
    methods.add(new Method("selfdraft:2+lookup+model:other", 0, "fixed:5", 12));
    return methods.stream();
  }

  /** All; in a quick run that of f32 and one of the others, which changes from method to method. */
  private static List<String> models(Method method) {
    List<String> models = new ArrayList<>(MODELS.keySet());
    if (Boolean.getBoolean("exeunt.quick")) {
      models.remove("f32");
      String some = models.get(Math.floorMod(method.toString().hashCode(), models.size()));
      models = List.of("f32", some);
    }
    return models;
  }

  @ParameterizedTest
  @MethodSource("methods")
  void tokensAreThoseOfTheDecoderAlone(Method method) {
    for (String model : models(method)) {
      if (model.equals("gemma") && method.needsModel()) {
        continue; // its vocabulary is another
      }
      for (int sequences : new int[] {1, 4}) {
        assertSame(model, method, sequences, 0);
      }
      assertSame(model, method, 2, 0.8);
    }
  }

  private static void assertSame(String model, Method method, int sequences, double temperature) {
    speculative(model, method, sequences, temperature, seen -> {})
        .assertSame(plain(model, sequences, temperature),
            model + ", " + sequences + " sequences, temperature " + temperature);
  }

  @ParameterizedTest
  @ValueSource(strings = {"lookup:2", "model:other", "selfdraft:4"})
  void draftsThatAreRightSavePasses(String source) {
    speculative("f32", new Method(source, 0, "fixed:4"), 1, 0, seen -> {
      assertTrue(seen.accepted > seen.drafted / 5, source + ": " + seen);
      assertTrue(seen.verifications < MOST * 2 / 3, source + ": " + seen);
      assertEquals(seen.verifications + seen.accepted, seen.tokens, source);
    });
  }

  /** Sequences side by side have drafts of different sources. */
  @Test
  void everySourceHasItsTurn() {
    LlamaWeights weights = MODELS.get("f32");
    try (SpeculativeDecoder decoder = new SpeculativeDecoder(
             new Decoder(weights, DecoderOptions.FULL, 4, CAPACITY),
             new Method("lookup:1+selfdraft:3+model:other", 0, "fixed:3").speculation(), other,
             NEVER)) {
      for (int s = 0; s < 4; s++) {
        decoder.prefill(s, prompt(s, weights.config().vocabulary()));
      }
      for (int round = 0; round < 20; round++) {
        decoder.round();
      }
      long drafted = 0;
      for (int source = 0; source < 3; source++) {
        assertTrue(decoder.drafted(source) > 0, "source " + source);
        assertTrue(decoder.accepted(source) <= decoder.drafted(source), "source " + source);
        drafted += decoder.drafted(source);
      }
      assertEquals(drafted, decoder.drafted());
      assertEquals(20 * 4 * 3, drafted, "three tokens for each sequence in each round");
    }
  }

  /** A model whose layers from {@code layers} on add nothing. */
  private static LlamaWeights shallow(int layers) throws IOException {
    List<TinyModel.Weight> parts = TinyModel.weights();
    for (TinyModel.Weight weight : parts) {
      String[] name = weight.name().split("\\.");
      boolean adds = weight.name().contains("attn_output") || weight.name().contains("ffn_down");
      if (adds && Integer.parseInt(name[1]) >= layers) {
        Arrays.fill(weight.values(), 0);
      }
    }
    Path path = folder.resolve("shallow" + layers + ".gguf");
    try (GgufFile file = GgufFile.open(TinyModel.writeWeights(path, TinyModel.metadata(), parts))) {
      return LlamaWeights.load(file, DType.F32);
    }
  }

  /**
   * Of layers that say what the whole model says, DEL takes the first, from what it has learnt of
   * the prompt on, and as no token was ever wrong there, drafts until it may not.
   */
  @Test
  void delFindsTheFirstLayersThatSuffice() throws IOException {
    for (int layers = 1; layers < 4; layers++) {
      try (LlamaWeights weights = shallow(layers)) {
        for (String source : List.of("del:1,1", "del-paper:1,1")) {
          int[] prompts = {40, 5};
          Decoder verifying = new Decoder(weights, DecoderOptions.FULL, 2, CAPACITY);
          try (SpeculativeDecoder decoder = new SpeculativeDecoder(
                   verifying, new Method(source, 6, null).speculation(), null, NEVER)) {
            for (int s = 0; s < 2; s++) {
              decoder.prefill(s, new Random(s).ints(prompts[s], 1, 24).toArray());
            }
            decoder.round();
            assertEquals(2, decoder.drafted(), source);
            for (int round = 1; round < 5; round++) {
              long drafted = decoder.drafted();
              long accepted = decoder.accepted();
              long before = decoder.work().layers();
              decoder.round();
              // The paper's length is less than the most: a draft of 6 is not among those compared.
              int length = source.startsWith("del-paper") ? 5 : 6;
              String what = source + " of " + layers + " layers, round " + round;
              assertEquals(drafted + 2 * length, decoder.drafted(), what);
              assertEquals(accepted + 2 * length, decoder.accepted(), what);
              assertEquals(before + 2 * (length + 1) * TinyModel.LAYERS, decoder.work().layers(),
                  what + ": each row runs each layer once");
            }
          }
        }
      }
    }
  }

  /** What follows the tokens that end an answer is not worth a guess. */
  @Test
  void nothingIsDraftedBehindAnEnd() {
    int[] prompt = {1, 2, 3, 4, 5, 1, 2};
    for (int end : new int[] {3, 4, 23}) {
      try (SpeculativeDecoder decoder = new SpeculativeDecoder(
               new Decoder(MODELS.get("f32"), DecoderOptions.FULL, 1, CAPACITY),
               new Method("lookup:2", 0, "fixed:5").speculation(), null, token -> token == end)) {
        decoder.prefill(0, prompt);
        int[] context =
            IntStream.concat(IntStream.of(prompt), IntStream.of(decoder.tokens(0))).toArray();
        decoder.round();
        int next = new Lookup(context, 2).next();
        int expected = 0;
        for (int at = next; next >= 0 && expected < 5; at++) {
          expected++;
          if (context[next + (at - next) % (context.length - next)] == end) {
            break;
          }
        }
        assertEquals(expected, decoder.drafted(), "end " + end);
      }
    }
  }

  /** Where the last few tokens occurred before, found the slow way. */
  private record Lookup(int[] text, int most) {
    int next() {
      for (int n = Math.min(most, text.length - 1); n > 0; n--) {
        int[] last = Arrays.copyOfRange(text, text.length - n, text.length);
        for (int at = text.length - 1; at >= n; at--) {
          if (Arrays.equals(last, Arrays.copyOfRange(text, at - n, at))) {
            return at;
          }
        }
      }
      return -1;
    }
  }

  @Test
  void lookupTakesTheLatestOfTheLongestMatches() {
    Random random = new Random(3);
    for (int trial = 0; trial < 300; trial++) {
      int[] text = random.ints(2 + trial % 30, 0, 2 + trial % 5).toArray();
      int most = 1 + trial % 4;
      Drafts drafts = new Drafts(1, text.length, 6, 1, (from, s) -> kind -> 6, NEVER);
      for (int id : text) {
        drafts.context(0).add(id);
      }
      drafts.going(0, true);
      drafts.begin(0, 6);
      try (LookupDraft lookup = new LookupDraft(most, 1, text.length + 6, 6)) {
        lookup.draft(drafts);
      }
      int next = new Lookup(text, most).next();
      assertEquals(next < 0 ? 0 : 6, drafts.count(0), Arrays.toString(text));
      for (int i = 0; i < drafts.count(0); i++) {
        assertEquals(
            text[next + i % (text.length - next)], drafts.token(0, i), Arrays.toString(text));
      }
    }
  }

  /** Dropped tokens leave layers of different lengths, of which drafts take as much away again. */
  @Test
  void promptsMayDropTokens() {
    int[] prompt = new Random(5).ints(24, 1, 24).toArray();
    LlamaWeights weights = MODELS.get("f32");
    for (String drop : List.of("pyramiddrop:1,0.5,3,0.25", "gemfilter:2,9", "snapkv:4,10")) {
      DecoderOptions options =
          DecoderOptions.FULL.withDrop(PromptDrop.parse(drop, TinyModel.LAYERS));
      int[] expected = new int[40];
      try (Decoder decoder = new Decoder(weights, options, 1, CAPACITY)) {
        decoder.prefill(0, prompt);
        for (int i = 0; i < expected.length; i++) {
          expected[i] = decoder.argmax(0);
          decoder.step(expected[i]);
        }
      }
      for (String source : List.of("lookup", "selfdraft:3", "model:other")) {
        IntStream.Builder found = IntStream.builder();
        Method method = new Method(source, 0, "fixed:4");
        try (SpeculativeDecoder decoder = new SpeculativeDecoder(
                 new Decoder(weights, options, 1, CAPACITY), method.speculation(),
                 method.needsModel() ? other : null, NEVER)) {
          decoder.prefill(0, prompt);
          for (int count = 0; count < expected.length; count += decoder.tokens(0).length) {
            IntStream.of(decoder.tokens(0)).forEach(found);
            decoder.round();
          }
          IntStream.of(decoder.tokens(0)).forEach(found);
        }
        assertArrayEquals(
            expected, found.build().limit(expected.length).toArray(), drop + ", " + source);
      }
    }
  }

  private static void assertRefused(String expected, Executable call) {
    String message = assertThrows(IllegalArgumentException.class, call).getMessage();
    assertTrue(message.contains(expected), message);
    assertEquals(1, message.lines().count());
  }

  private static void assertRefused(
      String expected, DecoderOptions options, int sequences, int capacity, Method method) {
    try (Decoder decoder = new Decoder(MODELS.get("f32"), options, sequences, capacity)) {
      assertRefused(
          expected, () -> new SpeculativeDecoder(decoder, method.speculation(), null, NEVER));
    }
  }

  @Test
  void whatDoesNotFitIsRefused() {
    Method five = new Method("lookup", 5, null);
    assertRefused(
        "a draft of 5 tokens does not fit: there is room for 5", DecoderOptions.FULL, 1, 5, five);
    assertRefused("are 66 rows with the token before each; one pass takes 64", DecoderOptions.FULL,
        11, CAPACITY, five);
    assertRefused("together with an exit rule",
        DecoderOptions.FULL.withExit(ExitPolicy.fixed(p -> 2), KvPolicy.NONE), 1, CAPACITY, five);
    assertRefused("together with a schedule",
        DecoderOptions.FULL.withSchedule(Schedule.parse("unified:3", 5)), 1, CAPACITY, five);
    assertRefused("together with skipping feed-forward blocks",
        DecoderOptions.FULL.withFfnSkip(new FfnSkip(1, 4, 0, .9f, -1)), 1, CAPACITY, five);
    try (Decoder decoder = new Decoder(MODELS.get("gemma"), DecoderOptions.FULL, 1, CAPACITY)) {
      assertRefused("the model that drafts has 24 tokens, the one that verifies",
          ()
              -> new SpeculativeDecoder(
                  decoder, new Method("model:other", 5, null).speculation(), other, NEVER));
    }
  }

  @Test
  void sequencesThatAllHaveEndedDoNotGoOn() {
    try (SpeculativeDecoder decoder = new SpeculativeDecoder(
             new Decoder(MODELS.get("f32"), DecoderOptions.FULL, 2, 12),
             new Method("lookup", 5, null).speculation(), null, NEVER)) {
      assertRefused("of 2 sequences none goes on", decoder::round);
      decoder.prefill(0, 1, 2, 3);
      decoder.prefill(1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12);
      assertRefused("1 more token after 12 exceeds the 12 there is room for", decoder::round);
      decoder.end(1);
      decoder.round();
      assertEquals(0, decoder.tokens(1).length);
      assertTrue(decoder.tokens(0).length > 0);
      decoder.end(0);
      assertRefused("of 2 sequences none goes on", decoder::round);
    }
  }

  /** A drafted token's logits are not numbers: nothing follows what was right before. */
  @Test
  void whatIsNoNumberEndsIt() throws IOException {
    List<TinyModel.Weight> parts = TinyModel.weights();
    parts.stream()
        .filter(weight -> weight.name().equals("blk.0.attn_k.weight"))
        .findFirst()
        .orElseThrow()
        .values()[0] = Float.NaN;
    try (GgufFile file = GgufFile.open(
             TinyModel.writeWeights(folder.resolve("broken.gguf"), TinyModel.metadata(), parts));
        LlamaWeights broken = LlamaWeights.load(file, DType.F32)) {
      for (String source : List.of("selfdraft:2", "lookup:1")) {
        try (SpeculativeDecoder decoder = new SpeculativeDecoder(
                 new Decoder(broken, DecoderOptions.FULL, 1, CAPACITY),
                 new Method(source, 0, "fixed:3").speculation(), null, NEVER)) {
          decoder.prefill(0, 1, 1, 1);
          assertArrayEquals(new int[] {-1}, decoder.tokens(0));
          assertRefused("none goes on", decoder::round);
        }
      }
    }
  }

  /**
   * A token's own row has no numbers, though the model says that token: drafted, it is accepted, and
   * what follows it is not known. Nothing goes on from there.
   */
  @Test
  void aRowWithoutNumbersEndsWhatWasAcceptedBeforeIt() throws IOException {
    int tried = 0;
    for (int seed = 0; seed < 20; seed++) {
      int[] prompt = new Random(seed).ints(6, 1, 24).toArray();
      int[] answer = new int[4];
      try (Decoder decoder = new Decoder(MODELS.get("f32"), DecoderOptions.FULL, 1, CAPACITY)) {
        decoder.prefill(0, prompt);
        for (int i = 0; i < answer.length; i++) {
          answer[i] = decoder.argmax(0);
          decoder.step(answer[i]);
        }
      }
      // After how many accepted tokens: the row of the last of them is the one.
      for (int right = 1; right < answer.length; right++) {
        int bad = answer[right];
        if (IntStream.concat(IntStream.of(prompt), IntStream.of(answer).limit(right))
                .noneMatch(token -> token == bad)) {
          assertEndsBehind(prompt, answer, right);
          tried++;
        }
      }
    }
    assertTrue(tried > 5, tried + " tried");
  }

  private static void assertEndsBehind(int[] prompt, int[] answer, int right) throws IOException {
    List<TinyModel.Weight> weights = new ArrayList<>(TinyModel.weights());
    TinyModel.Weight embedding =
        weights.stream()
            .filter(weight -> weight.name().equals("token_embd.weight"))
            .findFirst()
            .orElseThrow();
    weights.add(new TinyModel.Weight(
        "output.weight", embedding.rows(), embedding.columns(), embedding.values().clone()));
    embedding.values()[answer[right] * embedding.columns()] = Float.NaN;
    try (GgufFile file = GgufFile.open(
             TinyModel.writeWeights(folder.resolve("holed.gguf"), TinyModel.metadata(), weights));
        LlamaWeights holed = LlamaWeights.load(file, DType.F32);
        SpeculativeDecoder decoder = new SpeculativeDecoder(
            new Decoder(holed, DecoderOptions.FULL, 1, CAPACITY),
            Speculation.parse("model:clean", 0, "fixed:6", TinyModel.LAYERS), MODELS.get("f32"),
            NEVER)) {
      decoder.prefill(0, prompt);
      assertArrayEquals(new int[] {answer[0]}, decoder.tokens(0));
      decoder.round();
      int[] expected = Arrays.copyOfRange(answer, 1, right + 2);
      expected[right] = -1;
      assertArrayEquals(expected, decoder.tokens(0));
      assertEquals(right, decoder.accepted());
      assertEquals(prompt.length + 1 + right, decoder.position(0));
      assertTrue(assertThrows(IllegalArgumentException.class, decoder::round)
              .getMessage()
              .contains("none goes on"));
    }
  }
}
