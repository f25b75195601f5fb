// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.safetensors.prompt.PromptContext;
import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.GrowingCache;
import com.github.tjake.jlama.tensor.KvBufferCache;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Stream;
import org.exeunt.Backend;
import org.exeunt.Tensor;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIf;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

/**
 * Jlama's generation over exeunt's layers, caches and head, on a part of the demo's model and, in
 * 4 bits, on all of it.
 */
@ExtendWith(TestModels.class)
@EnabledIf(value = "org.exeunt.jlama.SmolLm#present",
    disabledReason = "the model is not here (set EXEUNT_MODEL, or run ./exeunt demo once)")
@SuppressWarnings("rawtypes")
class ExeuntLlamaModelTest {
  private static final int LAYERS = SmolLm.PART_LAYERS;
  private static final int LEAVES = 5;
  private static final int WIDTH = 576;
  private static final int HEAD = 64;
  private static final int[] PROMPT = {1, 504, 3575, 282, 4649, 314};

  private static Path folder;
  private static ExeuntLlamaModel model;

  @BeforeAll
  static void load() throws IOException {
    folder = SmolLm.part(DType.BF16);
    model = load(folder, Optional.empty(), null);
  }

  @AfterAll
  static void close() {
    model.close();
  }

  private static ExeuntLlamaModel load(Path folder, Optional<DType> quantisation, Exit exit)
      throws IOException {
    return ExeuntLlamaModel.load(folder.toFile(), DType.F32, quantisation, Optional.empty(), exit);
  }

  private static String answer(ExeuntLlamaModel model, UUID session, int tokens) {
    return model
        .generate(
            session, PromptContext.of("The capital of France is"), 0, tokens, (word, time) -> {})
        .responseText;
  }

  @Test
  void everyTokenRunsAllLayers() {
    long tokens = model.tokens();
    long ran = model.layersRun();
    answer(model, UUID.randomUUID(), 12);
    assertEquals(7 - 1, model.tokens() - tokens, "the first token comes of the prompt");
    assertEquals(LAYERS * (model.tokens() - tokens), model.layersRun() - ran);
  }

  @Test
  void aPromptIsWorthItsTokensOneByOne() {
    try (KvBufferCache.KvBuffer whole = buffer(model);
        KvBufferCache.KvBuffer single = buffer(model)) {
      AbstractTensor states = model.batchForward(PROMPT, 0, whole);
      AbstractTensor state = null;
      for (int i = 0; i < PROMPT.length; i++) {
        state = model.forward(PROMPT[i], i, single, Optional.empty());
      }
      for (int i = 0; i < WIDTH; i++) {
        assertEquals(state.get(0, i), states.get(PROMPT.length - 1, i), 2e-3);
      }
      AbstractTensor logits = model.makeDenseTensor(model.getConfig().vocabularySize);
      assertEquals(model.sample(state, 0, 0, logits),
          model.sample(states.slice(PROMPT.length - 1), 0, 0, logits));
    }
  }

  /** Beyond the first memory of a session, and from a file back. */
  @Test
  void sessionsGrowAndGoOn() {
    GrowingCache.Buffer buffer = (GrowingCache.Buffer) buffer(model);
    model.forward(PROMPT[0], 0, buffer, Optional.empty());
    float key = buffer.getKeyTensorsUptoPosition(7, 0)[0].get(0, 5);
    float value = buffer.getValTensorForPosition(LAYERS - 1, 0).get(0, 190);
    int generation = buffer.generation();
    Tensor memory = buffer.reserve(300);
    assertTrue(memory.size(2) >= 300);
    assertTrue(buffer.generation() != generation);
    for (int round = 0; round < 2; round++) {
      assertEquals(key, buffer.getKeyTensorForPosition(7, 0).get(0, 5));
      assertEquals(value, buffer.getValTensorForPosition(LAYERS - 1, 0).get(0, 190));
      buffer.close();
    }
    AbstractTensor after = model.forward(PROMPT[1], 1, buffer, Optional.empty());
    try (KvBufferCache.KvBuffer other = buffer(model)) {
      model.forward(PROMPT[0], 0, other, Optional.empty());
      AbstractTensor same = model.forward(PROMPT[1], 1, other, Optional.empty());
      for (int i = 0; i < WIDTH; i++) {
        assertEquals(same.get(0, i), after.get(0, i));
      }
    }
    buffer.close();
  }

