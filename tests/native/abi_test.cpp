// SPDX-License-Identifier: Apache-2.0
// Misuse: every wrong argument is refused with the right status and a sentence that names it and
// the two values that disagree, and nothing is written. What the library says about itself, memory,
// streams and threads.
#include <dlfcn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <sstream>
#include <thread>

#include "base/ops.h"
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
      exn_row_stats_params p = {sizeof p, &repeated, EXN_SOFTMAX, 1, 0, 0, {}};
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
  exn_row_stats_params p = {sizeof p, logits.dl(), EXN_SOFTMAX, 1, 0, 0, {}};
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
  expect_sound_struct_sizes(kExitHead, p, written, offsetof(exn_exit_head_params, weight_blocks));
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
  expect_sound_struct_sizes(kGate, p, written, offsetof(exn_gate_params, hidden_blocks));
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
  exn_row_stats_params stats = {sizeof stats, &matrix, EXN_SOFTMAX, 1, 0, 0, {}};
  stats.out.p1 = &vector;
  EXPECT_EQ(run_once(cpu, kRowStats, stats), EXN_OK) << exn_last_error();
  const exn_cosine_params cosine = {sizeof cosine, &matrix, &matrix, &vector};
  EXPECT_EQ(run_once(cpu, kCosine, cosine), EXN_OK) << exn_last_error();
  const exn_perp_grad_params perp = {sizeof perp, &matrix, &matrix, &matrix, EXN_PERP_CODE, 0};
  EXPECT_EQ(run_once(cpu, kPerpGrad, perp), EXN_OK) << exn_last_error();
}

// ---- what the library says about itself ---------------------------------------------------------

TEST(Library, VersionAndStatusNames) {
  EXPECT_EQ(exn_abi_version(), static_cast<uint32_t>(EXN_ABI_VERSION));
  EXPECT_NE(std::string(exn_version()).find('.'), std::string::npos);
  EXPECT_STREQ(exn_status_name(EXN_OK), "EXN_OK");
  EXPECT_STREQ(exn_status_name(EXN_DEVICE_LOST), "EXN_DEVICE_LOST");
  EXPECT_NE(exn_status_name(99), nullptr);
}

TEST(Library, SaysWhichFileItIs) {
  const std::string path = exn_library_path();
  EXPECT_NE(path.find("/libexeunt.so"), std::string::npos) << path;
  EXPECT_EQ(access(path.c_str(), R_OK), 0) << path;
}

TEST(Library, LastErrorAndPathBelongToTheThread) {
  EXPECT_EQ(exn_row_stats_supported(nullptr), EXN_INVALID_ARGUMENT);
  const std::string mine = exn_last_error();
  EXPECT_NE(mine, "");
  std::thread([] {
    EXPECT_STREQ(exn_last_error(), "");
    EXPECT_STREQ(exn_last_path(), "");
    EXPECT_EQ(exn_cosine_supported(nullptr), EXN_INVALID_ARGUMENT);
  }).join();
  EXPECT_EQ(mine, exn_last_error());
}

TEST(Library, CpuIsAlwaysThere) {
  EXPECT_EQ(exn_backend_available(EXN_BACKEND_CPU), 1);
  EXPECT_STREQ(exn_backend_reason(EXN_BACKEND_CPU), "");
  EXPECT_EQ(exn_device_count(EXN_BACKEND_CPU), 1);
  EXPECT_NE(std::string(exn_backend_name(EXN_BACKEND_CPU)).find("cpu"), std::string::npos);
  EXPECT_EQ(exn_backend_available(7), 0);
  EXPECT_EQ(exn_device_count(7), 0);
  EXPECT_NE(std::string(exn_backend_reason(7)).find("7"), std::string::npos);
}

TEST(Library, IsasCanBeForced) {
  const std::string before = exn_cpu_isa();
  const std::string all = exn_cpu_isas();
  EXPECT_NE(("," + all + ",").find("," + before + ","), std::string::npos);
  EXPECT_EQ(exn_cpu_set_isa("sse1"), EXN_INVALID_ARGUMENT);
  expect_words({"sse1", all});
  EXPECT_EQ(before, exn_cpu_isa());
  EXPECT_EQ(exn_cpu_set_isa(nullptr), EXN_OK);
  EXPECT_EQ(all.substr(0, all.find(',')), exn_cpu_isa());
  EXPECT_EQ(exn_cpu_set_isa(before.c_str()), EXN_OK);
}

TEST(Library, Threads) {
  const int32_t before = exn_cpu_threads();
  EXPECT_GE(before, 1);
  for (int32_t bad : {-1, 257}) {
    EXPECT_EQ(exn_cpu_set_threads(bad), EXN_INVALID_ARGUMENT);
    expect_words({"threads", std::to_string(bad), "256"});
    EXPECT_EQ(exn_cpu_threads(), before);
  }
  EXPECT_EQ(exn_cpu_set_threads(7), EXN_OK);
  EXPECT_EQ(exn_cpu_threads(), 7);
  EXPECT_EQ(exn_cpu_set_threads(0), EXN_OK);
  EXPECT_GE(exn_cpu_threads(), 1);
  EXPECT_EQ(exn_cpu_set_threads(before), EXN_OK);
}

