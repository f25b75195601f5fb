// SPDX-License-Identifier: Apache-2.0
#include "linear/case.h"

#include <cstddef>
#include <cstring>
#include <set>

#include "misuse.h"

namespace exn::test {
namespace {
const Op<exn_linear_params> kOp = EXN_TEST_OP(linear);

class Linear : public ::testing::TestWithParam<LinearCase> {};

void expect_rows_alone(const LinearCase& c, const Target& target) {
  const std::unique_ptr<Instance> instance = instantiate(c, make_inputs(c), target);
  const Outputs all = outputs_of(target, instance);
  const auto in_tiles = [&](int64_t rows) {
    return target.cpu() && meets_in_tiles(c.weight.type, rows);
  };
  for (int64_t size : {1, 3, 8, 65}) {
    expect_blocks_agree(
        target, kOp, instance.get(), all, c.input.rows, size,
        [](exn_linear_params* p, BlockOfRows& block) {
          for (const DLTensor** field : {&p->input, &p->residual, &p->adapter_scale, &p->out}) {
            block(field);
          }
        },
        [&](int64_t) { return in_tiles(size) == in_tiles(c.input.rows); });
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST_P(Linear, RowsDoNotDependOnTheBatch) {
  const LinearCase& c = GetParam();
  if (c.input.rows < 2 || c.bench) GTEST_SKIP() << "one row, or a shape for benchmarks";
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    expect_rows_alone(c, target);
    if (HasFatalFailure()) return;
  }
}

// Nor do the parts into which a device cuts the depth.
TEST(LinearParts, DoNotDependOnTheBatch) {
  for (const LinearCase& c : linear_cases()) {
    if (c.id != "rows_65_dim_577_cols_33" && c.id != "eight_f32_rows_17") continue;
    for (const Target& target : targets()) {
      if (target.cpu()) continue;
      SCOPED_TRACE(c.id);
      expect_rows_alone(c, target);
      if (HasFatalFailure()) return;
    }
  }
}

// Up to 8 rows that can be read where they are take one launch on CUDA, though the depth is cut into
// parts; more take another, which adds them.
TEST(LinearLaunches, OneForFewRows) {
  const auto reset = reinterpret_cast<void (*)()>(emulator_function("simt_reset"));
  const auto launches = reinterpret_cast<uint64_t (*)()>(emulator_function("simt_launch_count"));
  if (reset == nullptr || launches == nullptr) GTEST_SKIP() << "no emulated device in this run";
  struct Types {
    Type input, weight;
    uint64_t of_many;
  };
  // With a merge; rows of f16 are widened before.
  for (const Types types : {Types{Type::kF32, Type::kBF16, 2}, Types{Type::kBF16, Type::kBF16, 2},
                            Types{Type::kF16, Type::kF16, 3}}) {
    for (int64_t rows : {1, 8, 9}) {
      SCOPED_TRACE(rows);
      LinearCase c;
      c.input = {rows, 192, types.input, 0, 0, "normal", 1, "-"};
      c.weight = {20, 192, types.weight, 0, 0, "normal", 0.25, "-"};
      const std::unique_ptr<Instance> instance = instantiate(c, make_inputs(c), targets().front());
      reset();
      ASSERT_EQ(run_once(targets().front(), instance->calls()[0]), EXN_OK) << exn_last_error();
      EXPECT_EQ(launches(), rows <= 8 ? 1 : types.of_many);
    }
  }
}

// Prompts meet bf16 weights in tiles, which take subnormal weights for zero, on the sets that have
// them and on no others: `amx` is the code of `avx512`, told so by its calls.
TEST(LinearTiles, AreThoseOfTheirSets) {
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    for (int64_t rows : {64, 65}) {
      SCOPED_TRACE(rows);
      LinearCase c;
      c.input = {rows, 40, Type::kF32, 0, 0, "normal", 1e30f, "-"};
      c.weight = {20, 40, Type::kBF16, 0, 0, "normal", 1e-39f, "-"};
      const Outputs all = outputs_of(target, instantiate(c, make_inputs(c), target));
      bool zeros = true;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t n = 0; n < 20; ++n) zeros &= all.front().at(r, n) == 0;
      }
      EXPECT_EQ(zeros, meets_in_tiles(Type::kBF16, rows));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Linear, ::testing::ValuesIn(wanted_cases(linear_cases())),
                         CaseName());

// In an exact case no sum that f32 forms may need more than 24 bits, in whatever order.
TEST(LinearTables, ExactSumsFit) {
  for (const LinearCase& c : linear_cases()) {
    if (!c.exact) continue;
    const LinearInputs in = make_inputs(c);
    double largest = 0;
    for (int64_t r = 0; r < in.input.rows; ++r) {
      double magnitude = 16;  // bias and residual
      const double weight =
          c.weight.blocks == EXN_BLOCKS_NONE ? 8 * static_cast<double>(c.weight.scale) : 128;
      for (int64_t i = 0; i < in.input.cols; ++i) {
        magnitude += std::fabs(in.input.at(r, i)) * weight;
      }
      largest = std::max(largest, magnitude);
    }
    EXPECT_LT(largest, 0x1p24) << c.id;
  }
}

// However many rows there are: of infinite and NaN weights and elements exactly those products are
// not finite that are so in plain arithmetic.
TEST(LinearWeights, NeedNotBeFinite) {
  HostTensor weight = normal(Type::kBF16, {37, 64}, 1), input = normal(Type::kF32, {70, 64});
  weight.set(3, 5, HUGE_VAL);
  weight.set(4, 44, -HUGE_VAL);
  weight.set(36, 7, std::nan(""));
  for (int64_t r = 0; r < 70; r += 3) input.set(r, 5, 0);   // 0 * infinity
  for (int64_t r = 0; r < 70; r += 5) input.set(r, 44, 1);  // exactly bf16: the other parts are 0
  input.set(7, 5, -HUGE_VAL);
  input.set(8, 11, HUGE_VAL);
  input.set(11, 12, std::nan(""));
  const uint32_t low_nan = 0x7f800001u;  // whose first half is that of an infinity
  std::memcpy(&input.bytes[static_cast<size_t>((14 * input.stride + 3) * 4)], &low_nan, 4);
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const auto product = [&](const HostTensor& rows) {
      Placed x(target, rows), w(target, weight),
          out(target, make_tensor(Type::kF32, {rows.rows, 37}));
      exn_linear_params p{};
      p.struct_size = sizeof p;
      p.input = x.dl();
      p.weight = w.dl();
      p.out = out.dl();
      EXPECT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
      return out.read();
    };
    const HostTensor all = product(input);
    for (int64_t r = 0; r < 70; ++r) {
      const HostTensor one = product(part_of(input, r, 1));
      for (int64_t w = 0; w < 37; ++w) {
        double sum = 0;
        for (int64_t d = 0; d < 64; ++d) sum += weight.at(w, d) * input.at(r, d);
        for (const double got : {all.at(r, w), one.at(0, w)}) {
          ASSERT_EQ(std::isnan(got), std::isnan(sum)) << "row " << r << ", weight row " << w;
          ASSERT_EQ(std::isinf(got), std::isinf(sum)) << "row " << r << ", weight row " << w;
          if (std::isinf(sum)) {
            ASSERT_EQ(got, sum);
          }
        }
      }
    }
  }
}

// A row whose factor is 0 does without an adapter, whatever that holds.
TEST(LinearAdapters, NeedNotBeFiniteWhereTheyAreOff) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    for (const bool is_up : {false, true}) {
      HostTensor down = normal(Type::kF32, {1, 5}, 2), up = normal(Type::kF32, {1, 3}, 3);
      (is_up ? up : down).set(0, 1, std::nan(""));
      HostTensor factors = make_tensor(Type::kF32, {2, 1});
      factors.set(0, 0, 0);
      factors.set(1, 0, 1);
      Placed x(target, normal(Type::kF32, {2, 5})), w(target, normal(Type::kF32, {3, 5}, 1)),
          v(target, down), u(target, up), s(target, factors),
          plain(target, make_tensor(Type::kF32, {2, 3})),
          out(target, make_tensor(Type::kF32, {2, 3}));
      exn_linear_params p{};
      p.struct_size = sizeof p;
      p.input = x.dl();
      p.weight = w.dl();
      p.out = plain.dl();
      ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
      p.out = out.dl();
      p.adapter_down = v.dl();
      p.adapter_up = u.dl();
      p.adapter_scale = s.dl();
      ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
      for (int64_t i = 0; i < 3; ++i) EXPECT_NEAR(out.read().at(0, i), plain.read().at(0, i), 1e-5);
      EXPECT_TRUE(std::isnan(out.read().at(1, 1))) << is_up;
    }
  }
}

