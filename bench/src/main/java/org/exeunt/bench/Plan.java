// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/** Which benchmarks to run, contenders on the same case next to each other. */
final class Plan {
  /** One fork of one benchmark. */
  record Step(Class<?> benchmark, String op, String id, String contender, int threads) {
    @Override
    public String toString() {
      return op + "/" + id + " " + contender + " " + threads
          + (threads == 1 ? " thread" : " threads");
    }
  }

  static final String CALL_COST = "call_cost";
  static final String CALL_CASE = "cosine_16";

  /** Benchmarks by the op whose case table they run, in the order of the report. */
  static final Map<String, Class<? extends OpBenchmark>> BENCHMARKS = benchmarks();

  private static final List<String> CONTENDERS = List.of("exeunt", "onnxruntime", "vector");

  /** What a quick run times, on one thread, beside the cases that have a target. */
  private static final Set<String> QUICK = Set.of(
      "stablemax/bench_32x32000_stablemax", "cross_entropy/bench_8x49152_stablemax",
      "perp_grad/bench_576x1536_f32", "gate/bench_1x576_residual_3",
      "exit_rule/bench_64", "cosine/bench_128x576_f32");

  private Plan() {}

  private static Map<String, Class<? extends OpBenchmark>> benchmarks() {
    Map<String, Class<? extends OpBenchmark>> map = new LinkedHashMap<>();
    map.put("stablemax", StableMaxBenchmark.class);
    map.put("cross_entropy", CrossEntropyBenchmark.class);
    map.put("perp_grad", PerpGradBenchmark.class);
    map.put("row_stats", RowStatsBenchmark.class);
    map.put("exit_head", ExitHeadBenchmark.class);
    map.put("gate", GateBenchmark.class);
    map.put("cosine", CosineBenchmark.class);
    map.put("exit_rule", ExitRuleBenchmark.class);
    return map;
  }

  /** The op whose benchmark this class is. */
  static String opOf(String benchmarkClass) {
    return BENCHMARKS.entrySet().stream()
        .filter(e -> e.getValue().getName().equals(benchmarkClass))
        .map(Map.Entry::getKey)
        .findFirst()
        .orElse(CALL_COST);
  }

  /** The steps of a quick or full run whose text matches the filter. */
  static List<Step> steps(boolean quick, Pattern filter, int cores) {
    Set<String> promised = Target.load().stream()
        .map(target -> target.op + "/" + target.id)
        .collect(Collectors.toSet());
    List<Step> steps = new ArrayList<>();
    BENCHMARKS.forEach((op, benchmark) -> {
      for (BenchCase benchCase : CaseTable.load(op).cases()) {
        String name = benchCase.toString();
        if (!quick || promised.contains(name)) {
          addCase(steps, benchmark, benchCase, Math.min(2, cores));
        } else if (QUICK.contains(name)) {
          addCase(steps, benchmark, benchCase, 1);
        }
      }
    });
    for (String contender : List.of("empty", "binding", "exeunt", "onnxruntime")) {
      steps.add(new Step(CallCostBenchmark.class, CALL_COST, CALL_CASE, contender, 1));
    }
    return steps.stream().filter(step -> filter.matcher(step.toString()).find()).toList();
  }

  private static void addCase(List<Step> steps, Class<?> benchmark, BenchCase benchCase,
      int mostThreads) {
    for (int threads = 1; threads <= mostThreads; threads++) {
      for (String contender : CONTENDERS) {
        if (Contenders.of(contender).offers(benchCase)) {
          steps.add(new Step(benchmark, benchCase.op(), benchCase.id(), contender, threads));
        }
      }
    }
  }
}
