// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate;

import java.util.Arrays;
import java.util.function.IntPredicate;
import java.util.stream.LongStream;
import org.exeunt.Scope;
import org.exeunt.engine.decode.DecodeWork;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.RowHead;
import org.exeunt.engine.decode.Sampler;
import org.exeunt.engine.layer.KvState;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.speculate.draft.Decision;
import org.exeunt.engine.speculate.draft.DraftSources;
import org.exeunt.engine.speculate.draft.Drafts;
import org.exeunt.engine.speculate.draft.PassTimes;

/**
 * Goes on with some sequences by rounds: in each, some tokens are drafted for every sequence, and
 * the model takes all of them in with one pass and keeps those that it would have chosen itself. So
 * the tokens are those of a {@link Decoder} alone, drawn ones as well: what is drawn is drawn from
 * the model's logits, one number of the sampler's for each token, whatever was drafted.
 *
 * <p>Drawing a token and comparing it with the drafted one accepts that with the probability p that
 * the model gives it, and else gives a token of the others in proportion to theirs: the rule of
 * speculative sampling (Leviathan et al. 2023) for a draft that was not drawn.
 */
public final class SpeculativeDecoder implements Rounds {
  private final Decoder decoder;
  private final DraftSources sources;
  private final Drafts drafts;
  private final Scope scope;
  private final Decision decision;
  private final Sampler[] samplers; // null: the most probable token
  private final int[][] settled; // by sequence: what the last call has found
  private final int[] settledCount;
  private final int longest;
  private final PassTimes times;
  private Judge judge; // null: the model itself
  private long draftNanos;
  private long verifyNanos;
  private long verifyHeadNanos;
  private final long[] drafted; // by source
  private final long[] accepted;
  private long verifications;
  private long draftBytes;

  /**
   * @param decoder one that leaves nothing out but tokens of prompts; closed with this
   * @param drafting the weights of a second model, where one drafts
   * @param ends which tokens end an answer
   * @param samplers one for each sequence, if the decoder keeps logits; none: the most probable
   *     token
   * @throws IllegalArgumentException if the decoder leaves out what verification needs, if the
   *     drafts do not fit, or if the models' vocabularies differ in size
   */
  public SpeculativeDecoder(Decoder decoder, Speculation how, LlamaWeights drafting,
      IntPredicate ends, Sampler... samplers) {
    this.decoder = decoder;
    this.samplers = samplers.length == 0 ? null : samplers;
    int sequences = decoder.sequences();
    longest = how.length(decoder.capacity());
    check(decoder, drafting);
    times = how.times(decoder.weights(), drafting);
    settled = new int[sequences][longest + 1];
    settledCount = new int[sequences];
    scope = Scope.open();
    DraftSources drafters = null;
    try {
      decision = new Decision(scope, sequences, longest);
      drafters = how.sources(decoder, drafting, longest, times);
      sources = drafters;
      drafted = new long[sources.count()];
      accepted = new long[sources.count()];
      drafts = new Drafts(sequences, decoder.capacity(), longest, sources.count(),
          (from, s)
              -> how.rule(scope, sources.get(from), from, s, times, sequences, longest),
          ends);
    } catch (RuntimeException | Error e) {
      if (drafters != null) {
        drafters.close();
      }
      scope.close();
      throw e;
    }
  }

  private void check(Decoder verifying, LlamaWeights drafting) {
    Speculation.check(verifying.options());
    Speculation.checkRoom(longest, verifying.capacity());
    if (verifying.sequences() * (longest + 1) > verifying.mostRows()) {
      throw new IllegalArgumentException("drafts of " + longest + " tokens for "
          + verifying.sequences() + " sequences are " + verifying.sequences() * (longest + 1)
          + " rows with the token before each; one pass takes " + verifying.mostRows());
    }
    if (drafting != null) {
      Speculation.checkVocabulary(
          drafting.config().vocabulary(), verifying.weights().config().vocabulary());
    }
  }

  @Override
  public void resume(int sequence, int kept, int... ids) {
    int surplus = decoder.position(sequence) - kept;
    if (kept < 0 || surplus < 0) {
      throw new IllegalArgumentException("sequence " + sequence + " has "
          + decoder.position(sequence) + " tokens, of which the first " + kept + " cannot stay");
    }
    if (ids.length == 0 || ids.length > decoder.capacity() - kept) {
      throw new IllegalArgumentException(ids.length + " more tokens after " + kept
          + " are none, or exceed the " + decoder.capacity() + " there is room for");
    }
    decoder.forget(sequence, surplus);
    sources.restart(sequence);
    drafts.context(sequence).cut(kept);
    prefill(sequence, ids);
  }

  @Override
  public void prefill(int sequence, int... ids) {
    decoder.prefill(sequence, ids);
    for (int id : ids) {
      drafts.context(sequence).add(id);
    }
    drafts.going(sequence, true);
    settledCount[sequence] = 0;
    settle(sequence,
        samplers == null || decoder.argmax(sequence) < 0
            ? decoder.argmax(sequence)
            : samplers[sequence].draw(decoder.logits().row(sequence).floatBuffer()));
  }

