// SPDX-License-Identifier: Apache-2.0
//
// The ops that drop tokens: attention_scores, select, hired_budget, gather, kv_compact.
#include <algorithm>
#include <cmath>
#include <deque>

#include "caches.h"
#include "table.h"
#include "oracle_moves.h"
#include "oracle_scores.h"

namespace exn::test {

namespace {

constexpr unsigned char kUntouched = 0xCD;

HostTensor untouched(HostTensor tensor) {
  std::fill(tensor.bytes.begin(), tensor.bytes.end(), kUntouched);
  return tensor;
}

// ---- selections ---------------------------------------------------------------------------------

bool asked(const SelectionSpec& s, SelectOutput output) { return (s.outputs >> output & 1) != 0; }

exn_selection selection_of(Instance* instance, const SelectionSpec& s, const SelectionInputs& in,
                           int64_t rows) {
  exn_selection selection = {};
  selection.indices = instance->output("indices", Type::kI32, {rows, s.capacity});
  if (asked(s, kSelectCount)) selection.count = instance->output("count", Type::kI32, {rows});
  if (asked(s, kSelectValid)) selection.valid = instance->output("valid", Type::kU8, {rows});
  selection.budget = instance->input(in.budget);
  selection.segments = instance->input(in.segments);
  selection.keep = instance->input(in.keep);
  selection.drop = instance->input(in.drop);
  selection.k = s.k;
  return selection;
}

// The outputs of a selection, from got[next] on.
Complaint judge_selection(const SelectionSpec& s, const SelectExpected& expected,
                          const Outputs& got, size_t next) {
  Complaint complaint = compare_integers("indices", widened(expected.indices), got[next++]);
  if (complaint.empty() && asked(s, kSelectCount))
    complaint = compare_integers("count", widened(expected.count), got[next++]);
  if (complaint.empty() && asked(s, kSelectValid))
    complaint = compare_integers("valid", widened(expected.valid), got[next]);
  return complaint;
}

double selection_bytes(const SelectionSpec& s, int64_t rows) {
  const int64_t bytes = 4 * s.capacity + (asked(s, kSelectCount) ? 4 : 0) +
                        (asked(s, kSelectValid) ? 1 : 0);
  return static_cast<double>(rows * bytes);
}

// How many a row keeps, if that is one number.
int64_t kept_by(const SelectionSpec& s) {
  const bool number =
      !s.budget.empty() && s.budget.find_first_not_of("0123456789") == std::string::npos;
  return number ? std::stoll(s.budget) : s.k;
}

std::unique_ptr<Instance> instantiate(const SelectCase& c, const SelectInputs& in,
                                      int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_select_params params = {};
  params.struct_size = sizeof params;
  params.scores = instance->input(in.scores);
  params.limit = instance->input(in.limit);
  params.selection = selection_of(instance.get(), c.selection, in.selection, c.rows());
  params.heads = c.heads;
  instance->call(EXN_TEST_OP(select), params);
  return instance;
}

Case make_case(const SelectCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    return instantiate(c, make_inputs(c), device_type);
  };
  const auto oracle = lazily([c] { return select_oracle(c, make_inputs(c)); });
  result.judge = [c, oracle](const Outputs& got) {
    return judge_selection(c.selection, oracle(), got, 0);
  };
  result.compulsory_bytes = bytes_of(c.scores.rows * c.scores.cols, c.scores.type) +
                            selection_bytes(c.selection, c.rows());
  result.description = {{"rows", text(c.rows())},
                        {"heads", text(c.heads)},
                        {"cols", text(c.scores.cols)},
                        {"dtype", quoted(name_of(c.scores.type))},
                        {"k", text(kept_by(c.selection))}};
  return result;
}

// Segments that neither fall nor leave the columns: of each boundary, the largest so far.
void clamp_segments(HostTensor* segments, int64_t columns) {
  int64_t largest = 0;
  for (int64_t g = 0; g < segments->size(); ++g) {
    largest = std::max(largest, std::min(segments->integer_at(g), columns));
    segments->set_integer(g, largest);
  }
}

// Of several ranges the last one falls, or is empty where `clamped`.
void let_the_last_fall(HostTensor* ranges, bool clamped) {
  const int64_t end = ranges->size() - 1;
  if (end > 1) ranges->set_integer(end, clamped ? ranges->integer_at(end - 1) : -2);
}

// With limits, budgets, segments and ranges beyond the columns, or within them where `clamped`.
SelectInputs with_strays(const SelectCase& c, SelectInputs in, bool clamped) {
  const int64_t n = c.scores.cols;
  in.selection.segments = with_strays(in.selection.segments, -2, n + 3);
  if (clamped) clamp_segments(&in.selection.segments, n);
  in.limit = with_strays(in.limit, clamped ? 0 : -2, clamped ? n : n + 3);
  in.selection.budget = with_strays(in.selection.budget, clamped ? 0 : -2, n + 3);
  if (in.selection.keep.size() > 0) in.selection.keep.set_integer(1, clamped ? n : n + 3);
  if (in.selection.drop.size() > 0) in.selection.drop.set_integer(0, clamped ? 0 : -2);
  let_the_last_fall(&in.selection.keep, clamped);
  let_the_last_fall(&in.selection.drop, clamped);
  return in;
}

Case spoiled_case(const SelectCase& c) {
  Case result = make_case(c);
  result.instantiate = [c](int32_t device_type) {
    return instantiate(c, with_strays(c, make_inputs(c), false), device_type);
  };
  const auto oracle =
      lazily([c] { return select_oracle(c, with_strays(c, make_inputs(c), true)); });
  result.judge = [c, oracle](const Outputs& got) {
    return judge_selection(c.selection, oracle(), got, 0);
  };
  return result;
}

// ---- scores -------------------------------------------------------------------------------------

std::unique_ptr<Instance> instantiate(const AttentionScoresCase& c,
                                      const AttentionScoresInputs& in, int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_attention_scores_params params = {};
  params.struct_size = sizeof params;
  params.query = instance->input(in.query);
  params.keys = input_cache(instance.get(), c.cache, in.cache);
  params.sequence = instance->input(in.sequence);
  params.visible = instance->input(in.visible);
  params.limit = instance->input(in.limit);
  if (c.scores)
    params.scores = instance->in_out("scores", c.accumulate ? in.scores : untouched(in.scores));
  if (c.selects)
    params.selection = selection_of(instance.get(), c.selection, in.selection, c.score_rows());
  params.columns = c.columns;
  params.first = c.first;
  params.window = c.window;
  params.scale = c.scale;
  params.kind = c.kind;
  params.reduction = c.reduction;
  params.pool = c.pool;
  params.pool_width = c.pool_width;
  params.accumulate = c.accumulate ? 1 : 0;
  instance->call(EXN_TEST_OP(attention_scores), params);
  return instance;
}

// A list that was made from scores which nobody has seen: a column near the cut may go either way.
Complaint judge_unseen(const AttentionScoresCase& c, const AttentionScoresInputs& in,
                       const AttentionScoresExpected& expected, const Outputs& got) {
  const HostTensor& indices = got[0];
  const SelectionSpec& s = c.selection;
  const HostTensor* const valid = asked(s, kSelectValid) ? &got.back() : nullptr;
  for (int64_t r = 0; r < c.score_rows(); ++r) {
    Choice choice;
    for (int64_t i = 0; i < s.capacity; ++i) {
      const int64_t column = indices.integer_at(r * s.capacity + i);
      if (column >= 0) choice.kept.push_back(column);
    }
    choice.valid = valid == nullptr || valid->integer_at(r) != 0;
    const auto begin = expected.scores.begin() + r * c.columns;
    const std::vector<Expected> scores(begin, begin + c.columns);
    const int64_t limit = expected.scored[static_cast<size_t>(r / c.score_heads())];
    const std::string where = "indices row " + text(r);
    if (!std::is_sorted(choice.kept.begin(), choice.kept.end())) return where + ": not ascending";
    if (valid == nullptr) {  // a row with a NaN says so in no other way
      std::vector<double> values;
      for (const Expected& e : scores) values.push_back(e.value);
      choice.valid = choose(values, limit, s, in.selection, r).valid;
    }
    if (!judge_choice(scores, limit, s, in.selection, r, choice).permitted)
      return where + ": the scores permit no such choice";
    if (asked(s, kSelectCount) &&
        got[1].integer_at(r) != static_cast<int64_t>(choice.kept.size())) {
      return "count[" + text(r) + "]: not what the list holds";
    }
  }
  return "";
}

Complaint judge(const AttentionScoresCase& c, const AttentionScoresInputs& in,
                const AttentionScoresExpected& expected, const Outputs& got) {
  if (!c.scores) return judge_unseen(c, in, expected, got);
  const Complaint complaint = compare("scores", expected.scores, got[0]);
  if (!complaint.empty() || !c.selects) return complaint;
  return judge_selection(c.selection, selection_oracle(c, in, expected, got[0]), got, 1);
}

// Slots that some row of the prompt sees, of all prompts.
int64_t slots_read(const AttentionScoresCase& c, const AttentionScoresInputs& in) {
  int64_t slots = 0;
  for (int64_t prompt = 0; prompt < c.prompts(); ++prompt) {
    int64_t most = 0;
    for (int64_t i = 0; i < c.window; ++i)
      most = std::max(most, in.visible.integer_at(prompt * c.window + i));
    slots += most;
  }
  return slots;
}

Case make_case(const AttentionScoresCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    return instantiate(c, make_inputs(c), device_type);
  };
  const auto oracle = lazily([c] { return attention_scores_oracle(c, make_inputs(c)); });
  result.judge = [c, oracle](const Outputs& got) {
    return judge(c, make_inputs(c), oracle(), got);
  };
  const int64_t passes = (c.window + 63) / 64;
  const int64_t scores = c.scores ? c.score_rows() * c.columns : 0;
  result.compulsory_bytes =
      bytes_of(passes * slots_read(c, make_inputs(c)) * c.cache.columns(), c.cache.type) +
      bytes_of(c.query.rows * c.query.cols, c.query.type) +
      bytes_of(c.accumulate ? 2 * scores : scores, Type::kF32) +
      (c.selects ? selection_bytes(c.selection, c.score_rows()) : 0);
  const char* const reductions[] = {"each", "sum", "mean", "group"};
  const char* const pools[] = {"none", "avg", "max"};
  result.description = {{"prompts", text(c.prompts())},
                        {"window", text(c.window)},
                        {"heads", text(c.query_heads)},
                        {"kv_heads", text(c.cache.heads)},
                        {"head_dim", text(c.cache.dim)},
                        {"slots", text(c.cache.slots)},
                        {"columns", text(c.columns)},
                        {"first", text(c.first)},
                        {"dtype", quoted(name_of(c.cache.type))},
                        {"layout", layout_name(c.cache)},
                        {"softmax", text(c.kind == EXN_SCORE_SOFTMAX)},
                        {"reduction", quoted(reductions[c.reduction])},
                        {"pool", quoted(pools[c.pool])},
                        {"pool_width", text(c.pool_width)},
                        {"scores", text(c.scores)},
                        {"k", text(c.selects ? kept_by(c.selection) : 0)}};
  return result;
}

