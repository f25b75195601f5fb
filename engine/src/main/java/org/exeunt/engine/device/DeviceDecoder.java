// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.device;

import java.nio.ByteBuffer;
import java.nio.IntBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Event;
import org.exeunt.ExitRule;
import org.exeunt.FfnSkipRule;
import org.exeunt.Graph;
import org.exeunt.InputRounding;
import org.exeunt.KvLength;
import org.exeunt.KvPropagate;
import org.exeunt.RowCompaction;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.exeunt.engine.answer.Answer;
import org.exeunt.engine.decode.DecodeWork;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.decode.Head;
import org.exeunt.engine.decode.Propagation;
import org.exeunt.engine.layer.KvState;
import org.exeunt.engine.layer.LayerStack;
import org.exeunt.engine.layer.RopeTables;
import org.exeunt.engine.layer.Rows;
import org.exeunt.engine.layer.Switches;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.WeightCopies;
import org.exeunt.engine.policy.KvPolicy;
import org.exeunt.engine.policy.Schedule;

/**
 * Answers one prompt on a GPU. A step is queued once, captured the next time, and launched as a
 * whole from then on: where its token stands, whether it leaves early, what it then owes the layers
 * above, which feed-forward blocks it passes and which token is next is decided in device memory,
 * and the host reads the token only to show it. Of layers that go by position alone there is a
 * graph for each list of them.
 *
 * <p>A graph runs all of its kernels. A token that a rule has let go stays what it is: attention
 * sees nothing for it, and feed-forward blocks let it pass and read no weights. So the layers above
 * make the very keys and values that it owes them, where it has to pay, and else they get no slot.
 * What has no such switch, attention's products and the head, is computed in vain.
 *
 * <p>Not thread-safe.
 */
public final class DeviceDecoder implements Answer {
  private final Scope scope = Scope.open();
  private final LlamaWeights weights;
  private final LlamaConfig config;
  private final DecoderOptions options;
  private final int capacity;
  private final Device device;
  private final Stream stream;
  private final Event reached;
  private final Workspace workspace;
  private final KvState kv;
  private final RopeTables ropeTables;
  private final PromptRows prompts;
  private final Rows rows;
  private final LayerStack stack;
  private final Map<List<Integer>, Step> steps = new HashMap<>();
  private final DecodeWork work;

  // What a step counts by itself: the next position, and the next token of the answer.
  private final Tensor positions;
  private final Tensor answered;
  private final Tensor sees; // tokens up to this one
  private final KvLength tick;
  private final KvLength tock; // null: not asked

  private final Tensor exited; // [1,D], the state that the token has reached or left with
  private final Leaving leaving; // null: no token leaves by a rule
  private final ExitRule mark; // null: no token leaves by its position
  private final KvPropagate propagate; // null: nothing is owed, not paid, or paid by the layers
  private final Head head;
  private final GumbelNoise.Lane noise; // null: the most probable token
  private final DrawnHead draw; // null as well
  private final Tensor chosen;

  // What the host reads.
  private final Tensor exitDepth;
  private final Tensor skips;
  private final Tensor tokenSeen;
  private final Tensor depthSeen;
  private final Tensor skipsSeen;
  private final Tensor provenSeen;
  private final IntBuffer token;
  private final IntBuffer depth;
  private final IntBuffer skipState;
  private final ByteBuffer proven;

  private int[][] layersOf; // by position
  private int position;
  private Step running; // of which the host has not heard; null: none
  private long launches;

