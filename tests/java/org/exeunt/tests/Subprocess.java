// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Assumptions;

/**
 * A main class run by this JVM's java in a process of its own, for what is decided once in a
 * process. It has the compilers and the collector of this JVM unless it is given others.
 */
public final class Subprocess {
  /** How a JVM begins soonest, for what neither runs long nor depends on a compiler. */
  private static final List<String> SOON =
      List.of("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData");

  private final List<String> options =
      new ArrayList<>(List.of("--enable-native-access=ALL-UNNAMED"));
  private final Map<String, String> environment = new HashMap<>();
  private final List<String> program;
  private List<String> wrapper = List.of();

  private Subprocess(List<String> program) {
    this.program = program;
  }

  static Subprocess of(Class<?> main, String... arguments) {
    List<String> program =
        new ArrayList<>(List.of("-cp", System.getProperty("java.class.path"), main.getName()));
    program.addAll(List.of(arguments));
    return new Subprocess(program);
  }

  /** Begins as soon as it may; it does little. */
  Subprocess soon() {
    options.addAll(SOON);
    return this;
  }

  /** Options and main class in one. */
  static Subprocess java(String... program) {
    return new Subprocess(List.of(program));
  }

  Subprocess option(String option) {
    options.add(option);
    return this;
  }

  Subprocess variable(String name, String value) {
    environment.put(name, value);
    return this;
  }

  /** Has this library loaded before all others; skips the test where its path cannot be given. */
  Subprocess preloading(Path library) {
    boolean one = !library.toString().matches(".*[\\s:].*");
    Assumptions.assumeTrue(one, "LD_PRELOAD has no way to write " + library);
    return variable("LD_PRELOAD", library.toString());
  }

  /** Runs in another command, which takes it as its arguments. */
  Subprocess in(String... command) {
    wrapper = List.of(command);
    return this;
  }

  /** What it printed; it must end with status 0, and is ended after five minutes. */
  String run() {
    List<String> command = new ArrayList<>(wrapper);
    command.addAll(beginning());
    ManagementFactory.getRuntimeMXBean()
        .getInputArguments()
        .stream()
        .filter(SOON::contains)
        .forEach(command::add);
    command.addAll(options);
    command.addAll(program);
    ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
    builder.environment().putAll(environment);
    try {
      Process process = builder.start();
      CompletableFuture.delayedExecutor(5, TimeUnit.MINUTES).execute(process::destroyForcibly);
      process.getOutputStream().close();
      String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      assertEquals(0, process.waitFor(), output);
      return output;
    } catch (IOException | InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  /** What starts a JVM like this one, on another platform with what each needs there. */
  public static List<String> beginning() {
    List<String> words = new ArrayList<>(given("exeunt.test.emulator"));
    words.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    words.addAll(given("exeunt.test.options"));
    return words;
  }

  /** Of platform_test.py, between tabs. */
  private static List<String> given(String property) {
    String words = System.getProperty(property, "");
    return words.isEmpty() ? List.of() : List.of(words.split("\t"));
  }
}
