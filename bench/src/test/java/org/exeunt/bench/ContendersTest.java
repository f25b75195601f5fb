// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import java.util.stream.Stream;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Contenders;
import org.exeunt.bench.exeunt.ExeuntContenders;
import org.exeunt.bench.onnx.OnnxContenders;
import org.exeunt.bench.reference.AttentionProblem;
import org.exeunt.bench.reference.AttentionScoresProblem;
import org.exeunt.bench.reference.CacheLayout;
import org.exeunt.bench.reference.CosineProblem;
import org.exeunt.bench.reference.CrossEntropyProblem;
import org.exeunt.bench.reference.ExitHeadProblem;
import org.exeunt.bench.reference.ExitRuleProblem;
import org.exeunt.bench.reference.FfnProblem;
import org.exeunt.bench.reference.FfnSkipRuleProblem;
import org.exeunt.bench.reference.GateProblem;
import org.exeunt.bench.reference.GatherProblem;
import org.exeunt.bench.reference.HiddenStackProblem;
import org.exeunt.bench.reference.HiredBudgetProblem;
import org.exeunt.bench.reference.KvAppendProblem;
import org.exeunt.bench.reference.KvCompactProblem;
import org.exeunt.bench.reference.KvCopyProblem;
import org.exeunt.bench.reference.KvLengthProblem;
import org.exeunt.bench.reference.KvPropagateProblem;
import org.exeunt.bench.reference.LayerScheduleProblem;
import org.exeunt.bench.reference.LinearProblem;
import org.exeunt.bench.reference.Matrix;
import org.exeunt.bench.reference.NormProblem;
import org.exeunt.bench.reference.Normalizer;
import org.exeunt.bench.reference.PerpGradProblem;
import org.exeunt.bench.reference.Problem;
import org.exeunt.bench.reference.RopeProblem;
import org.exeunt.bench.reference.RopeTableProblem;
import org.exeunt.bench.reference.RowCompactionProblem;
import org.exeunt.bench.reference.RowStatsProblem;
import org.exeunt.bench.reference.SelectProblem;
import org.exeunt.bench.reference.SoftmaxProblem;
import org.exeunt.bench.reference.Storage;
import org.exeunt.bench.vector.VectorContenders;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Every contender gives the reference's results at small sizes, vector tails and ties included. */
class ContendersTest {
  static Stream<Arguments> setups() {
    Stream<Contenders> all = Stream.concat(
        Stream.of("exeunt", "onnxruntime", "vector").map(Lineup::of),
        Stream.of(Lineup.of("exeunt", 2)));
    return all.flatMap(contenders
        -> Stream.of(1, 2).flatMap(threads
            -> Stream.of(Storage.F32, Storage.BF16)
                .map(storage -> Arguments.of(contenders, threads, storage))));
  }

  private static Matrix normal(int rows, int cols, Storage storage, float scale) {
    return Matrix.normal(rows, cols, storage, scale, 17, rows);
  }

  /** Runs twice, since a peer that forgets to reset its state is right only once. */
  private static <R> void check(Contenders contenders, Problem<R> problem, int threads) {
    try (Contender<R> running = contenders.on(problem, threads)) {
      for (int i = 0; i < 2; i++) {
        running.run();
        problem.check(running.result());
      }
    }
  }