// Threads of the caller run ops at the same time, while another changes the number of threads.
TEST(Library, ConcurrentCallers) {
  const HostTensor logits = normal(Type::kF32, {9, 20000});
  const auto run = [&](std::vector<unsigned char>* bytes) {
    Placed placed(kCpu, logits);
    Placed p1(kCpu, poisoned(Type::kF32, {9})), entropy(kCpu, poisoned(Type::kF32, {9}));
    exn_row_stats_params p = {sizeof p, placed.dl(), EXN_SOFTMAX, 1, 0, 0, {}};
    p.out.p1 = p1.dl();
    p.out.entropy = entropy.dl();
    size_t size = 0;
    ASSERT_EQ(exn_row_stats_workspace_size(&p, &size), EXN_OK) << exn_last_error();
    DeviceMemory workspace(kCpu, size);
    for (int i = 0; i < 20; ++i) {
      ASSERT_EQ(exn_row_stats(&p, workspace.data(), size, nullptr), EXN_OK) << exn_last_error();
    }
    *bytes = p1.read().bytes;
    const std::vector<unsigned char> more = entropy.read().bytes;
    bytes->insert(bytes->end(), more.begin(), more.end());
  };
  std::vector<unsigned char> expected;
  run(&expected);
  for (size_t count : {1, 2, 4}) {
    std::vector<std::vector<unsigned char>> found(count);
    std::vector<std::thread> callers;
    for (auto& bytes : found) callers.emplace_back(run, &bytes);
    for (int i = 0; i < 20; ++i) EXPECT_EQ(exn_cpu_set_threads(1 + i % 5), EXN_OK);
    for (std::thread& caller : callers) caller.join();
    for (const auto& bytes : found) EXPECT_EQ(bytes, expected) << count << " callers";
  }
  EXPECT_EQ(exn_cpu_set_threads(0), EXN_OK);
}

// What a child that was forked does and says by its exit status: workers stay in the parent.
[[noreturn]] void compute_in_a_child(const exn_row_stats_params& p, void* workspace, size_t size) {
  alarm(60);  // rather than wait for ever
  for (int32_t threads : {0, 3, 1, 2}) {
    if (exn_row_stats(&p, workspace, size, nullptr) != EXN_OK) _exit(2);
    if (exn_cpu_set_threads(threads) != EXN_OK) _exit(3);
    if (exn_row_stats(&p, workspace, size, nullptr) != EXN_OK) _exit(4);
  }
  _exit(0);
}

TEST(Library, ForkedChildrenCompute) {
  // Theirs may hold locks while another thread forks; TSan starts no thread in a child at all.
  if (allocations() == 0) GTEST_SKIP() << "sanitizers do not survive a fork beside other threads";
  if (std::getenv("EXEUNT_TEST_EMULATOR") != nullptr) GTEST_SKIP() << "nor does QEMU";
  const HostTensor logits = normal(Type::kF32, {9, 20000});
  Placed placed(kCpu, logits), p1(kCpu, poisoned(Type::kF32, {9}));
  exn_row_stats_params p = {sizeof p, placed.dl(), EXN_SOFTMAX, 1, 0, 0, {}};
  p.out.p1 = p1.dl();
  size_t size = 0;
  ASSERT_EQ(exn_row_stats_workspace_size(&p, &size), EXN_OK) << exn_last_error();
  const auto children_compute = [&] {
    for (int i = 0; i < 10; ++i) {
      DeviceMemory workspace(kCpu, size);
      ASSERT_EQ(exn_cpu_set_threads(1 + i % 3), EXN_OK);
      ASSERT_EQ(exn_row_stats(&p, workspace.data(), size, nullptr), EXN_OK) << exn_last_error();
      const pid_t child = fork();
      ASSERT_GE(child, 0);
      if (child == 0) compute_in_a_child(p, workspace.data(), size);
      int status = 0;
      waitpid(child, &status, 0);
      ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
    }
  };
  children_compute();
  // And while another thread's loop holds the pool.
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    const std::vector<unsigned char> memory(size_t{8} << 20);
    uint64_t checksum = 0;
    while (!stop) exn_read_probe(memory.data(), memory.size(), 0, &checksum);
  });
  children_compute();
  stop = true;
  busy.join();
  EXPECT_EQ(exn_cpu_set_threads(0), EXN_OK);
}

// ---- memory, copies, streams --------------------------------------------------------------------

