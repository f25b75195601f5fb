// SPDX-License-Identifier: Apache-2.0
package org.exeunt.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Set;
import org.exeunt.cli.HelpPage.Given;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class HelpPageTest {
  private static List<Given> parse(String... arguments) {
    return HelpPage.parse("sample", arguments);
  }

  @Test
  void thePageSaysWhichOptionsThereAre() {
    assertEquals(Set.of("--model", "--weights", "--compare", "--method", "--quick", "--help"),
        HelpPage.spec("sample", HelpPage.text("sample")).optionsMap().keySet());
    assertTrue(HelpPage.text("sample").startsWith("usage: sample"));
  }

  @Test
  void valuesAreWhatStandsAfterAnOption() {
    assertEquals(List.of(), parse());
    assertEquals(List.of(new Given("--model", List.of("--help")), new Given("--quick", List.of())),
        parse("--model", "--help", "--quick", "--quick"));
    assertEquals(
        List.of(new Given("--compare", List.of("--quick", ""))), parse("--compare", "--quick", ""));
    assertEquals(List.of(new Given("--method", List.of("@a b", "'c'", "--"))),
        parse("--method", "@a b", "--method", "'c'", "--method", "--"));
    assertEquals("b", parse("--model", "a", "--model", "b").get(0).value());
    assertTrue(HelpPage.has(parse("--quick"), "--quick"));
    assertFalse(HelpPage.has(parse("--model", "--quick"), "--quick"));
  }

  /** Neither a part of an option, nor one with its value in the same argument, is an option. */
  @ParameterizedTest
  @CsvSource(delimiter = '|', quoteCharacter = '"',
      value = {"--modl a | unknown option '--modl'; did you mean --model?",
          "--mod a | unknown option '--mod'; did you mean --model?",
          "--model=a | unknown option '--model=a'; did you mean --model?",
          "--other a | unknown option '--other'", "-q | '-q' is not an option",
          "--quick a | 'a' is not an option", "--quick -- --quick | unknown option '--'",
          "--model | --model needs a value", "--quick --method | --method needs a value",
          "--compare a | --compare needs 2 values"})
  void whatIsWrongIsSaidInOneSentence(String line, String sentence) {
    assertEquals(sentence,
        assertThrows(IllegalArgumentException.class, () -> parse(line.split(" "))).getMessage());
  }
}
