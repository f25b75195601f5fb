// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests.fuzz;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.Supplier;
import org.exeunt.Attention;
import org.exeunt.AttentionScores;
import org.exeunt.Cosine;
import org.exeunt.CrossEntropy;
import org.exeunt.DType;
import org.exeunt.ExitHead;
import org.exeunt.ExitRule;
import org.exeunt.Ffn;
import org.exeunt.FfnSkipRule;
import org.exeunt.Gate;
import org.exeunt.Gather;
import org.exeunt.HiddenStack;
import org.exeunt.HiredBudget;
import org.exeunt.KvAppend;
import org.exeunt.KvCache;
import org.exeunt.KvCompact;
import org.exeunt.KvCopy;
import org.exeunt.KvLength;
import org.exeunt.KvPropagate;
import org.exeunt.LayerSchedule;
import org.exeunt.Linear;
import org.exeunt.Norm;
import org.exeunt.Op;
import org.exeunt.PerpGrad;
import org.exeunt.Rope;
import org.exeunt.RopeTable;
import org.exeunt.RowCompaction;
import org.exeunt.RowStats;
import org.exeunt.Select;
import org.exeunt.Selection;
import org.exeunt.StableMax;
import org.exeunt.Statistic;
import org.exeunt.Statistics;

/** A valid call of each op, with shapes, types and optional arguments as chance has them. */
final class Recipes {
  private static final DType[] STORAGE = {DType.F32, DType.F16, DType.BF16};

  private final Arena arena;
  private final Map<Class<? extends Op>, Supplier<Plan>> byOp = new LinkedHashMap<>();
  private Random random;

  Recipes(Arena arena) {
    this.arena = arena;
    byOp.put(Attention.class, this::attention);
    byOp.put(AttentionScores.class, this::attentionScores);
    byOp.put(Cosine.class, this::cosine);
    byOp.put(CrossEntropy.class, this::crossEntropy);
    byOp.put(ExitHead.class, this::exitHead);
    byOp.put(ExitRule.class, this::exitRule);
    byOp.put(Ffn.class, this::ffn);
    byOp.put(FfnSkipRule.class, this::ffnSkipRule);
    byOp.put(Gate.class, this::gate);
    byOp.put(Gather.class, this::gather);
    byOp.put(HiddenStack.class, this::hiddenStack);
    byOp.put(HiredBudget.class, this::hiredBudget);
    byOp.put(KvAppend.class, this::kvAppend);
    byOp.put(KvCompact.class, this::kvCompact);
    byOp.put(KvCopy.class, this::kvCopy);
    byOp.put(KvLength.class, this::kvLength);
    byOp.put(KvPropagate.class, this::kvPropagate);
    byOp.put(LayerSchedule.class, this::layerSchedule);
    byOp.put(Linear.class, this::linear);
    byOp.put(Norm.class, this::norm);
    byOp.put(PerpGrad.class, this::perpGrad);
    byOp.put(Rope.class, this::rope);
    byOp.put(RopeTable.class, this::ropeTable);
    byOp.put(RowCompaction.class, this::rowCompaction);
    byOp.put(RowStats.class, this::rowStats);
    byOp.put(Select.class, this::select);
    byOp.put(StableMax.class, this::stableMax);
  }

  /** The ops there is a recipe for. */
  List<Class<? extends Op>> ops() {
    return List.copyOf(byOp.keySet());
  }

  /** A valid plan of any op, over the arena, which it overwrites. */
  Plan any(Random chance) {
    return of(ops().get(chance.nextInt(byOp.size())), chance);
  }

  Plan of(Class<? extends Op> op, Random chance) {
    random = chance;
    arena.reset();
    Plan plan = byOp.get(op).get();
    List<Plan.Ending> endings = new ArrayList<>(List.of(Plan.Ending.values()));
    if (plan.runMethods().isEmpty()) {
      endings.remove(Plan.Ending.STEP);
    }
    plan.ending = endings.get(random.nextInt(endings.size()));
    return plan;
  }

  // ---- pieces -----------------------------------------------------------------------------------

  private boolean maybe() {
    return random.nextBoolean();
  }

  private int between(int least, int most) {
    return least + random.nextInt(most - least + 1);
  }

  /** Rows: few, none now and then, seldom more than a tile of them. */
  private int rows() {
    int draw = random.nextInt(20);
    return draw == 0 ? 0 : draw == 1 ? between(5, 70) : between(1, 4);
  }

  private int width() {
    return random.nextInt(8) == 0 ? between(10, 40) : between(1, 9);
  }

  private <T> T oneOf(T[] values) {
    return values[random.nextInt(values.length)];
  }

  private DType storage() {
    return oneOf(STORAGE);
  }

  private Spec tensor(String name, DType dtype, boolean written, long... shape) {
    long elements = Arrays.stream(shape).reduce(1, (a, b) -> a * b);
    Spec spec = new Spec(name, dtype, arena.take(elements * dtype.bytes()), written, shape);
    int at = (int) spec.offset;
    ByteBuffer memory = arena.memory();
    for (int i = 0; i < elements; i++, at += dtype.bytes()) {
      float value = random.nextFloat() * 4 - 2;
      switch (dtype) {
        case F32 -> memory.putFloat(at, value);
        case F64 -> memory.putDouble(at, value);
        case F16 -> memory.putShort(at, DType.floatToF16(value));
        case BF16 -> memory.putShort(at, DType.floatToBf16(value));
        case U8 -> memory.put(at, (byte) random.nextInt(2));
        case I32 -> memory.putInt(at, 0);
        default -> memory.putLong(at, 0);
      }
    }
    return spec;
  }

