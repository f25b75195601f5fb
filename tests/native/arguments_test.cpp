// SPDX-License-Identifier: Apache-2.0
// What holds of every argument of every op: an empty tensor is one, whatever its pointer and its
// strides say; no rank, extent or number makes a check read what is not there or count beyond 64
// bits; what several tensors have alike must be alike; and callers of earlier versions go on
// working.
#include <algorithm>
#include <cstring>
#include <set>

#include "samples.h"
#include "system.h"

namespace exn::test {
namespace {

class AnyOp : public ::testing::TestWithParam<Sample> {};

INSTANTIATE_TEST_SUITE_P(Ops, AnyOp, ::testing::ValuesIn(samples_of_this_run()),
                         [](const auto& one) { return one.param.name; });

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

// Each size 0, each two of them and all, each with every optional argument left out in turn.
TEST_P(AnyOp, TakesAnEmptyTensorForWhatItIs) {
  const Sample& op = GetParam();
  for (const Target& target : targets()) {
    if (!takes(op, target)) continue;
    SCOPED_TRACE(target.name());
    int64_t sound = 0;
    const auto with = [&](const Named& sizes, bool quick) {
      SCOPED_TRACE(list_of(sizes));
      PlacedCall placed(target, op.make(sizes));
      expect_that_empty_tensors_are_alike(&placed, quick);
      sound += placed.run().status == EXN_OK ? 1 : 0;
      for (auto& a : placed.arguments()) {
        if (!a->optional || (target.emulated && !a->empty())) continue;
        SCOPED_TRACE("without " + a->name);
        placed.give(a.get(), false);
        expect_that_empty_tensors_are_alike(&placed, true);
        placed.give(a.get(), true);
      }
    };
    Named all = op.make().sizes;
    for (auto& [name, size] : all) size = 0;
    with(all, true);
    for (auto a = all.begin(); a != all.end() && !HasFailure(); ++a) {
      with({*a}, target.emulated);
      // On the emulator one at a time.
      for (auto b = std::next(a); b != all.end() && !target.emulated; ++b) with({*a, *b}, false);
    }
    EXPECT_TRUE(all.empty() || sound > 0) << "nothing empty was sound";
  }
}

// An output that is given is written and one that is left out is not, however little it is given
// with: the two in which a list's pointer once stood for the list.
TEST(EmptyTensors, AListOfNothingIsAList) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    for (const char* name : {"attention_scores", "kv_compact_frees"}) {
      PlacedCall placed(target, sample(name).make({{"k", 0}, {"capacity", 0}, {"freed", 0}}));
      for (auto& a : placed.arguments()) {
        if (a->empty()) a->dl.data = nullptr;
        if (a->name == "scores") placed.give(a.get(), false);
      }
      const Outcome outcome = placed.run();
      ASSERT_EQ(outcome.status, EXN_OK) << outcome.error;
      size_t i = 0;
      int lists = 0;
      for (auto& a : placed.arguments()) {
        if (!a->written) continue;
        const std::vector<unsigned char>& bytes = outcome.written[i++];
        if (a->name != "selection.count" && a->name != "freed_count") continue;
        ++lists;
        EXPECT_NE(bytes, a->initial.bytes) << name << " left " << a->name << " unwritten";
      }
      EXPECT_EQ(lists, 1);
    }
  }
}

// Two caches without a slot lie nowhere: they are one if they are described alike, and two caches
// that are not are no mistake.
TEST(EmptyTensors, CachesOfNothing) {
  const std::pair<const char*, Named> calls[] = {
      {"kv_compact_frees", {{"source.pages", 0}, {"batch", 0}}},
      {"kv_compact_in_place", {{"source.sequences", 0}, {"batch", 0}}},
      {"kv_compact", {{"source.sequences", 0}, {"batch", 0}, {"width", 0}}},
      {"kv_copy", {{"source.sequences", 0}, {"destination.sequences", 0}, {"entries", 0}}},
      {"kv_copy_paged", {{"source.pages", 0}, {"destination.pages", 0}, {"entries", 0}}},
  };
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    for (const auto& [name, sizes] : calls) {
      SCOPED_TRACE(name);
      PlacedCall placed(target, sample(name, sizes).make(sizes));
      for (auto& a : placed.arguments()) {
        if (a->empty()) a->dl.data = nullptr;
      }
      const Outcome outcome = placed.run();
      EXPECT_EQ(outcome.status, EXN_OK) << outcome.error;
    }
  }
}

