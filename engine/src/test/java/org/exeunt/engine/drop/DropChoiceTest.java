// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.drop;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Random;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Tensor;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.layer.LayerObserver;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Which tokens the decoder drops, on a model with random weights: the lists that come of the
 * queries and keys of a pass that drops nothing, scored in double by the methods' formulas. What
 * was kept is read off the caches. PromptDistill and GemFilter have recordings of their own.
 */
class DropChoiceTest {
  private static final int TOKENS = 24;
  private static final int HEADS = 4;
  private static final int KV_HEADS = 2;
  private static final int GROUP = HEADS / KV_HEADS;
  private static final int WIDTH = 8;

  @TempDir static Path folder;
  private static LlamaWeights weights;
  private static Layer[] full;

  @BeforeAll
  static void load() throws IOException {
    try (GgufFile file = GgufFile.open(TinyModel.write(folder.resolve("tiny.gguf")))) {
      weights = LlamaWeights.load(file, DType.F32);
    }
    assertEquals(WIDTH, weights.config().headWidth());
    full = layersOf(DecoderOptions.FULL);
  }

  @AfterAll
  static void close() {
    weights.close();
  }

  /**
   * What a layer has when the prompt has just been through it.
   *
   * @param query [T,H,dh]
   * @param k [Hkv,T,dh]
   * @param v [Hkv,T,dh]
   * @param position of each row
   */
  private record Layer(float[] query, float[] k, float[] v, int... position) {
    int tokens() {
      return position.length;
    }
  }

  private static int[] prompt() {
    return new Random(6).ints(TOKENS, 0, weights.config().vocabulary()).toArray();
  }

  private static DecoderOptions dropping(String drop) {
    return DecoderOptions.FULL.withDrop(PromptDrop.parse(drop, TinyModel.LAYERS));
  }

  /** All layers, each before anything after it is dropped. */
  private static Layer[] layersOf(DecoderOptions options) {
    Layer[] layers = new Layer[TinyModel.LAYERS];
    Decoder[] running = new Decoder[1];
    LayerObserver look = (depth, rows) -> {
      if (depth > 0) {
        int layer = depth - 1;
        layers[layer] = new Layer(rows.query().toFloatArray(), known(running[0], layer, true),
            known(running[0], layer, false),
            IntStream.range(0, rows.count()).map(rows::positionOf).toArray());
      }
    };
    try (Decoder decoder = new Decoder(weights, options.withObserver(look), 1, TOKENS)) {
      running[0] = decoder;
      decoder.prefill(0, prompt());
    }
    return layers;
  }

  /** Keys or values of a layer, [Hkv,n,dh]. */
  private static float[] known(Decoder decoder, int layer, boolean keys) {
    Tensor cache = keys ? decoder.kv().cache(layer).k() : decoder.kv().cache(layer).v();
    return cache.row(0).slice(1, 0, decoder.kv().length(layer, 0)).toFloatArray();
  }

  // ---- formulas

  /** The softmax of one row's query over the tokens up to its own. */
  private static double[] attention(Layer layer, int row, int head) {
    double[] p = new double[layer.tokens()];
    double sum = 0;
    for (int j = 0; j <= row; j++) {
      double product = 0;
      for (int i = 0; i < WIDTH; i++) {
        product += (double) layer.query[(row * HEADS + head) * WIDTH + i]
            * layer.k[(head / GROUP * layer.tokens() + j) * WIDTH + i];
      }
      p[j] = Math.exp(product / Math.sqrt(WIDTH));
      sum += p[j];
    }
    for (int j = 0; j <= row; j++) {
      p[j] /= sum;
    }
    return p;
  }

  /** The attention of rows from {@code first} on and of a group's heads, summed. */
  private static double[] summed(Layer layer, int first, int group) {
    double[] sums = new double[layer.tokens()];
    for (int row = first; row < layer.tokens(); row++) {
      for (int head = group * GROUP; head < (group + 1) * GROUP; head++) {
        double[] p = attention(layer, row, head);
        Arrays.setAll(sums, j -> sums[j] + p[j]);
      }
    }
    return sums;
  }

  /** The average over five neighbours, zero outside. */
  private static double[] pooled(double... scores) {
    double[] result = new double[scores.length];
    for (int j = 0; j < scores.length; j++) {
      for (int i = Math.max(0, j - 2); i <= Math.min(scores.length - 1, j + 2); i++) {
        result[j] += scores[i] / 5;
      }
    }
    return result;
  }

  /** The k best of the scores, and all tokens after them, ascending. */
  private static int[] best(double[] scores, int k, int tokens) {
    int[] order =
        IntStream.range(0, scores.length)
            .boxed()
            .sorted(Comparator.comparingDouble(j -> - scores[j]))
            .mapToInt(j -> j)
            .toArray();
    assertTrue(scores[order[k - 1]] - scores[order[k]] > 1e-5, "the cut is not clear");
    return IntStream.concat(Arrays.stream(order, 0, k), IntStream.range(scores.length, tokens))
        .sorted()
        .toArray();
  }

