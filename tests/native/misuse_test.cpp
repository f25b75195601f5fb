// SPDX-License-Identifier: Apache-2.0
// Misuse: every wrong argument is refused with the right status and a sentence that names it and
// the two values that disagree, and nothing is written.
#include "misuse.h"

namespace exn::test {
namespace {

const Op<exn_row_stats_params> kRowStats = {"row_stats", exn_row_stats_supported,
                                            exn_row_stats_workspace_size, exn_row_stats};
const Op<exn_exit_head_params> kExitHead = {"exit_head", exn_exit_head_supported,
                                            exn_exit_head_workspace_size, exn_exit_head};
const Op<exn_stablemax_params> kStableMax = {"stablemax", exn_stablemax_supported,
                                             exn_stablemax_workspace_size, exn_stablemax};
const Op<exn_cross_entropy_params> kCrossEntropy = {"cross_entropy", exn_cross_entropy_supported,
                                                    exn_cross_entropy_workspace_size,
                                                    exn_cross_entropy};
const Op<exn_perp_grad_params> kPerpGrad = {"perp_grad", exn_perp_grad_supported,
                                            exn_perp_grad_workspace_size, exn_perp_grad};
const Op<exn_cosine_params> kCosine = {"cosine", exn_cosine_supported, exn_cosine_workspace_size,
                                       exn_cosine};
const Op<exn_gate_params> kGate = {"gate", exn_gate_supported, exn_gate_workspace_size, exn_gate};
const Op<exn_exit_rule_params> kExitRule = {"exit_rule", exn_exit_rule_supported,
                                            exn_exit_rule_workspace_size, exn_exit_rule};

// ---- misuse, per op -----------------------------------------------------------------------------

template <class Params>
void spoil_normalizer(Spoiler<Params>* spoil) {
  for (int32_t bad : {-1, 2, 99}) {
    spoil->value(&Params::normalizer, bad, {"normalizer", std::to_string(bad)});
  }
  spoil->value(&Params::temperature, 0.0f, {"temperature", "0"});
  spoil->value(&Params::temperature, -1.0f, {"temperature", "-1"});
  spoil->value(&Params::temperature, kNaN, {"temperature", "nan"});
  spoil->value(&Params::temperature, kInf, {"temperature", "inf"});
  spoil->value(&Params::softcap, -1.0f, {"softcap", "-1"});
  spoil->value(&Params::softcap, kNaN, {"softcap", "nan"});
  spoil->value(&Params::softcap, kInf, {"softcap", "inf"});
}

// An input may be one row several times over, and two of them are several.
TEST(Inputs, MayRepeatARow) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Placed logits(target, normal(Type::kF32, {1, 40}));
    for (int64_t rows : {2, 3}) {
      DLTensor repeated = *logits.dl();
      int64_t shape[2] = {rows, 40}, strides[2] = {0, 1};
      repeated.shape = shape;
      repeated.strides = strides;
      Placed argmax(target, poisoned(Type::kI32, {rows})),
          lse(target, poisoned(Type::kF32, {rows}));
      exn_row_stats_params p = {sizeof p, &repeated, {}, EXN_SOFTMAX, 1, 0, 0};
      p.out.argmax = argmax.dl();
      p.out.lse = lse.dl();
      ASSERT_EQ(run_once(target, kRowStats, p), EXN_OK) << exn_last_error();
      const HostTensor best = argmax.read(), sums = lse.read();
      EXPECT_GE(best.integer_at(0), 0);
      for (int64_t r = 1; r < rows; ++r) {
        EXPECT_EQ(best.integer_at(r), best.integer_at(0));
        EXPECT_EQ(sums.at(0, r), sums.at(0, 0));
      }
    }
  }
}

