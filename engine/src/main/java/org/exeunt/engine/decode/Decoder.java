// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import java.nio.ByteBuffer;
import java.nio.IntBuffer;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.stream.IntStream;
import org.exeunt.Device;
import org.exeunt.InputRounding;
import org.exeunt.KvCache;
import org.exeunt.Scope;
import org.exeunt.Statistics;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.exeunt.engine.drop.PromptPass;
import org.exeunt.engine.layer.KvFork;
import org.exeunt.engine.layer.KvState;
import org.exeunt.engine.layer.LayerObserver;
import org.exeunt.engine.layer.LayerStack;
import org.exeunt.engine.layer.RopeTables;
import org.exeunt.engine.layer.RowMover;
import org.exeunt.engine.layer.Rows;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.policy.KvPolicy;
import org.exeunt.engine.policy.Schedule;

/**
 * Runs some sequences through a decoder of the Llama or Gemma 3 family, leaving out what a policy
 * says: layers above an exit, layers of a schedule, feed-forward blocks. Everything but
 * plain sums is computed by exeunt's ops.
 *
 * <p>A prompt goes in with {@link #prefill}, at full depth (or that of the schedule); each {@link
 * #step} then takes one token of every sequence. What came out lies in {@link #statistics()}, one
 * row for each sequence, until the next call. A step allocates nothing on the heap once the numbers
 * of rows it needs have occurred.
 *
 * <p>Where weights are in place, and their file changes, prompts and steps throw a {@link
 * org.exeunt.engine.model.io.ModelChangedException}. Not thread-safe; the ops use exeunt's own threads.
 */
public final class Decoder implements AutoCloseable {
  private static final int PREFILL_ROWS = 256;

  /** With more, a row's bits may depend on how many there are (linear.h). */
  private static final int MOST_PASS_ROWS = 64;

  /** Tokens of each sequence that may wait; with more, the next ones run all layers. */
  private static final int WAITING = 32;

  private final Scope scope = Scope.open();
  private final Workspace workspace = Workspace.in(scope, Device.CPU); // layers run one by one
  private final LlamaWeights weights;
  private final LlamaConfig config;
  private final DecoderOptions options;
  private final int sequences;
  private final int capacity;
  private final int mostWaiting;
  private final KvState kv;
  private final KvFork forks;
  private final RopeTables ropeTables;
  private final Rows rows;
  private final Exits exits;
  private final RowMover mover;
  private final DecodeWork work;
  private final Map<Integer, LayerStack> stacks = new HashMap<>();
  private final Map<Integer, LayerStack> promptStacks; // the same one if nothing sets prompts apart
  private final Map<Integer, RowHead> rowHeads = new HashMap<>();
  private final Map<Integer, RowHead> draftHeads = new HashMap<>();
  private final IntBuffer argmax;
  private final ByteBuffer skips;
  private final int[] position;
  private final int[] staying;
  private final int[][][] layersOf; // by sequence and position
  private final Propagation propagation;
  private final Waiting[] waiting; // by the number of layers run
  private final WaitingDoor door;
  private int skipped; // rows that the last feed-forward block let pass
  private LayerObserver watcher; // null: none
  private boolean prompting; // the rows are those of a prompt
  private int older; // rows in front that have been waiting, and whose token is known already

  /**
   * Prepares for {@code sequences} sequences of up to {@code capacity} tokens.
   *
   * @throws IllegalArgumentException if the options contradict each other or the model
   */
  public Decoder(LlamaWeights weights, DecoderOptions options, int sequences, int capacity) {
    this(weights, options, sequences, capacity, new DecodeWork(weights));
  }

