// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.exit;

import java.io.IOException;
import java.util.Arrays;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitHead;
import org.exeunt.Scope;
import org.exeunt.Statistics;
import org.exeunt.Tensor;
import org.exeunt.engine.decode.Trace;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.Weight;
import org.exeunt.engine.report.Report;
import org.exeunt.engine.report.Table;

/** How long the exit head takes for one token, next to merely reading its weights. */
final class HeadTiming {
  private static final int REPETITIONS = 25;
  private static final int EVERY = 4; // of the tokens, one whose answers are compared

  private HeadTiming() {}

  static void measure(Report report, LlamaWeights weights, Trace trace, int[] lastArgmax)
      throws IOException {
    report.paragraph(
        "One exit-head call for one token reads the head once. \"Read only\" is the same "
            + "memory, read linearly with the same threads and added up, in the same minute: "
            + "median of %d, best in brackets. \"Same argmax\": of every %dth token, as above.",
        REPETITIONS, EVERY);
    Table table = new Table("head", "MB", "call, ms", "read only, ms", "share of read bandwidth",
        "same argmax", "kernel");
    try (Scope scope = Scope.open()) {
      Weight head = weights.head();
      String own = head.blocks() == null ? head.tensor().dtype() + "" : head.blocks() + "";
      row(table, scope, own, weights, head, trace, lastArgmax);
      for (DType type : new DType[] {DType.BF16, DType.F32}) {
        Weight unpacked = Weight.of(head.unpacked(scope, type));
        row(table, scope, type.toString(), weights, unpacked, trace, lastArgmax);
      }
    }
    report.table("head-timing", table);
  }

  private static void row(Table table, Scope scope, String name, LlamaWeights weights,
      Weight weight, Trace trace, int[] lastArgmax) {
    LlamaConfig config = weights.config();
    Tensor hidden = scope.allocate(Device.CPU, DType.F32, 1, config.width());
    Statistics out = Statistics.allocate(scope, Device.CPU, 1);
    ExitHead head =
        ExitHead.builder()
            .hidden(hidden)
            .rmsNorm(weights.outputNorm(), config.epsilon())
            .weight(weight.tensor())
            .weightBlocks(weight.blocks())
            .out(out)
            .build(scope);

    int same = 0;
    int compared = 0;
    for (int t = 0; t < lastArgmax.length; t += EVERY) {
      compared++;
      hidden.copyFrom(trace.hidden(config.layers(), t));
      head.run();
      same += out.argmax().toIntArray()[0] == lastArgmax[t] ? 1 : 0;
    }

    String kernel = Backend.lastPath();
    double[] call = new double[REPETITIONS];
    double[] read = new double[REPETITIONS];
    for (int i = 0; i < REPETITIONS; i++) { // alternating, so that both meet the same neighbours
      read[i] = milliseconds(() -> Backend.readBandwidthProbe(weight.tensor()));
      call[i] = milliseconds(head::run);
    }
    Arrays.sort(call);
    Arrays.sort(read);
    int middle = REPETITIONS / 2;
    table.row(name, String.format("%.1f", weight.bytes() / 1e6),
        String.format("%.2f (%.2f)", call[middle], call[0]),
        String.format("%.2f (%.2f)", read[middle], read[0]),
        String.format(
            "%.0f %% (%.0f %%)", 100 * read[middle] / call[middle], 100 * read[0] / call[0]),
        String.format("%.1f %%", 100.0 * same / compared), kernel);
  }

  private static double milliseconds(Runnable action) {
    long start = System.nanoTime();
    action.run();
    return (System.nanoTime() - start) / 1e6;
  }
}
