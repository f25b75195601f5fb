// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <deque>
#include <set>

#include "kv_propagate/case.h"
#include "misuse.h"

namespace exn::test {
namespace {
using Params = exn_kv_propagate_params;

const Op<Params> kOp = EXN_TEST_OP(kv_propagate);

class KvPropagate : public ::testing::TestWithParam<KvPropagateCase> {};

// The rows one at a time, and the layers one at a time, leave the same bits in the caches.
TEST_P(KvPropagate, RowsDoNotDependOnTheBatch) {
  const KvPropagateCase& c = GetParam();
  if (c.hidden.rows < 2 || c.bench) GTEST_SKIP() << "one row, or a shape for benchmarks";
  const KvPropagateInputs in = make_inputs(c);
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    const std::unique_ptr<Instance> whole = instantiate(c, in, target),
                                    parts = instantiate(c, in, target);
    ASSERT_EQ(run_once(target, whole->calls()[0]), EXN_OK) << exn_last_error();
    const Params& all = parts->params<Params>();
    for (int64_t r = 0; r < c.hidden.rows; ++r) {
      Params p = all;
      std::deque<Placed> of_row;
      const auto row_of = [&](const HostTensor& t) {
        return of_row.emplace_back(target, t.given() ? part_of(t, r, 1) : t).dl();
      };
      p.hidden = row_of(in.hidden);
      p.exit_layer = row_of(in.exit_layer);
      p.sequence = row_of(in.sequence);
      p.position = row_of(in.position);
      p.layer_count = 1;
      for (size_t j = 0; j < in.layers.size(); ++j) {
        HostTensor slot = zeros(Type::kI32, {1});
        slot.set_integer(0, in.slot_of(j, r));
        p.slot = of_row.emplace_back(target, slot).dl();
        p.layers = &all.layers[j];
        ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
      }
    }
    const Outputs got = parts->outputs(), expected = whole->outputs();
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_EQ(got[i].bytes, expected[i].bytes) << whole->output_names()[i];
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, KvPropagate,
                         ::testing::ValuesIn(wanted_cases(kv_propagate_cases())), CaseName());

TEST(KvPropagateTables, SlotsOfASequenceDiffer) {
  for (const KvPropagateCase& c : kv_propagate_cases()) {
    if (c.big) continue;
    const KvPropagateInputs in = make_inputs(c);
    for (size_t j = 0; j < (c.slot_per_layer ? in.layers.size() : 1); ++j) {
      std::set<std::pair<int64_t, int64_t>> seen;
      for (int64_t r = 0; r < c.hidden.rows; ++r) {
        const int64_t slot = in.slot_of(j, r);
        ASSERT_LT(slot, c.cache.slots) << c.id;
        if (slot < 0) continue;
        EXPECT_TRUE(seen.emplace(in.sequence.given() ? in.sequence.integer_at(r) : 0, slot).second)
            << c.id << " row " << r;
      }
    }
  }
}

// The table has rows that owe and rows that do not, in every state that a row can be in.
TEST(KvPropagateTables, RowsAreInEveryState) {
  int64_t stay = 0, owe = 0, passed = 0, off = 0;
  for (const KvPropagateCase& c : kv_propagate_cases()) {
    if (c.big) continue;
    const KvPropagateInputs in = make_inputs(c);
    for (size_t j = 0; j < in.layers.size(); ++j) {
      for (int64_t r = 0; r < c.hidden.rows; ++r) {
        const int64_t exit = in.exit_layer.integer_at(r);
        ++(exit < 0 ? stay : exit > in.layers[j].index ? passed : in.slot_of(j, r) < 0 ? off : owe);
      }
    }
  }
  for (int64_t count : {stay, owe, passed, off}) EXPECT_GT(count, 20);
}

// ---- ids that are out of range ------------------------------------------------------------------

KvPropagateCase sample(int32_t layout = EXN_KV_HEAD_MAJOR) {
  KvPropagateCase c;
  c.hidden = {4, 12, Type::kF32, 0, 0, "normal", 1, "-"};
  c.weights[0].scale = 0.25f;
  c.cache = little_cache(layout);
  c.cache.slots = 6;
  c.layers = 2;
  c.first_layer = 1;
  c.model_layers = 3;
  c.bias = true;
  c.norm = EXN_NORM_LAYER;
  c.norm_bias = true;
  c.pairs = 3;
  c.positions = 7;
  c.exits = "zero";
  return c;
}

// All layers and up to 256 rows take one launch on CUDA, also where the depth is cut into parts,
// and only then scratch.
TEST(KvPropagateLaunches, OneForAllLayers) {
  const auto reset = reinterpret_cast<void (*)()>(emulator_function("simt_reset"));
  const auto launches = reinterpret_cast<uint64_t (*)()>(emulator_function("simt_launch_count"));
  if (reset == nullptr || launches == nullptr) GTEST_SKIP() << "no emulated device in this run";
  for (int64_t dim : {12, 96}) {
    for (int64_t rows : {0, 1, 200, 300}) {
      SCOPED_TRACE(std::to_string(rows) + " rows of " + std::to_string(dim));
      KvPropagateCase c = sample();
      c.hidden.rows = rows;
      c.hidden.cols = dim;
      const std::unique_ptr<Instance> instance = instantiate(c, make_inputs(c), targets().front());
      reset();
      size_t scratch = 1;
      ASSERT_EQ(instance->calls()[0].workspace_size(&scratch), EXN_OK);
      EXPECT_EQ(scratch > 0, dim > 32 && rows > 0);
      ASSERT_EQ(run_once(targets().front(), instance->calls()[0]), EXN_OK) << exn_last_error();
      EXPECT_EQ(launches(), static_cast<uint64_t>((rows + 255) / 256));
    }
  }
}

// Refused on the CPU with `words`. On CUDA the row, number 1, is switched off: as if its slots were
// -1.
void expect_row_off(const KvPropagateCase& c, const KvPropagateInputs& in, const Words& words) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const std::unique_ptr<Instance> instance = instantiate(c, in, target);
    const exn_status status = run_once(target, instance->calls()[0]);
    if (target.cpu()) {
      EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
      expect_words(words);
      EXPECT_TRUE(instance->outputs_unchanged());
      continue;
    }
    ASSERT_EQ(status, EXN_OK) << exn_last_error();
    KvPropagateInputs off = make_inputs(c);
    off.exit_layer.set_integer(1, -1);
    EXPECT_EQ(judge(kv_propagate_oracle(c, off), instance->outputs()), "");
  }
}

