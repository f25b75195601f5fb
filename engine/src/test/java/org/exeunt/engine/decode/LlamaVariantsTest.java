// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.exeunt.DType;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.ModelFormatException;
import org.exeunt.engine.model.text.Tokenizer;
import org.exeunt.engine.policy.ExitPolicy;
import org.exeunt.engine.policy.KvPolicy;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What files of architecture llama may have beside what SmolLM2 has. */
public class LlamaVariantsTest {
  @TempDir Path folder;

  private static List<TinyModel.Weight> with(TinyModel.Weight... more) {
    List<TinyModel.Weight> weights = new ArrayList<>(TinyModel.weights());
    weights.addAll(List.of(more));
    return weights;
  }

  private static TinyModel.Weight vector(String name, float... values) {
    return new TinyModel.Weight(name, 1, values.length, values);
  }

  private static TinyModel.Weight bias(String name, int length) {
    float[] values = new float[length];
    for (int i = 0; i < length; i++) {
      values[i] = (i * 7 % 5 - 2) / 4f;
    }
    return vector(name, values);
  }

  /** Of some projections only; the others have none. */
  public static List<TinyModel.Weight> biased() {
    return with(bias("blk.0.attn_q.bias", 32), bias("blk.1.attn_k.bias", 16),
        bias("blk.1.attn_v.bias", 16), bias("blk.4.attn_k.bias", 16));
  }

  private LlamaWeights load(Map<String, Object> metadata, List<TinyModel.Weight> weights)
      throws IOException {
    Path path = TinyModel.writeWeights(folder.resolve("tiny.gguf"), metadata, weights);
    try (GgufFile file = GgufFile.open(path)) {
      return LlamaWeights.load(file, DType.F32);
    }
  }

  /** Returns the last logits. */
  private static double[] assertExact(LlamaWeights weights) {
    int[] ids = new Random(3).ints(30, 0, 24).toArray();
    double[][] exact = new DoubleDecoder(weights, ids).logits(0, ids.length);
    try (Decoder decoder = new Decoder(weights, DecoderOptions.FULL.withLogits(), 1, 40)) {
      decoder.prefill(0, Arrays.copyOf(ids, 20));
      for (int t = 20; t < ids.length; t++) {
        decoder.step(ids[t]);
        float[] found = decoder.logits().row(0).toFloatArray();
        for (int v = 0; v < found.length; v++) {
          assertEquals(exact[t][v], found[v], 2e-5, "token " + t);
        }
      }
    }
    return exact[ids.length - 1];
  }

  private static double distance(double[] a, double[] b) {
    double most = 0;
    for (int i = 0; i < a.length; i++) {
      most = Math.max(most, Math.abs(a[i] - b[i]));
    }
    return most;
  }

  @Test
  void biasesRotaryFactorsAndWideHeadsCount() throws IOException {
    Map<String, Object> linear = TinyModel.metadata();
    linear.put("llama.rope.scaling.type", "linear");
    linear.put("llama.rope.scaling.factor", 2f);
    TinyModel.Weight factors = vector("rope_freqs.weight", 1, 1.5f, 3, 8);
    Map<String, Object> wide = TinyModel.metadata();
    wide.put("llama.attention.head_count", 2);
    wide.put("llama.attention.head_count_kv", 1);
    wide.put("llama.attention.key_length", 16);
    wide.put("llama.rope.dimension_count", 16);
    try (LlamaWeights plain = load(TinyModel.metadata(), TinyModel.weights());
        LlamaWeights biased = load(TinyModel.metadata(), biased());
        LlamaWeights factored = load(TinyModel.metadata(), with(factors));
        LlamaWeights both = load(linear, with(factors));
        LlamaWeights heads = load(wide, TinyModel.weights())) {
      double[] base = assertExact(plain);
      for (LlamaWeights other : List.of(biased, factored, both, heads)) {
        assertTrue(distance(base, assertExact(other)) > 1e-3, "it makes a difference");
      }
    }
  }

  /** Where the upper layers add nothing, a token owes them what it would have written. */
  @Test
  void owedKeysAndValuesHaveTheirBiases() throws IOException {
    List<TinyModel.Weight> idle = biased();
    for (TinyModel.Weight weight : idle) {
      if (weight.name().matches("blk[.][1-9][.](attn_output|ffn_down).weight")) {
        Arrays.fill(weight.values(), 0);
      }
    }
    try (LlamaWeights weights = load(TinyModel.metadata(), idle)) {
      assertArrayEquals(keys(weights, DecoderOptions.FULL),
          keys(
              weights, DecoderOptions.FULL.withExit(ExitPolicy.fixed(p -> 1), KvPolicy.PROPAGATE)));
    }
  }

