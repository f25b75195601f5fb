// SPDX-License-Identifier: Apache-2.0
package org.exeunt.cases;

import static org.exeunt.cases.Facade.*;

import java.util.ArrayList;
import java.util.List;
import org.exeunt.AttentionScores;
import org.exeunt.DraftLookup;
import org.exeunt.DraftRule;
import org.exeunt.ExitHead;
import org.exeunt.ExitRule;
import org.exeunt.Ffn;
import org.exeunt.FfnSkipRule;
import org.exeunt.Gate;
import org.exeunt.Gather;
import org.exeunt.HiddenStack;
import org.exeunt.HiredBudget;
import org.exeunt.KvCompact;
import org.exeunt.KvCopy;
import org.exeunt.KvLength;
import org.exeunt.KvPropagate;
import org.exeunt.LayerSchedule;
import org.exeunt.Linear;
import org.exeunt.Norm;
import org.exeunt.PruneApply;
import org.exeunt.PruneMask;
import org.exeunt.Rope;
import org.exeunt.RopeTable;
import org.exeunt.RowCompaction;
import org.exeunt.SsmStep;
import org.exeunt.StableMax;
import org.exeunt.StopRule;
import org.exeunt.Tensor;
import org.exeunt.Verify;
import org.exeunt.jni.exn_attention_scores_params;
import org.exeunt.jni.exn_draft_lookup_params;
import org.exeunt.jni.exn_draft_rule_params;
import org.exeunt.jni.exn_exit_head_params;
import org.exeunt.jni.exn_exit_rule_params;
import org.exeunt.jni.exn_ffn_params;
import org.exeunt.jni.exn_ffn_skip_rule_params;
import org.exeunt.jni.exn_gate_params;
import org.exeunt.jni.exn_gather_params;
import org.exeunt.jni.exn_hidden_stack_params;
import org.exeunt.jni.exn_hired_budget_params;
import org.exeunt.jni.exn_kv_compact_params;
import org.exeunt.jni.exn_kv_copy_params;
import org.exeunt.jni.exn_kv_layer;
import org.exeunt.jni.exn_kv_length_params;
import org.exeunt.jni.exn_kv_propagate_params;
import org.exeunt.jni.exn_layer_schedule_params;
import org.exeunt.jni.exn_linear_params;
import org.exeunt.jni.exn_norm_params;
import org.exeunt.jni.exn_prune_apply_params;
import org.exeunt.jni.exn_prune_mask_params;
import org.exeunt.jni.exn_rope_params;
import org.exeunt.jni.exn_rope_table_params;
import org.exeunt.jni.exn_row_compaction_params;
import org.exeunt.jni.exn_ssm_step_params;
import org.exeunt.jni.exn_stablemax_params;
import org.exeunt.jni.exn_stop_rule_params;
import org.exeunt.jni.exn_verify_params;
import org.exeunt.jni.global.exeunt;

/**
 * The calls that no single field decides: of setters that take several, of builders that begin in
 * more than one way, of ops that are written by hand. {@code Calls} goes on with the others.
 */
final class Forms {
  private Forms() {}

  static Steps<AttentionScores.Builder> attentionScores(exn_attention_scores_params p) {
    return Steps.of(AttentionScores::builder)
        .then(b -> b.columns(p.columns()))
        .then(b -> b.pool(constant(AttentionScores.Pool.class, p.pool()), p.pool_width()));
  }

  static Steps<DraftLookup.Builder> draftLookup(exn_draft_lookup_params p) {
    return Steps.of(DraftLookup::builder).then(b -> b.ngram(p.min_ngram(), p.max_ngram()));
  }

