// SPDX-License-Identifier: Apache-2.0
// What holds of every argument of every op: an empty tensor is one, whatever its pointer and its
// strides say; no rank, extent or number makes a check read what is not there or count beyond 64
// bits; and tensors may lie in the gaps of each other, but not on each other.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "misuse.h"
#include "sample_calls.h"

namespace exn::test {
namespace {

// ---- a call with its tensors in memory ----------------------------------------------------------

struct Outcome {
  exn_status status = EXN_OK;
  std::string error;
  size_t bytes = 0;
  std::vector<std::vector<unsigned char>> written;

  bool operator==(const Outcome& other) const {
    return status == other.status && error == other.error && bytes == other.bytes &&
           written == other.written;
  }
};

std::ostream& operator<<(std::ostream& stream, const Outcome& o) {
  stream << exn_status_name(o.status) << " '" << o.error << "', " << o.bytes << " bytes; outputs";
  for (const auto& bytes : o.written) {
    stream << " |";
    for (size_t i = 0; i < bytes.size() && i < 24; ++i) stream << " " << int{bytes[i]};
  }
  return stream;
}

class PlacedCall {
 public:
  PlacedCall(const Target& target, SampleCall call) : target_(target), call_(std::move(call)) {
    use(target);
    for (auto& a : call_.arguments) {
      placed_.push_back(std::make_unique<Placed>(target, a->initial()));
      a->dl = *placed_.back()->dl();
    }
  }

  SampleCall& call() { return call_; }
  std::vector<std::unique_ptr<Argument>>& arguments() { return call_.arguments; }

  void give(Argument* a, bool given) {
    for (const DLTensor** field : a->fields) *field = given ? &a->dl : nullptr;
  }

  Outcome run() {
    for (size_t i = 0; i < placed_.size(); ++i) {
      if (arguments()[i]->written) placed_[i]->reset();
    }
    Outcome outcome;
    outcome.status = call_.call.workspace_size(&outcome.bytes);
    if (outcome.status == EXN_OK) {
      DeviceMemory workspace(target_, outcome.bytes + 1);
      outcome.status = call_.call.run(workspace.data(), outcome.bytes, nullptr);
      EXPECT_EQ(exn_stream_synchronize(target_.device_type, 0, nullptr), EXN_OK);
    }
    if (outcome.status != EXN_OK) outcome.error = exn_last_error();
    for (size_t i = 0; i < placed_.size(); ++i) {
      if (!arguments()[i]->written) {
        EXPECT_TRUE(placed_[i]->unchanged()) << arguments()[i]->name;
        continue;
      }
      EXPECT_TRUE(placed_[i]->guards_intact()) << arguments()[i]->name;
      outcome.written.push_back(placed_[i]->read().bytes);
    }
    return outcome;
  }

