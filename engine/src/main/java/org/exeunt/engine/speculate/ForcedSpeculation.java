// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate;

import java.util.Random;
import org.exeunt.BlockFormat;
import org.exeunt.engine.decode.DecodeWork;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.speculate.draft.SelfDraft;

/**
 * Self-speculative decoding at a model's sizes, with random weights, where drafted tokens are right
 * as often as somebody published: every op runs, every key is kept, only the verdict is drawn.
 */
public final class ForcedSpeculation implements AutoCloseable {
  private static final int PROMPT = 32;
  private static final int WARM_UP = 3; // rounds, or tokens, before those that are timed

  /** Sizes of a model that was published with LayerSkip. */
  public enum Shape {
    /** Llama 3.2 1B, BF16, whose head is its embedding. */
    LLAMA_3_2_1B(null, false, 4, config(16, 2048, 32, 8, 64, 8192, 128256, 5e5f)),
    /** Llama 2 7B, in blocks, since its BF16 would take 13.5 GB. */
    LLAMA_2_7B(BlockFormat.Q4_0, true, 8, config(32, 4096, 32, 32, 128, 11008, 32000, 1e4f));

    private final BlockFormat blocks;
    private final boolean ownHead;
    private final int draftLayers;
    private final LlamaConfig config;

    Shape(BlockFormat blocks, boolean ownHead, int draftLayers, LlamaConfig config) {
      this.blocks = blocks;
      this.ownHead = ownHead;
      this.draftLayers = draftLayers;
      this.config = config;
    }

    /** How an option spells it. */
    public String option() {
      return this == LLAMA_3_2_1B ? "llama-3.2-1b" : "llama-2-7b";
    }

    /** What its weights are. */
    public String weights() {
      return blocks == null ? "BF16" : blocks.name();
    }

    /** Layers that draft: a quarter, as LayerSkip's of Llama 2 7B. */
    public int draftLayers() {
      return draftLayers;
    }

    public int layers() {
      return config.layers();
    }

    public int vocabulary() {
      return config.vocabulary();
    }

    private static LlamaConfig config(int layers, int width, int heads, int kvHeads, int headWidth,
        int inner, int vocabulary, float base) {
      return new LlamaConfig(LlamaConfig.Architecture.LLAMA, layers, width, heads, kvHeads,
          headWidth, inner, vocabulary, 1 << 11, 1e-5f, (float) (1 / Math.sqrt(headWidth)), base, 1,
          1e4f, 0, 1);
    }
  }

  /**
   * What a token took, in milliseconds, and how many came of a pass.
   *
   * @param passRatio what a pass that verifies takes, layers and head, of one of one token; NaN
   *     where none verifies
   */
  public record Cost(double tokensPerPass, double accepted, double draftLayers, double draftHead,
      double verifyLayers, double verifyHead, double rest, double passRatio) {
    public double total() {
      return draftLayers + draftHead + verifyLayers + verifyHead + rest;
    }
  }

  private final LlamaConfig config;
  private final LlamaWeights weights;
  private final int[] prompt;

  public ForcedSpeculation(Shape shape) {
    this(shape.config, shape.blocks, shape.ownHead);
  }

  /** The arguments are those of {@link LlamaWeights#random}. */
  ForcedSpeculation(LlamaConfig config, BlockFormat blocks, boolean ownHead) {
    this.config = config;
    weights = LlamaWeights.random(config, blocks, ownHead);
    prompt = new Random(2).ints(PROMPT, 0, config.vocabulary()).toArray();
  }

  /** Tokens one by one. */
  public Cost plain(int tokens) {
    try (
        Decoder decoder = new Decoder(weights, DecoderOptions.FULL, 1, PROMPT + WARM_UP + tokens)) {
      decoder.prefill(0, prompt);
      long head = 0;
      long begin = 0;
      for (int t = 0; t < WARM_UP + tokens; t++) {
        if (t == WARM_UP) {
          head = decoder.work().headNanos();
          begin = System.nanoTime();
        }
        decoder.step(prompt[t % PROMPT]);
      }
      double all = (System.nanoTime() - begin) / 1e6 / tokens;
      double heads = (decoder.work().headNanos() - head) / 1e6 / tokens;
      return new Cost(1, Double.NaN, 0, 0, all - heads, heads, 0, Double.NaN);
    }
  }

  /**
   * Tokens of rounds.
   *
   * @param layers that draft
   * @param length of each draft
   * @param shortlist tokens among which drafts are looked for; 0: all
   * @param accepted which share of the drafted tokens is right
   * @param plain what tokens take one by one
   */
  public Cost speculative(
      int layers, int length, int shortlist, double accepted, int tokens, Cost plain) {
    Speculation all =
        Speculation.parse("selfdraft:" + layers, 0, "fixed:" + length, config.layers());
    Speculation how = shortlist == 0 ? all : all.withShortlist(shortlist);
    double each = rateOfEach(accepted, length);
    Random random = new Random(3);
    int capacity = PROMPT + tokens + (WARM_UP + 2) * (length + 1);
    Decoder verifying = new Decoder(weights, DecoderOptions.FULL, 1, capacity);
    try (
        SpeculativeDecoder decoder = new SpeculativeDecoder(verifying, how, null, token -> false)) {
      decoder.judge(
          drafted -> random.nextDouble() < each ? drafted : (drafted + 1) % config.vocabulary());
      decoder.prefill(0, prompt);
      for (int i = 0; i < WARM_UP; i++) {
        decoder.round();
      }
      return timed(decoder, tokens, plain);
    }
  }

  private static Cost timed(SpeculativeDecoder decoder, int tokens, Cost plain) {
    DecodeWork work = decoder.work();
    int first = decoder.position(0);
    long passes = decoder.verifications();
    long drafted = decoder.drafted();
    long accepted = decoder.accepted();
    long heads = work.headNanos();
    long draft = decoder.draftNanos();
    long verify = decoder.verifyNanos();
    long verifyHead = decoder.verifyHeadNanos();
    long begin = System.nanoTime();
    while (decoder.position(0) - first < tokens) {
      decoder.round();
    }
    long all = System.nanoTime() - begin;
    draft = decoder.draftNanos() - draft;
    verify = decoder.verifyNanos() - verify;
    verifyHead = decoder.verifyHeadNanos() - verifyHead;
    long draftHead = work.headNanos() - heads - verifyHead;
    passes = decoder.verifications() - passes;
    double count = 1e6 * (decoder.position(0) - first);
    double ratio = verify / 1e6 / passes / plain.total();
    return new Cost(count / 1e6 / passes,
        (double) (decoder.accepted() - accepted) / (decoder.drafted() - drafted),
        (draft - draftHead) / count, draftHead / count, (verify - verifyHead) / count,
        verifyHead / count, (all - draft - verify) / count, ratio);
  }

  /** The speed-up if reading weights were all that takes time, as often as rounds read them. */
  public double byBytes(int layers, int length, int shortlist, double tokensPerPass) {
    return tokensPerPass / (1 + length * SelfDraft.cost(weights, layers, shortlist));
  }

  /** How often each drafted token is right after right ones, where such a share is in the mean. */
  static double rateOfEach(double share, int length) {
    double low = 0;
    double high = 1;
    for (int i = 0; i < 60; i++) {
      double rate = (low + high) / 2;
      double right = 0;
      double power = 1;
      for (int d = 0; d < length; d++) {
        power *= rate;
        right += power;
      }
      if (right < share * length) {
        low = rate;
      } else {
        high = rate;
      }
    }
    return (low + high) / 2;
  }

  @Override
  public void close() {
    weights.close();
  }
}
