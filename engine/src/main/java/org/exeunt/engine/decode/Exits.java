// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitRule;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.policy.ExitPolicy;

/**
 * Where tokens leave: the hidden state each sequence's newest token left with or has reached, what
 * the head makes of it, and the rule that decides. One row for each sequence.
 *
 * <p>A state that has left stays as it is, so that the head finds the same in it each time; reading
 * the head's weights for the others, its product costs next to nothing.
 */
final class Exits {
  private final ExitPolicy policy;
  private final int sequences;
  private final Tensor hidden;
  private final Head head;
  private final Tensor exitDepth;
  private final FloatBuffer verdicts;
  private final ByteBuffer mask;
  private final IntBuffer depths;
  private final IntBuffer stayingCount;
  private final IntBuffer steps;
  private final ExitRule rule;
  private final int[] positions;
  private boolean first;

  Exits(Scope scope, LlamaWeights weights, DecoderOptions options, int sequences) {
    policy = options.exit();
    this.sequences = sequences;
    positions = new int[sequences];
    hidden = scope.allocate(Device.CPU, DType.F32, sequences, weights.config().width());
    hidden.copyFrom(new float[sequences * weights.config().width()]);
    head = new Head(scope, weights, hidden, options.keepLogits(),
        options.screen() == null ? null : options.screen().image());
    exitDepth = scope.allocate(Device.CPU, DType.I32, sequences);
    Tensor verdict = scope.allocate(Device.CPU, DType.F32, sequences);
    Tensor left = scope.allocate(Device.CPU, DType.U8, sequences);
    Tensor staying = scope.allocate(Device.CPU, DType.I32, 1);
    Tensor step = scope.allocate(Device.CPU, DType.I32, sequences);
    verdicts = verdict.floatBuffer();
    mask = left.byteBuffer();
    depths = exitDepth.intBuffer();
    stayingCount = staying.intBuffer();
    steps = step.intBuffer();
    rule =
        policy.rule(head.statistics(), verdict, step)
            .state(ExitRule.allocateState(scope, Device.CPU, sequences))
            .exitMask(left)
            .activeCount(staying)
            .exitLayer(exitDepth)
            .build(scope);
  }

  /** {@code sequence} has taken in a prompt: its next token is the first of an answer. */
  void prompted(int sequence) {
    steps.put(sequence, -1);
  }

  /** What {@code from} has come to is what {@code to} has. */
  void copy(int from, int to) {
    hidden.row(to).copyFrom(hidden.row(from), Stream.DEFAULT);
    steps.put(to, steps.get(from));
    head.copy(from, to);
  }

  /** A new token of {@code sequence} sets out. */
  void begin(int sequence, int position) {
    positions[sequence] = position;
    steps.put(sequence, steps.get(sequence) + 1);
    first = true;
  }

  /**
   * Decides who leaves after {@code depth} layers.
   *
   * @param all whether everyone leaves: these were the last layers
   * @return how many stay
   */
  int ask(int depth, boolean all) {
    if (policy.readsHead()) {
      head.run(Stream.DEFAULT);
    } else {
      for (int s = 0; s < sequences; s++) {
        verdicts.put(s, all ? 1 : policy.verdict(positions[s], depth));
      }
    }
    rule.run(depth, first, all);
    first = false;
    return stayingCount.get(0);
  }

  /** Whether the newest token of {@code sequence} left when last asked. */
  boolean left(int sequence) {
    return mask.get(sequence) != 0;
  }

  /** After how many layers the newest token of {@code sequence} left. */
  int depth(int sequence) {
    return depths.get(sequence);
  }

  /** Where the newest token of {@code sequence} stands in it. */
  int position(int sequence) {
    return positions[sequence];
  }

  /** [S,D] */
  Tensor hidden() {
    return hidden;
  }

  /** [S], the rule's own count of layers. */
  Tensor exitDepth() {
    return exitDepth;
  }

  Head head() {
    return head;
  }
}