TEST(Memory, AllocationIsAlignedAndUnique) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    void *a = nullptr, *b = nullptr;
    ASSERT_EQ(exn_alloc(target.device_type, 0, 0, &a), EXN_OK) << exn_last_error();
    ASSERT_EQ(exn_alloc(target.device_type, 0, 0, &b), EXN_OK) << exn_last_error();
    EXPECT_NE(a, nullptr);
    EXPECT_NE(a, b);
    EXPECT_EQ(exn_free(target.device_type, 0, a), EXN_OK);
    EXPECT_EQ(exn_free(target.device_type, 0, b), EXN_OK);
    EXPECT_EQ(exn_free(target.device_type, 0, nullptr), EXN_OK);
    for (size_t bytes : {size_t{1}, size_t{65}, size_t{4097}, size_t{3} << 20}) {
      ASSERT_EQ(exn_alloc(target.device_type, 0, bytes, &a), EXN_OK) << exn_last_error();
      const uintptr_t align = target.cpu() && bytes >= size_t{2} << 20 ? uintptr_t{2} << 20 : 64;
      EXPECT_EQ(reinterpret_cast<uintptr_t>(a) % align, 0u) << bytes;
      EXPECT_EQ(exn_free(target.device_type, 0, a), EXN_OK);
    }
    a = &b;
    EXPECT_EQ(exn_alloc(target.device_type, 0, SIZE_MAX / 2, &a), EXN_OUT_OF_MEMORY);
    expect_words({std::to_string(SIZE_MAX / 2)});
    EXPECT_EQ(a, &b) << "a failed allocation wrote a pointer";
  }
}

TEST(Memory, WrongDevices) {
  void* p = nullptr;
  EXPECT_EQ(exn_alloc(kDLCPU, 0, 8, nullptr), EXN_INVALID_ARGUMENT);
  expect_words({"out", "null"});
  EXPECT_EQ(exn_alloc(42, 0, 8, &p), EXN_INVALID_ARGUMENT);
  expect_words({"device_type", "42"});
  EXPECT_EQ(exn_alloc(kDLCPU, 3, 8, &p), EXN_INVALID_ARGUMENT);
  expect_words({"device_id", "3", "1"});
  EXPECT_EQ(exn_alloc(kDLCPU, -1, 8, &p), EXN_INVALID_ARGUMENT);
  EXPECT_EQ(p, nullptr);
}

TEST(Memory, CopiesBothWays) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    DeviceMemory there(target, 1000), again(target, 1000);
    std::vector<unsigned char> bytes(1000), back(1000);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i * 7);
    there.write(bytes);
    ASSERT_EQ(exn_copy(again.data(), target.device_type, 0, there.data(), target.device_type, 0,
                       1000, nullptr),
              EXN_OK)
        << exn_last_error();
    ASSERT_EQ(exn_stream_synchronize(target.device_type, 0, nullptr), EXN_OK);
    EXPECT_EQ(again.read(), bytes);
    EXPECT_EQ(exn_copy(nullptr, target.device_type, 0, bytes.data(), kDLCPU, 0, 10, nullptr),
              EXN_INVALID_ARGUMENT);
    expect_words({"dst", "null", "10"});
    EXPECT_EQ(exn_copy(back.data(), kDLCPU, 0, nullptr, target.device_type, 0, 10, nullptr),
              EXN_INVALID_ARGUMENT);
    expect_words({"src", "null", "10"});
    EXPECT_EQ(exn_copy(nullptr, target.device_type, 0, nullptr, kDLCPU, 0, 0, nullptr), EXN_OK);
  }
}

TEST(Streams, CreateUseDestroy) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    exn_stream stream = nullptr;
    ASSERT_EQ(exn_stream_create(target.device_type, 0, &stream), EXN_OK) << exn_last_error();
    EXPECT_EQ(stream == nullptr, target.cpu());
    DeviceMemory there(target, 64);
    const std::vector<unsigned char> bytes(64, 9);
    EXPECT_EQ(exn_copy(there.data(), target.device_type, 0, bytes.data(), kDLCPU, 0, 64, stream),
              EXN_OK);
    EXPECT_EQ(exn_stream_synchronize(target.device_type, 0, stream), EXN_OK);
    EXPECT_EQ(there.read(), bytes);
    EXPECT_EQ(exn_stream_destroy(target.device_type, 0, stream), EXN_OK);
    EXPECT_EQ(exn_stream_destroy(target.device_type, 0, nullptr), EXN_OK);
    EXPECT_EQ(exn_stream_create(target.device_type, 0, nullptr), EXN_INVALID_ARGUMENT);
    expect_words({"out", "null"});
  }
}

// ---- a device that fails ------------------------------------------------------------------------

// On the emulated device, which fails when told to and recovers by a reset. A real one would not
// until the process ends.
class FailingDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const Target& target : targets()) {
      if (target.emulated) device_ = target;
    }
    if (device_.cpu()) GTEST_SKIP() << "no emulated device in this run";
    configure_ =
        reinterpret_cast<int (*)(const char*, const char*)>(emulator_function("simt_configure"));
    reset_ = reinterpret_cast<void (*)()>(emulator_function("simt_reset"));
    ASSERT_TRUE(configure_ != nullptr && reset_ != nullptr);
    in_ = std::make_unique<Placed>(device_, normal(Type::kF32, {2, 8}));
    out_ = std::make_unique<Placed>(device_, poisoned(Type::kF32, {2}));
  }
  void TearDown() override {
    if (reset_ != nullptr) reset_();
  }

  exn_status run() const { return run_into(out_->dl()); }
  exn_status run_into(const DLTensor* out) const {
    const exn_cosine_params p = {sizeof p, in_->dl(), in_->dl(), out};
    return exn_cosine(&p, nullptr, 0, nullptr);
  }
  static exn_status synchronize() { return exn_stream_synchronize(kDLCUDA, 0, nullptr); }
  void configure(const char* name, int error) const {
    ASSERT_EQ(configure_(name, std::to_string(error).c_str()), 0);
  }
  void expect_well() const {
    EXPECT_EQ(run(), EXN_OK) << exn_last_error();
    EXPECT_EQ(synchronize(), EXN_OK) << exn_last_error();
  }

  Target device_;
  int (*configure_)(const char*, const char*) = nullptr;
  void (*reset_)() = nullptr;
  std::unique_ptr<Placed> in_, out_;
};

