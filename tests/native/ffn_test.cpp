// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "case_table_dense.h"
#include "misuse.h"
#include "oracle_dense.h"

namespace exn::test {
namespace {

const Op<exn_ffn_params> kOp = {"ffn", exn_ffn_supported, exn_ffn_workspace_size, exn_ffn};

// A case's tensors on a device.
struct PlacedFfn {
  PlacedFfn(const Target& target, const FfnCase& c, const FfnInputs& in)
      : spec(c),
        hidden(target, in.hidden),
        norm_weight(target, in.norm_weight),
        norm_bias(target, in.norm_bias),
        gate_weight(target, in.gate_weight),
        gate_bias(target, in.gate_bias),
        up_weight(target, in.up_weight),
        up_bias(target, in.up_bias),
        down_weight(target, in.down_weight),
        down_bias(target, in.down_bias),
        skip(target, in.skip),
        separate(target, c.in_place ? HostTensor{}
                                    : poisoned(c.hidden.type, {in.hidden.rows, c.hidden.cols},
                                               c.out_pad, c.out_offset)),
        cosine(target, output(kFfnCosine, in.hidden.rows)),
        branch_cosine(target, output(kFfnBranchCosine, in.hidden.rows)) {}

  HostTensor output(FfnOutput which, int64_t rows) const {
    return (spec.outputs >> which & 1) != 0 ? poisoned(Type::kF32, {rows}) : HostTensor{};
  }
  Placed& out() { return spec.in_place ? hidden : separate; }
  std::vector<Placed*> written() { return {&out(), &cosine, &branch_cosine}; }
  std::vector<Placed*> read() {
    std::vector<Placed*> tensors = {&norm_weight, &norm_bias, &gate_weight,
                                    &gate_bias,   &up_weight, &up_bias,
                                    &down_weight, &down_bias, &skip};
    if (!spec.in_place) tensors.push_back(&hidden);
    return tensors;
  }
  exn_ffn_params params() {
    exn_ffn_params p = {};
    p.struct_size = sizeof p;
    p.hidden = hidden.dl();
    p.norm_weight = norm_weight.dl();
    p.norm_bias = norm_bias.dl();
    p.gate_weight = gate_weight.dl();
    p.gate_bias = gate_bias.dl();
    p.up_weight = up_weight.dl();
    p.up_bias = up_bias.dl();
    p.down_weight = down_weight.dl();
    p.down_bias = down_bias.dl();
    p.skip = skip.dl();
    p.out = out().dl();
    p.cosine = cosine.dl();
    p.branch_cosine = branch_cosine.dl();
    p.norm = spec.norm;
    p.norm_eps = spec.norm_eps;
    p.activation = spec.activation;
    return p;
  }

