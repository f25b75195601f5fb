// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.drop;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.PromptDistill;
import org.exeunt.Tensor;
import org.exeunt.engine.TestData;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.layer.LayerObserver;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.SafetensorsFile;
import org.exeunt.engine.model.io.StrictJson;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * The whole PromptDistill of its authors on a tiny model, recorded, against the decoder with the
 * same weights: what is kept, what every layer remembers, prefill, and the greedy answer.
 *
 * <p>Their code turns a head's elements i and i + dh/2 together, a GGUF file has them side by side:
 * the rows of the query and key projections are put into that order, and keys are read back in
 * theirs.
 */
class OfficialPromptDistillTest {
  private static final String NAME = "official/promptdistill_model";
  private static final int CAPACITY = 64;

  /** Share of the largest value: f32, as rotation, norm and softmax are in the recordings too. */
  private static final double TOLERANCE = 1e-5;

  @TempDir static Path folder;
  private static SafetensorsFile golden;
  private static Map<?, ?> cases;
  private static LlamaWeights weights;
  private static LlamaConfig config;
  private static int[] prompt;

  @BeforeAll
  static void load() throws IOException {
    golden = SafetensorsFile.open(TestData.golden(NAME + ".safetensors"));
    cases =
        map(map(StrictJson.parse(Files.readString(TestData.golden(NAME + ".json")))).get("cases"));
    prompt = ints("model/input_ids");
    try (GgufFile file = GgufFile.open(writeModel(folder.resolve("official.gguf")))) {
      weights = LlamaWeights.load(file, DType.F32);
    }
    config = weights.config();
  }

  @AfterAll
  static void close() throws IOException {
    if (weights != null) {
      weights.close();
    }
    if (golden != null) {
      golden.close();
    }
  }

  // ---- the recordings

  private static Map<?, ?> map(Object value) {
    return (Map<?, ?>) value;
  }

  private static int[] list(Object numbers) {
    return ((List<?>) numbers).stream().mapToInt(n -> ((Long) n).intValue()).toArray();
  }

  private static int[] ints(String name) throws IOException {
    ByteBuffer bytes = golden.bytes(name);
    return IntStream.range(0, bytes.remaining() / Long.BYTES)
        .map(i -> Math.toIntExact(bytes.getLong(i * Long.BYTES)))
        .toArray();
  }

  private static double[] numbers(String name) throws IOException {
    if (golden.tensor(name).type() == SafetensorsFile.Type.F64) {
      return golden.doubles(name);
    }
    float[] floats = golden.floats(name);
    return IntStream.range(0, floats.length).mapToDouble(i -> floats[i]).toArray();
  }

  // ---- the model

  private static Path writeModel(Path file) throws IOException {
    Map<?, ?> sizes = map(map(cases.get("model")).get("config"));
    int layers = number(sizes, "num_hidden_layers");
    Map<String, Object> metadata = TinyModel.metadata();
    metadata.put("llama.embedding_length", number(sizes, "hidden_size"));
    metadata.put("llama.attention.head_count", number(sizes, "num_attention_heads"));
    metadata.put("llama.attention.head_count_kv", number(sizes, "num_key_value_heads"));
    metadata.put("llama.rope.dimension_count", number(sizes, "head_dim"));
    metadata.put("llama.block_count", layers);
    metadata.put("llama.feed_forward_length", number(sizes, "intermediate_size"));
    metadata.put("llama.attention.layer_norm_rms_epsilon",
        ((Double) sizes.get("rms_norm_eps")).floatValue());
    metadata.put("llama.rope.freq_base", ((Double) sizes.get("rope_theta")).floatValue());
    int vocabulary = number(sizes, "vocab_size");
    metadata.put("tokenizer.ggml.tokens",
        IntStream.range(0, vocabulary).mapToObj(id -> "t" + id).toArray(String[] ::new));
    metadata.put(
        "tokenizer.ggml.token_type", IntStream.range(0, vocabulary).map(id -> 1).toArray());

    int headWidth = number(sizes, "head_dim");
    List<TinyModel.Weight> parts = new ArrayList<>();
    parts.add(weight("token_embd", "model.embed_tokens", 0));
    parts.add(weight("output_norm", "model.norm", 0));
    parts.add(weight("output", "lm_head", 0));
    for (int l = 0; l < layers; l++) {
      String ours = "blk." + l + ".";
      String theirs = "model.layers." + l + ".";
      parts.add(weight(ours + "attn_norm", theirs + "input_layernorm", 0));
      parts.add(weight(ours + "attn_q", theirs + "self_attn.q_proj", headWidth));
      parts.add(weight(ours + "attn_k", theirs + "self_attn.k_proj", headWidth));
      parts.add(weight(ours + "attn_v", theirs + "self_attn.v_proj", 0));
      parts.add(weight(ours + "attn_output", theirs + "self_attn.o_proj", 0));
      parts.add(weight(ours + "ffn_norm", theirs + "post_attention_layernorm", 0));
      parts.add(weight(ours + "ffn_gate", theirs + "mlp.gate_proj", 0));
      parts.add(weight(ours + "ffn_up", theirs + "mlp.up_proj", 0));
      parts.add(weight(ours + "ffn_down", theirs + "mlp.down_proj", 0));
    }
    return TinyModel.writeWeights(file, metadata, parts);
  }

