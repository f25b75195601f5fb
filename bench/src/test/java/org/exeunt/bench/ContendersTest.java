// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.exeunt.Backend;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Contenders;
import org.exeunt.bench.contenders.Peer;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.measure.Copies;
import org.exeunt.cases.Cases;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Every contender passes the judge of the cases that it is timed on, with one thread and with two. A
 * quick run has two cases of each op, and of the others every third, with one of both and with one
 * of the peers.
 */
class ContendersTest {
  private static final boolean QUICK = Boolean.getBoolean("exeunt.quick");

  /** No big ones of an op that has others, and the contenders of each, exeunt last. */
  static Stream<Arguments> cases() {
    return Plan.ops().flatMap(op -> {
      List<Cases.Listed> all = Problem.listed(op);
      List<Cases.Listed> quick = all.stream().filter(c -> !c.tags().contains("big")).toList();
      List<Cases.Listed> chosen = quick.isEmpty() ? all : quick;
      IntStream wanted =
          IntStream.range(0, chosen.size()).filter(i -> !QUICK || i < 2 || i % 3 == 0);
      return wanted.mapToObj(i -> {
        Cases.Listed c = chosen.get(i);
        List<String> peers =
            Stream.of("onnxruntime", Plan.JAVA).filter(name -> Lineup.of(name).offers(c)).toList();
        int count = peers.size();
        List<String> met = QUICK && count > 1 ? List.of(peers.get(i % count)) : peers;
        return Arguments.of(c, Stream.concat(met.stream(), Stream.of(Plan.OURS)).toList(),
            QUICK ? List.of(1 + i / 2 % 2) : List.of(1, 2));
      });
    });
  }

  /** Exeunt comes last: its copies of the operands go with it. */
  @ParameterizedTest
  @MethodSource("cases")
  void passTheJudge(Cases.Listed c, List<String> contenders, List<Integer> threads) {
    try (Problem problem = new Problem(c)) {
      for (String name : contenders) {
        threads.forEach(count -> passesTheJudge(problem, name, count));
      }
    }
  }

  /** Ops whose every call goes on from what the one before made. */
  private static final Set<String> GO_ON =
      Set.of("draft_rule", "elr", "ssm_step", "token_bias", "verify");

  /**
   * Nothing is right before a run, lest a peer that hands out nothing pass with what the library
   * adds; after two it is, unless the second starts from what the first one made.
   */
  private static void passesTheJudge(Problem problem, String name, int threads) {
    Backend.setThreads(threads);
    problem.opened().prepare();
    Cases.Listed listed = problem.listed();
    boolean again =
        !listed.fields().getOrDefault("in_place", "0").equals("1") && !GO_ON.contains(listed.op());
    String what = name + " on " + threads;
    try (Contender running = Lineup.of(name).on(problem, threads)) {
      assertThrows(IllegalStateException.class, () -> problem.check(running), what);
      for (int i = 0; i < (again ? 2 : 1); i++) {
        running.run();
      }
      assertDoesNotThrow(() -> problem.check(running), what);
    }
  }

  /** A peer of which there are copies that have results of their own. */
  @Test
  void eachRunTakesTheNextCopyOfAPeer() {
    Cases.Listed c = Problem.find("linear", "model_576x1536_r1");
    for (String name : List.of("onnxruntime", Plan.JAVA)) {
      try (Problem problem = new Problem(c);
          Contender running = Lineup.of(name, 3, false).on(problem, 2)) {
        assertThrows(IllegalStateException.class, () -> problem.check(running), name);
        for (int run = 0; run < 4; run++) {
          problem.opened().prepare();
          running.run();
          problem.check(running);
        }
      }
    }
    List<Integer> runs = new ArrayList<>();
    Contenders counted = new Contenders() {
      private int made;

      @Override
      public Contender on(Problem problem, int threads) {
        int number = made++;
        return new Peer() {
          @Override
          public Object run() {
            return runs.add(number);
          }

          @Override
          public void deliver() {
            runs.add(-number);
          }
        };
      }
    };
    Peer running = (Peer) Copies.of(counted, 3).on(null, 1);
    for (int run = 0; run < 4; run++) {
      running.run();
      running.deliver();
    }
    assertEquals(List.of(0, 0, 1, -1, 2, -2, 0, 0), runs);
  }

  @Test
  void wrongResultsAreNoticed() {
    try (Problem problem = new Problem(Problem.find("cosine", "bench_1x576_f32"))) {
      assertThrows(IllegalStateException.class, problem::check);
    }
  }

  /** The first copy is the problem's own; a round later it is its turn again. */
  @Test
  void eachRunTakesTheNextCopy() {
    for (String[] name : List.of(new String[] {"linear", "model_576x1536_r1"},
             new String[] {"ffn", "model_576x1536_r1"},
             new String[] {"kv_propagate", "model_576_r1"})) {
      Cases.Listed c = Problem.find(name[0], name[1]);
      try (Problem problem = new Problem(c);
          Contender running = Lineup.of(Plan.OURS, 3, false).on(problem, 1)) {
        for (int run = 0; run < 6; run++) {
          problem.opened().prepare();
          running.run();
          problem.check();
        }
      }
    }
    // Where each copy has outputs of its own only the first one's are the problem's.
    Cases.Listed c = Problem.find("kv_copy", "bench_compact");
    try (Problem problem = new Problem(c);
        Contender running = Lineup.of(Plan.OURS, 3, true).on(problem, 1)) {
      for (int run = 0; run < 6; run++) {
        problem.opened().prepare();
        running.run();
        if (run % 3 == 0) {
          problem.check();
        } else {
          assertThrows(IllegalStateException.class, problem::check, "run " + run);
        }
      }
    }
  }
}
