// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_verify_params;
import org.exeunt.jni.global.exeunt;

/**
 * How much of a draft the target model keeps, decided on the device: the tokens of a round of
 * speculative decoding, and the counters that the next round begins with.
 *
 * <p>A round of sequence s: the target was fed the newest token, then the n drafted tokens ({@code
 * n = draftLength[s]} or K; a negative id in {@code drafted} ends the draft before it). Row {@code
 * s (K + 1) + i} of argmax or logits scores what follows the first i of them. Rows and entries
 * beyond n may hold anything.
 * <ul>
 *   <li>Greedy ({@link Builder#argmax}): drafted tokens are kept up to the first that is not the
 *       argmax of its row; behind them comes the argmax of the next row. The tokens are those of
 *       plain decoding.
 *   <li>Sampled ({@link Builder#logits}): with p the target's probabilities and q what a token was
 *       drawn from (1 at the token itself where no draft's probabilities are given), it is kept if
 *       {@code u < min(1, p / q)}; behind those kept comes a token drawn from {@code max(0, p - q)}
 *       of the row that rejected one, or from p where all were kept. What comes out is distributed
 *       as the target's tokens are, whatever the draft; the proof is in {@code verify.h}. Uniform
 *       {@code [s,i]} decides about the drafted token i, {@code [s,K]} draws.
 * </ul>
 * The tokens that come out are the kept ones and the one behind them, at most up to the first stop
 * token. Let them be c: {@code length} and {@code position} grow by c, {@code token} is the newest,
 * {@code lastRow} the row that scored it. So {@code length}, which counts the slots before the
 * newest token was fed, is what {@link KvLength#crop} takes as its limit afterwards, and {@code
 * token} is fed next, at {@code position}.
 *
 * <p>A row that is needed is invalid if its argmax is negative, its logits (or its draft's) are as
 * in {@link RowStats}, or its uniform is NaN or not in 0..1. What was kept before it comes out,
 * nothing behind it, and the outcome is {@link Outcome#INVALID}. With c = 0, and of a sequence that
 * is not active, {@code token}, {@code length} and {@code position} stay.
 *
 * <p>A draft length outside 0..K, a length or position below 0 or beyond what fits, a drafted or
 * stop id beyond the vocabulary, a stop id below 0: an {@link IllegalArgumentException} on the CPU,
 * with nothing written. On CUDA such an id is never equal to a token, and for all else the outcome
 * is invalid with c = 0.
 *
 * <p>All that changes from round to round lies in tensors, so one op, or one captured graph, serves
 * a whole generation. Arithmetic is f32. Bytes that must move: greedy, about 12 for each drafted
 * token and 40 for each sequence; sampled, moreover the rows of logits up to the first rejection.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
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

  private Verify(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building: no draft probabilities, no stop tokens, no bound on the cache.
   *
   * @return a builder that needs drafted, accepted, token, and argmax or logits
   */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_verify_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_verify_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_verify(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link Verify}. */
  public static final class Builder extends Op.Builder<Verify> {
    private Tensor drafted;
    private Tensor draftLength;
    private Tensor active;
    private Tensor argmax;
    private Tensor logits;
    private Tensor draft;
    private Tensor uniform;
    private Tensor stop;
    private Tensor accepted;
    private Tensor token;
    private Tensor out;
    private Tensor outCount;
    private Tensor lastRow;
    private Tensor outcome;
    private Tensor length;
    private Tensor position;
    private long capacity;
    private long vocabulary;
    private float temperature;
    private float draftTemperature;
    private int draftKind = exeunt.EXN_DRAFT_LOGITS;

    private Builder() {}

    /**
     * The drafted tokens.
     *
     * @param tensor in, [S,K], I32, compact; S and K may be 0; a negative id ends a draft before it
     * @return this
     */
    public Builder drafted(Tensor tensor) {
      drafted = tensor;
      return this;
    }

    /**
     * How many tokens each sequence was drafted.
     *
     * @param tensor in, optional, [S], I32, compact, 0 to K; left out, K each
     * @return this
     */
    public Builder draftLength(Tensor tensor) {
      draftLength = tensor;
      return this;
    }

    /**
     * Which sequences take part; those that end in this round are set to 0.
     *
     * @param tensor in and out, optional, [S], U8, compact; left out, all do
     * @return this
     */
    public Builder active(Tensor tensor) {
      active = tensor;
      return this;
    }

    /**
     * The target's best token of each row, for greedy decoding; {@link Statistics#argmax()} fits.
     *
     * @param tensor in, [S*(K+1)], I32, compact; this or the logits
     * @return this
     */
    public Builder argmax(Tensor tensor) {
      argmax = tensor;
      return this;
    }

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
    public Builder draftLogits(Tensor tensor, float value) {
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
    public Builder draftProbabilities(Tensor tensor) {
      draft = tensor;
      draftKind = exeunt.EXN_DRAFT_PROBABILITIES;
      return this;
    }

    /**
     * Independent random numbers from 0 to 1, new ones for each round; with logits only.
     *
     * @param tensor in, [S,K+1], F32, compact
     * @return this
     */
    public Builder uniform(Tensor tensor) {
      uniform = tensor;
      return this;
    }

    /**
     * The tokens behind which a sequence ends.
     *
     * @param tensor in, optional, [N], I32, compact, 0 to V - 1
     * @return this
     */
    public Builder stop(Tensor tensor) {
      stop = tensor;
      return this;
    }

    /**
     * How many of the tokens that come out were drafted.
     *
     * @param tensor out, [S], I32, compact
     * @return this
     */
    public Builder accepted(Tensor tensor) {
      accepted = tensor;
      return this;
    }

    /**
     * The newest token of each sequence, which the target is fed next.
     *
     * @param tensor in and out, [S], I32, compact; that of a sequence with no new token stays
     * @return this
     */
    public Builder token(Tensor tensor) {
      token = tensor;
      return this;
    }

    /**
     * The tokens that come out, then -1.
     *
     * @param tensor out, optional, [S,K+1], I32, compact
     * @return this
     */
    public Builder out(Tensor tensor) {
      out = tensor;
      return this;
    }

    /**
     * How many tokens come out.
     *
     * @param tensor out, optional, [S], I32, compact
     * @return this
     */
    public Builder outCount(Tensor tensor) {
      outCount = tensor;
      return this;
    }

    /**
     * The row that scored the newest token, for a {@link Gather} of hidden states; -1 where none
     * did.
     *
     * @param tensor out, optional, [S], I32, compact
     * @return this
     */
    public Builder lastRow(Tensor tensor) {
      lastRow = tensor;
      return this;
    }

    /**
     * How the round ended, in numbers; see {@link Outcome#of}.
     *
     * @param tensor out, optional, [S], I32, compact
     * @return this
     */
    public Builder outcome(Tensor tensor) {
      outcome = tensor;
      return this;
    }

    /**
     * Slots of the cache that each sequence has, the newest token's not among them.
     *
     * @param tensor in and out, optional, [S], I32, compact, 0 or more: before the newest token was
     *     fed, and after the crop
     * @return this
     */
    public Builder length(Tensor tensor) {
      length = tensor;
      return this;
    }

    /**
     * Where the newest token stands, which is what {@link Rope} turns it by.
     *
     * @param tensor in and out, optional, [S], I32, compact, 0 or more
     * @return this
     */
    public Builder position(Tensor tensor) {
      position = tensor;
      return this;
    }

    /**
     * How many slots a sequence may have; only with {@link #length}.
     *
     * @param slots K + 1 to 2^31 - 1; 0: no bound
     * @return this
     */
    public Builder capacity(long slots) {
      capacity = slots;
      return this;
    }

    /**
     * How many tokens there are, for those who give no logits and want ids to be checked.
     *
     * @param size V; 0: that of the logits, or unknown
     * @return this
     */
    public Builder vocabulary(long size) {
      vocabulary = size;
      return this;
    }

    @Override
    Verify create(Place place) {
      return new Verify(
          new Params(exn_verify_params.class)
              .tensor("drafted", drafted)
              .tensor("draft_length", draftLength)
              .written("active", active)
              .tensor("argmax", argmax)
              .tensor("logits", logits)
              .tensor("draft", draft)
              .tensor("uniform", uniform)
              .tensor("stop", stop)
              .written("accepted", accepted)
              .written("token", token)
              .written("out", out)
              .written("out_count", outCount)
              .written("last_row", lastRow)
              .written("outcome", outcome)
              .written("length", length)
              .written("position", position)
              .int64("capacity", capacity)
              .int64("vocabulary", vocabulary)
              .float32("temperature", temperature)
              .float32("draft_temperature", draftTemperature)
              .int32("draft_kind", draftKind),
          place);
    }
  }
}
