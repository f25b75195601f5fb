// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.device.speculate;

import java.nio.ByteBuffer;
import java.nio.IntBuffer;
import java.util.Arrays;
import java.util.function.IntPredicate;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Event;
import org.exeunt.Graph;
import org.exeunt.KvLength;
import org.exeunt.RowCompaction;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.Verify;
import org.exeunt.Workspace;
import org.exeunt.engine.decode.DecodeWork;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.decode.Head;
import org.exeunt.engine.device.DeviceDecoder;
import org.exeunt.engine.device.DrawnHead;
import org.exeunt.engine.device.GumbelNoise;
import org.exeunt.engine.device.PromptRows;
import org.exeunt.engine.layer.KvState;
import org.exeunt.engine.layer.LayerStack;
import org.exeunt.engine.layer.RopeTables;
import org.exeunt.engine.layer.Switches;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.WeightCopies;
import org.exeunt.engine.speculate.DeviceSpeculation;
import org.exeunt.engine.speculate.Rounds;
import org.exeunt.engine.speculate.Speculation;

/**
 * Rounds on a GPU. A round is queued once, captured the next time, and launched as a whole from then
 * on: what is drafted, how much of it is right, where the next round begins and who has ended is
 * decided in device memory. The host reads tokens to show them, while the next round runs; only
 * drawn tokens wait for it, since a round's noise begins where the one before has ended.
 *
 * <p>The tokens, drawn ones as well, and the keys and values are those of a {@link DeviceDecoder},
 * bit for bit: no row's result depends on other rows.
 *
 * <p>Not thread-safe.
 */
public final class DeviceSpeculativeDecoder implements Rounds {
  private static final int IN_FLIGHT = 2;

  private final Scope scope = Scope.open();
  private final LlamaWeights weights;
  private final LlamaConfig config;
  private final int sequences;
  private final int capacity;
  private final int longest;
  private final Stream stream;
  private final Event[] ended = new Event[IN_FLIGHT];
  private final KvState kv;
  private final PromptRows prompts;
  private final int[] allLayers;

  private final DeviceRound round;
  private final DeviceDraft draft;
  private final LayerStack stack;
  private final Tensor ahead;
  private final KvLength tick;
  private final Head head; // null: tokens are drawn
  private final GumbelNoise.Lanes noise; // null: the most probable token
  private final DrawnHead drawn; // null as well
  private final Verify verify;
  private final KvLength bound;
  private final RowCompaction keep;
  private Graph graph;
  private boolean known; // to the device, which has loaded its kernels

  private final Tensor exited; // [1,D], what a prompt's last token has become
  private final Head promptHead; // null: tokens are drawn
  private final DrawnHead promptDraw; // null: the most probable token
  private final Tensor firstSeen;

  private final Tensor[] seen = new Tensor[IN_FLIGHT];
  private final IntBuffer[] numbers = new IntBuffer[IN_FLIGHT];
  private final Tensor[] provenSeen = new Tensor[IN_FLIGHT]; // null: no screen
  private final ByteBuffer[] proven = new ByteBuffer[IN_FLIGHT];
  private final int[][] settled;
  private final int[] settledCount;
  private final int[] position;
  private final boolean[] going;
  private final long[] since; // rounds that a sequence's prompt came after
  private final DecodeWork work;
  private long launched;
  private long heard;
  private long launches;
  private long drafted;
  private long accepted;
  private long verifications;

