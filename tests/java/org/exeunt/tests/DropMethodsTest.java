// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Prompts.keys;
import static org.exeunt.tests.Prompts.list;
import static org.exeunt.tests.Prompts.prompt;
import static org.exeunt.tests.Prompts.row;
import static org.exeunt.tests.Prompts.tensor;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.stream.IntStream;
import org.exeunt.AttentionScores;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.FastV;
import org.exeunt.GemFilter;
import org.exeunt.H2o;
import org.exeunt.Hired;
import org.exeunt.KvCache;
import org.exeunt.PromptDistill;
import org.exeunt.PromptLayer;
import org.exeunt.PyramidDrop;
import org.exeunt.Scope;
import org.exeunt.Selection;
import org.exeunt.SnapKv;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * The methods that drop tokens, against what their authors' code chose, recorded. Queries and keys
 * are rounded to f32; a list is compared where its cut is clearer than that can blur.
 */
@Tag("kernels")
@ExtendWith(ForcedPath.class)
class DropMethodsTest {
  @Test
  void promptDistill() {
    Recorded recorded = new Recorded("promptdistill");
    for (String name : recorded.cases(59, r -> !r.text("kind").contains("stage") && r.clear())) {
      int heads = recorded.integer("q_heads");
      int kvHeads = recorded.integer("kv_heads");
      int width = recorded.integer("head_dim");
      int tokens = recorded.integer("T");
      int batch = recorded.integer("B");
      int[] ends = recorded.integers("prompt_ends");
      float[] queries = recorded.floats("query_last");
      float[] allKeys = recorded.floats("keys");
      PromptDistill method =
          PromptDistill.of(new PromptDistill.Stage(0, recorded.integer("k")))
              .withPooling(recorded.text("pooling").equals("true") ? PromptDistill.POOL : 1);
      for (int b = 0; b < batch; b++) {
        int end = ends[b];
        try (Scope scope = Scope.open()) {
          float[] last = Arrays.copyOfRange(queries, b * heads * width, (b + 1) * heads * width);
          int size = kvHeads * tokens * width;
          KvCache keys = keys(
              scope, Arrays.copyOfRange(allKeys, b * size, (b + 1) * size), kvHeads, tokens, width);
          Selection kept = method.choose(
              scope, Stream.DEFAULT, 0, prompt(scope, last, heads, 1, width, keys, end + 1));
          // What stands after the last token of a shorter prompt is kept by the authors; here it
          // is no part of the prompt.
          int[] valid = row(recorded.ints("kept_valid"), batch, b);
          int[] official = row(recorded.ints("kept_indices"), batch, b);
          int[] expected =
              IntStream.range(0, official.length)
                  .filter(i -> valid[i] == 1 && official[i] <= end)
                  .map(i -> official[i])
                  .toArray();
          assertArrayEquals(expected, list(kept, 0), name + " row " + b);
        }
      }
    }
  }

  @Test
  void gemFilter() {
    Recorded recorded = new Recorded("gemfilter");
    for (String name : recorded.cases(26,
             r
             -> r.text("fn").equals("find_context") && r.clear() && r.text("pool").equals("avg")
                 && r.integer("kernel") == 5)) {
      int heads = recorded.integer("q_heads");
      int width = recorded.integer("head_dim");
      int tokens = recorded.integer("n");
      try (Scope scope = Scope.open()) {
        KvCache keys =
            keys(scope, recorded.floats("keys"), recorded.integer("kv_heads"), tokens, width);
        Selection kept =
            GemFilter.of(13, recorded.integer("k"))
                .choose(scope, Stream.DEFAULT,
                    prompt(scope, recorded.floats("query_last"), heads, 1, width, keys, tokens));
        assertArrayEquals(recorded.ints("kept_indices"), list(kept, 0), name);
      }
    }
  }

  @Test
  void snapKv() {
    Recorded recorded = new Recorded("snapkv");
    for (String name : recorded.cases(17, r -> !r.text("pruned").equals("false") && r.clear())) {
      int heads = recorded.integer("q_heads");
      int width = recorded.integer("head_dim");
      int tokens = recorded.integer("N");
      int window = recorded.integer("window");
      AttentionScores.Pool pool = recorded.text("pool").startsWith("max")
          ? AttentionScores.Pool.MAX
          : AttentionScores.Pool.AVG;
      try (Scope scope = Scope.open()) {
        KvCache keys =
            keys(scope, recorded.floats("keys"), recorded.integer("kv_heads"), tokens, width);
        SnapKv method =
            SnapKv.of(window, recorded.integer("capacity"))
                .withPooling(pool, recorded.integer("kernel"));
        Selection kept = method.choose(scope, Stream.DEFAULT,
            prompt(scope, recorded.floats("query_window"), heads, window, width, keys, tokens));
        for (int h = 0; h < heads; h++) {
          int[] prefix = row(recorded.ints("kept_indices"), heads, h);
          int[] expected =
              IntStream.concat(IntStream.of(prefix), IntStream.range(tokens - window, tokens))
                  .toArray();
          assertArrayEquals(expected, list(kept, h), name + " head " + h);
        }
      }
    }
  }

