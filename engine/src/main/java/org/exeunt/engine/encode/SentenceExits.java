// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitRule;
import org.exeunt.Gate;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * Asks an exit rule after the layers of an encoder which sentences of a batch leave, and keeps
 * their answers.
 */
public final class SentenceExits implements AutoCloseable {
  private final Scope scope = Scope.open();
  private final ExitPlan plan;
  private final int layers;
  private final HeadStatistics heads;
  private final List<Gate> gates = new ArrayList<>();
  private final FloatBuffer features;
  private final ExitRule rule;
  private final ByteBuffer leaves;
  private final IntBuffer labels;
  private final FloatBuffer sureness;
  private final boolean[] stays;
  private final int[] answers;
  private final float[] confidences;
  private final int[] exitLayers;
  private int count;
  private boolean first;

  /** @param pooled [S,D], the mean states, of the encoder or kept ones */
  public SentenceExits(FittedExits fitted, ExitPlan plan, Tensor pooled) {
    this.plan = plan;
    int capacity = (int) pooled.size(0);
    layers = fitted.layers();
    heads = new HeadStatistics(scope, fitted, pooled);
    Tensor score = scope.allocate(Device.CPU, DType.F32, capacity);
    Tensor four = scope.allocate(Device.CPU, DType.F32, capacity, HeadStatistics.FEATURES);
    features = four.floatBuffer();
    for (int l = 0; l < layers; l++) {
      if (plan.kind() == ExitPlan.Kind.QUANTILE) {
        gates.add(gate(pooled, fitted.lambda(l), score));
      } else if (plan.kind() == ExitPlan.Kind.JEI && l + 1 < layers) {
        gates.add(gate(four, fitted.gate(l, plan.setting()), score));
      }
    }
    Tensor mask = scope.allocate(Device.CPU, DType.U8, capacity);
    leaves = mask.byteBuffer();
    labels = heads.out().argmax().intBuffer();
    sureness = heads.out().p1().floatBuffer();
    ExitRule.Builder builder =
        ExitRule.builder()
            .score(gates.isEmpty() ? heads.out().p1() : score)
            .valid(heads.out().valid())
            .state(ExitRule.allocateState(scope, Device.CPU, capacity))
            .exitMask(mask);
    if (plan.kind() == ExitPlan.Kind.PATIENCE) {
      builder.label(heads.out().argmax());
    }
    plan.choose(builder);
    rule = builder.build(scope);
    stays = new boolean[capacity];
    answers = new int[capacity];
    confidences = new float[capacity];
    exitLayers = new int[capacity];
  }

  private Gate gate(Tensor input, LinearFit.Line line, Tensor score) {
    return Gate.builder()
        .features(input)
        .output(line.weight(scope), line.bias(scope))
        .prob(score)
        .build(scope);
  }

  /** Begins a batch of so many sentences. */
  void start(int sentences) {
    count = sentences;
    first = true;
    Arrays.fill(stays, false);
    Arrays.fill(stays, 0, count, true);
  }

  /** Whether {@link #ask} is due after a layer, counted from 1. */
  boolean asks(int layer) {
    return plan.asks(layer);
  }

  /** Decides from the mean states who leaves after a layer, counted from 1. */
  void ask(int layer) {
    heads.run(layer - 1);
    if (layer <= gates.size()) {
      if (plan.kind() == ExitPlan.Kind.JEI) {
        float[][] rows = heads.features(count);
        for (int s = 0; s < count; s++) {
          features.put(s * HeadStatistics.FEATURES, rows[s]);
        }
      }
      gates.get(layer - 1).run();
    }
    rule.run(layer, first, layer == plan.last(layers));
    first = false;
    for (int s = 0; s < count; s++) {
      if (stays[s] && leaves.get(s) != 0) {
        stays[s] = false;
        exitLayers[s] = layer;
        answers[s] = labels.get(s);
        confidences[s] = sureness.get(s);
      }
    }
  }

  /** Which sentences are still on their way. */
  boolean[] stays() {
    return stays;
  }

  /** Of each sentence that has left, what the head said then. */
  int[] answers() {
    return answers;
  }

  /** The probability that the head gave to each answer. */
  float[] confidences() {
    return confidences;
  }

  /** After which layer each left. */
  int[] exitLayers() {
    return exitLayers;
  }

  @Override
  public void close() {
    scope.close();
  }
}
