// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.noise;

import java.io.IOException;
import org.exeunt.engine.report.Chart;
import org.exeunt.engine.report.Report;
import org.exeunt.engine.report.Table;

/** Trains on wrong labels, with plain cross-entropy and with early-learning regularisation. */
public final class NoiseDemo {
  private static final int STEP = 5;
  private static final int EPOCHS = 60;

  private NoiseDemo() {}

  /**
   * Runs the comparison, in a second or two.
   *
   * @param quick stops as soon as the claim has been seen
   */
  public static void run(Report report, boolean quick) throws IOException {
    report.heading("Two labels in five are wrong");
    report.paragraph(
        "A network of 32-256-10 learns ten overlapping clouds from 1000 points, of whose labels 40 "
        + "%% are wrong. Cross-entropy learns the clouds first and then every wrong label by "
        + "heart; exeunt's elr kernel holds on to what the network said early (beta .7, lambda 3).");
    Table ends = new Table("loss", "epochs", "as labelled", "wrong labels learnt", "seen through",
        "test", "best test");
    Table all =
        new Table("loss", "epoch", "as labelled", "wrong labels learnt", "seen through", "test");
    Chart test = Chart.of("New points answered as they should be, by epoch", "epoch", "right, %");
    Chart wrong = Chart.of("Wrong labels learnt by heart, by epoch", "epoch", "learnt, %");
    for (boolean regularised : new boolean[] {false, true}) {
      String name = regularised ? "elr" : "cross-entropy";
      test.series(name, true);
      wrong.series(name, true);
      try (NoisyTraining training = new NoisyTraining(regularised)) {
        double best = 0;
        NoisyTraining.Snapshot now = training.evaluate();
        while (now.epoch() < (quick ? EPOCHS / 2 : EPOCHS)) {
          training.run(STEP);
          now = training.evaluate();
          best = Math.max(best, now.test());
          report.progress("%s: epoch %d, wrong labels learnt %s, new points right %s", name,
              now.epoch(), percent(now.memorised()), percent(now.test()));
          String when = " at epoch " + now.epoch();
          test.point(now.epoch(), 100 * now.test(), percent(now.test()) + when);
          wrong.point(now.epoch(), 100 * now.memorised(), percent(now.memorised()) + when);
          all.row(name, Integer.toString(now.epoch()), Double.toString(now.given()),
              Double.toString(now.memorised()), Double.toString(now.seenThrough()),
              Double.toString(now.test()));
        }
        ends.row(name, Integer.toString(now.epoch()), percent(now.given()),
            percent(now.memorised()), percent(now.seenThrough()), percent(now.test()),
            percent(best));
      }
    }
    report.table("noise", ends);
    report.data("noise-curves", all);
    report.chart(test);
    report.chart(wrong);
  }

  private static String percent(double share) {
    return String.format("%.1f %%", 100 * share);
  }
}
