// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.evaluate;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * What an evaluation found.
 *
 * @param model what to call it
 * @param prompts that there are
 * @param conditions what figures depend on, by name
 * @param outcomes of each method, first for all prompts and then for each group
 * @param troubles sentences that say what kept the run from being whole
 * @param samples answers to some of the prompts
 */
record Findings(String model, int prompts, Map<String, String> conditions, List<Outcome> outcomes,
    List<String> troubles, List<Sample> samples) {
  /** The troubles, and after them each method that broke its promise. */
  List<String> problems() {
    List<String> problems = new ArrayList<>(troubles);
    for (Outcome o : outcomes) {
      if (o.failed() && o.group().isEmpty()) {
        problems.add(Results.format("FAILED: %s answered %d of %d prompts otherwise than the plain "
                + "decoder, which it must never do",
            o.name(), o.differing(), o.prompts()));
      }
    }
    return problems;
  }

  /** The samples that have an answer. */
  List<Sample> answered() {
    return samples.stream().filter(sample -> !sample.answers().isEmpty()).toList();
  }

  List<String> groups() {
    return outcomes.stream().map(Outcome::group).distinct().toList();
  }

  List<Outcome> of(String group) {
    return outcomes.stream().filter(o -> o.group().equals(group)).toList();
  }
}
