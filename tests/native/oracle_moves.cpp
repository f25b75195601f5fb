// SPDX-License-Identifier: Apache-2.0
#include "oracle_moves.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

namespace exn::test {

namespace {

size_t at(int64_t i) { return static_cast<size_t>(i); }

}  // namespace

// ---- gather -------------------------------------------------------------------------------------

namespace {

bool moves_in_place(const GatherCase& c) {
  return c.position_in_place || std::any_of(c.tensors.begin(), c.tensors.end(),
                                            [](const auto& t) { return t.in_place; });
}

// Strictly ascending, with what is negative behind all others.
bool ascends(const std::vector<int64_t>& list) {
  for (size_t i = 1; i < list.size(); ++i) {
    if (list[i] >= 0 && list[i] <= list[i - 1]) return false;
    if (list[i] >= 0 && list[i - 1] < 0) return false;
  }
  return true;
}

}  // namespace

GatherExpected gather_oracle(const GatherCase& c, const GatherInputs& in) {
  GatherExpected e;
  e.source.assign(at(c.listed), -1);
  e.position.assign(at(c.listed), 0);
  e.placed.assign(at(c.listed), false);
  const int64_t count = c.counted ? c.count : c.listed;
  std::vector<int64_t> list;
  for (int64_t i = 0; i < std::min(count, c.listed); ++i) list.push_back(in.list.integer_at(i));
  e.refused = count < 0 || count > c.listed ||
              std::any_of(list.begin(), list.end(), [&](int64_t x) { return x >= c.rows; }) ||
              (moves_in_place(c) && !ascends(list));
  if (e.refused) {
    e.moved = -1;
    return e;
  }
  for (size_t i = 0; i < list.size(); ++i) {
    if (list[i] < 0) continue;
    e.source[i] = list[i];
    e.placed[i] = true;
    e.position[i] = c.positions == "renumber" ? c.first_position + static_cast<int64_t>(i)
                    : c.positions == "keep"   ? in.position.integer_at(list[i])
                                              : list[i];
    ++e.moved;
  }
  return e;
}

// ---- kv_compact ---------------------------------------------------------------------------------

namespace {

// The call seen as plain lists, or as refused.
class KvCompaction {
 public:
  KvCompaction(const KvCompactCase& c, const KvCompactInputs& in) : c_(c), in_(in) {
    refused_ = !read_sequences() || !read_lists() || !slots_fit() || !pages_fit();
  }

  bool refused() const { return refused_; }
  const std::vector<int64_t>& list(int64_t g) const { return lists_[at(g)]; }
  int64_t sequence(int64_t b) const { return sequences_[at(b)]; }
  int64_t list_of(int64_t b, int64_t head) const {
    return c_.per_head ? b * c_.destination.heads + head : b;
  }
  int64_t length(int64_t b) const {
    return in_.length.given() ? in_.length.integer_at(b) : c_.source.slots;
  }
  int64_t longest(int64_t b) const {
    size_t most = 0;
    for (int64_t head = 0; head < c_.destination.heads; ++head)
      most = std::max(most, list(list_of(b, head)).size());
    return static_cast<int64_t>(most);
  }

 private:
  bool read_sequences() {
    std::set<int64_t> seen;
    for (int64_t b = 0; b < c_.sequences(); ++b) {
      const int64_t s = in_.sequence.given() ? in_.sequence.integer_at(b) : b;
      if (s < 0 || s >= c_.source.sequences || !seen.insert(s).second) return false;
      if (length(b) < 0 || length(b) > c_.source.slots) return false;
      sequences_.push_back(s);
    }
    return true;
  }

  bool read_lists() {
    for (int64_t g = 0; g < c_.lists(); ++g) {
      const bool packed = in_.offsets.given();
      const int64_t width = packed ? 0 : in_.list.cols;
      const int64_t begin = packed ? in_.offsets.integer_at(g) : g * width;
      const int64_t end = packed ? in_.offsets.integer_at(g + 1) : begin + in_.count.integer_at(g);
      const int64_t limit = packed ? in_.list.size() : begin + width;
      if (begin < 0 || end < begin || end > limit) return false;
      if (end - begin > c_.destination.slots) return false;
      lists_.emplace_back();
      for (int64_t i = begin; i < end; ++i) lists_.back().push_back(in_.list.integer_at(i));
    }
    return true;
  }

  bool slots_fit() const {
    for (int64_t g = 0; g < c_.lists(); ++g) {
      const int64_t b = c_.per_head ? g / c_.destination.heads : g;
      for (int64_t slot : list(g)) {
        if (slot < 0 || slot >= length(b)) return false;
      }
      if (c_.in_place && !ascends(list(g))) return false;
    }
    return true;
  }

