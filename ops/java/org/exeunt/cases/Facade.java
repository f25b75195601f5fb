// SPDX-License-Identifier: Apache-2.0
package org.exeunt.cases;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.function.LongFunction;
import java.util.stream.Stream;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.exeunt.Attention;
import org.exeunt.AttentionScores;
import org.exeunt.Cosine;
import org.exeunt.CrossEntropy;
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
import org.exeunt.Normalizer;
import org.exeunt.Op;
import org.exeunt.PerpGrad;
import org.exeunt.Rope;
import org.exeunt.RopeTable;
import org.exeunt.RowCompaction;
import org.exeunt.RowStats;
import org.exeunt.Select;
import org.exeunt.Selection;
import org.exeunt.StableMax;
import org.exeunt.Statistics;
import org.exeunt.Tensor;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_attention_params;
import org.exeunt.jni.exn_attention_scores_params;
import org.exeunt.jni.exn_cosine_params;
import org.exeunt.jni.exn_cross_entropy_params;
import org.exeunt.jni.exn_exit_head_params;
import org.exeunt.jni.exn_exit_rule_params;
import org.exeunt.jni.exn_ffn_params;
import org.exeunt.jni.exn_ffn_skip_rule_params;
import org.exeunt.jni.exn_gate_params;
import org.exeunt.jni.exn_gather_params;
import org.exeunt.jni.exn_hidden_stack_params;
import org.exeunt.jni.exn_hired_budget_params;
import org.exeunt.jni.exn_kv_append_params;
import org.exeunt.jni.exn_kv_cache;
import org.exeunt.jni.exn_kv_compact_params;
import org.exeunt.jni.exn_kv_copy_params;
import org.exeunt.jni.exn_kv_layer;
import org.exeunt.jni.exn_kv_length_params;
import org.exeunt.jni.exn_kv_propagate_params;
import org.exeunt.jni.exn_layer_schedule_params;
import org.exeunt.jni.exn_linear_params;
import org.exeunt.jni.exn_norm_params;
import org.exeunt.jni.exn_perp_grad_params;
import org.exeunt.jni.exn_rope_params;
import org.exeunt.jni.exn_rope_table_params;
import org.exeunt.jni.exn_row_compaction_params;
import org.exeunt.jni.exn_row_stats_params;
import org.exeunt.jni.exn_select_params;
import org.exeunt.jni.exn_selection;
import org.exeunt.jni.exn_stablemax_params;
import org.exeunt.jni.exn_stats;
import org.exeunt.jni.global.exeunt;

/**
 * The call that a C params struct describes, as a user of the facade would write it: for each op,
 * its builder with every argument that the struct gives.
 */
public final class Facade {
  private static final Map<String, LongFunction<Op.Builder<?>>> BUILDERS = new LinkedHashMap<>();