TEST(Misuse, RowStats) {
  Placed logits(kCpu, normal(Type::kF32, {3, 8}));
  Placed p1(kCpu, poisoned(Type::kF32, {3})), entropy(kCpu, poisoned(Type::kF32, {3})),
      valid(kCpu, poisoned(Type::kU8, {3}));
  exn_row_stats_params p = {sizeof p, logits.dl(), {}, EXN_SOFTMAX, 1, 0, 0};
  p.out.p1 = p1.dl();
  p.out.entropy = entropy.dl();
  p.out.valid = valid.dl();
  const std::vector<Placed*> written = {&p1, &entropy, &valid};
  expect_sound_struct_sizes(kRowStats, p, written);
  Spoiler<exn_row_stats_params> spoil(kRowStats, p, written);
  spoil.required(&exn_row_stats_params::logits, "logits");
  spoil.tensor(&logits, "logits", "bf16");
  spoil.tensor(&p1, "out.p1", "f32");
  spoil.tensor(&valid, "out.valid", "u8");
  spoil.on_another_device(&entropy, "out.entropy");
  spoil.size(&p1, "out.p1", 0, 4);
  spoil_normalizer(&spoil);
  spoil.value(&exn_row_stats_params::reserved, 1, {"reserved", "1"});
  spoil.overlap(&p1, "out.p1", entropy, "out.entropy");
  spoil.overlap(&p1, "out.p1", logits, "logits");
  spoil.overlap(&p1, "out.p1", logits, "logits", 20);
  logits.mutable_dl()->shape[1] = 0;
  expect_refused(kRowStats, p, written, EXN_INVALID_ARGUMENT, {"V", "0", "1"});
  logits.mutable_dl()->shape[1] = 8;
  int64_t backwards[] = {-8, 1}, *const forwards = logits.mutable_dl()->strides;
  logits.mutable_dl()->strides = backwards;
  expect_refused(kRowStats, p, written, EXN_INVALID_ARGUMENT, {"logits", "row stride", "-8", "0"});
  logits.mutable_dl()->strides = forwards;
  p.out = {};
  expect_refused(kRowStats, p, written, EXN_INVALID_ARGUMENT, {"out", "0", "1"});
}

