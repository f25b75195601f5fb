// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.engine.layer.LayerObserver;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.policy.FfnSkip;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class FfnCalibrationTest {
  private static final int TOKENS = 40;

  @TempDir Path folder;

  @Test
  void proposesWhereBlocksTurnTheStreamLeast() throws IOException {
    try (GgufFile file = GgufFile.open(TinyModel.write(folder.resolve("tiny.gguf")));
        LlamaWeights weights = LlamaWeights.load(file, DType.F32)) {
      int[] ids = IntStream.range(0, TOKENS).map(i -> i * 7 % 23).toArray();
      FfnCalibration calibration = FfnCalibration.of(weights, ids);
      FfnSkip skip = calibration.propose(.4, 9);
      assertEquals(9, skip.warmUp());
      assertEquals(3, skip.coldEnd() - skip.coldStart(), "one that is measured, two that are not");
      double chosen = mean(calibration, skip.coldStart());
      for (int start = 0; start + 3 <= TinyModel.LAYERS; start++) {
        assertTrue(mean(calibration, start) <= chosen + 1e-12);
      }
      assertHalfTheTokensBeginAtOnce(weights, ids, skip);
    }
  }

  private static double mean(FfnCalibration calibration, int start) {
    return IntStream.range(start, start + 3)
        .mapToDouble(calibration::meanCosine)
        .average()
        .orElseThrow();
  }

  private static void assertHalfTheTokensBeginAtOnce(
      LlamaWeights weights, int[] ids, FfnSkip skip) {
    FfnSkip fromTheStart =
        new FfnSkip(skip.coldStart(), skip.coldEnd(), 0, skip.threshold(), skip.budget());
    int[] skipping = new int[1];
    LayerObserver count = (depth, rows) -> {
      if (depth == skip.coldStart() + 2) {
        skipping[0] = Arrays.stream(rows.skip().toIntArray()).sum();
      }
    };
    try (Decoder decoder = new Decoder(weights,
             DecoderOptions.FULL.withFfnSkip(fromTheStart).withObserver(count), 1, TOKENS)) {
      decoder.prefill(0, ids);
    }
    assertEquals(TOKENS / 2, skipping[0]);
  }
}
