// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDate;
import java.util.List;
import java.util.Locale;
import org.exeunt.Backend;
import org.exeunt.engine.demo.EncoderDemo;
import org.exeunt.engine.demo.SkipDemo;
import org.exeunt.engine.demo.drop.DropDemo;
import org.exeunt.engine.demo.drop.HiredDemo;
import org.exeunt.engine.demo.exit.ExitDemo;
import org.exeunt.engine.demo.grokking.GrokkingDemo;
import org.exeunt.engine.demo.noise.NoiseDemo;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.Models;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.ModelChangedException;
import org.exeunt.engine.report.Report;
import org.exeunt.engine.report.Terminal;
import org.exeunt.engine.train.Blas;

/**
 * What exeunt does, on a model that was trained for nothing of the kind and on one trained before
 * your eyes.
 */
public final class Demo {
  private Path model = Models.find();
  private Path encoder = Models.encoder();
  private Path out = Path.of("build", "demo");
  private int threads = Runtime.getRuntime().availableProcessors();
  private boolean quick;

  private Demo() {}

  /**
   * Runs the demo and ends the process: status 1 if it failed, 2 if the arguments make no sense.
   */
  public static void main(String[] arguments) throws InterruptedException {
    Locale.setDefault(Locale.ROOT); // the tables are for programs too
    System.exit(run(arguments));
  }

  /** Runs the demo and returns its exit status. */
  static int run(String... arguments) throws InterruptedException {
    Demo demo = new Demo();
    if (List.of(arguments).contains("--help")) {
      System.out.print(Help.of("demo"));
      return 0;
    }
    try {
      demo.parse(arguments);
    } catch (IllegalArgumentException e) {
      System.err.println(e.getMessage() + "\n" + Help.of("demo"));
      return 2;
    }
    try {
      demo.run();
      return 0;
    } catch (IOException | UnsatisfiedLinkError | ModelChangedException e) {
      System.err.println("The demo stopped: " + e.getMessage());
      return 1;
    } catch (IllegalArgumentException | UnsupportedOperationException e) {
      System.err.println("The demo stopped: " + e.getMessage()); // a variable or the model is odd
      return 2;
    }
  }

  private void parse(String[] arguments) {
    for (int i = 0; i < arguments.length; i++) {
      switch (arguments[i]) {
        case "--model" -> model = Path.of(valueOf(arguments, i++));
        case "--encoder" -> encoder = Path.of(valueOf(arguments, i++));
        case "--out" -> out = Path.of(valueOf(arguments, i++));
        case "--threads" -> threads = count(valueOf(arguments, i++));
        case "--quick" -> quick = true;
        default -> throw new IllegalArgumentException("unknown argument '" + arguments[i] + "'");
      }
    }
  }

  private static String valueOf(String[] arguments, int option) {
    if (option + 1 == arguments.length) {
      throw new IllegalArgumentException(arguments[option] + " needs a value");
    }
    return arguments[option + 1];
  }

  private static int count(String text) {
    if (!text.matches("[1-9][0-9]{0,2}") || Integer.parseInt(text) > 256) {
      throw new IllegalArgumentException("--threads is '" + text + "', not a number from 1 to 256");
    }
    return Integer.parseInt(text);
  }

  private void run() throws IOException, InterruptedException {
    // Java's own parallel loops obey too; this must be set before the first of them.
    System.setProperty("java.util.concurrent.ForkJoinPool.common.parallelism",
        Integer.toString(Math.max(1, threads - 1)));
    Backend.setThreads(threads);
    Blas.setThreads(1); // its products are small, and what trains at once is a thread each
    try (Report report =
             new Report(out, "exeunt: what early exit saves and costs", Terminal.isThere())) {
      report.paragraph("exeunt %s on %s, JDK %s, %s", Backend.version(), Backend.CPU.description(),
          Runtime.version(), LocalDate.now());
      EncoderDemo.run(report, encoder, quick);
      GrokkingDemo.run(report, threads, quick);
      NoiseDemo.run(report, quick);
      if (Files.isRegularFile(model)) {
        report.progress("loading %s", model);
        try (GgufFile file = GgufFile.open(model);
            LlamaWeights weights = LlamaWeights.load(file, null)) {
          ExitDemo.run(report, file, weights, quick);
          SkipDemo.run(report, file, weights, quick);
          DropDemo.run(report, file, weights, quick);
        }
      } else {
        report.paragraph(
            "The parts with a real model are left out, because %s does not exist; `./exeunt "
                + "demo` fetches the model, and --model names another place.",
            model);
      }
      HiredDemo.run(report);
      System.out.println("Everything above, as a page with pictures, and each table as CSV:");
      report.files().forEach(file -> System.out.println("  " + file));
    }
  }
}
