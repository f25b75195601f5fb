// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/** One token's way through all exit points under a rule; the result is each row's exit layer. */
public final class ExitRuleProblem extends Problem<int[]> {
  /** The rules that the benchmarks know. */
  public enum Rule {
    /** Leave when the score reaches the threshold. */
    THRESHOLD,
    /** Leave when 1 - prod (1 - score) exceeds the threshold. */
    QUANTILE
  }

  public final Rule rule;
  public final float threshold;

  /** One row of scores for each layer. */
  public final Matrix scores;

  /** A token with the scores {@code unit} or, if {@code low}, {@code low} of the case tables. */
  public ExitRuleProblem(Rule rule, int rows, int layers, float threshold, boolean low, int seed) {
    super("exit_rule");
    this.rule = rule;
    this.threshold = threshold;
    Words words = new Words(seed, 0);
    scores = Matrix.of(layers, rows, Storage.F32, i -> words.unit(i) / (low ? 8 : 1));
  }

  public int rows() {
    return scores.cols();
  }

  public int layers() {
    return scores.rows();
  }

  /** Bytes that move: about 40 per row and layer. */
  @Override
  public long bytes() {
    return 40L * scores.values().length;
  }

  /** Throws unless {@code exitLayer} has each row's layer, -1 for those that never left. */
  @Override
  public void check(int[] exitLayer) {
    Check.length("exit layers", rows(), exitLayer.length);
    for (int r = 0; r < rows(); r++) {
      Check.same("exit layer", r, exitLayer(r), exitLayer[r]);
    }
  }

  private int exitLayer(int row) {
    // f32 in the order of the header, so that a score near the threshold decides the same way.
    float stay = 1;
    for (int layer = 0; layer < layers(); layer++) {
      float score = scores.values()[layer * rows() + row];
      stay *= 1 - score;
      if (rule == Rule.THRESHOLD ? score >= threshold : 1 - stay > threshold) {
        return layer;
      }
    }
    return -1;
  }
}
