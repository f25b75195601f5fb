// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.device.speculate;

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
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Screen;
import org.exeunt.engine.TestData;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.decode.HeadScreen;
import org.exeunt.engine.device.DeviceDecoder;
import org.exeunt.engine.device.GumbelNoise;
import org.exeunt.engine.layer.KvState;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.speculate.Speculation;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Rounds on the emulated device give the tokens, keys and values of its decoder, bit for bit. */
@ExtendWith(TestData.NeedsEmulator.class)
class DeviceSpeculativeDecoderTest {
  private static final int CAPACITY = 280; // of which attention makes parts
  private static final int STEPS = 16;
  private static final int[] NO_ENDS = {};

  @TempDir static Path folder;
  private static final Map<String, LlamaWeights> HOST = new HashMap<>();
  private static final Map<String, LlamaWeights> MODELS = new HashMap<>();
  private static final Map<String, Plain> PLAIN = new HashMap<>();

  @BeforeAll
  static void load() throws IOException {
    TestData.openEmulatedDevice();
    Map<String, Object> metadata = TinyModel.metadata();
    metadata.put("llama.context_length", CAPACITY);
    Path elements = TinyModel.write(folder.resolve("tiny.gguf"), metadata, null);
    Path blocks = TinyModel.writeBlocks(folder.resolve("blocks.gguf"));
    try (GgufFile file = GgufFile.open(elements); GgufFile quantised = GgufFile.open(blocks)) {
      HOST.put("f32", LlamaWeights.load(file, DType.F32));
      HOST.put("bf16", LlamaWeights.load(file, DType.BF16));
      HOST.put("blocks", LlamaWeights.load(quantised, null));
    }
    HOST.forEach((name, weights) -> MODELS.put(name, weights.on(Device.cuda(0))));
  }

  @AfterAll
  static void close() {
    MODELS.values().forEach(LlamaWeights::close);
    HOST.values().forEach(LlamaWeights::close);
  }

  /** What a decoder without drafts says, and what its caches hold of it. */
  private record Plain(int[] tokens, List<float[]> keysAndValues) {}

  private static int[] prompt(int sequence, int vocabulary) {
    int[] some = new Random(sequence).ints(3 + 4 * sequence, 1, vocabulary).toArray();
    int length = sequence == 1 ? 150 : some.length; // long enough for parts, and it repeats itself
    return IntStream.range(0, length).map(i -> some[i % some.length]).toArray();
  }

  private static int capacity(LlamaWeights weights) {
    return weights.config().context();
  }

  private static GumbelNoise noise(double temperature, int sequence) {
    return temperature == 0 ? null : new GumbelNoise(temperature, sequence);
  }

  private static List<float[]> caches(KvState kv, int layers, int sequence, int slots) {
    List<float[]> found = new ArrayList<>();
    for (int l = 0; l < layers; l++) {
      found.add(kv.cache(l).k().row(sequence).slice(1, 0, slots).toFloatArray());
      found.add(kv.cache(l).v().row(sequence).slice(1, 0, slots).toFloatArray());
    }
    return found;
  }

  private static Plain plain(String model, int sequence, double temperature) {
    return PLAIN.computeIfAbsent(model + sequence + " " + temperature, key -> {
      LlamaWeights weights = MODELS.get(model);
      int[] prompt = prompt(sequence, weights.config().vocabulary());
      int[] tokens = new int[STEPS];
      try (DeviceDecoder decoder = new DeviceDecoder(
               weights, DecoderOptions.FULL, capacity(weights), noise(temperature, sequence))) {
        decoder.begin(prompt);
        for (int i = 0; i < STEPS; i++) {
          tokens[i] = decoder.next();
          decoder.goOn();
        }
        decoder.next();
        return new Plain(
            tokens, caches(decoder.kv(), weights.config().layers(), 0, prompt.length + STEPS - 1));
      }
    });
  }

  private static DeviceSpeculativeDecoder decoder(String model, String method, String rule,
      int length, double temperature, int[] ends, int... of) {
    LlamaWeights weights = MODELS.get(model);
    GumbelNoise[] draws = temperature == 0
        ? new GumbelNoise[0]
        : Arrays.stream(of).mapToObj(s -> noise(temperature, s)).toArray(GumbelNoise[] ::new);
    return new DeviceSpeculativeDecoder(weights, DecoderOptions.FULL,
        Speculation.parse(method, length, rule, TinyModel.LAYERS),
        method.startsWith("model") ? MODELS.get("bf16") : null, of.length, capacity(weights), ends,
        draws);
  }

