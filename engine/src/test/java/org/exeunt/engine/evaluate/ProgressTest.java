// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.evaluate;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.junit.jupiter.api.Test;

class ProgressTest {
  private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
  private long now = 1000;

  private Progress progress(boolean terminal) {
    return new Progress(new PrintStream(bytes, true, StandardCharsets.UTF_8), terminal,
        () -> now, List.of(new Progress.Stage("first", 2), new Progress.Stage("last", 3)), 4);
  }

  private String said() {
    String said = bytes.toString(StandardCharsets.UTF_8);
    bytes.reset();
    return said;
  }

  /** Of 20 turns 8 are done after the first stage. */
  @Test
  void saysEachStageOnceWhereNobodyWatches() {
    Progress progress = progress(false);
    progress.at(0, 0);
    assertEquals("1 of 2: first" + System.lineSeparator(), said());
    progress.at(0, 1);
    assertEquals("", said());
    now += 16_000_000_000L;
    progress.at(1, 0);
    assertEquals("2 of 2, about 24 s left: last" + System.lineSeparator(), said());
    progress.end();
    assertEquals("", said());
  }

  @Test
  void movesItsBarWithEachPromptOnATerminal() {
    Progress progress = progress(true);
    progress.at(0, 0);
    assertEquals("\r[....................] 1 of 2, prompt 1 of 4: first\033[K", said());
    now += 320_000_000_000L;
    progress.at(1, 1); // 11 turns
    assertEquals(
        "\r[###########.........] 2 of 2, prompt 2 of 4, about 4 min left: last\033[K", said());
    progress.end();
    assertEquals("\r\033[K", said());
  }
}
