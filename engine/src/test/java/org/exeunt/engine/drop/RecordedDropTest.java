// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.drop;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.exeunt.AttentionScores;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.GemFilter;
import org.exeunt.PromptDistill;
import org.exeunt.PromptLayer;
import org.exeunt.Selection;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.engine.TestData;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.layer.LayerObserver;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.SafetensorsFile;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledIfSystemProperty;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * A real model that drops tokens of a prompt, against recordings of runs in double precision, with
 * weights in f32. What each setting keeps is compared with all recordings, what the model goes on
 * with for a third of them and their first tokens; with EXEUNT_LONG=1 for all, in a minute or two.
 */
@DisabledIfSystemProperty(named = "exeunt.quick", matches = "true",
    disabledReason = "a quick run leaves out the longest tests on a real model")
@ExtendWith(TestData.NeedsModel.class)
class RecordedDropTest {
  private static final int[] FILTERS = {5, 10, 15};
  private static final int[] SIZES = {51, 128, 256};
  private static final boolean LONG = System.getenv("EXEUNT_LONG") != null;
  private static final int MOST_STEPS = LONG ? Integer.MAX_VALUE : 16;

  /** Error of logits and statistics that comes of computing in f32. */
  private static final double TOLERANCE = 2e-3;

  /** Error of a score that comes of it: a cut between scores this close may fall either way. */
  private static final double SCORE_TOLERANCE = 1e-4;

  private static LlamaWeights weights;
  private static int promptTokens; // tokens in front of those that are given one by one
  private static int heads;

  @BeforeAll
  static void load() throws IOException {
    try (GgufFile file = GgufFile.open(TestData.model())) {
      weights = LlamaWeights.load(file, DType.F32);
      heads = weights.config().heads();
    }
    try (SafetensorsFile golden = golden()) {
      promptTokens = golden.ints("ids").length - golden.doubles("full/nll").length;
    }
  }

  @AfterAll
  static void close() {
    if (weights != null) {
      weights.close();
    }
  }

  /** What one recording is of. */
  record Setting(int layer, int keep, int pool) {
    String name() {
      return "promptdistill/r" + layer + "_k" + keep + "_pool" + (pool > 1 ? 1 : 0) + "/";
    }

    PromptDistill method() {
      return PromptDistill.of(new PromptDistill.Stage(layer, keep))
          .withPooling(pool)
          .withTruncation(0);
    }

    @Override
    public String toString() {
      return name();
    }
  }

  /** Each layer and each size with and without pooling. */
  static List<Setting> settings() {
    List<Setting> settings = new ArrayList<>();
    for (int l = 0; l < FILTERS.length; l++) {
      for (int s = 0; s < SIZES.length; s++) {
        if (LONG || s == l) {
          settings.add(new Setting(FILTERS[l], SIZES[s], 1));
        }
        if (LONG || s == (l + 1) % SIZES.length) {
          settings.add(new Setting(FILTERS[l], SIZES[s], PromptDistill.POOL));
        }
      }
    }
    return settings;
  }

  private static SafetensorsFile golden() throws IOException {
    return SafetensorsFile.open(TestData.golden("model/token_drop.safetensors"));
  }

  @ParameterizedTest
  @MethodSource("settings")
  void promptDistillIsAsRecorded(Setting setting) throws IOException {
    try (SafetensorsFile golden = golden()) {
      int[] recorded = golden.ints(setting.name() + "indices");
      int[] kept = run(golden, setting, PromptDrop.of(setting.method()), recorded);
      if (!Arrays.equals(recorded, kept)) {
        assertCutIsClose(golden, setting, recorded, kept);
        assertArrayEquals(recorded,
            run(golden, setting, keeping(setting.layer, recorded), recorded), "kept as told");
      }
    }
  }

