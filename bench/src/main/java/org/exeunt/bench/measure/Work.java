// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.measure;

import java.util.stream.IntStream;
import org.exeunt.Tensor;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.cases.Cases;
import org.exeunt.cases.Facade;
import org.exeunt.jni.exn_attention_params;
import org.exeunt.jni.exn_attention_scores_params;
import org.exeunt.jni.exn_exit_head_params;
import org.exeunt.jni.exn_ffn_params;
import org.exeunt.jni.exn_kv_propagate_params;
import org.exeunt.jni.exn_linear_params;

/** What an op must do beside moving its bytes through once: what {@link Limit} imitates. */
public final class Work {
  private Work() {}

  /** Bytes that are written elsewhere as they were read, once; 0 for an op that computes. */
  public static long moved(Problem problem) {
    Cases.Listed c = problem.listed();
    switch (c.op()) {
      case "gather":
      case "kv_compact":
      case "kv_copy":
        return Streamed.bytes(c);
      case "kv_append":
        return c.text("dtype").equals(c.text("cache")) ? bytes(problem) / 2 : 0;
      case "row_compaction":
      case "hidden_stack":
        return bytes(problem) / 2;
      default:
        return 0;
    }
  }

  /** Bytes that must be read and written. */
  public static long bytes(Problem problem) {
    return (long) problem.opened().bytes();
  }

  /** Multiply-adds that must be done; 0 for an op that does few for each byte. */
  public static long multiplyAdds(Problem problem) {
    switch (problem.listed().op()) {
      case "linear":
        exn_linear_params linear = problem.params(exn_linear_params::new);
        return Facade.tensor(linear.out()).elements() * Facade.tensor(linear.input()).size(1);
      case "exit_head":
        exn_exit_head_params head = problem.params(exn_exit_head_params::new);
        Tensor hidden = Facade.tensor(head.hidden());
        Tensor list = Facade.tensor(head.shortlist());
        return hidden.elements()
            * (list == null ? Facade.tensor(head.weight()).size(0) : list.elements());
      case "ffn":
        exn_ffn_params ffn = problem.params(0, exn_ffn_params::new);
        return running(Facade.tensor(ffn.skip()), Facade.tensor(ffn.hidden()).size(0))
            * (ffn.gate_weight() == null ? 2 : 3) * Facade.tensor(ffn.up_weight()).elements();
      case "kv_propagate":
        exn_kv_propagate_params owed = problem.params(exn_kv_propagate_params::new);
        int[] exits = Facade.tensor(owed.exit_layer()).toIntArray();
        return IntStream.range(0, owed.layer_count())
            .mapToObj(i -> owed.layers().getPointer(i))
            .mapToLong(layer
                -> IntStream.of(exits).filter(e -> e >= 0 && e <= layer.index()).count() * 2
                    * Facade.tensor(layer.k_weight()).elements())
            .sum();
      case "attention":
        exn_attention_params attention = problem.params(exn_attention_params::new);
        return 2
            * seen(Facade.tensor(attention.visible()), Facade.tensor(attention.query()),
                problem.listed().integer("slots"));
      case "attention_scores":
        exn_attention_scores_params scores = problem.params(exn_attention_scores_params::new);
        return seen(Facade.tensor(scores.visible()), Facade.tensor(scores.query()),
            problem.listed().integer("slots"));
      default:
        return 0;
    }
  }

  private static long running(Tensor skip, long rows) {
    return skip == null ? rows : IntStream.of(skip.toIntArray()).filter(s -> s == 0).count();
  }

  /** A query's elements, for each slot that its row sees. */
  private static long seen(Tensor visible, Tensor query, int slots) {
    long sum = visible == null
        ? query.size(0) * slots
        : IntStream.of(visible.toIntArray()).asLongStream().sum();
    return sum * query.elements() / query.size(0);
  }
}
