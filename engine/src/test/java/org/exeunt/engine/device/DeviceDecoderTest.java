// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.function.Function;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Screen;
import org.exeunt.Tensor;
import org.exeunt.engine.TestData;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.decode.HeadScreen;
import org.exeunt.engine.decode.LlamaVariantsTest;
import org.exeunt.engine.layer.KvState;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.text.Tokenizer;
import org.exeunt.engine.policy.ExitPolicy;
import org.exeunt.engine.policy.FfnSkip;
import org.exeunt.engine.policy.KvPolicy;
import org.exeunt.engine.policy.Schedule;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The decoder's graphs on the emulated device, beside the decoder on the CPU. */
@ExtendWith(TestData.NeedsEmulator.class)
class DeviceDecoderTest {
  private static final int CAPACITY = 64;
  private static final int STEPS = 40;

  /** Of logits: where the two best are nearer, either may come first. */
  private static final float TOLERANCE = 1e-3f;

  @TempDir static Path folder;
  private static Path elements;
  private static Path blocks;

  @BeforeAll
  static void write() throws IOException {
    TestData.openEmulatedDevice();
    elements = TinyModel.write(folder.resolve("tiny.gguf"));
    blocks = TinyModel.writeBlocks(folder.resolve("blocks.gguf"));
  }

  private static DecoderOptions options(
      String exit, String points, KvPolicy kv, String schedule, String ffnSkip, int layers) {
    return DecoderOptions.FULL.withExit(ExitPolicy.parse(exit, points, layers), kv)
        .withSchedule(Schedule.parse(schedule, layers))
        .withFfnSkip(FfnSkip.parse(ffnSkip, layers));
  }

  /** How far two answers could be compared, and what happened on the way. */
  private record
      Compared(int certain, Set<Long> layers, long passed, long launches, long certified) {}

  /** Takes the device's tokens in on both sides, and compares what comes next. */
  private static Compared compare(LlamaWeights weights, DecoderOptions options, double temperature,
      int steps, int capacity, int... prompt) {
    int certain = 0;
    Set<Long> layers = new HashSet<>();
    GumbelNoise draws = temperature == 0 ? null : new GumbelNoise(temperature, 7);
    GumbelNoise same = temperature == 0 ? null : new GumbelNoise(temperature, 7);
    try (LlamaWeights there = weights.on(Device.cuda(0));
        DeviceDecoder device = new DeviceDecoder(there, options, capacity, draws);
        Decoder host = new Decoder(weights, options.withScreen(null).withLogits(), 1, capacity)) {
      device.begin(prompt);
      host.prefill(0, prompt);
      for (int step = 0;; step++) {
        int token = device.next();
        float[] logits = host.logits().toFloatArray();
        if (same != null) {
          float[] noise = new float[logits.length];
          same.fill(FloatBuffer.wrap(noise));
          for (int i = 0; i < logits.length; i++) {
            logits[i] += noise[i];
          }
        }
        int[] best = best(logits);
        if (logits[best[0]] - logits[best[1]] > TOLERANCE) {
          assertEquals(best[0], token, "token " + step);
          certain++;
        }
        if (step == steps) {
          break;
        }
        long before = device.work().layers();
        device.goOn();
        host.step(token);
        layers.add(device.work().layers() - before);
        if (options.exit().readsHead() && options.kv() == KvPolicy.PROPAGATE) {
          // Where attention sees nothing and blocks let it pass, a token stays what it is.
          assertArrayEquals(device.exited().toFloatArray(), device.hidden().toFloatArray());
        }
        assertEquals(host.work().layers(), device.work().layers(), "layers up to step " + step);
        assertEquals(host.work().feedForwards(), device.work().feedForwards(),
            "feed-forward blocks up to step " + step);
      }
      assertEquals(prompt.length + steps, device.position());
      assertEquals(steps, device.work().tokens());
      assertSameKeysAndValues(host.kv(), device.kv(), weights);
      long passed = device.work().layers() - device.work().feedForwards();
      return new Compared(certain, layers, passed, device.launches(), device.work().certified());
    }
  }

  /** The places of the two largest. */
  private static int[] best(float... values) {
    return IntStream.range(0, values.length)
        .boxed()
        .sorted((a, b) -> Float.compare(values[b], values[a]))
        .limit(2)
        .mapToInt(Integer::intValue)
        .toArray();
  }

  private static void assertSameKeysAndValues(KvState host, KvState device, LlamaWeights weights) {
    double tolerance = weights.cacheType() == DType.F32 ? 2e-3 : 5e-2;
    for (int l = 0; l < weights.config().layers(); l++) {
      int length = host.length(l, 0);
      assertEquals(length, device.length(l, 0), "tokens that layer " + l + " knows");
      List<Function<KvState, Tensor>> both = new ArrayList<>();
      int layer = l;
      both.add(kv -> kv.cache(layer).k());
      both.add(kv -> kv.cache(layer).v());
      for (Function<KvState, Tensor> which : both) {
        float[] expected = which.apply(host).row(0).slice(1, 0, length).toFloatArray();
        float[] actual = which.apply(device).row(0).slice(1, 0, length).toFloatArray();
        for (int i = 0; i < expected.length; i++) {
          assertEquals(expected[i], actual[i], tolerance * (1 + Math.abs(expected[i])),
              "layer " + l + ", element " + i);
        }
      }
    }
  }

  private static Compared compare(Path model, DType type, DecoderOptions options,
      double temperature, int steps) throws IOException {
    try (GgufFile file = GgufFile.open(model);
        LlamaWeights weights = LlamaWeights.load(file, type)) {
      int[] prompt = new Random(5).ints(9, 0, weights.config().vocabulary()).toArray();
      Compared compared = compare(weights, options, temperature, steps, CAPACITY, prompt);
      assertTrue(compared.certain > steps / 2, compared::toString);
      return compared;
    }
  }

