// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Optional;
import org.exeunt.Backend;
import org.junit.jupiter.api.extension.ConditionEvaluationResult;
import org.junit.jupiter.api.extension.ExecutionCondition;
import org.junit.jupiter.api.extension.ExtensionContext;

/**
 * Skips, with the reason printed, what cannot run here; and proves that a forced path is the one
 * that ran.
 */
final class ForcedPath implements ExecutionCondition {
  private static Optional<String> obstacle;

  @Override
  public ConditionEvaluationResult evaluateExecutionCondition(ExtensionContext context) {
    return obstacle()
        .map(ConditionEvaluationResult::disabled)
        .orElseGet(() -> ConditionEvaluationResult.enabled("can run"));
  }

  private static synchronized Optional<String> obstacle() {
    if (obstacle == null) {
      obstacle = Setup.obstacle();
      obstacle.ifPresent(reason -> System.out.println("SKIPPED: " + reason));
    }
    return obstacle;
  }

  /** After a run: the kernel that ran is the one that this JVM was told to take. */
  static void assertTaken(String op) {
    String path = Backend.lastPath();
    if (Setup.cuda()) {
      assertTrue(path.matches("cuda/[^/]+/" + op), path);
    } else {
      String isa = System.getProperty("exeunt.isa", Backend.isas().get(0));
      assertEquals("cpu/" + isa + "/" + op, path);
    }
  }
}