  private static int number(Map<?, ?> sizes, String key) {
    return ((Long) sizes.get(key)).intValue();
  }

  /** @param turned width of a head whose rows are turned in pairs; 0 if there are none */
  private static TinyModel.Weight weight(String name, String recorded, int turned)
      throws IOException {
    String full = "model/" + recorded + ".weight";
    List<Long> shape = golden.tensor(full).shape();
    int columns = shape.get(shape.size() - 1).intValue();
    float[] values = golden.floats(full);
    float[] ours = values.clone();
    for (int row = 0; turned > 0 && row < values.length / columns; row++) {
      int head = row / turned * turned;
      System.arraycopy(
          values, (head + half(row - head, turned)) * columns, ours, row * columns, columns);
    }
    return new TinyModel.Weight(name + ".weight", values.length / columns, columns, ours);
  }

  /** Where their heads have what a GGUF file has at {@code element}. */
  private static int half(int element, int headWidth) {
    return element / 2 + element % 2 * headWidth / 2;
  }

  // ---- comparing

  private static void assertClose(double[] expected, float[] found, String what) {
    assertEquals(expected.length, found.length, what);
    double largest = 0;
    for (double value : expected) {
      largest = Math.max(largest, Math.abs(value));
    }
    for (int i = 0; i < found.length; i++) {
      assertEquals(expected[i], found[i], TOLERANCE * largest, what + ", element " + i);
    }
  }

  private static double[] row(double[] all, int row) {
    int width = config.vocabulary();
    return Arrays.copyOfRange(all, row * width, (row + 1) * width);
  }

  /** What a layer remembers, [Hkv,n,dh], its elements in their order. */
  private static float[] remembered(Decoder decoder, int layer, boolean keys) {
    int length = decoder.kv().length(layer, 0);
    Tensor cache = keys ? decoder.kv().cache(layer).k() : decoder.kv().cache(layer).v();
    float[] ours = cache.row(0).slice(1, 0, length).toFloatArray();
    float[] theirs = ours.clone();
    int width = config.headWidth();
    for (int i = 0; keys && i < ours.length; i++) {
      theirs[i / width * width + half(i % width, width)] = ours[i];
    }
    return theirs;
  }

  /** The logits of rows after the last layer: RMSNorm and head by hand, in double. */
  private static float[] logitsOf(Tensor hidden) {
    float[] norm = weights.outputNorm().toFloatArray();
    float[] head = weights.head().toFloatArray();
    float[] rows = hidden.toFloatArray();
    int width = norm.length;
    float[] logits = new float[rows.length / width * config.vocabulary()];
    for (int r = 0; r < rows.length / width; r++) {
      double square = 0;
      for (int i = 0; i < width; i++) {
        square += (double) rows[r * width + i] * rows[r * width + i];
      }
      double factor = 1 / Math.sqrt(square / width + config.epsilon());
      for (int v = 0; v < config.vocabulary(); v++) {
        double sum = 0;
        for (int i = 0; i < width; i++) {
          sum += factor * rows[r * width + i] * norm[i] * head[v * width + i];
        }
        logits[r * config.vocabulary() + v] = (float) sum;
      }
    }
    return logits;
  }