  /** @param graphs how many lists of layers occur */
  @ParameterizedTest
  @CsvSource(delimiter = '|', nullValues = "-",
      value = {"none | - | PROPAGATE | none | none | 1",
          "fixed:2 | - | PROPAGATE | none | none | 1", "fixed:2 | - | NONE | none | none | 1",
          "fixed:3 | - | PROPAGATE | none | 1,4,12,0.6,2 | 1",
          "threshold:0.2 | 1,1 | PROPAGATE | none | none | 1",
          "threshold:0.2 | 1,1 | NONE | none | none | 1",
          "calm:0.25,4,12 | 1,2 | PROPAGATE | none | none | 1",
          "margin:0.1 | 2,1 | PROPAGATE | none | 1,4,12,0.6,2 | 1",
          "entropy:2.6 | 1,1 | NONE | none | 1,5,0,0.5 | 1",
          "patience:2 | 1,1 | PROPAGATE | none | none | 1",
          "none | - | PROPAGATE | none | 1,4,12,0.6,2 | 1",
          "none | - | PROPAGATE | unified:3 | none | 1",
          "none | - | PROPAGATE | fixed:0,2,4 | none | 1",
          "none | - | PROPAGATE | skipdecode:4,2,24,1 | none | 3"})
  void answersAsOnTheCpu(String exit, String points, KvPolicy kv, String schedule, String skip,
      int graphs) throws IOException {
    DecoderOptions options = options(exit, points, kv, schedule, skip, TinyModel.LAYERS);
    Compared compared = compare(elements, null, options, 0, STEPS);
    assertEquals(STEPS - graphs, compared.launches);
    boolean byRule = options.exit().readsHead();
    assertEquals(byRule || graphs > 1, compared.layers.size() > 1, compared::toString);
    assertEquals(options.ffnSkip() != null, compared.passed > 0, compared::toString);
    compare(blocks, null, options, 0, STEPS);
  }

  @Test
  void convertedWeights() throws IOException {
    compare(elements, DType.BF16, DecoderOptions.FULL, 0, STEPS);
    compare(blocks, DType.F32, DecoderOptions.FULL, 0, STEPS);
  }

  /** Biases, rotary factors and a head of its own, as others of the family have them. */
  @Test
  void variants() throws IOException {
    List<TinyModel.Weight> weights = new ArrayList<>(LlamaVariantsTest.biased());
    weights.add(new TinyModel.Weight("rope_freqs.weight", 1, 4, 1, 1.5f, 3, 8));
    weights.add(
        new TinyModel.Weight("output.weight", 24, 32, TinyModel.values(24, 32, new Random(4))));
    Path model =
        TinyModel.writeWeights(folder.resolve("variant.gguf"), TinyModel.metadata(), weights);
    compare(model, null,
        options("fixed:2", null, KvPolicy.PROPAGATE, "none", "none", TinyModel.LAYERS), 0, STEPS);
  }

  @Test
  void draws() throws IOException {
    compare(elements, null, DecoderOptions.FULL, 0.8, STEPS);
    compare(elements, null,
        options("threshold:0.2", "1,1", KvPolicy.PROPAGATE, "none", "none", TinyModel.LAYERS), 1.5,
        STEPS);
  }

  @Test
  void certifiedHeads() throws IOException {
    try (GgufFile file = GgufFile.open(elements);
        LlamaWeights weights = LlamaWeights.load(file, DType.BF16)) {
      int[] text = new Random(8).ints(40, 0, weights.config().vocabulary()).toArray();
      try (Screen screen = HeadScreen.make(weights, text, null)) {
        Compared compared =
            compare(weights, DecoderOptions.FULL.withScreen(screen), 0, STEPS, CAPACITY, 1, 2, 3);
        assertTrue(compared.certified > 0.9 * STEPS, compared::toString);
        assertEquals(STEPS - 1, compared.launches);
      }
    }
  }

  /** A prompt of several batches of rows, and no room after the answer. */
  @Test
  void longPrompts() throws IOException {
    Map<String, Object> metadata = TinyModel.metadata();
    metadata.put("llama.context_length", 300);
    Path model = TinyModel.write(folder.resolve("long.gguf"), metadata, null);
    try (GgufFile file = GgufFile.open(model);
        LlamaWeights weights = LlamaWeights.load(file, null)) {
      int[] prompt = new Random(6).ints(270, 0, weights.config().vocabulary()).toArray();
      compare(weights, DecoderOptions.FULL, 0, 4, 274, prompt);
      try (LlamaWeights there = weights.on(Device.cuda(0));
          DeviceDecoder device = new DeviceDecoder(there, DecoderOptions.FULL, 3, null)) {
        assertThrows(IllegalArgumentException.class, () -> device.begin());
        assertThrows(IllegalArgumentException.class, () -> device.begin(1, 2, 3, 4));
        device.begin(1, 2, 3);
        assertThrows(IllegalArgumentException.class, device::goOn);
      }
    }
  }

  /** With EXEUNT_LONG=1, since the emulator takes seconds for a token. */
  @Test
  void aRealModel() throws IOException {
    Assumptions.assumeTrue(System.getenv("EXEUNT_LONG") != null, "EXEUNT_LONG is not set");
    try (GgufFile file = GgufFile.open(TestData.model());
        LlamaWeights weights = LlamaWeights.load(file, null)) {
      int[] prompt = new Tokenizer(file).encodePrompt("The capital of France is");
      DecoderOptions options = options(
          "threshold:0.5", "20,5", KvPolicy.PROPAGATE, "none", "none", weights.config().layers());
      System.out.println(compare(weights, options, 0, 6, 32, prompt));
    }
  }
}
