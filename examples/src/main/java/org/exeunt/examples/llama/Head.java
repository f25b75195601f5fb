// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitHead;
import org.exeunt.Linear;
import org.exeunt.Norm;
import org.exeunt.RowStats;
import org.exeunt.Scope;
import org.exeunt.Statistics;
import org.exeunt.Tensor;

/**
 * The final norm and the language-model head over some hidden states: statistics of the logits, and
 * the logits themselves only where somebody needs them.
 */
public final class Head {
  private final Statistics statistics;
  private final Tensor logits;
  private final Runnable run;

  /**
   * @param hidden [R,D], F32
   * @param keepLogits whether to write the logits, which costs {@code 4 R V} bytes
   */
  public Head(Scope scope, LlamaWeights weights, Tensor hidden, boolean keepLogits) {
    LlamaConfig config = weights.config();
    long rows = hidden.size(0);
    statistics = Statistics.allocate(scope, Device.CPU, rows);
    if (!keepLogits) {
      ExitHead head =
          ExitHead.builder()
              .hidden(hidden)
              .rmsNorm(weights.outputNorm(), config.epsilon())
              .weight(weights.head().tensor())
              .weightBlocks(weights.head().blocks())
              .out(statistics)
              .build(scope);
      logits = null;
      run = head::run;
      return;
    }
    Tensor normed = scope.allocate(Device.CPU, DType.F32, rows, config.width());
    logits = scope.allocate(Device.CPU, DType.F32, rows, config.vocabulary());
    Norm norm =
        Norm.builder()
            .input(hidden)
            .rms(weights.outputNorm(), config.epsilon())
            .out(normed)
            .build(scope);
    Linear project = weights.head().product().input(normed).out(logits).build(scope);
    RowStats stats = RowStats.builder().logits(logits).out(statistics).build(scope);
    run = () -> {
      norm.run();
      project.run();
      stats.run();
    };
  }

  public void run() {
    run.run();
  }

  /** What the last run found, [R] each. */
  public Statistics statistics() {
    return statistics;
  }

  /** The logits of the last run, [R,V]; null if they are not kept. */
  public Tensor logits() {
    return logits;
  }
}
