// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.exeunt.DType;
import org.exeunt.Tensor;
import org.exeunt.engine.drop.PromptDrop;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyGemma;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgmlType;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.ModelFormatException;
import org.exeunt.engine.model.text.ChatTemplate;
import org.exeunt.engine.model.text.Tokenizer;
import org.exeunt.engine.policy.ExitPolicy;
import org.exeunt.engine.policy.FfnSkip;
import org.exeunt.engine.policy.KvPolicy;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Gemma 3 on random weights, with prompts several times as long as the window. */
class GemmaTest {
  private static final int CAPACITY = 64;

  @TempDir static Path folder;
  private static Path path;
  private static LlamaWeights weights;

  @BeforeAll
  static void load() throws IOException {
    path = TinyGemma.write(folder.resolve("gemma.gguf"));
    try (GgufFile file = GgufFile.open(path)) {
      Set<GgmlType> formats = EnumSet.noneOf(GgmlType.class);
      file.tensors().values().forEach(tensor -> formats.add(tensor.type()));
      formats.addAll(Set.of(GgmlType.F16, GgmlType.BF16));
      assertEquals(EnumSet.allOf(GgmlType.class), formats);
      weights = LlamaWeights.load(file, DType.F32);
    }
  }

  @AfterAll
  static void close() {
    weights.close();
  }

  private static int[] tokens(int count, int seed) {
    return new Random(seed).ints(count, 0, TinyGemma.vocabulary()).toArray();
  }

  /** The logits of each token: a prompt in pieces, the last of one token. */
  private static float[][] logits(LlamaWeights of, DecoderOptions options, int[] ids, int prompt) {
    float[][] logits = new float[ids.length][];
    try (Decoder decoder = new Decoder(of, options.withLogits(), 1, CAPACITY)) {
      decoder.prefill(0, Arrays.copyOf(ids, prompt));
      logits[prompt - 1] = decoder.logits().row(0).toFloatArray();
      for (int t = prompt; t < ids.length; t++) {
        decoder.step(ids[t]);
        logits[t] = decoder.logits().row(0).toFloatArray();
      }
    }
    return logits;
  }

  private static void assertNear(double[] expected, float[] actual, double tolerance, int t) {
    double worst = 0;
    for (int i = 0; i < expected.length; i++) {
      worst = Math.max(worst, Math.abs(expected[i] - actual[i]));
    }
    assertTrue(worst < tolerance, "position " + t + ": " + worst);
  }

  @Test
  void computesWhatDoublePrecisionDoes() {
    int[] ids = tokens(40, 1);
    DoubleDecoder exact = new DoubleDecoder(weights, ids);
    float[][] found = logits(weights, DecoderOptions.FULL, ids, 1);
    for (int t = 0; t < ids.length; t++) {
      assertNear(exact.logits(t, t + 1)[0], found[t], 5e-5, t);
    }
  }

  @Test
  void computesNearlyTheSameFromNarrowWeights() throws IOException {
    int[] ids = tokens(24, 2);
    try (GgufFile file = GgufFile.open(path);
        LlamaWeights narrow = LlamaWeights.load(file, DType.BF16)) {
      DoubleDecoder exact = new DoubleDecoder(narrow, ids);
      float[][] found = logits(narrow, DecoderOptions.FULL, ids, 20);
      for (int t = 19; t < ids.length; t++) {
        assertNear(
            exact.logits(t, t + 1)[0], found[t], 0.02, t); // a key may round to the other side
      }
    }
  }

  /** Some rows of a prompt see less than the window, some more. */
  @Test
  void aPromptMayComeInPiecesOrTokenByToken() {
    int[] ids = tokens(40, 3);
    float[][] single = logits(weights, DecoderOptions.FULL, ids, 1);
    for (int prompt : new int[] {5, TinyGemma.WINDOW, TinyGemma.WINDOW + 1, 23, 40}) {
      float[][] found = logits(weights, DecoderOptions.FULL, ids, prompt);
      for (int t = prompt - 1; t < ids.length; t++) {
        assertArrayEquals(single[t], found[t], prompt + " at once, token " + t);
      }
    }
  }