// Inputs whose largest integers are just those that have two halves of eight bits, or would be one
// more, on either side of zero, and at the ends of what is scaled.
TEST(LinearBlocks, TakesTheLargestIntegers) {
  const Target cpu = {kDLCPU, exn_cpu_isa(), false};
  std::set<int32_t> formats;
  for (const LinearCase& c : linear_cases()) {
    if (c.weight.blocks == EXN_BLOCKS_NONE || in_panels(c.weight.blocks) ||
        c.input.type != Type::kF32 || c.bench || c.weight.fill != "normal" ||
        c.out_type != Type::kF32 || c.input.rows == 0) {
      continue;
    }
    if (!formats.insert(c.weight.blocks).second) continue;
    for (const double largest : {32639.0, 32639.49, 32639.5, 32639.51, 32640.0, 32767.9}) {
      for (const double scale : {0x1p-140, 0x1p-103, 0x1p-14, 0x1p60}) {
        SCOPED_TRACE(c.id + ", " + std::to_string(largest) + " times " + std::to_string(scale));
        LinearInputs in = make_inputs(c);
        for (int64_t r = 0; r < in.input.rows; ++r) {
          for (int64_t i = 0; i < in.input.cols; ++i) {
            in.input.set(r, i, (i % 3 == 1 ? -largest : largest - i % 5) * scale);
          }
        }
        const Outputs got = outputs_of(cpu, instantiate(c, in, cpu));
        EXPECT_EQ(compare("out", linear_oracle(c, in), got[0]), "");
      }
    }
  }
  EXPECT_EQ(formats.size(), 8u);
}