TEST(Misuse, ExitHead) {
  Placed hidden(kCpu, normal(Type::kF32, {3, 8})), weight(kCpu, normal(Type::kF32, {20, 8}, 1)),
      bias(kCpu, normal(Type::kF32, {20}));
  Placed norm_weight(kCpu, normal(Type::kF32, {8})), norm_bias(kCpu, normal(Type::kF32, {8}));
  Placed translator(kCpu, normal(Type::kF32, {8, 8})),
      translator_bias(kCpu, normal(Type::kF32, {8}));
  Placed shortlist(kCpu, zeros(Type::kI32, {5})), argmax(kCpu, poisoned(Type::kI32, {3})),
      lse(kCpu, poisoned(Type::kF32, {3}));
  exn_exit_head_params p = {};
  p.struct_size = sizeof p;
  p.hidden = hidden.dl();
  p.weight = weight.dl();
  p.bias = bias.dl();
  p.norm_weight = norm_weight.dl();
  p.norm_bias = norm_bias.dl();
  p.translator_weight = translator.dl();
  p.translator_bias = translator_bias.dl();
  p.shortlist = shortlist.dl();
  p.norm = EXN_NORM_LAYER;
  p.norm_eps = 1e-5f;
  p.temperature = 1;
  p.out.argmax = argmax.dl();
  p.out.lse = lse.dl();
  const std::vector<Placed*> written = {&argmax, &lse};
  expect_sound_struct_sizes(kExitHead, p, written);
  Spoiler<exn_exit_head_params> spoil(kExitHead, p, written);
  spoil.required(&exn_exit_head_params::hidden, "hidden");
  spoil.required(&exn_exit_head_params::weight, "weight");
  spoil.required(&exn_exit_head_params::norm_weight, "norm_weight");
  spoil.tensor(&hidden, "hidden", "bf16");
  spoil.tensor(&weight, "weight", "bf16");
  spoil.tensor(&bias, "bias", "f32");
  spoil.tensor(&norm_weight, "norm_weight", "f32");
  spoil.tensor(&norm_bias, "norm_bias", "f32");
  spoil.tensor(&translator, "translator_weight", "bf16");
  spoil.tensor(&translator_bias, "translator_bias", "f32");
  spoil.tensor(&shortlist, "shortlist", "i32");
  spoil.tensor(&argmax, "out.argmax", "i32");
  for (auto [t, name] : {std::pair<Placed*, const char*>{&weight, "weight"},
                         {&bias, "bias"},
                         {&norm_weight, "norm_weight"},
                         {&translator, "translator_weight"},
                         {&shortlist, "shortlist"},
                         {&lse, "out.lse"}}) {
    spoil.on_another_device(t, name);
  }
  spoil.size(&weight, "weight", 1, 7);
  spoil.size(&bias, "bias", 0, 19);
  spoil.size(&norm_weight, "norm_weight", 0, 9);
  spoil.size(&norm_bias, "norm_bias", 0, 7);
  spoil.size(&translator, "translator_weight", 0, 7);
  spoil.size(&translator_bias, "translator_bias", 0, 7);
  spoil.size(&lse, "out.lse", 0, 2);
  spoil_normalizer(&spoil);
  for (int32_t bad : {-1, 3}) {
    spoil.value(&exn_exit_head_params::norm, bad, {"norm", std::to_string(bad)});
  }
  for (int32_t bad : {-1, 2}) {
    spoil.value(&exn_exit_head_params::translate, bad, {"translate", std::to_string(bad)});
  }
  spoil.value(&exn_exit_head_params::norm_eps, -1.0f, {"norm_eps", "-1"});
  spoil.value(&exn_exit_head_params::norm_eps, kNaN, {"norm_eps", "nan"});
  spoil.value(&exn_exit_head_params::norm, int32_t{EXN_NORM_RMS}, {"norm_bias"});
  spoil.value(&exn_exit_head_params::norm, int32_t{EXN_NORM_NONE}, {"norm_weight"});
  spoil.value(&exn_exit_head_params::translator_weight, static_cast<const DLTensor*>(nullptr),
              {"translator_bias"});
  spoil.overlap(&lse, "out.lse", bias, "bias");
  spoil.overlap(&argmax, "out.argmax", lse, "out.lse");
  spoil.overlap(&lse, "out.lse", weight, "weight", 8);
  shortlist.mutable_dl()->shape[0] = 0;
  expect_refused(kExitHead, p, written, EXN_INVALID_ARGUMENT, {"shortlist", "0", "1"});
  shortlist.mutable_dl()->shape[0] = 5;
  weight.mutable_dl()->shape[0] = 0;
  expect_refused(kExitHead, p, written, EXN_INVALID_ARGUMENT, {"weight", "0", "1"});
}

TEST(Misuse, StableMax) {
  Placed logits(kCpu, normal(Type::kF32, {3, 8})), out(kCpu, poisoned(Type::kF32, {3, 8}, 2));
  const exn_stablemax_params p = {sizeof p, logits.dl(), out.dl(), EXN_STABLEMAX, 0};
  const std::vector<Placed*> written = {&out};
  expect_sound_struct_sizes(kStableMax, p, written);
  Spoiler<exn_stablemax_params> spoil(kStableMax, p, written);
  spoil.required(&exn_stablemax_params::logits, "logits");
  spoil.required(&exn_stablemax_params::out, "out");
  spoil.tensor(&logits, "logits", "f64");
  spoil.tensor(&out, "out", "f64");
  spoil.on_another_device(&out, "out");
  spoil.size(&out, "out", 0, 2);
  spoil.size(&out, "out", 1, 7);
  for (int32_t bad : {-1, 2}) {
    spoil.value(&exn_stablemax_params::normalizer, bad, {"normalizer", std::to_string(bad)});
    spoil.value(&exn_stablemax_params::log, bad, {"log", std::to_string(bad)});
  }
  out.mutable_dl()->dtype = dl_type(Type::kF64);
  expect_refused(kStableMax, p, written, EXN_INVALID_ARGUMENT, {"out", "f64", "logits", "f32"});
  out.mutable_dl()->dtype = dl_type(Type::kF32);
  logits.mutable_dl()->shape[1] = 0;
  expect_refused(kStableMax, p, written, EXN_INVALID_ARGUMENT, {"V", "0", "1"});
  logits.mutable_dl()->shape[1] = 8;
  out.mutable_dl()->strides[0] = 7;
  expect_refused(kStableMax, p, written, EXN_INVALID_ARGUMENT, {"out", "stride", "7", "8"});
  out.mutable_dl()->strides[0] = 10;
  spoil.overlap(&out, "out", logits, "logits", 32);
  // In place, but with other rows.
  out.mutable_dl()->data = logits.dl()->data;
  expect_refused(kStableMax, p, {&out, &logits}, EXN_INVALID_ARGUMENT,
                 {"out", "10", "logits", "8"});
}

