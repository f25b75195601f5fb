// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests.fuzz;

import com.sun.management.OperatingSystemMXBean;
import java.io.File;
import java.io.IOException;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.exeunt.cases.Facade;
import org.exeunt.tests.Subprocess;

/**
 * Random calls of the facade, and races with closes, in processes that may die of them; a new one
 * starts where one dies or hangs. Options, or system properties {@code exeunt.fuzz.*}: {@code
 * --minutes N} (1), {@code --seed N} (1), {@code --mode calls} or {@code races} (both), {@code
 * --from N} and {@code --trials N} for some trials alone, as the line says that is printed with a
 * finding, {@code --sentences true} for all that refusals said. Exit status 1: something was found.
 */
public final class Fuzz {
  private static final String OPTIONS = "--(minutes [0-9]{1,6}(\\.[0-9]+)?"
      + "|(seed|from|trials) [0-9]{1,18}|mode (calls|races)|sentences (true|false))";
  static final String CALLS = "calls";
  static final String RACES = "races";
  private static final int MOST_FINDINGS = 40;
  /** Trials until what grows is a leak: the code of each op is compiled by then. */
  private static final int WARM_UP = 360 * Facade.ops().size();
  private static final long HANGS_AFTER_SECONDS = 60;

  private Fuzz() {}

  public static void main(String[] args) throws IOException, InterruptedException {
    String progress = System.getProperty("exeunt.fuzz.progress");
    if (progress != null) {
      System.exit(work(Path.of(progress)) ? 0 : 1);
    }
    for (int i = 0; i < args.length; i += 2) {
      if (i + 1 == args.length || !(args[i] + " " + args[i + 1]).matches(OPTIONS)) {
        System.err.println("usage: Fuzz [--minutes N] [--seed N] [--from N] [--trials N] "
            + "[--mode calls|races] [--sentences true|false]");
        System.exit(2);
      }
      System.setProperty("exeunt.fuzz." + args[i].substring(2), args[i + 1]);
    }
    double minutes = Double.parseDouble(System.getProperty("exeunt.fuzz.minutes", "1"));
    long seed = Long.getLong("exeunt.fuzz.seed", 1);
    long from = Long.getLong("exeunt.fuzz.from", 0);
    long trials = Long.getLong("exeunt.fuzz.trials", Long.MAX_VALUE);
    long millis = (long) (minutes * 60e3);
    List<String> findings = new ArrayList<>();
    String mode = System.getProperty("exeunt.fuzz.mode", "");
    if (!mode.equals(RACES)) {
      findings.addAll(supervise(
          CALLS, seed, from, trials, mode.isEmpty() ? millis * 3 / 4 : millis, System.out));
    }
    if (!mode.equals(CALLS)) {
      findings.addAll(
          supervise(RACES, seed, from, trials, mode.isEmpty() ? millis / 4 : millis, System.out));
    }
    System.out.println(findings.isEmpty() ? "nothing found" : findings.size() + " findings");
    System.exit(findings.isEmpty() ? 0 : 1);
  }

  /** Runs trials in other processes until all are done or time is up; what was found. */
  static List<String> supervise(String mode, long seed, long from, long trials, long millis,
      PrintStream log) throws IOException, InterruptedException {
    List<String> findings = new ArrayList<>();
    long end = System.currentTimeMillis() + millis;
    long next = from;
    long last = trials > Long.MAX_VALUE - from ? Long.MAX_VALUE : from + trials;
    Path progress = Files.createTempFile("exeunt-fuzz", ".progress");
    try {
      while (next < last && System.currentTimeMillis() < end && findings.size() < MOST_FINDINGS) {
        long left = end - System.currentTimeMillis();
        Child child = new Child(mode, seed, next, last, left, progress, log);
        findings.addAll(child.findings);
        if (child.done) {
          break;
        }
        findings.add(child.death + "\n    " + reproduction(mode, seed, child.reached));
        log.println("FOUND " + findings.get(findings.size() - 1));
        next = child.reached + 1;
      }
    } finally {
      Files.delete(progress);
    }
    return findings;
  }

  static String reproduction(String mode, long seed, long number) {
    return "again with " + Fuzz.class.getName() + " --mode " + mode + " --seed " + seed + " --from "
        + number + " --trials 1";
  }

  /** A process at work, watched. */
  private static final class Child {
    final List<String> findings = new ArrayList<>();
    boolean done;
    long reached;
    String death = "";

