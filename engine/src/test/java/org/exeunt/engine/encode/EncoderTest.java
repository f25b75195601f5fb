// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.exeunt.DType;
import org.exeunt.engine.model.onnx.OnnxBuilder;
import org.exeunt.engine.model.onnx.OnnxFile;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The encoder on random weights. */
class EncoderTest {
  private static final int BATCH = 9;

  @TempDir Path folder;
  private OnnxBuilder model;
  private Path path;
  private EncoderWeights weights;

  @BeforeEach
  void load() throws IOException {
    model = TinyEncoder.model();
    path = Files.write(folder.resolve("tiny.onnx"), model.toBytes());
    weights = EncoderWeights.load(path, DType.F32);
  }

  @AfterEach
  void close() {
    weights.close();
  }

  /** Sentences of 1 to 40 tokens. */
  static List<int[]> sentences(int count) {
    Random random = new Random(11);
    List<int[]> sentences = new ArrayList<>();
    for (int s = 0; s < count; s++) {
      sentences.add(random.ints(1 + random.nextInt(40), 0, TinyEncoder.PIECES.size()).toArray());
    }
    return sentences;
  }

  @Test
  void everyLayerIsThatInDoublePrecision() throws IOException {
    Map<String, String> matrices = new HashMap<>();
    try (OnnxFile file = OnnxFile.open(path)) {
      for (int l = 0; l < TinyEncoder.LAYERS; l++) {
        for (String block :
            List.of("attention/self/query", "attention/self/key", "attention/self/value",
                "attention/output/dense", "intermediate/dense", "output/dense")) {
          matrices.put("encoder.layer." + l + "." + block,
              file.producer(EncoderConfig.made(l, block + "/MatMul")).inputs().get(1));
        }
      }
    }
    DoubleEncoder judge = new DoubleEncoder(
        model.values, matrices, TinyEncoder.WIDTH, TinyEncoder.HEADS, TinyEncoder.FEED_FORWARD);
    List<int[]> batch = sentences(BATCH);
    try (Encoder encoder = new Encoder(weights, BATCH, TinyEncoder.POSITIONS)) {
      encoder.start(batch);
      List<double[][]> expected = new ArrayList<>();
      batch.forEach(tokens -> expected.add(judge.embed(tokens)));
      for (int l = 0; l < TinyEncoder.LAYERS; l++) {
        assertEquals(l + 1, encoder.runLayer());
        encoder.pool();
        for (int s = 0; s < BATCH; s++) {
          expected.set(s, judge.layer(l, expected.get(s)));
          float[] found = encoder.pooled().row(s).toFloatArray();
          for (int i = 0; i < found.length; i++) {
            double mean = 0;
            for (double[] row : expected.get(s)) {
              mean += row[i] / expected.get(s).length;
            }
            assertEquals(mean, found[i], 2e-5, "layer " + l + ", sentence " + s);
          }
        }
      }
    }
  }

  /** Whoever else is in the batch, and whoever leaves it. */
  @Test
  void aSentenceDoesNotNoticeTheOthers() {
    List<int[]> batch = sentences(BATCH);
    try (Encoder encoder = new Encoder(weights, BATCH, 40);
        Encoder alone = new Encoder(weights, 1, 40)) {
      encoder.start(batch);
      boolean[] stays = {true, true, true, true, true, true, true, true, true};
      for (int l = 0; l < TinyEncoder.LAYERS; l++) {
        encoder.runLayer();
        encoder.pool();
        for (int s = 0; s < BATCH; s++) {
          float[] expected = new float[TinyEncoder.WIDTH];
          if (stays[s]) {
            alone.start(List.of(batch.get(s)));
            for (int below = 0; below <= l; below++) {
              alone.runLayer();
            }
            alone.pool();
            expected = alone.pooled().row(0).toFloatArray();
          }
          assertArrayEquals(expected, encoder.pooled().row(s).toFloatArray());
        }
        stays[3 * l] = false;
        stays[3 * l + 1] = false;
        encoder.keep(stays);
        assertTrue(encoder.isBusy());
      }
      encoder.keep(new boolean[BATCH]);
      assertFalse(encoder.isBusy());
      assertThrows(IllegalStateException.class, encoder::runLayer);
    }
  }

  @Test
  void refusesBatchesThatItCannotTake() {
    try (Encoder encoder = new Encoder(weights, 2, 5)) {
      for (List<int[]> batch : List.<List<int[]>>of(List.of(), List.of(new int[0]),
               List.of(new int[6]), List.of(new int[] {TinyEncoder.PIECES.size()}),
               List.of(new int[] {-1}), List.of(new int[1], new int[1], new int[1]))) {
        String message =
            assertThrows(IllegalArgumentException.class, () -> encoder.start(batch)).getMessage();
        assertTrue(message.startsWith("batch: "), message);
      }
      assertEquals(1, encoder.embed(List.of(new int[] {3})).length);
    }
    assertThrows(IllegalArgumentException.class, () -> new Encoder(weights, 0, 5));
    assertThrows(
        IllegalArgumentException.class, () -> new Encoder(weights, 1, TinyEncoder.POSITIONS + 1));
  }
}