  static {
    BUILDERS.put("attention", p -> attention(new exn_attention_params(at(p))));
    BUILDERS.put("attention_scores", p -> attentionScores(new exn_attention_scores_params(at(p))));
    BUILDERS.put("cosine", p -> cosine(new exn_cosine_params(at(p))));
    BUILDERS.put("cross_entropy", p -> crossEntropy(new exn_cross_entropy_params(at(p))));
    BUILDERS.put("exit_head", p -> exitHead(new exn_exit_head_params(at(p))));
    BUILDERS.put("exit_rule", p -> exitRule(new exn_exit_rule_params(at(p))));
    BUILDERS.put("ffn", p -> ffn(new exn_ffn_params(at(p))));
    BUILDERS.put("ffn_skip_rule", p -> ffnSkipRule(new exn_ffn_skip_rule_params(at(p))));
    BUILDERS.put("gate", p -> gate(new exn_gate_params(at(p))));
    BUILDERS.put("gather", p -> gather(new exn_gather_params(at(p))));
    BUILDERS.put("hidden_stack", p -> hiddenStack(new exn_hidden_stack_params(at(p))));
    BUILDERS.put("hired_budget", p -> hiredBudget(new exn_hired_budget_params(at(p))));
    BUILDERS.put("kv_append", p -> kvAppend(new exn_kv_append_params(at(p))));
    BUILDERS.put("kv_compact", p -> kvCompact(new exn_kv_compact_params(at(p))));
    BUILDERS.put("kv_copy", p -> kvCopy(new exn_kv_copy_params(at(p))));
    BUILDERS.put("kv_length", p -> kvLength(new exn_kv_length_params(at(p))));
    BUILDERS.put("kv_propagate", p -> kvPropagate(new exn_kv_propagate_params(at(p))));
    BUILDERS.put("layer_schedule", p -> layerSchedule(new exn_layer_schedule_params(at(p))));
    BUILDERS.put("linear", p -> linear(new exn_linear_params(at(p))));
    BUILDERS.put("norm", p -> norm(new exn_norm_params(at(p))));
    BUILDERS.put("perp_grad", p -> perpGrad(new exn_perp_grad_params(at(p))));
    BUILDERS.put("rope", p -> rope(new exn_rope_params(at(p))));
    BUILDERS.put("rope_table", p -> ropeTable(new exn_rope_table_params(at(p))));
    BUILDERS.put("row_compaction", p -> rowCompaction(new exn_row_compaction_params(at(p))));
    BUILDERS.put("row_stats", p -> rowStats(new exn_row_stats_params(at(p))));
    BUILDERS.put("select", p -> select(new exn_select_params(at(p))));
    BUILDERS.put("stablemax", p -> stableMax(new exn_stablemax_params(at(p))));
  }

  private static final ThreadLocal<LongFunction<Tensor>> TENSORS =
      ThreadLocal.withInitial(() -> Tensor::ofDlpack);

  private Facade() {}

  /** The ops that this class knows. */
  public static Set<String> ops() {
    return BUILDERS.keySet();
  }

  /** A builder with what the params struct of {@code op} at {@code params} says. */
  public static Op.Builder<?> builder(String op, long params) {
    return BUILDERS.get(op).apply(params);
  }

  /** The same, with the tensors that {@code tensors} makes of the addresses of DLTensors. */
  public static Op.Builder<?> builder(String op, long params, LongFunction<Tensor> tensors) {
    TENSORS.set(tensors);
    try {
      return builder(op, params);
    } finally {
      TENSORS.remove();
    }
  }

  // ---- pieces -----------------------------------------------------------------------------------

  private static final class Address extends Pointer {
    Address(long address) {
      this.address = address;
    }
  }

  /** The struct at an address, for the constructor of its binding. */
  public static Pointer at(long address) {
    return new Address(address);
  }

  /** The tensor that a field of a struct points at; null if at none. */
  public static Tensor tensor(DLTensor dl) {
    return dl == null || dl.isNull() ? null : tensor(dl.address());
  }

  private static Tensor tensor(long dl) {
    return TENSORS.get().apply(dl);
  }

  private static long word(Pointer struct, String field) {
    return new LongPointer(at(struct.address() + struct.offsetof(field))).get();
  }

  /** Of a field that has the name of a method of every JavaCPP pointer. */
  public static Tensor tensor(Pointer struct, String field) {
    long dl = word(struct, field);
    return dl == 0 ? null : tensor(dl);
  }

  /** Constants are declared in the order of their codes. */
  private static <E extends Enum<E>> E constant(Class<E> type, int code) {
    return type.getEnumConstants()[code];
  }

  /** The cache that a struct describes. */
  public static KvCache cache(exn_kv_cache c) {
    Tensor k = tensor(c.k());
    Tensor v = tensor(c.v());
    switch (c.layout()) {
      case exeunt.EXN_KV_HEAD_MAJOR:
        return KvCache.ofHeadMajor(k, v);
      case exeunt.EXN_KV_TOKEN_MAJOR:
        return KvCache.ofTokenMajor(k, v);
      default:
        return KvCache.ofPages(k, v, tensor(c.block_table()));
    }
  }

  private static Statistics statistics(exn_stats s) {
    return new Statistics(tensor(s.argmax()), tensor(s.max_logit()), tensor(s.lse()),
        tensor(s.p1()), tensor(s.p2()), tensor(s.margin()), tensor(s.entropy()),
        tensor(s.pow2_entropy()), tensor(s.mean_log_p()), tensor(s.valid()));
  }

