// SPDX-License-Identifier: Apache-2.0
#include <exeunt/screen.h>

#include "base/screen.h"
#include "check.h"
#include "cpu/backend.h"
#include "image.h"
#include "params.h"

namespace exn {
namespace {

constexpr float kUsualBits = 5, kLeastBits = 4.5f, kMostBits = 8.5f;

// The head of one of these calls; D is not known but from its own row.
Matrix head_of(Check& check, const exn_screen_params& p, Need need) {
  Matrix m;
  const Blocks known = check.format("weight_blocks", p.weight_blocks);
  if (known == Blocks::kNone) {
    m = check.matrix("weight", p.weight, kFloats, Role::kIn, need);
  } else {
    m = check.matrix("weight", p.weight, kU8Only, Role::kIn, need);
    const BlockShape block = shape_of(known);
    if (check.ok() && p.weight != nullptr && m.cols % block.bytes != 0) {
      check.fail_argument("weight has %lld bytes in a row, but blocks of weight_blocks %d have %d",
                          static_cast<long long>(m.cols), p.weight_blocks, block.bytes);
    }
    m.cols = m.cols / block.bytes * block.elements;
    m.blocks = known;
  }
  if (p.weight == nullptr || !check.ok()) return m;
  if (check.device_type() != kDLCPU) check.fail_argument("weight is on cuda, expected cpu");
  check.at_least("V (rows of weight)", m.rows, 1);
  check.at_most("V (rows of weight)", m.rows, INT32_MAX);
  check.at_least("D (columns of weight)", m.cols, 1);
  check.at_most("D (columns of weight)", m.cols, kScreenMostDim);
  return m;
}

// The header of an image to be made, with as many columns of each format as come first to mind.
ScreenHeader planned(Check& check, const exn_screen_params& p, const Matrix& head) {
  ScreenHeader header = {};
  check.at_least("level_count", p.level_count, 1);
  check.at_most("level_count", p.level_count, kScreenMostLevels);
  check.reserved(p.header_only, "header_only");
  const float bits = p.bits_per_weight == 0 ? kUsualBits : p.bits_per_weight;
  if (!(bits >= kLeastBits && bits <= kMostBits)) {
    check.fail_argument("bits_per_weight is %g, expected 0 or %g..%g", static_cast<double>(bits),
                        static_cast<double>(kLeastBits), static_cast<double>(kMostBits));
  }
  if (!check.ok()) return header;
  std::memcpy(header.magic, kScreenMagic, sizeof header.magic);
  header.version = kScreenVersion;
  header.levels = p.level_count;
  header.vocabulary = head.rows;
  header.dim = head.cols;
  const int64_t blocks = (head.cols + 31) / 32, steps = screen_steps(blocks, bits);
  header.segments[0] = static_cast<int32_t>(steps / 4);
  header.segments[1] =
      static_cast<int32_t>(steps % 4 < blocks - steps / 4 ? steps % 4 : blocks - steps / 4);
  header.segments[2] = static_cast<int32_t>(blocks) - header.segments[0] - header.segments[1];
  header.groups = screen_groups(blocks);
  header.bits_per_weight = static_cast<float>(static_cast<double>(18 * blocks + 4 * steps) /
                                              (4 * static_cast<double>(blocks)));
  header.bytes = layout_of(header).bytes;
  return header;
}

exn_status size(const exn_screen_params* params, size_t* bytes) {
  constexpr const char* kName = "exn_screen_size";
  exn_screen_params p;
  const exn_status read = read_params(kName, params, &p);
  if (read != EXN_OK) return read;
  if (bytes == nullptr)
    return fail(EXN_INVALID_ARGUMENT, "%s: bytes is null, a place for the size is required", kName);
  Range ranges[4];
  Check check(kName, ranges);
  const ScreenHeader header = planned(check, p, head_of(check, p, Need::kRequired));
  if (check.ok()) *bytes = static_cast<size_t>(header.bytes);
  return check.status();
}

exn_status build(const exn_screen_params* params) {
  constexpr const char* kName = "exn_screen_build";
  exn_screen_params p;
  const exn_status read = read_params(kName, params, &p);
  if (read != EXN_OK) return read;
  Range ranges[8];
  Check check(kName, ranges);
  ScreenArgs a;
  a.weight = head_of(check, p, Need::kRequired);
  ScreenHeader header = planned(check, p, a.weight);
  a.states = check.matrix("states", p.states, kF32Only, Role::kIn);
  check.same("states", "columns", a.states.cols, "weight", a.weight.cols);
  a.levels = check.per_row<const int32_t>("levels", p.levels, kI32Only, Role::kIn, "states",
                                          a.states.rows, Need::kOptional);
  check.at_least("N (rows of states, of which D + level_count are needed)", a.states.rows,
                 a.weight.cols + p.level_count);
  const Vector image = image_of(check, p.image, Role::kOut, kScreenAlign);
  check.same("image", "bytes", image.size, "what exn_screen_size says", header.bytes);
  check.no_overlap();
  if (!check.ok()) return check.status();
  a.header = &header;
  a.image = static_cast<char*>(image.data);
  return cpu::build_screen(a);
}

exn_status check(const exn_screen_params* params, exn_screen_info* info) {
  constexpr const char* kName = "exn_screen_check";
  exn_screen_params p;
  const exn_status read = read_params(kName, params, &p);
  if (read != EXN_OK) return read;
  Range ranges[4];
  Check check(kName, ranges);
  const Vector image = image_of(check, p.image, Role::kIn, kScreenAlign);
  const Matrix head = head_of(check, p, Need::kOptional);
  check.absent("states", p.states, "only exn_screen_build takes them");
  check.absent("levels", p.levels, "only exn_screen_build takes them");
  check.one_of("header_only", p.header_only, 0, 1);
  if (!check.ok()) return check.status();
  const auto refuse = [&](const char* why) {
    return fail(EXN_INVALID_ARGUMENT, "%s: image %s", kName, why);
  };
  ScreenHeader header;
  if (const char* wrong = read_header(image, kScreenHeaderBytes, &header)) return refuse(wrong);
  if (p.weight != nullptr) {
    check.same("image", "rows", header.vocabulary, "weight", head.rows);
    check.same("image", "columns", header.dim, "weight", head.cols);
  }
  if (p.level_count != 0)
    check.same("image", "levels", header.levels, "level_count", p.level_count);
  if (!check.ok()) return check.status();
  if (p.header_only == 0) {
    if (const char* wrong = read_body(image, kScreenHeaderBytes, header)) return refuse(wrong);
  }
  if (p.weight != nullptr && p.header_only == 0) {
    if (!digest_of(head).is(header.head))
      return refuse("was made of another head than weight: the digest differs");
  }
  if (info != nullptr) {
    *info = {header.vocabulary, header.dim,    header.bytes,           header.states,
             header.levels,     header.groups, header.bits_per_weight, header.worst_ratio};
  }
  return EXN_OK;
}

}  // namespace
}  // namespace exn

extern "C" {

exn_status exn_screen_size(const exn_screen_params* params, size_t* bytes) {
  return exn::size(params, bytes);
}

exn_status exn_screen_build(const exn_screen_params* params) { return exn::build(params); }

exn_status exn_screen_check(const exn_screen_params* params, exn_screen_info* info) {
  return exn::check(params, info);
}

}  // extern "C"