TEST(KvPropagateIds, OutOfRange) {
  const KvPropagateCase c = sample();
  for (int32_t bad : {-2, 4, INT32_MAX, INT32_MIN}) {
    KvPropagateInputs in = make_inputs(c);
    in.exit_layer.set_integer(1, bad);
    expect_row_off(c, in, {"exn_kv_propagate", "exit_layer[1]", std::to_string(bad), "-1..3"});
  }
  for (int32_t bad : {-1, 7, INT32_MAX, INT32_MIN}) {
    KvPropagateInputs in = make_inputs(c);
    in.position.set_integer(1, bad);
    expect_row_off(c, in, {"exn_kv_propagate", "position[1]", std::to_string(bad), "0..6"});
  }
  for (int32_t bad : {-1, 2, INT32_MAX, INT32_MIN}) {
    KvPropagateInputs in = make_inputs(c);
    in.sequence.set_integer(1, bad);
    expect_row_off(c, in, {"exn_kv_propagate", "sequence[1]", std::to_string(bad), "0..1"});
  }
  for (int32_t bad : {-2, 6, INT32_MAX, INT32_MIN}) {
    KvPropagateInputs in = make_inputs(c);
    in.slot.set_integer(1, bad);
    expect_row_off(c, in, {"exn_kv_propagate", "slot[1]", std::to_string(bad), "-1..5"});
  }
}

TEST(KvPropagateIds, SlotOfALayer) {
  KvPropagateCase c = sample();
  c.slot_per_layer = true;
  KvPropagateInputs in = make_inputs(c);
  in.slot.set_integer(1, -2);
  in.slot.set_integer(4 + 1, 9);
  expect_row_off(c, in, {"slot[0][1]", "-2", "-1..5"});
  in.slot.set_integer(1, -1);
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    const std::unique_ptr<Instance> instance = instantiate(c, in, target);
    EXPECT_EQ(run_once(target, instance->calls()[0]), EXN_INVALID_ARGUMENT);
    expect_words({"slot[1][1]", "9", "-1..5"});
    EXPECT_TRUE(instance->outputs_unchanged());
  }
}