TEST(LinearMisuse, EveryArgument) {
  Placed input(kCpu, normal(Type::kF32, {3, 8})), weight(kCpu, normal(Type::kF32, {5, 8}, 1)),
      bias(kCpu, normal(Type::kF32, {5}));
  Placed residual(kCpu, normal(Type::kF32, {3, 5})), out(kCpu, poisoned(Type::kF32, {3, 5}, 2));
  Placed down(kCpu, normal(Type::kF32, {2, 8})), up(kCpu, normal(Type::kF32, {2, 5})),
      scale(kCpu, normal(Type::kF32, {3, 2}));
  exn_linear_params p = {};
  p.struct_size = sizeof p;
  p.input = input.dl();
  p.weight = weight.dl();
  p.bias = bias.dl();
  p.residual = residual.dl();
  p.out = out.dl();
  p.adapter_down = down.dl();
  p.adapter_up = up.dl();
  p.adapter_scale = scale.dl();
  const std::vector<Placed*> written = {&out};
  input.mutable_dl()->shape[1] = 0;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"D", "0", "1"});
  input.mutable_dl()->shape[1] = 8;
  weight.mutable_dl()->shape[0] = 0;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"N", "0", "1"});
}

HostTensor product_of(const Target& target, const HostTensor& input, const HostTensor& weight,
                      int32_t weight_blocks) {
  Placed x(target, input), w(target, weight),
      out(target, make_tensor(Type::kF32, {input.rows, weight.rows}));
  exn_linear_params p{};
  p.struct_size = sizeof p;
  p.input = x.dl();
  p.weight = w.dl();
  p.weight_blocks = weight_blocks;
  p.out = out.dl();
  EXPECT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
  return out.read();
}

