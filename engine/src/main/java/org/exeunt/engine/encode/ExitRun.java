// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import java.util.Arrays;
import java.util.List;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * What became of sentences under a plan.
 *
 * @param answers the label of each
 * @param confidences the probability of each, by the head after whose layer it left
 * @param exitLayers after which layer each left
 */
public record ExitRun(int[] answers, float[] confidences, int[] exitLayers) {
  /** Of states that were kept: what a plan would do, in no time. */
  public static ExitRun of(FittedExits fitted, ExitPlan plan, LayerStates states) {
    try (Scope scope = Scope.open()) {
      Tensor pooled = states.allocate(scope);
      try (SentenceExits exits = new SentenceExits(fitted, plan, pooled)) {
        exits.start(states.size());
        for (int layer = 1; layer <= plan.last(fitted.layers()); layer++) {
          if (exits.asks(layer)) {
            states.load(layer - 1, pooled);
            exits.ask(layer);
          }
        }
        return new ExitRun(
            exits.answers().clone(), exits.confidences().clone(), exits.exitLayers().clone());
      }
    }
  }

  /** Of sentences, which leave the encoder when they may; batches of as many as it takes. */
  public static ExitRun of(Encoder encoder, SentenceExits exits, List<int[]> sentences) {
    int[] answers = new int[sentences.size()];
    float[] confidences = new float[sentences.size()];
    int[] exitLayers = new int[sentences.size()];
    for (int from = 0; from < answers.length; from += encoder.sentences()) {
      int to = Math.min(answers.length, from + encoder.sentences());
      encoder.start(sentences.subList(from, to));
      exits.start(to - from);
      while (encoder.isBusy()) {
        int layer = encoder.runLayer();
        if (exits.asks(layer)) {
          encoder.pool();
          exits.ask(layer);
          encoder.keep(exits.stays());
        }
      }
      System.arraycopy(exits.answers(), 0, answers, from, to - from);
      System.arraycopy(exits.confidences(), 0, confidences, from, to - from);
      System.arraycopy(exits.exitLayers(), 0, exitLayers, from, to - from);
    }
    return new ExitRun(answers, confidences, exitLayers);
  }

  public double meanLayers() {
    return Arrays.stream(exitLayers).average().orElse(0);
  }
}
