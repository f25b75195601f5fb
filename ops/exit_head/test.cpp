// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>

#include "exit_head/case.h"
#include "misuse.h"
#include "system.h"

namespace exn::test {
namespace {
class ExitHead : public ::testing::TestWithParam<ExitHeadCase> {};

TEST_P(ExitHead, RowsDoNotDependOnTheBatch) {
  const ExitHeadCase& c = GetParam();
  if (c.hidden.rows < 2 || c.bench) GTEST_SKIP() << "one row, or a shape for benchmarks";
  const ExitHeadInputs in = make_inputs(c);
  for (const Target& target : targets()) {
    if (!wanted(c, target)) continue;
    SCOPED_TRACE(target.name());
    const std::unique_ptr<Instance> instance = instantiate(c, in, target);
    const Outputs all = outputs_of(target, instance);
    for (int64_t size : {1, 3, 8}) {
      expect_blocks_agree(
          target, EXN_TEST_OP(exit_head), instance.get(), all, c.hidden.rows, size,
          [](exn_exit_head_params* p, BlockOfRows& block) {
            exn_stats& out = p->out;
            for (const DLTensor** field : {&p->hidden,
                                           &out.argmax,
                                           &out.max_logit,
                                           &out.lse,
                                           &out.p1,
                                           &out.p2,
                                           &out.margin,
                                           &out.entropy,
                                           &out.pow2_entropy,
                                           &out.mean_log_p,
                                           &out.valid,
                                           &out.labels,
                                           &out.label_log_p,
                                           &out.draw,
                                           &out.draw_key,
                                           &out.draw_counter,
                                           &out.draw_temperature,
                                           &p->certified,
                                           &p->p1_low,
                                           &p->p1_high,
                                           &p->rows_read})
              block(field);
          },
          [](int64_t) { return true; });
      if (HasFatalFailure()) return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, ExitHead, ::testing::ValuesIn(wanted_cases(exit_head_cases())),
                         CaseName());

// A list entry out of range: refused on the CPU, all rows invalid on CUDA.
TEST(ExitHeadShortlist, EntryOutOfRange) {
  ExitHeadCase c;
  c.hidden = {3, 16, Type::kF32, 0, 0, "normal", 1, "-"};
  c.weight = {40, 16, Type::kF32, 0, 0, "normal", 1, "-"};
  c.shortlist = 7;
  c.outputs = (1u << kStats) - 1;
  for (const Target& target : targets()) {
    for (int32_t bad : {-1, 40, INT32_MAX, INT32_MIN}) {
      SCOPED_TRACE(target.name() + ", entry " + std::to_string(bad));
      ExitHeadInputs in = make_inputs(c);
      in.shortlist.set_integer(4, bad);
      const std::unique_ptr<Instance> instance = instantiate(c, in, target);
      const exn_status status = run_once(target, instance->calls()[0]);
      if (target.cpu()) {
        EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
        const std::string error = exn_last_error();
        EXPECT_NE(error.find("shortlist"), std::string::npos) << error;
        EXPECT_NE(error.find(std::to_string(bad)), std::string::npos) << error;
        EXPECT_NE(error.find("39"), std::string::npos) << error;
        EXPECT_TRUE(instance->outputs_unchanged());
      } else {
        ASSERT_EQ(status, EXN_OK) << exn_last_error();
        const StatsExpected invalid =
            stats_oracle({{static_cast<double>(NAN)}, {}, {}}, c.normalizer, 1, 0);
        EXPECT_EQ(judge_stats(c.outputs, {invalid, invalid, invalid}, instance->outputs()), "");
      }
    }
  }
}

// A label that is no id: refused on the CPU, NaN on CUDA; -1 is none. Of one that is not listed the
// logarithm is -inf.
TEST(ExitHeadLabels, OutOfRange) {
  ExitHeadCase c;
  c.hidden = {70, 16, Type::kF32, 0, 0, "normal", 1, "-"};
  c.weight = {40, 16, Type::kF32, 0, 0, "normal", 1, "-"};
  c.outputs = 1u << kLabelLogP | 1u << kLse;
  for (const int64_t listed : {0, 7}) {
    c.shortlist = listed;
    for (const Target& target : targets()) {
      for (const int32_t bad : {-2, 40, INT32_MAX, INT32_MIN}) {
        SCOPED_TRACE(target.name() + ", label " + std::to_string(bad));
        ExitHeadInputs in = make_inputs(c);
        in.stats.labels.set_integer(66, bad);
        const std::unique_ptr<Instance> instance = instantiate(c, in, target);
        const exn_status status = run_once(target, instance->calls()[0]);
        if (target.cpu()) {
          EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
          EXPECT_STREQ(exn_last_error(), ("exn_exit_head: out.labels[66] is " +
                                          std::to_string(bad) + ", expected -1..39 (V is 40)")
                                             .c_str());
          EXPECT_TRUE(instance->outputs_unchanged());
          continue;
        }
        ASSERT_EQ(status, EXN_OK) << exn_last_error();
        in.stats.labels.set_integer(66, -1);
        EXPECT_EQ(judge_stats(c.outputs, exit_head_oracle(c, in), instance->outputs()), "");
      }
    }
  }
}

// A logit of -inf is a mask, listed or not.
TEST(ExitHeadLabels, Masked) {
  ExitHeadCase c;
  c.hidden = {41, 16, Type::kF32, 0, 0, "normal", 1, "-"};
  c.weight = {40, 16, Type::kF32, 0, 0, "normal", 1, "-"};
  c.bias = "normal";
  c.outputs = 1u << kLabelLogP;
  for (const int64_t listed : {0, 20}) {
    c.shortlist = listed;
    ExitHeadInputs in = make_inputs(c);
    in.bias.set(0, 12, -HUGE_VAL);
    for (int64_t row = 0; row < 41; ++row) in.stats.labels.set_integer(row, row - 1);
    const std::vector<StatsExpected> expected = exit_head_oracle(c, in);
    EXPECT_EQ(expected[13].stats[kLabelLogP].value, -HUGE_VAL);
    for (const Target& target : targets()) {
      SCOPED_TRACE(target.name());
      const std::unique_ptr<Instance> instance = instantiate(c, in, target);
      EXPECT_EQ(judge_stats(c.outputs, expected, outputs_of(target, instance)), "");
    }
  }
}

// Of a list in any order that has ids twice, as of a row without the others; a mask is never drawn.
// Products of small integers are exact, so every device draws the same.
TEST(ExitHeadDraws, OfAListAndWithMasks) {
  ExitHeadCase c;
  c.hidden = {70, 16, Type::kF32, 0, 0, "ties", 1, "-"};
  c.weight = {700, 16, Type::kF32, 0, 0, "ties", 1, "-"};
  c.bias = "normal";
  c.seed = 4;
  c.outputs = 1u << kDraw;
  for (const int64_t listed : {0, 5, 300}) {
    c.shortlist = listed;
    ExitHeadInputs in = make_inputs(c);
    for (int64_t id = 0; id < 700; ++id)
      in.bias.set(0, id, id % 5 == 0 ? -HUGE_VAL : static_cast<double>(id % 3));
    for (int64_t i = 0; i < listed; ++i)
      in.shortlist.set_integer(i,
                               i % 7 == 6 ? in.shortlist.integer_at(i - 1) : (i * 389 + 1) % 700);
    for (const Target& target : targets()) {
      SCOPED_TRACE(target.name() + ", " + std::to_string(listed) + " listed");
      const std::unique_ptr<Instance> instance = instantiate(c, in, target);
      const Outputs got = outputs_of(target, instance);
      EXPECT_EQ(judge_stats(c.outputs, exit_head_oracle(c, in), got), "");
      for (int64_t row = 0; row < 70; ++row) EXPECT_NE(got[0].integer_at(row) % 5, 0) << row;
    }
  }
}

// Where the logits are so large that no noise moves them, whatever the order of the list.
TEST(ExitHeadDraws, TiesGoToTheSmallestId) {
  ExitHeadCase c;
  c.hidden = {2, 16, Type::kF32, 0, 0, "ties", 1, "-"};
  c.weight = {1500, 16, Type::kF32, 0, 0, "ties", 1, "-"};
  c.bias = "normal";
  c.outputs = 1u << kDraw;
  for (const int64_t listed : {0, 1200}) {
    c.shortlist = listed;
    ExitHeadInputs in = make_inputs(c);
    for (int64_t id = 0; id < 1500; ++id) in.bias.set(0, id, id < 37 ? 0 : 3e9);
    for (int64_t i = 0; i < listed; ++i) in.shortlist.set_integer(i, 1499 - i);
    for (const Target& target : targets()) {
      SCOPED_TRACE(target.name());
      const std::unique_ptr<Instance> instance = instantiate(c, in, target);
      const Outputs got = outputs_of(target, instance);
      for (int64_t row = 0; row < 2; ++row)
        EXPECT_EQ(got[0].integer_at(row), listed == 0 ? 37 : 300);
    }
  }
}

// What a head of any size scores of a text takes no more memory than its tensors and some MB.
TEST(ExitHeadLabels, WorkspaceDoesNotGrow) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    use(target);
    for (const int64_t dim : {576, 1024}) {
      std::vector<int64_t> shapes[] = {{8192, dim}, {152064, dim}, {8192}, {8192}};
      const Type types[] = {Type::kBF16, Type::kBF16, Type::kI32, Type::kF32};
      DLTensor tensors[4];
      for (int i = 0; i < 4; ++i) {
        tensors[i] = {reinterpret_cast<void*>((uintptr_t{1} + i) << 52),
                      {target.cpu() ? kDLCPU : kDLCUDA, 0},
                      static_cast<int32_t>(shapes[i].size()),
                      dl_type(types[i]),
                      shapes[i].data(),
                      nullptr,
                      0};
      }
      exn_exit_head_params p = {};
      p.struct_size = sizeof p;
      p.hidden = &tensors[0];
      p.weight = &tensors[1];
      p.out.labels = &tensors[2];
      p.out.label_log_p = &tensors[3];
      p.temperature = 1;
      size_t bytes = 0;
      EXPECT_EQ(exn_exit_head_workspace_size(&p, &bytes), EXN_OK) << exn_last_error();
      EXPECT_LT(bytes, size_t{40} << 20);
    }
  }
}

TEST(ExitHeadMisuse, Blocks) {
  const Op<exn_exit_head_params> op = EXN_TEST_OP(exit_head);
  ExitHeadCase c;
  c.hidden = {2, 64, Type::kF32, 0, 0, "normal", 1, "-"};
  c.weight = {9, 64, Type::kU8, 0, 0, "normal", 0.25f, "-", EXN_BLOCKS_Q4_1};
  c.translator = {64, 64, Type::kU8, 0, 0, "normal", 0.25f, "-", EXN_BLOCKS_Q8_0};
  c.outputs = (1u << kStats) - 1;
  const std::unique_ptr<Instance> instance = instantiate(c, make_inputs(c), kCpu);
  const exn_exit_head_params& p = instance->params<exn_exit_head_params>();
  ASSERT_EQ(exn_exit_head_supported(&p), EXN_OK) << exn_last_error();
  // What belongs to a translator that is not there is looked at nevertheless.
  exn_exit_head_params none = p;
  none.translator_weight = nullptr;
  none.translator_blocks = 99;
  expect_refused(op, none, instance->written(), EXN_INVALID_ARGUMENT, {"translator_blocks", "99"});
  none.translator_blocks = EXN_BLOCKS_Q4_K;
  EXPECT_EQ(exn_exit_head_supported(&none), EXN_OK) << exn_last_error();
}

// What only asks reads a screen's header on the CPU, and no other memory of any tensor: of the image
// the header alone is there, of the others and on a device nothing.
TEST(ExitHeadScreen, WhatAsksReadsTheHeaderAlone) {
  constexpr int64_t kDim = 32, kVocabulary = 500;
  constexpr size_t kHeader = 4096;
  HostTensor head = normal(Type::kF32, {kVocabulary, kDim}),
             states = normal(Type::kF32, {40, kDim});
  Placed weight(kCpu, head), x(kCpu, states);
  exn_screen_params made = {};
  made.struct_size = sizeof made;
  made.weight = weight.dl();
  made.states = x.dl();
  made.level_count = 1;
  size_t bytes = 0;
  ASSERT_EQ(exn_screen_size(&made, &bytes), EXN_OK) << exn_last_error();
  Pages memory(bytes);
  std::vector<int64_t> shapes[] = {
      {static_cast<int64_t>(bytes)}, {3, kDim}, {kVocabulary, kDim}, {3}};
  DLTensor tensors[4];
  for (int i = 0; i < 4; ++i) {
    tensors[i] = {reinterpret_cast<void*>((uintptr_t{1} + i) << 52),
                  {kDLCPU, 0},
                  static_cast<int32_t>(shapes[i].size()),
                  dl_type(i == 0   ? Type::kU8
                          : i == 3 ? Type::kI32
                                   : Type::kF32),
                  shapes[i].data(),
                  nullptr,
                  0};
  }
  tensors[0].data = memory.begin();
  made.image = &tensors[0];
  ASSERT_EQ(exn_screen_build(&made), EXN_OK) << exn_last_error();
  exn_exit_head_params p = {};
  p.struct_size = sizeof p;
  p.screen = &tensors[0];
  p.hidden = &tensors[1];
  p.weight = &tensors[2];
  p.out.argmax = &tensors[3];
  p.temperature = 1;
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    use(target);
    const bool on_cpu = target.cpu();
    for (DLTensor& t : tensors) t.device.device_type = on_cpu ? kDLCPU : kDLCUDA;
    memory.forbid(0, bytes);
    if (on_cpu) memory.forbid_writing(0, kHeader);
    size_t needed = 0;
    EXPECT_EQ(exn_exit_head_supported(&p), EXN_OK) << exn_last_error();
    EXPECT_EQ(exn_exit_head_workspace_size(&p, &needed), EXN_OK) << exn_last_error();
    EXPECT_GT(needed, 0u);
  }
}

}  // namespace
}  // namespace exn::test