TEST(KvPropagateIds, PageOutOfRange) {
  const KvPropagateCase c = sample(EXN_KV_PAGED);
  for (int32_t bad : {-1, 9, INT32_MAX, INT32_MIN}) {
    KvPropagateInputs in = make_inputs(c);
    // Row 1 is the first of sequence 1 and writes slot 3, in block 1; row 3 writes slot 2, which
    // lies there too.
    for (KvLayerInputs& layer : in.layers) layer.cache.block_table.set_integer(3 + 1, bad);
    in.slot.set_integer(3, -1);
    for (const Target& target : targets()) {
      SCOPED_TRACE(target.name());
      const std::unique_ptr<Instance> instance = instantiate(c, in, target);
      const exn_status status = run_once(target, instance->calls()[0]);
      if (target.cpu()) {
        EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
        expect_words({"exn_kv_propagate", "block_table[1,1]", std::to_string(bad), "0..8"});
        EXPECT_TRUE(instance->outputs_unchanged());
        continue;
      }
      ASSERT_EQ(status, EXN_OK) << exn_last_error();
      KvPropagateInputs off = in;
      off.exit_layer.set_integer(1, -1);
      EXPECT_EQ(judge(kv_propagate_oracle(c, off), instance->outputs()), "");
    }
  }
}

// The ids of rows that owe nothing are not read: several may name one slot, even one that
// a layer lacks, any sequence and any position.
TEST(KvPropagateIds, RowsThatOweNothingMayNameAnything) {
  const KvPropagateCase c = sample();
  KvPropagateInputs in = make_inputs(c);
  in.exit_layer.set_integer(0, -1);
  in.exit_layer.set_integer(2, 3);
  in.slot.set_integer(0, 3);
  in.slot.set_integer(1, -1);
  in.slot.set_integer(2, 77);
  for (HostTensor* ids : {&in.sequence, &in.position}) {
    ids->set_integer(0, 100);
    ids->set_integer(1, -1);
    ids->set_integer(2, -7);
  }
  const std::vector<KvLayerExpected> expected = kv_propagate_oracle(c, in);
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const std::unique_ptr<Instance> instance = instantiate(c, in, target);
    ASSERT_EQ(run_once(target, instance->calls()[0]), EXN_OK) << exn_last_error();
    EXPECT_EQ(judge(expected, instance->outputs()), "");
  }
}

// Two rows write one slot: the last one stays on the CPU, or builds with assertions refuse the
// call.
TEST(KvPropagateIds, OneSlotTwice) {
  const KvPropagateCase c = sample();
  KvPropagateInputs in = make_inputs(c);
  in.slot.set_integer(2, in.slot.integer_at(0));  // rows 0 and 2 belong to sequence 0
  const std::vector<KvLayerExpected> expected = kv_propagate_oracle(c, in);
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    const std::unique_ptr<Instance> instance = instantiate(c, in, target);
    const exn_status status = run_once(target, instance->calls()[0]);
    if (!library_asserts()) {
      ASSERT_EQ(status, EXN_OK) << exn_last_error();
      EXPECT_EQ(judge(expected, instance->outputs()), "");
    } else {
      EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
      expect_words({"slot[2]", "row 0"});
      EXPECT_TRUE(instance->outputs_unchanged());
    }
  }
}

// Races would show in some of the rounds, which take 1 to 5 threads in turn.
void expect_last_writer_stays(const Target& target, const std::vector<KvLayerExpected>& expected,
                              Instance* instance, int rounds) {
  const int32_t before = exn_cpu_threads();
  for (int round = 0; round < rounds && !::testing::Test::HasFailure(); ++round) {
    exn_cpu_set_threads(1 + round % 5);
    instance->reset_outputs();
    EXPECT_EQ(run_once(target, instance->calls()[0]), EXN_OK) << exn_last_error();
    EXPECT_EQ(judge(expected, instance->outputs()), "");
  }
  exn_cpu_set_threads(before);
}

