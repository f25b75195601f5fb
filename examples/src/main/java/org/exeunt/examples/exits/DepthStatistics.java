// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.exits;

import org.exeunt.Cosine;
import org.exeunt.Device;
import org.exeunt.DType;
import org.exeunt.ExitHead;
import org.exeunt.Scope;
import org.exeunt.Statistics;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.examples.linalg.Matrix;
import org.exeunt.examples.llama.LlamaModel;

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
  private final Statistics statistics;
  private final ExitHead head;
  private final Cosine saturation;

  /**
   * Prepares for {@code rows} tokens at a time.
   *
   * @param headType storage of the language-model head, {@code F32} or {@code BF16}
   */
  public DepthStatistics(LlamaModel model, DType headType, int rows) {
    int width = model.config().width();
    hidden = scope.allocate(Device.CPU, DType.F32, rows, width);
    previous = scope.allocate(Device.CPU, DType.F32, rows, width);
    cosine = scope.allocate(Device.CPU, DType.F32, rows);
    statistics = Statistics.allocate(scope, Device.CPU, rows);
    head = head(scope, model, headWeight(scope, model, headType), hidden, statistics);
    saturation = Cosine.builder().a(previous).b(hidden).out(cosine).build(scope);
  }

  /** An exit head over {@code hidden}, behind the model's own norm. */
  static ExitHead head(Scope scope, LlamaModel model, Tensor weight, Tensor hidden,
      Statistics out) {
    Tensor norm = scope.allocate(Device.CPU, DType.F32, model.config().width())
        .copyFrom(model.outputNorm());
    return ExitHead.builder()
        .hidden(hidden)
        .rmsNorm(norm, model.config().epsilon())
        .weight(weight)
        .out(out)
        .build(scope);
  }

  /** A copy of the model's tied language-model head, in memory fit for reading it over and over. */
  static Tensor headWeight(Scope scope, LlamaModel model, DType type) {
    Matrix embedding = model.embedding();
    return scope.allocate(Device.CPU, type, embedding.rows(), embedding.columns())
        .copyFrom(embedding.toArray());
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
    return statistics;
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