  @Test
  void sequencesOfABatchSeeTheirOwnWindows() {
    int[][] ids = {tokens(30, 4), tokens(30, 5), tokens(30, 6)};
    int[] begun = {4, 12, 19};
    try (Decoder decoder = new Decoder(weights, DecoderOptions.FULL.withLogits(), 3, CAPACITY)) {
      for (int s = 0; s < 3; s++) {
        decoder.prefill(s, Arrays.copyOf(ids[s], begun[s]));
      }
      float[][][] alone = new float[3][][];
      for (int s = 0; s < 3; s++) {
        alone[s] = logits(weights, DecoderOptions.FULL, ids[s], begun[s]);
      }
      for (int step = 0; step < 10; step++) {
        decoder.step(ids[0][begun[0] + step], ids[1][begun[1] + step], ids[2][begun[2] + step]);
        for (int s = 0; s < 3; s++) {
          assertArrayEquals(
              alone[s][begun[s] + step], decoder.logits().row(s).toFloatArray(), "step " + step);
        }
      }
    }
  }

  /** A model whose layers from {@code layer} on add nothing. */
  private static LlamaWeights idleFrom(int layer, String... branches) throws IOException {
    List<TinyModel.Weight> changed = TinyGemma.weights();
    for (TinyModel.Weight weight : changed) {
      for (int l = layer; l < TinyGemma.LAYERS; l++) {
        for (String branch : branches) {
          if (weight.name().equals("blk." + l + "." + branch + ".weight")) {
            Arrays.fill(weight.values(), 0);
          }
        }
      }
    }
    Path idle = TinyModel.writeWeights(folder.resolve("idle.gguf"), TinyGemma.metadata(), changed);
    try (GgufFile file = GgufFile.open(idle)) {
      return LlamaWeights.load(file, DType.F32);
    }
  }

  private static List<float[]> keysAndValues(LlamaWeights of, DecoderOptions options) {
    List<float[]> found = new ArrayList<>();
    try (Decoder decoder = new Decoder(of, options, 2, CAPACITY)) {
      decoder.prefill(0, tokens(5, 7));
      decoder.prefill(1, tokens(11, 8));
      for (int step = 0; step < 12; step++) {
        decoder.step(tokens(2, step));
      }
      for (int l = 0; l < TinyGemma.LAYERS; l++) {
        for (Tensor part : List.of(decoder.kv().cache(l).k(), decoder.kv().cache(l).v())) {
          found.add(part.row(0).slice(0, 0, 17).toFloatArray());
          found.add(part.row(1).slice(0, 0, 23).toFloatArray());
        }
      }
    }
    return found;
  }

  /** Where the upper layers add nothing, what a token owes them is what it would have written. */
  @Test
  void tokensThatLeaveEarlyOweNormedKeys() throws IOException {
    try (LlamaWeights idle = idleFrom(2, "attn_output", "ffn_down")) {
      List<float[]> full = keysAndValues(idle, DecoderOptions.FULL);
      List<float[]> early = keysAndValues(idle,
          DecoderOptions.FULL.withExit(
              ExitPolicy.fixed(position -> 2 + position % 4), KvPolicy.PROPAGATE));
      for (int i = 0; i < full.size(); i++) {
        assertArrayEquals(full.get(i), early.get(i), "layer " + i / 4);
      }
    }
  }