  @Test
  void h2o() {
    Recorded recorded = new Recorded("h2o");
    for (String name : recorded.cases(6,
             r
             -> r.text("fn").equals("H2OKVCache_LayerWise") && r.clear()
                 && !r.text("pruned").equals("false")
                 && r.integer("groups") == 1
                 // shares of 1 in all leave nothing to drop
                 && r.integer("heavy") + r.integer("recent") != r.integer("N"))) {
      int heads = recorded.integer("q_heads");
      int width = recorded.integer("head_dim");
      int tokens = recorded.integer("N");
      int heavy = recorded.integer("heavy");
      int recent = recorded.integer("recent");
      try (Scope scope = Scope.open()) {
        KvCache keys =
            keys(scope, recorded.floats("keys"), recorded.integer("kv_heads"), tokens, width);
        H2o method = H2o.of((heavy + .25) / tokens, (recent + .25) / tokens);
        assertEquals(heavy + recent, method.kept(tokens));
        Selection kept = method.choose(scope, Stream.DEFAULT,
            prompt(scope, recorded.floats("queries"), heads, tokens, width, keys, tokens));
        for (int h = 0; h < heads; h++) {
          assertArrayEquals(row(recorded.ints("expected_positions"), heads, h), list(kept, h),
              name + " head " + h);
        }
      }
    }
  }

  @Test
  void fastV() {
    Recorded recorded = new Recorded("fastv");
    for (String name : recorded.cases(16, r -> r.clear())) {
      int heads = recorded.integer("q_heads");
      int width = recorded.integer("head_dim");
      int tokens = recorded.integer("T");
      int begin = recorded.integer("image_start");
      int length = recorded.integer("image_length");
      try (Scope scope = Scope.open()) {
        KvCache keys =
            keys(scope, recorded.floats("keys"), recorded.integer("kv_heads"), tokens, width);
        FastV method = FastV.of(recorded.integer("layer"), recorded.number("r"));
        assertEquals(recorded.integer("keep"), method.kept(length), name);
        Selection kept = method.choose(scope, Stream.DEFAULT,
            prompt(scope, recorded.floats("query_last"), heads, 1, width, keys, tokens), begin,
            begin + length);
        assertArrayEquals(recorded.ints("kept_indices"), list(kept, 0), name);
      }
    }
  }

  @Test
  void pyramidDrop() {
    Recorded recorded = new Recorded("pyramiddrop");
    PyramidDrop method = PyramidDrop.standard();
    for (String name :
        recorded.cases(20, r -> r.clear() && r.text("ratios").equals("[1.0, 0.5, 0.25, 0.125]"))) {
      int heads = recorded.integer("heads");
      int width = recorded.integer("head_dim");
      int tokens = recorded.integer("T");
      int batch = recorded.integer("B");
      int stage = recorded.integer("stage");
      for (int b = 0; b < batch; b++) {
        int begin = recorded.integers("image_start")[b];
        int last = recorded.integers("query_row")[b];
        if (begin < 0) {
          continue; // a row without an image
        }
        int now = recorded.integers("image_tokens_now")[b];
        int original = recorded.integers("image_tokens_original")[b];
        try (Scope scope = Scope.open()) {
          int size = heads * tokens * width;
          KvCache keys = keys(scope,
              Arrays.copyOfRange(recorded.floats("keys"), b * size, (b + 1) * size), heads, tokens,
              width);
          float[] query = Arrays.copyOfRange(
              recorded.floats("query_row"), b * heads * width, (b + 1) * heads * width);
          Selection kept = method.choose(scope, Stream.DEFAULT, stage,
              prompt(scope, query, heads, 1, width, keys, last + 1), begin, begin + now, original);
          assertEquals(recorded.integers("keep")[b], method.kept(stage, original), name);
          int[] valid = row(recorded.ints("kept_valid"), batch, b);
          int[] official = row(recorded.ints("kept_indices"), batch, b);
          int[] expected =
              IntStream.range(0, official.length)
                  .filter(i -> valid[i] == 1 && official[i] <= last)
                  .map(i -> official[i])
                  .toArray();
          assertArrayEquals(expected, list(kept, 0), name + " row " + b);
        }
      }
    }
  }