  private Spec in(String name, DType dtype, long... shape) {
    return tensor(name, dtype, false, shape);
  }

  private Spec out(String name, DType dtype, long... shape) {
    return tensor(name, dtype, true, shape);
  }

  /** Integers within bounds; nothing if there is none within. */
  private Spec ids(String name, int least, int most, long... shape) {
    Spec spec = in(name, DType.I32, shape);
    long elements = Arrays.stream(shape).reduce(1, (a, b) -> a * b);
    for (int i = 0; i < elements && least <= most; i++) {
      arena.memory().putInt((int) spec.offset + 4 * i, between(least, most));
    }
    return spec;
  }

  /** Distinct numbers below {@code n}, ascending. */
  private Spec ascending(String name, int count, int n) {
    Spec spec = in(name, DType.I32, count);
    put(spec, random.ints(0, n).distinct().limit(count).sorted().toArray());
    return spec;
  }

  private void put(Spec spec, int... values) {
    for (int i = 0; i < values.length; i++) {
      arena.memory().putInt((int) spec.offset + 4 * i, values[i]);
    }
  }

  private static Node absent(String name) {
    return new Node.Leaf(name, Tensor.TYPE, null);
  }

  /** The type of a tensor argument that is left out. */
  private static final class Tensor {
    static final Class<?> TYPE = org.exeunt.Tensor.class;
  }

  private static Node value(String name, int value) {
    return new Node.Leaf(name, int.class, value);
  }

  private static Node value(String name, long value) {
    return new Node.Leaf(name, long.class, value);
  }

  private static Node value(String name, float value) {
    return new Node.Leaf(name, float.class, value);
  }

  private static Node value(String name, double value) {
    return new Node.Leaf(name, double.class, value);
  }

  private static Node value(String name, boolean value) {
    return new Node.Leaf(name, boolean.class, value);
  }

  private <E extends Enum<E>> Node constant(String name, E value) {
    return new Node.Leaf(name, value.getDeclaringClass(), value);
  }

  private <E extends Enum<E>> Node anyOf(String name, Class<E> type) {
    return constant(name, oneOf(type.getEnumConstants()));
  }

  private Node statistics(long rows) {
    Statistic needed = oneOf(Statistic.values());
    Node[] tensors = new Node[Statistic.values().length];
    for (Statistic statistic : Statistic.values()) {
      String name = statistic.name().toLowerCase();
      tensors[statistic.ordinal()] = statistic == needed || random.nextInt(3) == 0
          ? out(name, statistic.dtype(), rows).optional()
          : absent(name);
    }
    return new Node.Made("out", Plan.constructor(Statistics.class, tensors), tensors);
  }

  /** A cache and what it was made for. */
  private final class Cache {
    final int layout;
    final int sequences;
    final int heads;
    final int headDim;
    final int capacity;
    final DType dtype;
    final Node node;
    final int page;
    final int pages;

    Cache(String name, DType dtype, int sequences, int heads, int headDim, boolean written) {
      this(name, random.nextInt(3), dtype, sequences, heads, headDim, written, true);
    }

    Cache(String name, int layout, DType dtype, int sequences, int heads, int headDim,
        boolean written, boolean values) {
      this.layout = layout;
      this.dtype = dtype;
      this.heads = heads;
      this.headDim = headDim;
      this.sequences = sequences;
      String factory = new String[] {"ofHeadMajor", "ofTokenMajor", "ofPages"}[layout];
      if (layout == 2) {
        page = between(1, 4);
        int blocks = between(1, 3);
        capacity = page * blocks;
        pages = sequences * blocks + random.nextInt(2);
        Spec table = in(name + ".block_table", DType.I32, sequences, blocks);
        put(table, shuffled(pages, sequences * blocks));
        node = make(name, factory, written, values, table, pages, page, heads, headDim);
      } else {
        page = 0;
        pages = 0;
        capacity = between(1, 12);
        long[] shape = layout == 0
            ? new long[] {sequences, heads, capacity, headDim}
            : new long[] {sequences, capacity, heads, headDim};
        if (sequences == 1 && maybe()) {
          shape = Arrays.copyOfRange(shape, 1, 4);
        }
        node = make(name, factory, written, values, null, shape);
      }
    }

    private Node make(
        String name, String factory, boolean written, boolean values, Spec table, long... shape) {
      Spec k = tensor(name + ".k", dtype, written, shape);
      Spec v = values ? tensor(name + ".v", dtype, written, shape) : null;
      if (v != null && name.equals("keys")) {
        v.optional(); // only keys are read
      }
      Node[] tensors = table == null
          ? new Node[] {k, v == null ? absent(name + ".v") : v}
          : new Node[] {k, v == null ? absent(name + ".v") : v, table};
      return new Node.Made(name, Plan.method(KvCache.class, factory, tensors), tensors);
    }
  }

  private int[] shuffled(int n, int count) {
    int[] all = new int[n];
    for (int i = 0; i < n; i++) {
      int j = random.nextInt(i + 1);
      all[i] = all[j];
      all[j] = i;
    }
    return Arrays.copyOf(all, count);
  }

