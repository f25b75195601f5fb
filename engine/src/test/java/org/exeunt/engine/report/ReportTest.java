// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ReportTest {
  private static final Table TABLE =
      new Table("rule", "exit").row("p, \"max\"", "3").row("x", "12");

  @Test
  void markdownIsAligned() {
    assertEquals("""
        | rule     | exit |
        | -------- | ----:|
        | p, "max" |    3 |
        | x        |   12 |
        """, TABLE.toMarkdown());
  }

  @Test
  void csvQuotesWhatNeedsIt() {
    assertEquals("rule,exit\n\"p, \"\"max\"\"\",3\nx,12\n", TABLE.toCsv());
  }

  @Test
  void aRowHasOneCellForEachColumn() {
    assertThrows(IllegalArgumentException.class, () -> new Table("a", "b").row("1"));
  }

  @Test
  void filesHoldWhatWasShown(@TempDir Path folder) throws IOException {
    try (Report report = new Report(folder.resolve("new"))) {
      report.heading("Rules");
      report.paragraph("%d rules", 2);
      report.table("rules", TABLE);
      assertEquals("\n## Rules\n\n2 rules\n\n" + TABLE.toMarkdown() + "\n",
          Files.readString(report.files().get(0)));
      assertEquals(TABLE.toCsv(), Files.readString(folder.resolve("new").resolve("rules.csv")));
    }
  }

  /** What the machine refuses is said with the folder and the reason. */
  @Test
  void whatCannotBeWrittenIsReported(@TempDir Path folder) throws IOException {
    Path file = Files.createFile(folder.resolve("file"));
    assertUnwritable(file, file + " is no folder");
    assertUnwritable(file.resolve("below"), "below");
    assertUnwritable(Path.of("/proc/exeunt"), "/proc/exeunt cannot be made");

    Path full = Path.of("/dev/full");
    Assumptions.assumeTrue(Files.isWritable(full), "this system has no " + full);
    Files.createSymbolicLink(folder.resolve("report.md"), full);
    assertUnwritable(folder, "No space left on device");
    Files.delete(folder.resolve("report.md"));
    Files.createSymbolicLink(folder.resolve("rules.csv"), full);
    assertUnwritable(folder, "No space left on device");
  }

  private static void assertUnwritable(Path folder, String reason) {
    String message = assertThrows(IOException.class, () -> {
      try (Report report = new Report(folder)) {
        report.table("rules", TABLE);
      }
    }).getMessage();
    assertTrue(message.startsWith("the report cannot be written to " + folder + ": "), message);
    assertTrue(message.contains(reason), message);
  }
}