// With visible slots and limits beyond what there is, or within it where `clamped`.
AttentionScoresInputs with_strays(const AttentionScoresCase& c, AttentionScoresInputs in,
                                  bool clamped) {
  const int64_t t = c.cache.slots, n = c.columns;
  in.visible = with_strays(in.visible, clamped ? 0 : -2, clamped ? t : t + 3);
  in.limit = with_strays(in.limit, clamped ? 0 : -2, clamped ? n : n + 3);
  if (!clamped) in.sequence = with_strays(in.sequence, -2, c.cache.sequences);
  return in;
}

// A prompt whose sequence does not exist has NaN scores.
Case spoiled_case(const AttentionScoresCase& c) {
  Case result = make_case(c);
  result.instantiate = [c](int32_t device_type) {
    return instantiate(c, with_strays(c, make_inputs(c), false), device_type);
  };
  const auto oracle = lazily([c] {
    const AttentionScoresInputs in = with_strays(c, make_inputs(c), true);
    AttentionScoresExpected expected = attention_scores_oracle(c, in);
    for (int64_t r = 0; in.sequence.given() && r < c.score_rows(); ++r) {
      const int64_t prompt = r / c.score_heads();
      if (!is_spoiled(prompt)) continue;
      for (int64_t j = 0; j < expected.scored[static_cast<size_t>(prompt)]; ++j)
        expected.scores[static_cast<size_t>(r * c.columns + j)] = {NAN, 0};
    }
    return expected;
  });
  result.judge = [c, oracle](const Outputs& got) {
    return judge(c, with_strays(c, make_inputs(c), true), oracle(), got);
  };
  return result;
}