  private Node selection(int rows, int columns) {
    int groups = maybe() ? 0 : between(1, 3);
    boolean budgets = maybe();
    int k = random.nextInt(columns + 2);
    Spec indices = out("selection.indices", DType.I32, rows, columns + 1);
    List<Node> parts = new ArrayList<>();
    parts.add(indices);
    parts.add(maybe() ? out("selection.count", DType.I32, rows).optional() : absent("count"));
    parts.add(maybe() ? out("selection.valid", DType.U8, rows).optional() : absent("valid"));
    long[] each = groups == 0 ? new long[] {rows} : new long[] {rows, groups};
    parts.add(budgets ? ids("selection.budget", 0, columns, each).optional()
                      : absent("selection.budget"));
    if (groups == 0) {
      parts.add(absent("selection.segments"));
    } else {
      Spec segments = in("selection.segments", DType.I32, groups + 1);
      put(segments, random.ints(groups + 1, 0, columns + 1).sorted().toArray());
      parts.add(segments.optional());
    }
    parts.add(maybe() ? ranges("selection.keep", rows, columns) : absent("selection.keep"));
    parts.add(maybe() ? ranges("selection.drop", rows, columns) : absent("selection.drop"));
    parts.add(value("selection.k", (long) k));
    Node[] arguments = parts.toArray(Node[] ::new);
    return new Node.Made("selection", Plan.constructor(Selection.class, arguments), arguments);
  }

  private Spec ranges(String name, int rows, int columns) {
    int count = between(0, 2);
    boolean all = maybe();
    Spec ranges = all ? in(name, DType.I32, count, 2) : in(name, DType.I32, rows, count, 2);
    int[] bounds = new int[(all ? 1 : rows) * count * 2];
    for (int i = 0; i < bounds.length; i += 2) {
      bounds[i] = random.nextInt(columns + 1);
      bounds[i + 1] = between(bounds[i], columns);
    }
    put(ranges, bounds);
    return ranges.optional();
  }

  // ---- ops --------------------------------------------------------------------------------------

  private Plan rowStats() {
    int rows = rows();
    return statisticsOptions(new Plan(RowStats.class, "builder"), rows)
        .set("logits", in("logits", storage(), rows, width()));
  }

  private Plan statisticsOptions(Plan plan, int rows) {
    if (maybe()) {
      plan.set("normalizer", anyOf("normalizer", org.exeunt.Normalizer.class));
      plan.set("temperature", value("temperature", .1f + random.nextFloat()));
      plan.set("softcap", value("softcap", random.nextInt(3) * 10f));
    }
    return plan.set("out", statistics(rows));
  }

  private Plan exitHead() {
    int rows = rows();
    int dim = width();
    int vocabulary = width();
    DType type = storage();
    Plan plan =
        new Plan(ExitHead.class, "builder")
            .set("hidden", in("hidden", maybe() ? type : storage(), rows, dim))
            .set("weight", in("weight", type, vocabulary, dim));
    statisticsOptions(plan, rows);
    if (maybe()) {
      plan.set("bias", in("bias", DType.F32, vocabulary).optional());
    }
    inputNorm(plan, dim);
    if (maybe()) {
      plan.set("normEps", value("norm_eps", 1e-5f));
    }
    if (maybe()) {
      plan.set("translator", in("translator_weight", storage(), dim, dim).optional(),
          maybe() ? in("translator_bias", DType.F32, dim).optional() : absent("translator_bias"),
          anyOf("translate", ExitHead.Translate.class));
    }
    if (maybe()) {
      plan.set("shortlist", ids("shortlist", 0, vocabulary - 1, between(1, vocabulary)).optional());
    }
    return plan;
  }

  private void inputNorm(Plan plan, int dim) {
    switch (random.nextInt(3)) {
      case 0 -> plan.set("noNorm");
      case 1 -> plan.set("rmsNorm", in("norm_weight", DType.F32, dim), value("norm_eps", 1e-5f));
      default ->
        plan.set("layerNorm", in("norm_weight", DType.F32, dim),
            maybe() ? in("norm_bias", DType.F32, dim).optional() : absent("norm_bias"),
            value("norm_eps", 1e-5f));
    }
  }

  private Plan exitRule() {
    int rows = rows();
    Spec score = in("score", DType.F32, rows);
    Plan plan =
        new Plan(ExitRule.class, "builder")
            .set("score", score)
            .set("state", out("state", DType.I32, rows, ExitRule.STATE_WORDS));
    switch (random.nextInt(6)) {
      case 0 ->
        plan.set(
            "threshold", anyOf("comparator", ExitRule.Comparator.class), value("threshold", .5f));
      case 1 -> {
        plan.set(
            "threshold", anyOf("comparator", ExitRule.Comparator.class), value("threshold", .5f));
        plan.set("decay", anyOf("decay", ExitRule.Decay.class), value("decay_tau", 4f),
            value("decay_horizon", 128f));
        if (maybe()) {
          plan.set("step", ids("step", 0, 99, rows).optional());
        }
      }
      case 2 -> {
        score.optional();
        plan.set("patience", value("patience", between(0, 3)));
        plan.set("label", ids("label", 0, 5, rows).optional());
      }
      case 3 -> plan.set("patience", value("patience", between(0, 3)), value("threshold", .1f));
      case 4 -> plan.set("quantile", value("threshold", random.nextFloat()));
      default -> {
        if (maybe()) {
          plan.set("jei", value("threshold", 0f));
        } else {
          plan.set("specDec", value("threshold", .3f), value("min_steps", 1),
              value("max_steps", between(1, 3)));
        }
      }
    }
    if (maybe()) {
      plan.set("valid", in("valid", DType.U8, rows).optional());
      plan.set("rows", anyOf("scope", ExitRule.Rows.class));
    }
    if (maybe()) {
      plan.set("exitMask", out("exit_mask", DType.U8, rows).optional());
      plan.set("activeList", out("active_list", DType.I32, rows).optional());
    }
    if (maybe()) {
      plan.set("activeCount", out("active_count", DType.I32, 1).optional());
      plan.set("exitLayer", out("exit_layer", DType.I32, rows).optional());
    }
    if (maybe()) {
      plan.set("stepIndex", value("step_index", between(0, 50)));
      plan.set("at", value("layer", 3), value("first", maybe()), value("force", maybe()));
    }
    plan.stepArguments = List.of(
        value("layer", 1), value("first", maybe()), value("force", maybe()), value("step", 2));
    return plan;
  }

