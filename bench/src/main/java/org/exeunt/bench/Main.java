// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;
import org.exeunt.bench.cuda.CudaContenders;
import org.exeunt.bench.measure.Host;
import org.exeunt.bench.measure.Limit;
import org.exeunt.cli.HelpPage;
import org.exeunt.cli.HelpPage.Given;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.results.format.ResultFormatFactory;
import org.openjdk.jmh.results.format.ResultFormatType;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.options.ChainedOptionsBuilder;
import org.openjdk.jmh.runner.options.Options;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.TimeValue;
import org.openjdk.jmh.runner.options.VerboseMode;
import org.openjdk.jmh.util.Statistics;

/**
 * Runs the suite and writes the report. Each benchmark runs in forks of its own; all contenders of
 * a case run one after another, exeunt in turns with the limit. Most steps of a quick run take
 * about a second, of which a quarter is measured; the rest is a new virtual machine, inputs, the
 * check of the result, and {@code WarmUp}.
 */
public final class Main {
  private final boolean quick;
  private final Pattern filter;
  private final Path out;
  private final boolean list;
  private final int forks;
  private final List<Scene> scenes;
  /** Two runs to compare instead of one to make; null without {@code --compare}. */
  private final Compare compare;

  Main(List<Given> given) {
    boolean quickMode = false;
    boolean listOnly = false;
    int forksOfEach = 0;
    List<Scene> chosen = List.of(Scene.LOOP);
    String expression = "";
    Run before = null;
    Run after = null;
    Path folder = Path.of("docs", "results");
    for (Given option : given) {
      switch (option.name()) {
        case "--quick" -> quickMode = true;
        case "--list" -> listOnly = true;
        case "--forks" -> forksOfEach = forks(option.value());
        case "--scene" -> chosen = scenes(option.value());
        case "--filter" -> expression = option.value();
        case "--out" -> folder = Path.of(option.value());
        case "--compare" -> {
          before = run(option.values().get(option.values().size() - 2));
          after = run(option.value());
        }
        default -> throw new IllegalArgumentException(option.name() + " is not Main's");
      }
    }
    if (after != null && (quickMode || listOnly || forksOfEach != 0)) {
      throw new IllegalArgumentException("--compare runs nothing: only --filter goes with it");
    }
    quick = quickMode;
    list = listOnly;
    forks = Math.max(1, forksOfEach);
    scenes = chosen;
    filter = Pattern.compile(expression);
    out = folder;
    compare = after == null ? null : new Compare(before, after, filter);
  }

  private static Run run(String file) {
    try {
      return Run.read(Path.of(file));
    } catch (IllegalArgumentException e) {
      throw new IllegalArgumentException("--compare: " + e.getMessage(), e);
    }
  }

  private static int forks(String number) {
    if (!number.matches("[1-9]\\d?")) {
      throw new IllegalArgumentException("--forks is '" + number + "', expected 1 to 99");
    }
    return Integer.parseInt(number);
  }

  private static List<Scene> scenes(String names) {
    if (names.equals("all")) {
      return List.of(Scene.values());
    }
    List<Scene> scenes = new ArrayList<>();
    for (String name : names.split(",")) {
      try {
        scenes.add(Scene.of(name));
      } catch (IllegalArgumentException e) {
        throw new IllegalArgumentException("--scene: there is no scene '" + name + "'");
      }
    }
    return scenes;
  }

  /** See {@code --help}, which tells the exit status, too. */
  public static void main(String[] arguments) throws IOException {
    Main main;
    try {
      List<Given> given = HelpPage.parse("bench", arguments);
      if (HelpPage.has(given, "--help")) {
        System.out.print(HelpPage.text("bench"));
        return;
      }
      main = new Main(given);
    } catch (PatternSyntaxException e) {
      main = fail("--filter: " + e.getMessage());
    } catch (IllegalArgumentException e) {
      main = fail(e.getMessage());
    }
    System.exit(main.run());
  }

  private static Main fail(String reason) {
    System.err.println("bench: " + reason);
    System.exit(2);
    return null;
  }

  private int run() throws IOException {
    if (compare != null) {
      return compare.print(System.out) ? 1 : 0;
    }
    int cores = Runtime.getRuntime().availableProcessors();
    String obstacle = CudaContenders.reason();
    boolean gpu = obstacle.isEmpty();
    List<Plan.Step> steps = Plan.steps(quick, scenes, filter, cores, gpu);
    if (list) {
      steps.forEach(System.out::println);
      return 0;
    }
    Files.createDirectories(out);
    Path logs = Files.createTempDirectory("exeunt-bench-");
    Host host = Host.current(mode(), gpu ? CudaContenders.card() : "");
    if (!gpu) {
      System.out.println("SKIPPED: cuDNN and cuBLAS beside exeunt on a GPU: " + obstacle);
    }
    System.out.println("exeunt " + host.get("exeunt") + ", " + host.get("backend") + " on "
        + host.get("cpu") + ", JDK " + host.get("jdk") + ", load " + host.get("load"));
    System.out.println("JMH's own output goes to " + logs);
    List<RunResult> results = new ArrayList<>();
    List<String> failures = new ArrayList<>();
    long begin = System.nanoTime();
    for (Plan.Step step : steps) {
      int done = results.size() + failures.size();
      System.out.printf(Locale.ROOT, "[%d/%d%s] %-76s ", done + 1, steps.size(),
          remaining(begin, done, steps.size()), step);
      System.out.flush();
      Path log = logs.resolve(done + ".log");
      try {
        RunResult result = runStep(step, host, log);
        results.add(result);
        System.out.println(summary(result));
      } catch (RunnerException e) {
        String reason = reason(log);
        failures.add(step + ": " + reason);
        System.out.println("FAILED: " + reason);
      }
    }
    Path raw = out.resolve(host.slug() + ".raw.json");
    ResultFormatFactory.getInstance(ResultFormatType.JSON, raw.toString()).writeOut(results);
    System.out.println("Raw results: " + raw);
    if (!results.isEmpty()) {
      Report.write(raw, out);
    }
    failures.forEach(failure -> System.err.println("failed: " + failure));
    return failures.isEmpty() ? 0 : 1;
  }