  bool pages_fit() const {
    if (c_.source.layout == EXN_KV_PAGED && !pages_read_exist()) return false;
    if (c_.destination.layout != EXN_KV_PAGED) return true;
    const HostTensor& table = c_.in_place ? in_.source.block_table : in_.destination.block_table;
    const CacheSpec& spec = c_.destination;
    std::set<int64_t> used;
    for (int64_t b = 0; b < c_.sequences(); ++b) {
      std::set<int64_t> blocks;
      const bool whole = c_.in_place && in_.length.given();
      const int64_t slots = whole ? length(b) : longest(b);
      for (int64_t block = 0; block * spec.page < slots; ++block) blocks.insert(block);
      for (int64_t head = 0; c_.in_place && head < spec.heads; ++head) {
        for (int64_t slot : list(list_of(b, head))) blocks.insert(slot / spec.page);
      }
      for (int64_t block : blocks) {
        const int64_t page = table.integer_at(sequence(b) * spec.blocks() + block);
        if (page < 0 || page >= spec.pages() || !used.insert(page).second) return false;
      }
    }
    return true;
  }

  bool pages_read_exist() const {
    for (int64_t b = 0; b < c_.sequences(); ++b) {
      for (int64_t head = 0; head < c_.destination.heads; ++head) {
        for (int64_t slot : list(list_of(b, head))) {
          const int64_t page = in_.source.block_table.integer_at(
              sequence(b) * c_.source.blocks() + slot / c_.source.page);
          if (page < 0 || page >= c_.source.pages()) return false;
        }
      }
    }
    return true;
  }

  const KvCompactCase& c_;
  const KvCompactInputs& in_;
  bool refused_ = false;
  std::vector<int64_t> sequences_;
  std::vector<std::vector<int64_t>> lists_;
};

void move_lists(const KvCompactCase& c, const KvCompactInputs& in, const KvCompaction& lists,
                CacheTensors* to) {
  const int64_t group = c.destination.heads / c.source.heads;
  const size_t bytes = at(c.source.dim * size_of(c.source.type));
  const auto byte = [&](const CacheSpec& spec, const CacheTensors& t, int64_t sequence,
                        int64_t slot, int64_t head) {
    return cache_index(spec, t.block_table, sequence, slot, head, 0) * size_of(spec.type);
  };
  for (int64_t b = 0; b < c.sequences(); ++b) {
    for (int64_t head = 0; head < c.destination.heads; ++head) {
      const std::vector<int64_t>& list = lists.list(lists.list_of(b, head));
      for (size_t i = 0; i < list.size(); ++i) {
        const int64_t s = lists.sequence(b);
        const int64_t from = byte(c.source, in.source, s, list[i], head / group);
        const int64_t into = byte(c.destination, *to, s, static_cast<int64_t>(i), head);
        std::copy_n(in.source.k.bytes.begin() + from, bytes, to->k.bytes.begin() + into);
        std::copy_n(in.source.v.bytes.begin() + from, bytes, to->v.bytes.begin() + into);
      }
    }
  }
}

}  // namespace

KvCompactExpected kv_compact_oracle(const KvCompactCase& c, const KvCompactInputs& in) {
  KvCompactExpected e;
  const KvCompaction lists(c, in);
  e.cache = c.in_place ? in.source : in.destination;
  e.freed.assign(at(c.freed), -1);
  e.refused = lists.refused();
  e.new_length.assign(at(c.lists()), -1);
  if (e.refused) return e;
  move_lists(c, in, lists, &e.cache);
  for (int64_t g = 0; g < c.lists(); ++g)
    e.new_length[at(g)] = static_cast<int32_t>(lists.list(g).size());
  for (int64_t b = 0; c.frees && b < c.sequences(); ++b) {
    const int64_t page = c.source.page;
    const int64_t begin = (lists.longest(b) + page - 1) / page;
    const int64_t end = (lists.length(b) + page - 1) / page;
    for (int64_t block = begin; block < end; ++block, ++e.freed_count) {
      if (e.freed_count >= c.freed) continue;
      e.freed[at(e.freed_count)] = static_cast<int32_t>(
          in.source.block_table.integer_at(lists.sequence(b) * c.source.blocks() + block));
    }
  }
  return e;
}

// ---- hired_budget -------------------------------------------------------------------------------

namespace {

using Real = long double;

float to_f32(Real x) { return static_cast<float>(static_cast<double>(x)); }

int64_t truncated(double x) { return static_cast<int64_t>(x); }

class HiredImage {
 public:
  HiredImage(const HiredBudgetCase& c, const HiredBudgetInputs& in, int64_t image)
      : marks(at(c.patches()), 0), c_(c) {
    const int64_t patches = c.patches(), parts = c.parts();
    for (int64_t t = 0; t < patches; ++t) attention_.push_back(in.attention.at(image, t));
    valid = std::all_of(attention_.begin(), attention_.end(),
                        [](double a) { return std::isfinite(a); });
    budget.assign(at(1 + parts), static_cast<int32_t>(patches));
    if (!valid) return;
    const int64_t total = truncated(static_cast<double>((1 + parts) * patches) * c.rate);
    const int64_t full = std::min(truncated(static_cast<double>(total) * c.alpha), patches);
    budget[0] = static_cast<int32_t>(full);
    if (c.score == EXN_HIRED_TOP_COUNT) mark();
    share(std::min(total - full, parts * patches));
  }