// A kernel that writes where no memory is: the run has returned before anybody knows.
TEST_F(FailingDevice, IsLostByAKernelAndSaysSoFromThenOn) {
  exn_stream stream = nullptr;
  ASSERT_EQ(exn_stream_create(kDLCUDA, 0, &stream), EXN_OK) << exn_last_error();
  void *memory = nullptr, *more = nullptr;
  ASSERT_EQ(exn_alloc(kDLCUDA, 0, 256, &memory), EXN_OK) << exn_last_error();
  DLTensor outside = *out_->dl();
  outside.data = memory;
  outside.byte_offset = 256;
  EXPECT_EQ(run_into(&outside), EXN_OK) << exn_last_error();
  EXPECT_EQ(exn_stream_synchronize(kDLCUDA, 0, stream), EXN_DEVICE_LOST);
  expect_words({"cudaStreamSynchronize", "719", "cudaErrorLaunchFailure", "launch failure"});

  EXPECT_EQ(synchronize(), EXN_DEVICE_LOST);
  EXPECT_EQ(run(), EXN_DEVICE_LOST);
  expect_words({"cosine", "cudaErrorLaunchFailure"});
  EXPECT_EQ(exn_alloc(kDLCUDA, 0, 8, &more), EXN_DEVICE_LOST);
  expect_words({"cudaMalloc", "cudaErrorLaunchFailure"});
  EXPECT_EQ(more, nullptr);
  float value = 0;
  EXPECT_EQ(exn_copy(&value, kDLCPU, 0, memory, kDLCUDA, 0, sizeof value, nullptr),
            EXN_DEVICE_LOST);
  expect_words({"cudaMemcpyAsync", "cudaErrorLaunchFailure"});
  EXPECT_EQ(exn_backend_available(EXN_BACKEND_CUDA), 1) << "the backend is there, its device lost";
  EXPECT_EQ(exn_device_count(EXN_BACKEND_CUDA), 1);

  Placed in(kCpu, normal(Type::kF32, {2, 8})), out(kCpu, poisoned(Type::kF32, {2}));
  const exn_cosine_params on_cpu = {sizeof on_cpu, in.dl(), in.dl(), out.dl()};
  EXPECT_EQ(exn_cosine(&on_cpu, nullptr, 0, nullptr), EXN_OK) << exn_last_error();
  EXPECT_NEAR(out.read().at(0, 1), 1, 1e-6);

  EXPECT_EQ(exn_free(kDLCUDA, 0, memory), EXN_DEVICE_LOST);
  expect_words({"cudaFree", "cudaErrorLaunchFailure"});
  exn_stream_destroy(kDLCUDA, 0, stream);  // lost or not, it ends
  reset_();
  expect_well();
}

TEST_F(FailingDevice, EveryErrorThatEndsAContextIsALostDevice) {
  for (const int error : {214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721}) {
    SCOPED_TRACE(error);
    configure("FAIL", error);
    EXPECT_EQ(run(), EXN_OK) << exn_last_error();
    EXPECT_EQ(synchronize(), EXN_DEVICE_LOST);
    expect_words({"CUDA error " + std::to_string(error)});
    EXPECT_EQ(run(), EXN_DEVICE_LOST);
    reset_();
  }
  expect_well();
}

TEST_F(FailingDevice, ARefusedLaunchIsAFailureOfOneRun) {
  const std::pair<int, exn_status> refusals[] = {
      {1, EXN_RUNTIME_FAILURE},       {98, EXN_RUNTIME_FAILURE},   // invalid value, device function
      {209, EXN_RUNTIME_FAILURE},     {701, EXN_RUNTIME_FAILURE},  // no kernel image, resources
      {2, EXN_OUT_OF_MEMORY},         {35, EXN_BACKEND_UNAVAILABLE},
      {100, EXN_BACKEND_UNAVAILABLE}, {999, EXN_BACKEND_UNAVAILABLE}};
  for (const auto& [error, status] : refusals) {
    SCOPED_TRACE(error);
    configure("REFUSE", error);
    EXPECT_EQ(run(), status);
    expect_words({"cosine", "CUDA error " + std::to_string(error)});
    expect_well();
  }
}