// ---- budgets ------------------------------------------------------------------------------------

Case make_case(const HiredBudgetCase& c) {
  Case result;
  const int64_t images = c.attention.rows;
  const bool marks = (c.outputs >> kHiredMarks & 1) != 0;
  const bool valid = (c.outputs >> kHiredValid & 1) != 0;
  result.instantiate = [c, images, marks, valid](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    exn_hired_budget_params params = {};
    params.struct_size = sizeof params;
    params.attention = instance->input(make_inputs(c).attention);
    params.budget = instance->output("budget", Type::kI32, {images, 1 + c.parts()});
    if (marks) params.marks = instance->output("marks", Type::kU8, {images, c.patches()});
    if (valid) params.valid = instance->output("valid", Type::kU8, {images});
    params.rate = c.rate;
    params.alpha = c.alpha;
    params.patch_rows = c.patch_rows;
    params.patch_cols = c.patch_cols;
    params.grid_rows = c.grid_rows;
    params.grid_cols = c.grid_cols;
    params.score = c.score;
    params.region = c.region;
    params.remainder = c.remainder;
    instance->call(EXN_TEST_OP(hired_budget), params);
    return instance;
  };
  const auto oracle = lazily([c] { return hired_budget_oracle(c, make_inputs(c)); });
  result.judge = [c, marks, valid, oracle](const Outputs& got) {
    std::vector<int64_t> budget = widened(oracle().budget);
    for (size_t i = 0; i < budget.size(); ++i) {  // where rounding decides, it may
      const size_t image = i / static_cast<size_t>(1 + c.parts());
      if (oracle().uncertain[image]) budget[i] = got[0].integer_at(static_cast<int64_t>(i));
    }
    return first_of(
        {compare_integers("budget", budget, got[0]),
         marks ? compare_integers("marks", widened(oracle().marks), got[1]) : "",
         valid ? compare_integers("valid", widened(oracle().valid), got.back()) : ""});
  };
  const int64_t bytes =
      4 * c.patches() + 4 * (1 + c.parts()) + (marks ? c.patches() : 0) + (valid ? 1 : 0);
  result.compulsory_bytes = static_cast<double>(images * bytes);
  result.description = {{"images", text(images)},
                        {"cols", text(c.patches())},
                        {"patch_rows", text(c.patch_rows)},
                        {"patch_cols", text(c.patch_cols)},
                        {"grid_rows", text(c.grid_rows)},
                        {"grid_cols", text(c.grid_cols)},
                        {"counts", text(c.score == EXN_HIRED_TOP_COUNT)},
                        {"grid", text(c.region == EXN_HIRED_GRID)},
                        {"rate", std::to_string(c.rate)},
                        {"alpha", std::to_string(c.alpha)}};
  return result;
}

