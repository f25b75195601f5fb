// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.exit;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.util.Arrays;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Statistics;
import org.exeunt.engine.TestData;
import org.exeunt.engine.decode.Trace;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.SafetensorsFile;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * The exit head on a real model, against statistics recorded from a run in double precision: each
 * value within {@link #TOLERANCE}, whatever its size, and each argmax exact, except where the two
 * best recorded logits are closer than twice that.
 */
@ExtendWith(TestData.NeedsModel.class)
class RecordedExitsTest {
  private static final double TOLERANCE = 1e-4;

  private static LlamaWeights weights;
  private static SafetensorsFile golden;
  private static int recordedTokens;
  private static int width;

  @BeforeAll
  static void load() throws IOException {
    try (GgufFile file = GgufFile.open(TestData.model())) {
      golden = SafetensorsFile.open(TestData.golden("model/exit_stats.safetensors"));
      weights = LlamaWeights.load(file, DType.F32);
      recordedTokens = golden.ints("ids").length;
      width = weights.config().width();
    }
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

  /** The hidden states are the recorded ones, so all error is the kernel's. */
  @Test
  void recordedHiddenStatesGiveTheRecordedStatistics() throws IOException {
    float[] hidden = golden.floats("hidden");
    int[] depths = golden.ints("hidden_layers");
    int last = hidden.length / depths.length / width;
    int[] tokens = IntStream.range(recordedTokens - last, recordedTokens).toArray();
    try (DepthStatistics head = new DepthStatistics(weights, tokens.length)) {
      for (int i = 0; i < depths.length; i++) {
        int size = tokens.length * width;
        head.run(Arrays.copyOfRange(hidden, i * size, (i + 1) * size));
        check(head.statistics(), depths[i], tokens);
      }
    }
  }

  /**
   * The hidden states come from our own f32 forward pass, whose error is added to the kernel's. All
   * tokens run through the model; EXEUNT_LONG=1 compares all of them, too.
   */
  @Test
  void ownForwardPassGivesTheRecordedStatisticsAtEveryDepth() throws IOException {
    int stride = Boolean.getBoolean("exeunt.quick") ? 16
        : System.getenv("EXEUNT_LONG") == null
        ? 5
        : 1;
    int[] tokens = IntStream.range(0, recordedTokens).filter(t -> t % stride == 0).toArray();
    Trace trace = Trace.of(weights, golden.ints("ids"));
    double[] recordedCosine = golden.doubles("state_cosine");
    try (DepthStatistics head = new DepthStatistics(weights, tokens.length)) {
      for (int depth = 0; depth <= weights.config().layers(); depth++) {
        head.run(select(trace, depth, tokens));
        check(head.statistics(), depth, tokens);
        if (depth > 0) {
          float[] cosine = head.cosine().toFloatArray();
          for (int t = 0; t < tokens.length; t++) {
            assertEquals(recordedCosine[(depth - 1) * recordedTokens + tokens[t]], cosine[t], 1e-4,
                "state cosine of layer " + (depth - 1) + ", token " + tokens[t]);
          }
        }
      }
    }
  }

  private static float[] select(Trace trace, int depth, int[] tokens) {
    float[] rows = new float[tokens.length * width];
    for (int i = 0; i < tokens.length; i++) {
      System.arraycopy(trace.hidden(depth), tokens[i] * width, rows, i * width, width);
    }
    return rows;
  }

  private static void check(Statistics actual, int depth, int[] tokens) throws IOException {
    checkValues("p1", actual.p1().toFloatArray(), depth, tokens);
    checkValues("p2", actual.p2().toFloatArray(), depth, tokens);
    checkValues("entropy", actual.entropy().toFloatArray(), depth, tokens);
    checkValues("pow2_entropy", actual.pow2Entropy().toFloatArray(), depth, tokens);
    checkValues("lse", actual.lse().toFloatArray(), depth, tokens);
    checkValues("max_logit", actual.maxLogit().toFloatArray(), depth, tokens);
    checkValues("mean_logp", actual.meanLogP().toFloatArray(), depth, tokens);
    checkArgmax(actual.argmax().toIntArray(), depth, tokens);
  }

  private static void checkValues(String name, float[] actual, int depth, int[] tokens)
      throws IOException {
    double[] recorded = golden.doubles(name);
    for (int i = 0; i < tokens.length; i++) {
      assertEquals(recorded[depth * recordedTokens + tokens[i]], actual[i], TOLERANCE,
          name + " at depth " + depth + ", token " + tokens[i]);
    }
  }

  private static void checkArgmax(int[] actual, int depth, int[] tokens) throws IOException {
    int[] first = golden.ints("argmax");
    int[] second = golden.ints("second");
    double[] p1 = golden.doubles("p1");
    double[] p2 = golden.doubles("p2");
    int close = 0;
    for (int i = 0; i < tokens.length; i++) {
      int at = depth * recordedTokens + tokens[i];
      double gap = Math.log(p1[at]) - Math.log(p2[at]);
      boolean tied = gap < 2 * TOLERANCE;
      close += tied ? 1 : 0;
      assertTrue(actual[i] == first[at] || tied && actual[i] == second[at],
          "argmax at depth " + depth + ", token " + tokens[i] + ": " + actual[i] + ", recorded "
              + first[at] + " with a logit gap of " + gap);
    }
    assertTrue(close <= tokens.length / 200 + 1,
        close + " of " + tokens.length + " rows are too close to tell at depth " + depth);
  }
}