TEST_F(FailingDevice, ACopyPastAnAllocationIsAFailureOfOneCall) {
  void* memory = nullptr;
  ASSERT_EQ(exn_alloc(kDLCUDA, 0, 256, &memory), EXN_OK) << exn_last_error();
  const std::vector<unsigned char> bytes(260);
  EXPECT_EQ(exn_copy(memory, kDLCUDA, 0, bytes.data(), kDLCPU, 0, 260, nullptr),
            EXN_RUNTIME_FAILURE);
  expect_words({"cudaMemcpyAsync", "cudaErrorInvalidValue", "invalid argument"});
  EXPECT_EQ(exn_copy(memory, kDLCUDA, 0, bytes.data(), kDLCPU, 0, 256, nullptr), EXN_OK)
      << exn_last_error();
  expect_well();
  EXPECT_EQ(exn_free(kDLCUDA, 0, memory), EXN_OK) << exn_last_error();
}

TEST(ReadProbe, DependsOnEveryByte) {
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    use(target);
    std::vector<unsigned char> bytes(1037);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(mix(i));
    uint64_t before = 0, after = 0;
    ASSERT_EQ(exn_read_probe(bytes.data(), bytes.size(), 0, &before), EXN_OK) << exn_last_error();
    for (int32_t way = 0; way < EXN_READ_WAYS; ++way) {
      ASSERT_EQ(exn_read_probe(bytes.data(), bytes.size(), way, &after), EXN_OK);
      EXPECT_EQ(before, after) << "way " << way;
      for (size_t i = 0; i < bytes.size(); ++i) {
        bytes[i] ^= 0x10;
        ASSERT_EQ(exn_read_probe(bytes.data(), bytes.size(), way, &after), EXN_OK);
        EXPECT_NE(before, after) << "way " << way << ", byte " << i;
        bytes[i] ^= 0x10;
      }
    }
    EXPECT_EQ(exn_read_probe(bytes.data(), bytes.size(), 0, nullptr), EXN_INVALID_ARGUMENT);
    expect_words({"checksum", "null"});
    EXPECT_EQ(exn_read_probe(nullptr, 8, 0, &after), EXN_INVALID_ARGUMENT);
    expect_words({"data", "null", "8"});
    for (int32_t way : {-1, EXN_READ_WAYS}) {
      EXPECT_EQ(exn_read_probe(bytes.data(), 8, way, &after), EXN_INVALID_ARGUMENT);
      expect_words({"way", std::to_string(way), "0..5"});
    }
    EXPECT_EQ(exn_read_probe(nullptr, 0, 0, &after), EXN_OK);
  }
}

TEST(CopyProbe, CopiesEveryByteAndNoOther) {
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    use(target);
    constexpr size_t kPieces = (size_t{600} << 10) + 77;
    std::vector<unsigned char> source(kPieces + 64), copy(kPieces + 128);
    for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<unsigned char>(mix(i));
    for (int32_t way = 0; way < EXN_COPY_WAYS; ++way) {
      for (size_t bytes : {size_t{0}, size_t{1}, size_t{31}, size_t{63}, size_t{64}, size_t{130},
                           size_t{4097}, kPieces}) {
        for (size_t skew : {size_t{0}, size_t{1}, size_t{63}}) {
          std::fill(copy.begin(), copy.end(), static_cast<unsigned char>(0xa5));
          unsigned char* to = copy.data() + skew;
          const unsigned char* from = source.data() + (skew * 5) % 64;
          ASSERT_EQ(exn_copy_probe(to, from, bytes, way), EXN_OK) << exn_last_error();
          const auto untouched = [](unsigned char c) { return c == 0xa5; };
          SCOPED_TRACE(std::to_string(bytes) + " bytes, skew " + std::to_string(skew) + ", way " +
                       std::to_string(way));
          EXPECT_TRUE(std::equal(to, to + bytes, from));
          EXPECT_TRUE(std::all_of(copy.data(), to, untouched));
          EXPECT_TRUE(std::all_of(to + bytes, copy.data() + copy.size(), untouched));
        }
      }
    }
    EXPECT_EQ(exn_copy_probe(nullptr, source.data(), 8, 0), EXN_INVALID_ARGUMENT);
    expect_words({"dst", "null", "8"});
    EXPECT_EQ(exn_copy_probe(copy.data(), nullptr, 8, 0), EXN_INVALID_ARGUMENT);
    expect_words({"src", "null", "8"});
    for (int32_t way : {-1, EXN_COPY_WAYS}) {
      EXPECT_EQ(exn_copy_probe(copy.data(), source.data(), 8, way), EXN_INVALID_ARGUMENT);
      expect_words({"way", std::to_string(way), "0..4"});
    }
    EXPECT_EQ(exn_copy_probe(copy.data(), copy.data() + 7, 8, 0), EXN_INVALID_ARGUMENT);
    expect_words({"overlap", "8"});
    EXPECT_EQ(exn_copy_probe(copy.data() + 7, copy.data(), 8, 0), EXN_INVALID_ARGUMENT);
    EXPECT_EQ(exn_copy_probe(copy.data() + 8, copy.data(), 8, 0), EXN_OK);
    EXPECT_EQ(exn_copy_probe(nullptr, nullptr, 0, 1), EXN_OK);
  }
}

