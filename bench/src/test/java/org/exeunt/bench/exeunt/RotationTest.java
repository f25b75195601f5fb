// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.exeunt;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertSame;

import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Contenders;
import org.exeunt.bench.reference.AttentionProblem;
import org.exeunt.bench.reference.AttentionScoresProblem;
import org.exeunt.bench.reference.CacheLayout;
import org.exeunt.bench.reference.CosineProblem;
import org.exeunt.bench.reference.ExitHeadProblem;
import org.exeunt.bench.reference.FfnProblem;
import org.exeunt.bench.reference.GatherProblem;
import org.exeunt.bench.reference.KvCompactProblem;
import org.exeunt.bench.reference.KvCopyProblem;
import org.exeunt.bench.reference.KvPropagateProblem;
import org.exeunt.bench.reference.LinearProblem;
import org.exeunt.bench.reference.Matrix;
import org.exeunt.bench.reference.Normalizer;
import org.exeunt.bench.reference.Problem;
import org.exeunt.bench.reference.RowStatsProblem;
import org.exeunt.bench.reference.Storage;
import org.junit.jupiter.api.Test;

/** Runs from memory read the next copy each time, and are right on every copy. */
class RotationTest {
  private static final int COPIES = 3;
  private static final ExeuntContenders ROTATING = new ExeuntContenders(COPIES);
  private static final CacheLayout HEAD =
      new CacheLayout(CacheLayout.Kind.HEAD, 1, 40, 40, 2, 32, 3);

  private static Matrix normal(int rows, int cols, Storage storage) {
    return Matrix.normal(rows, cols, storage, 0.5f, 17, rows);
  }

  /** Two rounds, so that the second one finds its way back to the first copy. */
  private static <R> void checkRounds(Contenders contenders, Problem<R> problem, int threads) {
    try (Contender<R> running = contenders.on(problem, threads)) {
      for (int i = 0; i < 2 * COPIES; i++) {
        running.run();
        problem.check(running.result());
      }
    }
  }

  @Test
  void copiesLieApartAndHoldTheSame() {
    try (Scope scope = Scope.open()) {
      Matrix odd = normal(3, 7, Storage.BF16);
      Matrix even = normal(5, 16, Storage.F32);
      Copies copies = new Copies(scope, COPIES, odd, even);
      Set<Long> lines = new HashSet<>();
      for (int copy = 0; copy < COPIES; copy++) {
        for (int m = 0; m < 2; m++) {
          Tensor tensor = copies.tensor(copy, m);
          assertEquals(0, tensor.address() % 64);
          for (long at = 0; at < tensor.byteSize(); at += 64) {
            lines.add(tensor.address() + at);
          }
          assertArrayEquals((m == 0 ? odd : even).values(), tensor.toFloatArray());
        }
      }
      assertEquals(COPIES * (1 + 5), lines.size());
    }
  }

  @Test
  void consecutiveRunsReadOtherMemory() {
    LinearProblem problem = new LinearProblem(
        normal(1, 64, Storage.BF16), normal(50, 64, Storage.BF16), null, Storage.BF16);
    try (Contender<float[]> linear = ROTATING.on(problem, 1)) {
      Object first = linear.run();
      Object second = linear.run();
      assertNotSame(first, second);
      assertNotSame(second, linear.run());
      assertSame(first, linear.run());
    }
    try (Contender<float[]> linear = new ExeuntContenders().on(problem, 1)) {
      assertSame(linear.run(), linear.run());
    }
  }

  /** Each op reads the copy whose turn it is: without that copy's numbers its result is another. */
  @Test
  void eachTurnReadsItsOwnCopy() {
    try (Scope scope = Scope.open()) {
      Copies rows = new Copies(scope, COPIES, normal(1, 16, Storage.F32));
      Tensor out = scope.allocate(org.exeunt.DType.F32, 1);
      Turns turns = new Turns(COPIES,
          copy
          -> org.exeunt.Cosine.builder()
              .a(rows.tensor(copy, 0))
              .b(rows.tensor(copy, 0))
              .out(out)
              .build(scope));
      rows.tensor(1, 0).copyFrom(new float[16]);
      float[] expected = {1, 0, 1, 1, 0, 1};
      for (int run = 0; run < expected.length; run++) {
        turns.run();
        assertEquals(run % COPIES, turns.last());
        assertEquals(expected[run], out.toFloatArray()[0], 1e-6f, "run " + run);
      }
    }
  }