// ---- ranks --------------------------------------------------------------------------------------

// An array whose last entry is followed by memory that may not be read.
class AtTheEnd {
 public:
  explicit AtTheEnd(const std::vector<int64_t>& values) : memory_(2 * page_bytes()) {
    memory_.forbid(page_bytes(), page_bytes());
    const size_t bytes = values.size() * sizeof(int64_t);
    char* at = memory_.begin() + page_bytes() - bytes;
    if (bytes > 0) std::memcpy(at, values.data(), bytes);
    data_ = reinterpret_cast<int64_t*>(at);
  }
  int64_t* data() const { return data_; }

 private:
  Pages memory_;
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

// What says whether a call is sound, and what it needs, looks at no element: there is none.
TEST_P(AnyOp, AsksOfNoElement) {
  for (const Target& target : targets()) {
    if (!takes(GetParam(), target)) continue;
    SCOPED_TRACE(target.name());
    use(target);
    const CallNowhere call(target, GetParam(), {});
    size_t bytes = 0;
    EXPECT_EQ(call.supported(), EXN_OK) << exn_last_error();
    EXPECT_EQ(call.workspace_size(&bytes), EXN_OK) << exn_last_error();
  }
}

// A size that several tensors have must not change in one of them alone.
TEST_P(AnyOp, ComparesEverySizeThatSeveralHave) {
  const Target& target = targets().front();
  if (!takes(GetParam(), target)) GTEST_SKIP() << "not on " << target.name();
  use(target);
  CallNowhere call(target, GetParam(), {});
  ASSERT_EQ(call.supported(), EXN_OK) << exn_last_error();
  for (TensorField* f : call.fields()) {
    DLTensor* const dl = &f->tensor->dl;
    const int64_t* const strides = dl->strides;
    dl->strides = nullptr;
    for (int axis = 0; axis < f->rank; ++axis) {
      if (call.maker().uses_of_size(f->dims[axis].symbol) < 2) continue;
      SCOPED_TRACE(f->name + std::string(" axis ") + std::to_string(axis));
      int64_t& size = f->tensor->shape[axis];
      for (const int64_t by : {-1, 1}) {
        size += by;
        EXPECT_EQ(call.supported(), EXN_INVALID_ARGUMENT) << size;
        size -= by;
      }
    }
    dl->strides = const_cast<int64_t*>(strides);
  }
}

// Nor in two of them alone, where a third has it: those that are compared with each other may not
// be compared with the others.
TEST_P(AnyOp, ComparesSizesOfPairsWithTheOthers) {
  const Target& target = targets().front();
  if (!takes(GetParam(), target)) GTEST_SKIP() << "not on " << target.name();
  use(target);
  CallNowhere call(target, GetParam(), {});
  ASSERT_EQ(call.supported(), EXN_OK) << exn_last_error();
  std::map<int, std::map<Tensor*, std::vector<int>>> uses;  // the axes of each tensor
  for (TensorField* f : call.fields()) {
    for (int axis = 0; axis < f->rank; ++axis) {
      if (const int symbol = f->dims[axis].symbol; symbol != 0)
        uses[symbol].insert({f->tensor, {}}).first->second.push_back(axis);
    }
  }
  for (auto& [symbol, tensors] : uses) {
    if (tensors.size() < 3) continue;
    const auto add = [](const auto& use, int64_t by) {
      const std::set<int> axes(use.second.begin(), use.second.end());
      for (const int axis : axes) use.first->shape[axis] += by;
    };
    for (auto a = tensors.begin(); a != tensors.end(); ++a) {
      for (auto b = std::next(a); b != tensors.end(); ++b) {
        const int64_t *const of_a = a->first->dl.strides, *const of_b = b->first->dl.strides;
        a->first->dl.strides = b->first->dl.strides = nullptr;
        for (const int64_t by : {-1, 1}) {
          add(*a, by);
          add(*b, by);
          EXPECT_EQ(call.supported(), EXN_INVALID_ARGUMENT)
              << "size " << symbol << " of tensors " << a->first - call.maker().tensors() << " and "
              << b->first - call.maker().tensors() << " by " << by;
          add(*a, -by);
          add(*b, -by);
        }
        a->first->dl.strides = const_cast<int64_t*>(of_a);
        b->first->dl.strides = const_cast<int64_t*>(of_b);
      }
    }
  }
}

// Rows may be so far apart that the last ends where 2^48 elements do, and no farther.
TEST_P(AnyOp, RowsSpanNoMoreThanATensorMay) {
  const Target& target = targets().front();
  if (!takes(GetParam(), target)) GTEST_SKIP() << "not on " << target.name();
  use(target);
  CallNowhere call(target, GetParam(), {});
  for (TensorField* f : call.fields()) {
    Tensor* const t = f->tensor;
    if ((f->flags & kRows) == 0 || t->shape[0] < 2 || t->elements == 0) continue;
    SCOPED_TRACE(f->name);
    const int64_t good = t->strides[0], most = (int64_t{1} << 48) / t->shape[0];
    t->dl.strides = t->strides;
    t->strides[0] = most;
    EXPECT_EQ(call.supported(), EXN_OK) << exn_last_error();
    t->strides[0] = most + 1;
    EXPECT_EQ(call.supported(), EXN_INVALID_ARGUMENT);
    expect_words({"stride", std::to_string(most + 1), "too large"});
    t->strides[0] = good;
  }
}

// An output that may be exactly an input may be so in every type that both have.
TEST_P(AnyOp, WritesInPlaceInEveryType) {
  const Target& target = targets().front();
  if (!takes(GetParam(), target)) GTEST_SKIP() << "not on " << target.name();
  use(target);
  for (const Type type : {Type::kF32, Type::kF16, Type::kBF16, Type::kF64}) {
    SCOPED_TRACE(name_of(type));
    CallNowhere call(target, GetParam(), {{"dtype", static_cast<int64_t>(type)}});
    ASSERT_EQ(call.supported(), EXN_OK) << exn_last_error();
    for (TensorField* f : call.fields()) {
      if (f->role == Role::kIn || f->may_equal < 0) continue;
      const TensorField& over = call.maker().fields()[f->may_equal];
      DLTensor& out = f->tensor->dl;
      const DLTensor& in = over.tensor->dl;
      if (std::memcmp(&out.dtype, &in.dtype, sizeof in.dtype) != 0 || out.ndim != in.ndim ||
          !std::equal(in.shape, in.shape + in.ndim, out.shape)) {
        continue;
      }
      SCOPED_TRACE(f->name);
      const DLTensor good = out;
      out.data = in.data;
      out.strides = in.strides;
      EXPECT_EQ(call.supported(), EXN_OK) << exn_last_error();
      out = good;
    }
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
    const auto ask = [&](const Named& extents) {
      const CallNowhere call(target, GetParam(), extents);
      size_t bytes = 0;
      const exn_status status = call.workspace_size(&bytes);
      EXPECT_TRUE(status == EXN_OK || status == EXN_INVALID_ARGUMENT || status == EXN_UNSUPPORTED)
          << list_of(extents) << exn_last_error();
      ++(status == EXN_OK ? taken : refused);
      EXPECT_LE(bytes, size_t{1} << 62) << list_of(extents);
    };
    const Named usual = GetParam().make().sizes;
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
  const std::pair<const char*, std::pair<Named, Words>> calls[] = {
      {"attention_scores",
       {{{"prompts", 0}, {"heads", 2}, {"group", 2}, {"window", int64_t{1} << 62}},
        {"window is 4611686018427387904", "H (heads of query) is 4", "72057594037927936"}}},
      {"attention_scores",
       {{{"prompts", 2},
         {"window", int64_t{1} << 24},
         {"keys.slots", INT32_MAX},
         {"group", 1 << 20},
         {"head_dim", 1},
         {"heads", 1},
         {"columns", 6},
         {"first", 0}},
        {"rows of query is 33554432", "H (heads of query) is 1048576", "is 2147483647"}}},
      {"attention",
       {{{"rows", 1 << 20},
         {"group", 1 << 20},
         {"head_dim", 1},
         {"heads", 1},
         {"cache.slots", INT32_MAX},
         {"scored", 4}},
        {"R (rows of query) is 1048576", "H (heads of query) is 1048576", "is 2147483647"}}},
      {"exit_head",
       {{{"rows", big}, {"columns", 1}, {"listed", big}},
        {"R (rows of hidden) is 1099511627776", "N (entries of shortlist) is 1099511627776"}}},
      {"ffn",
       {{{"rows", big}, {"columns", 1}, {"width", big}},
        {"R (rows of hidden) is 1099511627776", "F (rows of up_weight) is 1099511627776"}}},
      {"kv_compact",
       {{{"batch", big}, {"source.sequences", 0}, {"heads", 1 << 20}, {"group", 1}, {"width", 4}},
        {"B (sequences) is 1099511627776", "Hd (heads of destination) is 1048576"}}},
  };
  for (const auto& [name, what] : calls) {
    SCOPED_TRACE(name);
    const CallNowhere call(kCpu, sample(name, what.first), what.first);
    EXPECT_EQ(call.supported(), EXN_INVALID_ARGUMENT);
    expect_words(what.second);
  }
}

// ---- callers of earlier versions ----------------------------------------------------------------

// The sizes that each params struct of a release has had, this version's last. A struct grows by
// fields at its end, and a size that was once here stays.
const std::map<std::string, std::vector<uint64_t>>& struct_sizes() {
  static const std::map<std::string, std::vector<uint64_t>> sizes = {
      {"exn_attention", {96}},      {"exn_attention_scores", {192}},
      {"exn_column_norms", {48}},   {"exn_cosine", {32}},
      {"exn_cross_entropy", {56}},  {"exn_draft_lookup", {96}},
      {"exn_draft_rule", {184}},    {"exn_elr", {80}},
      {"exn_embedding", {40}},      {"exn_exit_head", {288}},
      {"exn_exit_rule", {136}},     {"exn_ffn", {144}},
      {"exn_ffn_skip_rule", {72}},  {"exn_gate", {72}},
      {"exn_gather", {80}},         {"exn_hidden_stack", {72}},
      {"exn_hired_budget", {104}},  {"exn_kv_append", {72}},
      {"exn_kv_compact", {144}},    {"exn_kv_copy", {104}},
      {"exn_kv_length", {72}},      {"exn_kv_propagate", {88}},
      {"exn_layer_schedule", {96}}, {"exn_linear", {80}},
      {"exn_norm", {48}},           {"exn_perp_grad", {40}},
      {"exn_prune_apply", {24}},    {"exn_prune_mask", {48}},
      {"exn_rope", {48}},           {"exn_rope_table", {40}},
      {"exn_row_compaction", {40}}, {"exn_row_stats", {160}},
      {"exn_select", {96}},         {"exn_ssm_step", {112}},
      {"exn_stablemax", {32}},      {"exn_stop_rule", {192}},
      {"exn_token_bias", {40}},     {"exn_verify", {168}},
  };
  return sizes;
}

std::vector<uint64_t> sizes_of(const OpUnderTest& op) {
  const auto found = struct_sizes().find(op.name);
  return found != struct_sizes().end() ? found->second : std::vector<uint64_t>{op.params_bytes};
}

TEST(StructSizes, AreThoseOfThisVersion) {
  size_t known = 0;
  for (const OpUnderTest& op : ops_under_test()) {
    EXPECT_EQ(sizes_of(op).back(), op.params_bytes) << op.name << " has another size now";
    known += struct_sizes().count(op.name);
  }
  EXPECT_EQ(struct_sizes().size(), known) << "an op is gone";
}

// A params struct of an earlier caller: `bytes` of it, at the end of what may be read.
class OlderParams {
 public:
  OlderParams(const unsigned char* params, uint64_t bytes)
      : end_(std::vector<int64_t>()), at_(reinterpret_cast<unsigned char*>(end_.data())) {
    at_ -= (bytes + alignof(uint64_t) - 1) / alignof(uint64_t) * alignof(uint64_t);
    std::memcpy(at_, params, bytes);
    std::memcpy(at_, &bytes, sizeof bytes);
  }
  unsigned char* data() const { return at_; }

 private:
  AtTheEnd end_;
  unsigned char* at_;
};

// Leaves what is not 0 where the next call's frames come to lie.
[[gnu::noinline]] void dirty_the_stack() {
  volatile unsigned char dirt[64 << 10];
  for (volatile unsigned char& byte : dirt) byte = 0xA5;
}

// Each size that a struct has had, without a byte after it: the fields that came later count as 0.
// And each size between, which would cut a field: refused.
TEST_P(AnyOp, TakesTheStructsOfEarlierVersions) {
  const OpUnderTest& op = *GetParam().op;
  const std::vector<uint64_t> known = sizes_of(op);
  const Target& target = targets().front();
  if (!takes(GetParam(), target)) GTEST_SKIP() << "not on " << target.name();
  for (const uint64_t size : known) {
    SCOPED_TRACE("struct_size " + std::to_string(size));
    PlacedCall placed(target, GetParam().make());
    SampleCall& call = placed.call();
    unsigned char* const params = call.params();
    std::fill(params + size, params + op.params_bytes, 0);
    const Outcome expected = placed.run();
    ASSERT_EQ(expected.status, EXN_OK) << expected.error;
    const OlderParams older(params, size);
    call.set_params(older.data());
    size_t bytes = ~size_t{0};
    dirty_the_stack();
    EXPECT_EQ(call.supported(), EXN_OK) << exn_last_error();
    dirty_the_stack();
    EXPECT_EQ(call.workspace_size(&bytes), EXN_OK) << exn_last_error();
    EXPECT_EQ(bytes, expected.bytes);
    dirty_the_stack();
    EXPECT_EQ(placed.run(), expected);
  }
  PlacedCall placed(target, GetParam().make());
  SampleCall& call = placed.call();
  const unsigned char* const params = call.params();
  for (uint64_t size = 0; size < op.params_bytes; ++size) {
    if (std::count(known.begin(), known.end(), size) != 0) continue;
    const OlderParams cut(params, std::max<uint64_t>(size, sizeof size));
    std::memcpy(cut.data(), &size, sizeof size);
    call.set_params(cut.data());
    size_t bytes = 12345;
    EXPECT_EQ(call.supported(), EXN_INVALID_ARGUMENT) << size;
    expect_words({"struct_size is " + std::to_string(size) + ","});
    EXPECT_EQ(call.workspace_size(&bytes), EXN_INVALID_ARGUMENT) << size;
    EXPECT_EQ(bytes, 12345u);
    EXPECT_EQ(placed.run().status, EXN_INVALID_ARGUMENT) << size;
  }
}

}  // namespace
}  // namespace exn::test