  /** The last row's attention to all tokens before it, mean over heads. */
  private static double[] lastRow(Layer layer) {
    double[] mean = new double[layer.tokens() - 1];
    for (int head = 0; head < HEADS; head++) {
      double[] p = attention(layer, layer.tokens() - 1, head);
      Arrays.setAll(mean, j -> mean[j] + p[j] / HEADS);
    }
    return mean;
  }

  // ---- methods that shrink each layer's cache

  /** What a head of a cache holds of some slots. */
  private static float[] slots(float[] cache, int head, int... list) {
    int tokens = cache.length / (KV_HEADS * WIDTH);
    float[] rows = new float[list.length * WIDTH];
    for (int i = 0; i < list.length; i++) {
      System.arraycopy(cache, (head * tokens + list[i]) * WIDTH, rows, i * WIDTH, WIDTH);
    }
    return rows;
  }

  /** @param lists by layer and KV head */
  private static void assertCaches(String drop, int[][][] lists) {
    try (Decoder decoder = new Decoder(weights, dropping(drop), 1, TOKENS)) {
      decoder.prefill(0, prompt());
      for (int l = 0; l < TinyModel.LAYERS; l++) {
        for (int head = 0; head < KV_HEADS; head++) {
          int[] all = IntStream.range(0, decoder.kv().length(l, 0)).toArray();
          String where = drop + ", layer " + l + ", head " + head;
          assertArrayEquals(slots(full[l].k, head, lists[l][head]),
              slots(known(decoder, l, true), head, all), "keys of " + where);
          assertArrayEquals(slots(full[l].v, head, lists[l][head]),
              slots(known(decoder, l, false), head, all), "values of " + where);
        }
      }
    }
  }

  @Test
  void snapKvKeepsWhatTheWindowSees() {
    int window = 4;
    int capacity = 10;
    int[][][] lists = new int[TinyModel.LAYERS][KV_HEADS][];
    for (int l = 0; l < lists.length; l++) {
      for (int head = 0; head < KV_HEADS; head++) {
        double[] sums = summed(full[l], TOKENS - window, head);
        lists[l][head] =
            best(pooled(Arrays.copyOf(sums, TOKENS - window)), capacity - window, TOKENS);
      }
    }
    assertCaches("snapkv:" + window + "," + capacity, lists);
  }

  @Test
  void h2oKeepsWhatAllTokensSee() {
    int[][][] lists = new int[TinyModel.LAYERS][KV_HEADS][];
    for (int l = 0; l < lists.length; l++) {
      for (int head = 0; head < KV_HEADS; head++) {
        lists[l][head] = best(Arrays.copyOf(summed(full[l], 0, head), TOKENS - 3), 6, TOKENS);
      }
    }
    assertCaches("h2o:0.25,0.125", lists);
  }

  // ---- methods whose tokens go on no further

  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3, 4})
  void fastVKeepsWhatTheLastTokenSees(int layer) {
    Layer[] layers = layersOf(dropping("fastv:" + layer + ",0.5"));
    int[] expected = best(lastRow(full[layer - 1]), 12, TOKENS); // 11.5 to even
    for (int l = 0; l < layers.length; l++) {
      assertArrayEquals(
          l < layer ? full[l].position : expected, layers[l].position, "positions in layer " + l);
    }
    assertSameTokens(full[layer], expected, layers[layer]);
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3, 4})
  void pyramidDropKeepsWhatTheLastTokenSees(int layer) {
    Layer[] layers = layersOf(dropping("pyramiddrop:" + layer + ",0.5"));
    assertRenumbered(full, layer, 11, layers);
  }

  /** The second of two stages has half of what the first has left to choose from. */
  @Test
  void pyramidDropChoosesAgain() {
    Layer[] once = layersOf(dropping("pyramiddrop:1,0.5"));
    assertRenumbered(once, 3, 5, layersOf(dropping("pyramiddrop:1,0.5,3,0.25")));
  }

  private static void assertRenumbered(Layer[] before, int layer, int keep, Layer[] layers) {
    int[] expected = best(lastRow(before[layer]), keep, before[layer].tokens());
    for (int l = 0; l < layers.length; l++) {
      assertArrayEquals(l < layer ? before[l].position : IntStream.rangeClosed(0, keep).toArray(),
          layers[l].position, "layer " + l);
    }
    assertSameTokens(before[layer], expected, layers[layer]);
  }

  /** A token is known by its values: they do not depend on its position or on other tokens. */
  private static void assertSameTokens(Layer before, int[] list, Layer after) {
    int[] all = IntStream.range(0, after.tokens()).toArray();
    for (int head = 0; head < KV_HEADS; head++) {
      assertArrayEquals(
          slots(before.v, head, list), slots(after.v, head, all), 1e-5f, "values of head " + head);
    }
  }
}
