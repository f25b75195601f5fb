// SPDX-License-Identifier: Apache-2.0
// Packed rows of blocks (pack.h): ops answer with them bit by bit as they do in place, whatever the
// shape and the batch; images that are damaged, or not for this machine, are refused.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "blocks.h"
#include "tensor.h"

namespace exn::test {
namespace {

bool packs() {
  const std::string isa = exn_cpu_isa();
  return isa != "baseline" && isa != "avx2" && isa != "neon";
}

// A DLTensor and its shape, over memory that somebody else has.
class View {
 public:
  View(const void* data, DLDataType type, std::vector<int64_t> shape) : shape_(std::move(shape)) {
    dl_ = {const_cast<void*>(data),
           {kDLCPU, 0},
           static_cast<int32_t>(shape_.size()),
           type,
           shape_.data(),
           nullptr,
           0};
  }
  View(const View&) = delete;
  View& operator=(const View&) = delete;
  DLTensor* dl() { return &dl_; }

 private:
  std::vector<int64_t> shape_;
  DLTensor dl_;
};
constexpr DLDataType kBytes = {kDLUInt, 8, 1}, kFloats = {kDLFloat, 32, 1};

// Bytes at a multiple of 64.
struct Aligned {
  explicit Aligned(size_t size)
      : bytes(static_cast<int64_t>(size)),
        at(static_cast<char*>(::operator new(size, std::align_val_t{64})),
           [](void* p) { ::operator delete(p, std::align_val_t{64}); }) {}
  int64_t bytes;
  std::unique_ptr<char, void (*)(void*)> at;
};

exn_pack_params params_of(const DLTensor* weight, int32_t blocks, const DLTensor* image) {
  exn_pack_params p{};
  p.struct_size = sizeof p;
  p.weight = weight;
  p.weight_blocks = blocks;
  p.image = image;
  return p;
}

struct Packed {
  Packed(const HostTensor& weight, int32_t blocks) {
    View rows(weight.bytes.data(), kBytes, {weight.rows, weight.cols});
    exn_pack_params p = params_of(rows.dl(), blocks, nullptr);
    size_t bytes = 0;
    EXPECT_EQ(exn_pack_size(&p, &bytes), EXN_OK) << exn_last_error();
    image = std::make_unique<Aligned>(bytes);
    View to(image->at.get(), kBytes, {image->bytes});
    p.image = to.dl();
    EXPECT_EQ(exn_pack_build(&p), EXN_OK) << exn_last_error();
    p = params_of(nullptr, 0, to.dl());
    EXPECT_EQ(exn_pack_check(&p, &info), EXN_OK) << exn_last_error();
  }
  const char* rows() const { return image->at.get() + info.offset; }

  std::unique_ptr<Aligned> image;
  exn_pack_info info{};
};

std::vector<float> product(const void* rows, int32_t blocks, int64_t count, int64_t bytes,
                           const HostTensor& input, int32_t rounding = EXN_INPUT_INT16) {
  std::vector<float> out(static_cast<size_t>(count * input.rows));
  View w(rows, kBytes, {count, bytes}), z(out.data(), kFloats, {input.rows, count});
  View x(input.bytes.data(), kFloats, {input.rows, input.cols});
  exn_linear_params p{};
  p.struct_size = sizeof p;
  p.input = x.dl();
  p.weight = w.dl();
  p.out = z.dl();
  p.weight_blocks = blocks;
  p.input_rounding = rounding;
  size_t need = 0;
  EXPECT_EQ(exn_linear_workspace_size(&p, &need), EXN_OK) << exn_last_error();
  const Aligned workspace(need + 64);
  EXPECT_EQ(exn_linear(&p, workspace.at.get(), need, nullptr), EXN_OK) << exn_last_error();
  return out;
}

void expect_same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);
}

HostTensor rows_of(const BlockFormat& format, int64_t rows, int64_t cols, const char* fill) {
  HostTensor t = make_blocks(format, rows, cols, 0, 0);
  fill_blocks(&t, 5, 1, fill, 0.25f, "-");
  return t;
}

