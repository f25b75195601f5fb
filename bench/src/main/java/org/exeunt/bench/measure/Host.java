// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.measure;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.exeunt.Backend;

/**
 * The machine and the moment of a run. They travel as system properties on the command line of
 * the forked benchmarks, so JMH's JSON carries them and a report can be made from it anywhere.
 */
public final class Host {
  /** Before the name of a fact, in system properties. */
  public static final String PROPERTY = "exeunt.bench.";
  /** The fact that is the size of the last-level cache in bytes. */
  public static final String CACHE = "cache";

  private static final String PREFIX = "-D" + PROPERTY;

  private final Map<String, String> facts;

  private Host(Map<String, String> facts) {
    this.facts = facts;
  }

  /** This machine now, before anything is timed. {@code gpu}: timed as well, or "". */
  public static Host current(String mode, String gpu) {
    Map<String, String> facts = new LinkedHashMap<>();
    facts.put("cpu", cpu());
    if (!gpu.isEmpty()) {
      facts.put("gpu", gpu);
    }
    facts.put("cores", Integer.toString(Runtime.getRuntime().availableProcessors()));
    facts.put(CACHE, Long.toString(LastLevelCache.bytes()));
    facts.put("backend", Backend.CPU.description());
    facts.put("isa", Backend.isa());
    facts.put("exeunt", Backend.version());
    facts.put("commit", commit());
    facts.put("environment", environment(System.getenv()));
    facts.put("jdk",
        System.getProperty("java.vm.version") + " (" + System.getProperty("java.vendor") + ")");
    facts.put("date", Instant.now().truncatedTo(ChronoUnit.SECONDS).toString());
    facts.put("load", String.format(Locale.ROOT, "%.2f", loadAverage()));
    facts.put("mode", mode);
    return new Host(facts);
  }

  /** The host that a fork's arguments tell of. */
  public static Host fromJvmArguments(List<String> arguments) {
    Map<String, String> facts = new LinkedHashMap<>();
    List<String> flags = new ArrayList<>();
    for (String argument : arguments) {
      int equals = argument.indexOf('=');
      if (argument.startsWith(PREFIX) && equals > 0) {
        facts.put(argument.substring(PREFIX.length(), equals), argument.substring(equals + 1));
      } else if (!argument.matches("-XX:(SharedArchiveFile|ArchiveClassesAtExit)=.*")) {
        flags.add(argument);
      }
    }
    facts.put("arguments", String.join(" ", flags));
    return new Host(facts);
  }

  /** Arguments for a fork. */
  public List<String> toJvmArguments() {
    return facts.entrySet().stream().map(e -> PREFIX + e.getKey() + "=" + e.getValue()).toList();
  }

  /** A fact, or "unknown". */
  public String get(String name) {
    return facts.getOrDefault(name, "unknown");
  }

  /** Bytes of the last-level cache of that machine. */
  public long cache() {
    return facts.containsKey(CACHE) ? Long.parseLong(facts.get(CACHE)) : LastLevelCache.FALLBACK;
  }

  public Map<String, String> facts() {
    return facts;
  }

  /** Which code, when and where. */
  public String summary() {
    return get("exeunt") + " (" + get("commit") + "), " + get("date") + ", " + get("cpu") + " "
        + get("isa") + ", " + get("mode") + ", " + get("environment");
  }

  /** For file names: the CPU, and the mode where it is not the full one. */
  public String slug() {
    String name =
        get("cpu").toLowerCase(Locale.ROOT).replaceAll("[^a-z0-9]+", "-").replaceAll("^-|-$", "");
    name += "-" + get("isa");
    return get("mode").equals("full") ? name : name + "-" + get("mode");
  }

  /** Processes that want to run, averaged over a minute; negative where the system won't tell. */
  static double loadAverage() {
    return ManagementFactory.getOperatingSystemMXBean().getSystemLoadAverage();
  }

  /** What the jar was built from, as git describes it: -dirty if the tree had changes. */
  private static String commit() {
    Properties build = new Properties();
    try (InputStream file = Host.class.getResourceAsStream("/build.properties")) {
      if (file != null) {
        build.load(file);
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    String commit = build.getProperty("commit", "");
    return commit.isBlank() ? "unknown commit" : commit;
  }

  /** What of the environment is exeunt's. */
  public static String environment(Map<String, String> variables) {
    String own =
        new TreeMap<>(variables)
            .entrySet()
            .stream()
            .filter(e -> e.getKey().startsWith("EXEUNT_"))
            .map(Map.Entry::toString)
            .collect(Collectors.joining(" "));
    return own.isEmpty() ? "no EXEUNT_* set" : own;
  }

  private static String cpu() {
    try {
      return Files.readAllLines(Path.of("/proc/cpuinfo"))
          .stream()
          .filter(line -> line.startsWith("model name"))
          .map(line -> line.substring(line.indexOf(':') + 1).trim())
          .findFirst()
          .orElse(System.getProperty("os.arch"));
    } catch (IOException e) {
      return System.getProperty("os.arch");
    }
  }
}