  private Decoder(
      LlamaWeights weights, DecoderOptions options, int sequences, int capacity, DecodeWork work) {
    this.work = work;
    this.weights = weights;
    this.options = options;
    this.sequences = sequences;
    this.capacity = capacity;
    mostWaiting = WAITING * sequences;
    config = weights.config();
    promptStacks = options.promptInputs() == InputRounding.INT16 ? stacks : new HashMap<>();
    if (capacity < 1 || capacity > config.context()) {
      scope.close();
      throw new IllegalArgumentException("a sequence of " + capacity + " tokens is not between 1 "
          + "and the model's context of " + config.context());
    }
    try {
      options.check(config, options.screen() != null);
      if (promptStacks != stacks && !weights.isQuantised()) {
        throw new IllegalArgumentException("inputs of 8 bits are for quantised weights, but no "
            + "matrix of the model's layers is quantised");
      }
      kv = new KvState(scope, weights, sequences, capacity);
      forks = new KvFork(kv, config.layers());
      ropeTables = new RopeTables(scope, weights, capacity);
      int prefillRows = options.drop() == null ? PREFILL_ROWS : capacity;
      rows = new Rows(scope, weights, Math.max(prefillRows, sequences + mostWaiting));
      exits = new Exits(scope, weights, options, sequences);
      mover = new RowMover(scope, rows, exits.hidden());
      propagation = options.exit().mayLeave() && options.kv() == KvPolicy.PROPAGATE
          ? new Propagation(scope, weights, kv, ropeTables, exits, sequences)
          : null;
      door = new WaitingDoor(scope, rows.capacity());
      waiting = waitingPlaces();
    } catch (RuntimeException | Error e) {
      scope.close();
      throw e;
    }
    argmax = exits.head().statistics().argmax().intBuffer();
    skips = rows.skip(rows.capacity()).byteBuffer();
    position = new int[sequences];
    staying = new int[rows.capacity()];
    layersOf = new int[sequences][][];
  }

  private Waiting[] waitingPlaces() {
    Waiting[] places = new Waiting[config.layers() + 1];
    if (options.exit().mayLeave() && options.kv() == KvPolicy.RECOMPUTE) {
      for (int depth = 0; depth < places.length; depth++) {
        if (options.exit().asksAt(depth)) {
          places[depth] = new Waiting(scope, mostWaiting, rows.allHidden(), mover.staging(), door);
        }
      }
    }
    return places;
  }

  // ---- running

  /**
   * Appends {@code ids} to a sequence; the result is that of the last one.
   *
   * @throws IllegalArgumentException if there is no id, no room for all of them, or tokens are
   *     dropped and the sequence has begun already: a prompt must then come whole
   */
  public void prefill(int sequence, int... ids) {
    finish();
    requireRoom(sequence, ids.length);
    forks.leave(sequence);
    if (ids.length == 0) {
      throw new IllegalArgumentException("there is no token to begin with");
    }
    if (layersOf[sequence] == null) {
      layersOf[sequence] =
          Schedule.tabulate(options.schedule(), ids.length, capacity, config.layers());
    }
    prompting = true;
    try {
      runPrompt(sequence, ids);
    } finally {
      prompting = false;
    }
    mover.copyToExits(rows.count() - 1);
    rows.clear();
    exits.prompted(sequence);
    exits.head().run(Stream.DEFAULT);
    weights.checkUnchanged();
  }

  private void runPrompt(int sequence, int... ids) {
    if (options.drop() != null) {
      dropping(sequence, ids);
      return;
    }
    int[] layers = layersOf[sequence][position[sequence]];
    for (int from = 0; from < ids.length; from += PREFILL_ROWS) {
      enter(sequence, Arrays.copyOfRange(ids, from, Math.min(ids.length, from + PREFILL_ROWS)));
      for (int layer : layers) {
        runLayer(layer);
      }
    }
  }

  /**
   * Makes other sequences what {@code from} is: its tokens, keys and values, and what came out last.
   *
   * @throws IllegalArgumentException if {@code from} has no tokens or is among {@code to}
   */
  public void fork(int from, int... to) {
    finish();
    for (int s : to) {
      if (s == from || position[from] == 0) {
        throw new IllegalArgumentException("sequence " + from + " with " + position[from]
            + " tokens cannot be forked to sequence " + s);
      }
    }
    forks.run(from, to);
    for (int s : to) {
      position[s] = position[from];
      layersOf[s] = layersOf[from];
      exits.copy(from, s);
    }
  }