// Also that a row has the same bits alone and in every batch.
TEST(Pack, SameBitsAsInPlace) {
  std::vector<int64_t> lengths = {1, 2, 3, 4, 5, 8, 9, 12, 13, 16, 17, 20, 25, 32, 35, 48, 66, 79};
  std::vector<int64_t> batches = {1, 2, 3, 4, 5, 6, 7, 8, 13, 64, 70};
  if (std::getenv("EXEUNT_QUICK") != nullptr) {
    lengths = {1, 3, 4, 5, 9, 16, 17, 35};
    batches = {1, 2, 3, 4, 8, 13};
  }
  for (const BlockFormat& format : block_formats()) {
    for (const int64_t blocks : lengths) {
      const int64_t cols = blocks * format.elements, rows = 41;
      if (cols > 5000) continue;
      SCOPED_TRACE(std::string(format.name) + ", columns " + std::to_string(cols));
      const HostTensor weight = rows_of(format, rows, cols, blocks == 5 ? "extreme" : "normal");
      const Packed packed(weight, format.tag);
      EXPECT_EQ(packed.info.rows, rows);
      EXPECT_EQ(packed.info.columns, cols);
      EXPECT_EQ(packed.info.row_bytes, weight.cols);
      EXPECT_EQ(packed.info.bytes, packed.image->bytes);
      EXPECT_EQ(packed.info.blocks, format.tag + (packs() ? EXN_BLOCKS_PACKED : 0));
      for (const int32_t rounding : {EXN_INPUT_INT16, EXN_INPUT_INT8}) {
        SCOPED_TRACE("rounding " + std::to_string(rounding));
        std::vector<float> first;
        for (const int64_t inputs : batches) {
          SCOPED_TRACE("inputs " + std::to_string(inputs));
          const HostTensor input = make_bell(Type::kF32, {inputs, cols}, 7, 0, 1.0f);
          const std::vector<float> in_place =
              product(weight.bytes.data(), format.tag, rows, weight.cols, input, rounding);
          expect_same_bits(in_place, product(packed.rows(), packed.info.blocks, rows,
                                             packed.info.row_bytes, input, rounding));
          if (inputs == 1) first = in_place;
          expect_same_bits(first, {in_place.begin(), in_place.begin() + rows});
        }
      }
    }
  }
}

// Runs an op whose params the caller has filled in.
template <class Params>
void run(const Params& p, exn_status (*size)(const Params*, size_t*),
         exn_status (*op)(const Params*, void*, size_t, exn_stream)) {
  size_t need = 0;
  ASSERT_EQ(size(&p, &need), EXN_OK) << exn_last_error();
  const Aligned workspace(need + 64);
  ASSERT_EQ(op(&p, workspace.at.get(), need, nullptr), EXN_OK) << exn_last_error();
}

// Rows of an operand, in place or packed.
struct Operand {
  Operand(const HostTensor& weight, const Packed* packed, int32_t format)
      : view(
            packed != nullptr ? packed->rows() : reinterpret_cast<const char*>(weight.bytes.data()),
            kBytes, {weight.rows, weight.cols}),
        blocks(packed != nullptr ? packed->info.blocks : format) {}
  View view;
  int32_t blocks;
};

