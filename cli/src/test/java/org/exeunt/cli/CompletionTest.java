// SPDX-License-Identifier: Apache-2.0
package org.exeunt.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What bash makes of the script. */
class CompletionTest {
  private static final String HELP =
      "a title\n\n  ./exeunt sample            runs it; sample --help\n"
      + "                             lists all options\n"
      + "  ./exeunt test [--quick | --all]\n  ./exeunt fuzz [--minutes N] [--seed N]\n";

  @TempDir Path folder;

  private Set<String> complete(String... words) throws IOException, InterruptedException {
    Path script = Files.writeString(folder.resolve("exeunt.bash"),
        Completion.script(HELP, Map.of("sample", HelpPage.text("sample"))));
    String line = "source " + script + "; COMP_WORDS=(./exeunt " + String.join(" ", words)
        + "); COMP_CWORD=" + words.length + "; COMP_LINE=\"${COMP_WORDS[*]}\""
        + "; _complete_exeunt 2>/dev/null; printf '%s\\n' \"${COMPREPLY[@]}\"";
    Process bash = new ProcessBuilder("bash", "-c", line).directory(folder.toFile()).start();
    String out = new String(bash.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, bash.waitFor());
    Set<String> found = new TreeSet<>(out.lines().toList());
    found.remove("");
    return found;
  }

  @Test
  void completesCommandsOptionsAndValues() throws IOException, InterruptedException {
    assertEquals(Set.of("sample", "test", "fuzz"), complete("\"\""));
    assertEquals(Set.of("--model", "--method"), complete("sample", "--quick", "--m"));
    assertEquals(Set.of("file", "f32", "bf16"), complete("sample", "--weights", "\"\""));
    assertEquals(Set.of("f32", "file"), complete("sample", "--weights", "f"));
    assertEquals(Set.of("exeunt.bash"), complete("sample", "--model", "exe"));
    assertEquals(Set.of("--quick", "--all"), complete("test", "--"));
    assertEquals(Set.of("--minutes", "--seed"), complete("fuzz", "--"));
  }
}
