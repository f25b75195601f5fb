// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstddef>

#include "ffn/case.h"
#include "misuse.h"

namespace exn::test {
namespace {

const Op<exn_ffn_params> kOp = EXN_TEST_OP(ffn);

class Ffn : public ::testing::TestWithParam<FfnCase> {};

TEST_P(Ffn, RowsDoNotDependOnTheBatch) {
  const FfnCase& c = GetParam();
  if (c.hidden.rows < 2 || c.bench || c.decision)
    GTEST_SKIP() << "one row, a shape for benchmarks, or two ops";
  const FfnInputs in = make_inputs(c);
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    const std::unique_ptr<Instance> instance = instantiate(c, in, target);
    const Outputs all = outputs_of(target, instance);
    const Type type = c.up_weight().type;
    const bool tiles = meets_in_tiles(type, in.running());
    for (int64_t size : {1, 3, 8, 65}) {
      expect_blocks_agree(
          target, kOp, instance.get(), all, c.hidden.rows, size,
          [](exn_ffn_params* p, BlockOfRows& block) {
            for (const DLTensor** field :
                 {&p->hidden, &p->skip, &p->out, &p->cosine, &p->branch_cosine})
              block(field);
          },
          [&](int64_t first) {
            int64_t running = 0;
            for (int64_t r = first; r < first + size; ++r) running += id_or(in.skip, r, 0) == 0;
            return meets_in_tiles(type, running) == tiles;
          });
      if (HasFatalFailure()) return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Ffn, ::testing::ValuesIn(wanted_cases(ffn_cases())), CaseName());

// Where every row skips no weight is read: there are none at these pointers.
TEST(FfnSkip, AllSkippedReadsNoWeights) {
  FfnCase c;
  c.hidden = {5, 24, Type::kBF16, 0, 0, "normal", 1, "-"};
  c.width = 32;
  c.weights[0].type = Type::kBF16;
  c.skip = "all";
  c.cosine = c.branch_cosine = true;
  const FfnInputs in = make_inputs(c);
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    const std::unique_ptr<Instance> instance = instantiate(c, in, target);
    const exn_ffn_params& p = instance->params<exn_ffn_params>();
    uintptr_t nowhere = uintptr_t{1} << 46;
    for (const DLTensor* t : {p.gate_weight, p.up_weight, p.down_weight}) {
      instance->tensor(t)->mutable_dl()->data = reinterpret_cast<void*>(nowhere += 1 << 20);
    }
    ASSERT_EQ(run_once(target, instance->calls()[0]), EXN_OK) << exn_last_error();
    const Outputs got = instance->outputs();
    EXPECT_EQ(got[0].bytes, in.hidden.bytes);
    for (int64_t r = 0; r < 5; ++r) EXPECT_TRUE(std::isnan(got[1].at(0, r)));
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
  c.cosine = c.branch_cosine = true;
  const std::unique_ptr<Instance> instance = instantiate(c, make_inputs(c), kCpu);
  const exn_ffn_params& p = instance->params<exn_ffn_params>();
  const std::vector<Placed*>& written = instance->written();
  const auto of = [&](const DLTensor* argument) { return instance->tensor(argument); };
  expect_sound_struct_sizes(kOp, p, written, offsetof(exn_ffn_params, up_blocks));
  Spoiler<exn_ffn_params> spoil(kOp, p, written);
  spoil.required(&exn_ffn_params::hidden, "hidden");
  spoil.required(&exn_ffn_params::norm_weight, "norm_weight");
  spoil.required(&exn_ffn_params::up_weight, "up_weight");
  spoil.required(&exn_ffn_params::down_weight, "down_weight");
  spoil.required(&exn_ffn_params::out, "out");
  for (auto [t, name, type] :
       {std::tuple<const DLTensor*, const char*, const char*>{p.gate_weight, "gate_weight", "bf16"},
        {p.up_weight, "up_weight", "bf16"},
        {p.down_weight, "down_weight", "bf16"},
        {p.norm_weight, "norm_weight", "f32"},
        {p.norm_bias, "norm_bias", "f32"},
        {p.gate_bias, "gate_bias", "f32"},
        {p.up_bias, "up_bias", "f32"},
        {p.down_bias, "down_bias", "f32"},
        {p.skip, "skip", "u8"},
        {p.out, "out", "bf16"},
        {p.cosine, "cosine", "f32"},
        {p.branch_cosine, "branch_cosine", "f32"}}) {
    spoil.tensor(of(t), name, type);
    spoil.on_another_device(of(t), name);
  }
  spoil.tensor(of(p.hidden), "hidden", "bf16");
  spoil.size(of(p.norm_weight), "norm_weight", 0, 7);
  spoil.size(of(p.norm_bias), "norm_bias", 0, 7);
  spoil.size(of(p.gate_weight), "gate_weight", 0, 11);
  spoil.size(of(p.gate_weight), "gate_weight", 1, 7);
  spoil.size(of(p.gate_bias), "gate_bias", 0, 11);
  spoil.size(of(p.up_weight), "up_weight", 1, 7);
  spoil.size(of(p.up_bias), "up_bias", 0, 11);
  spoil.size(of(p.down_weight), "down_weight", 0, 7);
  spoil.size(of(p.down_weight), "down_weight", 1, 11);
  spoil.size(of(p.down_bias), "down_bias", 0, 7);
  spoil.size(of(p.skip), "skip", 0, 2);
  spoil.size(of(p.out), "out", 0, 2);
  spoil.size(of(p.out), "out", 1, 7);
  spoil.size(of(p.cosine), "cosine", 0, 4);
  spoil.size(of(p.branch_cosine), "branch_cosine", 0, 2);
  for (int32_t bad : {-1, 3}) {
    spoil.value(&exn_ffn_params::norm, bad, {"norm", std::to_string(bad)});
    spoil.value(&exn_ffn_params::activation, bad, {"activation", std::to_string(bad)});
  }
  for (float bad : {-1.0f, kNaN, kInf}) spoil.value(&exn_ffn_params::norm_eps, bad, {"norm_eps"});
  spoil.value(&exn_ffn_params::up_blocks, 1, {"up_blocks", "1", "0"});
  spoil.value(&exn_ffn_params::norm, int32_t{EXN_NORM_RMS}, {"norm_bias"});
  spoil.value(&exn_ffn_params::norm, int32_t{EXN_NORM_NONE}, {"norm_weight"});
  spoil.value(&exn_ffn_params::gate_weight, static_cast<const DLTensor*>(nullptr),
              {"gate_bias", "gate_weight"});
  for (auto [t, name, other] : {std::tuple<const DLTensor*, const char*, const char*>{
                                    p.gate_weight, "gate_weight", "up_weight"},
                                {p.down_weight, "down_weight", "up_weight"},
                                {p.out, "out", "hidden"}}) {
    of(t)->mutable_dl()->dtype = dl_type(Type::kBF16);
    expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {name, "bf16", other, "f32"});
    of(t)->mutable_dl()->dtype = dl_type(Type::kF32);
  }
  spoil.overlap(of(p.out), "out", *of(p.hidden), "hidden", 32);
  spoil.overlap(of(p.out), "out", *of(p.down_weight), "down_weight");
  spoil.overlap(of(p.cosine), "cosine", *of(p.branch_cosine), "branch_cosine");
  spoil.overlap(of(p.cosine), "cosine", *of(p.up_bias), "up_bias", 8);
  of(p.hidden)->mutable_dl()->shape[1] = 0;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"D", "0", "1"});
  of(p.hidden)->mutable_dl()->shape[1] = 8;
  of(p.up_weight)->mutable_dl()->shape[0] = 0;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"F", "0", "1"});
}

