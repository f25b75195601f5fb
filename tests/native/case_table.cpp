// SPDX-License-Identifier: Apache-2.0
#include "case_table.h"

#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>

namespace exn::test {

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
const std::vector<const char*> kStatWords(kStatNames, kStatNames + kStats);
const std::vector<const char*> kNormalizers = {"softmax", "stablemax"};

}  // namespace

std::vector<RowStatsCase> row_stats_cases() {
  return read_cases<RowStatsCase>("row_stats", [](const Row& row, RowStatsCase* c) {
        c->logits = read_matrix(row);
        c->normalizer = row.choice("normalizer", kNormalizers);
        c->temperature = row.number("temperature");
        c->softcap = row.number("softcap");
        c->outputs = row.subset("outputs", kStatWords);
      });
}

std::vector<ExitHeadCase> exit_head_cases() {
  return read_cases<ExitHeadCase>("exit_head", [](const Row& row, ExitHeadCase* c) {
        c->hidden = {row.integer("rows"),          row.integer("dim"),
                     row.type("hidden"),           row.integer("hidden_pad"),
                     row.integer("hidden_offset"), row.text("hidden_fill"),
                     row.number("hidden_scale"),   row.text("special")};
        c->weight = {row.integer("vocab"),         row.integer("dim"),
                     row.type("weight"),           row.integer("weight_pad"),
                     row.integer("weight_offset"), row.text("weight_fill"),
                     row.number("weight_scale"),   "-"};
        c->bias = row.text("bias");
        c->norm = row.choice("norm", {"none", "rms", "layer"});
        c->norm_eps = row.number("norm_eps");
        c->norm_bias = row.flag("norm_bias");
        c->translator = row.text("translator") != "-";
        if (c->translator) c->translator_type = row.type("translator");
        c->translator_pad = row.integer("translator_pad");
        c->translate = row.choice("translate", {"raw", "rms"});
        c->translator_bias = row.flag("translator_bias");
        const std::string& list = row.text("shortlist");
        if (list != "-") {
          char* end = nullptr;
          c->shortlist = std::strtoll(list.c_str(), &end, 10);
          c->shortlist_descending = std::string(end) == ":desc";
          if (c->shortlist <= 0 || (*end != '\0' && !c->shortlist_descending)) {
            fail("shortlist: '" + list + "'");
          }
        }
        c->normalizer = row.choice("normalizer", kNormalizers);
        c->temperature = row.number("temperature");
        c->softcap = row.number("softcap");
        c->outputs = row.subset("outputs", kStatWords);
      });
}

std::vector<StableMaxCase> stablemax_cases() {
  return read_cases<StableMaxCase>("stablemax", [](const Row& row, StableMaxCase* c) {
        c->logits = read_matrix(row);
        c->out_pad = row.integer("out_pad");
        c->out_offset = row.integer("out_offset");
        c->normalizer = row.choice("normalizer", kNormalizers);
        c->log = row.flag("log");
        c->in_place = row.flag("in_place");
      });
}

std::vector<CrossEntropyCase> cross_entropy_cases() {
  return read_cases<CrossEntropyCase>("cross_entropy", [](const Row& row, CrossEntropyCase* c) {
        c->logits = read_matrix(row);
        c->grad_pad = row.integer("grad_pad");
        c->grad_offset = row.integer("grad_offset");
        c->label_type = row.type("label_dtype");
        c->labels = row.text("labels");
        c->ignore_index = row.integer("ignore_index");
        c->normalizer = row.choice("normalizer", kNormalizers);
        c->reduction = row.choice("reduction", {"none", "mean"});
        const uint32_t outputs = row.subset("outputs", {"loss", "grad"});
        c->loss = outputs & 1;
        c->grad = outputs & 2;
        c->in_place = row.flag("in_place");
      });
}

std::vector<PerpGradCase> perp_grad_cases() {
  return read_cases<PerpGradCase>("perp_grad", [](const Row& row, PerpGradCase* c) {
        std::stringstream shape(row.text("shape"));
        for (std::string extent; std::getline(shape, extent, 'x');) {
          c->shape.push_back(std::stoll(extent));
        }
        c->type = row.type("dtype");
        c->offset = row.integer("offset");
        c->weight_fill = row.text("weight_fill");
        c->weight_scale = row.number("weight_scale");
        c->grad_fill = row.text("grad_fill");
        c->grad_scale = row.number("grad_scale");
        c->special = row.text("special");
        c->form = row.choice("form", {"code", "paper"});
        c->in_place = row.flag("in_place");
      });
}