 private:
  Target target_;
  SampleCall call_;
  std::vector<std::unique_ptr<Placed>> placed_;
};

std::string list_of(const Extents& extents) {
  std::string text;
  for (const auto& [name, value] : extents) text += name + "=" + std::to_string(value) + " ";
  return text;
}

class AnyOp : public ::testing::TestWithParam<SampleOp> {};

INSTANTIATE_TEST_SUITE_P(Ops, AnyOp, ::testing::ValuesIn(sample_ops()),
                         [](const auto& sample) { return sample.param.name; });

bool takes(const SampleOp& op, const Target& target) { return target.cpu() || op.on_cuda; }

// The samples themselves: what the tests below change must be sound before.
TEST_P(AnyOp, IsSoundAsItIs) {
  for (const Target& target : targets()) {
    if (!takes(GetParam(), target)) continue;
    SCOPED_TRACE(target.name());
    PlacedCall placed(target, GetParam().make());
    const Outcome outcome = placed.run();
    EXPECT_EQ(outcome.status, EXN_OK) << outcome.error;
  }
}

// ---- empty tensors ------------------------------------------------------------------------------

// Every way to say where an empty tensor is, and how its elements would be strided.
void expect_that_empty_tensors_are_alike(PlacedCall* placed, bool quick) {
  const Outcome expected = placed->run();
  std::vector<Argument*> empty;
  for (auto& a : placed->arguments()) {
    if (a->empty()) empty.push_back(a.get());
  }
  std::vector<int64_t> strides[3];
  strides[0].assign(64, 1);
  strides[1].assign(64, -7);
  strides[2] = {int64_t{1} << 62, -(int64_t{1} << 62), 3};
  strides[2].resize(64, INT64_MAX);
  const auto null = [](DLTensor* t) { t->data = nullptr, t->byte_offset = 0; };
  const auto nowhere = [](DLTensor* t) {
    t->data = reinterpret_cast<void*>(uintptr_t{3});
    t->byte_offset = ~uint64_t{0};
  };
  const std::function<void(DLTensor*)> ways[] = {
      null,
      nowhere,
      [](DLTensor* t) { t->strides = nullptr; },
      [&](DLTensor* t) { null(t), t->strides = strides[0].data(); },
      [&](DLTensor* t) { t->strides = strides[1].data(); },
      [&](DLTensor* t) { nowhere(t), t->strides = strides[2].data(); },
  };
  int number = 0;
  for (const auto& way : ways) {
    SCOPED_TRACE("way " + std::to_string(number++));
    std::vector<DLTensor> good;
    for (Argument* a : empty) good.push_back(a->dl);
    for (Argument* a : empty) way(&a->dl);
    EXPECT_EQ(placed->run(), expected) << "all empty tensors";
    for (size_t i = 0; i < empty.size(); ++i) empty[i]->dl = good[i];
    for (size_t i = 0; i < empty.size() && !quick; ++i) {
      way(&empty[i]->dl);
      EXPECT_EQ(placed->run(), expected) << empty[i]->name;
      empty[i]->dl = good[i];
    }
    if (quick || ::testing::Test::HasFailure()) return;
  }
}

// All sets of extents that may be 0, each with every optional argument left out in turn.
TEST_P(AnyOp, TakesAnEmptyTensorForWhatItIs) {
  const SampleOp& op = GetParam();
  for (const Target& target : targets()) {
    if (!takes(op, target)) continue;
    SCOPED_TRACE(target.name());
    const std::vector<std::string> names = op.make().may_be_zero;
    ASSERT_LT(names.size(), 12u);
    int64_t sound = 0;
    for (size_t set = 1; set < size_t{1} << names.size(); ++set) {
      // On the emulator one or two at a time, and all.
      const int count = __builtin_popcountll(set);
      if (target.emulated && count > 1 && set + 1 < size_t{1} << names.size()) continue;
      if (count > 2 && set + 1 < size_t{1} << names.size()) continue;
      Extents extents;
      for (size_t i = 0; i < names.size(); ++i) {
        if ((set >> i & 1) != 0) extents[names[i]] = 0;
      }
      SCOPED_TRACE(list_of(extents));
      PlacedCall placed(target, op.make(extents));
      expect_that_empty_tensors_are_alike(&placed, target.emulated || count > 2);
      sound += placed.run().status == EXN_OK ? 1 : 0;
      for (auto& a : placed.arguments()) {
        if (!a->optional || (target.emulated && !a->empty())) continue;
        SCOPED_TRACE("without " + a->name);
        placed.give(a.get(), false);
        expect_that_empty_tensors_are_alike(&placed, true);
        placed.give(a.get(), true);
      }
      if (HasFailure()) return;
    }
    EXPECT_TRUE(names.empty() || sound > 0) << "nothing empty was sound";
  }
}

// An output that is given is written and one that is left out is not, however little it is given
// with: the two in which a list's pointer once stood for the list.
TEST(EmptyTensors, AListOfNothingIsAList) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    for (const SampleOp& op : sample_ops()) {
      if (op.name != "attention_scores" && op.name != "kv_compact_frees") continue;
      const bool scores = op.name == "attention_scores";
      Extents extents = {{"k", 0}};
      extents[scores ? "K" : "F"] = 0;
      PlacedCall placed(target, op.make(extents));
      for (auto& a : placed.arguments()) {
        if (a->empty()) a->dl.data = nullptr;
        if (scores && a->name == "scores") placed.give(a.get(), false);
      }
      const Outcome outcome = placed.run();
      ASSERT_EQ(outcome.status, EXN_OK) << outcome.error;
      size_t i = 0;
      for (auto& a : placed.arguments()) {
        if (!a->written) continue;
        const std::vector<unsigned char>& bytes = outcome.written[i++];
        if (a->name != "selection.count" && a->name != "freed_count") continue;
        EXPECT_NE(bytes, a->initial().bytes) << op.name << " left " << a->name << " unwritten";
      }
    }
  }
}