  static Steps<DraftRule.Builder> draftRule(exn_draft_rule_params p) {
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
    builder.then(b -> b.tokens(tensor(p.token()), tensor(p.stop_tokens())))
        .then(b -> b.shadows(tensor(p.shadow_token()), tensor(p.shadow_prob())))
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

  static Steps<ExitHead.Builder> exitHead(exn_exit_head_params p) {
    Steps<ExitHead.Builder> builder =
        Steps.of(ExitHead::builder).then(b -> b.screenImage(tensor(p.screen())));
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

  static Steps<ExitRule.Builder> exitRule(exn_exit_rule_params p) {
    Steps<ExitRule.Builder> builder =
        Steps.of(ExitRule::builder)
            .then(b
                -> b.decay(
                    constant(ExitRule.Decay.class, p.decay()), p.decay_tau(), p.decay_horizon()))
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

  static Steps<Ffn.Builder> ffn(exn_ffn_params p) {
    Steps<Ffn.Builder> builder =
        Steps.of(Ffn::builder)
            .then(b -> b.gate(tensor(p.gate_weight()), tensor(p.gate_bias())))
            .then(b -> b.up(tensor(p.up_weight()), tensor(p.up_bias())))
            .then(b -> b.down(tensor(p.down_weight()), tensor(p.down_bias())))
            .then(b
                -> b.weightBlocks(
                    blocks(p.gate_blocks()), blocks(p.up_blocks()), blocks(p.down_blocks())));
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

  static Steps<FfnSkipRule.Builder> ffnSkipRule(exn_ffn_skip_rule_params p) {
    return Steps.of(FfnSkipRule::builder)
        .then(b -> b.coldLayers(p.cold_start(), p.cold_end()))
        .then(b -> b.at(p.layer(), p.token_index()));
  }

  static Steps<Gate.Builder> gate(exn_gate_params p) {
    Steps<Gate.Builder> builder =
        Steps.of(Gate::builder)
            .then(b -> b.output(tensor(p.out_weight()), tensor(p.out_bias())))
            .then(b -> b.weightBlocks(blocks(p.hidden_blocks()), blocks(p.out_blocks())));
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

  static Steps<Gather.Builder> gather(exn_gather_params p) {
    Steps<Gather.Builder> builder = Steps.of(Gather::builder).then(b -> b.rows(p.rows()));
    for (int i = 0; i < p.tensor_count(); i++) {
      var item = p.tensors().getPointer(i);
      builder.then(b -> b.tensor(tensor(item.input()), tensor(item.out()), item.axis()));
    }
    return p.positions() == exeunt.EXN_POSITIONS_RENUMBER
        ? builder.then(b -> b.renumber(p.first_position(), tensor(p.position_out())))
        : builder.then(b -> b.positions(tensor(p, "position"), tensor(p.position_out())));
  }

  static Steps<HiddenStack.Builder> hiddenStack(exn_hidden_stack_params p) {
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
    return builder.then(b -> b.tags(tensor(p.stack_tags()), tensor(p.tags())));
  }

  static Steps<HiredBudget.Builder> hiredBudget(exn_hired_budget_params p) {
    return Steps.of(HiredBudget::builder)
        .then(b -> b.rate(p.rate(), p.alpha()))
        .then(b -> b.patches(p.patch_rows(), p.patch_cols()))
        .then(b -> b.grid(p.grid_rows(), p.grid_cols()));
  }

  static Steps<KvCompact.Builder> kvCompact(exn_kv_compact_params p) {
    Steps<KvCompact.Builder> builder =
        Steps.of(KvCompact::builder).then(b -> b.freed(tensor(p.freed()), tensor(p.freed_count())));
    Tensor list = tensor(p.list());
    Tensor offsets = tensor(p.offsets());
    return offsets != null
        ? builder.then(b -> b.packed(list, offsets))
        : builder.then(b -> b.padded(list, tensor(p.count())));
  }

  static Steps<KvCopy.Builder> kvCopy(exn_kv_copy_params p) {
    return Steps.of(KvCopy::builder)
        .then(b -> b.from(tensor(p.from_slot()), tensor(p.from_sequence())))
        .then(b -> b.to(tensor(p.to_slot()), tensor(p.to_sequence())));
  }

  static Steps<KvLength.Builder> kvLength(exn_kv_length_params p) {
    Steps<KvLength.Builder> builder = p.action() == exeunt.EXN_KV_ADVANCE
        ? Steps.of(() -> KvLength.advance(word(p, "capacity")))
        : Steps.of(KvLength::crop);
    return builder;
  }

  static Steps<KvPropagate.Builder> kvPropagate(exn_kv_propagate_params p) {
    Steps<KvPropagate.Builder> builder =
        Steps.of(KvPropagate::builder)
            .then(b -> b.norm(constant(Norm.Kind.class, p.norm()), p.norm_eps()))
            .then(b
                -> b.rope(tensor(p.rope_table()), constant(Rope.Style.class, p.rope_style()),
                    tensor(p, "position")));
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

  static Steps<LayerSchedule.Builder> layerSchedule(exn_layer_schedule_params p) {
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

  static Steps<Linear.Builder> linear(exn_linear_params p) {
    return Steps.of(Linear::builder)
        .then(b -> b.adapter(tensor(p.adapter_down()), tensor(p.adapter_up())));
  }

  static Steps<Norm.Builder> norm(exn_norm_params p) {
    Steps<Norm.Builder> builder = Steps.of(Norm::builder);
    switch (p.norm()) {
      case exeunt.EXN_NORM_RMS:
        return builder.then(b -> b.rms(tensor(p.weight()), p.eps()));
      case exeunt.EXN_NORM_LAYER:
        return builder.then(b -> b.layer(tensor(p.weight()), tensor(p.bias()), p.eps()));
      default:
        return builder.then(b -> b.none());
    }
  }

  static Steps<PruneApply.Builder> pruneApply(exn_prune_apply_params p) {
    Steps<PruneApply.Builder> builder = Steps.of(PruneApply::builder);
    for (int i = 0; i < p.tensor_count(); i++) {
      var item = p.tensors().getPointer(i);
      builder.then(b
          -> b.tensor(tensor(item.mask()), tensor(item.weight()), tensor(item.grad()),
              tensor(item.momentum()), tensor(item.variance())));
    }
    return builder;
  }

  static Steps<PruneMask.Builder> pruneMask(exn_prune_mask_params p) {
    Steps<PruneMask.Builder> builder =
        Steps.of(PruneMask::builder).then(b -> b.keepPruned(p.first() == 0));
    for (int i = 0; i < p.tensor_count(); i++) {
      var item = p.tensors().getPointer(i);
      builder.then(b -> b.tensor(tensor(item.weight()), tensor(item.mask()), tensor(item.norm())));
    }
    return builder;
  }

  static Steps<Rope.Builder> rope(exn_rope_params p) {
    return Steps.of(Rope::builder)
        .then(b -> b.table(tensor(p.table()), constant(Rope.Style.class, p.style())));
  }

  static Steps<RopeTable.Builder> ropeTable(exn_rope_table_params p) {
    Steps<RopeTable.Builder> builder = Steps.of(RopeTable::builder);
    switch (p.scaling()) {
      case exeunt.EXN_ROPE_SCALING_LINEAR:
        return builder.then(b -> b.linear(p.factor()));
      case exeunt.EXN_ROPE_SCALING_NTK:
        return builder.then(b -> b.ntk(p.factor()));
      default:
        return builder;
    }
  }

  static Steps<RowCompaction.Builder> rowCompaction(exn_row_compaction_params p) {
    Steps<RowCompaction.Builder> builder = p.direction() == exeunt.EXN_ROWS_GATHER
        ? Steps.of(RowCompaction::gather)
        : Steps.of(RowCompaction::scatter);
    return builder;
  }

  static Steps<SsmStep.Builder> ssmStep(exn_ssm_step_params p) {
    return Steps.of(p.stage() == exeunt.EXN_SSM_SCAN ? SsmStep::scan : SsmStep::convolution);
  }

  static Steps<StableMax.Builder> stableMax(exn_stablemax_params p) {
    Steps<StableMax.Builder> builder =
        p.log() != 0 ? Steps.of(StableMax::logForward) : Steps.of(StableMax::forward);
    return builder;
  }

  static Steps<Verify.Builder> verify(exn_verify_params p) {
    Steps<Verify.Builder> builder =
        Steps.of(Verify::builder)
            .then(b -> b.logits(tensor(p.logits()), p.temperature()))
            .then(b -> b.draftLogits(tensor(p.draft()), p.draft_temperature()));
    return p.draft_kind() == exeunt.EXN_DRAFT_PROBABILITIES
        ? builder.then(b -> b.draftProbabilities(tensor(p.draft())))
        : builder;
  }

  static Steps<StopRule.Builder> stopRule(exn_stop_rule_params p) {
    return Steps.of(StopRule::builder)
        .then(b -> b.logits(tensor(p.logits()), tensor(p.lse()), p.temperature()))
        .then(b -> b.confidence(tensor(p.confidence()), p.confident_at(), p.abstain_below()))
        .then(b -> b.answer(tensor(p.answer_ids()), p.confident_at(), p.abstain_below()))
        .then(b -> b.trialRange(p.trials_low(), p.trials_high(), p.most_trials()));
  }
}
