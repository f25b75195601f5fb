// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import java.util.List;
import org.exeunt.Backend;
import org.exeunt.ExeuntException;
import org.exeunt.cli.HelpPage;
import org.exeunt.cli.HelpPage.Given;

/** Measures what the CPU kernels choose on this processor, keeps it, and says what that gains. */
public final class Tune {
  private int milliseconds = 300;
  private boolean show;

  private Tune() {}

  /** Measures and ends the process: status 1 if it failed, 2 if the arguments make no sense. */
  public static void main(String[] arguments) {
    System.exit(run(arguments));
  }

  static int run(String... arguments) {
    Tune tune = new Tune();
    try {
      List<Given> given = HelpPage.parse("tune", arguments);
      if (HelpPage.has(given, "--help")) {
        System.out.print(HelpPage.text("tune"));
        return 0;
      }
      given.forEach(option -> tune.set(option.name(), option));
      if (!tune.show) {
        Backend.tune(tune.milliseconds, true);
      }
      System.out.print(Backend.tuning());
      return 0;
    } catch (IllegalArgumentException e) {
      System.err.println("tune: " + e.getMessage());
      return 2;
    } catch (ExeuntException | UnsatisfiedLinkError e) {
      System.err.println("tune: " + e.getMessage());
      return 1;
    }
  }

  private void set(String name, Given option) {
    switch (name) {
      case "--milliseconds" ->
        milliseconds = GenerateOptions.integer(name, option.value(), 1, 60000);
      case "--threads" -> Backend.setThreads(GenerateOptions.integer(name, option.value(), 1, 256));
      case "--show" -> show = true;
      default -> {
        // --help, which has been seen to
      }
    }
  }
}
