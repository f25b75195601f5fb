// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.exit;

import org.exeunt.Cosine;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Statistics;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.engine.decode.Head;
import org.exeunt.engine.model.LlamaWeights;

/**
 * The exit head of a model, applied to the hidden states of one depth after another: the same
 * tensors are refilled for each, as an engine would do, so that whatever reads them (an exit rule)
 * is built once.
 */
public final class DepthStatistics implements AutoCloseable {
  private final Scope scope = Scope.open();
  private final Tensor hidden;
  private final Tensor previous;
  private final Tensor cosine;
  private final Head head;
  private final Cosine saturation;

  /** Prepares for {@code rows} tokens at a time. */
  public DepthStatistics(LlamaWeights weights, int rows) {
    int width = weights.config().width();
    hidden = scope.allocate(Device.CPU, DType.F32, rows, width);
    previous = scope.allocate(Device.CPU, DType.F32, rows, width);
    cosine = scope.allocate(Device.CPU, DType.F32, rows);
    head = new Head(scope, weights, hidden, false);
    saturation = Cosine.builder().a(previous).b(hidden).out(cosine).build(scope);
  }

  /** Fills {@link #statistics()} and {@link #cosine()} from hidden states in row-major order. */
  public void run(float[] states) {
    previous.copyFrom(hidden, Stream.DEFAULT);
    hidden.copyFrom(states);
    head.run();
    saturation.run();
  }

  /** Statistics of the logits at the depth run last. */
  public Statistics statistics() {
    return head.statistics();
  }

  /**
   * Cosine of each hidden state of the depth run last with the one run before; CALM's state
   * saturation.
   */
  public Tensor cosine() {
    return cosine;
  }

  /** Owns the tensors here; rules over them may be built into it. */
  public Scope scope() {
    return scope;
  }

  @Override
  public void close() {
    scope.close();
  }
}
