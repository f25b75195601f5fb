// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class DemoTest {
  @ParameterizedTest
  @ValueSource(strings = {"--model", "--threads 0", "--threads many", "--threads 257", "--fast"})
  void senselessArgumentsAreRefusedBeforeAnythingRuns(String arguments) throws Exception {
    assertEquals(2, Demo.run(arguments.split(" ")));
  }
}
