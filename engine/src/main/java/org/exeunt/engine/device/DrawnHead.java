// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.device;

import org.exeunt.DType;
import org.exeunt.Linear;
import org.exeunt.Norm;
import org.exeunt.RowStats;
import org.exeunt.Scope;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.exeunt.engine.model.LlamaWeights;

/**
 * Draws a token for each hidden state: the argmax of its logits and of noise of its own, see {@link
 * GumbelNoise}. A row draws the same token whatever other rows there are.
 */
public final class DrawnHead {
  private final Norm norm;
  private final Linear add;
  private final RowStats choose;
  private final Tensor tokens;

  /**
   * @param hidden [R,D]
   * @param noise [R,V]
   */
  public DrawnHead(
      Scope scope, Workspace workspace, LlamaWeights weights, Tensor hidden, Tensor noise) {
    Tensor normed = scope.allocate(weights.device(), DType.F32, hidden.shape());
    Tensor sums = scope.allocate(weights.device(), DType.F32, noise.shape());
    Statistics found =
        Statistics.allocate(scope, weights.device(), hidden.size(0), Statistic.ARGMAX);
    norm =
        Norm.builder()
            .input(hidden)
            .rms(weights.outputNorm(), weights.config().epsilon())
            .out(normed)
            .build(scope, workspace);
    add = weights.head().product().input(normed).residual(noise).out(sums).build(scope, workspace);
    choose = RowStats.builder().logits(sums).out(found).build(scope, workspace);
    tokens = found.argmax();
  }

  public void run(Stream stream) {
    norm.run(stream);
    add.run(stream);
    choose.run(stream);
  }

  /** [R] */
  public Tensor tokens() {
    return tokens;
  }
}
