// SPDX-License-Identifier: Apache-2.0
package org.exeunt.cases;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.function.LongFunction;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.exeunt.Attention;
import org.exeunt.AttentionScores;
import org.exeunt.BlockFormat;
import org.exeunt.ColumnNorms;
import org.exeunt.Cosine;
import org.exeunt.CrossEntropy;
import org.exeunt.DraftLookup;
import org.exeunt.DraftRule;
import org.exeunt.Elr;
import org.exeunt.Embedding;
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
import org.exeunt.PruneApply;
import org.exeunt.PruneMask;
import org.exeunt.Rope;
import org.exeunt.RopeTable;
import org.exeunt.RowCompaction;
import org.exeunt.RowStats;
import org.exeunt.Screen;
import org.exeunt.Select;
import org.exeunt.Selection;
import org.exeunt.SsmStep;
import org.exeunt.StableMax;
import org.exeunt.Statistics;
import org.exeunt.StopRule;
import org.exeunt.Tensor;
import org.exeunt.TokenBias;
import org.exeunt.Verify;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_attention_params;
import org.exeunt.jni.exn_attention_scores_params;
import org.exeunt.jni.exn_column_norms_params;
import org.exeunt.jni.exn_cosine_params;
import org.exeunt.jni.exn_cross_entropy_params;
import org.exeunt.jni.exn_draft_lookup_params;
import org.exeunt.jni.exn_draft_rule_params;
import org.exeunt.jni.exn_elr_params;
import org.exeunt.jni.exn_embedding_params;
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
import org.exeunt.jni.exn_prune_apply_params;
import org.exeunt.jni.exn_prune_mask_params;
import org.exeunt.jni.exn_rope_params;
import org.exeunt.jni.exn_rope_table_params;
import org.exeunt.jni.exn_row_compaction_params;
import org.exeunt.jni.exn_row_stats_params;
import org.exeunt.jni.exn_select_params;
import org.exeunt.jni.exn_selection;
import org.exeunt.jni.exn_ssm_step_params;
import org.exeunt.jni.exn_stablemax_params;
import org.exeunt.jni.exn_stats;
import org.exeunt.jni.exn_stop_rule_params;
import org.exeunt.jni.exn_token_bias_params;
import org.exeunt.jni.exn_verify_params;
import org.exeunt.jni.global.exeunt;

/**
 * The call that a C params struct describes, as a user of the facade would write it: for each op,
 * its builder with every argument that the struct gives.
 */
public final class Facade {
  private static final Map<String, LongFunction<Steps<?>>> BUILDERS = new LinkedHashMap<>();

  static {
    BUILDERS.put("attention", p -> attention(new exn_attention_params(at(p))));
    BUILDERS.put("attention_scores", p -> attentionScores(new exn_attention_scores_params(at(p))));
    BUILDERS.put("column_norms", p -> columnNorms(new exn_column_norms_params(at(p))));
    BUILDERS.put("cosine", p -> cosine(new exn_cosine_params(at(p))));
    BUILDERS.put("cross_entropy", p -> crossEntropy(new exn_cross_entropy_params(at(p))));
    BUILDERS.put("draft_lookup", p -> draftLookup(new exn_draft_lookup_params(at(p))));
    BUILDERS.put("draft_rule", p -> draftRule(new exn_draft_rule_params(at(p))));
    BUILDERS.put("elr", p -> elr(new exn_elr_params(at(p))));
    BUILDERS.put("embedding", p -> embedding(new exn_embedding_params(at(p))));
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
    BUILDERS.put("prune_apply", p -> pruneApply(new exn_prune_apply_params(at(p))));
    BUILDERS.put("prune_mask", p -> pruneMask(new exn_prune_mask_params(at(p))));
    BUILDERS.put("rope", p -> rope(new exn_rope_params(at(p))));
    BUILDERS.put("rope_table", p -> ropeTable(new exn_rope_table_params(at(p))));
    BUILDERS.put("row_compaction", p -> rowCompaction(new exn_row_compaction_params(at(p))));
    BUILDERS.put("row_stats", p -> rowStats(new exn_row_stats_params(at(p))));
    BUILDERS.put("select", p -> select(new exn_select_params(at(p))));
    BUILDERS.put("ssm_step", p -> ssmStep(new exn_ssm_step_params(at(p))));
    BUILDERS.put("stablemax", p -> stableMax(new exn_stablemax_params(at(p))));
    BUILDERS.put("stop_rule", p -> stopRule(new exn_stop_rule_params(at(p))));
    BUILDERS.put("token_bias", p -> tokenBias(new exn_token_bias_params(at(p))));
    BUILDERS.put("verify", p -> verify(new exn_verify_params(at(p))));
  }

  /** Makes tensors of DLTensors, by their addresses, and says which arguments made of them to omit. */
  public interface Hook {
    Tensor tensor(long dl);

    /** Whether a cache, a selection, statistics or a layer shall be null. */
    default boolean omits() {
      return false;
    }
  }