  /**
   * Prepares for some sequences of {@code capacity} tokens each.
   *
   * @param weights on the device, see {@link LlamaWeights#on}
   * @param drafting those of a second model on the same device, where one drafts
   * @param ends tokens that end an answer
   * @param draws one for each sequence; none: the most probable token
   * @throws IllegalArgumentException if the options contradict each other, the model or the device
   */
  public DeviceSpeculativeDecoder(LlamaWeights weights, DecoderOptions options, Speculation how,
      LlamaWeights drafting, int sequences, int capacity, int[] ends, GumbelNoise... draws) {
    this.weights = weights;
    this.sequences = sequences;
    this.capacity = capacity;
    config = weights.config();
    Device device = weights.device();
    Stream queue = null;
    try {
      check(options, config, how, capacity);
      DeviceSpeculation plan = how.onDevice(capacity);
      longest = plan.longest();
      queue = Stream.create(device);
      stream = queue;
      for (int i = 0; i < IN_FLIGHT; i++) {
        ended[i] = Event.create(device);
      }
      Workspace workspace = Workspace.in(scope, device);
      kv = new KvState(scope, weights, sequences, capacity);
      RopeTables ropeTables = new RopeTables(scope, weights, capacity);
      prompts = new PromptRows(scope, weights, ropeTables, null, stream, capacity);
      allLayers = IntStream.range(0, config.layers()).toArray();
      round = new DeviceRound(scope, workspace, weights, kv, ropeTables, longest);
      draft = draft(plan, drafting);
      int count = round.count();
      stack = new LayerStack(scope, workspace, weights, ropeTables, kv, round.rows, count, null,
          false, Switches.of(round.rows, count, null), true);
      ahead = round.integers(new int[sequences]);
      tick =
          KvLength.advance(capacity)
              .length(ahead)
              .sequence(round.rows.sequence(count))
              .slot(round.rows.position(count))
              .build(scope, workspace);
      exited = scope.allocate(device, DType.F32, 1, config.width());
      boolean draw = draws.length > 0;
      Tensor screen = options.screen() == null
          ? null
          : new WeightCopies(scope, device).of(options.screen().image());
      Tensor hidden = round.rows.hidden(count);
      head = draw ? null : new Head(scope, weights, hidden, false, screen);
      promptHead = draw ? null : new Head(scope, weights, exited, false, screen);
      noise = draw
          ? new GumbelNoise.Lanes(scope, device, config.vocabulary(), longest + 1, draws)
          : null;
      drawn = draw ? new DrawnHead(scope, workspace, weights, hidden, noise.tensor()) : null;
      promptDraw =
          draw ? new DrawnHead(scope, workspace, weights, exited, noise.tensor().rows(0, 1)) : null;
      verify = verify(workspace, ends);
      bound =
          KvLength.crop()
              .length(round.length)
              .limit(round.integers(capacity))
              .build(scope, workspace);
      keep = round.keep(kv);
      firstSeen = scope.allocatePinned(device, DType.I32, 1);
      for (int i = 0; i < IN_FLIGHT; i++) {
        seen[i] = scope.allocatePinned(device, DType.I32, round.seen.shape());
        numbers[i] = seen[i].intBuffer();
        if (screen != null) {
          provenSeen[i] = scope.allocatePinned(device, DType.U8, count);
          proven[i] = provenSeen[i].byteBuffer();
        }
      }
      Stream.DEFAULT.synchronize();
    } catch (RuntimeException | Error e) {
      closeQueue(queue);
      throw e;
    }
    settled = new int[sequences][(IN_FLIGHT + 1) * (longest + 2)];
    settledCount = new int[sequences];
    position = new int[sequences];
    going = new boolean[sequences];
    since = new long[sequences];
    work = new DecodeWork(weights);
  }

  /**
   * Refuses, with an {@link IllegalArgumentException}, what runs on the CPU alone, and drafts that
   * do not fit.
   */
  public static void check(
      DecoderOptions options, LlamaConfig config, Speculation how, int capacity) {
    DeviceDecoder.check(options, config);
    Speculation.check(options);
    if (capacity < 2 || capacity > config.context()) {
      throw new IllegalArgumentException("a sequence of " + capacity + " tokens is not between 2 "
          + "and the model's context of " + config.context());
    }
    DeviceSpeculation plan = how.onDevice(capacity);
    Speculation.checkRoom(plan.longest(), capacity);
  }

  /** @param drafting a second model; null: none drafts */
  private DeviceDraft draft(DeviceSpeculation plan, LlamaWeights drafting) {
    if (plan.ngram() > 0) {
      return new DeviceLookupDraft(round, plan.ngram());
    }
    return plan.layers() > 0
        ? new DeviceSelfDraft(round, plan.layers(), plan.least())
        : new DeviceModelDraft(round, drafting, stream, plan.least());
  }