TEST(Misuse, CrossEntropy) {
  Placed logits(kCpu, normal(Type::kF32, {3, 8})), labels(kCpu, zeros(Type::kI64, {3}));
  Placed loss(kCpu, poisoned(Type::kF32, {3})), grad(kCpu, poisoned(Type::kF32, {3, 8}));
  exn_cross_entropy_params p = {sizeof p,  logits.dl(), labels.dl(),   loss.dl(),
                                grad.dl(), -100,        EXN_STABLEMAX, EXN_REDUCE_NONE};
  const std::vector<Placed*> written = {&loss, &grad};
  expect_sound_struct_sizes(kCrossEntropy, p, written);
  Spoiler<exn_cross_entropy_params> spoil(kCrossEntropy, p, written);
  spoil.required(&exn_cross_entropy_params::logits, "logits");
  spoil.required(&exn_cross_entropy_params::labels, "labels");
  spoil.tensor(&logits, "logits", "f64");
  spoil.tensor(&labels, "labels", "i64");
  spoil.tensor(&loss, "loss", "f32");
  spoil.tensor(&grad, "grad", "f64");
  spoil.on_another_device(&labels, "labels");
  spoil.on_another_device(&grad, "grad");
  spoil.size(&labels, "labels", 0, 2);
  spoil.size(&loss, "loss", 0, 2);
  spoil.size(&grad, "grad", 1, 7);
  for (int32_t bad : {-1, 2}) {
    spoil.value(&exn_cross_entropy_params::normalizer, bad, {"normalizer", std::to_string(bad)});
    spoil.value(&exn_cross_entropy_params::reduction, bad, {"reduction", std::to_string(bad)});
  }
  spoil.value(&exn_cross_entropy_params::reduction, int32_t{EXN_REDUCE_MEAN}, {"loss", "3", "1"});
  spoil.overlap(&loss, "loss", grad, "grad");
  spoil.overlap(&loss, "loss", logits, "logits");
  spoil.overlap(&grad, "grad", logits, "logits", 4);
  logits.mutable_dl()->shape[1] = 0;
  expect_refused(kCrossEntropy, p, written, EXN_INVALID_ARGUMENT, {"V", "0", "1"});
  logits.mutable_dl()->shape[1] = 8;
  p.loss = p.grad = nullptr;
  expect_refused(kCrossEntropy, p, written, EXN_INVALID_ARGUMENT, {"loss", "grad", "null"});
}

TEST(Misuse, PerpGrad) {
  Placed weight(kCpu, normal(Type::kF32, {12})), grad(kCpu, normal(Type::kF32, {12}, 1)),
      out(kCpu, poisoned(Type::kF32, {12}));
  const exn_perp_grad_params p = {sizeof p, weight.dl(), grad.dl(), out.dl(), EXN_PERP_CODE, 0};
  const std::vector<Placed*> written = {&out};
  expect_sound_struct_sizes(kPerpGrad, p, written);
  Spoiler<exn_perp_grad_params> spoil(kPerpGrad, p, written);
  spoil.required(&exn_perp_grad_params::weight, "weight");
  spoil.required(&exn_perp_grad_params::grad, "grad");
  spoil.required(&exn_perp_grad_params::out, "out");
  spoil.tensor(&weight, "weight", "f64");
  spoil.tensor(&grad, "grad", "f64");
  spoil.tensor(&out, "out", "f64");
  spoil.on_another_device(&grad, "grad");
  spoil.on_another_device(&out, "out");
  spoil.size(&grad, "grad", 0, 11);
  spoil.size(&out, "out", 0, 11);
  for (int32_t bad : {-1, 2}) {
    spoil.value(&exn_perp_grad_params::form, bad, {"form", std::to_string(bad)});
  }
  spoil.value(&exn_perp_grad_params::reserved, 5, {"reserved", "5"});
  spoil.overlap(&out, "out", weight, "weight");
  spoil.overlap(&out, "out", grad, "grad", 4);
}