TEST(FfnMisuse, Blocks) {
  FfnCase c;
  c.hidden = {3, 256, Type::kF32, 0, 0, "normal", 1, "-"};
  c.width = 64;
  c.norm = EXN_NORM_NONE;
  c.weights.clear();
  for (int32_t tag : {EXN_BLOCKS_Q4_K, EXN_BLOCKS_Q5_0, EXN_BLOCKS_Q8_0}) {
    c.weights.push_back({0, 0, Type::kU8, 0, 0, "normal", 0.25f, "-", tag});
  }
  const std::unique_ptr<Instance> instance = instantiate(c, make_inputs(c), kCpu);
  const exn_ffn_params& p = instance->params<exn_ffn_params>();
  ASSERT_EQ(exn_ffn_supported(&p), EXN_OK) << exn_last_error();
  const std::vector<Placed*>& written = instance->written();
  const auto of = [&](const DLTensor* argument) { return instance->tensor(argument); };
  Spoiler<exn_ffn_params> spoil(kOp, p, written);
  spoil.blocks(&exn_ffn_params::gate_blocks, "gate_blocks", of(p.gate_weight), "gate_weight",
               "hidden", 256);
  spoil.blocks(&exn_ffn_params::up_blocks, "up_blocks", of(p.up_weight), "up_weight", "hidden",
               256);
  spoil.blocks(&exn_ffn_params::down_blocks, "down_blocks", of(p.down_weight), "down_weight",
               "the rows of up_weight", 64);
  spoil.size(of(p.gate_weight), "gate_weight", 0, 63);
  spoil.size(of(p.down_weight), "down_weight", 0, 255);
  // All three weights have blocks, or none.
  Placed wide(kCpu, normal(Type::kF32, {64, 256})), tall(kCpu, normal(Type::kF32, {256, 64}));
  for (auto [weight, blocks, floats, name] :
       {std::tuple<const DLTensor * exn_ffn_params::*, int32_t exn_ffn_params::*, Placed*,
                   const char*>{&exn_ffn_params::gate_weight, &exn_ffn_params::gate_blocks, &wide,
                                "gate_weight"},
        {&exn_ffn_params::down_weight, &exn_ffn_params::down_blocks, &tall, "down_weight"}}) {
    exn_ffn_params q = p;
    q.*weight = floats->dl();
    q.*blocks = EXN_BLOCKS_NONE;
    expect_refused(kOp, q, written, EXN_INVALID_ARGUMENT, {name, "f32", "up_weight", "u8"});
  }
  exn_ffn_params q = p;
  q.up_weight = wide.dl();
  q.up_blocks = EXN_BLOCKS_NONE;
  expect_refused(kOp, q, written, EXN_INVALID_ARGUMENT, {"gate_weight", "u8", "up_weight", "f32"});
}

}  // namespace
}  // namespace exn::test