  /** Null if the struct asks for none. */
  private static Selection selection(exn_selection s) {
    Tensor indices = tensor(s.indices());
    Tensor count = tensor(s.count());
    Tensor valid = tensor(s.valid());
    Tensor budget = tensor(s.budget());
    Tensor segments = tensor(s.segments());
    Tensor keep = tensor(s.keep());
    Tensor drop = tensor(s.drop());
    return Stream.of(indices, count, valid, budget, segments, keep, drop).allMatch(Objects::isNull)
        ? null
        : new Selection(indices, count, valid, budget, segments, keep, drop, s.k());
  }

  // ---- ops --------------------------------------------------------------------------------------

  private static Op.Builder<?> attention(exn_attention_params p) {
    return Attention.builder()
        .query(tensor(p.query()))
        .cache(cache(p.cache()))
        .sequence(tensor(p.sequence()))
        .visible(tensor(p.visible()))
        .out(tensor(p.out()))
        .scores(tensor(p.scores()))
        .scale(p.scale())
        .softcap(p.softcap());
  }

  private static Op.Builder<?> attentionScores(exn_attention_scores_params p) {
    return AttentionScores.builder()
        .query(tensor(p.query()))
        .keys(cache(p.keys()))
        .sequence(tensor(p.sequence()))
        .visible(tensor(p.visible()))
        .limit(tensor(p, "limit"))
        .scores(tensor(p.scores()))
        .select(selection(p.selection()))
        .columns(p.columns())
        .first(p.first())
        .window(p.window())
        .scale(p.scale())
        .kind(constant(AttentionScores.Kind.class, p.kind()))
        .heads(constant(AttentionScores.Heads.class, p.reduction()))
        .pool(constant(AttentionScores.Pool.class, p.pool()), p.pool_width())
        .accumulate(p.accumulate() != 0);
  }

  private static Op.Builder<?> cosine(exn_cosine_params p) {
    return Cosine.builder().a(tensor(p.a())).b(tensor(p.b())).out(tensor(p.out()));
  }

  private static Op.Builder<?> crossEntropy(exn_cross_entropy_params p) {
    return CrossEntropy.builder()
        .logits(tensor(p.logits()))
        .labels(tensor(p.labels()))
        .loss(tensor(p.loss()))
        .grad(tensor(p.grad()))
        .ignoreIndex(p.ignore_index())
        .normalizer(constant(Normalizer.class, p.normalizer()))
        .reduction(constant(CrossEntropy.Reduction.class, p.reduction()));
  }

  private static Op.Builder<?> exitHead(exn_exit_head_params p) {
    ExitHead.Builder builder =
        ExitHead.builder()
            .hidden(tensor(p.hidden()))
            .weight(tensor(p.weight()))
            .bias(tensor(p.bias()))
            .shortlist(tensor(p.shortlist()))
            .normalizer(constant(Normalizer.class, p.normalizer()))
            .temperature(p.temperature())
            .softcap(p.softcap())
            .out(statistics(p.out()));
    switch (constant(Norm.Kind.class, p.norm())) {
      case RMS -> builder.rmsNorm(tensor(p.norm_weight()), p.norm_eps());
      case LAYER -> builder.layerNorm(tensor(p.norm_weight()), tensor(p.norm_bias()), p.norm_eps());
      default -> builder.noNorm().normEps(p.norm_eps());
    }
    return builder.translator(tensor(p.translator_weight()), tensor(p.translator_bias()),
        constant(ExitHead.Translate.class, p.translate()));
  }

