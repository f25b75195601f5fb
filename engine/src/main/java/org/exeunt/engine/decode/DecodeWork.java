// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import org.exeunt.engine.model.LlamaWeights;

/** What decoding has cost so far, prefill not counted. Bytes are those of weights. */
public final class DecodeWork {
  private final LlamaWeights weights;
  private long tokens;
  private long layers;
  private long feedForwards;
  private long headReadings;
  private long rowsAsked;
  private long certified;
  private long bytes;
  private long headNanos;

  public DecodeWork(LlamaWeights weights) {
    this.weights = weights;
  }

  void token() {
    tokens++;
  }

  /** A token of a device, of which no bytes are counted. */
  public void token(int layersRun, int feedForwardsRun, int readings, int proven) {
    tokens++;
    layers += layersRun;
    feedForwards += feedForwardsRun;
    headReadings += readings;
    rowsAsked += readings;
    certified += proven;
  }

  /**
   * What a round of a device has found for a sequence, of which no bytes are counted.
   *
   * @param found tokens
   * @param rows that ran all layers
   */
  public void round(int found, int rows) {
    tokens += found;
    layers += (long) rows * weights.config().layers();
    feedForwards += (long) rows * weights.config().layers();
  }

  /** The head of a device was read for some rows, of which so many did without the whole of it. */
  public void readings(int readings, int rows, int proven) {
    headReadings += readings;
    rowsAsked += rows;
    certified += proven;
  }

  void layer(LlamaWeights.Layer layer, int rows, int running) {
    layers += rows;
    feedForwards += running;
    bytes += layer.attentionBytes() + (running > 0 ? layer.feedForwardBytes() : 0);
  }

  void head(Head head, int rows) {
    headReadings++;
    rowsAsked += rows;
    certified += head.certified();
    bytes += head.bytesRead();
  }

  /** Runs a head of so many rows. */
  public void run(Head head, int rows) {
    long begin = System.nanoTime();
    head.run();
    headNanos += System.nanoTime() - begin;
    head(head, rows);
  }

  /** What heads have taken that no exit rule asked. */
  public long headNanos() {
    return headNanos;
  }

  /** Keys and values of the layers from {@code first} on. */
  void propagation(int first) {
    for (int l = first; l < weights.layers().size(); l++) {
      bytes += weights.layers().get(l).keyValueBytes();
    }
  }

  /** Bytes of weights of another model. */
  public void other(long more) {
    bytes += more;
  }

  /** Tokens that were decoded. */
  public long tokens() {
    return tokens;
  }

  /** Layers run, summed over all tokens; attention runs in each. */
  public long layers() {
    return layers;
  }

  /** Feed-forward blocks run, summed over all tokens. */
  public long feedForwards() {
    return feedForwards;
  }

  /** Layers that tokens at full depth would have run. */
  public long layersAtFullDepth() {
    return tokens * weights.config().layers();
  }

  /** How often the language-model head was read. */
  public long headReadings() {
    return headReadings;
  }

  /** States that the head was asked about. */
  public long rowsAsked() {
    return rowsAsked;
  }

  /** Those of them whose argmax was proven without reading the whole head. */
  public long certified() {
    return certified;
  }

  /** Bytes of weights read. */
  public long bytes() {
    return bytes;
  }

  /** Bytes of weights that tokens at full depth, one at a time, would have read. */
  public long bytesAtFullDepth() {
    return tokens * weights.bytesPerToken();
  }
}
