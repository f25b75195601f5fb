// SPDX-License-Identifier: Apache-2.0
#include "samples.h"

#include <cstring>

namespace exn::test {

std::ostream& operator<<(std::ostream& stream, const Sample& sample) {
  return stream << sample.name;
}

const std::vector<Sample>& samples() {
  constexpr int64_t kHeadMajor = EXN_KV_HEAD_MAJOR, kTokenMajor = EXN_KV_TOKEN_MAJOR,
                    kPaged = EXN_KV_PAGED;
  const auto selecting = [](Named more) {
    more.insert({{"segmented", 1}, {"budgeted", 1}, {"drop_of_each_row", 1}});
    return more;
  };
  const auto scoring = [&](int64_t layout) {
    return selecting({{"keys.layout", layout}, {"selects", 1}, {"reduction", EXN_HEADS_EACH}});
  };
  const auto compacting = [](int64_t source, int64_t destination) {
    return Named{{"source.layout", source},
                 {"destination.layout", destination},
                 {"packed", 1},
                 {"named", 1},
                 {"per_head", 0}};
  };
  const struct {
    const char* op;
    const char* suffix;
    Named choices;
  } variants[] = {
      {"exn_cross_entropy", "", {{"reduction", EXN_REDUCE_NONE}}},
      {"exn_elr", "", {{"reduction", EXN_REDUCE_NONE}}},
      {"exn_ssm_step", "_conv", {{"stage", EXN_SSM_CONV}}},
      {"exn_ssm_step", "_scan", {{"stage", EXN_SSM_SCAN}}},
      {"exn_kv_append", "", {{"cache.layout", kHeadMajor}}},
      {"exn_kv_append", "_paged", {{"cache.layout", kPaged}}},
      {"exn_kv_copy", "", {{"source.layout", kTokenMajor}, {"destination.layout", kHeadMajor}}},
      {"exn_kv_copy", "_paged", {{"source.layout", kPaged}, {"destination.layout", kPaged}}},
      {"exn_kv_length", "_advance", {{"action", EXN_KV_ADVANCE}}},
      {"exn_kv_length", "_crop", {{"action", EXN_KV_CROP}}},
      {"exn_exit_head", "", {}},
      {"exn_exit_head", "_blocks", {{"blocks", 6}}},
      {"exn_ffn", "", {}},
      {"exn_ffn", "_blocks", {{"blocks", 6}}},
      {"exn_gate", "", {}},
      {"exn_gate", "_blocks", {{"blocks", 6}}},
      {"exn_embedding", "", {}},
      {"exn_embedding", "_blocks", {{"blocks", 6}}},  // Q4_K
      {"exn_attention", "", {{"cache.layout", kHeadMajor}}},
      {"exn_attention", "_paged", {{"cache.layout", kPaged}}},
      {"exn_kv_propagate", "", {{"layers[].cache.layout", kTokenMajor}, {"turned", 1}}},
      {"exn_kv_propagate", "_paged", {{"layers[].cache.layout", kPaged}, {"turned", 1}}},
      {"exn_kv_propagate",
       "_blocks",
       {{"layers[].cache.layout", kTokenMajor}, {"turned", 1}, {"blocks", 6}}},
      {"exn_draft_rule", "_step", {{"action", EXN_DRAFT_STEP}, {"rule", EXN_DRAFT_DEL}}},
      {"exn_draft_rule", "_update", {{"action", EXN_DRAFT_UPDATE}}},
      {"exn_draft_rule", "_reset", {{"action", EXN_DRAFT_RESET}}},
      {"exn_hidden_stack", "_push", {{"action", EXN_STACK_PUSH}}},
      {"exn_hidden_stack", "_gather", {{"action", EXN_STACK_GATHER}}},
      {"exn_row_compaction", "_gather", {{"direction", EXN_ROWS_GATHER}}},
      {"exn_row_compaction", "_scatter", {{"direction", EXN_ROWS_SCATTER}}},
      {"exn_layer_schedule", "_calm", {{"kind", EXN_SCHEDULE_CALM}}},
      {"exn_layer_schedule", "_fixed", {{"kind", EXN_SCHEDULE_FIXED}}},
      {"exn_linear", "", {}},
      {"exn_linear", "_blocks", {{"blocks", 6}}},   // Q4_K
      {"exn_linear", "_panels", {{"blocks", 11}}},  // of bf16
      {"exn_attention_scores", "", scoring(kTokenMajor)},
      {"exn_attention_scores", "_paged", scoring(kPaged)},
      {"exn_select", "", selecting({{"heads", 2}})},
      {"exn_gather", "", {{"inner", 1}, {"placed", 1}, {"positions", EXN_POSITIONS_KEEP}}},
      {"exn_gather",
       "_in_place",
       {{"inner", 1},
        {"placed", 1},
        {"positions", EXN_POSITIONS_KEEP},
        {"as_many", 1},
        {"in_place", 1}}},
      {"exn_kv_compact", "", compacting(kHeadMajor, kHeadMajor)},
      {"exn_kv_compact", "_paged", compacting(kPaged, kPaged)},
      {"exn_kv_compact",
       "_in_place",
       {{"source.layout", kTokenMajor}, {"in_place", 1}, {"per_head", 1}, {"named", 1}}},
      {"exn_kv_compact",
       "_frees",
       {{"source.layout", kPaged}, {"in_place", 1}, {"per_head", 0}, {"named", 1}, {"frees", 1}}},
  };
  static const std::vector<Sample> all = [&] {
    std::vector<Sample> made;
    for (const OpUnderTest& op : ops_under_test()) {
      const std::string name = op.name + std::strlen("exn_");
      const size_t before = made.size();
      for (const auto& v : variants) {
        if (std::strcmp(v.op, op.name) == 0) made.push_back({name + v.suffix, &op, v.choices});
      }
      if (made.size() == before) made.push_back({name, &op, {}});
    }
    return made;
  }();
  return all;
}

const Sample& sample(const std::string& name, const Named& sizes) {
  const auto named = [&](const Sample& s) { return s.name == name; };
  const Sample& found = *std::find_if(samples().begin(), samples().end(), named);
  const Named known = found.make().sizes;
  for (const auto& [size, value] : sizes)
    EXPECT_EQ(known.count(size), 1u) << size << " of " << name;
  return found;
}

std::vector<Sample> samples_of_this_run() {
  std::vector<Sample> chosen;
  size_t index = 0;
  for (const Sample& one : samples()) {
    if (in_share(index++)) chosen.push_back(one);
  }
  return chosen;
}

std::string list_of(const Named& extents) {
  std::string text;
  for (const auto& [name, value] : extents) text += name + "=" + std::to_string(value) + " ";
  return text;
}

std::ostream& operator<<(std::ostream& stream, const Outcome& o) {
  stream << exn_status_name(o.status) << " '" << o.error << "', " << o.bytes << " bytes; outputs";
  for (const auto& bytes : o.written) {
    stream << " |";
    for (size_t i = 0; i < bytes.size() && i < 24; ++i) stream << " " << int{bytes[i]};
  }
  return stream;
}

}  // namespace exn::test