  /**
   * A decoder of some of the sequences, in this order: the keys and values of the others are given
   * back, and steps cost no more than these sequences need. This one is closed. What came out last
   * is forgotten, so a step or a prompt is what comes next.
   *
   * @throws IllegalArgumentException if there is none, one is not there or named twice, or an exit
   *     rule has decided of them together; this decoder stays as it is
   */
  public Decoder narrowed(int... kept) {
    if (kept.length == 0 || IntStream.of(kept).distinct().count() < kept.length
        || IntStream.of(kept).anyMatch(s -> s < 0 || s >= sequences) || options.exit().mayLeave()) {
      throw new IllegalArgumentException("sequences " + Arrays.toString(kept) + " of " + sequences
          + " cannot go on alone" + (options.exit().mayLeave() ? " with an exit rule" : ""));
    }
    Decoder fewer = new Decoder(weights, options, kept.length, capacity, work);
    try {
      KvFork.move(kv, fewer.kv, config.layers(), kept);
    } catch (RuntimeException | Error e) {
      fewer.close();
      throw e;
    }
    for (int i = 0; i < kept.length; i++) {
      fewer.position[i] = position[kept[i]];
      fewer.layersOf[i] = layersOf[kept[i]];
    }
    fewer.watcher = watcher;
    close();
    return fewer;
  }

  /** Rows of one sequence set out. */
  private void enter(int sequence, int... ids) {
    rows.clear();
    for (int id : ids) {
      rows.add(id, sequence, position[sequence]++);
    }
    enter();
  }

  /** Takes a whole prompt through the layers, with a method that drops tokens on the way. */
  private void dropping(int sequence, int... ids) {
    if (position[sequence] > 0) {
      throw new IllegalArgumentException("sequence " + sequence + " has " + position[sequence]
          + " tokens already: a prompt from which tokens are dropped must come whole");
    }
    PromptPass.Layers layers = new PromptPass.Layers() {
      @Override
      public void enter(int to, int... tokens) {
        position[to] = 0;
        Decoder.this.enter(to, tokens);
      }

      @Override
      public void run(int layer) {
        runLayer(layer);
      }

      @Override
      public void project(int layer, KvCache keys) {
        stack().project(layer, Stream.DEFAULT);
        rows.appendTo(keys);
      }
    };
    try (PromptPass pass = new PromptPass(config, rows, kv, layers, sequence, ids)) {
      options.drop().run(pass);
      position[sequence] = pass.positions();
    }
  }

  /**
   * Appends one token to every sequence, but where the id is negative: such a sequence stays as it
   * is, which only goes where no token leaves early.
   *
   * @throws IllegalArgumentException if there is not one id for each sequence, or no room
   */
  public void step(int... ids) {
    if (ids.length != sequences) {
      throw new IllegalArgumentException(ids.length + " tokens for " + sequences + " sequences");
    }
    int going = 0;
    for (int id : ids) {
      going += id >= 0 ? 1 : 0;
    }
    if (going == 0 || going < sequences && options.exit().mayLeave()) {
      throw new IllegalArgumentException("tokens for " + going + " of " + sequences + " sequences"
          + (going == 0 ? "" : ", with an exit rule that judges all of them"));
    }
    int[] layers = null;
    rows.clear();
    older = 0;
    for (int s = 0; s < sequences; s++) {
      if (ids[s] < 0) {
        continue;
      }
      requireRoom(s, 1);
      // Where sequences disagree, the longest list holds what each of them needs.
      int[] own = layersOf[s][position[s]];
      layers = layers == null || own.length > layers.length ? own : layers;
      exits.begin(s, position[s]);
      rows.add(ids[s], s, position[s]++);
      work.token();
    }
    enter();
    descend(layers, waitingCount() + sequences <= mostWaiting);
    if (!options.exit().readsHead()) {
      readHead();
    }
    if (propagation != null) {
      propagation.run(work);
    }
    weights.checkUnchanged();
  }

  /** Forgets a sequence, so that another prompt may begin it. */
  public void restart(int sequence) {
    finish();
    forks.leave(sequence);
    position[sequence] = 0;
    layersOf[sequence] = null;
    kv.clear(sequence);
  }