  /**
   * Prepares for {@code capacity} tokens.
   *
   * @param weights on the device, see {@link LlamaWeights#on}
   * @param draws null: the most probable token
   * @throws IllegalArgumentException if the options contradict each other, the model or the device
   */
  public DeviceDecoder(
      LlamaWeights weights, DecoderOptions options, int capacity, GumbelNoise draws) {
    this.weights = weights;
    this.options = options;
    this.capacity = capacity;
    config = weights.config();
    device = weights.device();
    Stream queue = null;
    Event event = null;
    try {
      check(options, config);
      if (capacity < 1 || capacity > config.context()) {
        throw new IllegalArgumentException("a sequence of " + capacity + " tokens is not between 1 "
            + "and the model's context of " + config.context());
      }
      queue = Stream.create(device);
      stream = queue;
      event = Event.create(device);
      reached = event;
      workspace = Workspace.in(scope, device);
      kv = new KvState(scope, weights, 1, capacity);
      ropeTables = new RopeTables(scope, weights, capacity);
      prompts = new PromptRows(scope, weights, ropeTables, options.ffnSkip(), stream, capacity);
      rows = prompts.rows();
      positions = counter();
      answered = counter();
      sees = counter();
      tick = next(positions).slot(rows.position(1)).visible(sees).build(scope, workspace);
      exited = scope.allocate(device, DType.F32, 1, config.width());
      head = new Head(scope, weights, exited, false,
          options.screen() == null
              ? null
              : new WeightCopies(scope, device).of(options.screen().image()));
      exitDepth = counter();
      skips = FfnSkipRule.allocateState(scope, device, 1);
      boolean leaves = options.exit().readsHead();
      Tensor ordinal = leaves ? counter() : null;
      tock = leaves ? next(answered).slot(ordinal).build(scope, workspace) : null;
      leaving = leaves ? new Leaving(ordinal) : null;
      stack = new LayerStack(scope, workspace, weights, ropeTables, kv, rows, 1, options.ffnSkip(),
          false, leaves ? leaving.switches() : Switches.of(rows, 1, options.ffnSkip()), false);
      boolean fixed = options.exit().mayLeave() && !leaves;
      mark = fixed ? mark() : null;
      propagate = fixed && options.kv() == KvPolicy.PROPAGATE ? propagate() : null;
      noise =
          draws == null ? null : new GumbelNoise.Lane(scope, device, config.vocabulary(), draws);
      draw =
          draws == null ? null : new DrawnHead(scope, workspace, weights, exited, noise.tensor());
      chosen = draws == null ? head.statistics().argmax() : draw.tokens();
      tokenSeen = scope.allocatePinned(device, DType.I32, 1);
      depthSeen = scope.allocatePinned(device, DType.I32, 1);
      skipsSeen = scope.allocatePinned(device, DType.I32, skips.shape());
      provenSeen = scope.allocatePinned(device, DType.U8, 1).copyFrom(new int[1]);
      Stream.DEFAULT.synchronize();
    } catch (RuntimeException | Error e) {
      if (event != null) {
        event.close();
      }
      if (queue != null) {
        queue.close();
      }
      scope.close();
      throw e;
    }
    work = new DecodeWork(weights);
    token = tokenSeen.intBuffer();
    depth = depthSeen.intBuffer();
    skipState = skipsSeen.intBuffer();
    proven = provenSeen.byteBuffer();
  }

  /** Refuses, with an {@link IllegalArgumentException}, what runs on the CPU alone. */
  public static void check(DecoderOptions options, LlamaConfig config) {
    options.check();
    String alone = null;
    if (config.isGemma()) {
      alone = "Gemma 3, whose windows and sums the host makes";
    } else if (options.exit().mayLeave() && options.kv() == KvPolicy.RECOMPUTE) {
      alone = "recomputing keys and values, where the host counts who waits";
    } else if (options.drop() != null) {
      alone = "dropping tokens of a prompt, about which the host decides";
    } else if (options.keepLogits() || options.observer() != null) {
      alone = "handing out logits or states";
    } else if (options.promptInputs() != InputRounding.INT16) {
      alone = "inputs of 8 bits";
    }
    if (alone != null) {
      throw new IllegalArgumentException("the decoder's graphs leave to the CPU: " + alone);
    }
  }

  private Tensor counter() {
    return scope.allocate(device, DType.I32, 1).copyFrom(new int[1]);
  }

  /** Counts on: what a cache does with its slots does for positions, too. */
  private KvLength.Builder next(Tensor counter) {
    return KvLength.advance(capacity).length(counter);
  }

  /** A rule that notes a depth, whatever it is asked. */
  private ExitRule mark() {
    return ExitRule.builder()
        .score(scope.allocate(device, DType.F32, 1).copyFrom(new float[1]))
        .threshold(ExitRule.Comparator.GE, 0)
        .state(ExitRule.allocateState(scope, device, 1))
        .exitLayer(exitDepth)
        .build(scope, workspace);
  }