  /**
   * Drafts may go beyond a sequence's end: rows there have no slot, and what comes out of them is
   * cut.
   */
  private Verify verify(Workspace workspace, int... ends) {
    Verify.Builder builder =
        Verify.builder()
            .drafted(round.drafted)
            .draftLength(round.draftLength)
            .active(round.active)
            .argmax(drawn == null ? head.statistics().argmax() : drawn.tokens())
            .accepted(round.accepted)
            .token(round.token)
            .out(round.out)
            .outCount(round.count)
            .outcome(round.outcome)
            .length(round.length)
            .capacity(capacity + longest)
            .vocabulary(config.vocabulary());
    if (ends.length > 0) {
      builder.stop(round.integers(ends));
    }
    return builder.build(scope, workspace);
  }

  private void queue() {
    ahead.copyFrom(round.length, stream);
    tick.run(stream);
    draft.queue(stream);
    if (draft.depth() == 0) {
      stack.embed(stream);
    }
    for (int layer = draft.depth(); layer < config.layers(); layer++) {
      stack.run(layer, stream);
    }
    if (drawn == null) {
      head.run(stream);
    } else {
      drawn.run(stream);
    }
    verify.run(stream);
    bound.run(stream);
    keep.run(stream);
  }

  private void launch() {
    for (int s = 0; noise != null && s < sequences; s++) {
      if (going[s]) {
        noise.send(s, stream);
      }
    }
    if (known && graph == null) {
      graph = Graph.capture(stream, this::queue);
    }
    if (graph == null) {
      queue();
      known = true;
    } else {
      graph.launch(stream);
      launches++;
    }
    int turn = (int) (launched++ % IN_FLIGHT);
    seen[turn].copyFrom(round.seen, stream);
    if (provenSeen[turn] != null) {
      provenSeen[turn].copyFrom(head.certificates(), stream);
    }
    ended[turn].record(stream);
  }

  @Override
  public void prefill(int s, int... ids) {
    if (ids.length == 0) {
      throw new IllegalArgumentException("there is no token to begin with");
    }
    requireRoom(ids.length, s);
    if (going[s] || position[s] > 0) {
      throw new IllegalArgumentException(
          "sequence " + s + " has " + position[s] + " tokens, and a prompt begins it");
    }
    stream.synchronize();
    exited.copyFrom(prompts.enter(kv.alone(s), 0, allLayers, ids), stream);
    if (noise != null) {
      noise.sendFirst(s, stream);
      promptDraw.run(stream);
    } else {
      promptHead.run(stream);
    }
    Tensor first = noise == null ? promptHead.statistics().argmax() : promptDraw.tokens();
    round.token.slice(0, s, s + 1).copyFrom(first, stream);
    firstSeen.copyFrom(first, stream);
    stream.synchronize();
    int token = firstSeen.toIntArray()[0];
    position[s] = ids.length;
    going[s] = token >= 0;
    since[s] = launched;
    settled[s][0] = token;
    settledCount[s] = 1;
    if (noise != null) {
      noise.took(s, 1);
    }
    draft.begin(s, token, ids);
    tell(s);
  }

  /** The device learns where a sequence stands. */
  private void tell(int s) {
    round.length.slice(0, s, s + 1).copyFrom(new int[] {position[s]});
    round.active.slice(0, s, s + 1).copyFrom(new int[] {going[s] ? 1 : 0});
    Stream.DEFAULT.synchronize();
  }

  /** No more tokens of this sequence are wanted. */
  public void end(int s) {
    stream.synchronize();
    going[s] = false;
    settledCount[s] = 0;
    tell(s);
  }

  @Override
  public void restart(int s) {
    position[s] = 0;
    end(s);
    since[s] = launched;
    for (int layer = 0; layer < config.layers(); layer++) {
      kv.length(layer, s, s + 1).copyFrom(new int[1]);
    }
    Stream.DEFAULT.synchronize();
  }