// Two caches without a slot lie nowhere: they are one if they are described alike, and two caches
// that are not are no mistake.
TEST(EmptyTensors, CachesOfNothing) {
  const std::pair<const char*, Extents> calls[] = {
      {"kv_compact_frees", {{"P", 0}, {"B", 0}}},
      {"kv_compact_in_place", {{"S", 0}, {"B", 0}}},
      {"kv_compact", {{"S", 0}, {"B", 0}, {"lists", 0}}},
      {"kv_copy", {{"S", 0}, {"N", 0}}},
      {"kv_copy_paged", {{"P", 0}, {"N", 0}}},
  };
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    for (const auto& [name, extents] : calls) {
      SCOPED_TRACE(name);
      for (const SampleOp& op : sample_ops()) {
        if (op.name != name) continue;
        PlacedCall placed(target, op.make(extents));
        for (auto& a : placed.arguments()) {
          if (a->empty()) a->dl.data = nullptr;
        }
        const Outcome outcome = placed.run();
        EXPECT_EQ(outcome.status, EXN_OK) << outcome.error;
      }
    }
  }
}

// ---- ranks --------------------------------------------------------------------------------------

// An array whose last entry is followed by memory that nobody may read.
class AtTheEnd {
 public:
  explicit AtTheEnd(const std::vector<int64_t>& values)
      : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))),
        memory_(
            mmap(nullptr, 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    EXPECT_NE(memory_, MAP_FAILED);
    EXPECT_EQ(mprotect(static_cast<char*>(memory_) + page_, page_, PROT_NONE), 0);
    const size_t bytes = values.size() * sizeof(int64_t);
    char* at = static_cast<char*>(memory_) + page_ - bytes;
    if (bytes > 0) std::memcpy(at, values.data(), bytes);
    data_ = reinterpret_cast<int64_t*>(at);
  }
  ~AtTheEnd() { munmap(memory_, 2 * page_); }
  AtTheEnd(const AtTheEnd&) = delete;
  AtTheEnd& operator=(const AtTheEnd&) = delete;
  int64_t* data() const { return data_; }

 private:
  size_t page_;
  void* memory_;
  int64_t* data_;
};

TEST_P(AnyOp, LooksAtARankBeforeTheShape) {
  const Target& target = targets().front();
  if (!takes(GetParam(), target)) GTEST_SKIP() << "not on " << target.name();
  PlacedCall placed(target, GetParam().make());
  for (auto& a : placed.arguments()) {
    SCOPED_TRACE(a->name);
    const DLTensor good = a->dl;
    const AtTheEnd shape(a->shape), strides(std::vector<int64_t>(a->shape.size(), 1));
    for (int32_t rank : {INT32_MAX, 1 << 20, 65, -1, INT32_MIN}) {
      a->dl.ndim = rank;
      a->dl.shape = shape.data();
      a->dl.strides = strides.data();
      const Outcome outcome = placed.run();
      EXPECT_EQ(outcome.status, EXN_INVALID_ARGUMENT) << rank;
      EXPECT_NE(outcome.error.find(a->name + " has rank " + std::to_string(rank)),
                std::string::npos)
          << outcome.error;
    }
    a->dl = good;
    a->dl.shape = nullptr;
    const Outcome outcome = placed.run();
    EXPECT_EQ(outcome.status, EXN_INVALID_ARGUMENT);
    EXPECT_NE(outcome.error.find(a->name), std::string::npos) << outcome.error;
    EXPECT_NE(outcome.error.find("shape is null"), std::string::npos) << outcome.error;
    a->dl = good;
  }
}