TEST(FmaProbe, CountsWhatItDoes) {
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    use(target);
    for (const uint64_t wanted : {uint64_t{0}, uint64_t{1}, uint64_t{193}, uint64_t{3000001}}) {
      uint64_t done = 7;
      ASSERT_EQ(exn_fma_probe(wanted, &done), EXN_OK) << exn_last_error();
      EXPECT_GE(done, wanted);
      EXPECT_LT(done, wanted + 192);
      if (wanted == 0) {
        EXPECT_EQ(done, 0u);
      }
    }
    EXPECT_EQ(exn_fma_probe(1, nullptr), EXN_INVALID_ARGUMENT);
    expect_words({"done", "null"});
  }
}

// ---- environment variables: each in a process of its own ----------------------------------------

// Replaces this process by a new run of this program; returns only if that fails. A cross-built
// program needs its emulator (EXEUNT_TEST_EMULATOR, words separated by blanks) in front: the kernel
// cannot start it alone.
void run_this_program(const std::vector<std::string>& arguments) {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  if (length <= 0) return;
  std::vector<std::string> words;
  const char* emulator = std::getenv("EXEUNT_TEST_EMULATOR");
  std::stringstream emulator_words(emulator != nullptr ? emulator : "");
  for (std::string word; emulator_words >> word;) words.push_back(word);
  words.emplace_back(path, static_cast<size_t>(length));
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  execvp(pointers[0], pointers.data());
}

