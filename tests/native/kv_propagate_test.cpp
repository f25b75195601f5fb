// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <deque>

#include "case_table_dense.h"
#include "misuse.h"
#include "oracle_dense.h"

namespace exn::test {
namespace {

const Op<exn_kv_propagate_params> kOp = {"kv_propagate", exn_kv_propagate_supported,
                                         exn_kv_propagate_workspace_size, exn_kv_propagate};

struct PlacedLayer {
  PlacedLayer(const Target& target, const KvLayerInputs& in)
      : norm_weight(target, in.norm_weight),
        norm_bias(target, in.norm_bias),
        k_weight(target, in.k_weight),
        k_bias(target, in.k_bias),
        v_weight(target, in.v_weight),
        v_bias(target, in.v_bias),
        k(target, in.k),
        v(target, in.v),
        block_table(target, in.block_table),
        index(in.index) {}

  exn_kv_layer dl(int32_t layout) const {
    exn_kv_layer layer = {};
    layer.norm_weight = norm_weight.dl();
    layer.norm_bias = norm_bias.dl();
    layer.k_weight = k_weight.dl();
    layer.k_bias = k_bias.dl();
    layer.v_weight = v_weight.dl();
    layer.v_bias = v_bias.dl();
    layer.cache = {k.dl(), v.dl(), block_table.dl(), layout, 0};
    layer.index = index;
    return layer;
  }

  Placed norm_weight, norm_bias, k_weight, k_bias, v_weight, v_bias, k, v, block_table;
  int32_t index;
};

// A case's tensors on a device. `params` stays as long as this object.
struct PlacedPropagate {
  PlacedPropagate(const Target& target, const KvPropagateCase& c, const KvPropagateInputs& in)
      : hidden(target, in.hidden),
        exit_layer(target, in.exit_layer),
        sequence(target, in.sequence),
        slot(target, in.slot),
        position(target, in.position),
        table(target, in.table) {
    for (const KvLayerInputs& layer : in.layers) layers.emplace_back(target, layer);
    for (const PlacedLayer& layer : layers) list.push_back(layer.dl(c.layout));
    params.struct_size = sizeof params;
    params.hidden = hidden.dl();
    params.exit_layer = exit_layer.dl();
    params.sequence = sequence.dl();
    params.slot = slot.dl();
    params.position = position.dl();
    params.rope_table = table.dl();
    params.layers = list.data();
    params.layer_count = static_cast<int32_t>(list.size());
    params.model_layers = static_cast<int32_t>(c.model_layers);
    params.rope_style = c.rope_style;
    params.norm = c.norm;
    params.norm_eps = c.norm_eps;
  }

  std::vector<Placed*> read() {
    std::vector<Placed*> tensors = {&hidden, &exit_layer, &sequence, &slot, &position, &table};
    for (PlacedLayer& l : layers) {
      for (Placed* t : {&l.norm_weight, &l.norm_bias, &l.k_weight, &l.k_bias, &l.v_weight,
                        &l.v_bias, &l.block_table}) {
        tensors.push_back(t);
      }
    }
    return tensors;
  }
  std::vector<Placed*> written() {
    std::vector<Placed*> tensors;
    for (PlacedLayer& layer : layers) {
      tensors.push_back(&layer.k);
      tensors.push_back(&layer.v);
    }
    return tensors;
  }

