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
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import org.exeunt.Tensor;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIf;
import org.junit.jupiter.api.extension.ExtendWith;

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

  /** Every token leaves behind layer 20; keys and values above are those of its state there. */
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
    } finally {
      early.close();
    }
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