TEST(Pack, OtherOps) {
  for (const BlockFormat& format : block_formats()) {
    SCOPED_TRACE(format.name);
    const int64_t dim = 768, wide = 512, inputs = 3;
    const HostTensor up = rows_of(format, wide, dim, "normal");
    const HostTensor down = rows_of(format, dim, wide, "normal");
    const HostTensor square = rows_of(format, dim, dim, "normal");
    const HostTensor two = rows_of(format, 2, dim, "normal");
    const Packed packed_up(up, format.tag), packed_down(down, format.tag);
    const Packed packed_square(square, format.tag), packed_two(two, format.tag);
    const HostTensor input = make_bell(Type::kF32, {inputs, dim}, 7, 0, 1.0f);
    View x(input.bytes.data(), kFloats, {inputs, dim});
    std::vector<float> ffn[2], gate[2], largest[2];
    std::vector<int32_t> argmax[2];
    for (const int p : {0, 1}) {
      Operand u(up, p ? &packed_up : nullptr, format.tag);
      Operand d(down, p ? &packed_down : nullptr, format.tag);
      Operand s(square, p ? &packed_square : nullptr, format.tag);
      Operand o(two, p ? &packed_two : nullptr, format.tag);
      ffn[p].resize(static_cast<size_t>(inputs * dim));
      View ffn_out(ffn[p].data(), kFloats, {inputs, dim});
      exn_ffn_params f{};
      f.struct_size = sizeof f;
      f.hidden = x.dl();
      f.up_weight = u.view.dl();
      f.gate_weight = u.view.dl();
      f.down_weight = d.view.dl();
      f.out = ffn_out.dl();
      f.norm = EXN_NORM_NONE;
      f.up_blocks = u.blocks;
      f.gate_blocks = u.blocks;
      f.down_blocks = d.blocks;
      run(f, exn_ffn_workspace_size, exn_ffn);
      gate[p].resize(static_cast<size_t>(inputs));
      View prob(gate[p].data(), kFloats, {inputs});
      exn_gate_params g{};
      g.struct_size = sizeof g;
      g.features = x.dl();
      g.hidden_weight = s.view.dl();
      g.out_weight = o.view.dl();
      g.prob = prob.dl();
      g.kind = EXN_GATE_RESIDUAL;
      g.repeats = 2;
      g.hidden_blocks = s.blocks;
      g.out_blocks = o.blocks;
      run(g, exn_gate_workspace_size, exn_gate);
      const int32_t listed[] = {501, 3, 77, 4, 500, 1, 2};
      View list(listed, {kDLInt, 32, 1}, {7});
      for (DLTensor* shortlist : {static_cast<DLTensor*>(nullptr), list.dl()}) {
        std::vector<int32_t> best(static_cast<size_t>(inputs));
        std::vector<float> logit(static_cast<size_t>(inputs));
        View best_view(best.data(), {kDLInt, 32, 1}, {inputs}), z(logit.data(), kFloats, {inputs});
        exn_exit_head_params h{};
        h.struct_size = sizeof h;
        h.hidden = x.dl();
        h.weight = u.view.dl();
        h.weight_blocks = u.blocks;
        h.translator_weight = s.view.dl();
        h.translator_blocks = s.blocks;
        h.shortlist = shortlist;
        h.norm = EXN_NORM_NONE;
        h.temperature = 1;
        h.out.argmax = best_view.dl();
        h.out.max_logit = z.dl();
        run(h, exn_exit_head_workspace_size, exn_exit_head);
        argmax[p].insert(argmax[p].end(), best.begin(), best.end());
        largest[p].insert(largest[p].end(), logit.begin(), logit.end());
      }
    }
    expect_same_bits(ffn[0], ffn[1]);
    expect_same_bits(gate[0], gate[1]);
    expect_same_bits(largest[0], largest[1]);
    EXPECT_EQ(argmax[0], argmax[1]);
  }
}

// Rows with gaps between them become rows without.
TEST(Pack, RowsApart) {
  for (const BlockFormat& format : block_formats()) {
    SCOPED_TRACE(format.name);
    const int64_t cols = format.elements == 32 ? 32 * 19 : 768, rows = 7;
    HostTensor apart = make_blocks(format, rows, cols, 5, 3);
    fill_blocks(&apart, 5, 1, "normal", 0.25f, "-");
    HostTensor plain = make_blocks(format, rows, cols, 0, 0);
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(plain.bytes.data() + r * plain.stride, apart.bytes.data() + r * apart.stride,
                  static_cast<size_t>(plain.cols));
    }
    const Packed expected(plain, format.tag);
    int64_t shape[2] = {rows, apart.cols}, strides[2] = {apart.stride, 1};
    DLTensor dl = {apart.bytes.data(), {kDLCPU, 0}, 2, kBytes, shape, strides, 0};
    const Aligned image(static_cast<size_t>(expected.image->bytes));
    View to(image.at.get(), kBytes, {image.bytes});
    const exn_pack_params p = params_of(&dl, format.tag, to.dl());
    ASSERT_EQ(exn_pack_build(&p), EXN_OK) << exn_last_error();
    EXPECT_EQ(
        std::memcmp(image.at.get(), expected.image->at.get(), static_cast<size_t>(image.bytes)), 0);
  }
}