  private Plan ffn() {
    int rows = rows();
    int dim = width();
    int inner = width();
    DType type = storage();
    DType weights = storage();
    boolean inPlace = random.nextInt(4) == 0;
    Spec hidden = inPlace ? out("hidden", type, rows, dim) : in("hidden", type, rows, dim);
    Plan plan = new Plan(Ffn.class, "builder").set("hidden", hidden);
    inputNorm(plan, dim);
    if (maybe()) {
      plan.set("gate", in("gate_weight", weights, inner, dim).optional(),
          maybe() ? in("gate_bias", DType.F32, inner).optional() : absent("gate_bias"));
    }
    plan.set("up", in("up_weight", weights, inner, dim),
        maybe() ? in("up_bias", DType.F32, inner).optional() : absent("up_bias"));
    plan.set("down", in("down_weight", weights, dim, inner),
        maybe() ? in("down_bias", DType.F32, dim).optional() : absent("down_bias"));
    if (maybe()) {
      plan.set("activation", anyOf("activation", Ffn.Activation.class));
      plan.set("skip", in("skip", DType.U8, rows).optional());
    }
    if (maybe()) {
      plan.set("cosine", out("cosine", DType.F32, rows).optional());
    }
    if (maybe()) {
      plan.set("branchCosine", out("branch_cosine", DType.F32, rows).optional());
    }
    return plan.set("out", inPlace ? hidden : out("out", type, rows, dim));
  }

  private Plan ffnSkipRule() {
    int rows = rows();
    int layers = between(1, 6);
    int start = random.nextInt(layers + 1);
    Plan plan =
        new Plan(FfnSkipRule.class, "builder")
            .set("cosine", in("cosine", DType.F32, rows).optional())
            .set("state", out("state", DType.I32, rows, FfnSkipRule.STATE_WORDS))
            .set("skip", out("skip", DType.U8, rows))
            .set("modelLayers", value("model_layers", layers))
            .set(
                "coldLayers", value("cold_start", start), value("cold_end", between(start, layers)))
            .set("threshold", value("threshold", .5f))
            .set("warmUp", value("warm_up", between(0, 5)));
    if (maybe()) {
      plan.set("token", ids("token", 0, 9, rows).optional());
    }
    if (maybe()) {
      plan.set("budget", value("budget", between(-1, 4)));
      plan.set("at", value("layer", between(-1, layers - 2)), value("token_index", 3));
    }
    plan.stepArguments =
        List.of(value("layer", between(-1, layers - 2)), value("token_index", between(0, 9)));
    return plan;
  }

  private Plan gate() {
    int rows = rows();
    int dim = width();
    int outs = between(1, 2);
    Plan plan =
        new Plan(Gate.class, "builder")
            .set("features", in("features", storage(), rows, dim))
            .set("output", in("out_weight", storage(), outs, dim),
                maybe() ? in("out_bias", DType.F32, outs).optional() : absent("out_bias"))
            .set("prob", out("prob", DType.F32, rows));
    switch (random.nextInt(3)) {
      case 0 -> plan.set("linear");
      case 1 ->
        plan.set("residual", in("hidden_weight", storage(), dim, dim).optional(),
            maybe() ? in("hidden_bias", DType.F32, dim).optional() : absent("hidden_bias"),
            value("repeats", between(0, 3)));
      default -> {
        int layers = between(1, 3);
        plan.set("tanh", in("hidden_weight", storage(), layers, dim, dim),
            maybe() ? in("hidden_bias", DType.F32, layers, dim).optional() : absent("hidden_bias"),
            value("repeats", layers));
      }
    }
    return plan;
  }

  private Plan cosine() {
    int rows = rows();
    int dim = width();
    DType type = storage();
    return new Plan(Cosine.class, "builder")
        .set("a", in("a", type, rows, dim))
        .set("b", in("b", type, rows, dim))
        .set("out", out("out", DType.F32, rows));
  }

  private DType storageOrDouble() {
    return random.nextInt(4) == 0 ? DType.F64 : storage();
  }

  private Plan stableMax() {
    int rows = rows();
    int columns = width();
    DType type = storageOrDouble();
    boolean inPlace = random.nextInt(4) == 0;
    Spec logits = tensor("logits", type, inPlace, rows, columns);
    Plan plan =
        new Plan(StableMax.class, maybe() ? "forward" : "logForward")
            .set("logits", logits)
            .set("out", inPlace ? logits : out("out", type, rows, columns));
    return maybe()
        ? plan.set("normalizer", anyOf("normalizer", org.exeunt.Normalizer.class))
        : plan;
  }