  private static float[] keys(LlamaWeights weights, DecoderOptions options) {
    try (Decoder decoder = new Decoder(weights, options, 1, 8)) {
      decoder.prefill(0, 1, 2, 3);
      for (int token = 4; token < 9; token++) {
        decoder.step(token);
      }
      float[] all = {};
      for (int l = 0; l < TinyModel.LAYERS; l++) {
        float[] k = decoder.kv().cache(l).k().toFloatArray();
        float[] v = decoder.kv().cache(l).v().toFloatArray();
        int end = all.length;
        all = Arrays.copyOf(all, end + k.length + v.length);
        System.arraycopy(k, 0, all, end, k.length);
        System.arraycopy(v, 0, all, end + k.length, v.length);
      }
      return all;
    }
  }

  @Test
  void misshapenOnesAreRefused() throws IOException {
    assertRefused("'blk.2.attn_q.bias' is 1 x 8, but the metadata asks for 1 x 32",
        with(bias("blk.2.attn_q.bias", 8)));
    assertRefused("'blk.9.attn_q.bias', which", with(bias("blk.9.attn_q.bias", 32)));
    assertRefused(
        "'rope_freqs.weight' is 1 x 5, but", with(vector("rope_freqs.weight", new float[5])));
    for (float factor : new float[] {0, -1, Float.NaN, Float.POSITIVE_INFINITY}) {
      assertRefused("has a factor " + factor, with(vector("rope_freqs.weight", 1, 1, factor, 1)));
    }
  }

  private void assertRefused(String expected, List<TinyModel.Weight> weights) {
    String message =
        assertThrows(ModelFormatException.class, () -> load(TinyModel.metadata(), weights).close())
            .getMessage();
    assertTrue(message.contains(expected), message);
  }

  // ---- pre-tokenizers

  /** A vocabulary of bytes, some digits joined, and a word that no merges lead to. */
  private Tokenizer tokenizer(String pre) throws IOException {
    Map<String, Object> metadata = TinyModel.metadata();
    List<String> tokens = new ArrayList<>(List.of(
        "<end>", "12", "123", "1234", "abx", "!\u010a", "\u0120\u0120", "'L", "\u010a\u010a"));
    for (char c = '!'; c <= '~'; c++) {
      tokens.add(String.valueOf(c));
    }
    tokens.addAll(List.of("\u0120", "\u010a")); // a blank and a line break
    metadata.put("tokenizer.ggml.pre", pre);
    metadata.put("tokenizer.ggml.tokens", tokens.toArray(String[] ::new));
    int[] types = new int[tokens.size()];
    Arrays.fill(types, 1);
    metadata.put("tokenizer.ggml.token_type", types);
    metadata.put("tokenizer.ggml.merges",
        new String[] {"1 2", "12 3", "123 4", "! \u010a", "\u0120 \u0120", "' L", "\u010a \u010a"});
    metadata.put("tokenizer.ggml.bos_token_id", 0);
    Path path = TinyModel.writeWeights(folder.resolve("words.gguf"), metadata, List.of());
    try (GgufFile file = GgufFile.open(path)) {
      return new Tokenizer(file);
    }
  }

  private static String pieces(Tokenizer tokenizer, String text) {
    List<String> found = new ArrayList<>();
    for (int id : tokenizer.encode(text)) {
      found.add(tokenizer.decode(id));
    }
    return String.join("|", found);
  }

  @Test
  void textIsSplitAsTheFileSays() throws IOException {
    Tokenizer smollm = tokenizer("smollm");
    Tokenizer llama = tokenizer("llama-bpe");
    Tokenizer qwen = tokenizer("qwen2");
    assertEquals("1|2|3|4", pieces(smollm, "1234"));
    assertEquals("123|4", pieces(llama, "1234"));
    assertEquals("1|2|3|4", pieces(qwen, "1234"));
    assertEquals("a|b|x", pieces(smollm, "abx"));
    assertEquals("abx", pieces(llama, "abx"), "a piece that is a token");
    assertEquals("a|b|x", pieces(qwen, "abx"));
    assertEquals("!|\n|a", pieces(smollm, "!\na"));
    assertEquals("!\n|a", pieces(llama, "!\na"));
    assertEquals("!\n|a", pieces(qwen, "!\na"));
    assertEquals("  |1", pieces(smollm, "  1"), "nothing follows the blanks before a digit");
    assertEquals(" | |1", pieces(llama, "  1"));
    assertEquals(" | |1", pieces(qwen, "  1"));
    assertEquals("'|L|L", pieces(smollm, "'LL"));
    assertEquals("'L|L", pieces(llama, "'LL"));
    assertEquals("\n\n|a", pieces(qwen, "\n\na"));
    assertEquals("\n|\n|a", pieces(smollm, "\n\na"));
  }

  @Test
  void onlyLlama3BeginsByItself() throws IOException {
    assertEquals("<end>a", tokenizer("llama-bpe").decode(tokenizer("llama-bpe").encodePrompt("a")));
    assertEquals("a", tokenizer("qwen2").decode(tokenizer("qwen2").encodePrompt("a")));
    assertEquals("a", tokenizer("smollm").decode(tokenizer("smollm").encodePrompt("a")));
  }
}