  /** Hands out what was kept; where that is as recorded, so must be all that comes after it. */
  private static int[] run(SafetensorsFile golden, Setting setting, PromptDrop drop, int[] recorded)
      throws IOException {
    int[][] kept = new int[1][];
    LayerObserver look = (depth, rows) -> {
      if (depth == setting.layer + 2 && kept[0] == null) {
        kept[0] = IntStream.range(0, rows.count()).map(rows::positionOf).toArray();
      }
    };
    DecoderOptions options = DecoderOptions.FULL.withDrop(drop).withObserver(look).withLogits();
    int[] ids = golden.ints("ids");
    try (Decoder decoder = new Decoder(weights, options, 1, ids.length)) {
      decoder.prefill(0, Arrays.copyOf(ids, promptTokens));
      if (Arrays.equals(recorded, kept[0])) {
        int left = compareContinuation(golden, setting.name(), decoder, ids);
        int[] lengths = golden.ints(setting.name() + "cache_length");
        for (int l = 0; l < weights.config().layers(); l++) {
          assertEquals(lengths[l] - left, decoder.kv().length(l, 0), "length of layer " + l);
        }
      }
    }
    return kept[0];
  }

  /** Keeps after a layer what the recorded run kept, whatever the scores are. */
  private static PromptDrop keeping(int layer, int... list) {
    return pass -> {
      for (int l = 0; l < pass.layers(); l++) {
        pass.runLayer(l);
        if (l == layer) {
          Selection told = Selection.allocate(pass.scope(), Device.CPU, 1, list.length);
          told.indices().copyFrom(list);
          told.count().copyFrom(new int[] {list.length});
          pass.keepRows(told, false);
        }
      }
    };
  }

  /** What a close cut falls back on works: the same as where the scores decide. */
  @Test
  void aListThatIsToldIsKept() throws IOException {
    try (SafetensorsFile golden = golden()) {
      Setting setting = new Setting(FILTERS[0], SIZES[0], 1);
      int[] recorded = golden.ints(setting.name() + "indices");
      assertArrayEquals(recorded, run(golden, setting, keeping(setting.layer, recorded), recorded));
    }
  }

  @Test
  void nothingIsLostWithoutDropping() throws IOException {
    try (SafetensorsFile golden = golden()) {
      int[] ids = golden.ints("ids");
      try (
          Decoder decoder = new Decoder(weights, DecoderOptions.FULL.withLogits(), 1, ids.length)) {
        decoder.prefill(0, Arrays.copyOf(ids, promptTokens));
        compareContinuation(golden, "full/", decoder, ids);
      }
    }
  }

  /** Tokens in one list and not in the other must lie at the cut, as far as can be told. */
  private static void assertCutIsClose(
      SafetensorsFile golden, Setting setting, int[] recorded, int[] found) throws IOException {
    double[] scores = pooled(golden, setting.layer, setting.pool, promptTokens - 1, 1.0 / heads);
    double cut =
        IntStream.of(recorded)
            .filter(i -> i < promptTokens - 1)
            .mapToDouble(i -> scores[i])
            .min()
            .orElseThrow();
    assertEquals(recorded.length, found.length);
    IntStream
        .concat(IntStream.of(recorded).filter(i -> Arrays.binarySearch(found, i) < 0),
            IntStream.of(found).filter(i -> Arrays.binarySearch(recorded, i) < 0))
        .forEach(
            i -> assertEquals(cut, scores[i], SCORE_TOLERANCE, "token " + i + " of " + setting));
    System.out.println(setting + ": the cut is closer than f32 can tell; another token was kept");
  }

  /** The recorded scores of the first tokens, summed over heads times {@code factor}, pooled. */
  private static double[] pooled(
      SafetensorsFile golden, int layer, int pool, int tokens, double factor) throws IOException {
    double[] raw = golden.doubles("scores/r" + layer);
    double[] sums = new double[tokens];
    for (int j = 0; j < tokens; j++) {
      for (int h = 0; h < heads; h++) {
        sums[j] += factor * raw[h * promptTokens + j];
      }
    }
    double[] result = new double[tokens];
    for (int j = 0; j < tokens; j++) {
      for (int i = Math.max(0, j - pool / 2); i <= Math.min(tokens - 1, j + pool / 2); i++) {
        result[j] += sums[i] / pool;
      }
    }
    return result;
  }

