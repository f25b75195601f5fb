// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.util.List;
import org.junit.jupiter.api.Test;

class ForcedTest {
  private static String refused(String... arguments) {
    PrintStream before = System.err;
    ByteArrayOutputStream said = new ByteArrayOutputStream();
    System.setErr(new PrintStream(said, true));
    try {
      assertEquals(2, Forced.run(arguments), said::toString);
    } finally {
      System.setErr(before);
    }
    return said.toString();
  }

  @Test
  void whatMakesNoSenseIsRefused() {
    assertTrue(refused("--shape", "llama").contains("not llama-3.2-1b or llama-2-7b"));
    assertTrue(refused("--threads", "1").contains("--shape is missing"));
    for (String share : List.of("0", "1.5", "nan", "-1", "x")) {
      assertTrue(refused("--shape", "llama-2-7b", "--accepted", share).contains("not a share"));
    }
    assertTrue(refused("--shape", "llama-2-7b", "--model", "a").contains("does not go with"));
    assertTrue(refused("--shape", "llama-2-7b", "--max-tokens", "0").contains("--max-tokens"));
  }
}
