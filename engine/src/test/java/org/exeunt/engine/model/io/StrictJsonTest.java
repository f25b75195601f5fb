// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.io;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class StrictJsonTest {
  private static String refused(String text) {
    return assertThrows(IllegalArgumentException.class, () -> StrictJson.parse(text), text)
        .getMessage();
  }

  @Test
  void valuesAreJavas() {
    assertEquals(Map.of("a", Arrays.asList(1L, -2.5, true, null), "\u00e9\n", Map.of()),
        StrictJson.parse(" {\"a\": [1, -2.5e0, true, null], \"\\u00e9\\n\": {}}\r\n"));
    assertEquals(999_999_999_999_999_999L, StrictJson.parse("999999999999999999"));
    assertEquals(0x1p63, StrictJson.parse("9223372036854775808"));
    String deep = "[".repeat(64) + "]".repeat(64);
    assertEquals(deep, StrictJson.parse(deep).toString());
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', quoteCharacter = '`',
      value = {"`` | End of input", "{ | End of input", "{\"a\":1 | End of input",
          "\"a | Unterminated string", "[1,] | malformed", "01 | malformed", "1. | malformed",
          "+1 | malformed", "NaN | malformed", "TRUE | malformed", "'a' | malformed",
          "{a:1} | malformed", "{\"a\"=1} | malformed", "/**/1 | malformed", "1 2 | malformed",
          "{\"a\":} | Expected value", "{\"a\":1,\"b\":2,\"a\":3} | member \"a\" twice",
          "\"\\x\" | Invalid escape sequence", "\"\\ud800\" | Unpaired surrogate"})
  void whatIsNoJsonIsRefused(String text, String why) {
    String said = refused(text);
    assertEquals(why, said.substring(0, Math.min(why.length(), said.length())));
    assertEquals("", said.replaceFirst("^[^\\n]* at line 1 column [0-9]+$", ""));
  }

  @Test
  void whatWouldCostMuchIsRefused() {
    for (String open : List.of("[", "{\"a\":")) {
      assertEquals("Nesting limit 64 reached at line 1 column " + (open.length() * 64 + 2),
          refused(open.repeat(1 << 20)));
    }
    assertEquals("a number of 65 characters at line 1 column 66", refused("1".repeat(65)));
    assertEquals("malformed at line 1 column 1", refused("1".repeat(1 << 20)));
  }

  /** A name that looks like a place, or holds what a terminal obeys, does not spoil the sentence. */
  @Test
  void sentencesAreClean() {
    assertEquals(
        "Malformed Unicode escape \\u12?x at line 1 column 4", refused("\"\\u12\u001bx\""));
    assertEquals("malformed at line 1 column 20", refused("{\" column 3 path\":[a"));
    assertEquals(
        "member \"\u003f\" twice at line 1 column 21", refused("{\"\\u001b\":1,\"\\u001b\" :1}"));
  }
}