  /** Rounds until each sequence has its tokens. */
  private static void compare(
      DeviceSpeculativeDecoder decoder, String model, double temperature, int... of) {
    LlamaWeights weights = MODELS.get(model);
    int[][] tokens = new int[of.length][0];
    for (int s = 0; s < of.length; s++) {
      decoder.prefill(s, prompt(of[s], weights.config().vocabulary()));
      tokens[s] = decoder.tokens(s);
    }
    int rounds = 0;
    while (Arrays.stream(tokens).anyMatch(some -> some.length < STEPS)) {
      decoder.round();
      rounds++;
      for (int s = 0; s < of.length; s++) {
        assertTrue(decoder.tokenCount(s) > 0, "sequence " + s);
        tokens[s] =
            IntStream.concat(IntStream.of(tokens[s]), IntStream.of(decoder.tokens(s))).toArray();
      }
    }
    for (int s = 0; s < of.length; s++) {
      Plain plain = plain(model, of[s], temperature);
      int length = prompt(of[s], weights.config().vocabulary()).length;
      assertArrayEquals(plain.tokens, Arrays.copyOf(tokens[s], STEPS), "sequence " + of[s]);
      assertEquals(length + tokens[s].length - 1, decoder.position(s));
      List<float[]> caches = caches(decoder.kv(), weights.config().layers(), s, length + STEPS - 1);
      for (int i = 0; i < caches.size(); i++) {
        assertArrayEquals(plain.keysAndValues.get(i), caches.get(i), "cache " + i);
      }
    }
    assertEquals(rounds, decoder.verifications());
    assertTrue(decoder.launches() >= rounds - 1, "rounds are launches of a graph");
    assertTrue(decoder.accepted() <= decoder.drafted());
    assertEquals(decoder.accepted() + rounds * (long) of.length, decoder.work().tokens());
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', nullValues = "-",
      value = {"bf16 | selfdraft:3 | - | 0 | 1", "f32 | lookup | - | 0 | 1",
          "f32 | selfdraft:2 | fixed:3 | 0 | 0", "f32 | selfdraft:4 | confidence:0.06 | 0 | 0",
          "blocks | selfdraft:3 | fixed:2 | 0 | 0", "f32 | selfdraft:4 | fixed:3 | 0.9 | 0",
          "bf16 | selfdraft:2 | fixed:1 | 2 | 0", "blocks | lookup:2 | fixed:3 | 0 | 0",
          "f32 | lookup | fixed:2 | 0.9 | 0", "f32 | model:of | confidence:0.06 | 0 | 0",
          "bf16 | model:of | fixed:3 | 1.1 | 0"})
  void tokensAreThoseOfPlainDecoding(
      String model, String method, String rule, double temperature, int sequence) {
    try (DeviceSpeculativeDecoder decoder =
             decoder(model, method, rule, 0, temperature, NO_ENDS, sequence)) {
      compare(decoder, model, temperature, sequence);
    }
  }

  @ParameterizedTest
  @CsvSource({"f32,selfdraft:4,fixed:3,0,0,1", "bf16,selfdraft:3,confidence:0.08,3,0,4",
      "f32,selfdraft:3,fixed:2,0,1.2,4", "bf16,lookup:3,fixed:3,0,0,1",
      "f32,model:of,fixed:2,0,0,4"})
  void batches(
      String model, String method, String rule, int length, double temperature, int another) {
    int[] of = {0, another, 2, 3};
    try (DeviceSpeculativeDecoder decoder =
             decoder(model, method, rule, length, temperature, NO_ENDS, of)) {
      compare(decoder, model, temperature, of);
      assertTrue(decoder.accepted() > 0 && decoder.accepted() < decoder.drafted());
    }
  }

  /** Sequences that end at different times, one that begins anew, and the end of the room. */
  @Test
  void sequencesComeAndGo() {
    LlamaWeights weights = MODELS.get("f32");
    int vocabulary = weights.config().vocabulary();
    int[] of = {2, 3};
    Plain[] plain = {plain("f32", 2, 0), plain("f32", 3, 0)};
    int end = plain[0].tokens[5];
    int until =
        IntStream.range(0, STEPS).filter(i -> plain[0].tokens[i] == end).findFirst().orElse(-1);
    try (DeviceSpeculativeDecoder decoder =
             decoder("f32", "selfdraft:4", "fixed:3", 0, 0, new int[] {end}, of)) {
      assertThrows(IllegalArgumentException.class, decoder::round);
      assertThrows(IllegalArgumentException.class, () -> decoder.prefill(0));
      decoder.prefill(0, prompt(2, vocabulary));
      assertThrows(IllegalArgumentException.class, () -> decoder.prefill(0, 1));
      List<Integer> said = new ArrayList<>(List.of(decoder.token(0, 0)));
      while (said.get(said.size() - 1) != end) {
        decoder.round();
        Arrays.stream(decoder.tokens(0)).forEach(said::add);
      }
      assertArrayEquals(Arrays.copyOf(plain[0].tokens, until + 1),
          said.stream().mapToInt(Integer::intValue).toArray());
      assertThrows(IllegalArgumentException.class, decoder::round); // it has ended
      decoder.prefill(1, prompt(3, vocabulary));
      int first = decoder.token(1, 0);
      decoder.round();
      assertEquals(0, decoder.tokenCount(0));
      assertEquals(plain[1].tokens[0], first);
      assertEquals(plain[1].tokens[1], decoder.token(1, 0));
      decoder.restart(0);
      decoder.prefill(0, prompt(2, vocabulary));
      assertEquals(plain[0].tokens[0], decoder.token(0, 0));
      decoder.round();
      assertEquals(plain[0].tokens[1], decoder.token(0, 0));
      assertTrue(decoder.tokenCount(1) > 0);
    }
  }