  Placed hidden, exit_layer, sequence, slot, position, table;
  std::deque<PlacedLayer> layers;
  std::vector<exn_kv_layer> list;
  exn_kv_propagate_params params = {};
};

void expect_caches(const std::vector<KvLayerExpected>& expected, const PlacedPropagate& placed) {
  for (size_t j = 0; j < expected.size(); ++j) {
    SCOPED_TRACE("entry " + std::to_string(j));
    expect_all_agree("kv_propagate k", expected[j].k, placed.layers[j].k.read());
    expect_all_agree("kv_propagate v", expected[j].v, placed.layers[j].v.read());
  }
}

class KvPropagate : public ::testing::TestWithParam<KvPropagateCase> {};

TEST_P(KvPropagate, MatchesOracle) {
  const KvPropagateCase& c = GetParam();
  const KvPropagateInputs in = make_inputs(c);
  const std::vector<KvLayerExpected> expected = kv_propagate_oracle(c, in);
  for (const Target& target : targets()) {
    if (!wanted(c, target)) continue;
    SCOPED_TRACE(target.name());
    PlacedPropagate placed(target, c, in);
    exercise(target, kOp, placed.params, placed.read(), placed.written());
    if (HasFatalFailure()) return;
    expect_caches(expected, placed);
  }
}

// The rows one at a time, and the layers one at a time, leave the same bits in the caches.
TEST_P(KvPropagate, RowsDoNotDependOnTheBatch) {
  const KvPropagateCase& c = GetParam();
  if (c.hidden.rows < 2 || c.bench) GTEST_SKIP() << "one row, or a shape for benchmarks";
  const KvPropagateInputs in = make_inputs(c);
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    PlacedPropagate whole(target, c, in), parts(target, c, in);
    ASSERT_EQ(run_once(target, kOp, whole.params), EXN_OK) << exn_last_error();
    for (int64_t r = 0; r < c.hidden.rows; ++r) {
      exn_kv_propagate_params p = parts.params;
      std::deque<Placed> of_row;
      const auto vector = [&](const HostTensor& t) -> const DLTensor* {
        if (!t.given()) return nullptr;
        HostTensor one = make_tensor(Type::kI32, {1});
        one.set_integer(0, t.integer_at(r));
        return of_row.emplace_back(target, one).dl();
      };
      p.hidden = of_row.emplace_back(target, rows_of(in.hidden, r, 1)).dl();
      p.exit_layer = vector(in.exit_layer);
      p.sequence = vector(in.sequence);
      p.position = vector(in.position);
      p.layer_count = 1;
      for (size_t j = 0; j < in.layers.size(); ++j) {
        HostTensor slot = make_tensor(Type::kI32, {1});
        slot.set_integer(
            0, in.slot.integer_at((c.slot_per_layer ? static_cast<int64_t>(j) * c.hidden.rows : 0) +
                                  r));
        p.slot = of_row.emplace_back(target, slot).dl();
        p.layers = &parts.list[j];
        ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
      }
    }
    for (size_t j = 0; j < in.layers.size(); ++j) {
      ASSERT_EQ(parts.layers[j].k.read().bytes, whole.layers[j].k.read().bytes)
          << "k of entry " << j;
      ASSERT_EQ(parts.layers[j].v.read().bytes, whole.layers[j].v.read().bytes)
          << "v of entry " << j;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, KvPropagate,
                         ::testing::ValuesIn(wanted_cases(kv_propagate_cases())),
                         CaseName());

// ---- ids that are out of range ------------------------------------------------------------------

KvPropagateCase sample(int32_t layout = EXN_KV_HEAD_MAJOR) {
  KvPropagateCase c;
  c.hidden = {4, 12, Type::kF32, 0, 0, "normal", 1, "-"};
  c.weight = {16, 12, Type::kF32, 0, 0, "normal", 0.25f, "-"};
  c.heads = 2;
  c.head_dim = 8;
  c.layout = layout;
  c.sequences = 2;
  c.slots = 6;
  c.page = 2;
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

// All layers and rows take one launch on CUDA, and no scratch.
TEST(KvPropagateLaunches, One) {
  const auto reset = reinterpret_cast<void (*)()>(emulator_function("simt_reset"));
  const auto launches = reinterpret_cast<uint64_t (*)()>(emulator_function("simt_launch_count"));
  if (reset == nullptr || launches == nullptr) GTEST_SKIP() << "no emulated device in this run";
  for (int64_t rows : {0, 1, 200}) {
    SCOPED_TRACE(rows);
    KvPropagateCase c = sample();
    c.hidden.rows = rows;
    PlacedPropagate placed(targets().front(), c, make_inputs(c));
    reset();
    size_t scratch = 1;
    ASSERT_EQ(exn_kv_propagate_workspace_size(&placed.params, &scratch), EXN_OK);
    EXPECT_EQ(scratch, 0u);
    ASSERT_EQ(run_once(targets().front(), kOp, placed.params), EXN_OK) << exn_last_error();
    EXPECT_EQ(launches(), rows == 0 ? 0u : 1u);
  }
}

// Refused on the CPU with `words`. On CUDA the row, number 1, is switched off: as if its slots were
// -1.
void expect_row_off(const KvPropagateCase& c, const KvPropagateInputs& in, const Words& words) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    PlacedPropagate placed(target, c, in);
    const exn_status status = run_once(target, kOp, placed.params);
    if (target.cpu()) {
      EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
      expect_words(words);
      for (const Placed* t : placed.written()) EXPECT_TRUE(t->unchanged());
      continue;
    }
    ASSERT_EQ(status, EXN_OK) << exn_last_error();
    KvPropagateInputs off = make_inputs(c);
    off.exit_layer.set_integer(1, -1);
    expect_caches(kv_propagate_oracle(c, off), placed);
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
    PlacedPropagate placed(target, c, in);
    EXPECT_EQ(run_once(target, kOp, placed.params), EXN_INVALID_ARGUMENT);
    expect_words({"slot[1][1]", "9", "-1..5"});
    for (const Placed* t : placed.written()) EXPECT_TRUE(t->unchanged());
  }
}

TEST(KvPropagateIds, PageOutOfRange) {
  const KvPropagateCase c = sample(EXN_KV_PAGED);
  for (int32_t bad : {-1, 7, INT32_MAX, INT32_MIN}) {
    KvPropagateInputs in = make_inputs(c);
    // Row 1 is the first of sequence 1 and writes slot 3, in block 1; row 3 writes slot 2, which
    // lies there too.
    for (KvLayerInputs& layer : in.layers) layer.block_table.set_integer(3 + 1, bad);
    in.slot.set_integer(3, -1);
    for (const Target& target : targets()) {
      SCOPED_TRACE(target.name());
      PlacedPropagate placed(target, c, in);
      const exn_status status = run_once(target, kOp, placed.params);
      if (target.cpu()) {
        EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
        expect_words({"exn_kv_propagate", "block_table[1,1]", std::to_string(bad), "0..6"});
        for (const Placed* t : placed.written()) EXPECT_TRUE(t->unchanged());
        continue;
      }
      ASSERT_EQ(status, EXN_OK) << exn_last_error();
      KvPropagateInputs off = in;
      off.exit_layer.set_integer(1, -1);
      expect_caches(kv_propagate_oracle(c, off), placed);
    }
  }
}

// The ids of rows that owe nothing are nobody's business: several may name one slot, even one that
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
    PlacedPropagate placed(target, c, in);
    ASSERT_EQ(run_once(target, kOp, placed.params), EXN_OK) << exn_last_error();
    expect_caches(expected, placed);
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
    PlacedPropagate placed(target, c, in);
    const exn_status status = run_once(target, kOp, placed.params);
    if (!library_asserts()) {
      ASSERT_EQ(status, EXN_OK) << exn_last_error();
      expect_caches(expected, placed);
    } else {
      EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
      expect_words({"slot[2]", "row 0"});
      for (const Placed* t : placed.written()) EXPECT_TRUE(t->unchanged());
    }
  }
}