  /** A block that is passed adds exactly nothing. */
  @Test
  void passedBlocksAddNothing() throws IOException {
    int[] ids = tokens(20, 9);
    FfnSkip always = new FfnSkip(1, TinyGemma.LAYERS, 0, -2, -1); // from layer 2 on
    try (LlamaWeights idle = idleFrom(2, "ffn_down");
        LlamaWeights whole = idleFrom(TinyGemma.LAYERS)) {
      for (LlamaWeights either : List.of(idle, whole)) {
        float[] much = new float[32]; // would show what little is left of the op's own sum
        Arrays.fill(much, 1e6f);
        either.layers()
            .subList(2, TinyGemma.LAYERS)
            .forEach(layer -> layer.feedForwardBranchNorm().copyFrom(much));
      }
      float[][] expected = logits(idle, DecoderOptions.FULL, ids, 6);
      assertNear(new DoubleDecoder(idle, ids).logits(19, 20)[0], expected[19], 5e-5, 19);
      float[][] found = logits(whole, DecoderOptions.FULL.withFfnSkip(always), ids, 6);
      for (int t = 5; t < ids.length; t++) {
        assertArrayEquals(expected[t], found[t], "token " + t);
      }
    }
  }

  @Test
  void droppingTokensIsRefused() {
    DecoderOptions drop =
        DecoderOptions.FULL.withDrop(PromptDrop.parse("fastv:2,0.5", TinyGemma.LAYERS));
    String message =
        assertThrows(IllegalArgumentException.class, () -> new Decoder(weights, drop, 1, CAPACITY))
            .getMessage();
    assertTrue(message.contains("layers see a window"), message);
  }

  // ---- tokens

  private static Tokenizer tokenizer(String key, Object value) throws IOException {
    Map<String, Object> metadata = TinyGemma.metadata();
    metadata.put(key, value);
    Path model = TinyModel.writeWeights(folder.resolve("words.gguf"), metadata, List.of());
    try (GgufFile file = GgufFile.open(model)) {
      return new Tokenizer(file);
    }
  }

  private static void assertSpelled(Tokenizer tokenizer, String text, String... pieces)
      throws IOException {
    List<String> found = new ArrayList<>();
    String[] tokens = (String[]) TinyGemma.metadata().get("tokenizer.ggml.tokens");
    for (int id : tokenizer.encode(text)) {
      found.add(tokens[id]);
    }
    assertEquals(List.of(pieces), found);
  }