std::vector<GateCase> gate_cases() {
  return read_cases<GateCase>("gate", [](const Row& row, GateCase* c) {
        c->features = read_matrix(row, "dim");
        c->weight_type = row.type("weight_dtype");
        c->weight_scale = row.number("weight_scale");
        c->kind = row.choice("kind", {"linear", "residual", "tanh"});
        c->repeats = static_cast<int32_t>(row.integer("repeats"));
        c->hidden_bias = row.flag("hidden_bias");
        c->classes = row.integer("classes");
        c->out_bias = row.flag("out_bias");
      });
}

std::vector<ExitRuleCase> exit_rule_cases() {
  return read_cases<ExitRuleCase>("exit_rule", [](const Row& row, ExitRuleCase* c) {
        c->rows = row.integer("rows");
        c->layers = row.integer("layers");
        c->tokens = row.integer("tokens");
        c->rule = row.choice("rule", {"threshold", "patience", "quantile", "jei", "specdec"});
        c->comparator = row.choice("comparator", {"ge", "gt", "le"});
        c->decay = row.choice("decay", {"none", "calm_code", "calm_paper"});
        c->tau = row.number("tau");
        c->horizon = row.number("horizon");
        c->step_tensor = row.choice("step", {"index", "tensor"}) == 1;
        c->scope = row.choice("scope", {"each", "all", "last"});
        c->threshold = row.number("threshold");
        c->patience = static_cast<int32_t>(row.integer("patience"));
        c->min_steps = static_cast<int32_t>(row.integer("min_steps"));
        c->max_steps = static_cast<int32_t>(row.integer("max_steps"));
        c->scores = row.text("scores");
        c->labels = row.text("labels") == "-" ? 0 : row.integer("labels");
        c->valid = row.choice("valid", {"-", "some"}) == 1;
        c->nan = row.choice("special", {"-", "nan"}) == 1;
        c->force = row.flag("force");
        c->outputs =
            row.subset("outputs", {"exit_mask", "active_list", "active_count", "exit_layer"});
      });
}

// ---- inputs -------------------------------------------------------------------------------------

RowStatsInputs make_inputs(const RowStatsCase& c) { return {make_matrix(c.logits, c.seed, 0)}; }

StableMaxInputs make_inputs(const StableMaxCase& c) { return {make_matrix(c.logits, c.seed, 0)}; }

namespace {

HostTensor make_translator(const ExitHeadCase& c) {
  const int64_t d = c.hidden.cols;
  HostTensor t = make_tensor(c.translator_type, {d, d}, c.translator_pad);
  for (int64_t i = 0; i < d; ++i) {
    for (int64_t j = 0; j < d; ++j) {
      const float v = bell(word(c.seed, 5, static_cast<uint64_t>(i * d + j))) * 0x1p-5f;
      t.set(i, j, static_cast<double>(i == j ? v + 1 : v));
    }
  }
  return t;
}

HostTensor make_shortlist(const ExitHeadCase& c) {
  HostTensor t = make_tensor(Type::kI32, {c.shortlist});
  for (int64_t k = 0; k < c.shortlist; ++k) {
    const int64_t at = c.shortlist_descending ? c.shortlist - 1 - k : k;
    t.set_integer(at, k * c.weight.rows / c.shortlist);
  }
  return t;
}

}  // namespace

ExitHeadInputs make_inputs(const ExitHeadCase& c) {
  const int64_t d = c.hidden.cols;
  ExitHeadInputs in;
  in.hidden = make_matrix(c.hidden, c.seed, 0);
  in.weight = make_matrix(c.weight, c.seed, 1);
  if (c.bias != "-") {
    in.bias = make_tensor(Type::kF32, {c.weight.rows});
    fill(&in.bias, c.seed, 2, "normal", 1, c.bias == "normal" ? "-" : c.bias);
  }
  if (c.norm != EXN_NORM_NONE) in.norm_weight = make_bell(Type::kF32, {d}, c.seed, 3, 0.25f, 1);
  if (c.norm_bias) in.norm_bias = make_bell(Type::kF32, {d}, c.seed, 4, 0.25f);
  if (c.translator) in.translator = make_translator(c);
  if (c.translator_bias) in.translator_bias = make_bell(Type::kF32, {d}, c.seed, 6, 0.125f);
  if (c.shortlist > 0) in.shortlist = make_shortlist(c);
  return in;
}