  // ---- tests

  /** Nothing dropped: weights, their order and the rotation are understood. */
  @Test
  void theModelIsTheirs() throws IOException {
    float[][] found = new float[1][];
    LayerObserver look = (depth, rows) -> {
      if (depth == config.layers()) {
        found[0] = logitsOf(rows.hidden());
      }
    };
    try (Decoder decoder =
             new Decoder(weights, DecoderOptions.FULL.withObserver(look), 1, CAPACITY)) {
      decoder.prefill(0, prompt);
    }
    assertClose(numbers("model/plain_logits_f64"), found[0], "plain logits");
  }

  /** Each run was recorded in f32 and in f64. */
  static Stream<String> runs() {
    return cases.keySet().stream().map(String.class ::cast).filter(name -> name.startsWith("run"));
  }

  @ParameterizedTest
  @MethodSource("runs")
  void equalsTheirs(String name) throws IOException {
    Map<?, ?> run = map(cases.get(name));
    int[] layers = list(run.get("layers"));
    int[] keep = list(run.get("k"));
    PromptDistill method =
        PromptDistill
            .of(IntStream.range(0, layers.length)
                    .mapToObj(i -> new PromptDistill.Stage(layers[i], keep[i]))
                    .toArray(PromptDistill.Stage[] ::new))
            .withTruncation(number(run, "cache_truncation_end"));
    int[][] kept = new int[1][];
    float[][] logits = new float[1][];
    LayerObserver look = (depth, rows) -> {
      if (depth == config.layers() && kept[0] == null) {
        kept[0] = IntStream.range(0, rows.count()).map(rows::positionOf).toArray();
        logits[0] = logitsOf(rows.hidden());
      }
    };
    DecoderOptions options =
        DecoderOptions.FULL.withDrop(PromptDrop.of(method)).withObserver(look).withLogits();
    try (Decoder decoder = new Decoder(weights, options, 1, CAPACITY)) {
      decoder.prefill(0, prompt);
      assertArrayEquals(ints(name + "/kept_indices"), kept[0], "kept tokens");
      double[] prefill = numbers(name + "/prefill_logits");
      assertClose(prefill, logits[0], "logits of the kept tokens");
      assertClose(row(prefill, kept[0].length - 1), decoder.logits().row(0).toFloatArray(),
          "logits of the prompt");
      assertLengths(run, "kv_lengths_after_prefill", decoder);
      int last = config.layers() - 1;
      assertClose(numbers(name + "/layer0_keys"), remembered(decoder, 0, true), "first keys");
      assertClose(numbers(name + "/last_layer_keys"), remembered(decoder, last, true), "last keys");
      assertClose(
          numbers(name + "/last_layer_values"), remembered(decoder, last, false), "last values");
      assertGreedy(name, decoder);
      assertLengths(run, "kv_lengths_after_decode", decoder);
    }
  }

  private static void assertGreedy(String name, Decoder decoder) throws IOException {
    int[] generated = ints(name + "/generated");
    double[] decoded = numbers(name + "/decode_logits");
    for (int i = 0; i < generated.length; i++) {
      assertEquals(generated[i], decoder.argmax(0), "token " + i);
      if (i + 1 < generated.length) {
        decoder.step(generated[i]);
        assertClose(row(decoded, i), decoder.logits().row(0).toFloatArray(), "step " + i);
      }
    }
  }

  private static void assertLengths(Map<?, ?> run, String when, Decoder decoder) {
    assertArrayEquals(list(run.get(when)),
        IntStream.range(0, config.layers()).map(layer -> decoder.kv().length(layer, 0)).toArray(),
        when);
  }
}
