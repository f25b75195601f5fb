// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.evaluate;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.OffsetDateTime;
import java.time.temporal.ChronoUnit;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import org.exeunt.Backend;

/** What figures of speed depend on beside the method, by name, in the order to show them. */
final class Conditions {
  private Conditions() {}

  /** Those of this process now. */
  static Map<String, String> current() {
    Map<String, String> facts = new LinkedHashMap<>();
    facts.put("processor", processor());
    facts.put("cores", String.valueOf(Runtime.getRuntime().availableProcessors()));
    facts.put("threads", String.valueOf(Backend.threads()));
    facts.put("backend", Backend.CPU.description());
    facts.put("system",
        System.getProperty("os.name") + " " + System.getProperty("os.version") + ", "
            + System.getProperty("os.arch"));
    facts.put("jdk",
        System.getProperty("java.vm.version") + " (" + System.getProperty("java.vendor") + ")");
    facts.put("exeunt", Backend.version());
    facts.put("commit", commit());
    facts.put("date", OffsetDateTime.now().truncatedTo(ChronoUnit.SECONDS).toString());
    return facts;
  }

  private static String processor() {
    try {
      return Files.readAllLines(Path.of("/proc/cpuinfo"))
          .stream()
          .filter(line -> line.startsWith("model name"))
          .map(line -> line.substring(line.indexOf(':') + 1).strip())
          .findFirst()
          .orElse("unknown");
    } catch (IOException e) {
      return "unknown";
    }
  }

  /** What the jar was built from, as git describes it: -dirty if the tree had changes. */
  private static String commit() {
    Properties build = new Properties();
    try (InputStream file =
             Conditions.class.getResourceAsStream("/org/exeunt/engine/build.properties")) {
      if (file != null) {
        build.load(file);
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    String commit = build.getProperty("commit", "");
    return commit.isBlank() ? "unknown" : commit;
  }
}