  @ParameterizedTest
  @MethodSource("setups")
  void softmaxAndLoss(Contenders contenders, int threads, Storage storage) {
    for (Normalizer normalizer : Normalizer.values()) {
      for (int cols : List.of(2, 34, 1000, 5002)) {
        for (int rows : List.of(1, 3)) {
          Matrix logits = normal(rows, cols, storage, 3);
          SoftmaxProblem softmax = new SoftmaxProblem(normalizer, logits);
          check(contenders, softmax, threads);
          CrossEntropyProblem loss = new CrossEntropyProblem(normalizer, logits, 5);
          check(contenders, loss, threads);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("setups")
  void rowStats(Contenders contenders, int threads, Storage storage) {
    for (Normalizer normalizer : Normalizer.values()) {
      for (int cols : List.of(2, 34, 1000, 2050, 9000)) {
        RowStatsProblem problem =
            new RowStatsProblem(normalizer, normal(3, cols, storage, 4), false);
        check(contenders, problem, threads);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("setups")
  void rowStatsWithTies(Contenders contenders, int threads, Storage storage) {
    for (int cols : List.of(64, 5000)) {
      Matrix logits = normal(2, cols, storage, 1);
      // The maximum twice, at an odd place before an even one and in different blocks.
      for (int at : new int[] {7, cols - 2, cols + 8, 2 * cols - 1}) {
        logits.values()[at] = 16;
      }
      RowStatsProblem problem = new RowStatsProblem(Normalizer.SOFTMAX, logits, false);
      check(contenders, problem, threads);
    }
  }

  @ParameterizedTest
  @MethodSource("setups")
  void exitHead(Contenders contenders, int threads, Storage storage) {
    for (int rows : List.of(1, 4, 9)) {
      for (int width : List.of(64, 70)) {
        Matrix weight = normal(4501, width, storage, 0.5f);
        for (Storage hidden : List.of(Storage.F32, Storage.BF16)) {
          ExitHeadProblem problem =
              new ExitHeadProblem(normal(rows, width, hidden, 1), weight, null, 0, null, false);
          check(contenders, problem, threads);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("setups")
  void cosine(Contenders contenders, int threads, Storage storage) {
    for (int rows : List.of(1, 5)) {
      for (int width : List.of(2, 38, 576)) {
        Matrix a = normal(rows, width, storage, 1);
        CosineProblem problem = new CosineProblem(a, Matrix.near(a, 3, 1));
        check(contenders, problem, threads);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("setups")
  void perpGrad(Contenders contenders, int threads, Storage storage) {
    Matrix weight = normal(96, 96, storage, 1);
    // Noise alone is nearly orthogonal already; leaning on the weights gives the projection work.
    Matrix grad = Matrix.normal(96, 96, storage, 1, 18, 0);
    for (int i = 0; i < grad.values().length; i++) {
      grad.values()[i] = storage.stored(grad.values()[i] + weight.values()[i] / 2);
    }
    PerpGradProblem problem = new PerpGradProblem(weight, grad);
    check(contenders, problem, threads);
  }

  @ParameterizedTest
  @MethodSource("setups")
  void gate(Contenders contenders, int threads, Storage storage) {
    for (int repeats : List.of(0, 3)) {
      for (int classes : List.of(1, 2)) {
        GateProblem problem =
            new GateProblem(normal(5, 64, storage, 1), repeats, classes, 0.125f, repeats > 0, 23);
        check(contenders, problem, threads);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("setups")
  void layer(Contenders contenders, int threads, Storage storage) {
    for (int rows : List.of(1, 5)) {
      Matrix input = normal(rows, 64, storage, 1);
      NormProblem norm = new NormProblem(input, NormProblem.weight(64, 9, 1), null, 1e-5f);
      check(contenders, norm, threads);
      for (Matrix residual : new Matrix[] {null, normal(rows, 50, storage, 1)}) {
        LinearProblem linear =
            new LinearProblem(input, normal(50, 64, storage, 0.25f), residual, storage);
        check(contenders, linear, threads);
      }
      FfnProblem ffn = new FfnProblem(
          input, 96, storage, 0.125f, true, false, 1e-5f, null, FfnProblem.Extra.NONE, 11);
      check(contenders, ffn, threads);
    }
  }

  @Test
  void keysAndValuesOwed() {
    for (Contenders contenders : List.of(new ExeuntContenders(), new VectorContenders())) {
      for (Storage storage : List.of(Storage.F32, Storage.BF16)) {
        for (boolean interleaved : new boolean[] {true, false}) {
          KvPropagateProblem problem = new KvPropagateProblem(normal(3, 48, storage, 1), 2, 4, 8, 2,
              8, storage, 0.25f, 1e-5f, 20, 4, interleaved, false, 16, 0, 5);
          check(contenders, problem, 2);
        }
      }
    }
    KvPropagateProblem mixed = new KvPropagateProblem(normal(7, 48, Storage.BF16, 1), 2, 4, 8, 2, 8,
        Storage.BF16, 0.25f, 1e-5f, 20, 4, false, true, 16, 4, 5);
    check(new ExeuntContenders(), mixed, 2);
  }

  @Test
  void attention() {
    for (CacheLayout.Kind kind : CacheLayout.Kind.values()) {
      CacheLayout layout = new CacheLayout(kind, 2, 40, 8, 2, 32, 3);
      AttentionProblem many = new AttentionProblem(layout, 4, 6, Storage.BF16, true, 0.2f, true, 8);
      check(new ExeuntContenders(), many, 2);
    }
    CacheLayout layout = new CacheLayout(CacheLayout.Kind.HEAD, 1, 50, 50, 2, 64, 3);
    AttentionProblem one =
        new AttentionProblem(layout, 1, 8, Storage.BF16, false, 0.125f, false, 8);
    for (String name : List.of("exeunt", "onnxruntime", "vector")) {
      check(Lineup.of(name), one, 2);
    }
  }

  @Test
  void moves() {
    Contenders contenders = new ExeuntContenders();
    CacheLayout layout = new CacheLayout(CacheLayout.Kind.TOKEN, 1, 30, 30, 2, 16, 3);
    KvCopyProblem copy = new KvCopyProblem(layout, 12, Storage.BF16, false, true, 6);
    check(contenders, copy, 2);
    // A second run would compact what the first one has left.
    KvCopyProblem compact = new KvCopyProblem(layout, 12, Storage.BF16, true, true, 6);
    try (Contender<float[]> once = contenders.on(compact, 2)) {
      once.run();
      compact.check(once.result());
    }
    for (boolean gather : new boolean[] {true, false}) {
      RowCompactionProblem rows =
          new RowCompactionProblem(normal(9, 20, Storage.BF16, 1), gather, false, 6);
      check(contenders, rows, 2);
    }
  }

  @ParameterizedTest
  @MethodSource("setups")
  void droppedTokens(Contenders contenders, int threads, Storage storage) {
    for (int cols : List.of(1, 40, 1000)) {
      for (int k : List.of(1, cols / 3 + 1, cols)) {
        for (int heads : List.of(1, 3)) {
          SelectProblem one =
              new SelectProblem(normal(3 * heads, cols, storage, 2), heads, Math.min(k, cols));
          check(contenders, one, threads);
        }
      }
    }
    SelectProblem ties = new SelectProblem(Matrix.ties(2, 300, storage, 4, 0), 1, 90);
    check(contenders, ties, threads);
    for (int summed : List.of(0, 1, 6)) {
      GatherProblem rows = new GatherProblem(storage, 1, 1, 50, 24, 13, false, summed, 5);
      check(contenders, rows, threads);
    }
    GatherProblem heads = new GatherProblem(storage, 2, 3, 50, 24, 13, false, 0, 5);
    check(contenders, heads, threads);
    CacheLayout layout = new CacheLayout(CacheLayout.Kind.HEAD, 1, 40, 40, 2, 16, 3);
    CacheLayout small = new CacheLayout(CacheLayout.Kind.HEAD, 1, 12, 12, 2, 16, 3);
    KvCompactProblem compact = new KvCompactProblem(layout, small, 12, storage, false, false, 5);
    check(contenders, compact, threads);
  }

  @Test
  void compactionsInPlace() {
    for (CacheLayout.Kind kind : CacheLayout.Kind.values()) {
      CacheLayout layout = new CacheLayout(kind, 1, 40, 8, 2, 16, 3);
      for (boolean perHead : new boolean[] {true, false}) {
        KvCompactProblem problem =
            new KvCompactProblem(layout, layout, 12, Storage.BF16, true, perHead, 5);
        // A second run would compact what the first one has left.
        try (Contender<float[]> once = new ExeuntContenders().on(problem, 2)) {
          once.run();
          problem.check(once.result());
        }
      }
    }
    GatherProblem gather = new GatherProblem(Storage.F32, 2, 3, 50, 24, 13, true, 0, 5);
    try (Contender<float[]> once = new ExeuntContenders().on(gather, 2)) {
      once.run();
      gather.check(once.result());
    }
  }

  @Test
  void attentionScores() {
    CacheLayout head = new CacheLayout(CacheLayout.Kind.HEAD, 1, 48, 48, 2, 32, 3);
    for (boolean softmax : new boolean[] {true, false}) {
      for (AttentionScoresProblem.Choice choice :
          new AttentionScoresProblem.Choice[] {null, new AttentionScoresProblem.Choice(9, 9, 48)}) {
        AttentionScoresProblem last = new AttentionScoresProblem(head, 1, 6, Storage.BF16, false,
            48, 48, 0, 0.2f, softmax, AttentionScoresProblem.Heads.MEAN,
            AttentionScoresProblem.Pool.NONE, 0, choice == null, choice, 8);
        for (String name : List.of("exeunt", "onnxruntime", "vector")) {
          check(Lineup.of(name), last, 2);
        }
      }
    }
    AttentionScoresProblem.Choice window = new AttentionScoresProblem.Choice(7, 12, 36);
    for (CacheLayout.Kind kind : CacheLayout.Kind.values()) {
      CacheLayout layout = new CacheLayout(kind, 2, 40, 8, 2, 32, 3);
      for (AttentionScoresProblem.Heads heads : AttentionScoresProblem.Heads.values()) {
        for (AttentionScoresProblem.Pool pool : AttentionScoresProblem.Pool.values()) {
          AttentionScoresProblem many = new AttentionScoresProblem(layout, 4, 6, Storage.BF16, true,
              36, 40, 0, 0.2f, true, heads, pool, pool == AttentionScoresProblem.Pool.NONE ? 0 : 5,
              true, window, 8);
          check(new ExeuntContenders(), many, 2);
        }
      }
    }
  }

  @Test
  void rope() {
    for (Storage storage : Storage.values()) {
      for (boolean interleaved : new boolean[] {true, false}) {
        RopeProblem problem = new RopeProblem(normal(3, 32, storage, 1), 2,
            RopeProblem.table(9, 8, 4), RopeProblem.positions(3, 9, false, 4, 1), interleaved);
        check(new ExeuntContenders(), problem, 1);
      }
    }
  }

  @Test
  void exeuntRunsEveryKindOfBlock() {
    Matrix hidden = normal(4, 48, Storage.BF16, 1);
    boolean[] skip = {true, false, true, false};
    for (FfnProblem.Extra extra : FfnProblem.Extra.values()) {
      FfnProblem gated =
          new FfnProblem(hidden, 80, Storage.BF16, 0.1f, true, false, 1e-5f, skip, extra, 2);
      check(new ExeuntContenders(), gated, 2);
      FfnProblem plain = new FfnProblem(
          normal(4, 48, Storage.F32, 1), 80, Storage.F32, 0.1f, false, true, 1e-5f, null, extra, 2);
      check(new ExeuntContenders(), plain, 2);
    }
  }

  @Test
  void exitRule() {
    Contenders contenders = new ExeuntContenders();
    for (ExitRuleProblem.Rule rule : ExitRuleProblem.Rule.values()) {
      for (boolean low : new boolean[] {true, false}) {
        ExitRuleProblem problem = new ExitRuleProblem(rule, 100, 30, 0.9f, low, 4);
        check(contenders, problem, 1);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("setups")
  void kvAppend(Contenders contenders, int threads, Storage storage) {
    for (CacheLayout.Kind kind : CacheLayout.Kind.values()) {
      for (int sequences : List.of(1, 3)) {
        CacheLayout layout = new CacheLayout(kind, sequences, 12, 4, 2, 24, 3);
        for (boolean last : new boolean[] {false, true}) {
          KvAppendProblem problem = new KvAppendProblem(layout, 7, storage, Storage.BF16, last, 4);
          check(contenders, problem, threads);
        }
        if (storage == Storage.F32) {
          KvAppendProblem wide = new KvAppendProblem(layout, 7, storage, Storage.F32, false, 4);
          check(contenders, wide, threads);
        }
      }
    }
  }

  @Test
  void kvLength() {
    Contenders contenders = new ExeuntContenders();
    for (boolean random : new boolean[] {false, true}) {
      for (int lengths : List.of(1, 5)) {
        KvLengthProblem advance = KvLengthProblem.advance(lengths, 13, 100, random, 4);
        check(contenders, advance, 1);
        KvLengthProblem crop = KvLengthProblem.crop(lengths, 100, random, 4);
        check(contenders, crop, 1);
      }
    }
  }

  @Test
  void hiddenStack() {
    Contenders contenders = new ExeuntContenders();
    for (Storage storage : List.of(Storage.F32, Storage.BF16)) {
      for (boolean masked : new boolean[] {false, true}) {
        HiddenStackProblem push = new HiddenStackProblem(9, 1, 7, 20, storage, 3, masked, false, 4);
        check(contenders, push, 1);
        HiddenStackProblem gather =
            new HiddenStackProblem(30, 4, 7, 20, storage, 3, masked, true, 4);
        check(contenders, gather, 1);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("setups")
  void decisionsAndTables(Contenders contenders, int threads, Storage storage) {
    if (!(contenders instanceof VectorContenders)) {
      check(contenders, new FfnSkipRuleProblem(37, 9, 0.95f, 4), threads);
      HiredBudgetProblem sums =
          new HiredBudgetProblem(Matrix.unit(3, 12 * 8, 4, 0), 12, 8, 3, 2, 0.3, 0.4, false);
      check(contenders, sums, threads);
    }
    for (int pairs : List.of(8, 13)) {
      RopeTableProblem table = new RopeTableProblem(50, pairs, 10000);
      check(contenders, table, threads);
    }
  }

  @Test
  void countsAndSchedules() {
    Contenders contenders = new ExeuntContenders();
    HiredBudgetProblem counts =
        new HiredBudgetProblem(Matrix.unit(3, 12 * 8, 4, 0), 12, 8, 3, 2, 0.3, 0.4, true);
    check(contenders, counts, 1);
    for (int warmUp : List.of(0, 2)) {
      LayerScheduleProblem fewer = LayerScheduleProblem.skipDecode(40, 12, 31, 10, 3, warmUp);
      check(contenders, fewer, 1);
    }
    LayerScheduleProblem calm = LayerScheduleProblem.calm(40, 12, 31, 0.9f, 4);
    check(contenders, calm, 1);
  }

  @Test
  void casesWithoutCompositionAreRefused() {
    RowStatsProblem all =
        new RowStatsProblem(Normalizer.SOFTMAX, normal(1, 8, Storage.F32, 1), true);
    for (Contenders peer : List.of(new OnnxContenders(), new VectorContenders())) {
      assertThrows(UnsupportedOperationException.class, () -> peer.on(all, 1));
    }
  }

  @Test
  void exeuntComputesEveryStatisticBehindNormAndShortlist() {
    for (Storage storage : List.of(Storage.F32, Storage.BF16)) {
      Matrix hidden = normal(3, 96, storage, 1);
      Matrix weight = normal(500, 96, storage, 0.25f);
      for (int[] shortlist : new int[][] {null, ExitHeadProblem.shortlist(40, 500)}) {
        ExitHeadProblem problem = new ExitHeadProblem(
            hidden, weight, ExitHeadProblem.normWeight(96, 3), 1e-5f, shortlist, true);
        check(new ExeuntContenders(), problem, 2);
      }
      RowStatsProblem all = new RowStatsProblem(Normalizer.SOFTMAX, weight, true);
      check(new ExeuntContenders(), all, 2);
    }
  }
}