    Child(String mode, long seed, long from, long last, long millis, Path progress, PrintStream log)
        throws IOException, InterruptedException {
      List<String> command = new ArrayList<>(Subprocess.beginning());
      command.addAll(List.of("--enable-native-access=ALL-UNNAMED", "-Xms96m", "-Xmx96m",
          "-XX:+AlwaysPreTouch", "-XX:MaxDirectMemorySize=64m", "-XX:+UseSerialGC",
          "-XX:TieredStopAtLevel=1", "-XX:-OmitStackTraceInFastThrow", "-XX:-CreateCoredumpOnCrash",
          "-XX:ErrorFile=/dev/null", "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0",
          "-Dexeunt.threads=" + (mode.equals(CALLS) ? 1 : 2), "-Dexeunt.fuzz.mode=" + mode));
      for (String name : List.of("exeunt.isa", "exeunt.backend", "exeunt.cuda.library",
               "exeunt.cases.library", "exeunt.fuzz.sentences")) {
        if (System.getProperty(name) != null) {
          command.add("-D" + name + "=" + System.getProperty(name));
        }
      }
      command.addAll(List.of("-Dexeunt.fuzz.seed=" + seed, "-Dexeunt.fuzz.from=" + from,
          "-Dexeunt.fuzz.last=" + last, "-Dexeunt.fuzz.millis=" + millis, "-cp",
          System.getProperty("java.class.path"), "-Dexeunt.fuzz.progress=" + progress,
          Fuzz.class.getName()));
      Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
      process.getOutputStream().close();
      Thread reader = new Thread(() -> {
        try {
          String output =
              new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
          for (String part : output.split("(?m)^(?=FOUND )")) {
            if (part.startsWith("FOUND ")) {
              findings.add(part.substring(6).split("(?m)^(?=TIMES|GROWN)")[0].strip());
            }
          }
          done = output.contains("\nTOTAL ") || output.startsWith("TOTAL ");
          log.print(output);
        } catch (IOException e) {
          death = e.toString();
        }
      });
      reader.start();
      long before = -1;
      boolean hangs = false;
      while (!process.waitFor(HANGS_AFTER_SECONDS, TimeUnit.SECONDS)) {
        long now = read(progress);
        hangs = now == before;
        if (hangs) {
          process.destroyForcibly();
        }
        before = now;
      }
      reader.join();
      reached = read(progress);
      death = hangs ? "a call did not end" : "the process died with status " + process.exitValue();
    }

    private static long read(Path progress) throws IOException {
      byte[] bytes = Files.readAllBytes(progress);
      return bytes.length < 8 ? 0 : ByteBuffer.wrap(bytes).order(ByteOrder.nativeOrder()).getLong();
    }
  }

  /** The trials themselves, in this process; false if something was found. */
  private static boolean work(Path progress) throws IOException {
    long seed = Long.getLong("exeunt.fuzz.seed", 1);
    long last = Long.getLong("exeunt.fuzz.last", Long.MAX_VALUE);
    long end = System.currentTimeMillis() + Long.getLong("exeunt.fuzz.millis", 60_000);
    String mode = System.getProperty("exeunt.fuzz.mode", CALLS);
    boolean races = mode.equals(RACES);
    FacadeFuzz fuzz = new FacadeFuzz(seed);
    CloseRaces closes = new CloseRaces(seed);
    Map<String, Integer> found = new HashMap<>();
    long first = Long.getLong("exeunt.fuzz.from", 0);
    long number = first;
    long resident = 0;
    try (FileChannel channel = FileChannel.open(progress, StandardOpenOption.READ,
             StandardOpenOption.WRITE, StandardOpenOption.CREATE)) {
      ByteBuffer mapped =
          channel.map(FileChannel.MapMode.READ_WRITE, 0, Long.BYTES).order(ByteOrder.nativeOrder());
      for (; number < last && System.currentTimeMillis() < end; number++) {
        mapped.putLong(0, number);
        if (number - first == WARM_UP) {
          resident = residentKib();
        }
        try {
          if (races) {
            closes.race(number);
          } else {
            fuzz.trial(number);
          }
        } catch (FacadeFuzz.Found e) {
          if (found.merge(kind(e), 1, Integer::sum) == 1) {
            System.out.println("FOUND " + e.getMessage() + "\n" + places(e) + "    "
                + reproduction(mode, seed, number));
          }
        }
      }
    }
    found.forEach((kind, times) -> System.out.println("TIMES " + times + " " + kind));
    if (Boolean.getBoolean("exeunt.fuzz.sentences")) {
      fuzz.sentences().forEach((sentence, times) -> System.out.println(times + "\t" + sentence));
    }
    System.out.println("GROWN " + (resident == 0 ? 0 : residentKib() - resident) + " KiB");
    if (!races) {
      System.out.println("UNREACHED " + ApiCalls.missing(fuzz.reached(), FacadeFuzz.EXCUSED));
    }
    System.out.println("TOTAL " + (number - first) + " trials of seed " + seed + ": "
        + (races ? closes.outcomes() : fuzz.calls() + " calls " + fuzz.outcomes()));
    return found.isEmpty();
  }

  /** In KiB; Windows tells what is committed instead. */
  private static long residentKib() throws IOException {
    if (File.separatorChar == '\\') {
      return ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class)
                 .getCommittedVirtualMemorySize()
          >> 10;
    }
    return Files.readAllLines(Path.of("/proc/self/status"))
        .stream()
        .filter(line -> line.startsWith("VmRSS:"))
        .mapToLong(line -> Long.parseLong(line.replaceAll("\\D+", "")))
        .findFirst()
        .orElse(0);
  }

  /** One line for findings that are alike. */
  private static String kind(FacadeFuzz.Found found) {
    return found.getMessage()
               .lines()
               .findFirst()
               .orElse("")
               .replaceAll("0x[0-9a-f]+", "@")
               .replaceAll("-?\\d+", "#")
        + (found.getCause() == null ? found.getMessage().lines().skip(1).findFirst().orElse("")
                                    : place(found.getCause()));
  }

  private static String place(Throwable thrown) {
    for (StackTraceElement element : thrown.getStackTrace()) {
      if (element.getClassName().matches("org\\.exeunt\\.\\w+(\\$\\w+)*")) {
        return " at " + element;
      }
    }
    return "";
  }

  private static String places(FacadeFuzz.Found found) {
    StringBuilder text = new StringBuilder();
    if (found.getCause() != null) {
      for (StackTraceElement element : found.getCause().getStackTrace()) {
        if (text.length() < 600 && element.getClassName().startsWith("org.exeunt.")
            && !element.getClassName().startsWith("org.exeunt.tests")) {
          text.append("    at ").append(element).append('\n');
        }
      }
    }
    return text.toString();
  }
}
