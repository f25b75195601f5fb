// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.exeunt.engine.demo.grokking.LotteryTicket;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What programs say that no command of the launcher stands before: one sentence, and status 2. */
class ArgumentsTest {
  @ParameterizedTest
  @CsvSource(delimiter = '|', quoteCharacter = '"',
      value = {"many | ROUNDS is 'many', which is no integer", "0 | ROUNDS is 0, expected 1 to 100",
          "3 ten | EPOCHS is 'ten', which is no integer",
          "3 20 20 | the epoch to begin with is 20, expected a multiple of 10 below the 20 epochs",
          "3 20 10 1 | '1' is one argument too many"})
  void lotteryTicket(String arguments, String reason) throws IOException, InterruptedException {
    assertRefused("LotteryTicket [ROUNDS [EPOCHS [REWIND]]]: " + reason, LotteryTicket.class,
        arguments.split(" "));
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|',
      value = {"sing | the task is 'sing', expected one of tokens, judge, screen, agreement, speed",
          "judge --model | --model needs a value",
          "judge --modell x | unknown option '--modell'; did you mean --model?",
          "judge | --model is missing", "judge --model /nowhere | there is no file /nowhere"})
  void decodeFigures(String arguments, String reason) throws IOException, InterruptedException {
    assertRefused(reason, DecodeFigures.class, arguments.split(" "));
  }

  @Test
  void decodeFiguresWithoutATask() throws IOException, InterruptedException {
    assertRefused("the task is '', expected one of tokens, judge, screen, agreement, speed",
        DecodeFigures.class);
  }

  private static void assertRefused(String reason, Class<?> program, String... arguments)
      throws IOException, InterruptedException {
    List<String> command =
        new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-cp", System.getProperty("java.class.path"), program.getName()));
    command.addAll(List.of(arguments));
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(2, process.waitFor(), said);
    assertTrue(said.endsWith(reason + "\n") && said.lines().count() == 1, said);
  }
}