// ---- gather -------------------------------------------------------------------------------------

// What out of tensor `k` holds before the call.
HostTensor out_before(const GatherCase& c, const GatherInputs& in, size_t k) {
  const GatherTensorSpec& t = c.tensors[k];
  if (t.in_place) return in.input[k];
  return untouched(gather_tensor(t, c.listed + c.spare, c.out_pad, c.out_offset));
}

HostTensor position_before(const GatherCase& c, const GatherInputs& in) {
  if (c.position_in_place) return in.position;
  return untouched(make_tensor(Type::kI32, {c.listed + c.spare}));
}

using GatherTensors = std::vector<exn_gather_tensor>;

// `tensors` must outlive the instance: a call's parameters point to it.
std::unique_ptr<Instance> instantiate(const GatherCase& c, const GatherInputs& in,
                                      int32_t device_type, GatherTensors* tensors) {
  auto instance = std::make_unique<Instance>(device_type);
  for (size_t k = 0; k < c.tensors.size(); ++k) {
    const GatherTensorSpec& t = c.tensors[k];
    const DLTensor* out = instance->in_out("out " + std::to_string(k), out_before(c, in, k));
    tensors->push_back({t.in_place ? out : instance->input(in.input[k]), out, t.axis, 0});
  }
  exn_gather_params params = {};
  params.struct_size = sizeof params;
  params.list = instance->input(in.list);
  params.count = instance->input(in.count);
  if (c.positions != "-")
    params.position_out = instance->in_out("position_out", position_before(c, in));
  params.position = c.position_in_place ? params.position_out : instance->input(in.position);
  if (c.moved) params.moved = instance->output("moved", Type::kI32, {1});
  params.rows = c.rows;
  params.tensors = tensors->data();
  params.tensor_count = static_cast<int32_t>(tensors->size());
  params.positions =
      c.positions == "renumber" ? EXN_POSITIONS_RENUMBER : EXN_POSITIONS_KEEP;
  params.first_position = c.first_position;
  instance->call(EXN_TEST_OP(gather), params);
  return instance;
}