// The same where more rows write than are computed together, whatever the number of threads. Of a
// few more than that a thread has its part done long before the others.
TEST(KvPropagateIds, SlotsOfManyRows) {
  if (library_asserts()) GTEST_SKIP() << "refused";
  for (const int64_t rows : {100, 330}) {
    SCOPED_TRACE(rows);
    KvPropagateCase c = sample();
    c.hidden.rows = rows;
    KvPropagateInputs in = make_inputs(c);
    const std::vector<KvLayerExpected> expected = kv_propagate_oracle(c, in);
    for (const Target& target : targets()) {
      if (!target.cpu()) continue;
      SCOPED_TRACE(target.name());
      const std::unique_ptr<Instance> instance = instantiate(c, in, target);
      expect_last_writer_stays(target, expected, instance.get(), rows < 128 ? 60 : 20);
    }
  }
}

// And where the slots have different names: all sequences share a page.
TEST(KvPropagateIds, OneSlotOfASharedPage) {
  KvPropagateCase c = sample(EXN_KV_PAGED);
  c.hidden.rows = c.cache.sequences = 330;
  c.cache.slots = 2;
  KvPropagateInputs in = make_inputs(c);
  for (KvLayerInputs& layer : in.layers) {
    for (int64_t s = 0; s < c.cache.sequences; ++s) layer.cache.block_table.set_integer(s, 0);
  }
  const std::vector<KvLayerExpected> expected = kv_propagate_oracle(c, in);
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    const std::unique_ptr<Instance> instance = instantiate(c, in, target);
    if (library_asserts()) {
      EXPECT_EQ(run_once(target, instance->calls()[0]), EXN_INVALID_ARGUMENT);
      expect_words({"slot[1]", "is 1", "sequence 1", "row 0"});
      EXPECT_TRUE(instance->outputs_unchanged());
      continue;
    }
    expect_last_writer_stays(target, expected, instance.get(), 60);
  }
}

// ---- arguments ----------------------------------------------------------------------------------

// A call whose arguments are spoilt one by one.
struct Sample {
  explicit Sample(const KvPropagateCase& c)
      : instance(instantiate(c, make_inputs(c), kCpu)),
        params(instance->params<Params>()),
        layers(params.layers, params.layers + params.layer_count) {
    params.layers = layers.data();
  }
  Placed* of(const DLTensor* argument) { return instance->tensor(argument); }

  std::unique_ptr<Instance> instance;
  Params params;
  std::vector<exn_kv_layer> layers;
};

TEST(KvPropagateMisuse, Rows) {
  const KvPropagateCase c = sample();
  Sample t(c);
  const Params& p = t.params;
  const std::vector<Placed*>& written = t.instance->written();
  Spoiler<Params> spoil(kOp, t.params, written);
  t.of(p.hidden)->mutable_dl()->shape[1] = 0;
  expect_refused(kOp, t.params, written, EXN_INVALID_ARGUMENT, {"D", "0", "1"});
  t.of(p.hidden)->mutable_dl()->shape[1] = 12;
  Placed per_layer(kCpu, zeros(Type::kI32, {3, 4})),
      long_table(kCpu, normal(Type::kF32, {7, 5, 2}));
  spoil.value(&Params::rope_table, long_table.dl(), {"rope_table", "10", "8"});
}