  @Test
  void aTemperatureSamplesFromLogits() {
    try (KvBufferCache.KvBuffer buffer = buffer(model)) {
      AbstractTensor state = model.forward(PROMPT[0], 0, buffer, Optional.empty());
      float[] probabilities = model.getLogits(state);
      AbstractTensor logits = model.makeDenseTensor(probabilities.length);
      double sum = 0;
      int token = 0;
      while ((sum += probabilities[token]) < 0.5) {
        token++;
      }
      assertEquals(token, model.sample(state, 1, 0.5f, logits), 1.5);
      int best = model.sample(state, 0, 0, logits);
      // Jlama adds up 49,152 probabilities in f32.
      assertEquals(probabilities[best], model.probability(), 1e-3);
    }
  }

  /** Every token leaves after layer 20; keys and values above are those of its state there. */
  @Test
  void whoLeavesOwesNothing() throws IOException {
    ExeuntLlamaModel early = load(folder, Optional.empty(), new Exit(1e-9f, LEAVES, 1));
    try (KvBufferCache.KvBuffer buffer = buffer(early)) {
      early.batchForward(PROMPT, 0, buffer);
      int position = PROMPT.length;
      AbstractTensor state = early.forward(788, position, buffer, Optional.empty());
      assertEquals(1, early.tokens());
      assertEquals(LEAVES, early.layersRun());
      AbstractTensor logits = early.makeDenseTensor(early.getConfig().vocabularySize);
      int token = early.sample(state, 0, 0, logits);
      assertEquals(early.getLogits(state)[token], early.probability(), 1e-3);
      for (int layer : new int[] {LEAVES, LAYERS - 1}) {
        double[] x = normed(early, layer, state);
        double[] key = product(early, layer, "k_proj", x);
        double[] value = product(early, layer, "v_proj", x);
        AbstractTensor keys = buffer.getKeyTensorForPosition(layer, position);
        AbstractTensor values = buffer.getValTensorForPosition(layer, position);
        for (int i = 0; i < value.length; i++) {
          assertEquals(value[i], values.get(0, i), 1e-4);
          int half = HEAD / 2;
          float[] turn = early.getConfig().ropeFreqs.get()[position * half + i % half];
          boolean low = i % HEAD < half;
          double turned = low
              ? key[i] * turn[0] - key[i + half] * turn[1]
              : key[i] * turn[0] + key[i - half] * turn[1];
          assertEquals(turned, keys.get(0, i), 1e-3);
        }
      }
      // The head was read for that state alone.
      for (int id : new int[] {1, 504, 3575, 282, 4649}) {
        AbstractTensor other = early.batchForward(new int[] {id, id + 1}, 0, buffer);
        early.forward(788, position, buffer, Optional.empty());
        AbstractTensor row = other.slice(1);
        int sampled = early.sample(row, 0, 0, logits);
        float[] probabilities = early.getLogits(row);
        assertEquals(max(probabilities), probabilities[sampled], 1e-6);
      }
    } finally {
      early.close();
    }
  }

  private static float max(float[] values) {
    float max = values[0];
    for (float value : values) {
      max = Math.max(max, value);
    }
    return max;
  }

  /** The whole model, as Jlama keeps it on disk. */
  @Test
  void tokensOfFourBitsLeaveEarly() throws IOException {
    try (ExeuntLlamaModel small =
             load(SmolLm.folder(DType.Q4), Optional.empty(), new Exit(0.9f, 20, 2))) {
      assertTrue(small.onExeunt());
      assertTrue(answer(small, UUID.randomUUID(), 24).startsWith(" Paris"));
      assertTrue(small.layersRun() < small.getConfig().numberOfLayers * small.tokens(),
          "no token left early");
    }
  }