  FfnCase spec;
  Placed hidden, norm_weight, norm_bias, gate_weight, gate_bias, up_weight, up_bias, down_weight,
      down_bias, skip, separate;
  Placed cosine, branch_cosine;
};

class Ffn : public ::testing::TestWithParam<FfnCase> {};

TEST_P(Ffn, MatchesOracle) {
  const FfnCase& c = GetParam();
  const FfnInputs in = make_inputs(c);
  const FfnExpected expected = ffn_oracle(c, in);
  for (const Target& target : targets()) {
    if (!wanted(c, target)) continue;
    SCOPED_TRACE(target.name());
    PlacedFfn placed(target, c, in);
    exercise(target, kOp, placed.params(), placed.read(), placed.written());
    if (HasFatalFailure()) return;
    expect_all_agree("ffn out", expected.out, placed.out().read());
    if (placed.cosine.dl() != nullptr) {
      expect_all_agree("ffn cosine", expected.cosine, placed.cosine.read());
    }
    if (placed.branch_cosine.dl() != nullptr) {
      expect_all_agree("ffn branch_cosine", expected.branch_cosine, placed.branch_cosine.read());
    }
  }
}

int64_t running(const HostTensor& skip, int64_t rows) {
  int64_t count = 0;
  for (int64_t r = 0; r < rows; ++r) count += !skip.given() || skip.integer_at(r) == 0 ? 1 : 0;
  return count;
}

TEST_P(Ffn, RowsDoNotDependOnTheBatch) {
  const FfnCase& c = GetParam();
  if (c.hidden.rows < 2 || c.bench) GTEST_SKIP() << "one row, or a shape for benchmarks";
  const FfnInputs in = make_inputs(c);
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    PlacedFfn whole(target, c, in);
    ASSERT_EQ(run_once(target, kOp, whole.params()), EXN_OK) << exn_last_error();
    for (int64_t size : {int64_t{1}, int64_t{3}, int64_t{8}, int64_t{65}}) {
      if (size >= c.hidden.rows) continue;
      for (int64_t first = 0; first + size <= c.hidden.rows; first += size) {
        FfnInputs few = in;
        few.hidden = rows_of(in.hidden, first, size);
        if (in.skip.given()) {
          few.skip = make_tensor(Type::kU8, {size});
          for (int64_t r = 0; r < size; ++r) few.skip.set_integer(r, in.skip.integer_at(first + r));
        }
        if (meets_in_tiles(c.weight_type, running(few.skip, size)) !=
            meets_in_tiles(c.weight_type, running(in.skip, c.hidden.rows))) {
          continue;
        }
        PlacedFfn part(target, c, few);
        ASSERT_EQ(run_once(target, kOp, part.params()), EXN_OK) << exn_last_error();
        ASSERT_EQ(row_bytes(part.out().read(), 0, size), row_bytes(whole.out().read(), first, size))
            << size << " rows from " << first << " against a batch of " << c.hidden.rows;
        for (auto [got, expected] : {std::pair<Placed*, Placed*>{&part.cosine, &whole.cosine},
                                     {&part.branch_cosine, &whole.branch_cosine}}) {
          if (got->dl() == nullptr) continue;
          const std::vector<unsigned char> all = expected->read().bytes;
          ASSERT_EQ(got->read().bytes,
                    std::vector<unsigned char>(all.begin() + first * 4,
                                               all.begin() + (first + size) * 4));
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Ffn,
                         ::testing::ValuesIn(wanted_cases(ffn_cases())),
                         CaseName());

// Where every row skips no weight is read: there are none behind these pointers.
TEST(FfnSkip, AllSkippedReadsNoWeights) {
  FfnCase c;
  c.hidden = {5, 24, Type::kBF16, 0, 0, "normal", 1, "-"};
  c.width = 32;
  c.weight_type = Type::kBF16;
  c.skip = "all";
  c.outputs = 3;
  const FfnInputs in = make_inputs(c);
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    PlacedFfn placed(target, c, in);
    for (Placed* t : {&placed.gate_weight, &placed.up_weight, &placed.down_weight}) {
      t->mutable_dl()->data = reinterpret_cast<void*>(
          uintptr_t{1} << 46 | static_cast<uintptr_t>(t - &placed.hidden) << 20);
    }
    ASSERT_EQ(run_once(target, kOp, placed.params()), EXN_OK) << exn_last_error();
    EXPECT_EQ(row_bytes(placed.out().read(), 0, 5), row_bytes(in.hidden, 0, 5));
    for (int64_t r = 0; r < 5; ++r) EXPECT_TRUE(std::isnan(placed.cosine.read().at(0, r)));
  }
}

TEST(FfnMisuse, EveryArgument) {
  FfnCase c;
  c.hidden = {3, 8, Type::kF32, 0, 0, "normal", 1, "-"};
  c.width = 12;
  c.biases = true;
  c.skip = "some";
  c.norm = EXN_NORM_LAYER;
  c.norm_bias = true;
  c.outputs = 3;
  PlacedFfn t(kCpu, c, make_inputs(c));
  const exn_ffn_params p = t.params();
  const std::vector<Placed*> written = t.written();
  expect_sound_struct_sizes(kOp, p, written);
  Spoiler<exn_ffn_params> spoil(kOp, p, written);
  spoil.required(&exn_ffn_params::hidden, "hidden");
  spoil.required(&exn_ffn_params::norm_weight, "norm_weight");
  spoil.required(&exn_ffn_params::up_weight, "up_weight");
  spoil.required(&exn_ffn_params::down_weight, "down_weight");
  spoil.required(&exn_ffn_params::out, "out");
  for (auto [placed, name, type] :
       {std::tuple<Placed*, const char*, const char*>{&t.gate_weight, "gate_weight", "bf16"},
        {&t.up_weight, "up_weight", "bf16"},
        {&t.down_weight, "down_weight", "bf16"},
        {&t.norm_weight, "norm_weight", "f32"},
        {&t.norm_bias, "norm_bias", "f32"},
        {&t.gate_bias, "gate_bias", "f32"},
        {&t.up_bias, "up_bias", "f32"},
        {&t.down_bias, "down_bias", "f32"},
        {&t.skip, "skip", "u8"},
        {&t.out(), "out", "bf16"},
        {&t.cosine, "cosine", "f32"},
        {&t.branch_cosine, "branch_cosine", "f32"}}) {
    spoil.tensor(placed, name, type);
    spoil.on_another_device(placed, name);
  }
  spoil.tensor(&t.hidden, "hidden", "bf16");
  spoil.size(&t.norm_weight, "norm_weight", 0, 7);
  spoil.size(&t.norm_bias, "norm_bias", 0, 7);
  spoil.size(&t.gate_weight, "gate_weight", 0, 11);
  spoil.size(&t.gate_weight, "gate_weight", 1, 7);
  spoil.size(&t.gate_bias, "gate_bias", 0, 11);
  spoil.size(&t.up_weight, "up_weight", 1, 7);
  spoil.size(&t.up_bias, "up_bias", 0, 11);
  spoil.size(&t.down_weight, "down_weight", 0, 7);
  spoil.size(&t.down_weight, "down_weight", 1, 11);
  spoil.size(&t.down_bias, "down_bias", 0, 7);
  spoil.size(&t.skip, "skip", 0, 2);
  spoil.size(&t.out(), "out", 0, 2);
  spoil.size(&t.out(), "out", 1, 7);
  spoil.size(&t.cosine, "cosine", 0, 4);
  spoil.size(&t.branch_cosine, "branch_cosine", 0, 2);
  for (int32_t bad : {-1, 3}) {
    spoil.value(&exn_ffn_params::norm, bad, {"norm", std::to_string(bad)});
    spoil.value(&exn_ffn_params::activation, bad, {"activation", std::to_string(bad)});
  }
  for (float bad : {-1.0f, kNaN, kInf}) spoil.value(&exn_ffn_params::norm_eps, bad, {"norm_eps"});
  spoil.value(&exn_ffn_params::reserved, 1, {"reserved", "1", "0"});
  spoil.value(&exn_ffn_params::norm, int32_t{EXN_NORM_RMS}, {"norm_bias"});
  spoil.value(&exn_ffn_params::norm, int32_t{EXN_NORM_NONE}, {"norm_weight"});
  spoil.value(&exn_ffn_params::gate_weight, static_cast<const DLTensor*>(nullptr),
              {"gate_bias", "gate_weight"});
  for (auto [placed, name, other] :
       {std::tuple<Placed*, const char*, const char*>{&t.gate_weight, "gate_weight", "up_weight"},
        {&t.down_weight, "down_weight", "up_weight"},
        {&t.out(), "out", "hidden"}}) {
    placed->mutable_dl()->dtype = dl_type(Type::kBF16);
    expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {name, "bf16", other, "f32"});
    placed->mutable_dl()->dtype = dl_type(Type::kF32);
  }
  spoil.overlap(&t.out(), "out", t.hidden, "hidden", 32);
  spoil.overlap(&t.out(), "out", t.down_weight, "down_weight");
  spoil.overlap(&t.cosine, "cosine", t.branch_cosine, "branch_cosine");
  spoil.overlap(&t.cosine, "cosine", t.up_bias, "up_bias", 8);
  t.hidden.mutable_dl()->shape[1] = 0;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"D", "0", "1"});
  t.hidden.mutable_dl()->shape[1] = 8;
  t.up_weight.mutable_dl()->shape[0] = 0;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"F", "0", "1"});
}

}  // namespace
}  // namespace exn::test