  @Test
  void theEndOfTheRoom() {
    LlamaWeights weights = MODELS.get("f32");
    int[] prompt = {1, 2, 3};
    int capacity = 12;
    int[] expected = new int[capacity - prompt.length + 1];
    try (DeviceDecoder decoder = new DeviceDecoder(weights, DecoderOptions.FULL, capacity, null)) {
      decoder.begin(prompt);
      for (int i = 0; i < expected.length; i++) {
        expected[i] = decoder.next();
        if (i + 1 < expected.length) {
          decoder.goOn();
        }
      }
    }
    for (int length = 1; length <= 4; length++) {
      try (DeviceSpeculativeDecoder decoder = new DeviceSpeculativeDecoder(weights,
               DecoderOptions.FULL,
               Speculation.parse("selfdraft:4", length, "confidence:0", TinyModel.LAYERS), null, 1,
               capacity, NO_ENDS)) {
        decoder.prefill(0, prompt);
        List<Integer> said = new ArrayList<>(List.of(decoder.token(0, 0)));
        while (decoder.position(0) < capacity) {
          decoder.round();
          Arrays.stream(decoder.tokens(0)).forEach(said::add);
        }
        assertArrayEquals(expected, said.stream().mapToInt(Integer::intValue).toArray());
        assertTrue(assertThrows(IllegalArgumentException.class, decoder::round)
                .getMessage()
                .contains("1 more token after 12 exceeds the 12"));
        for (int l = 0; l < TinyModel.LAYERS; l++) {
          assertEquals(capacity, decoder.kv().length(l, 0));
        }
      }
    }
  }

  @Test
  void anotherVocabularyIsRefused() throws IOException {
    String[] words =
        Arrays.copyOf((String[]) TinyModel.metadata().get("tokenizer.ggml.tokens"), 20);
    List<TinyModel.Weight> weights = new ArrayList<>();
    for (TinyModel.Weight weight : TinyModel.weights()) {
      weights.add(weight.name().equals("token_embd.weight")
              ? new TinyModel.Weight(weight.name(), words.length, weight.columns(),
                    Arrays.copyOf(weight.values(), words.length * weight.columns()))
              : weight);
    }
    Map<String, Object> metadata = TinyModel.metadata();
    metadata.put("tokenizer.ggml.tokens", words);
    metadata.put("tokenizer.ggml.token_type", new int[words.length]);
    metadata.put("llama.context_length", CAPACITY);
    Path other = TinyModel.writeWeights(folder.resolve("other.gguf"), metadata, weights);
    try (GgufFile file = GgufFile.open(other); LlamaWeights host = LlamaWeights.load(file, null);
        LlamaWeights there = host.on(Device.cuda(0))) {
      Speculation how = Speculation.parse("model:of", 0, "fixed:2", TinyModel.LAYERS);
      assertTrue(assertThrows(IllegalArgumentException.class,
          ()
              -> new DeviceSpeculativeDecoder(
                  MODELS.get("f32"), DecoderOptions.FULL, how, there, 1, 20, NO_ENDS))
              .getMessage()
              .contains("the model that drafts has 20 tokens"));
    }
  }

  @Test
  void certifiedHeads() throws IOException {
    LlamaWeights weights = HOST.get("bf16");
    int[] text = new Random(8).ints(40, 0, weights.config().vocabulary()).toArray();
    try (Screen screen = HeadScreen.make(weights, text, null);
        DeviceSpeculativeDecoder decoder = new DeviceSpeculativeDecoder(MODELS.get("bf16"),
            DecoderOptions.FULL.withScreen(screen),
            Speculation.parse("selfdraft:4", 0, "fixed:2", TinyModel.LAYERS), null, 1,
            capacity(weights), NO_ENDS)) {
      compare(decoder, "bf16", 0, 0);
      assertTrue(decoder.work().certified() > 0.9 * decoder.work().rowsAsked());
    }
  }
}