  private Plan crossEntropy() {
    int rows = rows();
    int columns = width();
    DType type = storageOrDouble();
    boolean mean = maybe();
    boolean gradient = maybe();
    Spec loss = out("loss", type == DType.F64 ? type : DType.F32, mean ? 1 : rows);
    if (gradient) {
      loss.optional();
    }
    Spec labels = maybe() ? ids("labels", 0, columns - 1, rows) : in("labels", DType.I64, rows);
    Plan plan = maybe()
        ? new Plan(CrossEntropy.class, "builder")
        : new Plan(StableMax.class, "crossEntropy");
    plan.set("logits", in("logits", type, rows, columns)).set("labels", labels).set("loss", loss);
    if (gradient) {
      plan.set("grad", out("grad", type, rows, columns).optional());
      plan.set("ignoreIndex", value("ignore_index", -100L));
      plan.set("normalizer", anyOf("normalizer", org.exeunt.Normalizer.class));
    }
    return plan.set("reduction",
        constant("reduction", mean ? CrossEntropy.Reduction.MEAN : CrossEntropy.Reduction.NONE));
  }

  private Plan perpGrad() {
    long[] shape = random.longs(between(0, 3), 0, 6).toArray();
    DType type = storageOrDouble();
    boolean inPlace = random.nextInt(4) == 0;
    Spec grad = tensor("grad", type, inPlace, shape);
    Plan plan =
        new Plan(PerpGrad.class, "builder")
            .set("weight", in("weight", type, shape))
            .set("grad", grad)
            .set("out", inPlace ? grad : out("out", type, shape));
    return maybe() ? plan.set("form", anyOf("form", PerpGrad.Form.class)) : plan;
  }

  private Plan kvAppend() {
    int rows = rows();
    Cache cache = new Cache("cache", storage(), between(1, 3), between(1, 3), between(1, 8), true);
    DType type = storage();
    Plan plan =
        new Plan(KvAppend.class, "builder")
            .set("cache", cache.node)
            .set("k", in("k", type, rows, cache.heads, cache.headDim))
            .set("v", in("v", type, rows, cache.heads, cache.headDim))
            .set("slot", ids("slot", -1, cache.capacity - 1, rows));
    return maybe()
        ? plan.set("sequence", ids("sequence", 0, cache.sequences - 1, rows).optional())
        : plan;
  }

  private Plan kvCopy() {
    int entries = rows();
    DType type = storage();
    int heads = between(1, 3);
    int headDim = between(1, 8);
    boolean inPlace = random.nextInt(3) == 0;
    Cache destination = new Cache("destination", type, between(1, 3), heads, headDim, true);
    Cache source =
        inPlace ? destination : new Cache("source", type, between(1, 3), heads, headDim, false);
    return new Plan(KvCopy.class, "builder")
        .set("source", source.node)
        .set("destination", destination.node)
        .set("from", ids("from_slot", -1, source.capacity - 1, entries),
            maybe() ? ids("from_sequence", 0, source.sequences - 1, entries).optional()
                    : absent("from_sequence"))
        .set("to", ids("to_slot", -1, destination.capacity - 1, entries),
            maybe() ? ids("to_sequence", 0, destination.sequences - 1, entries).optional()
                    : absent("to_sequence"));
  }

  private Plan kvLength() {
    int sequences = between(1, 4);
    if (maybe()) {
      return new Plan(KvLength.class, "crop")
          .set("length", out("length", DType.I32, sequences))
          .set("limit", ids("limit", 0, 9, maybe() ? 1 : sequences));
    }
    int rows = rows();
    Plan plan =
        new Plan(KvLength.class, "advance", value("capacity", 1000L))
            .set("length", out("length", DType.I32, sequences))
            .set("slot", out("slot", DType.I32, rows));
    if (maybe()) {
      plan.set("sequence", ids("sequence", 0, sequences - 1, rows).optional());
      plan.set("active", in("active", DType.U8, rows).optional());
    }
    return maybe() ? plan.set("visible", out("visible", DType.I32, rows).optional()) : plan;
  }

  private Plan kvPropagate() {
    int rows = rows();
    int dim = width();
    int count = between(1, 3);
    int modelLayers = between(count, count + 2);
    DType weights = storage();
    DType cached = storage();
    int heads = between(1, 2);
    int headDim = 2 * between(1, 4);
    int kind = random.nextInt(3);
    int layout = random.nextInt(3);
    List<Node> layers = new ArrayList<>();
    int capacity = Integer.MAX_VALUE;
    int sequences = between(1, 2);
    int[] numbers = random.ints(0, modelLayers).distinct().limit(count).sorted().toArray();
    for (int j = 0; j < count; j++) {
      String path = "layers[" + j + "].";
      Cache cache =
          new Cache(path + "cache", layout, cached, sequences, heads, headDim, true, true);
      capacity = Math.min(capacity, cache.capacity);
      long out = (long) heads * headDim;
      Node[] parts = {value(path + "index", numbers[j]),
          kind == 0 ? absent(path + "norm_weight") : in(path + "norm_weight", DType.F32, dim),
          kind == 2 && maybe()
              ? in(path + "norm_bias", DType.F32, dim).optional()
              : absent(path + "norm_bias"),
          in(path + "k_weight", weights, out, dim),
          maybe() ? in(path + "k_bias", DType.F32, out).optional() : absent(path + "k_bias"),
          in(path + "v_weight", weights, out, dim),
          maybe() ? in(path + "v_bias", DType.F32, out).optional() : absent(path + "v_bias"),
          cache.node};
      layers.add(new Node.Made(path, Plan.constructor(KvPropagate.Layer.class, parts), parts));
    }
    Plan plan =
        new Plan(KvPropagate.class, "builder")
            .set("hidden", in("hidden", storage(), rows, dim))
            .set("exitLayer", ids("exit_layer", -1, modelLayers, rows))
            .set("slot",
                maybe() ? ids("slot", -1, capacity - 1, rows)
                        : ids("slot", -1, capacity - 1, count, rows))
            .set("norm", constant("norm", Norm.Kind.values()[kind]), value("norm_eps", 1e-5f))
            .set("modelLayers", value("model_layers", modelLayers));
    if (maybe()) {
      plan.set("layers", new Node.Several("layers", layers));
    } else {
      layers.forEach(layer -> plan.set("layer", layer));
    }
    if (maybe()) {
      plan.set("sequence", ids("sequence", 0, sequences - 1, rows).optional());
    }
    if (maybe()) {
      plan.set("rope", in("rope_table", DType.F32, 10, headDim / 2, 2).optional(),
          anyOf("rope_style", Rope.Style.class), ids("position", 0, 9, rows));
    }
    return plan;
  }