  /**
   * Entry 0 is of the last token of the prompt, each further one of a token that was given. Returns
   * how many were not.
   */
  private static int compareContinuation(
      SafetensorsFile golden, String prefix, Decoder decoder, int[] ids) throws IOException {
    double[] nll = golden.doubles(prefix + "nll");
    double[] lse = golden.doubles(prefix + "lse");
    double[] p1 = golden.doubles(prefix + "p1");
    int[] argmax = golden.ints(prefix + "argmax");
    double sum = 0;
    int steps = Math.min(nll.length, MOST_STEPS);
    for (int step = 0; step < steps; step++) {
      if (step > 0) {
        decoder.step(ids[promptTokens + step - 1]);
      }
      String what = prefix + "step " + step;
      float[] logits = decoder.logits().row(0).toFloatArray();
      float found = decoder.statistics().lse().toFloatArray()[0];
      double scale = TOLERANCE * Math.max(1, Math.abs(lse[step]) / 10);
      assertEquals(lse[step], found, scale, "lse, " + what);
      assertEquals(p1[step], decoder.statistics().p1().toFloatArray()[0], TOLERANCE, "p1, " + what);
      assertEquals(nll[step], found - logits[ids[promptTokens + step]], 2 * scale, "nll, " + what);
      float best = logits[decoder.argmax(0)];
      assertTrue(best - logits[argmax[step]] < 2 * scale, "argmax, " + what);
      sum += found - logits[ids[promptTokens + step]] - nll[step];
    }
    assertEquals(0, sum / steps, 1e-3, "mean nll of " + prefix);
    return nll.length - steps;
  }

  /** The scores of every head at the filter layers, and what the methods make of them. */
  @Test
  void scoresAndChoicesAreAsRecorded() throws IOException {
    try (SafetensorsFile golden = golden()) {
      int[] ids = Arrays.copyOf(golden.ints("ids"), promptTokens);
      List<String> problems = new ArrayList<>();
      PromptDrop look = pass -> {
        for (int layer = 0; layer < pass.layers(); layer++) {
          pass.runLayer(layer);
          int filter = layer;
          if (IntStream.of(FILTERS).anyMatch(l -> l == filter)) {
            try {
              compareScores(golden, pass, layer);
              compareGemFilter(golden, pass, layer);
              comparePromptDistill(golden, pass, layer);
            } catch (IOException e) {
              problems.add(e.toString());
            }
          }
        }
      };
      try (Decoder decoder =
               new Decoder(weights, DecoderOptions.FULL.withDrop(look), 1, promptTokens)) {
        decoder.prefill(0, ids);
      }
      assertEquals(List.of(), problems);
    }
  }

  private static void compareScores(SafetensorsFile golden, PromptPass pass, int layer)
      throws IOException {
    PromptLayer prompt = pass.layer(layer);
    Tensor scores = pass.scope().allocate(Device.CPU, DType.F32, 1, heads, promptTokens);
    AttentionScores.builder()
        .kind(AttentionScores.Kind.RAW)
        .query(prompt.query().rows(promptTokens - 1, promptTokens))
        .keys(prompt.keys())
        .visible(pass.scope().allocate(Device.CPU, DType.I32, 1).copyFrom(new int[] {promptTokens}))
        .scores(scores)
        .runOnce();
    double[] recorded = golden.doubles("scores/r" + layer);
    double largest = Arrays.stream(recorded).map(Math::abs).max().orElseThrow();
    float[] found = scores.toFloatArray();
    for (int i = 0; i < recorded.length; i++) {
      assertEquals(recorded[i], found[i], 1e-4 * largest, "score " + i + " of layer " + layer);
    }
  }

  private static void compareGemFilter(SafetensorsFile golden, PromptPass pass, int layer)
      throws IOException {
    for (int keep : SIZES) {
      Selection kept =
          GemFilter.of(layer, keep).choose(pass.scope(), Stream.DEFAULT, pass.layer(layer));
      int count = kept.count().toIntArray()[0];
      assertArrayEquals(golden.ints("gemfilter/r" + layer + "_k" + keep + "/indices"),
          Arrays.copyOf(kept.indices().toIntArray(), count), "GemFilter after layer " + layer);
    }
  }

  private static void comparePromptDistill(SafetensorsFile golden, PromptPass pass, int layer)
      throws IOException {
    for (int keep : SIZES) {
      for (int pool : new int[] {1, PromptDistill.POOL}) {
        Setting setting = new Setting(layer, keep, pool);
        Selection kept =
            setting.method().choose(pass.scope(), Stream.DEFAULT, 0, pass.layer(layer));
        int[] recorded = golden.ints(setting.name() + "indices");
        int[] found = Arrays.copyOf(kept.indices().toIntArray(), kept.count().toIntArray()[0]);
        if (!Arrays.equals(recorded, found)) {
          assertCutIsClose(golden, setting, recorded, found);
        }
      }
    }
  }
}