// Races would show in some of the rounds, which take 1 to 5 threads in turn.
void expect_last_writer_stays(const Target& target, const std::vector<KvLayerExpected>& expected,
                              PlacedPropagate* placed, int rounds) {
  const int32_t before = exn_cpu_threads();
  for (int round = 0; round < rounds && !::testing::Test::HasFailure(); ++round) {
    exn_cpu_set_threads(1 + round % 5);
    for (Placed* t : placed->written()) t->reset();
    EXPECT_EQ(run_once(target, kOp, placed->params), EXN_OK) << exn_last_error();
    expect_caches(expected, *placed);
  }
  exn_cpu_set_threads(before);
}

// The same where more rows write than are computed together, whatever the number of threads.
TEST(KvPropagateIds, SlotsOfManyRows) {
  if (library_asserts()) GTEST_SKIP() << "refused";
  KvPropagateCase c = sample();
  c.hidden.rows = 330;
  KvPropagateInputs in = make_inputs(c);
  const std::vector<KvLayerExpected> expected = kv_propagate_oracle(c, in);
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    PlacedPropagate placed(target, c, in);
    expect_last_writer_stays(target, expected, &placed, 20);
  }
}

// And where the slots have different names: all sequences share a page.
TEST(KvPropagateIds, OneSlotOfASharedPage) {
  KvPropagateCase c = sample(EXN_KV_PAGED);
  c.hidden.rows = c.sequences = 330;
  c.slots = 2;
  KvPropagateInputs in = make_inputs(c);
  for (KvLayerInputs& layer : in.layers) {
    for (int64_t s = 0; s < c.sequences; ++s) layer.block_table.set_integer(s, 0);
  }
  const std::vector<KvLayerExpected> expected = kv_propagate_oracle(c, in);
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    PlacedPropagate placed(target, c, in);
    if (library_asserts()) {
      EXPECT_EQ(run_once(target, kOp, placed.params), EXN_INVALID_ARGUMENT);
      expect_words({"slot[1]", "is 1", "sequence 1", "row 0"});
      for (const Placed* t : placed.written()) EXPECT_TRUE(t->unchanged());
      continue;
    }
    expect_last_writer_stays(target, expected, &placed, 60);
  }
}

// ---- arguments ----------------------------------------------------------------------------------

using Params = exn_kv_propagate_params;

