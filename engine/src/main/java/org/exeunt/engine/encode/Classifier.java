// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import java.util.ArrayList;
import java.util.List;
import org.exeunt.engine.model.text.WordPiece;

/**
 * Labels texts, each by the head of the layer after which a rule lets it leave. For one thread at a
 * time; several over the same weights may run beside each other.
 */
public final class Classifier implements AutoCloseable {
  /**
   * What is said of a text.
   *
   * @param label 1: positive, 0: negative
   * @param confidence the probability that the head gives to the label
   * @param exitLayer after which layer it left, counted from 1
   */
  public record Answer(int label, float confidence, int exitLayer) {}

  private final Encoder encoder;
  private final WordPiece tokenizer;
  private final SentenceExits exits;

  /**
   * Prepares the heads and the rule.
   *
   * @param encoder computes, in batches of as many as it takes; it stays the caller's
   */
  public Classifier(Encoder encoder, WordPiece tokenizer, FittedExits fitted, ExitPlan plan) {
    if (plan.last(fitted.layers()) > fitted.layers()) {
      throw new IllegalArgumentException(
          "plan: " + plan + ", but the encoder has " + fitted.layers() + " layers");
    }
    this.encoder = encoder;
    this.tokenizer = tokenizer;
    exits = new SentenceExits(fitted, plan, encoder.pooled());
  }

  /** Labels texts; of a long one it sees the beginning. */
  public List<Answer> classify(List<String> texts) {
    List<int[]> sentences =
        texts.stream().map(text -> tokenizer.encode(text, encoder.longest())).toList();
    ExitRun run = ExitRun.of(encoder, exits, sentences);
    List<Answer> answers = new ArrayList<>();
    for (int s = 0; s < texts.size(); s++) {
      answers.add(new Answer(run.answers()[s], run.confidences()[s], run.exitLayers()[s]));
    }
    return answers;
  }

  @Override
  public void close() {
    exits.close();
  }
}