  /** From the CLS queries and keys of a whole vision encoder to the mask. */
  @Test
  void hired() {
    Recorded recorded = new Recorded("hired");
    for (String name : recorded.cases(4, r -> r.text("kind").equals("end to end") && r.clear())) {
      int side = recorded.integer("side");
      int partitions = recorded.integer("partitions");
      Hired.Grid grid =
          new Hired.Grid(side, side, recorded.integer("grid_rows"), recorded.integer("grid_cols"));
      try (Scope scope = Scope.open()) {
        Selection kept =
            Hired.asInCode()
                .withRate(recorded.number("rate"), recorded.number("alpha"))
                .choose(scope, Stream.DEFAULT, DropOutcomeTest.block(scope, recorded, "0"),
                    DropOutcomeTest.block(scope, recorded, "22"), grid);
        int[] mask = recorded.ints("expected_mask");
        for (int p = 0; p < partitions; p++) {
          int[] part = row(mask, partitions, p);
          int[] expected = IntStream.range(0, part.length).filter(i -> part[i] != 0).toArray();
          assertArrayEquals(expected, list(kept, p), name + " partition " + p);
        }
      }
    }
  }

  // ---- by hand

  /** One head of width 1: scores are the keys. */
  private static PromptLayer simple(Scope scope, float... keys) {
    float[] query = new float[keys.length];
    Arrays.fill(query, 1);
    return new PromptLayer(tensor(scope, query, keys.length, 1, 1),
        keys(scope, keys, 1, keys.length, 1), 0, keys.length);
  }

  @Test
  void smallPromptsByHand() {
    try (Scope scope = Scope.open()) {
      PromptLayer prompt = simple(scope, 5, 1, 4, 2, 3, 0);
      assertArrayEquals(new int[] {0, 2, 5},
          list(PromptDistill.of(new PromptDistill.Stage(0, 2))
                   .withPooling(1)
                   .choose(scope, Stream.DEFAULT, 0, prompt),
              0));
      assertArrayEquals(new int[] {0, 1, 2, 3, 4, 5},
          list(PromptDistill.of(new PromptDistill.Stage(0, 9))
                   .choose(scope, Stream.DEFAULT, 0, prompt),
              0));
      assertArrayEquals(new int[] {0, 4, 5},
          list(SnapKv.of(2, 3)
                   .withPooling(AttentionScores.Pool.NONE, 0)
                   .choose(scope, Stream.DEFAULT, prompt),
              0));
      assertArrayEquals(new int[] {0, 2, 3, 4, 5},
          list(FastV.of(2, .5).choose(scope, Stream.DEFAULT, prompt, 1, 4), 0), "1.5 rounds to 2");
    }
  }

  @Test
  void aBrokenScoreKeepsEverything() {
    try (Scope scope = Scope.open()) {
      PromptLayer prompt = simple(scope, 5, Float.NaN, 4, 2, 3, 0);
      Selection kept =
          PromptDistill.of(new PromptDistill.Stage(0, 2))
              .withPooling(1)
              .choose(scope, Stream.DEFAULT, 0, prompt);
      assertEquals(0, kept.valid().toIntArray()[0]);
      assertArrayEquals(new int[] {0, 1, 2, 3, 4, 5}, list(kept, 0));
    }
  }

  @Test
  void decodeStepsAreRefused() {
    try (Scope scope = Scope.open()) {
      PromptLayer prompt = simple(scope, 5, 1, 4, 2);
      PromptLayer step = new PromptLayer(prompt.query().rows(3, 4), prompt.keys(), 0, 4);
      PromptDistill distill = PromptDistill.of(new PromptDistill.Stage(0, 2));
      String message = assertThrows(
          IllegalStateException.class, () -> distill.choose(scope, Stream.DEFAULT, 0, step))
                           .getMessage();
      assertTrue(message.contains("1 rows") && message.contains("4 tokens"), message);
      assertThrows(IllegalStateException.class,
          () -> GemFilter.of(0, 1).choose(scope, Stream.DEFAULT, step));
      assertThrows(
          IllegalStateException.class, () -> SnapKv.of(1, 2).choose(scope, Stream.DEFAULT, step));
      assertThrows(
          IllegalStateException.class, () -> H2o.standard().choose(scope, Stream.DEFAULT, step));
      assertThrows(IllegalStateException.class,
          () -> FastV.standard().choose(scope, Stream.DEFAULT, step, 0, 1));
      assertThrows(IllegalStateException.class,
          () -> PyramidDrop.standard().choose(scope, Stream.DEFAULT, 0, step, 0, 1, 1));
    }
  }