  private static final ThreadLocal<Hook> HOOK = ThreadLocal.withInitial(() -> Tensor::ofDlpack);

  private Facade() {}

  /** The ops that this class knows. */
  public static Set<String> ops() {
    return BUILDERS.keySet();
  }

  /** A builder with what the params struct of {@code op} at {@code params} says. */
  public static Op.Builder<?> builder(String op, long params) {
    return steps(op, params).fill();
  }

  /** What fills such a builder, call by call. */
  public static Steps<?> steps(String op, long params) {
    return BUILDERS.get(op).apply(params);
  }

  /** What {@code made} returns when tensors are made by {@code hook}. */
  public static <T> T with(Hook hook, Supplier<T> made) {
    HOOK.set(hook);
    try {
      return made.get();
    } finally {
      HOOK.remove();
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
    return dl == null || dl.isNull() ? null : HOOK.get().tensor(dl.address());
  }

  private static int[] integers(Tensor tensor) {
    return tensor == null ? null : tensor.toIntArray();
  }

  private static long word(Pointer struct, String field) {
    return new LongPointer(at(struct.address() + struct.offsetof(field))).get();
  }

  /** Of a field that has the name of a method of every JavaCPP pointer. */
  public static Tensor tensor(Pointer struct, String field) {
    long dl = word(struct, field);
    return dl == 0 ? null : HOOK.get().tensor(dl);
  }

  /** Constants are declared in the order of their codes; null if none has this one. */
  private static <E extends Enum<E>> E constant(Class<E> type, int code) {
    E[] constants = type.getEnumConstants();
    return code >= 0 && code < constants.length ? constants[code] : null;
  }

  private static BlockFormat blocks(int tag) {
    return Stream.of(BlockFormat.values()).filter(f -> f.tag() == tag).findAny().orElse(null);
  }

  private static <T> T unlessOmitted(T made) {
    return HOOK.get().omits() ? null : made;
  }

  /** The cache that a struct describes. */
  public static KvCache cache(exn_kv_cache c) {
    Tensor k = tensor(c.k());
    Tensor v = tensor(c.v());
    switch (c.layout()) {
      case exeunt.EXN_KV_HEAD_MAJOR:
        return unlessOmitted(KvCache.ofHeadMajor(k, v));
      case exeunt.EXN_KV_TOKEN_MAJOR:
        return unlessOmitted(KvCache.ofTokenMajor(k, v));
      default:
        return unlessOmitted(KvCache.ofPages(k, v, tensor(c.block_table())));
    }
  }

  private static Statistics statistics(exn_stats s) {
    return unlessOmitted(new Statistics(tensor(s.argmax()), tensor(s.max_logit()), tensor(s.lse()),
        tensor(s.p1()), tensor(s.p2()), tensor(s.margin()), tensor(s.entropy()),
        tensor(s.pow2_entropy()), tensor(s.mean_log_p()), tensor(s.valid())));
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
        : unlessOmitted(new Selection(indices, count, valid, budget, segments, keep, drop, s.k()));
  }

  // ---- ops --------------------------------------------------------------------------------------

  private static Steps<?> attention(exn_attention_params p) {
    return Steps.of(Attention::builder)
        .then(b -> b.query(tensor(p.query())))
        .then(b -> b.cache(cache(p.cache())))
        .then(b -> b.sequence(tensor(p.sequence())))
        .then(b -> b.visible(tensor(p.visible())))
        .then(b -> b.out(tensor(p.out())))
        .then(b -> b.scores(tensor(p.scores())))
        .then(b -> b.scale(p.scale()))
        .then(b -> b.softcap(p.softcap()))
        .then(b -> b.batchInvariant(p.batch_invariant() != 0));
  }

  private static Steps<?> attentionScores(exn_attention_scores_params p) {
    return Steps.of(AttentionScores::builder)
        .then(b -> b.query(tensor(p.query())))
        .then(b -> b.keys(cache(p.keys())))
        .then(b -> b.sequence(tensor(p.sequence())))
        .then(b -> b.visible(tensor(p.visible())))
        .then(b -> b.limit(tensor(p, "limit")))
        .then(b -> b.scores(tensor(p.scores())))
        .then(b -> b.select(selection(p.selection())))
        .then(b -> b.columns(p.columns()))
        .then(b -> b.first(p.first()))
        .then(b -> b.window(p.window()))
        .then(b -> b.scale(p.scale()))
        .then(b -> b.kind(constant(AttentionScores.Kind.class, p.kind())))
        .then(b -> b.heads(constant(AttentionScores.Heads.class, p.reduction())))
        .then(b -> b.pool(constant(AttentionScores.Pool.class, p.pool()), p.pool_width()))
        .then(b -> b.accumulate(p.accumulate() != 0));
  }

  private static Steps<?> columnNorms(exn_column_norms_params p) {
    return Steps.of(ColumnNorms::builder)
        .then(b -> b.x(tensor(p.x())))
        .then(b -> b.active(tensor(p.active())))
        .then(b -> b.sums(tensor(p.sums())))
        .then(b -> b.norms(tensor(p.norms())))
        .then(b -> b.scale(p.scale()))
        .then(b -> b.accumulate(p.accumulate() != 0));
  }

  private static Steps<?> cosine(exn_cosine_params p) {
    return Steps.of(Cosine::builder)
        .then(b -> b.a(tensor(p.a())))
        .then(b -> b.b(tensor(p.b())))
        .then(b -> b.out(tensor(p.out())));
  }

  private static Steps<?> crossEntropy(exn_cross_entropy_params p) {
    return Steps.of(CrossEntropy::builder)
        .then(b -> b.logits(tensor(p.logits())))
        .then(b -> b.labels(tensor(p.labels())))
        .then(b -> b.loss(tensor(p.loss())))
        .then(b -> b.grad(tensor(p.grad())))
        .then(b -> b.ignoreIndex(p.ignore_index()))
        .then(b -> b.normalizer(constant(Normalizer.class, p.normalizer())))
        .then(b -> b.reduction(constant(CrossEntropy.Reduction.class, p.reduction())));
  }

  private static Steps<?> draftLookup(exn_draft_lookup_params p) {
    return Steps.of(DraftLookup::builder)
        .then(b -> b.context(tensor(p.context())))
        .then(b -> b.length(tensor(p.length())))
        .then(b -> b.append(tensor(p.append())))
        .then(b -> b.appendCount(tensor(p.append_count())))
        .then(b -> b.active(tensor(p.active())))
        .then(b -> b.limit(tensor(p, "limit")))
        .then(b -> b.drafted(tensor(p.drafted())))
        .then(b -> b.draftLength(tensor(p.draft_length())))
        .then(b -> b.matched(tensor(p.matched())))
        .then(b -> b.ngram(p.min_ngram(), p.max_ngram()))
        .then(b -> b.mostMatched(p.most_matched()));
  }

  private static Steps<?> draftRule(exn_draft_rule_params p) {
    Steps<DraftRule.Builder> builder;
    switch (p.action()) {
      case exeunt.EXN_DRAFT_STEP:
        builder = Steps.of(DraftRule::step);
        break;
      case exeunt.EXN_DRAFT_UPDATE:
        builder = Steps.of(DraftRule::update);
        break;
      default:
        builder = Steps.of(DraftRule::reset);
    }
    builder.then(b -> b.score(tensor(p.score())))
        .then(b -> b.tokens(tensor(p.token()), tensor(p.stop_tokens())))
        .then(b -> b.state(tensor(p.state())))
        .then(b -> b.length(tensor(p.length())))
        .then(b -> b.drafting(tensor(p.drafting())))
        .then(b -> b.activeList(tensor(p.active_list())))
        .then(b -> b.activeCount(tensor(p.active_count())))
        .then(b -> b.statistics(tensor(p.statistics())))
        .then(b -> b.plan(tensor(p.plan())))
        .then(b -> b.shadows(tensor(p.shadow_token()), tensor(p.shadow_prob())))
        .then(b -> b.finalToken(tensor(p.final_token())))
        .then(b -> b.columns(tensor(p.columns())))
        .then(b -> b.context(tensor(p.context())))
        .then(b -> b.candidate(tensor(p.candidate())))
        .then(b -> b.mask(tensor(p.mask())))
        .then(b -> b.modelLayers(p.model_layers()))
        .then(b -> b.omega(p.omega()))
        .then(b -> b.first(p.first() != 0))
        // What the rule chosen below does not look at.
        .then(b -> b.specDec(p.threshold(), p.min_steps(), p.max_steps()))
        .then(b -> b.del(constant(DraftRule.Form.class, p.form()), p.min_steps(), p.max_steps()));
    switch (p.rule()) {
      case exeunt.EXN_DRAFT_FIXED:
        return builder.then(b -> b.fixed(p.max_steps()));
      case exeunt.EXN_DRAFT_CONFIDENCE:
        return builder.then(b -> b.confidence(p.threshold(), p.min_steps(), p.max_steps()));
      case exeunt.EXN_DRAFT_SPECDEC:
        return builder.then(b -> b.specDec(p.threshold(), p.min_steps(), p.max_steps()));
      default:
        return builder.then(
            b -> b.del(constant(DraftRule.Form.class, p.form()), p.min_steps(), p.max_steps()));
    }
  }

  private static Steps<?> elr(exn_elr_params p) {
    return Steps.of(Elr::builder)
        .then(b -> b.logits(tensor(p.logits())))
        .then(b -> b.labels(tensor(p.labels())))
        .then(b -> b.index(tensor(p.index())))
        .then(b -> b.targets(tensor(p.targets())))
        .then(b -> b.loss(tensor(p.loss())))
        .then(b -> b.grad(tensor(p.grad())))
        .then(b -> b.ignoreIndex(p.ignore_index()))
        .then(b -> b.beta(p.beta()))
        .then(b -> b.lambda(p.lambda()))
        .then(b -> b.reduction(constant(CrossEntropy.Reduction.class, p.reduction())));
  }

  private static Steps<?> embedding(exn_embedding_params p) {
    return Steps.of(Embedding::builder)
        .then(b -> b.table(tensor(p.table())))
        .then(b -> b.tableBlocks(blocks(p.table_blocks())))
        .then(b -> b.ids(tensor(p.ids())))
        .then(b -> b.out(tensor(p.out())))
        .then(b -> b.scale(p.scale()));
  }

  private static Steps<?> exitHead(exn_exit_head_params p) {
    Steps<ExitHead.Builder> builder =
        Steps.of(ExitHead::builder)
            .then(b -> b.hidden(tensor(p.hidden())))
            .then(b -> b.weight(tensor(p.weight())))
            .then(b -> b.weightBlocks(blocks(p.weight_blocks())))
            .then(b -> b.translatorBlocks(blocks(p.translator_blocks())))
            .then(b -> b.bias(tensor(p.bias())))
            .then(b -> b.shortlist(tensor(p.shortlist())))
            .then(b -> b.screenImage(tensor(p.screen())))
            .then(b -> b.screenLevel(p.screen_level()))
            .then(b -> b.screenBounds(constant(Screen.Bounds.class, p.screen_mode())))
            .then(b -> b.screenBudget(p.screen_budget()))
            .then(b -> b.screenFactor(p.screen_factor()))
            .then(b -> b.certified(tensor(p.certified())))
            .then(b -> b.p1Low(tensor(p.p1_low())))
            .then(b -> b.p1High(tensor(p.p1_high())))
            .then(b -> b.rowsRead(tensor(p.rows_read())))
            .then(b -> b.normalizer(constant(Normalizer.class, p.normalizer())))
            .then(b -> b.temperature(p.temperature()))
            .then(b -> b.softcap(p.softcap()))
            .then(b -> b.out(statistics(p.out())));
    switch (p.norm()) {
      case exeunt.EXN_NORM_RMS ->
        builder.then(b -> b.rmsNorm(tensor(p.norm_weight()), p.norm_eps()));
      case exeunt.EXN_NORM_LAYER ->
        builder.then(
            b -> b.layerNorm(tensor(p.norm_weight()), tensor(p.norm_bias()), p.norm_eps()));
      default -> builder.then(b -> b.noNorm()).then(b -> b.normEps(p.norm_eps()));
    }
    return builder.then(b
        -> b.translator(tensor(p.translator_weight()), tensor(p.translator_bias()),
            constant(ExitHead.Translate.class, p.translate())));
  }

  private static Steps<?> exitRule(exn_exit_rule_params p) {
    Steps<ExitRule.Builder> builder =
        Steps.of(ExitRule::builder)
            .then(b -> b.score(tensor(p.score())))
            .then(b -> b.label(tensor(p.label())))
            .then(b -> b.valid(tensor(p.valid())))
            .then(b -> b.step(tensor(p.step())))
            .then(b -> b.state(tensor(p.state())))
            .then(b -> b.exitMask(tensor(p.exit_mask())))
            .then(b -> b.activeList(tensor(p.active_list())))
            .then(b -> b.activeCount(tensor(p.active_count())))
            .then(b -> b.exitLayer(tensor(p.exit_layer())))
            .then(b
                -> b.decay(
                    constant(ExitRule.Decay.class, p.decay()), p.decay_tau(), p.decay_horizon()))
            .then(b -> b.rows(constant(ExitRule.Rows.class, p.scope())))
            .then(b -> b.stepIndex(p.step_index()))
            .then(b -> b.at(p.layer(), p.first() != 0, p.force() != 0))
            // What the rule chosen below does not look at.
            .then(b -> b.specDec(0, p.min_steps(), p.max_steps()))
            .then(b -> b.patience(p.patience()));
    switch (p.rule()) {
      case exeunt.EXN_RULE_THRESHOLD:
        return builder.then(
            b -> b.threshold(constant(ExitRule.Comparator.class, p.comparator()), p.threshold()));
      case exeunt.EXN_RULE_PATIENCE:
        return builder.then(b -> b.patience(p.patience(), p.threshold()));
      case exeunt.EXN_RULE_QUANTILE:
        return builder.then(b -> b.quantile(p.threshold()));
      case exeunt.EXN_RULE_JEI:
        return builder.then(b -> b.jei(p.threshold()));
      default:
        return builder.then(b -> b.specDec(p.threshold(), p.min_steps(), p.max_steps()));
    }
  }

  private static Steps<?> ffn(exn_ffn_params p) {
    Steps<Ffn.Builder> builder =
        Steps.of(Ffn::builder)
            .then(b -> b.hidden(tensor(p.hidden())))
            .then(b -> b.gate(tensor(p.gate_weight()), tensor(p.gate_bias())))
            .then(b -> b.up(tensor(p.up_weight()), tensor(p.up_bias())))
            .then(b -> b.down(tensor(p.down_weight()), tensor(p.down_bias())))
            .then(b
                -> b.weightBlocks(
                    blocks(p.gate_blocks()), blocks(p.up_blocks()), blocks(p.down_blocks())))
            .then(b -> b.activation(constant(Ffn.Activation.class, p.activation())))
            .then(b -> b.skip(tensor(p.skip())))
            .then(b -> b.out(tensor(p.out())))
            .then(b -> b.cosine(tensor(p.cosine())))
            .then(b -> b.branchCosine(tensor(p.branch_cosine())));
    switch (p.norm()) {
      case exeunt.EXN_NORM_RMS:
        return builder.then(b -> b.rmsNorm(tensor(p.norm_weight()), p.norm_eps()));
      case exeunt.EXN_NORM_LAYER:
        return builder.then(
            b -> b.layerNorm(tensor(p.norm_weight()), tensor(p.norm_bias()), p.norm_eps()));
      default:
        return builder.then(b -> b.noNorm());
    }
  }

  private static Steps<?> ffnSkipRule(exn_ffn_skip_rule_params p) {
    return Steps.of(FfnSkipRule::builder)
        .then(b -> b.cosine(tensor(p.cosine())))
        .then(b -> b.token(tensor(p.token())))
        .then(b -> b.state(tensor(p.state())))
        .then(b -> b.skip(tensor(p.skip())))
        .then(b -> b.modelLayers(p.model_layers()))
        .then(b -> b.coldLayers(p.cold_start(), p.cold_end()))
        .then(b -> b.threshold(p.threshold()))
        .then(b -> b.warmUp(p.warm_up()))
        .then(b -> b.budget(p.budget()))
        .then(b -> b.at(p.layer(), p.token_index()));
  }

  private static Steps<?> gate(exn_gate_params p) {
    Steps<Gate.Builder> builder =
        Steps.of(Gate::builder)
            .then(b -> b.features(tensor(p.features())))
            .then(b -> b.output(tensor(p.out_weight()), tensor(p.out_bias())))
            .then(b -> b.weightBlocks(blocks(p.hidden_blocks()), blocks(p.out_blocks())))
            .then(b -> b.prob(tensor(p.prob())));
    Tensor weight = tensor(p.hidden_weight());
    Tensor bias = tensor(p.hidden_bias());
    switch (p.kind()) {
      case exeunt.EXN_GATE_RESIDUAL:
        return builder.then(b -> b.residual(weight, bias, p.repeats()));
      case exeunt.EXN_GATE_TANH:
        return builder.then(b -> b.tanh(weight, bias, p.repeats()));
      default:
        return builder.then(b -> b.linear());
    }
  }

  private static Steps<?> gather(exn_gather_params p) {
    Steps<Gather.Builder> builder =
        Steps.of(Gather::builder)
            .then(b -> b.list(tensor(p.list())))
            .then(b -> b.count(tensor(p.count())))
            .then(b -> b.rows(p.rows()))
            .then(b -> b.moved(tensor(p.moved())));
    for (int i = 0; i < p.tensor_count(); i++) {
      var item = p.tensors().getPointer(i);
      builder.then(b -> b.tensor(tensor(item.input()), tensor(item.out()), item.axis()));
    }
    return p.positions() == exeunt.EXN_POSITIONS_RENUMBER
        ? builder.then(b -> b.renumber(p.first_position(), tensor(p.position_out())))
        : builder.then(b -> b.positions(tensor(p, "position"), tensor(p.position_out())));
  }

  private static Steps<?> hiddenStack(exn_hidden_stack_params p) {
    Steps<HiddenStack.Builder> builder;
    switch (p.action()) {
      case exeunt.EXN_STACK_PUSH:
        builder = Steps.of(HiddenStack::push);
        break;
      case exeunt.EXN_STACK_GATHER:
        builder = Steps.of(HiddenStack::gather);
        break;
      default:
        builder = Steps.of(HiddenStack::clear);
    }
    return builder.then(b -> b.stack(tensor(p.stack())))
        .then(b -> b.count(tensor(p.count())))
        .then(b -> b.rows(tensor(p.rows())))
        .then(b -> b.tags(tensor(p.stack_tags()), tensor(p.tags())))
        .then(b -> b.mask(tensor(p.mask())))
        .then(b -> b.overflow(tensor(p.overflow())));
  }

  private static Steps<?> hiredBudget(exn_hired_budget_params p) {
    return Steps.of(HiredBudget::builder)
        .then(b -> b.attention(tensor(p.attention())))
        .then(b -> b.budget(tensor(p.budget())))
        .then(b -> b.marks(tensor(p.marks())))
        .then(b -> b.valid(tensor(p.valid())))
        .then(b -> b.rate(p.rate(), p.alpha()))
        .then(b -> b.patches(p.patch_rows(), p.patch_cols()))
        .then(b -> b.grid(p.grid_rows(), p.grid_cols()))
        .then(b -> b.score(constant(HiredBudget.Score.class, p.score())))
        .then(b -> b.region(constant(HiredBudget.Region.class, p.region())))
        .then(b -> b.remainder(constant(HiredBudget.Remainder.class, p.remainder())));
  }

  private static Steps<?> kvAppend(exn_kv_append_params p) {
    return Steps.of(KvAppend::builder)
        .then(b -> b.cache(cache(p.cache())))
        .then(b -> b.k(tensor(p.k())))
        .then(b -> b.v(tensor(p.v())))
        .then(b -> b.sequence(tensor(p.sequence())))
        .then(b -> b.slot(tensor(p.slot())));
  }

  private static Steps<?> kvCompact(exn_kv_compact_params p) {
    Steps<KvCompact.Builder> builder =
        Steps.of(KvCompact::builder)
            .then(b -> b.source(cache(p.source())))
            .then(b -> b.destination(cache(p.destination())))
            .then(b -> b.perHead(p.per_head() != 0))
            .then(b -> b.sequence(tensor(p.sequence())))
            .then(b -> b.length(tensor(p.length())))
            .then(b -> b.newLength(tensor(p.new_length())))
            .then(b -> b.freed(tensor(p.freed()), tensor(p.freed_count())));
    Tensor list = tensor(p.list());
    Tensor offsets = tensor(p.offsets());
    return offsets != null
        ? builder.then(b -> b.packed(list, offsets))
        : builder.then(b -> b.padded(list, tensor(p.count())));
  }

  private static Steps<?> kvCopy(exn_kv_copy_params p) {
    return Steps.of(KvCopy::builder)
        .then(b -> b.source(cache(p.source())))
        .then(b -> b.destination(cache(p.destination())))
        .then(b -> b.from(tensor(p.from_slot()), tensor(p.from_sequence())))
        .then(b -> b.to(tensor(p.to_slot()), tensor(p.to_sequence())));
  }

  private static Steps<?> kvLength(exn_kv_length_params p) {
    Steps<KvLength.Builder> builder = p.action() == exeunt.EXN_KV_ADVANCE
        ? Steps.of(() -> KvLength.advance(word(p, "capacity")))
        : Steps.of(KvLength::crop);
    return builder.then(b -> b.length(tensor(p.length())))
        .then(b -> b.sequence(tensor(p.sequence())))
        .then(b -> b.active(tensor(p.active())))
        .then(b -> b.slot(tensor(p.slot())))
        .then(b -> b.visible(tensor(p.visible())))
        .then(b -> b.limit(tensor(p, "limit")));
  }

  private static Steps<?> kvPropagate(exn_kv_propagate_params p) {
    Steps<KvPropagate.Builder> builder =
        Steps.of(KvPropagate::builder)
            .then(b -> b.hidden(tensor(p.hidden())))
            .then(b -> b.exitLayer(tensor(p.exit_layer())))
            .then(b -> b.sequence(tensor(p.sequence())))
            .then(b -> b.slot(tensor(p.slot())))
            .then(b -> b.norm(constant(Norm.Kind.class, p.norm()), p.norm_eps()))
            .then(b
                -> b.rope(tensor(p.rope_table()), constant(Rope.Style.class, p.rope_style()),
                    tensor(p, "position")))
            .then(b -> b.modelLayers(p.model_layers()));
    List<KvPropagate.Layer> layers = new ArrayList<>();
    for (int i = 0; i < p.layer_count(); i++) {
      layers.add(layer(p.layers().getPointer(i)));
    }
    return builder.then(b -> b.layers(layers));
  }

  private static KvPropagate.Layer layer(exn_kv_layer l) {
    return unlessOmitted(new KvPropagate.Layer(l.index(), tensor(l.norm_weight()),
        tensor(l.norm_bias()), tensor(l.k_weight()), tensor(l.k_bias()), tensor(l.v_weight()),
        tensor(l.v_bias()), cache(l.cache()), blocks(l.k_blocks()), blocks(l.v_blocks())));
  }

  private static Steps<?> layerSchedule(exn_layer_schedule_params p) {
    Steps<LayerSchedule.Builder> builder;
    switch (p.kind()) {
      case exeunt.EXN_SCHEDULE_SKIPDECODE:
        builder = Steps.of(
            ()
                -> LayerSchedule.skipDecode(
                    p.prompt(), p.horizon(), p.most(), p.least(), p.warm_up()));
        break;
      case exeunt.EXN_SCHEDULE_CALM:
        builder = Steps.of(() -> LayerSchedule.calm(p.first_exit(), p.interval(), p.min_exit()));
        break;
      case exeunt.EXN_SCHEDULE_FIXED:
        builder = Steps.of(() -> LayerSchedule.fixed(integers(tensor(p.order()))));
        break;
      default:
        builder = Steps.of(() -> LayerSchedule.unified(p.prompt(), p.least()));
    }
    if (p.kind() == exeunt.EXN_SCHEDULE_CALM) {
      builder.then(b
          -> b.threshold(p.start_threshold(), constant(ExitRule.Decay.class, p.decay()), p.prompt(),
              p.horizon(), p.tau()));
    }
    return builder.then(b -> b.layers(tensor(p.layers())))
        .then(b -> b.count(tensor(p.count())))
        .then(b -> b.exitTest(tensor(p.exit_test())))
        .then(b -> b.threshold(tensor(p.threshold())));
  }

  private static Steps<?> linear(exn_linear_params p) {
    return Steps.of(Linear::builder)
        .then(b -> b.input(tensor(p.input())))
        .then(b -> b.weight(tensor(p.weight())))
        .then(b -> b.weightBlocks(blocks(p.weight_blocks())))
        .then(b -> b.adapter(tensor(p.adapter_down()), tensor(p.adapter_up())))
        .then(b -> b.adapterScale(tensor(p.adapter_scale())))
        .then(b -> b.bias(tensor(p.bias())))
        .then(b -> b.residual(tensor(p.residual())))
        .then(b -> b.out(tensor(p.out())));
  }

  private static Steps<?> norm(exn_norm_params p) {
    Steps<Norm.Builder> builder =
        Steps.of(Norm::builder)
            .then(b -> b.input(tensor(p.input())))
            .then(b -> b.out(tensor(p.out())));
    switch (p.norm()) {
      case exeunt.EXN_NORM_RMS:
        return builder.then(b -> b.rms(tensor(p.weight()), p.eps()));
      case exeunt.EXN_NORM_LAYER:
        return builder.then(b -> b.layer(tensor(p.weight()), tensor(p.bias()), p.eps()));
      default:
        return builder.then(b -> b.none());
    }
  }

  private static Steps<?> perpGrad(exn_perp_grad_params p) {
    return Steps.of(PerpGrad::builder)
        .then(b -> b.weight(tensor(p.weight())))
        .then(b -> b.grad(tensor(p.grad())))
        .then(b -> b.out(tensor(p.out())))
        .then(b -> b.form(constant(PerpGrad.Form.class, p.form())));
  }

  private static Steps<?> pruneApply(exn_prune_apply_params p) {
    Steps<PruneApply.Builder> builder = Steps.of(PruneApply::builder);
    for (int i = 0; i < p.tensor_count(); i++) {
      var item = p.tensors().getPointer(i);
      builder.then(b
          -> b.tensor(tensor(item.mask()), tensor(item.weight()), tensor(item.grad()),
              tensor(item.momentum()), tensor(item.variance())));
    }
    return builder;
  }

  private static Steps<?> pruneMask(exn_prune_mask_params p) {
    Steps<PruneMask.Builder> builder =
        Steps.of(PruneMask::builder)
            .then(b -> b.ratio(p.ratio()))
            .then(b -> b.among(constant(PruneMask.Among.class, p.scope())))
            .then(b -> b.which(constant(PruneMask.Which.class, p.which())))
            .then(b -> b.rounding(constant(PruneMask.Rounding.class, p.rounding())))
            .then(b -> b.keepPruned(p.first() == 0));
    for (int i = 0; i < p.tensor_count(); i++) {
      var item = p.tensors().getPointer(i);
      builder.then(b -> b.tensor(tensor(item.weight()), tensor(item.mask()), tensor(item.norm())));
    }
    return builder;
  }

  private static Steps<?> rope(exn_rope_params p) {
    return Steps.of(Rope::builder)
        .then(b -> b.input(tensor(p.input())))
        .then(b -> b.position(tensor(p, "position")))
        .then(b -> b.table(tensor(p.table()), constant(Rope.Style.class, p.style())))
        .then(b -> b.out(tensor(p.out())));
  }

  private static Steps<?> ropeTable(exn_rope_table_params p) {
    Steps<RopeTable.Builder> builder =
        Steps.of(RopeTable::builder)
            .then(b -> b.table(tensor(p.table())))
            .then(b -> b.base(p.base()));
    switch (p.scaling()) {
      case exeunt.EXN_ROPE_SCALING_LINEAR:
        return builder.then(b -> b.linear(p.factor()));
      case exeunt.EXN_ROPE_SCALING_NTK:
        return builder.then(b -> b.ntk(p.factor()));
      default:
        return builder;
    }
  }

  private static Steps<?> rowCompaction(exn_row_compaction_params p) {
    Steps<RowCompaction.Builder> builder = p.direction() == exeunt.EXN_ROWS_GATHER
        ? Steps.of(RowCompaction::gather)
        : Steps.of(RowCompaction::scatter);
    return builder.then(b -> b.input(tensor(p.input())))
        .then(b -> b.list(tensor(p.list())))
        .then(b -> b.out(tensor(p.out())));
  }

  private static Steps<?> rowStats(exn_row_stats_params p) {
    return Steps.of(RowStats::builder)
        .then(b -> b.logits(tensor(p.logits())))
        .then(b -> b.normalizer(constant(Normalizer.class, p.normalizer())))
        .then(b -> b.temperature(p.temperature()))
        .then(b -> b.softcap(p.softcap()))
        .then(b -> b.out(statistics(p.out())));
  }

  private static Steps<?> select(exn_select_params p) {
    return Steps.of(Select::builder)
        .then(b -> b.scores(tensor(p.scores())))
        .then(b -> b.heads(p.heads()))
        .then(b -> b.limit(tensor(p, "limit")))
        .then(b -> b.select(selection(p.selection())));
  }

  private static Steps<?> ssmStep(exn_ssm_step_params p) {
    return Steps.of(p.stage() == exeunt.EXN_SSM_SCAN ? SsmStep::scan : SsmStep::convolution)
        .then(b -> b.x(tensor(p.x())))
        .then(b -> b.state(tensor(p.state())))
        .then(b -> b.weight(tensor(p.weight())))
        .then(b -> b.bias(tensor(p.bias())))
        .then(b -> b.dt(tensor(p.dt())))
        .then(b -> b.b(tensor(p.b())))
        .then(b -> b.c(tensor(p.c())))
        .then(b -> b.skip(tensor(p.skip())))
        .then(b -> b.z(tensor(p.z())))
        .then(b -> b.out(tensor(p.out())))
        .then(b -> b.sequence(tensor(p.sequence())))
        .then(b -> b.active(tensor(p.active())));
  }

  private static Steps<?> stableMax(exn_stablemax_params p) {
    Steps<StableMax.Builder> builder =
        p.log() != 0 ? Steps.of(StableMax::logForward) : Steps.of(StableMax::forward);
    return builder.then(b -> b.logits(tensor(p.logits())))
        .then(b -> b.out(tensor(p.out())))
        .then(b -> b.normalizer(constant(Normalizer.class, p.normalizer())));
  }

  private static Steps<?> verify(exn_verify_params p) {
    Steps<Verify.Builder> builder =
        Steps.of(Verify::builder)
            .then(b -> b.drafted(tensor(p.drafted())))
            .then(b -> b.draftLength(tensor(p.draft_length())))
            .then(b -> b.active(tensor(p.active())))
            .then(b -> b.argmax(tensor(p.argmax())))
            .then(b -> b.logits(tensor(p.logits()), p.temperature()))
            .then(b -> b.draftLogits(tensor(p.draft()), p.draft_temperature()))
            .then(b -> b.uniform(tensor(p.uniform())))
            .then(b -> b.stop(tensor(p.stop())))
            .then(b -> b.accepted(tensor(p.accepted())))
            .then(b -> b.token(tensor(p.token())))
            .then(b -> b.out(tensor(p.out())))
            .then(b -> b.outCount(tensor(p.out_count())))
            .then(b -> b.lastRow(tensor(p.last_row())))
            .then(b -> b.outcome(tensor(p.outcome())))
            .then(b -> b.length(tensor(p.length())))
            .then(b -> b.position(tensor(p, "position")))
            .then(b -> b.capacity(word(p, "capacity")))
            .then(b -> b.vocabulary(p.vocabulary()));
    return p.draft_kind() == exeunt.EXN_DRAFT_PROBABILITIES
        ? builder.then(b -> b.draftProbabilities(tensor(p.draft())))
        : builder;
  }

  private static Steps<?> stopRule(exn_stop_rule_params p) {
    return Steps.of(StopRule::builder)
        .then(b -> b.token(tensor(p.token())))
        .then(b -> b.stopIds(tensor(p.stop_ids())))
        .then(b -> b.logP(tensor(p.log_p())))
        .then(b -> b.logits(tensor(p.logits()), tensor(p.lse()), p.temperature()))
        .then(b -> b.meanLogP(tensor(p.mean_log_p())))
        .then(b -> b.confidence(tensor(p.confidence()), p.confident_at(), p.abstain_below()))
        .then(b -> b.answer(tensor(p.answer_ids()), p.confident_at(), p.abstain_below()))
        .then(b -> b.entropy(tensor(p.entropy())))
        .then(b -> b.state(tensor(p.state())))
        .then(b -> b.finished(tensor(p.finished())))
        .then(b -> b.reason(tensor(p.reason())))
        .then(b -> b.score(tensor(p.score())))
        .then(b -> b.trials(tensor(p.trials())))
        .then(b -> b.activeList(tensor(p.active_list())))
        .then(b -> b.activeCount(tensor(p.active_count())))
        .then(b -> b.winner(tensor(p.winner())))
        .then(b -> b.vocabulary(p.vocabulary()))
        .then(b -> b.finish(constant(StopRule.Finish.class, p.scope())))
        .then(b -> b.choice(constant(StopRule.Choice.class, p.choice())))
        .then(b -> b.budget(p.budget()))
        .then(b -> b.trialRange(p.trials_low(), p.trials_high(), p.most_trials()))
        .then(b -> b.first(p.first() != 0));
  }

  private static Steps<?> tokenBias(exn_token_bias_params p) {
    return Steps.of(TokenBias::builder)
        .then(b -> b.logits(tensor(p.logits())))
        .then(b -> b.ids(tensor(p.ids())))
        .then(b -> b.mask(tensor(p.mask())))
        .then(b -> b.scale(p.scale()))
        .then(b -> b.add(p.add()));
  }
}