  private Plan kvCompact() {
    boolean inPlace = maybe();
    DType type = storage();
    int sequences = between(1, 2);
    int heads = between(1, 2);
    int headDim = between(1, 6);
    Cache destination = new Cache("destination", type, sequences, heads, headDim, true);
    Cache source =
        inPlace ? destination : new Cache("source", type, sequences, heads, headDim, false);
    boolean perHead = maybe();
    int lists = sequences * (perHead ? heads : 1);
    int most = Math.min(source.capacity, destination.capacity);
    Plan plan =
        new Plan(KvCompact.class, "builder")
            .set("source", source.node)
            .set("destination", destination.node)
            .set("perHead", value("per_head", perHead));
    int[] counts = random.ints(lists, 0, most + 1).toArray();
    boolean packed = maybe();
    int room = packed ? Arrays.stream(counts).sum() : most;
    int[] slots = new int[packed ? room : lists * room];
    int[] offsets = new int[lists + 1];
    for (int g = 0; g < lists; g++) {
      int at = packed ? offsets[g] : g * room;
      offsets[g + 1] = offsets[g] + counts[g];
      int[] kept = shuffled(source.capacity, counts[g]);
      Arrays.sort(kept);
      System.arraycopy(kept, 0, slots, at, counts[g]);
    }
    Spec list = packed ? in("list", DType.I32, room) : in("list", DType.I32, lists, room);
    put(list, slots);
    Spec ends = in(packed ? "offsets" : "count", DType.I32, packed ? lists + 1 : lists);
    put(ends, packed ? offsets : counts);
    if (packed) {
      plan.set("packed", list, ends);
    } else if (maybe()) {
      plan.set("padded", list, ends);
    } else {
      Node[] parts = {list, ends, absent("valid"), absent("budget"), absent("segments"),
          absent("keep"), absent("drop"), value("k", 0L)};
      plan.set(
          "select", new Node.Made("selection", Plan.constructor(Selection.class, parts), parts));
    }
    if (maybe()) {
      Spec sequence = in("sequence", DType.I32, sequences);
      put(sequence, shuffled(sequences, sequences));
      plan.set("sequence", sequence.optional());
    }
    boolean frees = inPlace && destination.layout == 2 && maybe();
    if (frees || maybe()) {
      Spec length = in("length", DType.I32, sequences);
      int[] full = new int[sequences];
      Arrays.fill(full, source.capacity);
      put(length, full);
      plan.set("length", length.optional());
    }
    if (maybe()) {
      plan.set("newLength", out("new_length", DType.I32, lists).optional());
    }
    if (frees) {
      plan.set("freed", out("freed", DType.I32, between(0, 6)).optional(),
          maybe() ? out("freed_count", DType.I32, 1).optional() : absent("freed_count"));
    }
    return plan;
  }

  private Plan attention() {
    int rows = rows();
    int kvHeads = between(1, 2);
    int heads = kvHeads * between(1, 3);
    Cache cache = new Cache("cache", storage(), between(1, 3), kvHeads, between(1, 9), false);
    DType type = storage();
    Plan plan =
        new Plan(Attention.class, "builder")
            .set("query", in("query", type, rows, heads, cache.headDim))
            .set("cache", cache.node)
            .set("visible", ids("visible", -1, cache.capacity, rows))
            .set("out", out("out", storage(), rows, heads, cache.headDim));
    if (maybe()) {
      plan.set("sequence", ids("sequence", 0, cache.sequences - 1, rows).optional());
    }
    if (maybe()) {
      plan.set(
          "scores", out("scores", DType.F32, rows, heads, between(0, cache.capacity)).optional());
    }
    if (maybe()) {
      plan.set("scale", value("scale", .5f));
      plan.set("softcap", value("softcap", random.nextInt(2) * 20f));
    }
    return plan;
  }

