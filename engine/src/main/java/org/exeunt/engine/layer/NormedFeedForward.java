// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.layer;

import java.util.function.Consumer;
import org.exeunt.Cosine;
import org.exeunt.Ffn;
import org.exeunt.Norm;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;

/**
 * A feed-forward block whose result is normed before it is added (Gemma 3).
 *
 * <p>The op adds its input by itself. So it takes the hidden states made small, which its norm does
 * not notice and beside which nothing of the result is lost, and they are taken off again: what is
 * left is the result to the last bit, and exactly 0 for a row that was skipped.
 */
final class NormedFeedForward implements Consumer<Stream> {
  private static final float SMALL = 0x1p-40f;

  private final ScaledSum shrink;
  private final Ffn block;
  private final ScaledSum takeOff;
  private final Norm norm;
  private final ScaledSum add;
  private final Measure measure;

  NormedFeedForward(Scope scope, Workspace workspace, LlamaConfig config, LlamaWeights.Layer layer,
      Rows rows, int count, boolean measure, Tensor skip) {
    Tensor hidden = rows.hidden(count);
    Tensor small = rows.normed(count);
    Tensor branch = rows.branch(count);
    shrink = new ScaledSum(SMALL, hidden, null, small);
    Ffn.Builder builder =
        layer.feedForward(config.architecture())
            .hidden(small)
            .rmsNorm(layer.feedForwardNorm(), config.epsilon() * SMALL * SMALL)
            .out(branch);
    if (skip != null) {
      builder.skip(skip);
    }
    block = builder.build(scope, workspace);
    takeOff = new ScaledSum(-1, small, branch, branch);
    norm =
        Norm.builder()
            .input(branch)
            .rms(layer.feedForwardBranchNorm(), config.epsilon())
            .out(branch)
            .build(scope, workspace);
    add = new ScaledSum(1, branch, hidden, hidden);
    this.measure = measure ? new Measure(scope, workspace, rows, count) : null;
  }

  /** The cosines that the op would have found. */
  private static final class Measure {
    private final Norm keep;
    private final Cosine cosine;
    private final Cosine branchCosine;

    Measure(Scope scope, Workspace workspace, Rows rows, int count) {
      Tensor before = rows.before(count);
      keep = Norm.builder().input(rows.hidden(count)).none().out(before).build(scope, workspace);
      cosine =
          Cosine.builder()
              .a(before)
              .b(rows.hidden(count))
              .out(rows.cosine(count))
              .build(scope, workspace);
      branchCosine =
          Cosine.builder()
              .a(before)
              .b(rows.branch(count))
              .out(rows.branchCosine(count))
              .build(scope, workspace);
    }
  }

  @Override
  public void accept(Stream stream) {
    if (measure != null) {
      measure.keep.run(stream);
    }
    shrink.run();
    block.run(stream);
    takeOff.run();
    norm.run(stream);
    add.run();
    if (measure != null) {
      measure.cosine.run(stream);
      measure.branchCosine.run(stream);
    }
  }
}