// ---- numbers ------------------------------------------------------------------------------------

// Tensors of any extents, in memory that is not there: far apart, and never touched.
void place_nowhere(const Target& target, SampleCall* call) {
  uintptr_t place = 1;
  for (auto& a : call->arguments) {
    a->dl.device = {static_cast<DLDeviceType>(target.device_type), 0};
    a->dl.data = reinterpret_cast<void*>(place++ << 52);
    a->dl.byte_offset = 0;
  }
}

// Asks for the size of a workspace alone. With a sanitizer this sees what is counted beyond 64
// bits; without, what divides by what it comes to, and sizes that no memory has.
TEST_P(AnyOp, CountsNothingBeyond64Bits) {
  const int64_t large[] = {
      int64_t{1} << 24, INT32_MAX,        int64_t{1} << 31, (int64_t{1} << 32) + 1,
      int64_t{1} << 40, int64_t{1} << 47, int64_t{1} << 48, int64_t{1} << 56,
      int64_t{1} << 62, INT64_MAX};
  for (const Target& target : targets()) {
    if (!takes(GetParam(), target)) continue;
    SCOPED_TRACE(target.name());
    use(target);
    int64_t refused = 0, taken = 0;
    const auto ask = [&](const Extents& extents) {
      SampleCall call = GetParam().make(extents);
      place_nowhere(target, &call);
      size_t bytes = 0;
      const exn_status status = call.call.workspace_size(&bytes);
      EXPECT_TRUE(status == EXN_OK || status == EXN_INVALID_ARGUMENT || status == EXN_UNSUPPORTED)
          << list_of(extents) << exn_last_error();
      ++(status == EXN_OK ? taken : refused);
      EXPECT_LE(bytes, size_t{1} << 62) << list_of(extents);
    };
    const Extents usual = GetParam().make().extents;
    for (const auto& [name, value] : usual) {
      for (int64_t size : large) {
        ask({{name, size}});
        for (const auto& [other, other_value] : usual) {
          if (other == name) continue;
          ask({{name, size}, {other, 0}});
          for (int64_t other_size : {large[1], large[4], large[6], large[9]})
            ask({{name, size}, {other, other_size}});
        }
      }
    }
    EXPECT_GT(refused, 0);
    EXPECT_GT(taken, 0);
  }
}

// What a product of several arguments exceeds is said with the names and values of all.
TEST(Numbers, AProductThatIsRefusedNamesItsFactors) {
  const int64_t big = int64_t{1} << 40;
  const std::pair<const char*, std::pair<Extents, Words>> calls[] = {
      {"attention_scores",
       {{{"prompts", 0}, {"window", int64_t{1} << 62}},
        {"window is 4611686018427387904", "H (heads of query) is 4", "72057594037927936"}}},
      {"attention_scores",
       {{{"window", int64_t{1} << 24}, {"T", INT32_MAX}, {"group", 1 << 20}, {"dh", 1}, {"Hkv", 1}},
        {"rows of query is 33554432", "H (heads of query) is 1048576", "is 2147483647"}}},
      {"attention",
       {{{"R", 1 << 20}, {"group", 1 << 20}, {"dh", 1}, {"Hkv", 1}, {"T", INT32_MAX}},
        {"R (rows of query) is 1048576", "H (heads of query) is 1048576", "is 2147483647"}}},
      {"exit_head",
       {{{"R", big}, {"D", 1}, {"N", big}},
        {"R (rows of hidden) is 1099511627776", "N (entries of shortlist) is 1099511627776"}}},
      {"ffn",
       {{{"R", big}, {"D", 1}, {"F", big}},
        {"R (rows of hidden) is 1099511627776", "F (rows of up_weight) is 1099511627776"}}},
      {"kv_compact",
       {{{"B", big}, {"S", 0}, {"Hkv", 1 << 20}},
        {"B (sequences) is 1099511627776", "Hd (heads of destination) is 1048576"}}},
  };
  for (const auto& [name, what] : calls) {
    SCOPED_TRACE(name);
    for (const SampleOp& op : sample_ops()) {
      if (op.name != name) continue;
      SampleCall call = op.make(what.first);
      place_nowhere(kCpu, &call);
      EXPECT_EQ(call.call.supported(), EXN_INVALID_ARGUMENT);
      expect_words(what.second);
    }
  }
}