CrossEntropyInputs make_inputs(const CrossEntropyCase& c) {
  CrossEntropyInputs in;
  in.logits = make_matrix(c.logits, c.seed, 0);
  in.labels = make_tensor(c.label_type, {c.logits.rows});
  if (c.labels != "random" && c.labels != "some" && c.labels != "ignored" && c.labels != "last") {
    fail("labels: " + c.labels);
  }
  for (int64_t r = 0; r < c.logits.rows; ++r) {
    int64_t label = static_cast<int64_t>(word(c.seed, 1, static_cast<uint64_t>(r)) %
                                         static_cast<uint64_t>(c.logits.cols));
    if (c.labels == "last") label = c.logits.cols - 1;
    if (c.labels == "ignored" || (c.labels == "some" && r % 4 == 2)) label = c.ignore_index;
    in.labels.set_integer(r, label);
  }
  return in;
}

PerpGradInputs make_inputs(const PerpGradCase& c) {
  PerpGradInputs in;
  in.weight = make_tensor(c.type, c.shape, 0, c.offset);
  in.grad = make_tensor(c.type, c.shape, 0, c.offset);
  for (HostTensor* t : {&in.weight, &in.grad}) {
    t->cols = t->size();
    t->rows = 1;
    t->stride = t->cols;
  }
  fill(&in.weight, c.seed, 0, c.weight_fill, c.weight_scale, "-");
  if (!derive(in.weight, c.grad_fill, c.seed, c.grad_scale, &in.grad)) {
    fill(&in.grad, c.seed, 1, c.grad_fill, c.grad_scale, "-");
  }
  if (c.special.rfind("weight_", 0) == 0) fill_special(&in.weight, c.seed, 0, c.special.substr(7));
  if (c.special.rfind("grad_", 0) == 0) fill_special(&in.grad, c.seed, 1, c.special.substr(5));
  return in;
}

GateInputs make_inputs(const GateCase& c) {
  const int64_t d = c.features.cols;
  GateInputs in;
  in.features = make_matrix(c.features, c.seed, 0);
  if (c.kind == EXN_GATE_RESIDUAL) {
    in.hidden_weight = make_bell(c.weight_type, {d, d}, c.seed, 1, c.weight_scale);
    if (c.hidden_bias) in.hidden_bias = make_bell(Type::kF32, {d}, c.seed, 2, 0.125f);
  }
  if (c.kind == EXN_GATE_TANH) {
    in.hidden_weight = make_bell(c.weight_type, {c.repeats, d, d}, c.seed, 1, c.weight_scale);
    if (c.hidden_bias) in.hidden_bias = make_bell(Type::kF32, {c.repeats, d}, c.seed, 2, 0.125f);
  }
  in.out_weight = make_bell(c.weight_type, {c.classes, d}, c.seed, 3, c.weight_scale);
  if (c.out_bias) in.out_bias = make_bell(Type::kF32, {c.classes}, c.seed, 4, 0.125f);
  return in;
}

namespace {

float score_of(const std::string& kind, uint64_t w) {
  if (kind == "unit") return unit(w);
  if (kind == "grid") return static_cast<float>((w >> 32) % 11) * 0.1f;
  if (kind == "eighths") return static_cast<float>((w >> 32) % 9) * 0.125f;
  if (kind == "low") return unit(w) * 0.125f;
  if (kind == "high") return 1 - unit(w) * 0.125f;
  fail("scores: unknown word '" + kind + "'");
}

}  // namespace

ExitRuleInputs make_inputs(const ExitRuleCase& c, int64_t token, int64_t layer) {
  ExitRuleInputs in;
  if (c.scores != "-") in.score = make_tensor(Type::kF32, {c.rows});
  if (c.labels > 0) in.label = make_tensor(Type::kI32, {c.rows});
  if (c.valid) in.valid = make_tensor(Type::kU8, {c.rows});
  if (c.step_tensor) in.step = make_tensor(Type::kI32, {c.rows});
  for (int64_t r = 0; r < c.rows; ++r) {
    const uint64_t i = static_cast<uint64_t>((token * c.layers + layer) * c.rows + r);
    if (in.score.given()) {
      const bool nan = c.nan && word(c.seed, 3, i) % 7 == 0;
      in.score.set(0, r, nan ? kNaN : static_cast<double>(score_of(c.scores, word(c.seed, 0, i))));
    }
    if (in.label.given()) {
      in.label.set_integer(
          r, static_cast<int64_t>(word(c.seed, 1, i) % static_cast<uint64_t>(c.labels)));
    }
    if (in.valid.given()) in.valid.set_integer(r, word(c.seed, 2, i) % 5 != 0);
    if (in.step.given()) in.step.set_integer(r, 8 * token + r);
  }
  return in;
}

}  // namespace exn::test
