// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.exit;

import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitRule;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** An exit rule that is asked after some of the layers, and where it let each token leave. */
final class RuleRun {
  private final String name;
  private final ExitPoints points;
  private final boolean readsHead;
  private final ExitRule rule;
  private final Tensor exitLayer;

  /**
   * @param readsHead whether the rule's score costs a run of the exit head
   * @param rule a rule without state and outputs, which are added here
   */
  RuleRun(String name, ExitPoints points, boolean readsHead, ExitRule.Builder rule, Scope scope,
      int rows) {
    this.name = name;
    this.points = points;
    this.readsHead = readsHead;
    exitLayer = scope.allocate(Device.CPU, DType.I32, rows);
    this.rule =
        rule.state(ExitRule.allocateState(scope, Device.CPU, rows))
            .exitLayer(exitLayer)
            .build(scope);
  }

  /** Asks the rule after {@code depth} layers, if this is one of its exit points. */
  void ask(int depth) {
    if (points.contains(depth)) {
      rule.run(depth, depth == points.first(), depth == points.last());
    }
  }

  String name() {
    return name;
  }

  ExitPoints points() {
    return points;
  }

  /** How many layers each token went through. */
  int[] exitLayers() {
    return exitLayer.toIntArray();
  }

  /** How often the head was read for a token that left after {@code exit} layers. */
  int headReads(int exit) {
    return readsHead ? points.upTo(exit) : 1;
  }
}