  private KvPropagate propagate() {
    if (!Propagation.alike(weights.layers())) {
      throw new IllegalArgumentException("the decoder's graphs leave to the CPU: keys and values "
          + "that are owed where a file mixes blocks and elements");
    }
    return Propagation.ofAll(weights, kv)
        .hidden(exited)
        .exitLayer(exitDepth)
        .slot(rows.slot(1)) // the same in all layers
        .rope(ropeTables.of(0), config.architecture().ropeStyle(), rows.position(1))
        .build(scope, workspace);
  }

  /** A rule that is asked after some layers, and the switches of a token that it lets go. */
  private final class Leaving {
    /** 0 while the token stays, then -1: a list of the rows that stay. */
    private final Tensor staying = scope.allocate(device, DType.I32, 1);
    private final ExitRule rule;
    private final RowCompaction reach = whileItStays(rows.hidden(1), exited);
    private final RowCompaction skipped = whileItStays(rows.skipState(1), skips);
    /** Whether feed-forward blocks let the token pass. */
    private final Switch passing;
    /** Whether layers keep keys and values of the token; null: they all do. */
    private final Switch active;
    /** What attention sees; null: what the layer's cache holds. */
    private final Switch visible;
    private boolean asked;

    Leaving(Tensor ordinal) {
      Tensor zero = scope.allocate(device, DType.U8, 1).copyFrom(new int[1]);
      Tensor one = scope.allocate(device, DType.U8, 1).copyFrom(new int[] {1});
      passing = new Switch(options.ffnSkip() == null ? zero : rows.skip(1), one);
      boolean forgets = options.kv() == KvPolicy.NONE;
      active = forgets ? new Switch(one, zero) : null;
      Tensor nothing = scope.allocate(device, DType.I32, 1).copyFrom(new int[] {-1});
      visible = forgets ? null : new Switch(sees, nothing);
      rule =
          options.exit()
              .rule(head.statistics(), null, ordinal)
              .state(ExitRule.allocateState(scope, device, 1))
              .activeList(staying)
              .exitLayer(exitDepth)
              .build(scope, workspace);
    }

    /** A copy that is made unless the token has left. */
    private RowCompaction whileItStays(Tensor from, Tensor to) {
      return RowCompaction.scatter().input(from).list(staying).out(to).build(scope, workspace);
    }

    /** One value while the token stays, and another when it has left. */
    private final class Switch {
      private final Tensor on;
      private final Tensor off;
      private final Tensor now;
      private final RowCompaction keep;

      Switch(Tensor on, Tensor off) {
        this.on = on;
        this.off = off;
        now = scope.allocate(device, on.dtype(), 1);
        keep = whileItStays(on.reshape(1, 1), now.reshape(1, 1));
      }

      void set() {
        now.copyFrom(asked ? off : on, stream);
        if (asked) {
          keep.run(stream);
        }
      }
    }

    Switches switches() {
      return new Switches(active == null ? null : active.now,
          visible == null ? rows.visible(1) : visible.now, passing.now);
    }

    void begin() {
      asked = false;
      set();
    }

    private void set() {
      (active == null ? visible : active).set();
    }

    void ask(int after, boolean last) {
      if (asked) {
        reach.run(stream);
        skipped.run(stream);
      } else {
        exited.copyFrom(rows.hidden(1), stream);
        skips.copyFrom(rows.skipState(1), stream);
      }
      head.run(stream);
      rule.run(stream, after, !asked, last);
      asked = true;
      if (!last) {
        set();
      }
    }
  }

  /** What a token runs that meets some layers, in this order, queued once and then captured. */
  private final class Step {
    private final int[] layers;
    private int readings;
    private Graph graph;
    private boolean known; // to the device, which has loaded its kernels

    Step(int... layers) {
      this.layers = layers;
    }

    void run() {
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
    }