// What out of tensor `k` holds after the call.
HostTensor out_after(const GatherCase& c, const GatherInputs& in, const GatherExpected& expected,
                     size_t k) {
  const GatherTensorSpec& t = c.tensors[k];
  HostTensor out = out_before(c, in, k);
  const int64_t entries = t.in_place ? c.rows : c.listed + c.spare;
  const auto bytes = t.inner() * static_cast<int64_t>(size_of(t.type));
  for (int64_t outer = 0; outer < t.outer(); ++outer) {
    for (int64_t i = 0; i < c.listed; ++i) {
      const int64_t row = expected.source[static_cast<size_t>(i)];
      if (row < 0) continue;
      const size_t from = entry_offset(t, in.input[k], c.rows, outer, row);
      const size_t to = entry_offset(t, out, entries, outer, i);
      std::copy_n(in.input[k].bytes.begin() + static_cast<std::ptrdiff_t>(from), bytes,
                  out.bytes.begin() + static_cast<std::ptrdiff_t>(to));
    }
  }
  return out;
}

Complaint judge(const GatherCase& c, const GatherInputs& in, const GatherExpected& expected,
                const Outputs& got) {
  size_t next = 0;
  for (size_t k = 0; k < c.tensors.size(); ++k) {
    const Complaint complaint =
        compare_bytes("out " + std::to_string(k), out_after(c, in, expected, k), got[next++]);
    if (!complaint.empty()) return complaint;
  }
  if (c.positions != "-") {
    HostTensor position = position_before(c, in);
    for (int64_t i = 0; i < c.listed; ++i) {
      if (expected.placed[static_cast<size_t>(i)])
        position.set_integer(i, expected.position[static_cast<size_t>(i)]);
    }
    const Complaint complaint = compare_bytes("position_out", position, got[next++]);
    if (!complaint.empty()) return complaint;
  }
  return c.moved ? compare_integers("moved", {expected.moved}, got[next]) : "";
}

