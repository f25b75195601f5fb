// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.exeunt.Attention;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.engine.TestData;
import org.exeunt.engine.layer.KvState;
import org.exeunt.engine.layer.LayerObserver;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.SafetensorsFile;
import org.exeunt.engine.model.io.StrictJson;
import org.exeunt.engine.policy.ExitPolicy;
import org.exeunt.engine.policy.FfnSkip;
import org.exeunt.engine.policy.KvPolicy;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledIfSystemProperty;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** A real model against recordings of runs in double precision, with weights in f32. */
@DisabledIfSystemProperty(named = "exeunt.quick", matches = "true",
    disabledReason = "a quick run leaves out the longest tests on a real model")
@ExtendWith(TestData.NeedsModel.class)
class RecordedDecodeTest {
  private static final int LAYERS = 30;
  private static final int HEADS = 9;
  private static final int VOCABULARY = 49152;

  /** Error of logits, statistics and cosines that comes of computing in f32. */
  private static final double TOLERANCE = 2e-3;
  private static final double COSINE_TOLERANCE = 1e-5;

  private static LlamaWeights weights;

  @BeforeAll
  static void load() throws IOException {
    try (GgufFile file = GgufFile.open(TestData.model())) {
      weights = LlamaWeights.load(file, DType.F32);
    }
  }

  @AfterAll
  static void close() {
    if (weights != null) {
      weights.close();
    }
  }

  private static SafetensorsFile golden(String name) throws IOException {
    return SafetensorsFile.open(TestData.golden("model/" + name + ".safetensors"));
  }

  /**
   * Each recorded row's error against its own norm; the residual stream has a few very large
   * elements. Recordings of layer after layer have the same rows of each.
   */
  private static void assertClose(
      String what, float[] all, int layer, int[] rows, float[] actual, int columns) {
    for (int at = 0; at < rows.length; at++) {
      double norm = 0;
      double error = 0;
      for (int i = 0; i < columns; i++) {
        double expected = all[(layer * rows.length + at) * columns + i];
        norm += expected * expected;
        error += Math.pow(actual[rows[at] * columns + i] - expected, 2);
      }
      double relative = Math.sqrt(error / norm);
      assertTrue(relative < 1e-4, what + ", row " + rows[at] + ": relative error " + relative);
    }
  }

  /** A cache's first tokens as [tokens, Hkv, dh]. */
  private static float[] byToken(Tensor cache, int tokens) {
    int heads = (int) cache.size(1);
    int dim = (int) cache.size(3);
    float[] byHead = cache.row(0).slice(1, 0, tokens).toFloatArray();
    float[] result = new float[byHead.length];
    for (int h = 0; h < heads; h++) {
      for (int t = 0; t < tokens; t++) {
        System.arraycopy(byHead, (h * tokens + t) * dim, result, (t * heads + h) * dim, dim);
      }
    }
    return result;
  }

  @Test
  void everyLayerIsAsRecorded() throws IOException {
    try (SafetensorsFile golden = golden("layers"); Scope scope = Scope.open()) {
      int[] ids = golden.ints("ids");
      int last = ids.length - 1;
      float[] hidden = golden.floats("hidden");
      int[] hiddenRows = TestData.rows(golden, "hidden", ids.length);
      float[] scores = golden.floats("scores_last");
      float[] cosine = golden.floats("ffn_cos");
      float[] branch = golden.floats("branch_cos");
      Tensor found = scope.allocate(Device.CPU, DType.F32, 1, HEADS, ids.length);
      Tensor unused = scope.allocate(Device.CPU, DType.F32, 1, HEADS, 64);
      Decoder[] decoder = new Decoder[1];
      LayerObserver compare = (depth, rows) -> {
        assertClose("hidden state at depth " + depth, hidden, depth, hiddenRows,
            rows.hidden().toFloatArray(), 576);
        if (depth > 0) {
          int layer = depth - 1;
          Attention.builder()
              .query(rows.query().rows(last, last + 1))
              .cache(decoder[0].kv().cache(layer))
              .visible(rows.visible().rows(last, last + 1))
              .out(unused)
              .scores(found)
              .runOnce();
          assertScores(scores, layer * HEADS * ids.length, found.toFloatArray(), layer);
          assertNear("ffn cosine of layer " + layer, cosine, layer, rows.cosine());
          assertNear("branch cosine of layer " + layer, branch, layer, rows.branchCosine());
        }
      };
      try (Decoder running = new Decoder(
               weights, DecoderOptions.FULL.withLogits().withObserver(compare), 1, ids.length)) {
        decoder[0] = running;
        running.prefill(0, ids);
        float[] keys = golden.floats("k");
        float[] values = golden.floats("v");
        int[] keyRows = TestData.rows(golden, "k", ids.length);
        int[] valueRows = TestData.rows(golden, "v", ids.length);
        for (int l = 0; l < LAYERS; l++) {
          assertClose("keys of layer " + l, keys, l, keyRows,
              byToken(running.kv().cache(l).k(), ids.length), 192);
          assertClose("values of layer " + l, values, l, valueRows,
              byToken(running.kv().cache(l).v(), ids.length), 192);
        }
        int rows = lastLogits(golden).length / VOCABULARY;
        assertLogits(golden, lastLogits(golden), rows - 1, running.logits(), "last token");
      }
    }
  }