  private static Op.Builder<?> exitRule(exn_exit_rule_params p) {
    ExitRule.Builder builder =
        ExitRule.builder()
            .score(tensor(p.score()))
            .label(tensor(p.label()))
            .valid(tensor(p.valid()))
            .step(tensor(p.step()))
            .state(tensor(p.state()))
            .exitMask(tensor(p.exit_mask()))
            .activeList(tensor(p.active_list()))
            .activeCount(tensor(p.active_count()))
            .exitLayer(tensor(p.exit_layer()))
            .decay(constant(ExitRule.Decay.class, p.decay()), p.decay_tau(), p.decay_horizon())
            .rows(constant(ExitRule.Rows.class, p.scope()))
            .stepIndex(p.step_index())
            .at(p.layer(), p.first() != 0, p.force() != 0)
            // What the rule chosen below does not look at.
            .specDec(0, p.min_steps(), p.max_steps())
            .patience(p.patience());
    switch (p.rule()) {
      case exeunt.EXN_RULE_THRESHOLD:
        return builder.threshold(
            constant(ExitRule.Comparator.class, p.comparator()), p.threshold());
      case exeunt.EXN_RULE_PATIENCE:
        return builder.patience(p.patience(), p.threshold());
      case exeunt.EXN_RULE_QUANTILE:
        return builder.quantile(p.threshold());
      case exeunt.EXN_RULE_JEI:
        return builder.jei(p.threshold());
      default:
        return builder.specDec(p.threshold(), p.min_steps(), p.max_steps());
    }
  }

  private static Op.Builder<?> ffn(exn_ffn_params p) {
    Ffn.Builder builder =
        Ffn.builder()
            .hidden(tensor(p.hidden()))
            .gate(tensor(p.gate_weight()), tensor(p.gate_bias()))
            .up(tensor(p.up_weight()), tensor(p.up_bias()))
            .down(tensor(p.down_weight()), tensor(p.down_bias()))
            .activation(constant(Ffn.Activation.class, p.activation()))
            .skip(tensor(p.skip()))
            .out(tensor(p.out()))
            .cosine(tensor(p.cosine()))
            .branchCosine(tensor(p.branch_cosine()));
    switch (constant(Norm.Kind.class, p.norm())) {
      case RMS:
        return builder.rmsNorm(tensor(p.norm_weight()), p.norm_eps());
      case LAYER:
        return builder.layerNorm(tensor(p.norm_weight()), tensor(p.norm_bias()), p.norm_eps());
      default:
        return builder.noNorm();
    }
  }

  private static Op.Builder<?> ffnSkipRule(exn_ffn_skip_rule_params p) {
    return FfnSkipRule.builder()
        .cosine(tensor(p.cosine()))
        .token(tensor(p.token()))
        .state(tensor(p.state()))
        .skip(tensor(p.skip()))
        .modelLayers(p.model_layers())
        .coldLayers(p.cold_start(), p.cold_end())
        .threshold(p.threshold())
        .warmUp(p.warm_up())
        .budget(p.budget())
        .at(p.layer(), p.token_index());
  }

  private static Op.Builder<?> gate(exn_gate_params p) {
    Gate.Builder builder =
        Gate.builder()
            .features(tensor(p.features()))
            .output(tensor(p.out_weight()), tensor(p.out_bias()))
            .prob(tensor(p.prob()));
    Tensor weight = tensor(p.hidden_weight());
    Tensor bias = tensor(p.hidden_bias());
    switch (p.kind()) {
      case exeunt.EXN_GATE_RESIDUAL:
        return builder.residual(weight, bias, p.repeats());
      case exeunt.EXN_GATE_TANH:
        return builder.tanh(weight, bias, p.repeats());
      default:
        return builder.linear();
    }
  }

  private static Op.Builder<?> gather(exn_gather_params p) {
    Gather.Builder builder =
        Gather.builder()
            .list(tensor(p.list()))
            .count(tensor(p.count()))
            .rows(p.rows())
            .moved(tensor(p.moved()));
    for (int i = 0; i < p.tensor_count(); i++) {
      var item = p.tensors().getPointer(i);
      builder.tensor(tensor(item.input()), tensor(item.out()), item.axis());
    }
    Tensor positions = tensor(p.position_out());
    return p.positions() == exeunt.EXN_POSITIONS_RENUMBER
        ? builder.renumber(p.first_position(), positions)
        : builder.positions(tensor(p, "position"), positions);
  }