// A weight row has the same bits alone and in any tile, wherever its blocks lie.
TEST(LinearBlocks, RowsStandAlone) {
  const Target cpu = {kDLCPU, exn_cpu_isa(), false};
  for (const BlockFormat& format : block_formats()) {
    SCOPED_TRACE(format.name);
    const int64_t rows = 43, dim = format.elements == 32 ? 32 * 13 : 512;
    HostTensor weight = make_blocks(format, rows, dim, 0, 0);
    fill_blocks(&weight, 5, 1, "normal", 0.25f, "-");
    for (const int64_t inputs : {1, 6}) {
      const HostTensor input = normal(Type::kF32, {inputs, dim});
      const auto product = [&](const HostTensor& some) {
        return product_of(cpu, input, some, format.tag);
      };
      const HostTensor all = product(weight);
      for (int64_t r = 0; r < rows; ++r) {
        HostTensor one = make_blocks(format, 1, dim, 0, r % 7);
        std::memcpy(one.bytes.data(), weight.bytes.data() + r * weight.stride,
                    static_cast<size_t>(weight.cols));
        const HostTensor alone = product(one);
        for (int64_t x = 0; x < inputs; ++x) ASSERT_EQ(alone.at(x, 0), all.at(x, r)) << "row " << r;
      }
    }
  }
}

// The bound of linear.h, beside the input as it is; that of 16 bits is not kept.
TEST(LinearBlocks, Int8KeepsItsBound) {
  const Target cpu = {kDLCPU, exn_cpu_isa(), false};
  int tested = 0;
  for (const LinearCase& c : linear_cases()) {
    if (c.rounding != EXN_INPUT_INT8 || c.adapts() || c.input.special != "-" ||
        c.weight.fill != "normal" || c.input.fill != "normal" || c.input.scale != 1.0f ||
        c.out_type != Type::kF32 || c.residual != "-" || c.input.rows == 0) {
      continue;
    }
    SCOPED_TRACE(c.id);
    const LinearInputs in = make_inputs(c);
    const Outputs got = outputs_of(cpu, instantiate(c, in, cpu));
    EXPECT_EQ(compare("out", linear_bounds(in, 1.0 / 254), got[0]), "");
    EXPECT_NE(compare("out", linear_bounds(in, 0x1p-15), got[0]), "");
    ++tested;
  }
  EXPECT_GT(tested, 30);
}

TEST(LinearMisuse, Int8WithoutBlocks) {
  const BlockFormat& format = block_formats().front();
  HostTensor blocks = make_blocks(format, 36, 64, 0, 0);
  fill_blocks(&blocks, 5, 1, "normal", 0.25f, "-");
  Placed input(kCpu, normal(Type::kF32, {3, 64})), out(kCpu, poisoned(Type::kF32, {3, 36}, 2));
  const std::vector<Placed*> written = {&out};
  const HostTensor rows = normal(Type::kF32, {36, 64}, 1);
  Placed dense(kCpu, rows), panels(kCpu, panels_of(rows)), quantised(kCpu, blocks);
  exn_linear_params p{};
  p.struct_size = sizeof p;
  p.input = input.dl();
  p.out = out.dl();
  p.input_rounding = EXN_INPUT_INT8;
  p.weight = dense.dl();
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT,
                 {"input_rounding is 1", "weight_blocks is 0"});
  p.weight = panels.dl();
  p.weight_blocks = EXN_BLOCKS_PACKED_F32;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT,
                 {"input_rounding is 1", "weight_blocks is 256"});
  p.weight = quantised.dl();
  p.weight_blocks = format.tag;
  EXPECT_EQ(exn_linear_supported(&p), EXN_OK) << exn_last_error();
  for (const Target& target : targets()) {
    if (target.cpu()) continue;
    Placed x(target, normal(Type::kF32, {3, 64})), w(target, blocks),
        z(target, make_tensor(Type::kF32, {3, 36}));
    exn_linear_params q = p;
    q.input = x.dl();
    q.weight = w.dl();
    q.out = z.dl();
    EXPECT_EQ(exn_linear_supported(&q), EXN_UNSUPPORTED);
    EXPECT_NE(std::string(exn_last_error()).find("input_rounding is 1"), std::string::npos);
  }
}