  /** Runs the deep layers for tokens that still wait for them. */
  public void finish() {
    if (waitingCount() > 0) {
      rows.clear();
      older = 0;
      for (int layer = 0; layer < config.layers(); layer++) {
        join(layer);
        if (rows.count() > 0) {
          runLayer(layer);
          count(layer);
        }
      }
      rows.clear();
    }
  }

  private void enter() {
    stack().embed(Stream.DEFAULT);
    stack().decideSkips(0, Stream.DEFAULT);
    observe(0);
  }

  /** Takes the rows through {@code layers} until every new token has left. */
  private void descend(int[] layers, boolean mayLeave) {
    for (int i = 0; i < layers.length && rows.count() > older; i++) {
      boolean last = i + 1 == layers.length;
      runLayer(layers[i]);
      count(layers[i]);
      int depth = layers[i] + 1;
      if (last || mayLeave && options.exit().asksAt(depth)) {
        leave(depth, last);
      } else {
        join(depth);
      }
    }
  }

  private void runLayer(int layer) {
    LayerStack stack = stack();
    stack.run(layer, Stream.DEFAULT);
    skipped = countSkipped();
    observe(layer + 1);
    if (layer + 1 < config.layers()) {
      stack.decideSkips(layer + 1, Stream.DEFAULT);
    }
  }

  private int countSkipped() {
    int count = 0;
    for (int row = 0; options.ffnSkip() != null && row < rows.count(); row++) {
      count += skips.get(row);
    }
    return count;
  }

  private void count(int layer) {
    work.layer(weights.layers().get(layer), rows.count(), rows.count() - skipped);
  }

  private LayerStack stack() {
    InputRounding inputs = prompting ? options.promptInputs() : InputRounding.INT16;
    return (prompting ? promptStacks : stacks)
        .computeIfAbsent(rows.count(),
            count
            -> new LayerStack(scope, workspace, weights, ropeTables, kv, rows, count,
                options.ffnSkip(), options.observer() != null, inputs));
  }

  private void observe(int depth) {
    if (options.observer() != null) {
      options.observer().reached(depth, rows);
    }
    if (watcher != null) {
      watcher.reached(depth, rows);
    }
  }

  // ---- leaving

  /** Asks who leaves after {@code depth} layers, and goes on with those who stay. */
  private void leave(int depth, boolean last) {
    mover.copyToExits(older);
    int stay = exits.ask(depth, last);
    if (options.exit().readsHead()) {
      work.head(exits.head(), sequences);
    }
    if (last) {
      rows.clear();
      return;
    }
    int leaving = rows.count() - older - stay;
    if (stay > 0) {
      join(depth); // before those who leave wait here too: they are younger
    }
    if (leaving > 0) {
      if (waiting[depth] != null) {
        letWait(depth, stay == 0);
      }
      keepStaying(stay == 0);
    }
  }

  /** @param all whether the older rows wait here too, since no row goes on that they could join */
  private void letWait(int depth, boolean all) {
    IntBuffer sequences = door.sequences();
    IntBuffer positions = door.positions();
    ByteBuffer mask = door.mask();
    for (int row = 0; row < rows.capacity(); row++) {
      boolean waits = row < rows.count() && (row < older ? all : exits.left(rows.sequenceOf(row)));
      mask.put(row, (byte) (waits ? 1 : 0));
      sequences.put(row, rows.sequenceOf(row));
      positions.put(row, rows.positionOf(row));
    }
    waiting[depth].push();
  }

  private void keepStaying(boolean none) {
    if (none) {
      rows.clear();
      older = 0;
      return;
    }
    int count = 0;
    for (int row = 0; row < rows.count(); row++) {
      if (row < older || !exits.left(rows.sequenceOf(row))) {
        staying[count++] = row;
      }
    }
    mover.keep(staying, count);
  }

  /**
   * Rows that wait after {@code depth} layers go on together with those that have come so far, and
   * in front of them: in each sequence, who waits deeper is older.
   */
  private void join(int depth) {
    Waiting place = waiting[depth];
    if (place != null && place.count() > 0) {
      int count = place.takeAll();
      mover.joinInFront(count, door.sequences(), door.positions());
      older += count;
    }
  }

