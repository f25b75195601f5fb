// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import java.nio.IntBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.exeunt.Attention;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Embedding;
import org.exeunt.KvAppend;
import org.exeunt.KvCache;
import org.exeunt.Norm;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.exeunt.engine.layer.ScaledSum;

/**
 * A BERT encoder that runs a batch of sentences layer by layer, and goes on with those that stay.
 *
 * <p>Ops are built once for each number of rows that occurs: exactly where there are few, in steps
 * beyond, with rows that are off. A sentence's results do not depend on the others in its batch.
 */
public final class Encoder implements AutoCloseable {
  private static final int EXACT_UP_TO = 64;
  private static final int STEP = 16;

  private final Scope scope = Scope.open();
  private final Workspace workspace = Workspace.in(scope);
  private final EncoderWeights weights;
  private final EncoderConfig config;
  private final int sentences;
  private final int longest;
  private final KvCache cache;
  private final TokenRows rows;
  private final Map<Integer, Stack> stacks = new HashMap<>();
  private final Tensor pooled;
  private final Tensor length;
  private final IntBuffer lengths;
  private final Attention pool;
  private int layer;

  /**
   * Prepares for batches.
   *
   * @param sentences most of a batch
   * @param longest most tokens of a sentence
   */
  public Encoder(EncoderWeights weights, int sentences, int longest) {
    if (sentences < 1 || longest < 1 || longest > weights.positionCount()) {
      throw new IllegalArgumentException("sentences: " + sentences + ", longest: " + longest
          + ", but the model takes 1 or more of 1 to " + weights.positionCount() + " tokens");
    }
    this.weights = weights;
    this.sentences = sentences;
    this.longest = longest;
    config = weights.config();
    rows = new TokenRows(scope, config, built(Math.multiplyExact(sentences, longest)));
    cache = KvCache.contiguous(scope, Device.CPU, DType.F32, KvCache.Layout.HEAD_MAJOR, sentences,
        config.heads(), longest, config.headWidth());
    pooled = scope.allocate(Device.CPU, DType.F32, sentences, config.width());
    length = scope.allocate(Device.CPU, DType.I32, sentences);
    lengths = length.intBuffer();
    pool = buildPool();
  }

  /** How many rows ops are built for where {@code count} are in use. */
  private static int built(int count) {
    return count <= EXACT_UP_TO ? count : (count + STEP - 1) / STEP * STEP;
  }

  /** The mean over a sentence is what a query of zeros gets, to which all tokens are alike. */
  private Attention buildPool() {
    Tensor sentence = scope.allocate(Device.CPU, DType.I32, sentences);
    for (int s = 0; s < sentences; s++) {
      sentence.intBuffer().put(s, s);
    }
    float[] zeros = new float[sentences * config.width()];
    return Attention.builder()
        .query(scope.copyOf(zeros, sentences, config.heads(), config.headWidth()))
        .cache(cache)
        .scale(1)
        .sequence(sentence)
        .visible(length)
        .out(pooled.reshape(sentences, config.heads(), config.headWidth()))
        .build(scope, workspace);
  }

  /** The ops of a number of rows. */
  private final class Stack {
    private final Embedding words;
    private final Embedding positions;
    private final ScaledSum sum;
    private final Norm norm;
    private final List<EncoderLayer> layers = new ArrayList<>();
    private final KvAppend values;

    private Stack(int count) {
      Tensor hidden = rows.hidden(count);
      words = embedding(weights.words(), rows.token(count), hidden);
      positions = embedding(weights.positions(), rows.position(count), rows.positional(count));
      sum = new ScaledSum(1, hidden, rows.positional(count), hidden);
      norm = EncoderLayer.norm(scope, workspace, config, weights.embeddingNorm(), hidden);
      for (EncoderWeights.Layer of : weights.layers()) {
        layers.add(new EncoderLayer(scope, workspace, config, of, cache, rows, count));
      }
      Tensor heads = hidden.reshape(count, config.heads(), config.headWidth());
      values =
          cache.append()
              .k(heads)
              .v(heads)
              .sequence(rows.sentence(count))
              .slot(rows.slot(count))
              .build(scope, workspace);
    }

    private Embedding embedding(Tensor table, Tensor ids, Tensor out) {
      return Embedding.builder().table(table).ids(ids).out(out).scale(1).build(scope, workspace);
    }

    private void embed() {
      words.run();
      positions.run();
      sum.run();
      norm.run();
    }
  }

  private Stack stack() {
    return stacks.computeIfAbsent(built(rows.count()), Stack::new);
  }

  /**
   * Begins a batch: the embeddings of these sentences.
   *
   * @throws IllegalArgumentException if there are too many, one is empty or too long, or a token
   *     has no embedding
   */
  public void start(List<int[]> batch) {
    if (batch.isEmpty() || batch.size() > sentences) {
      throw new IllegalArgumentException(
          "batch: " + batch.size() + " sentences, not 1 to " + sentences);
    }
    for (int[] tokens : batch) {
      if (tokens.length < 1 || tokens.length > longest) {
        throw new IllegalArgumentException(
            "batch: a sentence of " + tokens.length + " tokens, not of 1 to " + longest);
      }
      for (int token : tokens) {
        if (token < 0 || token >= config.vocabulary()) {
          throw new IllegalArgumentException(
              "batch: token " + token + " of a vocabulary of " + config.vocabulary());
        }
      }
    }
    rows.fill(batch);
    for (int s = 0; s < sentences; s++) {
      lengths.put(s, s < batch.size() ? batch.get(s).length : 0);
    }
    layer = 0;
    stack().embed();
  }

  /** Whether any sentence is on its way. */
  public boolean isBusy() {
    return rows.count() > 0;
  }

  /** Runs the next layer, if any sentence is on its way, and says how many have run. */
  public int runLayer() {
    if (layer == config.layers()) {
      throw new IllegalStateException("all " + layer + " layers have run");
    }
    if (isBusy()) {
      stack().layers.get(layer).run();
    }
    return ++layer;
  }

  /** Fills {@link #pooled} from the layer run last. */
  public void pool() {
    if (isBusy()) {
      stack().values.run();
    }
    pool.run();
  }

  /** The mean state of each sentence of the batch, [sentences,D]; 0 where one has left. */
  public Tensor pooled() {
    return pooled;
  }

  /** Goes on without sentences for which {@code stays} is false. */
  public void keep(boolean[] stays) {
    for (int s = 0; s < sentences; s++) {
      if (!stays[s]) {
        lengths.put(s, 0);
      }
    }
    rows.keep(stays);
  }

  /** Most sentences of a batch. */
  public int sentences() {
    return sentences;
  }

  /** Most tokens of a sentence. */
  public int longest() {
    return longest;
  }

  /** Runs a batch through all layers and returns the mean state of each sentence. */
  public float[][] embed(List<int[]> batch) {
    start(batch);
    while (layer < config.layers()) {
      runLayer();
    }
    pool();
    float[][] means = new float[batch.size()][];
    for (int s = 0; s < means.length; s++) {
      means[s] = pooled.row(s).toFloatArray();
    }
    return means;
  }

  @Override
  public void close() {
    scope.close();
  }
}
