// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.device.speculate;

import java.util.List;
import java.util.stream.IntStream;
import org.exeunt.RowCompaction;
import org.exeunt.Stream;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.device.DeviceDecoder;
import org.exeunt.engine.device.PromptRows;
import org.exeunt.engine.layer.KvState;
import org.exeunt.engine.layer.RopeTables;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;

/** A second, smaller model with the same vocabulary and a cache of its own. */
final class DeviceModelDraft implements DeviceDraft {
  private final DeviceRound round;
  private final KvState kv;
  private final PromptRows prompts;
  private final int[] layers;
  private final DraftSteps steps;
  private final RowCompaction keep;
  private final List<RowCompaction> places;

  /**
   * @param weights of the second model, on the device of the first
   * @param stream where prompts are queued
   * @param least probability of a token after which more are drafted; 0: all are
   */
  DeviceModelDraft(DeviceRound round, LlamaWeights weights, Stream stream, float least) {
    LlamaConfig config = weights.config();
    DeviceDecoder.check(DecoderOptions.FULL, config);
    int vocabulary = round.weights.config().vocabulary();
    if (config.vocabulary() != vocabulary) {
      throw new IllegalArgumentException("the model that drafts has " + config.vocabulary()
          + " tokens, the one that verifies " + vocabulary);
    }
    int capacity = round.kv.capacity();
    if (capacity > config.context()) {
      throw new IllegalArgumentException("a sequence of " + capacity
          + " tokens exceeds the context "
          + "of " + config.context() + " of the model that drafts");
    }
    this.round = round;
    kv = new KvState(round.scope, weights, round.sequences, capacity);
    RopeTables ropeTables = new RopeTables(round.scope, weights, capacity);
    prompts = new PromptRows(round.scope, weights, ropeTables, null, stream, capacity);
    layers = IntStream.range(0, config.layers()).toArray();
    steps = new DraftSteps(round, weights, kv, ropeTables, layers.length, least);
    keep = round.keep(kv);
    places = round.placeTokens();
  }

  @Override
  public void queue(Stream stream) {
    keep.run(stream);
    steps.queue(stream, i -> {});
    places.forEach(place -> place.run(stream));
  }

  @Override
  public int depth() {
    return 0;
  }

  @Override
  public int readings() {
    return round.longest;
  }

  @Override
  public void begin(int sequence, int token, int... prompt) {
    for (int layer : layers) {
      kv.length(layer, sequence, sequence + 1).copyFrom(new int[1]);
    }
    Stream.DEFAULT.synchronize();
    prompts.enter(kv.alone(sequence), 0, layers, prompt);
  }
}