  /** Of the last four tokens, or two. */
  private static float[] lastLogits(SafetensorsFile layers) throws IOException {
    boolean four = layers.tensors().containsKey("logits_last4");
    return layers.floats(four ? "logits_last4" : "logits_last2");
  }

  /** The last tokens: one that ends a prompt, and steps. */
  @Test
  void theLastLogitsAreAsRecorded() throws IOException {
    try (SafetensorsFile golden = golden("layers")) {
      int[] ids = golden.ints("ids");
      float[] logits = lastLogits(golden);
      int rows = logits.length / VOCABULARY;
      assertTrue(rows > 1, rows + " rows of logits");
      try (
          Decoder decoder = new Decoder(weights, DecoderOptions.FULL.withLogits(), 1, ids.length)) {
        decoder.prefill(0, Arrays.copyOf(ids, ids.length - rows + 1));
        assertLogits(golden, logits, 0, decoder.logits(), "prompt's last token");
        for (int row = 1; row < rows; row++) {
          decoder.step(ids[ids.length - rows + row]);
          assertLogits(golden, logits, row, decoder.logits(), "step " + row);
        }
      }
    }
  }

  private static void assertNear(String what, float[] all, int layer, Tensor actual) {
    float[] values = actual.toFloatArray();
    for (int t = 0; t < values.length; t++) {
      assertEquals(
          all[layer * values.length + t], values[t], COSINE_TOLERANCE, what + ", token " + t);
    }
  }

  /** Against the head's largest score: scores near zero are differences of large ones. */
  private static void assertScores(float[] all, int offset, float[] actual, int layer) {
    int tokens = actual.length / HEADS;
    for (int h = 0; h < HEADS; h++) {
      double largest = 0;
      for (int t = 0; t < tokens; t++) {
        largest = Math.max(largest, Math.abs(all[offset + h * tokens + t]));
      }
      for (int t = 0; t < tokens; t++) {
        assertEquals(all[offset + h * tokens + t], actual[h * tokens + t], 1e-3 * largest,
            "score of layer " + layer + ", head " + h + ", token " + t);
      }
    }
  }

  /** The columns that the file names, or all. */
  private static void assertLogits(
      SafetensorsFile golden, float[] all, int row, Tensor logits, String what) throws IOException {
    float[] actual = logits.row(0).toFloatArray();
    int[] columns = golden.tensors().containsKey("logits_columns")
        ? golden.ints("logits_columns")
        : IntStream.range(0, VOCABULARY).toArray();
    double worst = 0;
    for (int i = 0; i < columns.length; i++) {
      worst = Math.max(worst, Math.abs(all[row * columns.length + i] - actual[columns[i]]));
    }
    assertTrue(worst < TOLERANCE, "largest error of a logit of the " + what + ": " + worst);
  }

  /** Up to the first step that recorded a margin within the tolerance. */
  @Test
  void greedyAnswersAreAsRecorded() throws IOException {
    List<?> cases =
        (List<?>) StrictJson.parse(Files.readString(TestData.golden("model/greedy.json")));
    int compared = 0;
    for (Object entry : cases) {
      Map<?, ?> recorded = (Map<?, ?>) entry;
      int[] prompt = ints(recorded.get("prompt_ids"));
      int[] ids = ints(recorded.get("ids"));
      List<?> margins = (List<?>) recorded.get("logit_margin");
      int steps = 0;
      while (steps < ids.length && ((Number) margins.get(steps)).doubleValue() > 2 * TOLERANCE) {
        steps++;
      }
      compared += steps;
      assertArrayEquals(Arrays.copyOf(ids, steps), greedy(prompt, steps));
    }
    assertTrue(compared > 100, compared + " steps could be compared");
  }