// Runs one test of this program with an environment of its own; true if it passed.
bool passes_with(const char* test,
                 const std::vector<std::pair<const char*, std::string>>& environment) {
  const pid_t child = fork();
  if (child == 0) {
    for (const char* name :
         {"EXEUNT_ISA", "EXEUNT_BACKEND", "EXEUNT_CUDA_LIBRARY", "EXEUNT_THREADS"}) {
      unsetenv(name);
    }
    for (const auto& [name, value] : environment) setenv(name, value.c_str(), 1);
    const std::string filter = std::string("--gtest_filter=InAProcessOfItsOwn.DISABLED_") + test;
    run_this_program({"--gtest_also_run_disabled_tests", filter});
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

exn_status run_row_stats(DLDeviceType device = kDLCPU) {
  Placed logits(kCpu, normal(Type::kF32, {1, 8})), p1(kCpu, poisoned(Type::kF32, {1}));
  logits.mutable_dl()->device.device_type = device;
  p1.mutable_dl()->device.device_type = device;
  exn_row_stats_params p = {sizeof p, logits.dl(), EXN_SOFTMAX, 1, 0, 0, {}};
  p.out.p1 = p1.dl();
  DeviceMemory workspace(kCpu, 1 << 20);
  const exn_status status = exn_row_stats(&p, workspace.data(), 1 << 20, nullptr);
  EXPECT_TRUE(status == EXN_OK || p1.unchanged());
  return status;
}

TEST(InAProcessOfItsOwn, DISABLED_ImpossibleIsa) {
  EXPECT_EQ(run_row_stats(), EXN_UNSUPPORTED);
  expect_words({"EXEUNT_ISA", "nonsense", exn_cpu_isas()});
  EXPECT_EQ(exn_cpu_set_isa(nullptr), EXN_OK);  // an explicit choice repairs it
  EXPECT_EQ(run_row_stats(), EXN_OK) << exn_last_error();
}

TEST(InAProcessOfItsOwn, DISABLED_ForcedIsa) {
  EXPECT_STREQ(exn_cpu_isa(), std::getenv("EXEUNT_ISA"));
  ASSERT_EQ(run_row_stats(), EXN_OK) << exn_last_error();
  EXPECT_EQ(exn_last_path(), "cpu/" + std::string(std::getenv("EXEUNT_ISA")) + "/row_stats");
#if defined(__x86_64__)
  // Tile registers make signal stacks larger: none asks for them but the set that needs them.
  constexpr long kPermissions = 0x1022, kTileData = 18;  // ARCH_GET_XCOMP_PERM
  uint64_t granted = 0;
  if (syscall(SYS_arch_prctl, kPermissions, &granted) == 0) {
    EXPECT_EQ((granted >> kTileData & 1) != 0, std::getenv("EXEUNT_ISA") == std::string("amx"));
  }
#endif
}

TEST(InAProcessOfItsOwn, DISABLED_BackendCpu) {
  EXPECT_EQ(exn_backend_available(EXN_BACKEND_CUDA), 0);
  EXPECT_NE(std::string(exn_backend_reason(EXN_BACKEND_CUDA)).find("EXEUNT_BACKEND"),
            std::string::npos);
  EXPECT_EQ(exn_cuda_open(nullptr), EXN_BACKEND_UNAVAILABLE);
  EXPECT_EQ(run_row_stats(kDLCUDA), EXN_BACKEND_UNAVAILABLE);
  expect_words({"row_stats", "EXEUNT_BACKEND"});
  void* p = nullptr;
  EXPECT_EQ(exn_alloc(kDLCUDA, 0, 8, &p), EXN_BACKEND_UNAVAILABLE);
  EXPECT_EQ(run_row_stats(), EXN_OK) << exn_last_error();
}

TEST(InAProcessOfItsOwn, DISABLED_NoSuchBackend) {
  for (int32_t backend : {EXN_BACKEND_CPU, EXN_BACKEND_CUDA}) {
    EXPECT_EQ(exn_backend_available(backend), 0);
    EXPECT_EQ(exn_device_count(backend), 0);
    EXPECT_STREQ(exn_backend_reason(backend), "EXEUNT_BACKEND is gpu, neither cpu nor cuda");
  }
  EXPECT_EQ(exn_cuda_open(nullptr), EXN_BACKEND_UNAVAILABLE);
  for (DLDeviceType device : {kDLCPU, kDLCUDA}) {
    float a[2] = {3, 4}, out[1] = {-7};  // the harness would ask for memory
    int64_t matrix[2] = {1, 2}, rows[1] = {1};
    const DLTensor row = {a, {device, 0}, 2, dl_type(Type::kF32), matrix, nullptr, 0};
    const DLTensor result = {out, {device, 0}, 1, dl_type(Type::kF32), rows, nullptr, 0};
    const exn_cosine_params p = {sizeof p, &row, &row, &result};
    EXPECT_EQ(exn_cosine_supported(&p), EXN_BACKEND_UNAVAILABLE);
    EXPECT_EQ(exn_cosine(&p, nullptr, 0, nullptr), EXN_BACKEND_UNAVAILABLE);
    expect_words({"cosine", "EXEUNT_BACKEND is gpu, neither cpu nor cuda"});
    EXPECT_EQ(out[0], -7);
    void* memory = nullptr;
    EXPECT_EQ(exn_alloc(device, 0, 8, &memory), EXN_BACKEND_UNAVAILABLE);
    expect_words({"exn_alloc", "EXEUNT_BACKEND is gpu"});
  }
}

TEST(InAProcessOfItsOwn, DISABLED_MissingCudaLibrary) {
  EXPECT_EQ(exn_backend_available(EXN_BACKEND_CUDA), 0);
  EXPECT_EQ(exn_device_count(EXN_BACKEND_CUDA), 0);
  EXPECT_NE(std::string(exn_backend_reason(EXN_BACKEND_CUDA)).find("/nonexistent/libnone.so"),
            std::string::npos);
  EXPECT_EQ(run_row_stats(kDLCUDA), EXN_BACKEND_UNAVAILABLE);
  expect_words({"/nonexistent/libnone.so"});
  EXPECT_EQ(exn_cuda_open("/nonexistent/libother.so"), EXN_BACKEND_UNAVAILABLE);
  expect_words({"/nonexistent/libother.so"});
  EXPECT_EQ(run_row_stats(), EXN_OK) << exn_last_error();
}

TEST(InAProcessOfItsOwn, DISABLED_SomeOtherLibrary) {
  EXPECT_EQ(exn_backend_available(EXN_BACKEND_CUDA), 0);
  const std::string reason = exn_backend_reason(EXN_BACKEND_CUDA);
  EXPECT_NE(reason.find("libm.so.6"), std::string::npos) << reason;
  EXPECT_NE(reason.find("exn_cuda_backend_query"), std::string::npos) << reason;
}

TEST(InAProcessOfItsOwn, DISABLED_BackendOfAnotherAbi) {
  EXPECT_EQ(exn_backend_available(EXN_BACKEND_CUDA), 0);
  EXPECT_EQ(run_row_stats(kDLCUDA), EXN_BACKEND_UNAVAILABLE);
  expect_words({std::getenv("EXEUNT_TEST_OTHER_ABI"), "ABI " + std::to_string(kBackendAbi + 1),
                std::to_string(sizeof(Backend) + 8) + " bytes", std::to_string(kBackendAbi),
                std::to_string(sizeof(Backend))});
  EXPECT_EQ(run_row_stats(), EXN_OK) << exn_last_error();
}

// With a driver and a device it opens, and tests/gpu takes over.
TEST(InAProcessOfItsOwn, DISABLED_RealBackend) {
  if (exn_backend_available(EXN_BACKEND_CUDA) == 0) {
    const std::string reason = exn_backend_reason(EXN_BACKEND_CUDA);
    EXPECT_NE(reason.find("CUDA"), std::string::npos) << reason;
    EXPECT_TRUE(reason.find("no device") != std::string::npos ||
                reason.find("cudaError") != std::string::npos)
        << reason;
    EXPECT_EQ(exn_device_count(EXN_BACKEND_CUDA), 0);
    EXPECT_EQ(run_row_stats(kDLCUDA), EXN_BACKEND_UNAVAILABLE);
    expect_words({"row_stats", reason});
    EXPECT_EQ(exn_cuda_open(nullptr), EXN_BACKEND_UNAVAILABLE);
    expect_words({reason});
  }
  EXPECT_EQ(run_row_stats(), EXN_OK) << exn_last_error();
}

TEST(InAProcessOfItsOwn, DISABLED_Runs) { EXPECT_EQ(run_row_stats(), EXN_OK) << exn_last_error(); }

TEST(InAProcessOfItsOwn, DISABLED_Threads) { EXPECT_EQ(exn_cpu_threads(), 3); }

TEST(InAProcessOfItsOwn, DISABLED_ImpossibleThreads) {
  EXPECT_EQ(exn_cpu_threads(), 0);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(run_row_stats(), EXN_UNSUPPORTED);
    expect_words({"EXEUNT_THREADS", std::getenv("EXEUNT_THREADS"), "0..256"});
    EXPECT_EQ(exn_cpu_set_threads(0), EXN_UNSUPPORTED);
    expect_words({"EXEUNT_THREADS", std::getenv("EXEUNT_THREADS"), "0..256"});
  }
  uint64_t checksum = 0;
  EXPECT_EQ(exn_read_probe(&checksum, sizeof checksum, 0, &checksum), EXN_UNSUPPORTED);
  EXPECT_EQ(exn_cpu_set_threads(2), EXN_OK);  // an explicit choice repairs it
  EXPECT_EQ(run_row_stats(), EXN_OK) << exn_last_error();
}

TEST(Environment, ImpossibleIsa) {
  EXPECT_TRUE(passes_with("ImpossibleIsa", {{"EXEUNT_ISA", "nonsense"}}));
}

TEST(Environment, ForcedIsa) {
  std::stringstream isas(exn_cpu_isas());
  for (std::string isa; std::getline(isas, isa, ',');) {
    EXPECT_TRUE(passes_with("ForcedIsa", {{"EXEUNT_ISA", isa}})) << isa;
  }
}

TEST(Environment, BackendCpu) {
  EXPECT_TRUE(passes_with("BackendCpu", {{"EXEUNT_BACKEND", "cpu"}}));
}

TEST(Environment, BackendThatDoesNotExist) {
  EXPECT_TRUE(passes_with("NoSuchBackend", {{"EXEUNT_BACKEND", "gpu"}}));
}

TEST(Environment, EmptyVariablesSayNothing) {
  EXPECT_TRUE(passes_with("Runs", {{"EXEUNT_BACKEND", ""}, {"EXEUNT_ISA", ""}}));
}

TEST(Environment, MissingCudaLibrary) {
  EXPECT_TRUE(
      passes_with("MissingCudaLibrary", {{"EXEUNT_CUDA_LIBRARY", "/nonexistent/libnone.so"}}));
}

TEST(Environment, SomeOtherLibrary) {
  EXPECT_TRUE(passes_with("SomeOtherLibrary", {{"EXEUNT_CUDA_LIBRARY", "libm.so.6"}}));
}

TEST(Environment, BackendOfAnotherAbi) {
  const char* library = std::getenv("EXEUNT_TEST_OTHER_ABI");
  if (library == nullptr) GTEST_SKIP() << "no such backend in this run";
  EXPECT_TRUE(passes_with("BackendOfAnotherAbi", {{"EXEUNT_CUDA_LIBRARY", library}}));
}

TEST(Environment, RealBackend) {
  const char* library = std::getenv("EXEUNT_TEST_CUDA");
  if (library == nullptr) GTEST_SKIP() << "no libexeunt_cuda.so in this run";
  EXPECT_TRUE(passes_with("RealBackend", {{"EXEUNT_CUDA_LIBRARY", library}}));
}

// The other way round: what the real backend says to a library of another ABI. Nothing else in
// this process has opened it.
TEST(Backends, RefuseALibraryOfAnotherAbi) {
  const char* path = std::getenv("EXEUNT_TEST_CUDA");
  if (path == nullptr) GTEST_SKIP() << "no libexeunt_cuda.so in this run";
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(library, nullptr) << dlerror();
  const auto query = reinterpret_cast<BackendQuery>(dlsym(library, kBackendQuerySymbol));
  ASSERT_NE(query, nullptr) << dlerror();
  static std::string said;
  static constexpr Host kOther{[](exn_status status, const char* sentence) {
                                 said = sentence;
                                 return status;
                               },
                               [](const char*) {}};
  Backend table = {};
  EXPECT_EQ(query(kBackendAbi + 1, &kOther, &table), EXN_BACKEND_UNAVAILABLE);
  EXPECT_EQ(said, "the CUDA backend speaks ABI " + std::to_string(kBackendAbi) + ", the library " +
                      std::to_string(kBackendAbi + 1));
  EXPECT_EQ(table.alloc, nullptr) << "a refused query filled the table";
  dlclose(library);
}

TEST(Environment, Threads) { EXPECT_TRUE(passes_with("Threads", {{"EXEUNT_THREADS", "3"}})); }

TEST(Environment, ImpossibleThreads) {
  for (const char* threads : {"abc", "3x", "-1", "257", "99999999999999999999"}) {
    EXPECT_TRUE(passes_with("ImpossibleThreads", {{"EXEUNT_THREADS", threads}})) << threads;
  }
}

}  // namespace
}  // namespace exn::test