  @Test
  void weightsBecomeFourBitsWhenTheyAreLoaded() throws IOException {
    try (ExeuntLlamaModel small = load(folder, Optional.of(DType.Q4), null);
        KvBufferCache.KvBuffer whole = buffer(model);
        KvBufferCache.KvBuffer rounded = buffer(small)) {
      assertTrue(small.onExeunt());
      AbstractTensor expected = model.batchForward(PROMPT, 0, whole);
      AbstractTensor states = small.batchForward(PROMPT, 0, rounded);
      double cosine = Vectors.cosine(row(expected), row(states));
      assertTrue(cosine > 0.6 && cosine < 0.9999999, "cosine " + cosine);
    }
  }

  private static float[] row(AbstractTensor states) {
    float[] row = new float[WIDTH];
    for (int i = 0; i < WIDTH; i++) {
      row[i] = states.get(PROMPT.length - 1, i);
    }
    return row;
  }

  /** Keys and values of a conversation are in no folder, whether it goes on or not. */
  @Test
  void nothingOfASessionIsLeft() throws Exception {
    UUID session = UUID.randomUUID();
    String first = answer(model, session, 12);
    String second = answer(model, session, 24);
    long held = Backend.heldBytes();
    ExeuntLlamaModel closed = load(folder, Optional.empty(), null);
    Path files = closed.getConfig().workingDirectory().get().toPath();
    assertEquals(first, answer(closed, session, 12));
    assertEquals(List.of(), list(files), "after an answer");
    assertEquals(second, answer(closed, session, 24));
    GrowingCache.Buffer buffer = (GrowingCache.Buffer) closed.kv().getKvBuffer(session);
    buffer.reserve(100);
    buffer.reserve(300);
    for (int other = 0; other < 5; other++) { // more than keep their ops
      answer(closed, UUID.randomUUID(), 9);
    }
    CountDownLatch begun = new CountDownLatch(3);
    AtomicReference<RuntimeException> end = new AtomicReference<>();
    Thread generator = new Thread(() -> {
      try {
        closed.generate(UUID.randomUUID(), PromptContext.of("The capital of France is"), 0, 4000,
            (word, time) -> begun.countDown());
      } catch (RuntimeException e) {
        end.set(e);
      }
    });
    generator.start();
    begun.await();
    closed.close();
    generator.join();
    assertTrue(end.get() instanceof IllegalStateException, String.valueOf(end.get()));
    assertTrue(end.get().getMessage().contains("closed"), end.get().getMessage());
    assertTrue(Files.notExists(files), "the folder was there for these files alone");
    assertEquals(held, Backend.heldBytes());
    assertEquals("the model is closed",
        assertThrows(IllegalStateException.class, closed::probability).getMessage());
    assertThrows(IllegalStateException.class, () -> answer(closed, session, 12));
    closed.close();
  }

  /** A process that ends with a session, closed or not, or is killed in an answer. */
  @Test
  void nothingIsLeftOfAProcess(@TempDir Path temporary) throws Exception {
    for (String end : new String[] {"return", "exit", "halt"}) {
      Peers.output(List.of("-Djava.io.tmpdir=" + temporary), Peers.Kind.MODEL, Leaving.class,
          folder.toString(), end);
      try (Stream<Path> left = Files.walk(temporary)) {
        assertEquals(List.of(), left.filter(Files::isRegularFile).toList(), end);
      }
    }
  }

  /** {@code Leaving FOLDER return|exit|halt}: answers once, and ends in its next answer. */
  static final class Leaving {
    private Leaving() {}

    public static void main(String[] arguments) throws IOException {
      ExeuntLlamaModel model = load(Path.of(arguments[0]), Optional.empty(), null);
      answer(model, UUID.randomUUID(), 12);
      if (arguments[1].equals("return")) {
        return;
      }
      model.generate(UUID.randomUUID(), PromptContext.of("The capital"), 0, 4000, (word, time) -> {
        if (arguments[1].equals("exit")) {
          System.exit(0);
        }
        Runtime.getRuntime().halt(0);
      });
    }
  }

