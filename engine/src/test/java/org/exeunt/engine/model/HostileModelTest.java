// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import org.exeunt.DType;
import org.exeunt.engine.model.gguf.GgufBuilder;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.ModelFormatException;
import org.exeunt.engine.model.text.ChatTemplate;
import org.exeunt.engine.model.text.Tokenizer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.ThrowingConsumer;
import org.junit.jupiter.api.io.TempDir;

/** Well-formed GGUF files that are not a model this engine can run. */
class HostileModelTest {
  @TempDir Path folder;

  /** A sound tiny model's metadata, keys in order; a test spoils one entry. */
  private static Map<String, Object> sound() {
    Map<String, Object> metadata = new LinkedHashMap<>();
    metadata.put("general.architecture", "llama");
    metadata.put("llama.embedding_length", 4);
    metadata.put("llama.attention.head_count", 2);
    metadata.put("llama.attention.head_count_kv", 1);
    metadata.put("llama.rope.dimension_count", 2);
    metadata.put("llama.block_count", 1);
    metadata.put("llama.feed_forward_length", 8);
    metadata.put("llama.context_length", 16);
    metadata.put("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    metadata.put("llama.rope.freq_base", 1e4f);
    metadata.put("tokenizer.ggml.model", "gpt2");
    metadata.put("tokenizer.ggml.pre", "smollm");
    metadata.put("tokenizer.ggml.tokens", new String[] {"<end>", "a", "b", "ab"});
    metadata.put("tokenizer.ggml.token_type", new int[] {3, 1, 1, 1});
    metadata.put("tokenizer.ggml.merges", new String[] {"a b"});
    metadata.put("tokenizer.ggml.eos_token_id", 0);
    metadata.put("tokenizer.chat_template", "<|im_start|>system\nBe kind.<|im_end|>\n");
    return metadata;
  }

  private GgufFile write(Map<String, Object> metadata, long... embedding) throws IOException {
    GgufBuilder file = GgufBuilder.start(embedding.length == 0 ? 0 : 1, metadata.size());
    metadata.forEach(file::entry);
    if (embedding.length > 0) {
      file.tensor("token_embd.weight", 0, 0, embedding);
    }
    return GgufFile.open(file.pad(32).raw(new byte[256]).write(folder.resolve("model.gguf")));
  }

  private void assertProblem(String expected, String key, Object value,
      ThrowingConsumer<GgufFile> use) throws IOException {
    Map<String, Object> metadata = sound();
    metadata.put(key, value);
    try (GgufFile file = write(metadata)) {
      String message =
          assertThrows(ModelFormatException.class, () -> use.accept(file)).getMessage();
      assertTrue(message.contains(expected), message);
      assertTrue(message.contains("model.gguf: "), message);
    }
  }

  @Test
  void theSoundOneIsSound() throws IOException {
    try (GgufFile file = write(sound())) {
      assertEquals(2, LlamaConfig.of(file).heads());
      Tokenizer tokenizer = new Tokenizer(file);
      assertEquals(1, tokenizer.encode("ab").length);
      assertEquals("ab<end>", tokenizer.decode(3, 0));
      assertEquals(0, tokenizer.encode("z").length, "the vocabulary has no z");
    }
  }

  @Test
  void senselessSizesAreReported() throws IOException {
    assertProblem(
        "'general.architecture' is 'bert'", "general.architecture", "bert", LlamaConfig::of);
    assertProblem("cannot be 3 heads", "llama.attention.head_count", 3, LlamaConfig::of);
    assertProblem(
        "'llama.attention.head_count' is 0,", "llama.attention.head_count", 0, LlamaConfig::of);
    assertProblem("'llama.block_count' is 4294967295", "llama.block_count", -1, LlamaConfig::of);
    assertProblem("is a String, not a Long", "llama.context_length", "long", LlamaConfig::of);
    assertProblem("'llama.block_count' is 129,", "llama.block_count", 129, LlamaConfig::of);
    assertProblem("'llama.rope.freq_base' is -1.0,", "llama.rope.freq_base", -1f, LlamaConfig::of);
    assertProblem("rms_epsilon' is NaN, not a finite number above 0",
        "llama.attention.layer_norm_rms_epsilon", Float.NaN, LlamaConfig::of);
    assertProblem("scaled in a way (yarn)", "llama.rope.scaling.type", "yarn", LlamaConfig::of);
    assertProblem("has no metadata 'llama.rope.scaling.factor'", "llama.rope.scaling.type",
        "linear", LlamaConfig::of);
    assertProblem(
        "cannot be 2 heads of even width 3", "llama.attention.key_length", 3, LlamaConfig::of);
    assertProblem("'llama.rope.dimension_count' is 2, but a key has 6 elements",
        "llama.attention.key_length", 6, LlamaConfig::of);
    assertProblem("'llama.attention.value_length' is 4, but a key has 2 elements",
        "llama.attention.value_length", 4, LlamaConfig::of);
    assertProblem("'llama.final_logit_softcapping' is 30.0, and this decoder caps nothing",
        "llama.final_logit_softcapping", 30f, LlamaConfig::of);
  }

  @Test
  void missingAndMisshapenTensorsAreReported() throws IOException {
    assertProblem("has no tensor 'token_embd.weight'", "llama.block_count", 1,
        file -> LlamaWeights.load(file, DType.F32));
    try (GgufFile file = write(sound(), 4, 3)) {
      String message =
          assertThrows(ModelFormatException.class, () -> LlamaWeights.load(file, DType.F32))
              .getMessage();
      assertTrue(message.contains("is 3 x 4, but the metadata asks for 4 x 4"), message);
    }
  }

  /** Vocabularies spell bytes as characters; what spells none stands for itself. */
  @Test
  void tokensThatSpellNoBytesStandForThemselves() throws IOException {
    Map<String, Object> metadata = sound();
    metadata.put(
        "tokenizer.ggml.tokens", new String[] {"<end>", "a", "b", "ab", "\ud83d\ude00a", "\u4e2d"});
    metadata.put("tokenizer.ggml.token_type", new int[] {3, 1, 1, 1, 1, 1});
    try (GgufFile file = write(metadata)) {
      assertEquals("\ud83d\ude00a\u4e2d", new Tokenizer(file).decode(4, 5));
    }
  }

  @Test
  void tokensThatAreNoneAreRefused() throws IOException {
    try (GgufFile file = write(sound())) {
      Tokenizer tokenizer = new Tokenizer(file);
      for (int id : new int[] {-1, 4, Integer.MAX_VALUE}) {
        String message =
            assertThrows(IllegalArgumentException.class, () -> tokenizer.decode(1, id))
                .getMessage();
        assertEquals("token " + id + " is not one of the 4 of the vocabulary", message);
      }
    }
  }

  @Test
  void senselessVocabulariesAreReported() throws IOException {
    assertProblem("covers 'gpt2' and 'llama'", "tokenizer.ggml.model", "bert", Tokenizer::new);
    assertProblem(
        "covers 'smollm', 'llama-bpe' and 'qwen2'", "tokenizer.ggml.pre", "falcon", Tokenizer::new);
    assertProblem("has no metadata 'tokenizer.ggml.bos_token_id'", "tokenizer.ggml.add_bos_token",
        true, Tokenizer::new);
    assertProblem("is a Long, not a Boolean", "tokenizer.ggml.add_bos_token", 1, Tokenizer::new);
    assertProblem(
        "has no metadata 'tokenizer.ggml.scores'", "tokenizer.ggml.model", "llama", Tokenizer::new);
    assertProblem(
        "'tokenizer.ggml.eot_token_id' is 4,", "tokenizer.ggml.eot_token_id", 4, Tokenizer::new);
    assertProblem("has 2 elements for 4 tokens", "tokenizer.ggml.token_type", new int[] {3, 1},
        Tokenizer::new);
    for (String merge : new String[] {"a", "", " ", "a c", "b a", "a  b"}) {
      assertProblem("merge 0 ('" + merge + "')", "tokenizer.ggml.merges", new String[] {merge},
          Tokenizer::new);
    }
    assertProblem(
        "'tokenizer.ggml.eos_token_id' is 4,", "tokenizer.ggml.eos_token_id", 4, Tokenizer::new);
    assertProblem("'tokenizer.chat_template', line 2: a tag has no end", "tokenizer.chat_template",
        "a\n{{ messages", ChatTemplate::new);
    assertProblem(
        "'tokenizer.ggml.bos_token_id' is 4,", "tokenizer.ggml.bos_token_id", 4, ChatTemplate::new);
  }
}