TEST(LinearMisuse, PanelsOfRows) {
  Placed input(kCpu, normal(Type::kF32, {3, 40})), out(kCpu, poisoned(Type::kF32, {3, 36}, 2));
  const std::vector<Placed*> written = {&out};
  for (const BlockFormat& format : panel_formats()) {
    SCOPED_TRACE(format.name);
    const std::string tag = std::to_string(format.tag), bytes = std::to_string(40 * format.bytes);
    const HostTensor rows = normal(type_in_panels(format.tag), {36, 40}, 1);
    Placed weight(kCpu, panels_of(rows)), dense(kCpu, rows);
    exn_linear_params p{};
    p.struct_size = sizeof p;
    p.input = input.dl();
    p.weight = weight.dl();
    p.out = out.dl();
    p.weight_blocks = format.tag;
    EXPECT_EQ(exn_linear_supported(&p), EXN_OK) << exn_last_error();
    const int64_t right = weight.dl()->shape[1];
    for (const int64_t size : {int64_t{0}, int64_t{40}, right + 1}) {
      weight.mutable_dl()->shape[1] = size;
    }
    weight.mutable_dl()->shape[1] = right;
    int64_t apart[] = {right + 4, 1};
    weight.mutable_dl()->strides = apart;
    weight.mutable_dl()->shape[0] = 30;
    out.mutable_dl()->shape[1] = 30;
    int64_t out_strides[] = {36, 1};
    out.mutable_dl()->strides = out_strides;
    weight.mutable_dl()->strides = nullptr;
    weight.mutable_dl()->byte_offset = 1;
    expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"weight", "aligned"});
    weight.mutable_dl()->byte_offset = 0;
    p.weight = dense.dl();
    expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"weight", "u8"});
    out.mutable_dl()->shape[1] = 36;
    out.mutable_dl()->strides = nullptr;
  }
}

// Rows from a multiple of 32 on are packed weights themselves, with the same products.
TEST(LinearPanels, StandAlone) {
  const Target cpu = {kDLCPU, exn_cpu_isa(), false};
  for (const BlockFormat& format : panel_formats()) {
    SCOPED_TRACE(format.name);
    const int64_t dim = 300, outputs = 170;
    const HostTensor rows = normal(type_in_panels(format.tag), {outputs, dim}, 1);
    for (const int64_t inputs : {1, 3, 17}) {
      const HostTensor input = normal(Type::kF32, {inputs, dim});
      const auto product = [&](const HostTensor& some) {
        return product_of(cpu, input, some, format.tag);
      };
      const HostTensor packed = panels_of(rows), all = product(packed);
      for (const int64_t first : {32, 96, 160}) {
        HostTensor some = make_blocks(format, outputs - first, dim, 0, 0);
        std::memcpy(some.bytes.data(), packed.bytes.data() + first * packed.stride,
                    some.bytes.size());
        const HostTensor part = product(some);
        for (int64_t x = 0; x < inputs; ++x) {
          for (int64_t n = first; n < outputs; ++n) ASSERT_EQ(part.at(x, n - first), all.at(x, n));
        }
      }
    }
  }
}

TEST(Blocks, RowBytes) {
  std::vector<int32_t> tags = {255, 256, 257, 260, 285, 286, 287};
  for (int32_t tag = -1; tag < 20; ++tag) tags.push_back(tag);
  for (const int32_t tag : tags) {
    const BlockFormat* const format = block_format(tag);
    for (const int64_t columns : {int64_t{-256}, int64_t{0}, int64_t{1}, int64_t{32}, int64_t{255},
                                  int64_t{256}, int64_t{4096}, int64_t{1} << 60, INT64_MAX - 255}) {
      int64_t bytes = -7;
      const exn_status status = exn_blocks_row_bytes(tag, columns, &bytes);
      const bool fits = format != nullptr && columns >= 0 && columns % format->elements == 0 &&
                        columns / format->elements <= INT64_MAX / format->bytes;
      EXPECT_EQ(status, fits ? EXN_OK : EXN_INVALID_ARGUMENT) << tag << ", " << columns;
      EXPECT_EQ(bytes, fits ? columns / format->elements * format->bytes : -7);
    }
  }
  EXPECT_EQ(exn_blocks_row_bytes(EXN_BLOCKS_Q4_K, 256, nullptr), EXN_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace exn::test