  private Plan attentionScores() {
    int prompts = between(0, 3);
    int window = between(1, 3);
    int kvHeads = between(1, 2);
    int heads = kvHeads * between(1, 2);
    DType type = storage();
    Cache keys = new Cache("keys", random.nextInt(3), maybe() ? type : storage(),
        between(Math.max(1, prompts), 3), kvHeads, between(1, 9), false, maybe());
    String[] factories = {
        "builder", "hired", "promptDistill", "gemFilter", "fastV", "snapKv", "heavyHitters"};
    String factory = oneOf(factories);
    boolean windowed = factory.equals("snapKv") || factory.equals("heavyHitters");
    Plan plan = windowed
        ? new Plan(AttentionScores.class, factory, value("window", (long) window))
        : new Plan(AttentionScores.class, factory);
    AttentionScores.Heads reduction = oneOf(AttentionScores.Heads.values());
    int each = reduction == AttentionScores.Heads.EACH ? heads
        : reduction == AttentionScores.Heads.GROUP_SUM
        ? kvHeads
        : 1;
    int first = keys.capacity > 1 ? between(0, 1) : 0;
    int columns = between(0, keys.capacity - first);
    boolean selects = maybe();
    boolean scores = !selects || maybe() || factory.equals("heavyHitters");
    plan.set("query", in("query", type, (long) prompts * window, heads, keys.headDim))
        .set("keys", keys.node)
        .set("visible", ids("visible", 0, keys.capacity, (long) prompts * window))
        .set("window", value("window", (long) window))
        .set("first", value("first", (long) first))
        .set("heads", constant("reduction", reduction));
    if (!scores || maybe()) {
      plan.set("columns", value("columns", (long) columns));
    }
    if (scores) {
      Spec all = out("scores", DType.F32, prompts, each, columns);
      plan.set("scores", selects ? all.optional() : all);
    }
    if (selects) {
      plan.set("select", selection(prompts * each, columns));
    }
    if (maybe()) {
      plan.set("sequence", ids("sequence", 0, keys.sequences - 1, prompts).optional());
      plan.set("limit", ids("limit", 0, columns, prompts).optional());
    }
    if (maybe()) {
      plan.set("scale", value("scale", 1f));
      plan.set("kind", anyOf("kind", AttentionScores.Kind.class));
    }
    if (maybe()) {
      boolean accumulates = scores && maybe();
      plan.set("accumulate", value("accumulate", accumulates));
      AttentionScores.Pool pool =
          accumulates ? AttentionScores.Pool.NONE : oneOf(AttentionScores.Pool.values());
      plan.set("pool", constant("pool", pool),
          value("pool_width", pool == AttentionScores.Pool.NONE ? 0 : 3));
    }
    return plan;
  }

  private Plan select() {
    int rows = rows();
    int heads = between(1, 3);
    int columns = between(0, 12);
    Plan plan =
        new Plan(Select.class, "builder")
            .set("scores", in("scores", storage(), (long) rows * heads, columns))
            .set("select", selection(rows, columns));
    if (heads > 1 || maybe()) {
      plan.set("heads", value("heads", (long) heads));
    }
    return maybe() ? plan.set("limit", ids("limit", 0, columns, rows).optional()) : plan;
  }

  private Plan hiredBudget() {
    int images = between(0, 3);
    int gridRows = between(0, 2);
    int gridCols = gridRows == 0 ? 0 : between(1, 2);
    int patchRows = Math.max(1, gridRows) * between(1, 3);
    int patchCols = Math.max(1, gridCols) * between(1, 3);
    long patches = (long) patchRows * patchCols;
    int partitions = 1 + gridRows * gridCols;
    boolean strip = patches % Math.max(1, gridRows * gridCols) == 0 && maybe();
    boolean counts = maybe();
    Plan plan =
        new Plan(HiredBudget.class, maybe() ? "builder" : "asInCode")
            .set("attention", in("attention", DType.F32, images, patches))
            .set("budget", out("budget", DType.I32, images, partitions))
            .set("patches", value("patch_rows", (long) patchRows),
                value("patch_cols", (long) patchCols))
            .set("grid", value("grid_rows", (long) gridRows), value("grid_cols", (long) gridCols))
            .set("score",
                constant("score", counts ? HiredBudget.Score.TOP_COUNT : HiredBudget.Score.SUM))
            .set("region",
                constant("region", strip ? HiredBudget.Region.STRIP : HiredBudget.Region.GRID))
            .set("rate", value("rate", random.nextDouble()), value("alpha", random.nextDouble()));
    if (maybe()) {
      plan.set("remainder", anyOf("remainder", HiredBudget.Remainder.class));
      plan.set("valid", out("valid", DType.U8, images).optional());
    }
    return counts && maybe()
        ? plan.set("marks", out("marks", DType.U8, images, patches).optional())
        : plan;
  }

  private Plan gather() {
    int n = between(1, 8);
    int count = between(0, n);
    Plan plan = new Plan(Gather.class, "builder").set("list", ascending("list", count, n));
    int tensors = between(0, 3);
    if (tensors == 0 || maybe()) {
      plan.set("rows", value("rows", (long) n));
    }
    boolean inPlace = random.nextInt(3) == 0;
    for (int i = 0; i < tensors; i++) {
      int axis = random.nextInt(2);
      DType type = oneOf(DType.values());
      String path = "tensors[" + i + "].";
      long[] from = {n, between(1, 5)};
      long[] to = {count, from[1]};
      Spec input =
          tensor(path + "input", type, inPlace, axis == 0 ? from : new long[] {from[1], n});
      Spec out =
          inPlace ? input : out(path + "out", type, axis == 0 ? to : new long[] {to[1], count});
      if (axis == 0 && maybe()) {
        plan.set("tensor", input, out);
      } else {
        plan.set("tensor", input, out, value(path + "axis", axis));
      }
    }
    if (maybe()) {
      plan.set("count", ids("count", 0, count, 1).optional());
    }
    if (maybe()) {
      plan.set("moved", out("moved", DType.I32, 1).optional());
    }
    switch (random.nextInt(3)) {
      case 0 -> {
        Spec position = tensor("position", DType.I32, inPlace, n);
        position.optional = true; // without it token i is at position i
        plan.set("positions", position,
            inPlace ? position : out("position_out", DType.I32, count).optional());
      }
      case 1 ->
        plan.set("renumber", value("first_position", 3),
            out("position_out", DType.I32, count).optional());
      default -> {
      }
    }
    return plan;
  }