    private void queue() {
      readings = 0;
      tick.run(stream);
      if (leaving != null) {
        tock.run(stream);
        leaving.begin();
      }
      stack.embed(stream);
      decideSkips(0, true);
      for (int i = 0; i < layers.length; i++) {
        boolean last = i + 1 == layers.length;
        int after = layers[i] + 1;
        stack.run(layers[i], stream);
        boolean asks = leaving != null && (last || options.exit().asksAt(after));
        if (asks) {
          leaving.ask(after, last);
          readings++;
        }
        if (!last) {
          decideSkips(after, asks);
        }
      }
      if (leaving == null) {
        exited.copyFrom(rows.hidden(1), stream);
        skips.copyFrom(rows.skipState(1), stream);
      }
      if (mark != null) {
        mark.run(stream, layers.length, true, true);
      }
      if (propagate != null) {
        for (int layer = layers.length; layer < config.layers(); layer++) {
          stack.advance(layer, stream);
        }
        propagate.run(stream);
      }
      readings += choose(leaving == null) ? 1 : 0;
      depthSeen.copyFrom(exitDepth, stream);
      skipsSeen.copyFrom(skips, stream);
      if (options.screen() != null) {
        provenSeen.copyFrom(head.certificates(), stream);
      }
    }

    private void decideSkips(int layer, boolean changes) {
      stack.decideSkips(layer, stream);
      if (leaving != null && (changes || options.ffnSkip() != null)) {
        leaving.passing.set();
      }
    }

    void close() {
      if (graph != null) {
        graph.close();
      }
    }
  }

  /**
   * Queues the choice of the next token, and its way to the host.
   *
   * @param unread whether the head has not been read yet
   * @return whether that read the head
   */
  private boolean choose(boolean unread) {
    if (draw != null) {
      draw.run(stream);
    } else if (unread) {
      head.run(stream);
    }
    rows.token(1).copyFrom(chosen, stream);
    tokenSeen.copyFrom(chosen, stream);
    return draw != null || unread;
  }

  @Override
  public void begin(int... prompt) {
    requireRoom(prompt.length);
    if (prompt.length == 0) {
      throw new IllegalArgumentException("there is no token to begin with");
    }
    hear();
    if (layersOf == null) {
      layersOf = Schedule.tabulate(options.schedule(), prompt.length, capacity, config.layers());
    }
    exited.copyFrom(prompts.enter(kv, position, layersOf[position], prompt), stream);
    position += prompt.length;
    if (noise != null) {
      noise.send(stream);
    }
    choose(true);
    stream.synchronize();
    positions.copyFrom(new int[] {position});
    answered.copyFrom(new int[1]);
    Stream.DEFAULT.synchronize();
    reached.record(stream);
  }

  @Override
  public int next() {
    hear();
    return token.get(0);
  }

  @Override
  public void goOn() {
    hear();
    requireRoom(1);
    if (noise != null) {
      noise.send(stream);
    }
    running = stepAt(position);
    running.run();
    reached.record(stream);
    position++;
    if (noise != null) {
      noise.prepare(); // meanwhile
    }
  }

  private Step stepAt(int at) {
    int[] layers = mark == null
        ? layersOf[at]
        : IntStream.range(0, options.exit().depthAt(at, config.layers())).toArray();
    List<Integer> key = new ArrayList<>(layers.length);
    for (int layer : layers) {
      key.add(layer);
    }
    return steps.computeIfAbsent(key, unknown -> new Step(layers));
  }

  /** Waits for the step that runs, if any, and counts what it did. */
  private void hear() {
    reached.synchronize();
    if (running != null) {
      int layers = leaving == null ? running.layers.length : depth.get(0);
      int passed = options.ffnSkip() == null ? 0 : skipState.get(1);
      work.token(layers, layers - passed, running.readings, proven.get(0));
      running = null;
    }
  }

  /** How many steps were launches of a graph. */
  public long launches() {
    return launches;
  }

  /** The state that the last token has left with, [1,D]. */
  Tensor exited() {
    hear();
    return exited;
  }

  /** What the layers above have made of it, [1,D]. */
  Tensor hidden() {
    hear();
    return rows.hidden(1);
  }

  /** The keys and values. */
  public KvState kv() {
    return kv;
  }

  @Override
  public int position() {
    return position;
  }

  @Override
  public DecodeWork work() {
    hear();
    return work;
  }

  private void requireRoom(int tokens) {
    if (tokens > capacity - position) {
      throw new IllegalArgumentException(tokens + " more tokens after " + position + " exceed the "
          + capacity + " there is room for");
    }
  }

  @Override
  public void close() {
    try {
      stream.synchronize();
    } finally {
      steps.values().forEach(Step::close);
      reached.close();
      stream.close();
      scope.close();
    }
  }
}