  @Override
  public void round() {
    boolean goes = false;
    for (int s = 0; s < sequences; s++) {
      if (going[s]) {
        requireRoom(1, s);
        goes = true;
      }
    }
    if (!goes) {
      throw new IllegalArgumentException(
          "of " + sequences + " sequences none goes on: each has ended, or has no prompt");
    }
    Arrays.fill(settledCount, 0);
    do {
      while (launched - heard < (noise == null ? IN_FLIGHT : 1)) {
        launch();
      }
      hear();
    } while (any(s -> since[s] >= heard)); // a prompt came after the round that was heard
    if (noise != null && any(s -> position[s] < capacity)) {
      launch();
      for (int s = 0; s < sequences; s++) {
        if (going[s]) {
          noise.prepare(s); // meanwhile
        }
      }
    }
  }

  /** Whether a sequence that has not ended is so. */
  private boolean any(IntPredicate so) {
    for (int s = 0; s < sequences; s++) {
      if (going[s] && so.test(s)) {
        return true;
      }
    }
    return false;
  }

  /** Waits for the next round, and reads what it found. */
  private void hear() {
    int turn = (int) (heard % IN_FLIGHT);
    ended[turn].synchronize();
    verifications++;
    int rows = 0;
    int certified = 0;
    for (int s = 0; s < sequences; s++) {
      if (!going[s] || heard < since[s]) {
        continue;
      }
      settle(s, numbers[turn]);
      for (int i = 0; i <= longest; i++, rows++) {
        certified += proven[turn] == null ? 0 : proven[turn].get(s * (longest + 1) + i);
      }
    }
    heard++;
    work.readings(1 + draft.readings(), rows, certified);
  }

  private void settle(int s, IntBuffer found) {
    int end = round.count();
    int room = capacity - position[s];
    int count = Math.min(found.get(end + s), room);
    for (int i = 0; i < count; i++) {
      settled[s][settledCount[s]++] = found.get(s * (longest + 1) + i);
    }
    position[s] += count;
    if (noise != null) {
      noise.took(s, count);
    }
    Verify.Outcome outcome = Verify.Outcome.of(found.get(end + 2 * sequences + s));
    if (outcome == Verify.Outcome.INVALID && count < room) {
      settled[s][settledCount[s]++] = -1;
    }
    going[s] = outcome != Verify.Outcome.INVALID && outcome != Verify.Outcome.STOPPED;
    drafted += found.get(end + 3 * sequences + s);
    accepted += Math.min(count, found.get(end + sequences + s));
    work.round(count, longest + 1);
  }

  private void requireRoom(int tokens, int s) {
    if (tokens > capacity - position[s]) {
      throw new IllegalArgumentException(tokens + " more token" + (tokens == 1 ? "" : "s")
          + " after " + position[s] + " exceed" + (tokens == 1 ? "s" : "") + " the " + capacity
          + " there is room for");
    }
  }

  @Override
  public int tokenCount(int sequence) {
    return settledCount[sequence];
  }

  @Override
  public int token(int sequence, int index) {
    return settled[sequence][index];
  }

  /** The tokens that the last call has found. */
  public int[] tokens(int sequence) {
    return Arrays.copyOf(settled[sequence], settledCount[sequence]);
  }

  /** Tokens of a sequence that were taken in. */
  public int position(int sequence) {
    return position[sequence];
  }

  @Override
  public long drafted() {
    return drafted;
  }

  @Override
  public long accepted() {
    return accepted;
  }

  @Override
  public long verifications() {
    return verifications;
  }

  /** How many rounds were launches of a graph. */
  public long launches() {
    return launches;
  }

  @Override
  public DecodeWork work() {
    return work;
  }

  /** The keys and values, which may be a round ahead. */
  public KvState kv() {
    stream.synchronize();
    return kv;
  }

  private void closeQueue(Stream queue) {
    for (Event event : ended) {
      if (event != null) {
        event.close();
      }
    }
    if (queue != null) {
      queue.close();
    }
    scope.close();
  }

  @Override
  public void close() {
    try {
      stream.synchronize();
    } finally {
      if (graph != null) {
        graph.close();
      }
      closeQueue(stream);
    }
  }
}