// Bytes of the tensors' entries. In place an entry that stays where it is costs nothing.
double moved_bytes(const GatherCase& c, const GatherExpected& expected) {
  int64_t bytes = 0;
  for (int64_t i = 0; i < c.listed; ++i) {
    const int64_t row = expected.source[static_cast<size_t>(i)];
    if (row < 0) continue;
    for (const GatherTensorSpec& t : c.tensors) {
      if (!t.in_place || row != i)
        bytes += t.outer() * t.inner() * static_cast<int64_t>(size_of(t.type));
    }
  }
  return static_cast<double>(2 * bytes);
}

std::string shapes_of(const GatherCase& c) {
  std::string shapes;
  for (const GatherTensorSpec& t : c.tensors) {
    shapes += (shapes.empty() ? "" : " ") + std::string(name_of(t.type)) + ":" +
              std::to_string(t.axis);
    for (const int64_t size : t.shape) shapes += "," + std::to_string(size);
  }
  return quoted(shapes);
}

Case make_case(const GatherCase& c) {
  Case result;
  const auto tensors = std::make_shared<std::deque<GatherTensors>>();
  result.instantiate = [c, tensors](int32_t device_type) {
    tensors->emplace_back();
    return instantiate(c, make_inputs(c), device_type, &tensors->back());
  };
  const auto oracle = lazily([c] { return gather_oracle(c, make_inputs(c)); });
  result.judge = [c, oracle](const Outputs& got) {
    return judge(c, make_inputs(c), oracle(), got);
  };
  const GatherExpected expected = gather_oracle(c, make_inputs(c));
  const int64_t used = c.counted ? c.count : c.listed;
  const int64_t per_position = c.positions == "keep" ? 8 : c.positions == "-" ? 0 : 4;
  int64_t narrowest = INT64_MAX;
  bool in_place = false;
  for (const GatherTensorSpec& t : c.tensors) {
    narrowest = std::min(narrowest, t.inner());
    in_place = in_place || t.in_place;
  }
  if (!expected.refused) {
    result.compulsory_bytes = moved_bytes(c, expected) +
                              static_cast<double>(4 * used + per_position * expected.moved);
  }
  result.cpu_refuses = expected.refused;
  result.description = {{"rows", text(c.rows)},
                        {"listed", text(c.listed)},
                        {"cols", text(c.tensors.empty() ? 1 : narrowest)},
                        {"tensors", shapes_of(c)},
                        {"positions", text(c.positions != "-")},
                        {"in_place", text(in_place)}};
  return result;
}

// ---- kv_compact ---------------------------------------------------------------------------------

std::unique_ptr<Instance> instantiate(const KvCompactCase& c, const KvCompactInputs& in,
                                      int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_kv_compact_params params = {};
  params.struct_size = sizeof params;
  params.destination =
      in_out_cache(instance.get(), c.destination, c.in_place ? in.source : in.destination);
  params.source =
      c.in_place ? params.destination : input_cache(instance.get(), c.source, in.source);
  params.list = instance->input(in.list);
  params.offsets = instance->input(in.offsets);
  params.count = instance->input(in.count);
  params.sequence = instance->input(in.sequence);
  params.length = instance->input(in.length);
  if (c.new_length) params.new_length = instance->output("new_length", Type::kI32, {c.lists()});
  if (c.frees) {
    params.freed = instance->output("freed", Type::kI32, {c.freed});
    params.freed_count = instance->output("freed_count", Type::kI32, {1});
  }
  params.per_head = c.per_head ? 1 : 0;
  instance->call(EXN_TEST_OP(kv_compact), params);
  return instance;
}

