// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.evaluate;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.examples.Texts;
import org.exeunt.examples.llama.Answer;
import org.exeunt.examples.llama.DecodeWork;
import org.exeunt.examples.llama.Decoder;
import org.exeunt.examples.llama.DecoderOptions;
import org.exeunt.examples.llama.DraftModel;
import org.exeunt.examples.llama.HostAnswer;
import org.exeunt.examples.llama.LlamaWeights;
import org.exeunt.examples.llama.Speculation;
import org.exeunt.examples.llama.SpeculativeAnswer;
import org.exeunt.examples.llama.SpeculativeDecoder;
import org.exeunt.examples.llama.Tokenizer;
import org.exeunt.examples.skips.TextRun;

/** One method on its way through the prompts. */
final class Trial implements AutoCloseable {
  private final LlamaWeights weights;
  private final Tokenizer tokenizer;
  private final DecoderOptions options;
  private final DraftModel drafting;
  private final SpeculativeDecoder speculative; // null: nothing is drafted
  private final Answer answer;
  private final int most;
  private final Interruption interruption;
  private final List<int[]> answers = new ArrayList<>();
  private final List<Part> parts = new ArrayList<>();

  /** What has happened up to some moment, or between two. */
  record Part(long tokens, long nanos, long passes, long drafted, long accepted, long bytes) {
    static final Part NOTHING = new Part(0, 0, 0, 0, 0, 0);

    Part plus(Part o, int sign) {
      return new Part(tokens + sign * o.tokens, nanos + sign * o.nanos, passes + sign * o.passes,
          drafted + sign * o.drafted, accepted + sign * o.accepted, bytes + sign * o.bytes);
    }
  }

  /**
   * @param speculation null: none
   * @param type what the weights of a second model become
   * @param capacity of the longest prompt and its answer
   * @param most tokens of an answer
   * @param interruption asked before each token
   */
  Trial(LlamaWeights weights, Tokenizer tokenizer, DecoderOptions options, Speculation speculation,
      DType type, int capacity, int most, Interruption interruption) throws IOException {
    this.weights = weights;
    this.tokenizer = tokenizer;
    this.options = options;
    this.most = most;
    this.interruption = interruption;
    drafting = DraftModel.of(speculation, type, tokenizer);
    Decoder decoder = null;
    try {
      decoder = new Decoder(weights, options, 1, capacity);
      speculative = speculation == null
          ? null
          : new SpeculativeDecoder(decoder,
                Speculation.ready(
                    speculation, weights, drafting, tokenizer, Texts.essay(), System.err),
                drafting == null ? null : drafting.weights(), tokenizer::ends);
    } catch (IOException | RuntimeException | Error e) {
      if (decoder != null) {
        decoder.close();
      }
      if (drafting != null) {
        drafting.close();
      }
      throw e;
    }
    answer =
        speculative == null ? new HostAnswer(decoder, null) : new SpeculativeAnswer(speculative);
  }

  /** Answers a prompt, and returns the tokens, without the one that ends them. */
  int[] run(int... prompt) {
    interruption.check();
    answer.begin(prompt);
    Part before = now();
    IntStream.Builder tokens = IntStream.builder();
    long begin = System.nanoTime();
    int token = answer.next();
    for (int i = 0; i < most && token >= 0 && !tokenizer.ends(token); i++) {
      tokens.add(token);
      interruption.check();
      if (i + 1 < most) {
        answer.goOn();
        token = answer.next();
      }
    }
    long nanos = System.nanoTime() - begin;
    int[] found = tokens.build().toArray();
    answers.add(found);
    // Of the last pass some tokens may not have been wanted.
    Part part = now().plus(before, -1);
    parts.add(new Part(Math.max(0, found.length - (found.length == most ? 1 : 0)), nanos,
        part.passes, part.drafted, part.accepted, part.bytes));
    return found;
  }

  private Part now() {
    DecodeWork work = answer.work();
    return speculative == null
        ? new Part(0, 0, work.tokens(), 0, 0, work.bytes())
        : new Part(0, 0, speculative.verifications(), speculative.drafted(), speculative.accepted(),
              work.bytes());
  }

  /** What the prompts of these numbers came to. */
  Part sum(List<Integer> prompts) {
    Part sum = Part.NOTHING;
    for (int prompt : prompts) {
      sum = sum.plus(parts.get(prompt), 1);
    }
    return sum;
  }

  int[] answer(int prompt) {
    return answers.get(prompt);
  }

  /** Reads a prompt and the answer it is said to have, token by token. */
  TextRun read(int[] prompt, int... given) {
    int[] text = Arrays.copyOf(prompt, prompt.length + given.length);
    System.arraycopy(given, 0, text, prompt.length, given.length);
    return TextRun.of(weights, options, text, prompt.length);
  }

  @Override
  public void close() throws IOException {
    answer.close();
    if (drafting != null) {
      drafting.close();
    }
  }
}
