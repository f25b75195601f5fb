// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.engine.TestData;
import org.exeunt.engine.layer.LayerObserver;
import org.exeunt.engine.layer.Rows;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.SafetensorsFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledIfSystemProperty;

/** How well the whole model predicts a text, with weights as they are stored here. */
class RecordedPerplexityTest {
  private static final int LAYERS = 30;
  private static final double NEAR_TIE = 0.02; // between logits of some ten

  /** The recording is of the weights as the file has them, which F32 holds exactly. */
  @Test
  void predictsTheTextAsRecorded() throws IOException {
    try (GgufFile file = GgufFile.open(TestData.model());
        SafetensorsFile golden =
            SafetensorsFile.open(TestData.golden("model/exit_stats.safetensors"));
        LlamaWeights weights = LlamaWeights.load(file, DType.F32)) {
      int[] ids = golden.ints("ids");
      int[] recorded = golden.ints("argmax");
      assertAsRecorded("F32 weights", golden, weights, 1e-4);

      int[] first = Arrays.copyOf(ids, judged(64)); // the rest would take a minute
      int[] judged = new DoubleDecoder(weights, first).argmax();
      int last = LAYERS * ids.length;
      assertArrayEquals(Arrays.copyOfRange(recorded, last, last + first.length), judged);
    }
  }

  /** The ops round inputs of blocks to 16 bits. */
  @Test
  void predictsWithTheFilesWeightsAsRecorded() throws IOException {
    try (GgufFile file = GgufFile.open(TestData.model());
        SafetensorsFile golden =
            SafetensorsFile.open(TestData.golden("model/exit_stats.safetensors"));
        LlamaWeights weights = LlamaWeights.load(file, null)) {
      assertAsRecorded("the file's weights", golden, weights, 5e-4);
      int[] first = Arrays.copyOf(golden.ints("ids"), judged(32));
      double worst = worst(file, weights, first);
      System.out.printf("the file's weights: largest error of a logit %.1e%n", worst);
      assertTrue(worst < 0.02, "largest error of a logit: " + worst);
    }
  }

  /** How many of some tokens double precision judges, which takes most of the time. */
  private static int judged(int tokens) {
    if (System.getenv("EXEUNT_LONG") != null) {
      return tokens;
    }
    return Boolean.getBoolean("exeunt.quick") ? tokens / 16 : tokens / 2;
  }

  private static void assertAsRecorded(
      String what, SafetensorsFile golden, LlamaWeights weights, double most) throws IOException {
    int[] ids = golden.ints("ids");
    int[] recorded = golden.ints("argmax");
    Found found = predict(weights, ids);
    int same = 0;
    for (int t = 0; t < ids.length; t++) {
      same += recorded[LAYERS * ids.length + t] == found.argmax[t] ? 1 : 0;
    }
    double expected = Arrays.stream(golden.doubles("nll")).average().orElseThrow();
    double actual = found.nll / (ids.length - 1);
    System.out.printf("%s: argmax as recorded in %d of %d positions, mean nll %.5f (recorded "
            + "%.5f)%n",
        what, same, ids.length, actual, expected);
    assertTrue(same >= 0.999 * ids.length, same + " of " + ids.length + " argmaxes agree");
    assertEquals(expected, actual, most);
  }

  /** The largest distance of a logit, token by token, to double precision over the same numbers. */
  private static double worst(GgufFile file, LlamaWeights weights, int... ids) throws IOException {
    double worst = 0;
    try (LlamaWeights wide = LlamaWeights.load(file, DType.F32);
        Decoder decoder = new Decoder(weights, DecoderOptions.FULL.withLogits(), 1, ids.length)) {
      double[][] exact = new DoubleDecoder(wide, ids).logits(0, ids.length);
      for (int t = 0; t < ids.length; t++) {
        if (t == 0) {
          decoder.prefill(0, ids[0]);
        } else {
          decoder.step(ids[t]);
        }
        float[] found = decoder.logits().row(0).toFloatArray();
        for (int v = 0; v < found.length; v++) {
          worst = Math.max(worst, Math.abs(exact[t][v] - found[v]));
        }
      }
    }
    return worst;
  }

  /**
   * Rounding weights to bf16 changes what a model says, in double precision too, so the judge is
   * double precision over the same bf16 weights.
   */
  @Test
  @DisabledIfSystemProperty(named = "exeunt.quick", matches = "true",
      disabledReason = "a quick run leaves out what takes longest in double precision")
  void
  predictsWithNarrowWeightsAsDoublePrecisionDoes() throws IOException {
    try (GgufFile file = GgufFile.open(TestData.model());
        SafetensorsFile golden =
            SafetensorsFile.open(TestData.golden("model/exit_stats.safetensors"));
        LlamaWeights weights = LlamaWeights.load(file, DType.BF16)) {
      int[] all = golden.ints("ids");
      int[] ids = Arrays.copyOf(all, Math.min(all.length, 96));
      Found found = predict(weights, ids);
      DoubleDecoder exact = new DoubleDecoder(weights, ids);
      int same = 0;
      double widest = 0; // margin of a position where the two differ
      for (int t = 0; t < ids.length; t++) {
        if (exact.argmax()[t] == found.argmax[t]) {
          same++;
        } else {
          widest = Math.max(widest, exact.margin()[t]);
        }
      }
      double expected = exact.nll() / (ids.length - 1);
      double actual = found.nll / (ids.length - 1);
      System.out.printf("BF16 weights: argmax as in double precision in %d of %d positions, mean "
              + "nll %.5f (%.5f)%n",
          same, ids.length, actual, expected);
      assertTrue(widest < NEAR_TIE, "an argmax differs where the margin is " + widest);
      assertEquals(expected, actual, 5e-4); // a key may round to the other side
    }
  }

  private static final class Found {
    final int[] argmax;
    double nll;

    Found(int tokens) {
      argmax = new int[tokens];
    }
  }

  /** Every position's prediction: the head over the states that leave the last layer. */
  private static Found predict(LlamaWeights weights, int[] ids) {
    Found found = new Found(ids.length);
    LayerObserver look = (depth, rows) -> {
      if (depth == LAYERS) {
        for (int from = 0; from < rows.count(); from += 64) {
          look(weights, rows, from, Math.min(rows.count(), from + 64), ids, found);
        }
      }
    };
    try (Decoder decoder =
             new Decoder(weights, DecoderOptions.FULL.withObserver(look), 1, ids.length)) {
      decoder.prefill(0, ids);
    }
    return found;
  }

  private static void look(
      LlamaWeights weights, Rows rows, int from, int to, int[] ids, Found found) {
    try (Scope scope = Scope.open()) {
      Head head = new Head(scope, weights, rows.hidden().rows(from, to), true);
      head.run();
      int[] argmax = head.statistics().argmax().toIntArray();
      float[] lse = head.statistics().lse().toFloatArray();
      for (int row = 0; row < to - from; row++) {
        int position = rows.positionOf(from + row);
        found.argmax[position] = argmax[row];
        if (position + 1 < ids.length) {
          found.nll += lse[row] - head.logits().row(row).floatBuffer().get(ids[position + 1]);
        }
      }
    }
  }
}
