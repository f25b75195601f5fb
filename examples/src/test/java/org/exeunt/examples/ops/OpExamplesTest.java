// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.parallel.ResourceLock;
import org.junit.jupiter.api.parallel.Resources;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** What the small programs print, against what each says it does, worked out by hand. */
class OpExamplesTest {
  private static final Path FOLDER =
      Path.of(System.getProperty("basedir", "."), "src/main/java/org/exeunt/examples/ops");
  private static final Pattern PRINTS = Pattern.compile("  // Prints\n((?:  //   .*\n)+)");
  private static final Pattern NUMBER = Pattern.compile("-?[0-9]+[.][0-9]+(E-?[0-9]+)?");

  static List<String> programs() throws IOException {
    try (Stream<Path> files = Files.list(FOLDER)) {
      return files.map(file -> file.getFileName().toString().replace(".java", ""))
          .sorted()
          .toList();
    }
  }

  @ParameterizedTest
  @MethodSource("programs")
  @ResourceLock(Resources.SYSTEM_OUT)
  void prints(String name) throws Exception {
    Class<?> program = Class.forName(OpExamplesTest.class.getPackageName() + "." + name);
    PrintStream console = System.out;
    Locale locale = Locale.getDefault();
    ByteArrayOutputStream printed = new ByteArrayOutputStream();
    System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
    Locale.setDefault(Locale.ROOT);
    try {
      program.getMethod("main", String[].class).invoke(null, (Object) new String[0]);
    } finally {
      System.setOut(console);
      Locale.setDefault(locale);
    }
    List<String> lines = printed.toString(StandardCharsets.UTF_8).lines().toList();
    assertEquals(rounded(expected(name)), rounded(lines));
  }

  private static List<String> expected(String name) throws IOException {
    List<String> lines = new ArrayList<>();
    Matcher said = PRINTS.matcher(Files.readString(FOLDER.resolve(name + ".java")));
    while (said.find()) {
      said.group(1).lines().forEach(line -> lines.add(line.substring("  //   ".length())));
    }
    assertFalse(lines.isEmpty(), name + " does not say what it prints");
    return lines;
  }

  /** Backends may differ in the last bits, so numbers are compared to five decimals. */
  private static List<String> rounded(List<String> lines) {
    return lines.stream()
        .map(line -> {
          Matcher number = NUMBER.matcher(line);
          return number.replaceAll(
              found -> String.format(Locale.ROOT, "%.5f", Double.parseDouble(found.group()) + 0.0));
        })
        .toList();
  }
}
