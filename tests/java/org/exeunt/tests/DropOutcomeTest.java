// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Prompts.list;
import static org.exeunt.tests.Prompts.prompt;
import static org.exeunt.tests.Prompts.row;
import static org.exeunt.tests.Prompts.tensor;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.exeunt.AttentionScores;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Gather;
import org.exeunt.Hired;
import org.exeunt.HiredBudget;
import org.exeunt.KvCache;
import org.exeunt.PromptDistill;
import org.exeunt.Scope;
import org.exeunt.Select;
import org.exeunt.Selection;
import org.exeunt.SnapKv;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * What becomes of caches, positions and features where tokens are dropped, against what the
 * authors' code left of them, recorded.
 */
@Tag("kernels")
@ExtendWith(ForcedPath.class)
class DropOutcomeTest {
  /** From a cache with a head for each group of query heads to one with a head for each of them. */
  @Test
  void snapKvCaches() {
    Recorded recorded = new Recorded("snapkv");
    for (String name : recorded.cases(5, r -> r.has("expected_keys"))) {
      int heads = recorded.integer("q_heads");
      int kvHeads = recorded.integer("kv_heads");
      int width = recorded.integer("head_dim");
      int tokens = recorded.integer("N");
      int capacity = recorded.integer("capacity");
      try (Scope scope = Scope.open()) {
        KvCache cache = KvCache.ofHeadMajor(
            tensor(scope, recorded.floats("keys"), 1, kvHeads, tokens, width),
            tensor(scope, recorded.floats("values"), 1, kvHeads, tokens, width));
        int window = recorded.integer("window");
        Selection kept =
            SnapKv.of(window, capacity)
                .withPooling(AttentionScores.Pool.AVG, recorded.integer("kernel"))
                .choose(scope, Stream.DEFAULT,
                    prompt(scope, recorded.floats("query_window"), heads, window, width, cache,
                        tokens));
        KvCache shorter = KvCache.contiguous(scope, Device.defaultDevice(), DType.F32,
            KvCache.Layout.HEAD_MAJOR, 1, heads, capacity, width);
        cache.compactTo(shorter).select(kept).perHead(true).runOnce();
        float[] foundKeys = shorter.k().toFloatArray();
        float[] foundValues = shorter.v().toFloatArray();
        float[] expectedKeys = recorded.floats("expected_keys");
        float[] expectedValues = recorded.floats("expected_values");
        for (int h = 0; h < heads; h++) {
          int[] list = list(kept, h);
          int[] order = row(recorded.ints("expected_positions"), heads, h);
          assertArrayEquals(IntStream.of(order).sorted().toArray(), list, name + " head " + h);
          for (int i = 0; i < capacity; i++) { // the authors leave the prefix in score order
            int ours = (h * capacity + Arrays.binarySearch(list, order[i])) * width;
            int theirs = (h * capacity + i) * width;
            String where = name + " head " + h + " position " + order[i];
            assertArrayEquals(Arrays.copyOfRange(expectedKeys, theirs, theirs + width),
                Arrays.copyOfRange(foundKeys, ours, ours + width), where);
            assertArrayEquals(Arrays.copyOfRange(expectedValues, theirs, theirs + width),
                Arrays.copyOfRange(foundValues, ours, ours + width), where);
          }
        }
      }
    }
  }

  /** Keys of other layers than those of the stages were not recorded: here they are zero. */
  @Test
  void promptDistillInTwoStages() {
    Recorded recorded = new Recorded("promptdistill");
    for (String name : recorded.cases(4, r -> r.has("composed_kept"))) {
      try (Scope scope = Scope.open()) {
        twoStages(scope, recorded, name);
      }
    }
  }

