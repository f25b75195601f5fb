// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.IntConsumer;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** The mean state of each sentence after each layer, kept, so that fitting takes seconds. */
public final class LayerStates {
  private final List<float[][]> byLayer;
  private final int[] labels;

  LayerStates(List<float[][]> byLayer, int[] labels) {
    this.byLayer = byLayer;
    this.labels = labels;
  }

  /**
   * Runs sentences through all layers.
   *
   * @param done is told how many have run
   */
  public static LayerStates of(Encoder encoder, int layers, Reviews reviews, IntConsumer done) {
    List<float[][]> byLayer = new ArrayList<>();
    for (int l = 0; l < layers; l++) {
      byLayer.add(new float[reviews.size()][]);
    }
    for (int from = 0; from < reviews.size(); from += encoder.sentences()) {
      int to = Math.min(reviews.size(), from + encoder.sentences());
      encoder.start(reviews.sentences().subList(from, to));
      for (float[][] states : byLayer) {
        encoder.runLayer();
        encoder.pool();
        for (int s = from; s < to; s++) {
          states[s] = encoder.pooled().row(s - from).toFloatArray();
        }
      }
      done.accept(to);
    }
    return new LayerStates(byLayer, reviews.labels());
  }

  /** Those of the sentences from {@code from} up to {@code to}. */
  public LayerStates part(int from, int to) {
    return new LayerStates(
        byLayer.stream().map(states -> Arrays.copyOfRange(states, from, to)).toList(),
        Arrays.copyOfRange(labels, from, to));
  }

  int size() {
    return labels.length;
  }

  int[] labels() {
    return labels;
  }

  /** After each layer a row for each sentence. */
  List<float[][]> byLayer() {
    return byLayer;
  }

  /** A tensor [S,D] for {@link #load}. */
  Tensor allocate(Scope scope) {
    return scope.allocate(Device.CPU, DType.F32, size(), byLayer.get(0)[0].length);
  }

  /** Fills a tensor with the states after a layer, counted from 0. */
  void load(int layer, Tensor pooled) {
    for (int s = 0; s < size(); s++) {
      pooled.row(s).copyFrom(byLayer.get(layer)[s]);
    }
  }

  /** The share of answers that are right. */
  public double accuracy(int[] answers) {
    int right = 0;
    for (int s = 0; s < size(); s++) {
      right += answers[s] == labels[s] ? 1 : 0;
    }
    return (double) right / size();
  }
}