  /** A scope may live as long as its model: what a choice that fails had allocated is freed. */
  @Test
  void refusedChoicesLeaveNothing() {
    try (Scope scope = Scope.open()) {
      PromptLayer prompt = simple(scope, 1, 2, 3, 4);
      Tensor query = prompt.query();
      Tensor wide =
          scope.allocate(Device.defaultDevice(), DType.F32, 4, query.size(1), query.size(2) + 1);
      PromptLayer misfit = new PromptLayer(wide, prompt.keys(), 0, 4);
      long before = scope.allocatedBytes();
      Stream stream = Stream.DEFAULT;
      String why = "elements per head";
      assertRefused(why,
          () -> PromptDistill.of(new PromptDistill.Stage(0, 2)).choose(scope, stream, 0, misfit));
      assertRefused(why, () -> GemFilter.of(0, 2).choose(scope, stream, misfit));
      assertRefused(why, () -> SnapKv.of(1, 2).choose(scope, stream, misfit));
      assertRefused(why, () -> H2o.standard().choose(scope, stream, misfit));
      assertRefused(why, () -> FastV.standard().choose(scope, stream, misfit, 0, 2));
      assertRefused(why, () -> PyramidDrop.standard().choose(scope, stream, 0, misfit, 0, 2, 2));
      assertRefused(why,
          ()
              -> Hired.standard().choose(scope, stream,
                  new Hired.Block(query.rows(0, 1), prompt.keys()),
                  new Hired.Block(wide.rows(0, 1), prompt.keys()), new Hired.Grid(1, 3, 0, 0)));
      assertEquals(before, scope.allocatedBytes());
      GemFilter.of(0, 2).choose(scope, stream, prompt);
      assertTrue(scope.allocatedBytes() > before);
    }
  }

  private static void assertRefused(String expected, Runnable action) {
    String message = assertThrows(IllegalArgumentException.class, action::run).getMessage();
    assertTrue(message.contains(expected), message);
  }

  @Test
  void senselessSettingsAreRefused() {
    assertRefused("layer is -1", () -> GemFilter.of(-1, 4));
    assertRefused("keep is 0", () -> GemFilter.of(0, 0));
    assertRefused("keep is -1", () -> new PromptDistill.Stage(0, -1));
    assertRefused("stages is empty", PromptDistill::of);
    assertRefused("after layer 3",
        () -> PromptDistill.of(new PromptDistill.Stage(3, 4), new PromptDistill.Stage(3, 2)));
    assertRefused("window is 0", () -> SnapKv.of(0, 4));
    assertRefused("capacity is 4", () -> SnapKv.of(4, 4));
    assertRefused("heavy is 0.75", () -> H2o.of(.75, .5));
    assertRefused("dropped is 1.5", () -> FastV.of(1, 1.5));
    assertRefused("layer is 0", () -> new PyramidDrop.Stage(0, .5));
    assertRefused("width is 4", () -> PromptDistill.standard().withPooling(4));
    assertRefused("count is -2", () -> PromptDistill.standard().withTruncation(-2));
    assertRefused("width is 0", () -> SnapKv.standard().withPooling(AttentionScores.Pool.MAX, 0));
    assertRefused("width is 5", () -> SnapKv.standard().withPooling(AttentionScores.Pool.NONE, 5));
    assertRefused("1.5", () -> Hired.standard().withRate(.2, 1.5));
    assertRefused("does not follow",
        () -> PyramidDrop.of(new PyramidDrop.Stage(1, .25), new PyramidDrop.Stage(2, .5)));
    try (Scope scope = Scope.open()) {
      PromptLayer prompt = simple(scope, 1, 2, 3, 4);
      assertRefused("fewer than the capacity of 5",
          () -> SnapKv.of(2, 5).choose(scope, Stream.DEFAULT, prompt));
      assertRefused("2 to 5, but the prompt has 4",
          () -> FastV.standard().choose(scope, Stream.DEFAULT, prompt, 2, 5));
      assertRefused("sequence is 1", () -> new PromptLayer(prompt.query(), prompt.keys(), 1, 4));
      assertRefused("tokens is 5", () -> new PromptLayer(prompt.query(), prompt.keys(), 0, 5));
      assertRefused("early.query",
          ()
              -> Hired.standard().choose(scope, Stream.DEFAULT,
                  new Hired.Block(prompt.query(), prompt.keys()),
                  new Hired.Block(prompt.query(), prompt.keys()), new Hired.Grid(1, 3, 1, 2)));
    }
  }
}