  private static Op.Builder<?> hiddenStack(exn_hidden_stack_params p) {
    HiddenStack.Builder builder;
    switch (p.action()) {
      case exeunt.EXN_STACK_PUSH:
        builder = HiddenStack.push();
        break;
      case exeunt.EXN_STACK_GATHER:
        builder = HiddenStack.gather();
        break;
      default:
        builder = HiddenStack.clear();
    }
    return builder.stack(tensor(p.stack()))
        .count(tensor(p.count()))
        .rows(tensor(p.rows()))
        .tags(tensor(p.stack_tags()), tensor(p.tags()))
        .mask(tensor(p.mask()))
        .overflow(tensor(p.overflow()));
  }

  private static Op.Builder<?> hiredBudget(exn_hired_budget_params p) {
    return HiredBudget.builder()
        .attention(tensor(p.attention()))
        .budget(tensor(p.budget()))
        .marks(tensor(p.marks()))
        .valid(tensor(p.valid()))
        .rate(p.rate(), p.alpha())
        .patches(p.patch_rows(), p.patch_cols())
        .grid(p.grid_rows(), p.grid_cols())
        .score(constant(HiredBudget.Score.class, p.score()))
        .region(constant(HiredBudget.Region.class, p.region()))
        .remainder(constant(HiredBudget.Remainder.class, p.remainder()));
  }

  private static Op.Builder<?> kvAppend(exn_kv_append_params p) {
    return KvAppend.builder()
        .cache(cache(p.cache()))
        .k(tensor(p.k()))
        .v(tensor(p.v()))
        .sequence(tensor(p.sequence()))
        .slot(tensor(p.slot()));
  }

  private static Op.Builder<?> kvCompact(exn_kv_compact_params p) {
    KvCompact.Builder builder =
        KvCompact.builder()
            .source(cache(p.source()))
            .destination(cache(p.destination()))
            .perHead(p.per_head() != 0)
            .sequence(tensor(p.sequence()))
            .length(tensor(p.length()))
            .newLength(tensor(p.new_length()))
            .freed(tensor(p.freed()), tensor(p.freed_count()));
    Tensor list = tensor(p.list());
    Tensor offsets = tensor(p.offsets());
    return offsets != null
        ? builder.packed(list, offsets)
        : builder.padded(list, tensor(p.count()));
  }

  private static Op.Builder<?> kvCopy(exn_kv_copy_params p) {
    return KvCopy.builder()
        .source(cache(p.source()))
        .destination(cache(p.destination()))
        .from(tensor(p.from_slot()), tensor(p.from_sequence()))
        .to(tensor(p.to_slot()), tensor(p.to_sequence()));
  }

  private static Op.Builder<?> kvLength(exn_kv_length_params p) {
    KvLength.Builder builder = p.action() == exeunt.EXN_KV_ADVANCE
        ? KvLength.advance(word(p, "capacity"))
        : KvLength.crop();
    return builder.length(tensor(p.length()))
        .sequence(tensor(p.sequence()))
        .active(tensor(p.active()))
        .slot(tensor(p.slot()))
        .visible(tensor(p.visible()))
        .limit(tensor(p, "limit"));
  }

  private static Op.Builder<?> kvPropagate(exn_kv_propagate_params p) {
    KvPropagate.Builder builder =
        KvPropagate.builder()
            .hidden(tensor(p.hidden()))
            .exitLayer(tensor(p.exit_layer()))
            .sequence(tensor(p.sequence()))
            .slot(tensor(p.slot()))
            .norm(constant(Norm.Kind.class, p.norm()), p.norm_eps())
            .rope(tensor(p.rope_table()), constant(Rope.Style.class, p.rope_style()),
                tensor(p, "position"))
            .modelLayers(p.model_layers());
    List<KvPropagate.Layer> layers = new ArrayList<>();
    for (int i = 0; i < p.layer_count(); i++) {
      layers.add(layer(p.layers().getPointer(i)));
    }
    return builder.layers(layers);
  }

  private static KvPropagate.Layer layer(exn_kv_layer l) {
    return new KvPropagate.Layer(l.index(), tensor(l.norm_weight()), tensor(l.norm_bias()),
        tensor(l.k_weight()), tensor(l.k_bias()), tensor(l.v_weight()), tensor(l.v_bias()),
        cache(l.cache()));
  }