TEST(KvPropagateMisuse, Rows) {
  const KvPropagateCase c = sample();
  PlacedPropagate t(kCpu, c, make_inputs(c));
  const std::vector<Placed*> written = t.written();
  expect_sound_struct_sizes(kOp, t.params, written);
  Spoiler<Params> spoil(kOp, t.params, written);
  spoil.required(&Params::hidden, "hidden");
  spoil.required(&Params::exit_layer, "exit_layer");
  spoil.required(&Params::slot, "slot");
  spoil.required(&Params::position, "position");
  spoil.tensor(&t.hidden, "hidden", "bf16");
  for (auto [placed, name] : {std::pair<Placed*, const char*>{&t.exit_layer, "exit_layer"},
                              {&t.sequence, "sequence"},
                              {&t.position, "position"}}) {
    spoil.tensor(placed, name, "i32");
    spoil.on_another_device(placed, name);
    spoil.size(placed, name, 0, 3);
  }
  spoil.tensor(&t.table, "rope_table", "f32");
  spoil.on_another_device(&t.slot, "slot");
  spoil.size(&t.slot, "slot", 0, 5);
  for (int32_t bad : {0, -1, 129}) {
    spoil.value(&Params::layer_count, bad, {"layer_count", std::to_string(bad), "128"});
  }
  for (int32_t bad : {0, -1}) {
    spoil.value(&Params::model_layers, bad, {"model_layers", std::to_string(bad), "1"});
  }
  for (int32_t bad : {-1, 2}) {
    spoil.value(&Params::rope_style, bad, {"rope_style", std::to_string(bad)});
  }
  for (int32_t bad : {-1, 3}) spoil.value(&Params::norm, bad, {"norm", std::to_string(bad)});
  for (float bad : {-1.0f, kNaN, kInf}) spoil.value(&Params::norm_eps, bad, {"norm_eps"});
  spoil.value(&Params::norm, int32_t{EXN_NORM_RMS}, {"norm_bias"});
  spoil.value(&Params::norm, int32_t{EXN_NORM_NONE}, {"norm_weight"});
  spoil.value(&Params::layers, static_cast<const exn_kv_layer*>(nullptr), {"layers", "null", "2"});
  spoil.value(&Params::model_layers, 2, {"layers[1].index", "2", "0..1"});
  t.hidden.mutable_dl()->shape[1] = 0;
  expect_refused(kOp, t.params, written, EXN_INVALID_ARGUMENT, {"D", "0", "1"});
  t.hidden.mutable_dl()->shape[1] = 12;
  Placed per_layer(kCpu, zeros(Type::kI32, {3, 4})),
      long_table(kCpu, normal(Type::kF32, {7, 5, 2}));
  spoil.value(&Params::slot, per_layer.dl(), {"slot", "3", "2"});
  spoil.value(&Params::rope_table, long_table.dl(), {"rope_table", "10", "8"});
}

// One field of one layer at a time.
TEST(KvPropagateMisuse, Layers) {
  const KvPropagateCase c = sample(EXN_KV_PAGED);
  PlacedPropagate t(kCpu, c, make_inputs(c));
  const std::vector<Placed*> written = t.written();
  const std::vector<exn_kv_layer> good = t.list;
  const auto spoilt = [&](const Words& words) {
    expect_refused(kOp, t.params, written, EXN_INVALID_ARGUMENT, words);
    t.list = good;
    t.params.layers = t.list.data();
  };
  for (size_t j : {size_t{0}, size_t{1}}) {
    SCOPED_TRACE(j);
    exn_kv_layer& layer = t.list[j];
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
    layer.reserved = 8;
    spoilt({": " + of + "reserved is 8"});
    layer.cache.layout = EXN_KV_TOKEN_MAJOR;
    spoilt({": " + of + "cache.block_table"});
    layer.index = 3;
    spoilt({": " + of + "index is 3", "0..2"});
    layer.index = -1;
    spoilt({": " + of + "index is -1", "0..2"});
  }
  t.list[1].index = 1;
  spoilt({": layers[1].index is 1", "more than the 1"});
}