  private static List<Path> list(Path folder) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.toList();
    }
  }

  /** A model whose file lacks a weight leaks no memory. */
  @Test
  void aBrokenModelLeavesNothing(@TempDir Path copy) throws IOException {
    for (Path file : list(folder)) {
      Files.copy(file, copy.resolve(file.getFileName()));
    }
    Path weights = copy.resolve("model.safetensors");
    byte[] intact = Files.readAllBytes(weights);
    String header = new String(intact, 8, 1 << 14, StandardCharsets.ISO_8859_1);
    for (String lost : new String[] {"model.norm.weight", "model.layers.7.mlp.down_proj.weight"}) {
      byte[] broken = intact.clone();
      int at = 8 + header.indexOf("\"" + lost + "\"") + 1;
      assertTrue(at > 9, lost);
      broken[at] = 'M';
      Files.write(weights, broken);
      long held = Backend.heldBytes();
      assertThrows(RuntimeException.class, () -> load(copy, Optional.empty(), null));
      assertEquals(held, Backend.heldBytes(), lost);
    }
  }

  @Test
  void unsoundArgumentsAreNamed() {
    try (KvBufferCache.KvBuffer buffer = buffer(model)) {
      int context = model.getConfig().contextLength;
      assertEquals("positions 8192 to 8192 are not all in the model's context of 8192",
          assertThrows(IllegalArgumentException.class,
              () -> model.forward(1, context, buffer, Optional.empty()))
              .getMessage());
    }
    assertEquals("probability is 0.0, expected one above 0, at most 1",
        assertThrows(IllegalArgumentException.class, () -> new Exit(0, 1, 1)).getMessage());
    assertEquals("first is 0, stride 1, expected at least 1",
        assertThrows(IllegalArgumentException.class, () -> new Exit(1, 0, 1)).getMessage());
    try (KvBufferCache.KvBuffer other = new KvBufferCache(model).getEphemeralKvBuffer()) {
      assertEquals("the buffer of keys and values is not of this model",
          assertThrows(
              IllegalArgumentException.class, () -> model.forward(1, 0, other, Optional.empty()))
              .getMessage());
    }
  }

  @Test
  void anotherWorkingTypeRunsAsJlamasOwn() throws IOException {
    try (ExeuntLlamaModel other = ExeuntLlamaModel.load(
             folder.toFile(), DType.BF16, Optional.empty(), Optional.empty(), null)) {
      assertTrue(!other.onExeunt());
    }
  }

  @Test
  void whereExeuntCannotRunItIsJlamasOwn() throws IOException, InterruptedException {
    String output = Peers.output(List.of("-Dexeunt.isa=nonsense"), Peers.Kind.MODEL,
        Generation.class, folder.toString(), "F32", "-", "1", "4", "1", "exeunt", "The capital");
    assertTrue(Peers.line(output, "operations ").startsWith("Panama"), output);
    assertTrue(!Peers.line(output, "text ").isBlank(), output);
  }

  private static KvBufferCache.KvBuffer buffer(ExeuntLlamaModel model) {
    return model.kv().getKvBuffer(UUID.randomUUID());
  }

  private static double[] normed(ExeuntLlamaModel model, int layer, AbstractTensor state) {
    AbstractTensor norm =
        model.getWeights().load("model.layers." + layer + ".input_layernorm.weight");
    double square = 0;
    for (int i = 0; i < WIDTH; i++) {
      square += (double) state.get(0, i) * state.get(0, i);
    }
    double scale = 1 / Math.sqrt(square / WIDTH + model.getConfig().layerNormEps);
    double[] x = new double[WIDTH];
    for (int i = 0; i < WIDTH; i++) {
      x[i] = state.get(0, i) * scale * norm.get(0, i);
    }
    return x;
  }

  private static double[] product(ExeuntLlamaModel model, int layer, String name, double[] x) {
    AbstractTensor weight =
        model.getWeights().load("model.layers." + layer + ".self_attn." + name + ".weight");
    double[] result = new double[weight.shape().first()];
    for (int row = 0; row < result.length; row++) {
      for (int i = 0; i < x.length; i++) {
        result[row] += weight.get(row, i) * x[i];
      }
    }
    return result;
  }
}
