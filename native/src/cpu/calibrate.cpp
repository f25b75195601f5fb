// SPDX-License-Identifier: Apache-2.0
#include "calibrate.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "base/args/attention.h"
#include "base/args/gather.h"
#include "base/args/linear.h"
#include "base/args/stablemax.h"
#include "base/platform/platform.h"
#include "cpu_features.h"

namespace exn::cpu {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kPiece = 8 * kMiB;  // what a call from memory reads
constexpr int64_t kSmall = 6 * kMiB;  // inputs and outputs
constexpr int64_t kMostRead = 96 * kMiB;
constexpr int kMostProbes = 4, kMostValues = 8;
// What a value must save for it to be chosen in place of the default.
constexpr double kWorth = 0.97;

class Memory {
 public:
  explicit Memory(int64_t bytes) {
    constexpr int64_t kAlign = 2 * kMiB;
    bytes = (bytes + kAlign - 1) / kAlign * kAlign;
    at_ = static_cast<char*>(platform::allocate(kAlign, static_cast<size_t>(bytes)));
    if (at_ == nullptr) return;
    platform::prefer_large_pages(at_, static_cast<size_t>(bytes));
    // As numbers of every type about 1, as scales of blocks too.
    std::memset(at_, 0x3f, static_cast<size_t>(bytes));
  }
  ~Memory() { platform::release(at_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  char* at() const { return at_; }

 private:
  char* at_ = nullptr;
};

// Calls of ops, on memory that takes turns.
class Calls {
 public:
  Calls(const Kernels& table, bool pairs, char* small, char* read, int64_t bytes)
      : table_(table), pairs_(pairs), small_(small), read_(read), pieces_(bytes / kPiece) {}
  ~Calls() { platform::release(scratch_); }
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;

  // What has not been read for longest.
  char* from_memory() { return read_ + next_++ % pieces_ * kPiece; }
  char* in_cache() { return read_; }

  bool linear(DType type, Blocks blocks, int64_t inputs, int64_t rows, int64_t columns, char* at) {
    LinearArgs a;
    a.weight.dtype = type;
    a.weight.rows = rows;
    a.weight.cols = columns;
    a.weight.blocks = blocks;
    a.weight.data = at;
    a.weight.stride = blocks == Blocks::kNone ? columns : row_bytes(a.weight);
    a.input = matrix(small_, inputs, columns);
    a.out = matrix(small_ + kSmall / 2, inputs, rows);
    return run(table_.linear, a);
  }

  // A step over a cache as long as a piece.
  bool attention(char* at) {
    constexpr int64_t kHeads = 8, kDim = 128, kSlots = kPiece / 2 / (kHeads * kDim * 2);
    static const int32_t visible[] = {static_cast<int32_t>(kSlots)}, sequence[] = {0};
    AttentionArgs a;
    a.query = {small_, DType::kBF16, 1, 4 * kHeads, kDim, 4 * kHeads * kDim};
    a.out = a.query;
    a.out.data = small_ + kSmall / 2;
    a.cache.k = at;
    a.cache.v = at + kPiece / 2;
    a.cache.dtype = DType::kBF16;
    a.cache.sequences = 1;
    a.cache.heads = kHeads;
    a.cache.slots = kSlots;
    a.cache.dim = kDim;
    a.cache.sequence_stride = kHeads * kSlots * kDim;
    a.cache.head_stride = kSlots * kDim;
    a.cache.slot_stride = kDim;
    a.sequence = sequence;
    a.visible = visible;
    a.scale = 1.0f / 16;
    return run(table_.attention, a);
  }

  bool softmax(char* at) {
    StableMaxArgs a;
    constexpr int64_t kRows = 32, kColumns = kPiece / 2 / (kRows * 4);
    a.logits = matrix(at, kRows, kColumns);
    a.out = matrix(at + kPiece / 2, kRows, kColumns);
    return run(table_.stablemax, a);
  }

  // Rows of 4 KiB, half a piece of them, in another order.
  bool gather(char* at) {
    constexpr int64_t kBytes = 4096;
    constexpr int kRows = kPiece / 2 / kBytes;
    static const Order<kRows> order;
    GatherArgs a;
    a.list = order.row;
    a.listed = a.rows = kRows;
    a.item_count = 1;
    a.items[0].input = at;
    a.items[0].out = at + kPiece / 2;
    a.items[0].bytes = a.items[0].input_stride = a.items[0].out_stride = kBytes;
    return run(table_.gather, a);
  }

 private:
  template <int kRows>
  struct Order {
    int32_t row[kRows];
    Order() {
      for (int i = 0; i < kRows; ++i) row[i] = (i * 7 + 3) % kRows;
    }
  };

  static Matrix matrix(char* at, int64_t rows, int64_t columns) {
    Matrix m;
    m.data = at;
    m.rows = rows;
    m.cols = m.stride = columns;
    return m;
  }

  template <class Args>
  bool run(exn_status (*op)(const Args&, Workspace&), const Args& a) {
    Workspace count;
    prepare(&count);
    if (op(a, count) != EXN_OK) return false;
    if (count.used() > scratch_bytes_) {
      platform::release(scratch_);
      scratch_bytes_ = (count.used() / 4096 + 1) * 4096;
      scratch_ = platform::allocate(4096, scratch_bytes_);
      if (scratch_ == nullptr) scratch_bytes_ = 0;
    }
    Workspace ws(scratch_, scratch_bytes_);
    prepare(&ws);
    return scratch_ != nullptr && op(a, ws) == EXN_OK;
  }

  void prepare(Workspace* ws) const {
    ws->use_tiles(table_.tiles);
    ws->use_pairs(pairs_);
  }

  const Kernels& table_;
  bool pairs_;
  char* small_;
  char* read_;
  int64_t pieces_, next_ = 0;
  void* scratch_ = nullptr;
  size_t scratch_bytes_ = 0;
};

using Probe = bool (*)(Calls&);

// A choice, and calls whose time it decides.
struct Trial {
  Choice* made;
  Probe probes[kMostProbes];
};

constexpr DType kF32 = DType::kF32, kBF16 = DType::kBF16, kU8 = DType::kU8;
constexpr Blocks kPlain = Blocks::kNone;

// In this order: what a later one asks depends on the earlier ones.
const Trial kTrials[] = {
    {&in_force.stream_requests,
     {[](Calls& c) { return c.linear(kBF16, kPlain, 1, 7168, 576, c.from_memory()); },
      [](Calls& c) { return c.linear(kBF16, kPlain, 1, 2048, 2048, c.from_memory()); },
      [](Calls& c) { return c.linear(kBF16, kPlain, 1, 1024, 4096, c.from_memory()); }}},
    {&in_force.prefetch_streams,
     {[](Calls& c) { return c.linear(kF32, kPlain, 1, 3584, 576, c.from_memory()); },
      [](Calls& c) { return c.linear(kBF16, kPlain, 1, 7168, 576, c.from_memory()); },
      [](Calls& c) { return c.linear(kBF16, kPlain, 1, 2048, 1024, c.in_cache()); },
      [](Calls& c) { return c.softmax(c.from_memory()); }}},
    {&in_force.prefetch_alternates, {[](Calls& c) { return c.attention(c.from_memory()); }}},
    {&in_force.prefetch_again,
     {[](Calls& c) { return c.linear(kBF16, kPlain, 4, 7168, 576, c.from_memory()); },
      [](Calls& c) { return c.linear(kBF16, kPlain, 4, 2048, 2048, c.from_memory()); },
      [](Calls& c) { return c.linear(kBF16, kPlain, 8, 2048, 2048, c.from_memory()); },
      [](Calls& c) { return c.attention(c.from_memory()); }}},
    {&in_force.blocks_stay,
     {[](Calls& c) { return c.linear(kBF16, kPlain, 16, 512, 576, c.in_cache()); },
      [](Calls& c) { return c.linear(kBF16, kPlain, 16, 128, 2048, c.in_cache()); }}},
    {&in_force.blocks_at_once,
     {[](Calls& c) { return c.linear(kU8, Blocks::kQ4_0, 5, 1024, 576, c.in_cache()); },
      [](Calls& c) { return c.linear(kU8, Blocks::kQ4_0, 7, 256, 4096, c.in_cache()); },
      [](Calls& c) { return c.linear(kU8, Blocks::kQ8_0, 8, 512, 2048, c.in_cache()); },
      [](Calls& c) { return c.linear(kU8, Blocks::kQ4_K, 8, 512, 2048, c.in_cache()); }}},
    {&in_force.cached_ticks,
     {[](Calls& c) { return c.gather(c.from_memory()); },
      [](Calls& c) { return c.gather(c.in_cache()); },
      [](Calls& c) { return c.softmax(c.in_cache()); }}},
};
constexpr int kTrialCount = static_cast<int>(sizeof kTrials / sizeof kTrials[0]);

const ChoiceInfo& info_of(const Choice* made) {
  const ChoiceInfo* found = kChoiceInfo;
  while (found->made != made) ++found;
  return *found;
}

// What the probes of a trial took with each value, in some rounds.
struct Times {
  static constexpr int kMost = 48;
  float took[kMostValues][kMostProbes][kMost];
  int rounds = 0;

  // The least of the rounds, and the one in the middle.
  void sum_up(int value, int probe, double (&of)[2]) const {
    float sorted[kMost];
    std::copy_n(took[value][probe], rounds, sorted);
    std::sort(sorted, sorted + rounds);
    of[0] = sorted[0];
    of[1] = sorted[rounds / 2];
  }
};

// Values take turns until the time is up, each at least twice. False: a call was refused.
bool time_trial(Calls& calls, const Trial& trial, const ChoiceInfo& choice, int64_t until,
                Times* times) {
  for (int round = -1; round < 1 || (round < Times::kMost && platform::now() < until); ++round) {
    for (int p = 0; p < kMostProbes && trial.probes[p] != nullptr; ++p) {
      for (int v = 0; v < choice.count; ++v) {
        trial.made->choose(choice.values[v]);
        const int64_t begin = platform::now();
        if (!trial.probes[p](calls)) return false;
        if (round < 0) continue;  // finds cold caches
        times->took[v][p][round] = static_cast<float>(platform::now() - begin);
        times->rounds = round + 1;
      }
    }
  }
  return true;
}

// Of the time with the value `before`, what this one takes: the mean over the probes, by the least
// times or by those in the middle, whichever is more. Chance rarely favours one value by both.
double share(const Trial& trial, const Times& times, int value, int before) {
  double sum[2] = {};
  int probes = 0;
  for (; probes < kMostProbes && trial.probes[probes] != nullptr; ++probes) {
    double here[2], there[2];
    times.sum_up(value, probes, here);
    times.sum_up(before, probes, there);
    for (int i = 0; i < 2; ++i) sum[i] += std::log(here[i] / there[i]);
  }
  return std::exp(std::max(sum[0], sum[1]) / probes);
}

// Makes the choice, and says what it gains.
void decide(const Trial& trial, const ChoiceInfo& choice, const Times& times, int before,
            char* finding, size_t size) {
  int best = before;
  for (int v = 0; v < choice.count; ++v) {
    const double here = share(trial, times, v, before);
    if (here < kWorth && here < share(trial, times, best, before)) best = v;
  }
  trial.made->choose(choice.values[best]);
  size_t at = 0;
  for (int v = 0; v < choice.count && at < size; ++v) {
    if (v == best) continue;
    at += static_cast<size_t>(std::snprintf(finding + at, size - at, "%s%d takes %.2f",
                                            at > 0 ? ", " : "", choice.values[v],
                                            share(trial, times, v, best)));
  }
}

}  // namespace

bool calibrate(const Kernels& table, bool pairs, int32_t milliseconds, Findings* findings) {
  const int64_t begin = platform::now(), span = int64_t{1000000} * milliseconds;
  const int64_t wanted = 3 * processor().l3 / kPiece * kPiece;
  const int64_t bytes = wanted < 2 * kPiece || wanted > kMostRead ? kMostRead : wanted;
  const Memory small(kSmall), read(bytes);
  if (small.at() == nullptr || read.at() == nullptr) return false;
  Calls calls(table, pairs, small.at(), read.at(), bytes);
  int was[kChoiceCount];
  for (int i = 0; i < kChoiceCount; ++i) was[i] = *kChoiceInfo[i].made;
  const int64_t timed = platform::now();
  // Pieces are smaller than what is far by default.
  in_force.far_mib.choose(4);
  for (int t = 0; t < kTrialCount; ++t) {
    const Trial& trial = kTrials[t];
    const ChoiceInfo& choice = info_of(trial.made);
    const int64_t until = timed + (begin + span - timed) * (t + 1) / kTrialCount;
    const int at = static_cast<int>(&choice - kChoiceInfo);
    const int streams = in_force.prefetch_streams;
    if (trial.made == &in_force.stream_requests) in_force.prefetch_streams.choose(0);
    Times times;
    const bool done = time_trial(calls, trial, choice, until, &times);
    if (trial.made == &in_force.stream_requests) in_force.prefetch_streams.choose(streams);
    if (!done) {
      for (int i = 0; i < kChoiceCount; ++i) kChoiceInfo[i].made->choose(was[i]);
      return false;
    }
    int before = 0;
    while (choice.values[before] != was[at]) ++before;
    decide(trial, choice, times, before, findings->of[at], sizeof findings->of[at]);
  }
  for (int i = 0; i < kChoiceCount; ++i) {
    if (kChoiceInfo[i].made == &in_force.far_mib) kChoiceInfo[i].made->choose(was[i]);
  }
  return true;
}

}  // namespace exn::cpu