// ---- tensors in the gaps of others --------------------------------------------------------------

// The memory of a call whose strided tensors `a` and `b` share one buffer, row beside row.
class Interleaved {
 public:
  Interleaved(const Target& target, PlacedCall* placed, Argument* a, Argument* b, int64_t gap)
      : placed_(placed) {
    const Argument* both[] = {a, b};
    int64_t at = gap;
    for (int i = 0; i < 2; ++i) {
      first_[i] = at;
      width_[i] = both[i]->row_elements() * size_of(both[i]->type);
      at += width_[i] + gap;
    }
    pitch_ = at;
    rows_ = std::max(a->shape[0], b->shape[0]);
    image_.assign(static_cast<size_t>(pitch_ * rows_), 0xA7);
    memory_ = std::make_unique<DeviceMemory>(target, image_.size());
    arguments_[0] = a;
    arguments_[1] = b;
    for (int i = 0; i < 2; ++i) {
      const HostTensor t = both[i]->initial();
      for (int64_t r = 0; r < both[i]->shape[0]; ++r) {
        std::copy_n(t.bytes.begin() + r * width_[i], width_[i],
                    image_.begin() + r * pitch_ + first_[i]);
      }
      good_[i] = both[i]->dl;
      strides_[i].assign(both[i]->shape.size(), 1);
      for (size_t k = strides_[i].size(); k-- > 1;)
        strides_[i][k - 1] = strides_[i][k] * both[i]->shape[k];
      strides_[i][0] = pitch_ / size_of(both[i]->type);
      DLTensor* dl = &arguments_[i]->dl;
      dl->data = memory_->data() + first_[i];
      dl->byte_offset = 0;
      dl->strides = strides_[i].data();
    }
  }
  ~Interleaved() {
    for (int i = 0; i < 2; ++i) arguments_[i]->dl = good_[i];
  }

  // Runs, and returns what the two tensors hold then. Nothing else in the buffer may change.
  Outcome run(std::vector<unsigned char> (&tensors)[2]) {
    memory_->write(image_);
    const Outcome outcome = placed_->run();
    std::vector<unsigned char> now = memory_->read();
    for (int i = 0; i < 2; ++i) {
      tensors[i].clear();
      for (int64_t r = 0; r < arguments_[i]->shape[0]; ++r) {
        const auto row = now.begin() + r * pitch_ + first_[i];
        tensors[i].insert(tensors[i].end(), row, row + width_[i]);
        std::copy_n(image_.begin() + r * pitch_ + first_[i], width_[i], row);
      }
    }
    EXPECT_EQ(now, image_) << "a gap was written";
    return outcome;
  }

 private:
  PlacedCall* placed_;
  Argument* arguments_[2];
  DLTensor good_[2];
  std::vector<int64_t> strides_[2];
  int64_t first_[2], width_[2], pitch_, rows_;
  std::vector<unsigned char> image_;
  std::unique_ptr<DeviceMemory> memory_;
};