TEST(KvPropagateMisuse, TensorsOfALayer) {
  const KvPropagateCase c = sample();
  PlacedPropagate t(kCpu, c, make_inputs(c));
  const std::vector<Placed*> written = t.written();
  Spoiler<Params> spoil(kOp, t.params, written);
  PlacedLayer& second = t.layers[1];
  for (auto [placed, name, type] :
       {std::tuple<Placed*, const char*, const char*>{&second.norm_weight, "layers[1].norm_weight",
                                                      "f32"},
        {&second.norm_bias, "layers[1].norm_bias", "f32"},
        {&second.k_weight, "layers[1].k_weight", "bf16"},
        {&second.v_weight, "layers[1].v_weight", "bf16"},
        {&second.k_bias, "layers[1].k_bias", "f32"},
        {&second.v_bias, "layers[1].v_bias", "f32"}}) {
    spoil.tensor(placed, name, type);
    spoil.on_another_device(placed, name);
  }
  spoil.size(&second.norm_weight, "norm_weight", 0, 11);
  spoil.size(&second.k_weight, "k_weight", 0, 15);
  spoil.size(&second.k_weight, "k_weight", 1, 11);
  spoil.size(&second.v_weight, "v_weight", 0, 15);
  spoil.size(&second.v_weight, "v_weight", 1, 11);
  spoil.size(&second.k_bias, "k_bias", 0, 15);
  spoil.size(&second.v_bias, "v_bias", 0, 17);
  second.v_weight.mutable_dl()->dtype = dl_type(Type::kBF16);
  expect_refused(kOp, t.params, written, EXN_INVALID_ARGUMENT,
                 {"layers[1].v_weight", "bf16", "k_weight", "f32"});
  second.k_weight.mutable_dl()->dtype = dl_type(Type::kBF16);
  expect_refused(kOp, t.params, written, EXN_INVALID_ARGUMENT,
                 {"layers[1].k_weight", "bf16", "layers[0]", "f32"});
  second.k_weight.mutable_dl()->dtype = second.v_weight.mutable_dl()->dtype = dl_type(Type::kF32);
  for (Placed* cache : {&second.k, &second.v}) cache->mutable_dl()->dtype = dl_type(Type::kBF16);
  expect_refused(kOp, t.params, written, EXN_INVALID_ARGUMENT,
                 {"layers[1].cache", "bf16", "layers[0]", "f32"});
  for (Placed* cache : {&second.k, &second.v}) cache->mutable_dl()->dtype = dl_type(Type::kF32);
  spoil.overlap(&second.k, "layers[1].cache.k", second.v, "layers[1].cache.v", 4);
  spoil.overlap(&second.k, "layers[1].cache.k", t.layers[0].k, "layers[0].cache.k");
  spoil.overlap(&second.v, "layers[1].cache.v", t.layers[0].k_weight, "layers[0].k_weight");
}

// As many tensors as a call can have, any two of which may overlap.
TEST(KvPropagateMisuse, TensorsOfAllLayers) {
  KvPropagateCase c = sample(EXN_KV_PAGED);
  c.layers = c.model_layers = EXN_KV_PROPAGATE_MAX_LAYERS;
  c.first_layer = 0;
  PlacedPropagate t(kCpu, c, make_inputs(c));
  EXPECT_EQ(exn_kv_propagate_supported(&t.params), EXN_OK) << exn_last_error();
  Spoiler<Params> spoil(kOp, t.params, t.written());
  PlacedLayer& last = t.layers.back();
  spoil.overlap(&last.v, "layers[127].cache.v", last.k, "layers[127].cache.k", 4);
  spoil.overlap(&last.k, "layers[127].cache.k", t.layers[0].k, "layers[0].cache.k");
  // It may cover what lies behind the bias, too.
  spoil.overlap(&last.v, "exn_kv_propagate: layers[127].cache.v", t.layers[63].v_bias,
                "overlaps layers[63].");
  spoil.overlap(&last.v, "layers[127].cache.v", t.table, " rope_table");
  spoil.overlap(&t.layers[0].k, "layers[0].cache.k", last.block_table,
                "layers[127].cache.block_table");
  spoil.overlap(&t.layers[63].k, "layers[63].cache.k", t.hidden, " hidden");
}

TEST(KvPropagateMisuse, LayersThatDiffer) {
  const KvPropagateCase c = sample();
  const auto expect_other = [&](const KvPropagateCase& other, const Words& words) {
    PlacedPropagate t(kCpu, c, make_inputs(c)), u(kCpu, other, make_inputs(other));
    t.list[1] = u.list[1];
    std::vector<Placed*> written = t.written();
    for (Placed* p : u.written()) written.push_back(p);
    expect_refused(kOp, t.params, written, EXN_INVALID_ARGUMENT, words);
  };
  KvPropagateCase other = c;
  other.heads = 4;
  other.head_dim = 4;
  expect_other(other, {"heads", "4", "2"});
  other = c;
  other.sequences = 3;
  expect_other(other, {"sequences", "3", "2"});
  other = c;
  other.layout = EXN_KV_TOKEN_MAJOR;
  other.slots = 2;  // [2,2,2,8] either way: the layout alone differs
  KvPropagateCase same_shape = other;
  expect_other(same_shape, {"layout", "1", "0"});
}

}  // namespace
}  // namespace exn::test