  private static int[] greedy(int[] prompt, int steps) {
    int[] ids = new int[steps];
    try (Decoder decoder =
             new Decoder(weights, DecoderOptions.FULL, 1, prompt.length + Math.max(1, steps))) {
      decoder.prefill(0, prompt);
      for (int i = 0; i < steps; i++) {
        ids[i] = decoder.argmax(0);
        decoder.step(ids[i]);
      }
    }
    return ids;
  }

  private static int[] ints(Object list) {
    return ((List<?>) list).stream().mapToInt(id -> ((Number) id).intValue()).toArray();
  }

  /** One teacher-forced step against what was recorded below {@code prefix}. */
  private static void compareStep(SafetensorsFile golden, String prefix, Decoder decoder, int step,
      int next) throws IOException {
    String what = prefix + "step " + step;
    double largest = golden.doubles(prefix + "max_logit")[step];
    double scale = TOLERANCE * Math.max(1, Math.abs(largest) / 10);
    float[] logits = decoder.logits().row(0).toFloatArray();
    float lse = decoder.statistics().lse().toFloatArray()[0];
    assertEquals(golden.doubles(prefix + "lse")[step], lse, scale, "lse, " + what);
    assertEquals(largest, decoder.statistics().maxLogit().toFloatArray()[0], scale,
        "largest logit, " + what);
    assertEquals(golden.doubles(prefix + "entropy")[step],
        decoder.statistics().entropy().toFloatArray()[0], scale, "entropy, " + what);
    double p1 = golden.doubles(prefix + "p1")[step];
    double p2 = golden.doubles(prefix + "p2")[step];
    assertEquals(p1, decoder.statistics().p1().toFloatArray()[0], TOLERANCE, "p1, " + what);
    if (Math.log(p1) - Math.log(p2) > 2 * scale) {
      assertEquals(golden.ints(prefix + "argmax")[step], decoder.argmax(0), "argmax, " + what);
    }
    if (next >= 0) {
      assertEquals(
          golden.doubles(prefix + "nll")[step], lse - logits[next], 2 * scale, "nll, " + what);
    }
  }

  @ParameterizedTest
  @EnumSource(value = KvPolicy.class, names = {"PROPAGATE", "NONE"})
  void earlyExitsAreAsRecorded(KvPolicy policy) throws IOException {
    String prefix = policy == KvPolicy.NONE ? "none/" : "propagate/";
    try (SafetensorsFile golden = golden("early_exit")) {
      int[] ids = golden.ints("ids");
      int[] exits = golden.ints("exit_layer");
      int prompt = ids.length - exits.length;
      DecoderOptions options = DecoderOptions.FULL.withLogits().withExit(
          ExitPolicy.fixed(position -> exits[position - prompt]), policy);
      try (Decoder decoder = new Decoder(weights, options, 1, ids.length)) {
        decoder.prefill(0, Arrays.copyOf(ids, prompt));
        for (int step = 0; step < exits.length; step++) {
          int at = prompt + step;
          decoder.step(ids[at]);
          assertEquals(exits[step], decoder.exitDepth(0));
          compareStep(golden, prefix, decoder, step, at + 1 < ids.length ? ids[at + 1] : -1);
          if (step >= exits.length - 2) {
            assertLogits(golden, golden.floats(prefix + "logits_last2"), step - exits.length + 2,
                decoder.logits(), prefix + "step " + step);
          }
        }
        compareCaches(golden, prefix, decoder.kv());
      }
    }
  }