  @Test
  void scoresSayWhatIsJoined() throws IOException {
    Tokenizer tokenizer = tokenizer("tokenizer.ggml.add_space_prefix", false);
    assertSpelled(tokenizer, "abd", "ab", "d");
    assertSpelled(tokenizer, " abd", "\u2581a", "b", "d");
    assertSpelled(tokenizer, "abcbc", "abc", "bc");
    assertSpelled(tokenizer, "   a", "\u2581\u2581", "\u2581a");
    assertSpelled(tokenizer, "a\u00e9\n", "a", "<0xC3>", "<0xA9>", "<0x0A>");
    assertSpelled(tokenizer, "\ud83d\ude00", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>");
    assertSpelled(tokenizer, "ab<end_of_turn>\n\n\n c", "ab", "<end_of_turn>", "\n\n", "<0x0A>",
        "\u2581", "c");
    assertSpelled(tokenizer, "<end_of", "<0x3C>", "e", "<0x6E>", "d", "<0x5F>", "<0x6F>", "f");
    for (String text : List.of("", "  ab c\n\n\u00e9\ud83d\ude00 <bos>x")) {
      assertEquals(text, tokenizer.decode(tokenizer.encode(text)));
    }
  }

  @Test
  void textMayBeginWithABlank() throws IOException {
    Tokenizer tokenizer = tokenizer("tokenizer.ggml.add_space_prefix", true);
    assertSpelled(tokenizer, "abd", "\u2581a", "b", "d");
    assertSpelled(tokenizer, "<bos>abd<eos>", "<bos>", "\u2581a", "b", "d", "<eos>");
  }

  @Test
  void promptsHaveABeginningAndAnswersAnEnd() throws IOException {
    Tokenizer tokenizer = tokenizer("tokenizer.ggml.add_space_prefix", false);
    assertEquals("<bos>ab", tokenizer.decode(tokenizer.encodePrompt("ab")));
    Tokenizer without = tokenizer("tokenizer.ggml.add_bos_token", false);
    assertEquals("ab", without.decode(without.encodePrompt("ab")));
    assertTrue(tokenizer.ends(tokenizer.encode("<eos>")[0]));
    assertTrue(tokenizer.ends(tokenizer.encode("<end_of_turn>")[0]));
    int c = tokenizer.encode("c")[0];
    assertFalse(tokenizer.ends(c));
    assertTrue(tokenizer("tokenizer.ggml.eot_token_id", c).ends(c));
  }

  @Test
  void longRunsTakeLinearTime() throws IOException {
    Tokenizer tokenizer = tokenizer("tokenizer.ggml.add_space_prefix", false);
    for (String unit : List.of("abc", " ", "<", "<end_of", "\ud83d\ude00")) {
      String text = unit.repeat(100_000);
      int[] ids = assertTimeoutPreemptively(Duration.ofSeconds(20), () -> tokenizer.encode(text));
      assertEquals(text, tokenizer.decode(ids));
    }
  }

  @Test
  void chatsAreTurns() throws IOException {
    try (GgufFile file = GgufFile.open(path)) {
      String prompt = new ChatTemplate(file).render(List.of(
          new ChatTemplate.Message("system", "Be kind."), new ChatTemplate.Message("user", " hi "),
          new ChatTemplate.Message("assistant", "Hello."),
          new ChatTemplate.Message("user", "Why?")));
      assertEquals("<bos><start_of_turn>user\nBe kind.\n\nhi<end_of_turn>\n"
              + "<start_of_turn>model\nHello.<end_of_turn>\n"
              + "<start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\n",
          prompt);
    }
  }

  // ---- files that make no sense

  private static void assertReported(String expected, Map<String, Object> metadata,
      List<TinyModel.Weight> parts) throws IOException {
    Path model = TinyModel.writeWeights(folder.resolve("hostile.gguf"), metadata, parts);
    try (GgufFile file = GgufFile.open(model)) {
      String message = assertThrows(ModelFormatException.class, () -> {
        new Tokenizer(file);
        LlamaWeights.load(file, DType.F32).close();
      }).getMessage();
      assertTrue(message.contains(expected), message);
    }
  }

  private static void assertReported(String expected, String key, Object value) throws IOException {
    Map<String, Object> metadata = TinyGemma.metadata();
    if (value == null) {
      metadata.remove(key);
    } else {
      metadata.put(key, value);
    }
    assertReported(expected, metadata, TinyGemma.weights());
  }

  @Test
  void senselessFilesAreReported() throws IOException {
    assertReported("has 3 elements for ", "tokenizer.ggml.scores", new float[3]);
    assertReported("has no metadata 'gemma3.attention.sliding_window'",
        "gemma3.attention.sliding_window", null);
    assertReported("sliding_window' is 0,", "gemma3.attention.sliding_window", 0);
    assertReported("window_pattern' is 0,", "gemma3.attention.sliding_window_pattern", 0);
    assertReported("'gemma3.rope.freq_base_swa' is 0.0,", "gemma3.rope.freq_base_swa", 0f);
    assertReported("softcapping' is 50.0", "gemma3.attn_logit_softcapping", 50f);
    for (String name :
        List.of("attn_q_norm", "attn_k_norm", "post_attention_norm", "post_ffw_norm")) {
      String tensor = "blk.3." + name + ".weight";
      List<TinyModel.Weight> parts = TinyGemma.weights();
      parts.removeIf(weight -> weight.name().equals(tensor));
      assertReported("has no tensor '" + tensor + "'", TinyGemma.metadata(), parts);
      parts.add(new TinyModel.Weight(tensor, 1, 2, new float[2]));
      assertReported("'" + tensor + "' is 1 x 2,", TinyGemma.metadata(), parts);
    }
    for (String more : List.of("rope_freqs.weight", "blk.0.attn_q.bias")) {
      List<TinyModel.Weight> parts = TinyGemma.weights();
      parts.add(new TinyModel.Weight(more, 1, 8, new float[8]));
      assertReported("has a tensor '" + more + "', which", TinyGemma.metadata(), parts);
    }
  }
}