// Rows without blocks: the panels that pack.h describes, for every set. Their products are judged by
// the cases of linear.
TEST(Pack, Panels) {
  for (const Type type : {Type::kF32, Type::kF16, Type::kBF16}) {
    for (const int64_t rows : {1, 31, 32, 33, 64, 100}) {
      for (const int64_t cols : {1, 7, 640}) {
        SCOPED_TRACE(std::string(name_of(type)) + ", " + std::to_string(rows) + " x " +
                     std::to_string(cols));
        HostTensor weight = make_tensor(type, {rows, cols}, 3);
        fill(&weight, 5, 1, "normal", 0.25f, "-");
        const HostTensor expected = panels_of(weight);
        int64_t shape[2] = {rows, cols}, strides[2] = {weight.stride, 1};
        DLTensor dl = {weight.bytes.data(), {kDLCPU, 0}, 2, dl_type(type), shape, strides, 0};
        exn_pack_params p = params_of(&dl, EXN_BLOCKS_NONE, nullptr);
        size_t bytes = 0;
        ASSERT_EQ(exn_pack_size(&p, &bytes), EXN_OK) << exn_last_error();
        const Aligned image(bytes);
        View to(image.at.get(), kBytes, {image.bytes});
        p.image = to.dl();
        ASSERT_EQ(exn_pack_build(&p), EXN_OK) << exn_last_error();
        p = params_of(nullptr, 0, to.dl());
        exn_pack_info info{};
        ASSERT_EQ(exn_pack_check(&p, &info), EXN_OK) << exn_last_error();
        EXPECT_EQ(info.rows, rows);
        EXPECT_EQ(info.columns, cols);
        EXPECT_EQ(info.row_bytes, cols * size_of(type));
        EXPECT_EQ(info.blocks, expected.blocks);
        EXPECT_EQ(info.offset + rows * info.row_bytes, info.bytes);
        EXPECT_EQ(std::memcmp(image.at.get() + info.offset, expected.bytes.data(),
                              static_cast<size_t>(rows * info.row_bytes)),
                  0);
      }
    }
  }
}

// ---- what is refused ----

void expect_refused(exn_status status, exn_status wanted, const std::vector<std::string>& words) {
  EXPECT_EQ(status, wanted);
  for (const std::string& word : words) {
    EXPECT_NE(std::string(exn_last_error()).find(word), std::string::npos)
        << "'" << word << "' in: " << exn_last_error();
  }
}

TEST(PackMisuse, Arguments) {
  const BlockFormat& format = *block_format(EXN_BLOCKS_Q4_0);
  const HostTensor weight = rows_of(format, 3, 640, "normal");
  View rows(weight.bytes.data(), kBytes, {3, weight.cols});
  size_t bytes = 7;
  const auto size = [&](const exn_pack_params& p) { return exn_pack_size(&p, &bytes); };
  exn_pack_params p = params_of(rows.dl(), format.tag, nullptr);
  expect_refused(exn_pack_size(nullptr, &bytes), EXN_INVALID_ARGUMENT, {"params"});
  expect_refused(exn_pack_size(&p, nullptr), EXN_INVALID_ARGUMENT, {"bytes", "null"});
  p.weight = nullptr;
  expect_refused(size(p), EXN_INVALID_ARGUMENT, {"weight", "null"});
  p.weight = rows.dl();
  for (const int32_t tag : {-1, 1, 15, 256, 258, 286}) {
    p.weight_blocks = tag;
    expect_refused(size(p), EXN_INVALID_ARGUMENT, {"weight_blocks", std::to_string(tag)});
  }
  p.weight_blocks = EXN_BLOCKS_NONE;
  expect_refused(size(p), EXN_INVALID_ARGUMENT, {"weight", "u8", "f32"});
  p.weight_blocks = EXN_BLOCKS_Q5_0;
  expect_refused(size(p), EXN_INVALID_ARGUMENT, {"weight", "360", "22"});
  p.weight_blocks = format.tag;
  p.reserved = 1;
  expect_refused(size(p), EXN_INVALID_ARGUMENT, {"reserved", "1"});
  p.reserved = 0;
  rows.dl()->shape[0] = 0;
  expect_refused(size(p), EXN_INVALID_ARGUMENT, {"N", "0", "1"});
  rows.dl()->shape[0] = 3;
  EXPECT_EQ(bytes, 7u);
  ASSERT_EQ(size(p), EXN_OK);
  const Aligned image(bytes + 64);
  std::memset(image.at.get(), 9, bytes + 64);
  View short_one(image.at.get(), kBytes, {static_cast<int64_t>(bytes) - 1});
  p.image = short_one.dl();
  expect_refused(exn_pack_build(&p), EXN_INVALID_ARGUMENT, {"image", std::to_string(bytes)});
  View odd(image.at.get() + 1, kBytes, {static_cast<int64_t>(bytes)});
  p.image = odd.dl();
  expect_refused(exn_pack_build(&p), EXN_INVALID_ARGUMENT, {"image", "aligned", "64"});
  p.image = nullptr;
  expect_refused(exn_pack_build(&p), EXN_INVALID_ARGUMENT, {"image", "null"});
  for (size_t i = 0; i < bytes; ++i) ASSERT_EQ(image.at.get()[i], 9);
}