  private static void twoStages(Scope scope, Recorded recorded, String name) {
    int heads = recorded.integer("q_heads");
    int kvHeads = recorded.integer("kv_heads");
    int width = recorded.integer("head_dim");
    int layers = recorded.integer("L");
    int rows = recorded.integer("T");
    int[] stages = recorded.integers("layers");
    int[] keep = recorded.integers("k");
    PromptDistill method =
        PromptDistill
            .of(new PromptDistill.Stage(stages[0], keep[0]),
                new PromptDistill.Stage(stages[1], keep[1]))
            .withTruncation(recorded.integer("cache_truncation_end"));
    KvCache[] caches = new KvCache[layers];
    int[] lengths = new int[layers];
    Tensor position =
        scope.allocate(Device.defaultDevice(), DType.I32, rows)
            .copyFrom(IntStream.range(0, rows).toArray());
    for (int layer = 0; layer < layers; layer++) {
      int stage = method.stageBehind(layer, layers);
      float[] known = stage < 0
          ? new float[kvHeads * rows * width]
          : recorded.floats("stage" + (stage + 1) + "_keys");
      caches[layer] = KvCache.ofHeadMajor(tensor(scope, known, 1, kvHeads, rows, width),
          tensor(scope, new float[known.length], 1, kvHeads, rows, width));
      lengths[layer] = rows;
      if (stage < 0) {
        continue;
      }
      String at = "stage" + (stage + 1);
      Selection kept = method.choose(scope, Stream.DEFAULT, stage,
          prompt(scope, recorded.floats(at + "_query_last"), heads, 1, width, caches[layer], rows));
      assertArrayEquals(recorded.ints(at + "_kept"), list(kept, 0), name + " " + at);
      for (int below = 0; below <= layer && method.truncates(stage); below++) {
        Tensor length = scope.allocate(Device.defaultDevice(), DType.I32, 1);
        caches[below]
            .compact()
            .select(kept)
            .length(tensorOf(scope, lengths[below]))
            .newLength(length)
            .runOnce();
        lengths[below] = length.toIntArray()[0];
      }
      Gather.builder()
          .list(kept.indices().row(0))
          .count(kept.count())
          .rows(rows)
          .positions(position.rows(0, rows), position.rows(0, rows))
          .runOnce();
      rows = kept.count().toIntArray()[0];
    }
    assertArrayEquals(
        recorded.ints("composed_kept"), position.rows(0, rows).toIntArray(), name + " positions");
    assertArrayEquals(recorded.integers("kv_lengths"), lengths, name + " lengths");
    assertArrayEquals(recorded.floats("layer0_key_cache"),
        caches[0].k().row(0).slice(1, 0, lengths[0]).toFloatArray(), name + " keys of layer 0");
  }

  private static Tensor tensorOf(Scope scope, int... values) {
    return scope.allocate(Device.defaultDevice(), DType.I32, values.length).copyFrom(values);
  }

  // ---- HiRED

  /**
   * In which order a model that joins its sub-images reads all tokens, [partition, token] each: the
   * full image, then row by row the large grid, without what pads the image to it. The authors'
   * code takes the grid's columns for its rows.
   */
  private static List<int[]> reading(Recorded recorded) {
    int side = recorded.integer("side");
    int down = recorded.integer("grid_cols");
    int across = recorded.integer("grid_rows");
    int height = recorded.integer("image_height");
    int width = recorded.integer("image_width");
    int padRows = 0;
    int padCols = 0;
    if (width / (double) height > across / (double) down) {
      padRows = (down * side - (int) (height * (across * side / (double) width))) / 2;
    } else {
      padCols = (across * side - (int) (width * (down * side / (double) height))) / 2;
    }
    List<int[]> order = new ArrayList<>();
    for (int token = 0; token < side * side; token++) {
      order.add(new int[] {0, token});
    }
    for (int y = padRows; y < down * side - padRows; y++) {
      for (int x = padCols; x < across * side - padCols; x++) {
        order.add(new int[] {1 + y / side * across + x / side, y % side * side + x % side});
      }
    }
    return order;
  }

  /** The tokens that were kept, in the order they are read. */
  private static List<int[]> packed(Recorded recorded, Selection kept) {
    int[][] lists =
        IntStream.range(0, recorded.integer("partitions"))
            .mapToObj(p -> list(kept, p))
            .toArray(int[][] ::new);
    return reading(recorded)
        .stream()
        .filter(at -> Arrays.binarySearch(lists[at[0]], at[1]) >= 0)
        .toList();
  }

  /** The budgets of images in a batch, and the lists of one of them. */
  private static Selection hired(Scope scope, Tensor attention, int image, Tensor scores, int side,
      double rate, double alpha) {
    int images = (int) attention.size(0);
    int partitions = (int) scores.size(0);
    Tensor budget = scope.allocate(Device.defaultDevice(), DType.I32, images, partitions);
    HiredBudget.asInCode()
        .attention(attention)
        .budget(budget)
        .rate(rate, alpha)
        .patches(side, side)
        .grid(partitions - 1, 1)
        .runOnce();
    Selection kept =
        Selection.allocate(scope, partitions, (long) side * side).withBudget(budget.row(image));
    Select.builder().scores(scores).select(kept).runOnce();
    return kept;
  }