  private static Op.Builder<?> layerSchedule(exn_layer_schedule_params p) {
    LayerSchedule.Builder builder;
    switch (p.kind()) {
      case exeunt.EXN_SCHEDULE_SKIPDECODE:
        builder =
            LayerSchedule.skipDecode(p.prompt(), p.horizon(), p.most(), p.least(), p.warm_up());
        break;
      case exeunt.EXN_SCHEDULE_CALM:
        builder = LayerSchedule.calm(p.first_exit(), p.interval(), p.min_exit());
        break;
      case exeunt.EXN_SCHEDULE_FIXED:
        builder = LayerSchedule.fixed(tensor(p.order()).toIntArray());
        break;
      default:
        builder = LayerSchedule.unified(p.prompt(), p.least());
    }
    if (p.kind() == exeunt.EXN_SCHEDULE_CALM) {
      builder.threshold(p.start_threshold(), constant(ExitRule.Decay.class, p.decay()), p.prompt(),
          p.horizon(), p.tau());
    }
    return builder.layers(tensor(p.layers()))
        .count(tensor(p.count()))
        .exitTest(tensor(p.exit_test()))
        .threshold(tensor(p.threshold()));
  }

  private static Op.Builder<?> linear(exn_linear_params p) {
    return Linear.builder()
        .input(tensor(p.input()))
        .weight(tensor(p.weight()))
        .bias(tensor(p.bias()))
        .residual(tensor(p.residual()))
        .out(tensor(p.out()));
  }

  private static Op.Builder<?> norm(exn_norm_params p) {
    Norm.Builder builder = Norm.builder().input(tensor(p.input())).out(tensor(p.out()));
    switch (constant(Norm.Kind.class, p.norm())) {
      case RMS:
        return builder.rms(tensor(p.weight()), p.eps());
      case LAYER:
        return builder.layer(tensor(p.weight()), tensor(p.bias()), p.eps());
      default:
        return builder.none();
    }
  }

  private static Op.Builder<?> perpGrad(exn_perp_grad_params p) {
    return PerpGrad.builder()
        .weight(tensor(p.weight()))
        .grad(tensor(p.grad()))
        .out(tensor(p.out()))
        .form(constant(PerpGrad.Form.class, p.form()));
  }

  private static Op.Builder<?> rope(exn_rope_params p) {
    return Rope.builder()
        .input(tensor(p.input()))
        .position(tensor(p, "position"))
        .table(tensor(p.table()), constant(Rope.Style.class, p.style()))
        .out(tensor(p.out()));
  }

  private static Op.Builder<?> ropeTable(exn_rope_table_params p) {
    RopeTable.Builder builder = RopeTable.builder().table(tensor(p.table())).base(p.base());
    switch (p.scaling()) {
      case exeunt.EXN_ROPE_SCALING_LINEAR:
        return builder.linear(p.factor());
      case exeunt.EXN_ROPE_SCALING_NTK:
        return builder.ntk(p.factor());
      default:
        return builder;
    }
  }

  private static Op.Builder<?> rowCompaction(exn_row_compaction_params p) {
    RowCompaction.Builder builder =
        p.direction() == exeunt.EXN_ROWS_GATHER ? RowCompaction.gather() : RowCompaction.scatter();
    return builder.input(tensor(p.input())).list(tensor(p.list())).out(tensor(p.out()));
  }

  private static Op.Builder<?> rowStats(exn_row_stats_params p) {
    return RowStats.builder()
        .logits(tensor(p.logits()))
        .normalizer(constant(Normalizer.class, p.normalizer()))
        .temperature(p.temperature())
        .softcap(p.softcap())
        .out(statistics(p.out()));
  }

  private static Op.Builder<?> select(exn_select_params p) {
    return Select.builder()
        .scores(tensor(p.scores()))
        .heads(p.heads())
        .limit(tensor(p, "limit"))
        .select(selection(p.selection()));
  }

  private static Op.Builder<?> stableMax(exn_stablemax_params p) {
    StableMax.Builder builder = p.log() != 0 ? StableMax.logForward() : StableMax.forward();
    return builder.logits(tensor(p.logits()))
        .out(tensor(p.out()))
        .normalizer(constant(Normalizer.class, p.normalizer()));
  }
}