  private static void compareCaches(SafetensorsFile golden, String prefix, KvState kv)
      throws IOException {
    int[] lengths = golden.ints(prefix + "cache_length");
    for (int l = 0; l < LAYERS; l++) {
      assertEquals(lengths[l], kv.length(l, 0), "length of layer " + l);
    }
    for (int l : new int[] {9, 17, 29}) {
      String keys = prefix + "k" + l;
      assertClose(keys, golden.floats(keys), 0, TestData.rows(golden, keys, lengths[l]),
          byToken(kv.cache(l).k(), lengths[l]), 192);
      String values = prefix + "v" + l;
      assertClose(values, golden.floats(values), 0, TestData.rows(golden, values, lengths[l]),
          byToken(kv.cache(l).v(), lengths[l]), 192);
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"cs5_ce25_tau0.97_budget99", "cs5_ce25_tau2_budget99", "cs5_ce27_tau0.95_budget8"})
  void skippedBlocksAreAsRecorded(String setting) throws IOException {
    try (SafetensorsFile golden = golden("ffn_skip")) {
      int[] ids = golden.ints("ids");
      int[] skipped = golden.ints(setting + "/skipped");
      double[] cosine = golden.doubles(setting + "/cosine");
      int steps = skipped.length / LAYERS;
      FfnSkip rule = settings(setting, ids.length - steps);
      boolean[][] mask = new boolean[ids.length][LAYERS];
      float[][] found = new float[ids.length][LAYERS];
      LayerObserver record = (depth, rows) -> {
        for (int row = 0; depth > 0 && row < rows.count(); row++) {
          mask[rows.positionOf(row)][depth - 1] = rows.skip().toIntArray()[row] != 0;
          found[rows.positionOf(row)][depth - 1] = rows.cosine().toFloatArray()[row];
        }
      };
      DecoderOptions options =
          DecoderOptions.FULL.withLogits().withFfnSkip(rule).withObserver(record);
      try (Decoder decoder = new Decoder(weights, options, 1, ids.length)) {
        decoder.prefill(0, Arrays.copyOf(ids, rule.warmUp()));
        for (int step = 0; step < steps; step++) {
          int at = rule.warmUp() + step;
          decoder.step(ids[at]);
          for (int l = 0; l < LAYERS; l++) {
            double recorded = cosine[step * LAYERS + l];
            // No decision of these recordings lies this close to its threshold.
            assertTrue(!(Math.abs(recorded - rule.threshold()) < COSINE_TOLERANCE));
            assertEquals(skipped[step * LAYERS + l] != 0, mask[at][l],
                "mask of step " + step + ", layer " + l);
            assertEquals(recorded, found[at][l], COSINE_TOLERANCE,
                "cosine of step " + step + ", layer " + l);
          }
          compareStep(golden, setting + "/", decoder, step, at + 1 < ids.length ? ids[at + 1] : -1);
          if (step >= steps - 2) {
            assertLogits(golden, golden.floats(setting + "/logits_last2"), step - steps + 2,
                decoder.logits(), setting + ", step " + step);
          }
        }
      }
    }
  }

  private static FfnSkip settings(String name, int warmUp) {
    String[] parts = name.replaceAll("[a-z]+", "").split("_");
    return new FfnSkip(Integer.parseInt(parts[0]), Integer.parseInt(parts[1]), warmUp,
        Float.parseFloat(parts[2]), Integer.parseInt(parts[3]));
  }

  /** The same sequences in one batch and one by one, with the exits that were recorded. */
  @ParameterizedTest
  @EnumSource
  void aBatchEqualsItsSequencesBitForBit(KvPolicy policy) throws IOException {
    try (SafetensorsFile golden = golden("early_exit")) {
      int[] ids = golden.ints("ids");
      int[] exits = golden.ints("exit_layer");
      DecoderOptions options = DecoderOptions.FULL.withLogits().withExit(
          ExitPolicy.fixed(position -> exits[position % exits.length]), policy);
      int[] prompts = {40, 47, 53};
      int steps = 10;
      float[][][] batch = run(options, ids, steps, prompts);
      for (int s = 0; s < prompts.length; s++) {
        float[][][] alone = run(options, ids, steps, prompts[s]);
        assertArrayEquals(alone[0], batch[s], "sequence " + s);
      }
    }
  }

  private static float[][][] run(DecoderOptions options, int[] ids, int steps, int... prompts) {
    float[][][] logits = new float[prompts.length][steps][];
    try (Decoder decoder = new Decoder(weights, options, prompts.length, 80)) {
      int[] tokens = new int[prompts.length];
      for (int s = 0; s < prompts.length; s++) {
        decoder.prefill(s, Arrays.copyOf(ids, prompts[s]));
      }
      for (int step = 0; step < steps; step++) {
        for (int s = 0; s < prompts.length; s++) {
          tokens[s] = ids[prompts[s] + step];
        }
        decoder.step(tokens);
        for (int s = 0; s < prompts.length; s++) {
          logits[s][step] = decoder.logits().row(s).toFloatArray();
        }
      }
    }
    return logits;
  }
}