  bool valid = false;
  bool uncertain = false;
  std::vector<int32_t> budget;
  std::vector<uint8_t> marks;

 private:
  void mark() {
    std::vector<size_t> order(attention_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return attention_[a] > attention_[b]; });
    const int64_t count = truncated(static_cast<double>(c_.patches()) * (1 - c_.alpha));
    for (int64_t i = 0; i < count; ++i) marks[order[at(i)]] = 1;
  }

  int64_t region_of(int64_t token) const {
    if (c_.region == EXN_HIRED_STRIP) return token / (c_.patches() / c_.parts());
    const int64_t row = token / c_.patch_cols / (c_.patch_rows / c_.grid_rows);
    return row * c_.grid_cols + token % c_.patch_cols / (c_.patch_cols / c_.grid_cols);
  }

  void share(int64_t sub_budget) {
    if (c_.parts() == 0) return;
    const bool counts = c_.score == EXN_HIRED_TOP_COUNT;
    std::vector<Real> score(at(c_.parts()), 0), size = score;
    for (int64_t t = 0; t < c_.patches(); ++t) {
      const Real a = static_cast<Real>(attention_[at(t)]);
      score[at(region_of(t))] += counts ? static_cast<Real>(marks[at(t)]) : a;
      size[at(region_of(t))] += std::fabs(a);
    }
    const Real sum = std::accumulate(score.begin(), score.end(), Real{0});
    // What summing in double, in whatever order, may make of it; counts are exact.
    const Real unit = counts ? 0 : 0x1p-53L * static_cast<Real>(2 * c_.patches());
    const Real sum_error = unit * std::accumulate(size.begin(), size.end(), Real{0});
    const bool positive = sum > 0;
    if (sum != 0 && std::fabs(sum) <= sum_error) uncertain = true;
    if (!positive) std::fill(score.begin(), score.end(), 1);
    const Real whole = positive ? sum : static_cast<Real>(c_.parts());
    std::vector<float> quota;
    for (size_t i = 0; i < score.size(); ++i) {
      const Real part = score[i] / whole, relative = sum_error / whole + 0x1p-52L;
      const Real error = positive ? unit * size[i] / whole + relative * std::fabs(part) : 0;
      if (to_f32(part - error) != to_f32(part + error)) uncertain = true;
      const double exact = static_cast<double>(score[i]) / static_cast<double>(whole);
      quota.push_back(static_cast<float>(exact) * static_cast<float>(sub_budget));
    }
    deal(quota, sub_budget);
  }

  void deal(const std::vector<float>& quota, int64_t sub_budget) {
    const float most = static_cast<float>(c_.patches());
    std::vector<float> fraction;
    int64_t left = sub_budget;
    for (size_t i = 0; i < quota.size(); ++i) {
      const float q = quota[i] > 0 ? std::min(quota[i], most) : 0.0f;
      budget[i + 1] = static_cast<int32_t>(q);
      fraction.push_back(q - std::floor(q));
      left -= budget[i + 1];
    }
    if (c_.remainder == EXN_HIRED_TRUNCATE) return;
    std::vector<size_t> order(quota.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return fraction[a] > fraction[b]; });
    while (left > 0) {
      for (size_t i : order) {
        if (left == 0 || budget[i + 1] == c_.patches()) continue;
        ++budget[i + 1];
        --left;
      }
    }
  }

  const HiredBudgetCase& c_;
  std::vector<double> attention_;
};

}  // namespace

HiredBudgetExpected hired_budget_oracle(const HiredBudgetCase& c, const HiredBudgetInputs& in) {
  HiredBudgetExpected e;
  for (int64_t image = 0; image < c.attention.rows; ++image) {
    const HiredImage one(c, in, image);
    e.budget.insert(e.budget.end(), one.budget.begin(), one.budget.end());
    e.marks.insert(e.marks.end(), one.marks.begin(), one.marks.end());
    e.valid.push_back(one.valid ? 1 : 0);
    e.uncertain.push_back(one.uncertain);
  }
  return e;
}

}  // namespace exn::test