  @Test
  void hiredTokensInOrder() {
    Recorded recorded = new Recorded("hired");
    // Equal attention: the authors' lists follow from no rule. An image that was not cut they
    // pack whole, whatever the mask says.
    for (String name : recorded.cases(
             78, r -> r.has("packed_partition") && !r.text("kind").matches("ties|uniform"))) {
      int side = recorded.integer("side");
      // Attention that was summed in half precision is marked in another order there.
      String attention = recorded.text("dtype").equals("f16") ? "marks" : "score_block0_full";
      try (Scope scope = Scope.open()) {
        Selection kept = hired(scope, tensor(scope, recorded.floats(attention), 1, side * side), 0,
            tensor(scope, recorded.floats("score_block22"), recorded.integer("partitions"),
                side * side),
            side, recorded.number("rate"), recorded.number("alpha"));
        List<int[]> found = packed(recorded, kept);
        assertArrayEquals(recorded.ints("packed_partition"),
            found.stream().mapToInt(at -> at[0]).toArray(), name);
        assertArrayEquals(
            recorded.ints("packed_token"), found.stream().mapToInt(at -> at[1]).toArray(), name);
      }
    }
  }

  /** From queries and keys of the vision encoder to what the language model gets. */
  @Test
  void hiredFeatures() {
    Recorded recorded = new Recorded("hired");
    for (String name : recorded.cases(4, r -> r.has("packed_features"))) {
      int side = recorded.integer("side");
      int patches = side * side;
      int partitions = recorded.integer("partitions");
      try (Scope scope = Scope.open()) {
        Selection kept =
            Hired.asInCode()
                .withRate(recorded.number("rate"), recorded.number("alpha"))
                .choose(scope, Stream.DEFAULT, block(scope, recorded, "0"),
                    block(scope, recorded, "22"),
                    new Hired.Grid(
                        side, side, recorded.integer("grid_rows"), recorded.integer("grid_cols")));
        int[] rows =
            packed(recorded, kept).stream().mapToInt(at -> at[0] * patches + at[1]).toArray();
        float[] features = recorded.floats("projected_features");
        int width = features.length / (partitions * patches);
        Tensor out = scope.allocate(Device.defaultDevice(), DType.F32, rows.length, width);
        Gather.compute(
            tensor(scope, features, partitions * patches, width), tensorOf(scope, rows), out);
        assertArrayEquals(recorded.floats("packed_features"), out.toFloatArray(), name);
      }
    }
  }

  /** Keys lie as [P, N, heads * width]: a token-major cache. */
  static Hired.Block block(Scope scope, Recorded recorded, String number) {
    int heads = recorded.integer("heads");
    int width = recorded.integer("head_dim");
    int partitions = recorded.integer("partitions");
    long slots = 1 + (long) recorded.integer("Nv");
    return new Hired.Block(
        tensor(scope, recorded.floats("q_cls_block" + number), partitions, heads, width),
        KvCache.ofTokenMajor(
            tensor(scope, recorded.floats("k_block" + number), partitions, slots, heads, width),
            null));
  }

  /** Two images that were cut differently: the budgets of a batch of both, for either grid. */
  @Test
  void hiredBatchOfTwoImages() {
    Recorded recorded = new Recorded("hired");
    recorded.cases(1, r -> r.has("expected_mask_image1")).iterator().next();
    int side = recorded.integer("side");
    int patches = side * side;
    int[] partitions = recorded.integers("partitions");
    float[] early = summed(recorded, "cls_block0", patches);
    float[] late = summed(recorded, "cls_block22", patches);
    float[] full = new float[partitions.length * patches]; // partition 0 of each image
    for (int image = 0, first = 0; image < partitions.length; first += partitions[image++]) {
      System.arraycopy(early, first * patches, full, image * patches, patches);
    }
    for (int image = 0, first = 0; image < partitions.length; first += partitions[image++]) {
      int[] mask = recorded.ints("expected_mask_image" + image);
      try (Scope scope = Scope.open()) {
        Selection kept = hired(scope, tensor(scope, full, partitions.length, patches), image,
            tensor(scope,
                Arrays.copyOfRange(late, first * patches, (first + partitions[image]) * patches),
                partitions[image], patches),
            side, recorded.number("rate"), recorded.number("alpha"));
        for (int p = 0; p < partitions[image]; p++) {
          int[] part = row(mask, partitions[image], p);
          assertArrayEquals(IntStream.range(0, patches).filter(i -> part[i] != 0).toArray(),
              list(kept, p), "image " + image + " partition " + p);
        }
      }
    }
  }

  /** Attention [P, heads, tokens], summed over heads. */
  private static float[] summed(Recorded recorded, String name, int tokens) {
    float[] each = recorded.floats(name);
    int heads = recorded.integer("heads");
    float[] sums = new float[each.length / heads];
    for (int i = 0; i < each.length; i++) {
      sums[i / (heads * tokens) * tokens + i % tokens] += each[i];
    }
    return sums;
  }
}
