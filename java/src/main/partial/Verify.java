// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.jspecify.annotations.Nullable;

public final class Verify extends Op {
  /** How a round ended for a sequence: what {@link Builder#outcome} is filled with. */
  public enum Outcome {
    /** It was not active. */
    OFF(exeunt.EXN_VERIFY_OFF),
    /** It takes part in the next round. */
    GOES_ON(exeunt.EXN_VERIFY_GOES_ON),
    /** Its newest token is a stop token. */
    STOPPED(exeunt.EXN_VERIFY_STOPPED),
    /** Its length is the capacity: the newest token cannot be fed. */
    FULL(exeunt.EXN_VERIFY_FULL),
    /** A row or a count cannot be used. */
    INVALID(exeunt.EXN_VERIFY_INVALID);

    private static final Outcome[] ALL = values();

    final int code;

    Outcome(int code) {
      this.code = code;
    }

    /**
     * The outcome that a number in the tensor stands for.
     *
     * @param code the number
     * @return the outcome
     */
    public static Outcome of(int code) {
      if (code < 0 || code >= ALL.length) {
        throw new IllegalArgumentException("code is " + code + ", which is no outcome");
      }
      return ALL[code];
    }
  }

  public static final class Builder extends Op.Builder<Verify> {
    private int draftKind = exeunt.EXN_DRAFT_LOGITS;

    /**
     * The target's logits, for sampling, which needs {@link #uniform}, too.
     *
     * @param tensor in, [S*(K+1),V], F32, F16 or BF16, last stride 1; V from 1 to 2^31 - 1
     * @param value what they are divided by, positive and finite
     * @return this
     */
    public Builder logits(Tensor tensor, float value) {
      logits = tensor;
      temperature = value;
      return this;
    }

    /**
     * The logits that the drafted tokens were drawn from.
     *
     * @param tensor in, optional, [S*K,V], F32, F16 or BF16, last stride 1; with logits only
     * @param value what they were divided by, positive and finite
     * @return this
     */
    public Builder draftLogits(@Nullable Tensor tensor, float value) {
      draft = tensor;
      draftTemperature = value;
      draftKind = exeunt.EXN_DRAFT_LOGITS;
      return this;
    }

    /**
     * The probabilities that the drafted tokens were drawn from.
     *
     * @param tensor in, optional, [S*K,V], F32, F16 or BF16, last stride 1; with logits only
     * @return this
     */
    public Builder draftProbabilities(@Nullable Tensor tensor) {
      draft = tensor;
      draftKind = exeunt.EXN_DRAFT_PROBABILITIES;
      return this;
    }
  }
}
