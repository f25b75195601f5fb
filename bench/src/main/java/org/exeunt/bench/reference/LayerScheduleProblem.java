// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/**
 * Which layers each position runs: ever fewer (SkipDecode), or all of them with an exit test after
 * each but the last and a threshold that decays (CALM, as in its code). There is no prompt.
 */
public final class LayerScheduleProblem extends Problem<ScheduleResult> {
  public final int positions;
  public final int layers;
  public final int horizon;
  public final boolean calm;

  /** Of SkipDecode. */
  public final int most;

  public final int least;
  public final int warmUp;

  /** Of CALM. */
  public final float start;

  public final float tau;

  private LayerScheduleProblem(int positions, int layers, int horizon, boolean calm, int most,
      int least, int warmUp, float start, float tau) {
    super("layer_schedule");
    this.positions = positions;
    this.layers = layers;
    this.horizon = horizon;
    this.calm = calm;
    this.most = most;
    this.least = least;
    this.warmUp = warmUp;
    this.start = start;
    this.tau = tau;
  }

  public static LayerScheduleProblem skipDecode(
      int positions, int layers, int horizon, int most, int least, int warmUp) {
    return new LayerScheduleProblem(positions, layers, horizon, false, most, least, warmUp, 0, 0);
  }

  public static LayerScheduleProblem calm(
      int positions, int layers, int horizon, float start, float tau) {
    return new LayerScheduleProblem(positions, layers, horizon, true, 0, 0, 0, start, tau);
  }

  /** Bytes that must move: the tables. */
  @Override
  public long bytes() {
    return positions * (5L * layers + 4 + (calm ? 4 : 0));
  }

  @Override
  public void check(ScheduleResult result) {
    Check.length("layers", positions * layers, result.layers().length);
    Check.length("counts", positions, result.count().length);
    Check.length("exit tests", positions * layers, result.exitTest().length);
    for (int t = 0; t < positions; t++) {
      int active = calm ? layers : active(t);
      Check.same("count", t, active, result.count()[t]);
      for (int i = 0; i < layers; i++) {
        int left = layers - active;
        int expected = i >= active ? -1 : !calm && i < warmUp ? i : left + i;
        Check.same("layers", t * layers + i, expected, result.layers()[t * layers + i]);
        Check.same("exit test", t * layers + i, calm && i < layers - 1 ? 1 : 0,
            result.exitTest()[t * layers + i]);
      }
      if (calm) {
        double decayed = start * (0.9 + 0.1 * Math.exp(-(double) tau * t / horizon));
        Check.close("threshold", t, decayed, result.threshold()[t], 1e-6, 1);
      }
    }
  }

  private int active(int position) {
    double fallen = (double) Math.min(position, horizon) / horizon;
    return (int) Math.floor(most - (most - least) * fallen + 0.5);
  }
}