TEST(Misuse, Cosine) {
  Placed a(kCpu, normal(Type::kF32, {3, 8})), b(kCpu, normal(Type::kF32, {3, 8}, 1)),
      out(kCpu, poisoned(Type::kF32, {3}));
  const exn_cosine_params p = {sizeof p, a.dl(), b.dl(), out.dl()};
  const std::vector<Placed*> written = {&out};
  expect_sound_struct_sizes(kCosine, p, written);
  Spoiler<exn_cosine_params> spoil(kCosine, p, written);
  spoil.required(&exn_cosine_params::a, "a");
  spoil.required(&exn_cosine_params::b, "b");
  spoil.required(&exn_cosine_params::out, "out");
  spoil.tensor(&a, "a", "bf16");
  spoil.tensor(&b, "b", "bf16");
  spoil.tensor(&out, "out", "f32");
  spoil.on_another_device(&b, "b");
  spoil.on_another_device(&out, "out");
  spoil.size(&b, "b", 0, 2);
  spoil.size(&b, "b", 1, 7);
  spoil.size(&out, "out", 0, 2);
  spoil.overlap(&out, "out", a, "a");
  spoil.overlap(&out, "out", b, "b", 12);
  b.mutable_dl()->dtype = dl_type(Type::kBF16);
  expect_refused(kCosine, p, written, EXN_INVALID_ARGUMENT, {"b", "bf16", "f32"});
  b.mutable_dl()->dtype = dl_type(Type::kF32);
  a.mutable_dl()->shape[1] = 0;
  expect_refused(kCosine, p, written, EXN_INVALID_ARGUMENT, {"a", "0", "1"});
}

TEST(Misuse, Gate) {
  Placed features(kCpu, normal(Type::kF32, {3, 8})),
      hidden_weight(kCpu, normal(Type::kF32, {2, 8, 8})),
      hidden_bias(kCpu, normal(Type::kF32, {2, 8}));
  Placed out_weight(kCpu, normal(Type::kF32, {2, 8})), out_bias(kCpu, normal(Type::kF32, {2})),
      prob(kCpu, poisoned(Type::kF32, {3}));
  const exn_gate_params p = {sizeof p,         features.dl(),   hidden_weight.dl(),
                             hidden_bias.dl(), out_weight.dl(), out_bias.dl(),
                             prob.dl(),        EXN_GATE_TANH,   2,
                             EXN_BLOCKS_NONE,  EXN_BLOCKS_NONE};
  const std::vector<Placed*> written = {&prob};
  expect_sound_struct_sizes(kGate, p, written);
  Spoiler<exn_gate_params> spoil(kGate, p, written);
  spoil.required(&exn_gate_params::features, "features");
  spoil.required(&exn_gate_params::hidden_weight, "hidden_weight");
  spoil.required(&exn_gate_params::out_weight, "out_weight");
  spoil.required(&exn_gate_params::prob, "prob");
  spoil.tensor(&features, "features", "bf16");
  spoil.tensor(&hidden_weight, "hidden_weight", "bf16");
  spoil.tensor(&hidden_bias, "hidden_bias", "f32");
  spoil.tensor(&out_weight, "out_weight", "bf16");
  spoil.tensor(&out_bias, "out_bias", "f32");
  spoil.tensor(&prob, "prob", "f32");
  spoil.on_another_device(&hidden_weight, "hidden_weight");
  spoil.on_another_device(&prob, "prob");
  spoil.size(&hidden_weight, "hidden_weight", 0, 3);
  spoil.size(&hidden_weight, "hidden_weight", 2, 7);
  spoil.size(&hidden_bias, "hidden_bias", 1, 7);
  spoil.size(&out_weight, "out_weight", 1, 7);
  spoil.size(&out_bias, "out_bias", 0, 1);
  spoil.size(&prob, "prob", 0, 2);
  for (int32_t bad : {-1, 3}) {
    spoil.value(&exn_gate_params::kind, bad, {"kind", std::to_string(bad)});
  }
  for (int32_t bad : {-1, 65}) {
    spoil.value(&exn_gate_params::repeats, bad, {"repeats", std::to_string(bad)});
  }
  spoil.value(&exn_gate_params::kind, int32_t{EXN_GATE_LINEAR}, {"hidden_weight"});
  spoil.value(&exn_gate_params::kind, int32_t{EXN_GATE_RESIDUAL}, {"hidden_weight", "3", "2"});
  spoil.overlap(&prob, "prob", out_bias, "out_bias");
  spoil.overlap(&prob, "prob", features, "features", 4);
  out_weight.mutable_dl()->shape[0] = 3;
  expect_refused(kGate, p, written, EXN_INVALID_ARGUMENT, {"out_weight", "3", "2"});
}