  // ---- several tokens of each sequence in one pass, for who drafts

  /** Lets somebody look on at every layer, at prompts as well. */
  public void watch(LayerObserver observer) {
    watcher = observer;
  }

  /** No rows are on their way: those of a pass may be added, at most {@link #mostRows()}. */
  public void beginPass() {
    finish();
    rows.clear();
  }

  /** Adds a row for a token that {@code ahead} others of the pass, or of its past, precede. */
  public void addRow(int sequence, int id, int ahead) {
    rows.add(id, sequence, position[sequence] + ahead);
  }

  /** Looks the rows' tokens up. */
  public void embedRows() {
    enter();
  }

  /** Takes the rows through layers {@code from} to {@code to - 1}. */
  public void runRows(int from, int to) {
    for (int layer = from; layer < to; layer++) {
      runLayer(layer);
      count(layer);
    }
  }

  /**
   * Of the tokens a pass appended to a sequence, the first {@code kept} are its next ones, and all
   * layers forget the others.
   */
  public void keepTokens(int sequence, int kept, int appended) {
    position[sequence] += kept;
    kv.forget(sequence, appended - kept);
    for (int i = 0; i < kept; i++) {
      work.token();
    }
  }

  /** Forgets the last tokens of a sequence. */
  public void forget(int sequence, int tokens) {
    position[sequence] -= tokens;
    kv.forget(sequence, tokens);
  }

  /** What the rows of a pass are, and their residual streams. */
  public Rows rows() {
    return rows;
  }

  /** Most rows that one pass takes. */
  public int mostRows() {
    return Math.min(rows.capacity(), MOST_PASS_ROWS);
  }

  /** What the head finds for the rows, whatever layers they have run, for who draws a token. */
  public RowHead readRows() {
    return read(
        rowHeads, options.keepLogits(), options.screen() == null ? null : options.screen().image());
  }

  /** The same for who guesses one: statistics alone, and of the head itself. */
  public RowHead readDraftedRows() {
    return read(draftHeads, false, null);
  }

  private RowHead read(Map<Integer, RowHead> heads, boolean keepLogits, Tensor screen) {
    RowHead head = heads.computeIfAbsent(rows.count(),
        count -> new RowHead(new Head(scope, weights, rows.hidden(count), keepLogits, screen)));
    work.run(head.head(), rows.count());
    weights.checkUnchanged();
    return head;
  }

  public LlamaWeights weights() {
    return weights;
  }

  public DecoderOptions options() {
    return options;
  }

  /** How many sequences it runs. */
  public int sequences() {
    return sequences;
  }

  public int capacity() {
    return capacity;
  }

  private int waitingCount() {
    int count = 0;
    for (Waiting place : waiting) {
      count += place == null ? 0 : place.count();
    }
    return count;
  }

  private void readHead() {
    work.run(exits.head(), sequences);
  }

  // ---- results

  /** What the head found for the last token of each sequence, [S] each. */
  public Statistics statistics() {
    return exits.head().statistics();
  }

  /** The most probable next token of a sequence. */
  public int argmax(int sequence) {
    return argmax.get(sequence);
  }

  /** The logits of each sequence's next token, [S,V]; null unless the options keep them. */
  public Tensor logits() {
    return exits.head().logits();
  }

  /** How many layers the last token of a sequence ran, by the last {@link #step}. */
  public int exitDepth(int sequence) {
    return exits.depth(sequence);
  }

  /** Tokens of a sequence so far. */
  public int position(int sequence) {
    return position[sequence];
  }

  /** The keys and values. */
  public KvState kv() {
    return kv;
  }

  /** What the steps have cost so far. */
  public DecodeWork work() {
    return work;
  }

  private void requireRoom(int sequence, int tokens) {
    if (tokens > capacity - position[sequence]) {
      throw new IllegalArgumentException(tokens + " more tokens after " + position[sequence]
          + " exceed the " + capacity + " there is room for");
    }
  }

  @Override
  public void close() {
    scope.close();
  }
}
