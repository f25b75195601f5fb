// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import java.nio.ByteBuffer;
import java.nio.IntBuffer;
import java.util.function.Consumer;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitHead;
import org.exeunt.Linear;
import org.exeunt.Norm;
import org.exeunt.RowStats;
import org.exeunt.Scope;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.Weight;

/**
 * The final norm and the language-model head over some hidden states: statistics of the logits, and
 * the logits themselves only where somebody needs them. With a screen, the most probable token
 * alone, from a part of the head's bytes.
 */
public final class Head {
  /** The share of the head's rows that may be read before all of it is: one in so many. */
  private static final int BUDGET = 4;

  private final Statistics statistics;
  private final Tensor logits;
  private final Consumer<Stream> run;
  private final long bytes;
  private final Tensor certified; // null: no screen
  private final Certificate certificate; // null as well, or none that the host can read

  /** Of each row, what a screen could do without, and how many rows of the head were read. */
  private record Certificate(ByteBuffer certified, IntBuffer rowsRead, long rowBytes) {}

  /**
   * @param hidden [R,D], F32
   * @param keepLogits whether to write the logits, which costs {@code 4 R V} bytes
   */
  public Head(Scope scope, LlamaWeights weights, Tensor hidden, boolean keepLogits) {
    this(scope, weights, hidden, keepLogits, null);
  }

  /**
   * @param screen the image of one of this head, where the head lies; null: the head itself is
   *     read. With it there are no statistics but the argmax, and no logits
   */
  public Head(Scope scope, LlamaWeights weights, Tensor hidden, boolean keepLogits, Tensor screen) {
    LlamaConfig config = weights.config();
    long rows = hidden.size(0);
    if (screen != null) {
      Device device = weights.device();
      statistics = Statistics.allocate(scope, device, rows, Statistic.ARGMAX);
      logits = null;
      certified = scope.allocate(device, DType.U8, rows);
      Tensor rowsRead = scope.allocate(device, DType.I32, rows);
      ExitHead head =
          screened(weights, screen)
              .hidden(hidden)
              .rmsNorm(weights.outputNorm(), weights.config().epsilon())
              .certified(certified)
              .rowsRead(rowsRead)
              .out(statistics)
              .build(scope);
      run = head::run;
      bytes = screen.byteSize();
      certificate = device.equals(Device.CPU)
          ? new Certificate(certified.byteBuffer(), rowsRead.intBuffer(),
                weights.head().bytes() / weights.head().rows())
          : null;
      return;
    }
    bytes = weights.head().bytes();
    certificate = null;
    certified = null;
    statistics = Statistics.allocate(scope, weights.device(), rows);
    if (!keepLogits) {
      ExitHead head = head(weights, hidden).out(statistics).build(scope);
      logits = null;
      run = head::run;
      return;
    }
    Tensor normed = scope.allocate(weights.device(), DType.F32, rows, config.width());
    logits = scope.allocate(weights.device(), DType.F32, rows, config.vocabulary());
    Norm norm =
        Norm.builder()
            .input(hidden)
            .rms(weights.outputNorm(), config.epsilon())
            .out(normed)
            .build(scope);
    Linear project = weights.head().product().input(normed).out(logits).build(scope);
    RowStats stats = RowStats.builder().logits(logits).out(statistics).build(scope);
    run = stream -> {
      norm.run(stream);
      project.run(stream);
      stats.run(stream);
    };
  }

  /**
   * The same for who guesses tokens, without logits.
   *
   * @param translator of the states; null: they are seen as they are
   * @param shortlist [N] tokens that are looked at alone; null: all are
   */
  public Head(Scope scope, LlamaWeights weights, Tensor hidden, Tensor translator,
      Tensor translatorBias, Tensor shortlist) {
    statistics = Statistics.allocate(
        scope, weights.device(), hidden.size(0), Statistic.ARGMAX, Statistic.P1);
    run = head(weights, hidden)
              .translator(translator, translatorBias, ExitHead.Translate.RMS)
              .shortlist(shortlist)
              .out(statistics)
              .build(scope)::run;
    bytes = bytes(weights, shortlist == null ? 0 : (int) shortlist.size(0))
        + (translator == null ? 0 : translator.byteSize());
    logits = null;
    certified = null;
    certificate = null;
  }

  /** What a head of {@code tokens} tokens reads; 0: of all. */
  public static long bytes(LlamaWeights weights, int tokens) {
    Weight head = weights.head();
    return tokens == 0 ? head.bytes() : head.bytes() / head.rows() * tokens;
  }

  /** The head with its screen, of normed states. */
  static ExitHead.Builder screened(LlamaWeights weights, Tensor screen) {
    return ExitHead.builder()
        .weight(weights.head().tensor())
        .weightBlocks(weights.head().blocks())
        .screenImage(screen)
        .screenBudget((int) Math.max(1, weights.head().rows() / BUDGET));
  }

  /** The head of hidden states. */
  static ExitHead.Builder head(LlamaWeights weights, Tensor hidden) {
    return ExitHead.builder()
        .hidden(hidden)
        .rmsNorm(weights.outputNorm(), weights.config().epsilon())
        .weight(weights.head().tensor())
        .weightBlocks(weights.head().blocks());
  }

  /** Runs on the CPU. */
  public void run() {
    run(Stream.DEFAULT);
  }

  public void run(Stream stream) {
    run.accept(stream);
  }

  /** What the last run found for a row on the CPU becomes that of another. */
  void copy(int from, int to) {
    for (Statistic statistic : Statistic.values()) {
      copy(statistics.get(statistic), from, to);
    }
    copy(logits, from, to);
  }

  private static void copy(Tensor rows, int from, int to) {
    if (rows != null) {
      rows.rows(to, to + 1).copyFrom(rows.rows(from, from + 1), Stream.DEFAULT);
    }
  }

  /** What the last run found, [R] each. */
  public Statistics statistics() {
    return statistics;
  }

  /** Bytes of weights that the last run read, or of a screen and of rows that it left to see. */
  long bytesRead() {
    long read = bytes;
    for (int row = 0; certificate != null && row < certificate.rowsRead.capacity(); row++) {
      read += certificate.rowsRead.get(row) * certificate.rowBytes;
    }
    return read;
  }

  /** Of each row, whether the last run could do without the head, [R]; null without a screen. */
  public Tensor certificates() {
    return certified;
  }

  /** For how many rows the last run could do without the head. */
  int certified() {
    int count = 0;
    for (int row = 0; certificate != null && row < certificate.certified.capacity(); row++) {
      count += certificate.certified.get(row) != 0 ? 1 : 0;
    }
    return count;
  }

  /** The logits of the last run, [R,V]; null if they are not kept. */
  public Tensor logits() {
    return logits;
  }
}
