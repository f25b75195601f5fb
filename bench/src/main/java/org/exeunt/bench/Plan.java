// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.measure.LastLevelCache;
import org.exeunt.bench.measure.Operands;
import org.exeunt.bench.measure.Streamed;
import org.exeunt.cases.Cases;
import org.exeunt.cases.Facade;

/** Which benchmarks to run, contenders on the same case next to each other. */
final class Plan {
  /** One fork of one benchmark. */
  record Step(String op, String id, String contender, int threads, Operands operands, Scene scene) {
    @Override
    public String toString() {
      return (op + "/" + id + " " + contender + " " + threads
          + (threads == 1 ? " thread " : " threads ") + operands.words() + " " + scene.words())
          .trim();
    }
  }

  /** The first in the report; what is not named here comes after them. */
  private static final List<String> OPS = List.of("stablemax", "cross_entropy", "perp_grad", "elr",
      "row_stats", "exit_head", "gate", "cosine", "exit_rule", "stop_rule", "token_bias",
      "draft_rule", "draft_lookup", "verify", "ssm_step", "linear", "ffn", "kv_propagate",
      "attention", "norm", "rope", "kv_copy", "row_compaction", "select", "attention_scores",
      "gather", "kv_compact", "kv_append", "kv_length", "hidden_stack", "ffn_skip_rule",
      "hired_budget", "column_norms", "prune_mask", "prune_apply", "rope_table", "layer_schedule");

  static final String CALL_COST = "call_cost";
  static final String CALL_CASE = "cosine_16";

  static final String OURS = "exeunt";
  static final String JAVA = "vector";
  static final String CUDA = "cuda";

  private static final int MOST_THREADS = 2;

  private static final List<String> CONTENDERS = List.of(OURS, "onnxruntime", JAVA);

  /**
   * What a quick run times on one thread, in each place, beside the cases that have a target.
   */
  private static final Set<String> QUICK = Set.of("stablemax/bench_32x32000_stablemax",
      "cross_entropy/bench_8x49152_stablemax", "perp_grad/bench_576x1536_f32",
      "gate/bench_1x576_residual_3", "exit_rule/bench_64", "draft_rule/bench_del",
      "cosine/bench_128x576_f32", "elr/bench_128x100", "ssm_step/bench_1_1536",
      "norm/model_512x576", "rope/model_prompt", "kv_copy/bench_compact",
      "row_compaction/bench_gather", "kv_compact/kv_head_f32", "kv_append/bench_decode",
      "kv_length/bench_decode", "hidden_stack/step_push", "ffn_skip_rule/bench_64",
      "hired_budget/llava_next_sum", "column_norms/bench_512x576_f32",
      "prune_mask/bench_tensor_f32", "prune_mask/bench_row_f32", "prune_apply/bench_f32",
      "rope_table/model_4096", "layer_schedule/bench_skipdecode", "stop_rule/bench_64",
      "token_bias/bench_64x49152", "embedding/bench_1x576_q4_0_f32");

  /** Ops that are timed on a GPU, where one is present: those with a peer there. */
  private static final List<String> ON_DEVICE = List.of("stablemax", "row_stats", "exit_head");

  private Plan() {}

  /** In the order of the report. */
  static Stream<String> ops() {
    return Stream.concat(OPS.stream(), Facade.ops().stream()).distinct();
  }

  /**
   * The steps of a quick or full run, in these scenes, whose text matches the filter.
   *
   * @param gpu whether one is timed as well
   */
  static List<Step> steps(
      boolean quick, List<Scene> scenes, Pattern filter, int cores, boolean gpu) {
    long cache = LastLevelCache.bytes();
    List<Target> targets = Target.load();
    List<Step> steps = new ArrayList<>();
    for (Scene scene : scenes) {
      for (String op : ops().toList()) {
        for (Cases.Listed benchCase : Problem.listed(op)) {
          for (Operands place : Streamed.places(benchCase, cache)) {
            int threads = quick ? threads(targets, benchCase.name(), place, scene) : MOST_THREADS;
            addCase(steps, benchCase, place, scene, Math.min(threads, cores));
          }
        }
      }
    }
    if (scenes.contains(Scene.LOOP)) {
      if (gpu) {
        addDevice(steps);
      }
      for (String contender : List.of("empty", "binding", "exeunt", "onnxruntime")) {
        steps.add(new Step(CALL_COST, CALL_CASE, contender, 1, Operands.CACHE, Scene.LOOP));
      }
    }
    return steps.stream().filter(step -> filter.matcher(step.toString()).find()).toList();
  }

  /** Exeunt and its peers on the first GPU, on the cases that they both compute. */
  private static void addDevice(List<Step> steps) {
    for (String op : ON_DEVICE) {
      for (Cases.Listed benchCase : Problem.listed(op)) {
        if (Lineup.of(CUDA).offers(benchCase)) {
          for (String contender : List.of(OURS, CUDA)) {
            steps.add(new Step(op, benchCase.id(), contender, 1, Operands.DEVICE, Scene.LOOP));
          }
        }
      }
    }
  }

  /**
   * The most threads that a quick run tries on a case: where a target is judged all, whatever it
   * speaks of; in the other place one; and 0 leaves the case out.
   */
  private static int threads(List<Target> targets, String name, Operands place, Scene scene) {
    List<Target> its = targets.stream().filter(target -> target.cases().contains(name)).toList();
    if (its.stream().anyMatch(target -> target.operands == place)) {
      return MOST_THREADS;
    }
    return scene == Scene.LOOP && (QUICK.contains(name) || !its.isEmpty()) ? 1 : 0;
  }

  private static void addCase(
      List<Step> steps, Cases.Listed benchCase, Operands place, Scene scene, int mostThreads) {
    for (int threads = 1; threads <= mostThreads; threads++) {
      for (String contender : CONTENDERS) {
        if (Lineup.of(contender).offers(benchCase)) {
          steps.add(new Step(benchCase.op(), benchCase.id(), contender, threads, place, scene));
        }
      }
    }
  }
}