Complaint judge(const KvCompactCase& c, const KvCompactExpected& expected, const Outputs& got) {
  size_t next = 2;
  Complaint complaint = first_of({compare_bytes("k", expected.cache.k, got[0]),
                                  compare_bytes("v", expected.cache.v, got[1])});
  if (complaint.empty() && c.new_length)
    complaint = compare_integers("new_length", widened(expected.new_length), got[next++]);
  if (!complaint.empty() || !c.frees) return complaint;
  return first_of({compare_integers("freed", widened(expected.freed), got[next]),
                   compare_integers("freed_count", {expected.freed_count}, got[next + 1])});
}

// Entries of list g that the cases name, of a list that is sound.
int64_t entries_of(const KvCompactInputs& in, int64_t g, int64_t* begin) {
  if (in.count.given()) {
    *begin = g * in.list.cols;
    return in.count.integer_at(g);
  }
  *begin = in.offsets.integer_at(g);
  return in.offsets.integer_at(g + 1) - *begin;
}

// Bytes of K and V. In place an entry that stays where it is costs nothing.
double moved_bytes(const KvCompactCase& c, const KvCompactInputs& in, int64_t* listed) {
  int64_t moved = 0;  // entries, of a head each
  for (int64_t g = 0; g < c.lists(); ++g) {
    int64_t begin = 0;
    const int64_t entries = entries_of(in, g, &begin);
    *listed += entries;
    for (int64_t i = 0; i < entries; ++i) {
      const bool stays = c.in_place && in.list.integer_at(begin + i) == i;
      moved += stays ? 0 : c.per_head ? 1 : c.destination.heads;
    }
  }
  return bytes_of(4 * moved * c.source.dim, c.source.type);
}

Case make_case(const KvCompactCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    return instantiate(c, make_inputs(c), device_type);
  };
  const auto oracle = lazily([c] { return kv_compact_oracle(c, make_inputs(c)); });
  result.judge = [c, oracle](const Outputs& got) { return judge(c, oracle(), got); };
  const KvCompactInputs in = make_inputs(c);
  result.cpu_refuses = kv_compact_oracle(c, in).refused;
  int64_t listed = 0;
  if (!result.cpu_refuses) {
    result.compulsory_bytes = moved_bytes(c, in, &listed);
    result.compulsory_bytes += bytes_of(listed, Type::kI32);
  }
  result.description = {{"sequences", text(c.sequences())},
                        {"heads", text(c.source.heads)},
                        {"to_heads", text(c.destination.heads)},
                        {"slots", text(c.source.slots)},
                        {"page", text(c.source.page)},
                        {"head_dim", text(c.source.dim)},
                        {"kept", text(c.lists() > 0 ? listed / c.lists() : 0)},
                        {"elements", text(listed * c.source.dim)},
                        {"dtype", quoted(name_of(c.source.type))},
                        {"layout", layout_name(c.source)},
                        {"to_layout", layout_name(c.destination)},
                        {"per_head", text(c.per_head)},
                        {"in_place", text(c.in_place)}};
  return result;
}

// The first entry that is spoiled is the second: all that have segments, then.
bool has_segments(const SelectCase& c) { return !c.selection.segments.empty(); }

const Room kAttentionScores("attention_scores", [] {
  std::vector<ListedCase> all = listed("attention_scores", attention_scores_cases(), make_case);
  append_spoiled(&all, "attention_scores", attention_scores_cases(), spoiled_case);
  return all;
});
const Room kSelect("select", [] {
  std::vector<ListedCase> all = listed("select", select_cases(), make_case);
  append_spoiled(&all, "select", select_cases(), spoiled_case, has_segments);
  return all;
});
const Room kHiredBudget("hired_budget", [] { return listed("hired_budget", hired_budget_cases(), make_case); });
const Room kGather("gather", [] { return listed("gather", gather_cases(), make_case); });
const Room kKvCompact("kv_compact", [] { return listed("kv_compact", kv_compact_cases(), make_case); });

}  // namespace

}  // namespace exn::test