TEST(PackMisuse, HostileImages) {
  const BlockFormat& format = *block_format(EXN_BLOCKS_Q8_0);
  const Packed packed(rows_of(format, 5, 576, "normal"), format.tag);
  const int64_t size = packed.image->bytes;
  const auto check = [&](int64_t bytes, const std::function<void(char*)>& spoil) {
    const Aligned copy(static_cast<size_t>(size) + 64);
    std::memset(copy.at.get(), 0, static_cast<size_t>(copy.bytes));
    std::memcpy(copy.at.get(), packed.image->at.get(), static_cast<size_t>(size));
    spoil(copy.at.get());
    View view(copy.at.get(), kBytes, {bytes});
    const exn_pack_params p = params_of(nullptr, 0, view.dl());
    exn_pack_info info = {};
    info.rows = -7;
    const exn_status status = exn_pack_check(&p, &info);
    EXPECT_EQ(info.rows, status == EXN_OK ? 5 : -7);
    return status;
  };
  const auto nothing = [](char*) {};
  EXPECT_EQ(check(size, nothing), EXN_OK);
  expect_refused(check(100, nothing), EXN_INVALID_ARGUMENT, {"image", "shorter"});
  expect_refused(check(size - 1, nothing), EXN_INVALID_ARGUMENT, {"image", "not as long"});
  expect_refused(check(size + 1, nothing), EXN_INVALID_ARGUMENT, {"image", "not as long"});
  for (int64_t i = 0; i < size; i += i < 80 ? 1 : 97) {
    EXPECT_EQ(check(size, [&](char* at) { at[i] ^= 4; }), EXN_INVALID_ARGUMENT) << "byte " << i;
  }
  exn_pack_params p = params_of(nullptr, 0, nullptr);
  expect_refused(exn_pack_check(&p, nullptr), EXN_INVALID_ARGUMENT, {"image", "null"});
  // What only the other two functions take.
  View view(packed.image->at.get(), kBytes, {size});
  p.image = view.dl();
  ASSERT_EQ(exn_pack_check(&p, nullptr), EXN_OK) << exn_last_error();
  p.weight_blocks = format.tag;
  expect_refused(exn_pack_check(&p, nullptr), EXN_INVALID_ARGUMENT,
                 {"weight_blocks", std::to_string(format.tag), "0"});
  p.weight_blocks = 0;
  p.reserved = 7;
  expect_refused(exn_pack_check(&p, nullptr), EXN_INVALID_ARGUMENT, {"reserved", "7", "0"});
  p.reserved = 0;
  p.weight = view.dl();
  expect_refused(exn_pack_check(&p, nullptr), EXN_INVALID_ARGUMENT, {"weight", "image alone"});
}