  @Test
  void weights() {
    for (int rows : new int[] {1, 5}) {
      LinearProblem linear = new LinearProblem(normal(rows, 64, Storage.BF16),
          normal(50, 64, Storage.BF16), normal(rows, 50, Storage.F32), Storage.F32);
      checkRounds(ROTATING, linear, 2);
      for (boolean gated : new boolean[] {true, false}) {
        FfnProblem ffn = new FfnProblem(normal(rows, 48, Storage.F32), 80, Storage.F32, 0.1f, gated,
            !gated, 1e-5f, null, FfnProblem.Extra.DECISION, 2);
        checkRounds(ROTATING, ffn, 2);
      }
    }
    KvPropagateProblem owed = new KvPropagateProblem(normal(3, 48, Storage.BF16), 2, 4, 8, 2, 8,
        Storage.BF16, 0.25f, 1e-5f, 20, 4, false, true, 16, 4, 5);
    checkRounds(ROTATING, owed, 2);
    ExitHeadProblem head = new ExitHeadProblem(
        normal(2, 64, Storage.BF16), normal(4501, 64, Storage.BF16), null, 0, null, false);
    checkRounds(ROTATING, head, 2);
  }

  @Test
  void caches() {
    for (CacheLayout.Kind kind : CacheLayout.Kind.values()) {
      CacheLayout layout = new CacheLayout(kind, 2, 40, 8, 2, 32, 3);
      AttentionProblem attention =
          new AttentionProblem(layout, 4, 6, Storage.BF16, true, 0.2f, true, 8);
      checkRounds(ROTATING, attention, 2);
      AttentionScoresProblem scores = new AttentionScoresProblem(layout, 4, 6, Storage.BF16, true,
          36, 40, 0, 0.2f, true, AttentionScoresProblem.Heads.MEAN,
          AttentionScoresProblem.Pool.NONE, 0, true, new AttentionScoresProblem.Choice(7, 12, 36),
          8);
      checkRounds(ROTATING, scores, 2);
    }
    CacheLayout small = new CacheLayout(CacheLayout.Kind.HEAD, 1, 12, 12, 2, 32, 3);
    KvCompactProblem compact = new KvCompactProblem(HEAD, small, 12, Storage.F32, false, true, 5);
    checkRounds(ROTATING, compact, 2);
    KvCopyProblem copy = new KvCopyProblem(HEAD, 12, Storage.BF16, false, true, 6);
    checkRounds(ROTATING, copy, 2);
  }

  @Test
  void rows() {
    for (int heads : List.of(0, 6)) {
      GatherProblem gather = new GatherProblem(
          Storage.BF16, heads == 0 ? 2 : 1, heads == 0 ? 3 : 1, 50, 24, 13, false, heads, 5);
      checkRounds(ROTATING, gather, 2);
    }
    Matrix a = normal(5, 38, Storage.F32);
    CosineProblem cosine = new CosineProblem(a, Matrix.near(a, 3, 1));
    checkRounds(ROTATING, cosine, 2);
    RowStatsProblem stats = new RowStatsProblem(
        Normalizer.SOFTMAX, Matrix.normal(3, 1000, Storage.F32, 4, 1, 1), false);
    checkRounds(ROTATING, stats, 2);
  }

  /** Each copy is compacted once; a second time would compact what the first has left. */
  @Test
  void inPlace() {
    KvCompactProblem compact = new KvCompactProblem(HEAD, HEAD, 12, Storage.BF16, true, false, 5);
    GatherProblem gather = new GatherProblem(Storage.F32, 2, 3, 50, 24, 13, true, 0, 5);
    try (Contender<float[]> caches = ROTATING.on(compact, 2);
        Contender<float[]> tensors = ROTATING.on(gather, 2)) {
      for (int i = 0; i < COPIES; i++) {
        caches.run();
        compact.check(caches.result());
        tensors.run();
        gather.check(tensors.result());
      }
    }
  }
}