// What a call writes to each of its tensors when it has memory of its own.
std::vector<unsigned char> alone(PlacedCall& placed, const Outcome& outcome, const Argument* a) {
  size_t i = 0;
  for (const auto& other : placed.arguments()) {
    if (other.get() == a) return a->written ? outcome.written[i] : a->initial().bytes;
    if (other->written) ++i;
  }
  return {};
}

void expect_interleaved(const SampleOp& op, const Extents& extents, bool few) {
  for (const Target& target : targets()) {
    if (!takes(op, target)) continue;
    if (few && target.emulated) continue;
    SCOPED_TRACE(target.name());
    PlacedCall placed(target, op.make(extents));
    const Outcome expected = placed.run();
    ASSERT_EQ(expected.status, EXN_OK) << expected.error;
    for (auto& a : placed.arguments()) {
      for (auto& b : placed.arguments()) {
        if (a == b || !a->strided || !b->strided || !(a->written || b->written)) continue;
        SCOPED_TRACE(a->name + " beside " + b->name);
        for (int64_t gap : {0, 4, 20}) {
          Interleaved shared(target, &placed, a.get(), b.get(), gap);
          std::vector<unsigned char> tensors[2];
          const Outcome outcome = shared.run(tensors);
          ASSERT_EQ(outcome.status, EXN_OK) << outcome.error;
          EXPECT_EQ(tensors[0], alone(placed, expected, a.get())) << "gap " << gap;
          EXPECT_EQ(tensors[1], alone(placed, expected, b.get())) << "gap " << gap;
          size_t i = 0;
          for (auto& other : placed.arguments()) {
            if (!other->written) continue;
            const bool shares = other == a || other == b;
            EXPECT_TRUE(shares || outcome.written[i] == expected.written[i]) << other->name;
            ++i;
          }
          // One element further on they meet.
          const auto bytes = static_cast<uint64_t>(gap + 4);
          a->dl.byte_offset += bytes;
          EXPECT_EQ(placed.call().call.supported(), EXN_INVALID_ARGUMENT) << "gap " << gap;
          expect_words({"overlaps", a->name, b->name});
          a->dl.byte_offset -= bytes;
        }
      }
    }
  }
}

TEST_P(AnyOp, TensorsMayLieInTheGapsOfOthers) { expect_interleaved(GetParam(), {}, false); }

// So large that stores go past the caches, and that every thread has some.
TEST(Gaps, OfLargeTensors) {
  const std::pair<const char*, Extents> calls[] = {
      {"stablemax", {{"R", 300}, {"V", 4003}}},
      {"cross_entropy", {{"R", 300}, {"V", 4003}}},
      {"norm", {{"R", 700}, {"D", 1501}}},
      {"rows_gather", {{"R", 300}, {"K", 300}, {"D", 4003}}},
      {"rows_scatter", {{"R", 300}, {"K", 300}, {"D", 4003}}},
      {"stack_push", {{"C", 300}, {"R", 300}, {"D", 4003}}},
      {"gather", {{"rows", 2100}, {"kept", 2100}, {"K", 2100}, {"D", 531}, {"outer", 1}}},
      {"gather", {{"rows", 9000}, {"kept", 9000}, {"K", 9000}, {"D", 128}, {"outer", 1}}},
      {"rope", {{"R", 300}, {"H", 8}, {"dh", 64}, {"n/2", 32}}},
      {"linear", {{"R", 70}, {"D", 96}, {"N", 700}}},
      {"ffn", {{"R", 70}, {"D", 96}, {"F", 200}}},
      {"attention", {{"R", 40}, {"T", 70}, {"dh", 64}}},
  };
  for (const auto& [name, extents] : calls) {
    SCOPED_TRACE(name + std::string(" ") + list_of(extents));
    for (const SampleOp& op : sample_ops()) {
      if (op.name == name) expect_interleaved(op, extents, true);
      if (HasFailure()) return;
    }
  }
}