// One field of one layer at a time.
TEST(KvPropagateMisuse, Layers) {
  const KvPropagateCase c = sample(EXN_KV_PAGED);
  Sample t(c);
  const std::vector<Placed*>& written = t.instance->written();
  const std::vector<exn_kv_layer> good = t.layers;
  const auto spoilt = [&](const Words& words) {
    expect_refused(kOp, t.params, written, EXN_INVALID_ARGUMENT, words);
    std::copy(good.begin(), good.end(), t.layers.begin());
  };
  for (size_t j : {size_t{0}, size_t{1}}) {
    SCOPED_TRACE(j);
    exn_kv_layer& layer = t.layers[j];
    const std::string of = "layers[" + std::to_string(j) + "].";
    for (auto [field, name] : {std::pair<const DLTensor * exn_kv_layer::*, const char*>{
                                   &exn_kv_layer::norm_weight, "norm_weight"},
                               {&exn_kv_layer::k_weight, "k_weight"},
                               {&exn_kv_layer::v_weight, "v_weight"}}) {
      layer.*field = nullptr;
      spoilt({": " + of + name + " is null"});
    }
    for (auto [field, name] :
         {std::pair<const DLTensor * exn_kv_cache::*, const char*>{&exn_kv_cache::k, "cache.k"},
          {&exn_kv_cache::v, "cache.v"},
          {&exn_kv_cache::block_table, "cache.block_table"}}) {
      layer.cache.*field = nullptr;
      spoilt({": " + of + name + " is null"});
    }
    layer.cache.layout = 3;
    spoilt({": " + of + "cache.layout is 3"});
    layer.cache.reserved = 7;
    spoilt({": " + of + "cache.reserved is 7"});
    layer.k_blocks = 1;
    spoilt({": " + of + "k_blocks is 1"});
    layer.cache.layout = EXN_KV_TOKEN_MAJOR;
    spoilt({": " + of + "cache.block_table"});
    layer.index = 3;
    spoilt({": " + of + "index is 3", "0..2"});
    layer.index = -1;
    spoilt({": " + of + "index is -1", "0..2"});
  }
  t.layers[1].index = 1;
  spoilt({": layers[1].index is 1", "more than the 1"});
}

TEST(KvPropagateMisuse, TensorsOfALayer) {
  const KvPropagateCase c = sample();
  Sample t(c);
  const std::vector<Placed*>& written = t.instance->written();
  const exn_kv_layer& second = t.layers[1];
  t.of(second.v_weight)->mutable_dl()->dtype = dl_type(Type::kBF16);
  t.of(second.k_weight)->mutable_dl()->dtype = dl_type(Type::kBF16);
  expect_refused(kOp, t.params, written, EXN_INVALID_ARGUMENT,
                 {"layers[1].k_weight", "bf16", "layers[0]", "f32"});
  for (const DLTensor* weight : {second.k_weight, second.v_weight})
    t.of(weight)->mutable_dl()->dtype = dl_type(Type::kF32);
  for (const DLTensor* side : {second.cache.k, second.cache.v})
    t.of(side)->mutable_dl()->dtype = dl_type(Type::kBF16);
  expect_refused(kOp, t.params, written, EXN_INVALID_ARGUMENT,
                 {"layers[1].cache", "bf16", "layers[0]", "f32"});
  for (const DLTensor* side : {second.cache.k, second.cache.v})
    t.of(side)->mutable_dl()->dtype = dl_type(Type::kF32);
}

// As many tensors as a call can have, any two of which may overlap.
TEST(KvPropagateMisuse, TensorsOfAllLayers) {
  KvPropagateCase c = sample(EXN_KV_PAGED);
  c.layers = c.model_layers = EXN_KV_PROPAGATE_MAX_LAYERS;
  c.first_layer = 0;
  Sample t(c);
  EXPECT_EQ(exn_kv_propagate_supported(&t.params), EXN_OK) << exn_last_error();
  Spoiler<Params> spoil(kOp, t.params, t.instance->written());
  const exn_kv_layer &first = t.layers[0], &middle = t.layers[63], &last = t.layers[127];
  Placed *const k = t.of(last.cache.k), *const v = t.of(last.cache.v);
  spoil.overlap(v, "layers[127].cache.v", *k, "layers[127].cache.k", 4);
  spoil.overlap(k, "layers[127].cache.k", *t.of(first.cache.k), "layers[0].cache.k");
  // What is smaller than the cache may not be all that it covers then.
  spoil.overlap(v, "exn_kv_propagate: layers[127].cache.v", *t.of(middle.v_bias),
                "overlaps layers[63].");
  spoil.overlap(v, "exn_kv_propagate: layers[127].cache.v", *t.of(t.params.rope_table),
                "overlaps ");
  spoil.overlap(t.of(first.cache.k), "layers[0].cache.k", *t.of(last.cache.block_table),
                "overlaps ");
  spoil.overlap(t.of(middle.cache.k), "layers[63].cache.k", *t.of(t.params.hidden), "overlaps ");
}

