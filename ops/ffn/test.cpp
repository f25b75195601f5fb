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
  Spoiler<exn_ffn_params> spoil(kOp, p, written);
  spoil.value(&exn_ffn_params::gate_weight, static_cast<const DLTensor*>(nullptr),
              {"gate_bias", "gate_weight"});
  for (auto [t, name, other] : {std::tuple<const DLTensor*, const char*, const char*>{
                                    p.gate_weight, "gate_weight", "up_weight"},
                                {p.down_weight, "down_weight", "up_weight"},
                                {p.out, "out", "hidden"}}) {
    of(t)->mutable_dl()->dtype = dl_type(Type::kF32);
  }
  of(p.hidden)->mutable_dl()->shape[1] = 0;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"D", "0", "1"});
  of(p.hidden)->mutable_dl()->shape[1] = 8;
  of(p.up_weight)->mutable_dl()->shape[0] = 0;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"F", "0", "1"});
}

TEST(FfnMisuse, Int8) {
  FfnCase c;
  c.hidden = {3, 64, Type::kF32, 0, 0, "normal", 1, "-"};
  c.width = 32;
  c.norm = EXN_NORM_NONE;
  c.rounding = EXN_INPUT_INT8;
  const std::unique_ptr<Instance> dense = instantiate(c, make_inputs(c), kCpu);
  expect_refused(kOp, dense->params<exn_ffn_params>(), dense->written(), EXN_INVALID_ARGUMENT,
                 {"input_rounding is 1", "up_blocks is 0"});
  c.weights[0] = {0, 0, Type::kU8, 0, 0, "normal", 0.25f, "-", EXN_BLOCKS_Q4_0};
  for (const Target& target : targets()) {
    if (target.cpu()) continue;
    const std::unique_ptr<Instance> blocks = instantiate(c, make_inputs(c), target);
    EXPECT_EQ(exn_ffn_supported(&blocks->params<exn_ffn_params>()), EXN_UNSUPPORTED);
    EXPECT_NE(std::string(exn_last_error()).find("input_rounding is 1"), std::string::npos);
  }
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