  private void settle(int sequence, int token) {
    settled[sequence][settledCount[sequence]++] = token;
    if (token >= 0) {
      drafts.context(sequence).add(token);
    } else {
      drafts.going(sequence, false);
    }
  }

  /**
   * The tokens that the last call has found. Where logits are no numbers there is a -1, and the
   * sequence does not go on.
   */
  public int[] tokens(int sequence) {
    return Arrays.copyOf(settled[sequence], settledCount[sequence]);
  }

  @Override
  public int tokenCount(int sequence) {
    return settledCount[sequence];
  }

  @Override
  public int token(int sequence, int index) {
    return settled[sequence][index];
  }

  @Override
  public void restart(int sequence) {
    end(sequence);
    decoder.restart(sequence);
    sources.restart(sequence);
    drafts.context(sequence).clear();
  }

  /** No more tokens of this sequence are wanted. */
  public void end(int sequence) {
    drafts.going(sequence, false);
    settledCount[sequence] = 0;
  }

  @Override
  public void round() {
    int going = 0;
    for (int s = 0; s < drafts.sequences(); s++) {
      if (drafts.going(s)) {
        int room = decoder.capacity() - decoder.position(s);
        if (room < 1) {
          throw new IllegalArgumentException("1 more token after " + decoder.position(s)
              + " exceeds the " + decoder.capacity() + " there is room for");
        }
        drafts.begin(s, room - 1);
        going++;
      }
    }
    if (going == 0) {
      throw new IllegalArgumentException(
          "of " + drafts.sequences() + " sequences none goes on: each has ended, or has no prompt");
    }
    long begin = System.nanoTime();
    sources.draft(drafts);
    long ready = System.nanoTime();
    draftNanos += ready - begin;
    int depth = sources.enter(decoder, drafts);
    decoder.runRows(depth, decoder.weights().config().layers());
    long heads = decoder.work().headNanos();
    RowHead head = decoder.readRows();
    verifyHeadNanos += decoder.work().headNanos() - heads;
    verifications++;
    long verified = System.nanoTime() - ready;
    verifyNanos += verified;
    times.verified(decoder.rows().count(), going, verified);
    choose(head);
    decision.run();
    sources.verified(drafts, decision, head);
    for (int s = 0; s < drafts.sequences(); s++) {
      if (drafts.going(s)) {
        settle(s);
      }
    }
    decoder.work().other(sources.bytes() - draftBytes);
    draftBytes = sources.bytes();
  }

  /** Chooses a token in each row, and draws one up to the first row whose draft it is not. */
  private void choose(RowHead head) {
    int row = 0;
    for (int s = 0; s < drafts.sequences(); s++) {
      decision.draft(s, drafts);
      if (!drafts.going(s)) {
        continue;
      }
      boolean right = true;
      for (int i = 0; i <= drafts.count(s); i++, row++) {
        int token = right ? head.argmax(row) : -1;
        if (token >= 0 && samplers != null) {
          token = samplers[s].draw(head.logits(row));
        }
        if (token >= 0 && judge != null && i < drafts.count(s)) {
          token = judge.next(drafts.token(s, i));
        }
        decision.choose(s, i, token);
        right &= i < drafts.count(s) && token == drafts.token(s, i);
      }
    }
  }

  private void settle(int s) {
    settledCount[s] = 0;
    for (int i = 0; i < decision.count(s); i++) {
      settle(s, decision.token(s, i));
    }
    int right = decision.accepted(s);
    if (decision.count(s) == right) {
      settle(s, -1);
    }
    int count = drafts.count(s);
    decoder.keepTokens(s, right + 1, count + 1);
    drafts.learn(s, right, settled[s][0]);
    sources.settle(s, right);
    if (count > 0) {
      drafted[drafts.source(s)] += count;
      accepted[drafts.source(s)] += right;
    }
  }

  /** Says in the model's place what stands where a token was drafted, to time what follows. */
  interface Judge {
    /** The drafted token, or another. */
    int next(int drafted);
  }

  void judge(Judge by) {
    judge = by;
  }

  /** What drafting has taken. */
  long draftNanos() {
    return draftNanos;
  }

  /** What the passes that verified have taken, with their heads. */
  long verifyNanos() {
    return verifyNanos;
  }

  /** What those heads have. */
  long verifyHeadNanos() {
    return verifyHeadNanos;
  }

  /** Tokens of a sequence that were taken in. */
  public int position(int sequence) {
    return decoder.position(sequence);
  }

  @Override
  public long drafted() {
    return LongStream.of(drafted).sum();
  }

  @Override
  public long accepted() {
    return LongStream.of(accepted).sum();
  }

  /** Tokens that one of several sources has drafted. */
  @Override
  public long drafted(int source) {
    return drafted[source];
  }

  /** Those of them that were right. */
  @Override
  public long accepted(int source) {
    return accepted[source];
  }

  @Override
  public long verifications() {
    return verifications;
  }

  @Override
  public DecodeWork work() {
    return decoder.work();
  }

  /** The keys and values. */
  public KvState kv() {
    return decoder.kv();
  }

  @Override
  public void close() {
    sources.close();
    decoder.close();
    scope.close();
  }
}