// linear alone takes panels.
TEST(PackMisuse, PanelsElsewhere) {
  const HostTensor rows = panels_of(make_bell(Type::kBF16, {40, 64}, 5, 1, 1.0f));
  std::vector<float> x(64), z(40);
  std::vector<int32_t> id(1);
  View input(x.data(), kFloats, {1, 64}), out(z.data(), kFloats, {1, 40});
  View weight(rows.bytes.data(), kBytes, {40, 128});
  View best(id.data(), {kDLInt, 32, 1}, {1});
  exn_linear_params p{};
  p.struct_size = sizeof p;
  p.input = input.dl();
  p.weight = weight.dl();
  p.out = out.dl();
  p.weight_blocks = EXN_BLOCKS_PACKED_BF16;
  EXPECT_EQ(exn_linear_supported(&p), EXN_OK) << exn_last_error();
  exn_exit_head_params h{};
  h.struct_size = sizeof h;
  h.hidden = input.dl();
  h.weight = weight.dl();
  h.weight_blocks = EXN_BLOCKS_PACKED_BF16;
  h.norm = EXN_NORM_NONE;
  h.temperature = 1;
  h.out.argmax = best.dl();
  expect_refused(exn_exit_head_supported(&h), EXN_INVALID_ARGUMENT,
                 {"weight_blocks", "286", "panels", "linear"});
}

// Where rows are rearranged, other sets refuse the tag, in exn_pack_check and in ops, and so do those
// who unpack single rows.
TEST(PackMisuse, ElsewherePacked) {
  const BlockFormat& format = *block_format(EXN_BLOCKS_Q4_K);
  const Packed packed(rows_of(format, 4, 512, "normal"), format.tag);
  const int32_t tag = format.tag + EXN_BLOCKS_PACKED;
  std::vector<float> x(512), z(4);
  View input(x.data(), kFloats, {1, 512}), out(z.data(), kFloats, {1, 4});
  View rows(packed.rows(), kBytes, {4, packed.info.row_bytes});
  exn_linear_params p{};
  p.struct_size = sizeof p;
  p.input = input.dl();
  p.weight = rows.dl();
  p.out = out.dl();
  p.weight_blocks = tag;
  View image(packed.image->at.get(), kBytes, {packed.image->bytes});
  const exn_pack_params whole = params_of(nullptr, 0, image.dl());
  EXPECT_EQ(exn_linear_supported(&p), packs() ? EXN_OK : EXN_UNSUPPORTED);
  const std::string isa = exn_cpu_isa();
  if (packs() && exn_cpu_set_isa("baseline") == EXN_OK) {
    expect_refused(exn_linear_supported(&p), EXN_UNSUPPORTED,
                   {"weight_blocks", std::to_string(tag), "baseline"});
    expect_refused(exn_pack_check(&whole, nullptr), EXN_UNSUPPORTED, {"image", "baseline"});
    ASSERT_EQ(exn_cpu_set_isa(isa.c_str()), EXN_OK);
  }
  for (const int32_t wrong : {260, 285, 511, 512 + format.tag}) {
    p.weight_blocks = wrong;
    expect_refused(exn_linear_supported(&p), EXN_INVALID_ARGUMENT,
                   {"weight_blocks", std::to_string(wrong)});
  }
  std::vector<int32_t> id(1);
  std::vector<float> unpacked(512);
  View ids(id.data(), {kDLInt, 32, 1}, {1}), to(unpacked.data(), kFloats, {1, 512});
  exn_embedding_params e{};
  e.struct_size = sizeof e;
  e.table = rows.dl();
  e.table_blocks = tag;
  e.ids = ids.dl();
  e.out = to.dl();
  e.scale = 1;
  expect_refused(exn_embedding_supported(&e), EXN_INVALID_ARGUMENT,
                 {"table_blocks", std::to_string(tag)});
  int64_t bytes = 0;
  EXPECT_EQ(exn_blocks_row_bytes(tag, 512, &bytes), EXN_OK);
  EXPECT_EQ(bytes, packed.info.row_bytes);
  for (const int32_t wrong : {260, 285, 511, 512 + format.tag}) {
    EXPECT_EQ(exn_blocks_row_bytes(wrong, 512, &bytes), EXN_INVALID_ARGUMENT);
  }
}

}  // namespace
}  // namespace exn::test
