// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.evaluate;

import java.io.PrintStream;
import java.util.List;
import java.util.function.LongSupplier;

/**
 * Says how far a run is, and how long the rest may take: on a terminal by a bar that moves with
 * each prompt, elsewhere by a line for each method.
 */
final class Progress {
  /**
   * What happens once for each prompt.
   *
   * @param turns how often the model goes through a prompt and its answer, about
   */
  record Stage(String name, int turns) {}

  private static final int BAR = 20;
  private static final double SECOND = 1e9;

  private final PrintStream out;
  private final boolean terminal;
  private final LongSupplier clock;
  private final List<Stage> stages;
  private final int prompts;
  private final long begin;

  /** @param clock nanoseconds */
  Progress(PrintStream out, boolean terminal, LongSupplier clock, List<Stage> stages, int prompts) {
    this.out = out;
    this.terminal = terminal;
    this.clock = clock;
    this.stages = List.copyOf(stages);
    this.prompts = prompts;
    begin = clock.getAsLong();
  }

  /** It is the turn of a prompt in a stage. */
  void at(int stage, int prompt) {
    if (!terminal && prompt > 0) {
      return;
    }
    long all = 0;
    long done = (long) prompt * stages.get(stage).turns();
    for (int s = 0; s < stages.size(); s++) {
      long turns = (long) prompts * stages.get(s).turns();
      all += turns;
      done += s < stage ? turns : 0;
    }
    String left = done == 0 ? "" : left((clock.getAsLong() - begin) / SECOND * (all - done) / done);
    String name = stages.get(stage).name();
    if (terminal) {
      int filled = (int) (BAR * done / all);
      String cut = name.length() > 32 ? name.substring(0, 31) + "\u2026" : name;
      out.print(Results.format("\r[%s%s] %d of %d, prompt %d of %d%s: %s\033[K", "#".repeat(filled),
          ".".repeat(BAR - filled), stage + 1, stages.size(), prompt + 1, prompts, left, cut));
      out.flush();
    } else {
      out.println(Results.format("%d of %d%s: %s", stage + 1, stages.size(), left, name));
    }
  }

  private static String left(double seconds) {
    return seconds < 90
        ? Results.format(", about %.0f s left", seconds)
        : Results.format(", about %.0f min left", seconds / 60);
  }

  /** Nothing more comes. */
  void end() {
    if (terminal) {
      out.print("\r\033[K");
      out.flush();
    }
  }
}