TEST(Misuse, ExitRule) {
  Placed score(kCpu, normal(Type::kF32, {3})), label(kCpu, zeros(Type::kI32, {3})),
      valid(kCpu, zeros(Type::kU8, {3})), step(kCpu, zeros(Type::kI32, {3}));
  Placed state(kCpu, zeros(Type::kI32, {3, EXN_EXIT_STATE_WORDS})),
      mask(kCpu, poisoned(Type::kU8, {3})), list(kCpu, poisoned(Type::kI32, {3})),
      count(kCpu, poisoned(Type::kI32, {1})), layer(kCpu, poisoned(Type::kI32, {3}));
  exn_exit_rule_params p = {};
  p.struct_size = sizeof p;
  p.score = score.dl();
  p.label = label.dl();
  p.valid = valid.dl();
  p.step = step.dl();
  p.state = state.dl();
  p.exit_mask = mask.dl();
  p.active_list = list.dl();
  p.active_count = count.dl();
  p.exit_layer = layer.dl();
  p.decay = EXN_DECAY_CALM_CODE;
  p.threshold = 0.5f;
  p.decay_tau = 4;
  p.decay_horizon = 8;
  using P = exn_exit_rule_params;
  const std::vector<Placed*> written = {&state, &mask, &list, &count, &layer};
  expect_sound_struct_sizes(kExitRule, p, written);
  Spoiler<P> spoil(kExitRule, p, written);
  spoil.required(&P::score, "score");
  spoil.required(&P::state, "state");
  spoil.tensor(&score, "score", "f32");
  spoil.tensor(&label, "label", "i32");
  spoil.tensor(&valid, "valid", "u8");
  spoil.tensor(&step, "step", "i32");
  spoil.tensor(&state, "state", "i32");
  spoil.tensor(&mask, "exit_mask", "u8");
  spoil.tensor(&list, "active_list", "i32");
  spoil.tensor(&count, "active_count", "i32");
  spoil.tensor(&layer, "exit_layer", "i32");
  spoil.on_another_device(&score, "score");
  spoil.on_another_device(&mask, "exit_mask");
  spoil.size(&score, "score", 0, 2);
  spoil.size(&valid, "valid", 0, 2);
  spoil.size(&state, "state", 1, 3);
  spoil.size(&mask, "exit_mask", 0, 2);
  spoil.size(&list, "active_list", 0, 2);
  spoil.size(&layer, "exit_layer", 0, 2);
  spoil.size(&count, "active_count", 0, 0);
  for (int32_t bad : {-1, 5}) spoil.value(&P::rule, bad, {"rule", std::to_string(bad)});
  for (int32_t bad : {-1, 3}) {
    spoil.value(&P::comparator, bad, {"comparator", std::to_string(bad)});
    spoil.value(&P::decay, bad, {"decay", std::to_string(bad)});
    spoil.value(&P::scope, bad, {"scope", std::to_string(bad)});
  }
  for (int32_t bad : {-1, 2}) {
    spoil.value(&P::first, bad, {"first", std::to_string(bad)});
    spoil.value(&P::force, bad, {"force", std::to_string(bad)});
  }
  spoil.value(&P::threshold, kNaN, {"threshold", "NaN"});
  for (float bad : {kInf, -kInf}) spoil.value(&P::threshold, bad, {"threshold", "finite"});
  spoil.value(&P::decay_tau, -1.0f, {"decay_tau", "-1"});
  spoil.value(&P::decay_horizon, 0.0f, {"decay_horizon", "0"});
  spoil.value(&P::step_index, -1, {"step_index", "-1", "0"});
  spoil.overlap(&list, "active_list", state, "state");
  spoil.overlap(&mask, "exit_mask", valid, "valid");
  spoil.overlap(&layer, "exit_layer", list, "active_list");
  p.rule = EXN_RULE_PATIENCE;
  spoil.value(&P::patience, -1, {"patience", "-1", "0"});
  p.rule = EXN_RULE_SPECDEC;
  p.min_steps = 4;
  p.max_steps = 6;
  spoil.value(&P::min_steps, -1, {"min_steps", "-1", "0"});
  spoil.value(&P::max_steps, 3, {"max_steps", "3", "4"});
}

