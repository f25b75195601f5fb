// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDate;
import java.util.List;
import java.util.Locale;
import org.exeunt.Backend;
import org.exeunt.cli.HelpPage;
import org.exeunt.cli.HelpPage.Given;
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
    try {
      List<Given> given = HelpPage.parse("demo", arguments);
      if (HelpPage.has(given, "--help")) {
        System.out.print(HelpPage.text("demo"));
        return 0;
      }
      given.forEach(option -> demo.set(option.name(), option));
    } catch (IllegalArgumentException e) {
      System.err.println("demo: " + e.getMessage());
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

  private void set(String name, Given option) {
    switch (name) {
      case "--model" -> model = Path.of(option.value());
      case "--encoder" -> encoder = Path.of(option.value());
      case "--out" -> out = Path.of(option.value());
      case "--threads" -> threads = GenerateOptions.integer(name, option.value(), 1, 256);
      case "--quick" -> quick = true;
      default -> {
        // --verify, which the launcher has done
      }
    }
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
