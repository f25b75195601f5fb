// SPDX-License-Identifier: Apache-2.0
#include "sample_calls.h"

namespace exn::test {
namespace {

constexpr auto k_row_stats = EXN_TEST_OP(row_stats);
constexpr auto k_exit_head = EXN_TEST_OP(exit_head);
constexpr auto k_stablemax = EXN_TEST_OP(stablemax);
constexpr auto k_cross_entropy = EXN_TEST_OP(cross_entropy);
constexpr auto k_perp_grad = EXN_TEST_OP(perp_grad);
constexpr auto k_cosine = EXN_TEST_OP(cosine);
constexpr auto k_gate = EXN_TEST_OP(gate);
constexpr auto k_exit_rule = EXN_TEST_OP(exit_rule);
constexpr auto k_norm = EXN_TEST_OP(norm);
constexpr auto k_rope_table = EXN_TEST_OP(rope_table);
constexpr auto k_rope = EXN_TEST_OP(rope);
constexpr auto k_linear = EXN_TEST_OP(linear);
constexpr auto k_kv_append = EXN_TEST_OP(kv_append);
constexpr auto k_kv_copy = EXN_TEST_OP(kv_copy);
constexpr auto k_kv_length = EXN_TEST_OP(kv_length);
constexpr auto k_attention = EXN_TEST_OP(attention);
constexpr auto k_kv_propagate = EXN_TEST_OP(kv_propagate);
constexpr auto k_hidden_stack = EXN_TEST_OP(hidden_stack);
constexpr auto k_row_compaction = EXN_TEST_OP(row_compaction);
constexpr auto k_layer_schedule = EXN_TEST_OP(layer_schedule);
constexpr auto k_ffn = EXN_TEST_OP(ffn);
constexpr auto k_ffn_skip_rule = EXN_TEST_OP(ffn_skip_rule);
constexpr auto k_attention_scores = EXN_TEST_OP(attention_scores);
constexpr auto k_select = EXN_TEST_OP(select);
constexpr auto k_hired_budget = EXN_TEST_OP(hired_budget);
constexpr auto k_gather = EXN_TEST_OP(gather);
constexpr auto k_kv_compact = EXN_TEST_OP(kv_compact);

constexpr bool kNotZero = false;
constexpr auto kOnes = Argument::kOnes;
constexpr auto kCounting = Argument::kCounting;

void optional(Argument* a) { a->optional = true; }
void strided(Argument* a) { a->strided = true; }
// One tensor that is two arguments.
void also_as(Argument* a, const DLTensor** field) {
  a->fields.push_back(field);
  *field = &a->dl;
}
Argument* all(Argument* a, int64_t value) {
  a->fill = Argument::kConstant;
  a->constant = value;
  return a;
}

// Of extents that may be anything.
int64_t times(int64_t a, int64_t b) {
  int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}
int64_t after(int64_t a) { return a < INT64_MAX ? a + 1 : a; }

void add_stats(SampleCall* s, exn_stats* out, int64_t rows) {
  optional(s->out(&out->argmax, "out.argmax", Type::kI32, {rows}));
  const auto number = [&](const DLTensor** field, const char* name) {
    optional(s->out(field, name, Type::kF32, {rows}));
  };
  number(&out->max_logit, "out.max_logit");
  number(&out->lse, "out.lse");
  number(&out->p1, "out.p1");
  number(&out->p2, "out.p2");
  number(&out->margin, "out.margin");
  number(&out->entropy, "out.entropy");
  number(&out->pow2_entropy, "out.pow2_entropy");
  number(&out->mean_log_p, "out.mean_log_p");
  optional(s->out(&out->valid, "out.valid", Type::kU8, {rows}));
}

void row_stats(SampleCall* s) {
  auto* p = s->params(k_row_stats);
  const int64_t r = s->extent("R", 5), v = s->extent("V", 37, kNotZero);
  strided(s->numbers(&p->logits, "logits", {r, v}));
  p->temperature = 1;
  add_stats(s, &p->out, r);
}

void exit_head(SampleCall* s) {
  auto* p = s->params(k_exit_head);
  const int64_t r = s->extent("R", 5), d = s->extent("D", 24, kNotZero),
                v = s->extent("V", 40, kNotZero);
  strided(s->numbers(&p->hidden, "hidden", {r, d}));
  strided(s->numbers(&p->weight, "weight", {v, d}));
  optional(s->numbers(&p->bias, "bias", {v}));
  s->numbers(&p->norm_weight, "norm_weight", {d});
  optional(s->numbers(&p->norm_bias, "norm_bias", {d}));
  optional(s->numbers(&p->translator_weight, "translator_weight", {d, d}));
  optional(s->numbers(&p->translator_bias, "translator_bias", {d}));
  optional(s->in(&p->shortlist, "shortlist", Type::kI32, {s->extent("N", 9, kNotZero)}));
  p->norm = EXN_NORM_LAYER;
  p->norm_eps = 1e-5f;
  p->temperature = 1;
  add_stats(s, &p->out, r);
}

void stablemax(SampleCall* s) {
  auto* p = s->params(k_stablemax);
  const int64_t r = s->extent("R", 5), v = s->extent("V", 37, kNotZero);
  strided(s->numbers(&p->logits, "logits", {r, v}));
  strided(s->out(&p->out, "out", Type::kF32, {r, v}));
}

void cross_entropy(SampleCall* s) {
  auto* p = s->params(k_cross_entropy);
  const int64_t r = s->extent("R", 5), v = s->extent("V", 37, kNotZero);
  strided(s->numbers(&p->logits, "logits", {r, v}));
  s->in(&p->labels, "labels", Type::kI32, {r});
  optional(s->out(&p->loss, "loss", Type::kF32, {r}));
  Argument* grad = s->out(&p->grad, "grad", Type::kF32, {r, v});
  optional(grad);
  strided(grad);
}

void perp_grad(SampleCall* s) {
  auto* p = s->params(k_perp_grad);
  const std::vector<int64_t> shape = {s->extent("A", 5), s->extent("B", 37)};
  s->numbers(&p->weight, "weight", shape);
  s->numbers(&p->grad, "grad", shape);
  s->out(&p->out, "out", Type::kF32, shape);
}

void cosine(SampleCall* s) {
  auto* p = s->params(k_cosine);
  const int64_t r = s->extent("R", 5), d = s->extent("D", 37, kNotZero);
  strided(s->numbers(&p->a, "a", {r, d}));
  strided(s->numbers(&p->b, "b", {r, d}));
  s->out(&p->out, "out", Type::kF32, {r});
}

void gate(SampleCall* s) {
  auto* p = s->params(k_gate);
  const int64_t r = s->extent("R", 5), d = s->extent("D", 24, kNotZero),
                n = s->extent("repeats", 2), o = s->extent("O", 2, kNotZero);
  strided(s->numbers(&p->features, "features", {r, d}));
  s->numbers(&p->hidden_weight, "hidden_weight", {n, d, d});
  optional(s->numbers(&p->hidden_bias, "hidden_bias", {n, d}));
  strided(s->numbers(&p->out_weight, "out_weight", {o, d}));
  optional(s->numbers(&p->out_bias, "out_bias", {o}));
  s->out(&p->prob, "prob", Type::kF32, {r});
  p->kind = EXN_GATE_TANH;
  p->repeats = static_cast<int32_t>(n);
}

void exit_rule(SampleCall* s) {
  auto* p = s->params(k_exit_rule);
  const int64_t r = s->extent("R", 5);
  s->numbers(&p->score, "score", {r});
  optional(s->in(&p->label, "label", Type::kI32, {r}));
  optional(s->in(&p->valid, "valid", Type::kU8, {r}, kOnes));
  optional(s->in(&p->step, "step", Type::kI32, {r}));
  s->in_out(&p->state, "state", {r, EXN_EXIT_STATE_WORDS});
  optional(s->out(&p->exit_mask, "exit_mask", Type::kU8, {r}));
  optional(s->out(&p->active_list, "active_list", Type::kI32, {r}));
  optional(s->out(&p->active_count, "active_count", Type::kI32, {1}));
  optional(s->in_out(&p->exit_layer, "exit_layer", {r}));
  p->decay_horizon = 1;
  p->first = 1;
}

void norm(SampleCall* s) {
  auto* p = s->params(k_norm);
  const int64_t r = s->extent("R", 5), d = s->extent("D", 37, kNotZero);
  strided(s->numbers(&p->input, "input", {r, d}));
  s->numbers(&p->weight, "weight", {d});
  optional(s->numbers(&p->bias, "bias", {d}));
  strided(s->out(&p->out, "out", Type::kF32, {r, d}));
  p->norm = EXN_NORM_LAYER;
  p->eps = 1e-5f;
}

void rope_table(SampleCall* s) {
  auto* p = s->params(k_rope_table);
  s->out(&p->table, "table", Type::kF32, {s->extent("T", 5), s->extent("n/2", 3, kNotZero), 2});
  p->base = 10000;
  p->factor = 1;
}

void rope(SampleCall* s) {
  auto* p = s->params(k_rope);
  const int64_t r = s->extent("R", 5), h = s->extent("H", 3), d = s->extent("dh", 10, kNotZero),
                t = s->extent("T", 4);
  strided(s->numbers(&p->input, "input", {r, h, d}));
  s->in(&p->position, "position", Type::kI32, {r});
  s->numbers(&p->table, "table", {t, s->extent("n/2", 4, kNotZero), 2});
  strided(s->out(&p->out, "out", Type::kF32, {r, h, d}));
}

void linear(SampleCall* s) {
  auto* p = s->params(k_linear);
  const int64_t r = s->extent("R", 5), d = s->extent("D", 24, kNotZero),
                n = s->extent("N", 37, kNotZero);
  strided(s->numbers(&p->input, "input", {r, d}));
  strided(s->numbers(&p->weight, "weight", {n, d}));
  optional(s->numbers(&p->bias, "bias", {n}));
  Argument* residual = s->numbers(&p->residual, "residual", {r, n});
  optional(residual);
  strided(residual);
  strided(s->out(&p->out, "out", Type::kF32, {r, n}));
}

// K and V of [S,T] slots, or of pages with half as many slots.
struct CacheShape {
  int64_t sequences, slots, heads, dim;
  int64_t pages = 0;
};

CacheShape cache_shape(SampleCall* s, int32_t layout, int64_t slots = 8) {
  CacheShape c = {s->extent("S", 2), 0, s->extent("Hkv", 2, kNotZero),
                  s->extent("dh", 16, kNotZero)};
  if (layout == EXN_KV_PAGED) {
    c.pages = s->extent("P", 9);
    c.slots = times(s->extent("page", slots / 2, kNotZero), s->extent("blocks", 2));
  } else {
    c.slots = s->extent("T", slots);
  }
  return c;
}

void add_cache(SampleCall* s, exn_kv_cache* cache, const std::string& name, const CacheShape& c,
               int32_t layout, bool written, bool v_is_optional = false) {
  std::vector<int64_t> shape = {c.sequences, c.heads, c.slots, c.dim};
  if (layout == EXN_KV_TOKEN_MAJOR) std::swap(shape[1], shape[2]);
  if (layout == EXN_KV_PAGED) shape = {c.pages, s->extents["page"], c.heads, c.dim};
  for (const DLTensor** field : {&cache->k, &cache->v}) {
    const std::string full = name + (field == &cache->k ? ".k" : ".v");
    Argument* a = written ? s->out(field, full, Type::kF32, shape) : s->numbers(field, full, shape);
    a->optional = v_is_optional && field == &cache->v;
  }
  if (layout == EXN_KV_PAGED) {
    s->in(&cache->block_table, name + ".block_table", Type::kI32,
          {c.sequences, s->extents["blocks"]}, kCounting);
  }
  cache->layout = layout;
}

template <int32_t kLayout>
void kv_append(SampleCall* s) {
  auto* p = s->params(k_kv_append);
  const CacheShape c = cache_shape(s, kLayout);
  const int64_t r = s->extent("R", 5);
  add_cache(s, &p->cache, "cache", c, kLayout, true);
  strided(s->numbers(&p->k, "k", {r, c.heads, c.dim}));
  strided(s->numbers(&p->v, "v", {r, c.heads, c.dim}));
  optional(s->in(&p->sequence, "sequence", Type::kI32, {r}));
  s->in(&p->slot, "slot", Type::kI32, {r}, kCounting);
}

template <int32_t kFrom, int32_t kTo>
void kv_copy(SampleCall* s) {
  auto* p = s->params(k_kv_copy);
  const int64_t n = s->extent("N", 3);
  add_cache(s, &p->destination, "destination", cache_shape(s, kTo), kTo, true);
  add_cache(s, &p->source, "source", cache_shape(s, kFrom), kFrom, false);
  optional(s->in(&p->from_sequence, "from_sequence", Type::kI32, {n}));
  s->in(&p->from_slot, "from_slot", Type::kI32, {n}, kCounting);
  optional(s->in(&p->to_sequence, "to_sequence", Type::kI32, {n}));
  s->in(&p->to_slot, "to_slot", Type::kI32, {n}, kCounting);
}

void kv_advance(SampleCall* s) {
  auto* p = s->params(k_kv_length);
  const int64_t r = s->extent("R", 3);
  s->in_out(&p->length, "length", {s->extent("S", 2)});
  optional(s->in(&p->sequence, "sequence", Type::kI32, {r}));
  optional(s->in(&p->active, "active", Type::kU8, {r}, kOnes));
  s->out(&p->slot, "slot", Type::kI32, {r});
  optional(s->out(&p->visible, "visible", Type::kI32, {r}));
  p->capacity = s->extent("capacity", 10, kNotZero);
}

void kv_crop(SampleCall* s) {
  auto* p = s->params(k_kv_length);
  const int64_t n = s->extent("S", 3);
  s->in_out(&p->length, "length", {n});
  s->in(&p->limit, "limit", Type::kI32, {n});
  p->action = EXN_KV_CROP;
}

template <int32_t kLayout>
void attention(SampleCall* s) {
  auto* p = s->params(k_attention);
  const CacheShape c = cache_shape(s, kLayout);
  const int64_t r = s->extent("R", 3), h = times(c.heads, s->extent("group", 2, kNotZero));
  strided(s->numbers(&p->query, "query", {r, h, c.dim}));
  add_cache(s, &p->cache, "cache", c, kLayout, false);
  optional(s->in(&p->sequence, "sequence", Type::kI32, {r}));
  all(s->in(&p->visible, "visible", Type::kI32, {r}), c.sequences > 0 ? c.slots : 0);
  strided(s->out(&p->out, "out", Type::kF32, {r, h, c.dim}));
  optional(s->out(&p->scores, "scores", Type::kF32, {r, h, s->extent("N", 4)}));
  p->scale = 1;
}

template <int32_t kLayout>
void kv_propagate(SampleCall* s) {
  auto* p = s->params(k_kv_propagate);
  const CacheShape c = cache_shape(s, kLayout);
  constexpr int64_t kLayers = 2;
  const int64_t r = s->extent("R", 3), d = s->extent("D", 24, kNotZero),
                width = times(c.heads, c.dim);
  strided(s->numbers(&p->hidden, "hidden", {r, d}));
  s->in(&p->exit_layer, "exit_layer", Type::kI32, {r});
  optional(s->in(&p->sequence, "sequence", Type::kI32, {r}));
  s->in(&p->slot, "slot", Type::kI32, {r}, kCounting);
  s->in(&p->position, "position", Type::kI32, {r});
  optional(s->numbers(&p->rope_table, "rope_table",
                      {s->extent("positions", 4), s->extent("n/2", 3, kNotZero), 2}));
  auto* layers = s->also<exn_kv_layer>(kLayers);
  for (int64_t j = 0; j < kLayers; ++j) {
    exn_kv_layer* layer = layers + j;
    const std::string of = "layers[" + std::to_string(j) + "].";
    s->numbers(&layer->norm_weight, of + "norm_weight", {d});
    optional(s->numbers(&layer->norm_bias, of + "norm_bias", {d}));
    strided(s->numbers(&layer->k_weight, of + "k_weight", {width, d}));
    optional(s->numbers(&layer->k_bias, of + "k_bias", {width}));
    strided(s->numbers(&layer->v_weight, of + "v_weight", {width, d}));
    optional(s->numbers(&layer->v_bias, of + "v_bias", {width}));
    add_cache(s, &layer->cache, of + "cache", c, kLayout, true);
    layer->index = static_cast<int32_t>(j);
  }
  p->layers = layers;
  p->layer_count = p->model_layers = static_cast<int32_t>(kLayers);
  p->norm = EXN_NORM_LAYER;
  p->norm_eps = 1e-5f;
}

template <int32_t kAction>
void hidden_stack(SampleCall* s) {
  auto* p = s->params(k_hidden_stack);
  const int64_t c = s->extent("C", 7), r = s->extent("R", 3), d = s->extent("D", 37),
                m = s->extent("M", 2, kNotZero);
  strided(s->out(&p->stack, "stack", Type::kF32, {c, d}));
  optional(s->out(&p->stack_tags, "stack_tags", Type::kI32, {m, c}));
  s->in_out(&p->count, "count", {1});
  if (kAction == EXN_STACK_PUSH) {
    strided(s->numbers(&p->rows, "rows", {r, d}));
    optional(s->in(&p->tags, "tags", Type::kI32, {m, r}));
    optional(s->in(&p->mask, "mask", Type::kU8, {r}, kOnes));
  } else {
    strided(s->out(&p->rows, "rows", Type::kF32, {r, d}));
    optional(s->out(&p->tags, "tags", Type::kI32, {m, r}));
  }
  optional(s->out(&p->overflow, "overflow", Type::kI32, {1}));
  p->action = kAction;
}

template <int32_t kDirection>
void row_compaction(SampleCall* s) {
  auto* p = s->params(k_row_compaction);
  const int64_t r = s->extent("R", 5), d = s->extent("D", 37), k = s->extent("K", 4);
  strided(s->numbers(&p->input, "input", {r, d}));
  strided(s->out(&p->out, "out", Type::kF32, {r, d}));
  s->in(&p->list, "list", Type::kI32, {k}, kCounting);
  p->direction = kDirection;
}

template <int32_t kKind>
void layer_schedule(SampleCall* s) {
  auto* p = s->params(k_layer_schedule);
  const int64_t t = s->extent("T", 4), l = s->extent("L", 6, kNotZero);
  s->out(&p->layers, "layers", Type::kI32, {t, l});
  s->out(&p->count, "count", Type::kI32, {t});
  optional(s->out(&p->exit_test, "exit_test", Type::kU8, {t, l}));
  if (kKind == EXN_SCHEDULE_CALM) optional(s->out(&p->threshold, "threshold", Type::kF32, {t}));
  if (kKind == EXN_SCHEDULE_FIXED)
    s->in(&p->order, "order", Type::kI32, {s->extent("K", 3, kNotZero)}, kCounting);
  p->kind = kKind;
  p->horizon = p->interval = p->least = 1;
  p->most = 2;
}

void ffn(SampleCall* s) {
  auto* p = s->params(k_ffn);
  const int64_t r = s->extent("R", 5), d = s->extent("D", 24, kNotZero),
                f = s->extent("F", 40, kNotZero);
  strided(s->numbers(&p->hidden, "hidden", {r, d}));
  s->numbers(&p->norm_weight, "norm_weight", {d});
  optional(s->numbers(&p->norm_bias, "norm_bias", {d}));
  Argument* weight = s->numbers(&p->gate_weight, "gate_weight", {f, d});
  optional(weight);
  strided(weight);
  optional(s->numbers(&p->gate_bias, "gate_bias", {f}));
  strided(s->numbers(&p->up_weight, "up_weight", {f, d}));
  optional(s->numbers(&p->up_bias, "up_bias", {f}));
  strided(s->numbers(&p->down_weight, "down_weight", {d, f}));
  optional(s->numbers(&p->down_bias, "down_bias", {d}));
  optional(s->in(&p->skip, "skip", Type::kU8, {r}));
  strided(s->out(&p->out, "out", Type::kF32, {r, d}));
  optional(s->out(&p->cosine, "cosine", Type::kF32, {r}));
  optional(s->out(&p->branch_cosine, "branch_cosine", Type::kF32, {r}));
  p->norm = EXN_NORM_LAYER;
  p->norm_eps = 1e-5f;
}

void ffn_skip_rule(SampleCall* s) {
  auto* p = s->params(k_ffn_skip_rule);
  const int64_t r = s->extent("R", 5);
  s->numbers(&p->cosine, "cosine", {r});
  optional(s->in(&p->token, "token", Type::kI32, {r}));
  s->in_out(&p->state, "state", {r, EXN_FFN_SKIP_STATE_WORDS});
  s->out(&p->skip, "skip", Type::kU8, {r});
  p->model_layers = p->cold_end = 3;
  p->budget = -1;
}

void add_selection(SampleCall* s, exn_selection* to, int64_t rows, int64_t columns) {
  const int64_t g = s->extent("G", 2, kNotZero), m = s->extent("M", 1), k = s->extent("K", 4);
  optional(s->out(&to->indices, "selection.indices", Type::kI32, {rows, k}));
  optional(s->out(&to->count, "selection.count", Type::kI32, {rows}));
  optional(s->out(&to->valid, "selection.valid", Type::kU8, {rows}));
  optional(s->in(&to->budget, "selection.budget", Type::kI32, {rows, g}, kOnes));
  optional(s->in(&to->segments, "selection.segments", Type::kI32, {after(g)},
                 columns >= g ? kCounting : Argument::kZeros));
  optional(s->in(&to->keep, "selection.keep", Type::kI32, {m, 2}));
  optional(s->in(&to->drop, "selection.drop", Type::kI32, {rows, m, 2}));
  to->k = s->extent("k", 2);
}

template <int32_t kLayout>
void attention_scores(SampleCall* s) {
  auto* p = s->params(k_attention_scores);
  const CacheShape c = cache_shape(s, kLayout);
  const int64_t prompts = s->extent("prompts", 2), w = s->extent("window", 2, kNotZero),
                h = times(c.heads, s->extent("group", 2, kNotZero)), n = s->extent("N", 6);
  strided(s->numbers(&p->query, "query", {times(prompts, w), h, c.dim}));
  add_cache(s, &p->keys, "keys", c, kLayout, false, true);
  optional(s->in(&p->sequence, "sequence", Type::kI32, {prompts}));
  all(s->in(&p->visible, "visible", Type::kI32, {times(prompts, w)}), c.slots);
  optional(all(s->in(&p->limit, "limit", Type::kI32, {prompts}), n));
  optional(s->out(&p->scores, "scores", Type::kF32, {prompts, h, n}));
  add_selection(s, &p->selection, times(prompts, h), n);
  p->columns = n;
  p->first = s->extent("first", 0);
  p->window = w;
  p->scale = 1;
  p->kind = EXN_SCORE_SOFTMAX;
}

void select(SampleCall* s) {
  auto* p = s->params(k_select);
  const int64_t r = s->extent("R", 3), h = s->extent("heads", 2, kNotZero), n = s->extent("N", 9);
  strided(s->numbers(&p->scores, "scores", {times(r, h), n}));
  optional(all(s->in(&p->limit, "limit", Type::kI32, {r}), n));
  add_selection(s, &p->selection, r, n);
  p->heads = h;
}

void hired_budget(SampleCall* s) {
  auto* p = s->params(k_hired_budget);
  const int64_t images = s->extent("I", 2), rows = s->extent("patch_rows", 4, kNotZero),
                cols = s->extent("patch_cols", 6, kNotZero);
  strided(s->numbers(&p->attention, "attention", {images, times(rows, cols)}));
  s->out(&p->budget, "budget", Type::kI32, {images, 5});
  optional(s->out(&p->marks, "marks", Type::kU8, {images, times(rows, cols)}));
  optional(s->out(&p->valid, "valid", Type::kU8, {images}));
  p->rate = p->alpha = 0.5;
  p->patch_rows = rows;
  p->patch_cols = cols;
  p->grid_rows = p->grid_cols = 2;
  p->score = EXN_HIRED_TOP_COUNT;
}

// Two tensors and the positions; kInPlace: within their own memory.
template <bool kInPlace>
void gather(SampleCall* s) {
  auto* p = s->params(k_gather);
  const int64_t n = s->extent("rows", 5), k = s->extent("K", 4), d = s->extent("D", 37),
                o = s->extent("outer", 3), kept = kInPlace ? n : s->extent("kept", 4);
  auto* tensors = s->also<exn_gather_tensor>(2);
  s->in(&p->list, "list", Type::kI32, {k}, kCounting);
  const std::vector<int64_t> in[] = {{n, d}, {o, n, d}}, out[] = {{kept, d}, {o, kept, d}};
  for (int i = 0; i < 2; ++i) {
    const std::string of = "tensors[" + std::to_string(i) + "].";
    Argument* input = kInPlace ? s->out(&tensors[i].input, of + "input", Type::kF32, in[i])
                               : s->numbers(&tensors[i].input, of + "input", in[i]);
    if (kInPlace) {
      also_as(input, &tensors[i].out);
    } else {
      Argument* output = s->out(&tensors[i].out, of + "out", Type::kF32, out[i]);
      output->strided = i == 0;
      input->strided = i == 0;
    }
    tensors[i].axis = i;
  }
  p->tensors = tensors;
  p->tensor_count = 2;
  p->rows = n;
  optional(all(s->in(&p->count, "count", Type::kI32, {1}), k));
  optional(s->out(&p->moved, "moved", Type::kI32, {1}));
  optional(s->in(&p->position, "position", Type::kI32, {n}));
  optional(s->out(&p->position_out, "position_out", Type::kI32, {k}));
}

// Into another cache by packed lists, one for each sequence.
template <int32_t kLayout>
void kv_compact(SampleCall* s) {
  auto* p = s->params(k_kv_compact);
  const CacheShape c = cache_shape(s, kLayout);
  const int64_t b = s->extent("B", 1), m = s->extent("lists", 4);
  add_cache(s, &p->destination, "destination", c, kLayout, true);
  add_cache(s, &p->source, "source", c, kLayout, false);
  s->in(&p->list, "list", Type::kI32, {m}, kCounting);
  s->in(&p->offsets, "offsets", Type::kI32, {after(b)}, m > 0 ? kCounting : Argument::kZeros);
  optional(s->in(&p->sequence, "sequence", Type::kI32, {b}, kCounting));
  optional(s->in(&p->length, "length", Type::kI32, {b}, c.slots > 0 ? kOnes : Argument::kZeros));
  optional(s->out(&p->new_length, "new_length", Type::kI32, {b}));
}

// In place by padded lists, one for each head where nothing is freed.
template <int32_t kLayout>
void kv_compact_in_place(SampleCall* s) {
  auto* p = s->params(k_kv_compact);
  const CacheShape c = cache_shape(s, kLayout);
  constexpr bool kFrees = kLayout == EXN_KV_PAGED;
  const int64_t b = s->extent("B", 1), lists = kFrees ? b : times(b, c.heads);
  add_cache(s, &p->destination, "destination", c, kLayout, true);
  for (auto& a : s->arguments) {
    if (a->name == "destination.k") also_as(a.get(), &p->source.k);
    if (a->name == "destination.v") also_as(a.get(), &p->source.v);
    if (a->name == "destination.block_table") also_as(a.get(), &p->source.block_table);
  }
  p->source.layout = kLayout;
  s->in(&p->list, "list", Type::kI32, {lists, s->extent("K", 3)}, kCounting);
  s->in(&p->count, "count", Type::kI32, {lists});
  optional(s->in(&p->sequence, "sequence", Type::kI32, {b}, kCounting));
  s->in(&p->length, "length", Type::kI32, {b}, c.slots > 0 ? kOnes : Argument::kZeros);
  optional(s->out(&p->new_length, "new_length", Type::kI32, {lists}));
  if (kFrees) {
    optional(s->out(&p->freed, "freed", Type::kI32, {s->extent("F", 4)}));
    optional(s->out(&p->freed_count, "freed_count", Type::kI32, {1}));
  }
  p->per_head = kFrees ? 0 : 1;
}

}  // namespace

int64_t Argument::elements() const {
  int64_t count = 1;
  for (int64_t size : shape) count = times(count, size);
  return count;
}

int64_t Argument::row_elements() const {
  int64_t count = 1;
  for (size_t i = 1; i < shape.size(); ++i) count = times(count, shape[i]);
  return count;
}

HostTensor Argument::initial() const {
  if (fill == kPoison) return poisoned(type, shape);
  HostTensor t = make_tensor(type, shape);
  for (int64_t i = 0; i < t.rows * t.cols; ++i) {
    if (fill == kNumbers) break;
    t.set_integer(i, fill == kCounting ? i : fill == kConstant ? constant : fill == kOnes ? 1 : 0);
  }
  if (fill == kNumbers) test::fill(&t, 1, static_cast<uint64_t>(name.size()), "normal", 1, "-");
  return t;
}

int64_t SampleCall::extent(const char* name, int64_t usual, bool zero_is_sound) {
  const auto known = extents.find(name);
  if (known != extents.end()) return known->second;
  if (zero_is_sound) may_be_zero.push_back(name);
  const auto found = wanted_.find(name);
  return extents[name] = found != wanted_.end() ? found->second : usual;
}

Argument* SampleCall::add(const DLTensor** field, const std::string& name, Type type,
                          std::vector<int64_t> shape, Argument::Fill fill, bool written) {
  arguments.push_back(std::make_unique<Argument>());
  Argument* a = arguments.back().get();
  a->name = name;
  a->type = type;
  a->shape = std::move(shape);
  a->written = written;
  a->optional = a->strided = false;
  a->fill = fill;
  a->constant = 0;
  a->fields = {field};
  a->dl = {nullptr,
           {kDLCPU, 0},
           static_cast<int32_t>(a->shape.size()),
           dl_type(type),
           a->shape.data(),
           nullptr,
           0};
  *field = &a->dl;
  return a;
}

const std::vector<SampleOp>& sample_ops() {
  constexpr int32_t kHeadMajor = EXN_KV_HEAD_MAJOR, kTokenMajor = EXN_KV_TOKEN_MAJOR,
                    kPaged = EXN_KV_PAGED;
  static const std::vector<SampleOp> ops = {
      {"row_stats", row_stats},
      {"exit_head", exit_head},
      {"stablemax", stablemax},
      {"cross_entropy", cross_entropy},
      {"perp_grad", perp_grad},
      {"cosine", cosine},
      {"gate", gate},
      {"exit_rule", exit_rule},
      {"norm", norm},
      {"rope_table", rope_table},
      {"rope", rope},
      {"linear", linear},
      {"kv_append", kv_append<kHeadMajor>},
      {"kv_append_paged", kv_append<kPaged>},
      {"kv_copy", kv_copy<kTokenMajor, kHeadMajor>},
      {"kv_copy_paged", kv_copy<kPaged, kPaged>},
      {"kv_advance", kv_advance},
      {"kv_crop", kv_crop},
      {"attention", attention<kHeadMajor>},
      {"attention_paged", attention<kPaged>},
      {"kv_propagate", kv_propagate<kTokenMajor>},
      {"kv_propagate_paged", kv_propagate<kPaged>},
      {"stack_push", hidden_stack<EXN_STACK_PUSH>},
      {"stack_gather", hidden_stack<EXN_STACK_GATHER>},
      {"rows_gather", row_compaction<EXN_ROWS_GATHER>},
      {"rows_scatter", row_compaction<EXN_ROWS_SCATTER>},
      {"schedule_calm", layer_schedule<EXN_SCHEDULE_CALM>, false},
      {"schedule_fixed", layer_schedule<EXN_SCHEDULE_FIXED>, false},
      {"ffn", ffn},
      {"ffn_skip_rule", ffn_skip_rule},
      {"attention_scores", attention_scores<kTokenMajor>},
      {"attention_scores_paged", attention_scores<kPaged>},
      {"select", select},
      {"hired_budget", hired_budget},
      {"gather", gather<false>},
      {"gather_in_place", gather<true>},
      {"kv_compact", kv_compact<kHeadMajor>},
      {"kv_compact_paged", kv_compact<kPaged>},
      {"kv_compact_in_place", kv_compact_in_place<kTokenMajor>},
      {"kv_compact_frees", kv_compact_in_place<kPaged>},
  };
  return ops;
}

}  // namespace exn::test