  private Plan linear() {
    int rows = rows();
    int dim = width();
    int outs = width();
    DType type = storage();
    boolean inPlace = random.nextInt(4) == 0;
    Plan plan =
        new Plan(Linear.class, "builder")
            .set("input", in("input", maybe() ? type : storage(), rows, dim))
            .set("weight", in("weight", type, outs, dim));
    if (maybe()) {
      plan.set("bias", in("bias", DType.F32, outs).optional());
    }
    Spec out = out("out", storage(), rows, outs);
    if (inPlace) {
      plan.set("residual", out);
    } else if (maybe()) {
      plan.set("residual", in("residual", out.dtype, rows, outs).optional());
    }
    return plan.set("out", out);
  }

  private Plan norm() {
    int rows = rows();
    int dim = width();
    boolean inPlace = random.nextInt(4) == 0;
    Spec input = tensor("input", storage(), inPlace, rows, dim);
    Plan plan =
        new Plan(Norm.class, "builder")
            .set("input", input)
            .set("out", inPlace ? input : out("out", storage(), rows, dim));
    switch (random.nextInt(3)) {
      case 0 -> plan.set("none");
      case 1 -> plan.set("rms", in("weight", DType.F32, dim), value("eps", 1e-5f));
      default ->
        plan.set("layer", in("weight", DType.F32, dim),
            maybe() ? in("bias", DType.F32, dim).optional() : absent("bias"), value("eps", 1e-5f));
    }
    return plan;
  }

  private Plan rope() {
    int rows = rows();
    int heads = between(1, 3);
    int half = between(1, 5);
    int headDim = 2 * half + between(0, 3);
    boolean inPlace = random.nextInt(4) == 0;
    Spec input = tensor("input", storage(), inPlace, rows, heads, headDim);
    return new Plan(Rope.class, "builder")
        .set("input", input)
        .set("position", ids("position", -1, 9, rows))
        .set("table", in("table", DType.F32, 10, half, 2), anyOf("style", Rope.Style.class))
        .set("out", inPlace ? input : out("out", input.dtype, rows, heads, headDim));
  }

  private Plan ropeTable() {
    Plan plan = new Plan(RopeTable.class, "builder")
                    .set("table", out("table", DType.F32, rows(), between(2, 6), 2));
    if (maybe()) {
      plan.set("base", value("base", 1 + 1e4 * random.nextDouble()));
    }
    return switch (random.nextInt(3)) {
      case 0 -> plan;
      case 1 -> plan.set("linear", value("factor", 2.5));
      default -> plan.set("ntk", value("factor", 2.5));
    };
  }

  private Plan rowCompaction() {
    int rows = between(1, 6);
    int count = between(0, 5);
    int dim = width();
    DType type = oneOf(DType.values());
    boolean gathers = maybe();
    return new Plan(RowCompaction.class, gathers ? "gather" : "scatter")
        .set("input", in("input", type, gathers ? rows : count, dim))
        .set("list", ids("list", -1, rows - 1, count))
        .set("out", out("out", type, gathers ? count : rows, dim));
  }

  private Plan hiddenStack() {
    int capacity = between(0, 6);
    int rows = between(0, 4);
    int dim = width();
    int tags = between(1, 3);
    DType type = storage();
    Spec count = out("count", DType.I32, 1);
    int action = random.nextInt(3);
    String factory = new String[] {"push", "gather", "clear"}[action];
    Plan plan =
        new Plan(HiddenStack.class, factory)
            .set("stack", out("stack", type, capacity, dim))
            .set("count", count);
    boolean tagged = maybe();
    if (action == 0) {
      rows = Math.min(rows, capacity / 2);
      plan.set("rows", in("rows", type, rows, dim));
      put(count, Math.max(0, capacity - 2 * rows)); // for two pushes
      if (maybe()) {
        plan.set("mask", in("mask", DType.U8, rows).optional());
      }
      if (maybe()) {
        plan.set("overflow", out("overflow", DType.I32, 1).optional());
      }
    } else if (action == 1) {
      plan.set("rows", out("rows", type, rows, dim));
      put(count, Math.min(capacity, rows));
    } else {
      put(count, capacity);
    }
    if (tagged && action < 2) {
      plan.set("tags", out("stack_tags", DType.I32, tags, capacity),
          tensor("tags", DType.I32, action == 1, tags, rows));
    }
    return plan;
  }

  private Plan layerSchedule() {
    int positions = between(0, 5);
    int layers = between(1, 6);
    int kind = random.nextInt(4);
    int least = between(1, layers);
    Plan plan = switch (kind) {
      case 0 ->
        new Plan(LayerSchedule.class, "skipDecode", value("prompt", 2),
            value("horizon", between(3, 9)), value("most", between(least, layers)),
            value("least", least), value("warm_up", between(0, least)));
      case 1 ->
        new Plan(LayerSchedule.class, "calm", value("first_exit", 1),
            value("interval", between(1, 3)), value("min_exit", between(0, 2)));
      case 2 ->
        new Plan(LayerSchedule.class, "fixed",
            new Node.Leaf("order", int[].class, shuffled(layers, between(1, layers))));
      default ->
        new Plan(
            LayerSchedule.class, "unified", value("prompt", 2), value("count", between(1, layers)));
    };
    plan.set("layers", out("layers", DType.I32, positions, layers))
        .set("count", out("count", DType.I32, positions));
    if (maybe()) {
      plan.set("exitTest", out("exit_test", DType.U8, positions, layers).optional());
    }
    if (kind == 1) {
      if (maybe()) {
        plan.set("threshold", value("start_threshold", .9f), anyOf("decay", ExitRule.Decay.class),
            value("prompt", 1), value("horizon", 64), value("tau", 4f));
      }
      if (maybe()) {
        plan.set("threshold", out("threshold", DType.F32, positions).optional());
      }
    }
    return plan;
  }
}