TEST(KvPropagateMisuse, Blocks) {
  KvPropagateCase c = sample();
  c.hidden.cols = 64;
  c.weights.clear();
  for (int32_t tag : {EXN_BLOCKS_Q4_0, EXN_BLOCKS_Q8_0, EXN_BLOCKS_Q5_1, EXN_BLOCKS_Q4_1}) {
    c.weights.push_back({0, 0, Type::kU8, 0, 0, "normal", 0.25f, "-", tag});
  }
  Sample t(c);
  const std::vector<Placed*>& written = t.instance->written();
  ASSERT_EQ(exn_kv_propagate_supported(&t.params), EXN_OK) << exn_last_error();
  const std::vector<exn_kv_layer> good = t.layers;
  const auto spoilt = [&](const Words& words) {
    expect_refused(kOp, t.params, written, EXN_INVALID_ARGUMENT, words);
    std::copy(good.begin(), good.end(), t.layers.begin());
  };
  Placed floats(kCpu, normal(Type::kF32, {16, 64}));
  for (size_t j : {size_t{0}, size_t{1}}) {
    SCOPED_TRACE(j);
    exn_kv_layer& layer = t.layers[j];
    const std::string of = "layers[" + std::to_string(j) + "].";
    for (auto [weight, blocks, name, tag] :
         {std::tuple<const DLTensor * exn_kv_layer::*, int32_t exn_kv_layer::*, const char*,
                     const char*>{&exn_kv_layer::k_weight, &exn_kv_layer::k_blocks, "k_weight",
                                  "k_blocks"},
          {&exn_kv_layer::v_weight, &exn_kv_layer::v_blocks, "v_weight", "v_blocks"}}) {
      for (int wrong : {-1, 1, 9, 15, INT16_MAX, INT16_MIN}) {
        layer.*blocks = wrong;
        spoilt({": " + of + tag + " is " + std::to_string(wrong), "2, 3, 6"});
      }
      layer.*blocks = EXN_BLOCKS_NONE;
      spoilt({of + name, "u8", "f32"});
      layer.*blocks = EXN_BLOCKS_Q6_K;
      spoilt({"hidden", "64", of + tag, "14", "256"});
      layer.*blocks = EXN_BLOCKS_Q5_0;
      spoilt({of + name, "64", std::string(tag) + " 6", "44"});
      for (const int64_t more : {-1, 1}) {
        int64_t& bytes = t.of(layer.*weight)->mutable_dl()->shape[1];
        const int64_t right = bytes;
        bytes += more;
        const std::string wrong = std::to_string(bytes);
        spoilt({of + name, wrong, std::to_string(right)});
        bytes = right;
      }
      // Both weights of all layers have blocks, or none.
      layer.*weight = floats.dl();
      layer.*blocks = EXN_BLOCKS_NONE;
      spoilt({"_weight", "u8", "f32"});
    }
    layer.k_weight = layer.v_weight = floats.dl();
    layer.k_blocks = layer.v_blocks = EXN_BLOCKS_NONE;
    spoilt({"layers[1].k_weight", "layers[0]", "u8", "f32"});
  }
}

TEST(KvPropagateMisuse, LayersThatDiffer) {
  const KvPropagateCase c = sample();
  const auto expect_other = [&](const KvPropagateCase& other, const Words& words) {
    Sample t(c), u(other);
    t.layers[1] = u.layers[1];
    std::vector<Placed*> written = t.instance->written();
    for (Placed* output : u.instance->written()) written.push_back(output);
    expect_refused(kOp, t.params, written, EXN_INVALID_ARGUMENT, words);
  };
  KvPropagateCase other = c;
  other.cache.heads = 4;
  other.cache.dim = 4;
  expect_other(other, {"heads", "4", "2"});
  other = c;
  other.cache.sequences = 3;
  expect_other(other, {"sequences", "3", "2"});
  other = c;
  other.cache.layout = EXN_KV_TOKEN_MAJOR;
  other.cache.slots = 2;  // [2,2,2,8] either way: the layout alone differs
  expect_other(other, {"layout", "1", "0"});
}

}  // namespace
}  // namespace exn::test