  private String mode() {
    String mode = quick ? "quick" : "full";
    if (!filter.pattern().isEmpty()) {
      return "partial";
    }
    return scenes.equals(List.of(Scene.LOOP)) ? mode : mode + "-scenes";
  }

  private static String remaining(long begin, int done, int all) {
    if (done == 0) {
      return "";
    }
    long seconds =
        TimeUnit.NANOSECONDS.toSeconds((System.nanoTime() - begin) / done * (all - done));
    return String.format(Locale.ROOT, ", %d:%02d left", seconds / 60, seconds % 60);
  }

  private RunResult runStep(Plan.Step step, Host host, Path log) throws RunnerException {
    return new Runner(options(step, host, log)).run().iterator().next();
  }

  /** How JMH runs a step. */
  Options options(Plan.Step step, Host host, Path log) {
    boolean call = step.op().equals(Plan.CALL_COST);
    Class<?> benchmark = call ? CallCostBenchmark.class : OpBenchmark.class;
    ChainedOptionsBuilder options =
        new OptionsBuilder()
            .include("^" + Pattern.quote(benchmark.getName()) + "\\.")
            .param("contender", step.contender())
            .param("threads", Integer.toString(step.threads()))
            .addProfiler(Limit.class)
            .forks(forks)
            .output(log.toString())
            .verbosity(VerboseMode.NORMAL)
            .shouldFailOnError(true)
            .jvmArgs(jvmArguments(host, archive(log, step.contender())));
    if (call) {
      // Averages of short iterations, so that many of them are free of interruptions.
      iterations(options, 10, 20, 50);
    } else {
      options.param("op", step.op())
          .param("id", step.id())
          .param("operands", step.operands().toString())
          .param("scene", step.scene().toString())
          .threads(step.scene().callers());
      if (step.scene() == Scene.BURSTS) {
        iterations(options, 1, 1, quick ? 2000 : 6000); // 6 bursts, or 18
      } else {
        iterations(options, 1, quick ? 2 : 6, quick ? 120 : 500);
      }
    }
    return options.build();
  }

  /** Warm-up proper is {@code WarmUp}'s; here it only lets JMH's own code compile. */
  private void iterations(
      ChainedOptionsBuilder options, int warmUps, int measurements, int milliseconds) {
    options.warmupIterations(warmUps)
        .warmupTime(TimeValue.milliseconds(Math.min(milliseconds, quick ? 40 : 200)))
        .measurementIterations(measurements)
        .measurementTime(TimeValue.milliseconds(milliseconds));
  }

  /** Heap arrays of the Java peer get huge pages too, as exeunt's memory does. */
  private static String[] jvmArguments(Host host, Path archive) {
    List<String> arguments = new ArrayList<>(List.of("-Xms1g", "-Xmx6g", "-XX:+UseParallelGC",
        "-XX:+UseTransparentHugePages", "--add-modules", "jdk.incubator.vector",
        "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0"));
    if (Runtime.version().feature() >= 22) {
      arguments.add("--enable-native-access=ALL-UNNAMED");
    }
    arguments.add(
        (Files.exists(archive) ? "-XX:SharedArchiveFile=" : "-XX:ArchiveClassesAtExit=") + archive);
    arguments.addAll(host.toJvmArguments());
    return arguments.toArray(String[] ::new);
  }

  /**
   * Loading classes is a third of a short step, so the first fork of a contender leaves an archive
   * of those that it loaded to the later ones. Without one they only take longer: it does not
   * change what is compiled.
   */
  private static Path archive(Path log, String contender) {
    return log.resolveSibling(contender + ".jsa");
  }

  private static String summary(RunResult result) {
    var primary = result.getPrimaryResult();
    Statistics statistics = primary.getStatistics();
    String unit = primary.getScoreUnit().replaceAll("/op", "");
    double median = statistics.getPercentile(50);
    var limit = result.getSecondaryResults().get(Limit.MEDIAN);
    return String.format(Locale.ROOT, "%10.2f %s", median, unit)
        + (limit == null
                ? ""
                : String.format(Locale.ROOT, "  %6.2fx the limit", median / limit.getScore()));
  }

  /** JMH keeps a fork's exception to its log; the last cause there says most. */
  private static String reason(Path log) throws IOException {
    String found = "see " + log;
    for (String line : Files.readAllLines(log)) {
      if (line.matches("(Caused by: )?[a-z][\\w.]*\\.\\w*(Exception|Error)(: .*)?")) {
        found = line.replaceFirst("^Caused by: ", "") + " (" + log + ")";
      }
    }
    return found;
  }
}