// ---- workspace ----------------------------------------------------------------------------------

TEST(Workspace, NullOrMisalignedIsRefused) {
  Placed score(kCpu, normal(Type::kF32, {70})),
      state(kCpu, zeros(Type::kI32, {70, EXN_EXIT_STATE_WORDS}));
  Placed hidden(kCpu, normal(Type::kF32, {70, 8})), weight(kCpu, normal(Type::kF32, {20, 8})),
      p1(kCpu, poisoned(Type::kF32, {70}));
  exn_exit_head_params p = {};
  p.struct_size = sizeof p;
  p.hidden = hidden.dl();
  p.weight = weight.dl();
  p.temperature = 1;
  p.out.p1 = p1.dl();
  size_t bytes = 0;
  ASSERT_EQ(exn_exit_head_workspace_size(&p, &bytes), EXN_OK) << exn_last_error();
  ASSERT_GT(bytes, 0u);
  EXPECT_EQ(exn_exit_head(&p, nullptr, bytes, nullptr), EXN_INVALID_ARGUMENT);
  expect_words({"workspace", "null"});
  DeviceMemory workspace(kCpu, bytes + 64);
  for (size_t off : {1u, 4u, 32u}) {
    EXPECT_EQ(exn_exit_head(&p, workspace.data() + off, bytes, nullptr), EXN_INVALID_ARGUMENT);
    expect_words({"workspace", "alignment", std::to_string(EXN_WORKSPACE_ALIGN)});
  }
  EXPECT_TRUE(p1.unchanged());
  EXPECT_EQ(exn_exit_head(&p, workspace.data(), bytes + 64, nullptr), EXN_OK) << exn_last_error();
}

// ---- empty batches with null data ---------------------------------------------------------------

TEST(EmptyBatch, NullDataIsFine) {
  const Target cpu = {kDLCPU, exn_cpu_isa(), false};
  int64_t none[2] = {0, 8}, rows[1] = {0};
  const DLTensor matrix = {nullptr, {kDLCPU, 0}, 2, dl_type(Type::kF32), none, nullptr, 0};
  const DLTensor vector = {nullptr, {kDLCPU, 0}, 1, dl_type(Type::kF32), rows, nullptr, 0};
  exn_row_stats_params stats = {sizeof stats, &matrix, {}, EXN_SOFTMAX, 1, 0, 0};
  stats.out.p1 = &vector;
  EXPECT_EQ(run_once(cpu, kRowStats, stats), EXN_OK) << exn_last_error();
  const exn_cosine_params cosine = {sizeof cosine, &matrix, &matrix, &vector};
  EXPECT_EQ(run_once(cpu, kCosine, cosine), EXN_OK) << exn_last_error();
  const exn_perp_grad_params perp = {sizeof perp, &matrix, &matrix, &matrix, EXN_PERP_CODE, 0};
  EXPECT_EQ(run_once(cpu, kPerpGrad, perp), EXN_OK) << exn_last_error();
}

}  // namespace
}  // namespace exn::test
