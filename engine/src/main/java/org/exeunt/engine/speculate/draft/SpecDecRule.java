// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.DraftRule;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.engine.policy.Arguments;

/**
 * SpecDec++ for one sequence: drafts until one of its tokens is likely to be wrong, as the op
 * draft_rule says of what an {@link AcceptanceGate} finds.
 */
public final class SpecDecRule implements DraftPolicy {
  /** As in SpecDec++'s code. */
  public static final int USUAL_DRAFT = 20;
  private static final int LEAST = 2;
  private static final float USUAL_THRESHOLD = .3f;

  /** What the option says: where the head is, and how likely a wrong token may be. */
  public record Option(Path file, float threshold) {
    /** Reads {@code FILE[,THRESHOLD]}; the last comma is the one that counts. */
    public static Option parse(String value) {
      int comma = value.lastIndexOf(',');
      String file = comma < 0 ? value : value.substring(0, comma);
      if (file.isEmpty()) {
        throw new IllegalArgumentException("--draft-rule specdec needs a file");
      }
      return new Option(Path.of(file),
          comma < 0
              ? USUAL_THRESHOLD
              : new Arguments("--draft-rule specdec", value.substring(comma + 1), 1, 1,
                    "a threshold after the comma")
                    .number(0, "the threshold", 0, 1));
    }
  }

  private final int length;
  private final DraftRule step;
  private final FloatBuffer score;
  private final ByteBuffer drafting;
  private boolean first;

  public SpecDecRule(Scope scope, float threshold, int length) {
    this.length = length;
    Tensor scores = scope.allocate(Device.CPU, DType.F32, 1);
    Tensor goesOn = scope.allocate(Device.CPU, DType.U8, 1);
    step =
        DraftRule.step()
            .specDec(threshold, Math.min(LEAST, length), length)
            .score(scores)
            .state(DraftRule.allocateState(scope, Device.CPU, 1))
            .drafting(goesOn)
            .build(scope);
    score = scores.floatBuffer();
    drafting = goesOn.byteBuffer();
  }

  @Override
  public int most(int kind) {
    first = true;
    return length;
  }

  @Override
  public boolean goesOn(float acceptance) {
    score.put(0, acceptance);
    step.run(first);
    first = false;
    return drafting.get(0) != 0;
  }
}