// The check against a set of bytes: norm's input, output and weight at random in a small buffer.
// `same`: rows equally far apart, of which every overlap and no other is refused; else a few that
// do not overlap may be.
TEST(Gaps, AnOverlapIsAByteThatIsShared) {
  constexpr Op<exn_norm_params> kNorm = {"norm", exn_norm_supported, exn_norm_workspace_size,
                                         exn_norm};
  std::mt19937 random(1);
  const auto below = [&](int64_t n) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(n));
  };
  int64_t accepted = 0, refused = 0, over_careful = 0, apart = 0;
  for (int round = 0; round < 50000; ++round) {
    const int64_t rows = 1 + below(5), columns = 1 + below(5);
    const bool same = below(2) == 0;
    struct Place {
      int64_t first, rows, columns, stride;
      std::vector<bool> bytes;
    } places[3];
    const int64_t stride = columns + below(9);
    for (int i = 0; i < 3; ++i) {
      Place& p = places[i];
      p = {below(48), i == 2 ? 1 : rows, columns, same ? stride : columns + below(9), {}};
      p.bytes.assign(256, false);
      for (int64_t r = 0; r < p.rows; ++r) {
        for (int64_t c = 0; c < columns; ++c)
          p.bytes[static_cast<size_t>(p.first + r * p.stride + c)] = true;
      }
    }
    int64_t shape[2] = {rows, columns}, strides[3][2];
    DLTensor t[3];
    for (int i = 0; i < 3; ++i) {
      strides[i][0] = places[i].stride;
      strides[i][1] = 1;
      t[i] = {reinterpret_cast<void*>(uintptr_t{1} << 20),
              {kDLCPU, 0},
              2,
              dl_type(Type::kF32),
              shape,
              strides[i],
              static_cast<uint64_t>(4 * places[i].first)};
    }
    t[2].ndim = 1;
    t[2].shape = shape + 1;
    t[2].strides = nullptr;
    exn_norm_params p = {sizeof p, &t[0], &t[2], nullptr, &t[1], EXN_NORM_RMS, 0};
    const auto meet = [&](int a, int b) {
      for (size_t i = 0; i < 256; ++i) {
        if (places[a].bytes[i] && places[b].bytes[i]) return true;
      }
      return false;
    };
    const bool in_place = places[0].bytes == places[1].bytes;  // rows and columns are the same
    const bool overlap = (meet(0, 1) && !in_place) || meet(1, 2);
    const bool ok = kNorm.supported(&p) == EXN_OK;
    EXPECT_FALSE(ok && overlap) << "round " << round;
    EXPECT_TRUE(!same || ok != overlap) << "round " << round << ": " << exn_last_error();
    ++(ok ? accepted : refused);
    if (!same && !overlap) {
      ++apart;
      over_careful += ok ? 0 : 1;
    }
    if (HasFailure()) return;
  }
  EXPECT_GT(accepted, 5000);
  EXPECT_GT(refused, 5000);
  EXPECT_LT(over_careful, apart / 4) << "of " << apart << " that share no byte";
}

// Every second row of one buffer beside all rows of its other columns.
TEST(Gaps, OfRowsTwiceAsFarApart) {
  Placed buffer(kCpu, zeros(Type::kF32, {16, 8})), weight(kCpu, normal(Type::kF32, {4}));
  int64_t shape[2] = {8, 4}, near[2] = {8, 1}, far[2] = {16, 1};
  DLTensor in = *buffer.dl(), out = *buffer.dl();
  in.shape = out.shape = shape;
  in.strides = near;
  out.strides = far;
  const exn_norm_params p = {sizeof p, &in, weight.dl(), nullptr, &out, EXN_NORM_RMS, 0};
  out.byte_offset += 16;
  EXPECT_EQ(exn_norm_supported(&p), EXN_OK) << exn_last_error();
  out.byte_offset += 4;
  EXPECT_EQ(exn_norm_supported(&p), EXN_INVALID_ARGUMENT);
  expect_words({"out", "overlaps", "input"});
}

}  // namespace
}  // namespace exn::test
