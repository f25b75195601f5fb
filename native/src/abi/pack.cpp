// SPDX-License-Identifier: Apache-2.0
#include <exeunt/pack.h>

#include "base/pack.h"
#include "check.h"
#include "cpu/backend.h"
#include "image.h"
#include "params.h"

namespace exn {
namespace {

// The weight of one of these calls, and the header of its image but for the checksums.
Matrix weight_of(Check& check, const exn_pack_params& p, PackHeader* header) {
  Blocks known = Blocks::kNone;
  const bool dense = p.weight_blocks == EXN_BLOCKS_NONE;
  if (!dense && !blocks_of(p.weight_blocks, &known)) {
    check.fail_argument("weight_blocks is %d, expected 0, %s", p.weight_blocks, kBlockTags);
  }
  Matrix m = check.matrix("weight", p.weight, dense ? kFloats : kU8Only, Role::kIn);
  check.reserved(p.reserved);
  if (check.ok() && check.device_type() != kDLCPU) {
    check.fail_argument("weight is on cuda, expected cpu");
  }
  check.at_least("N (rows of weight)", m.rows, 1);
  if (!check.ok()) return m;
  if (dense) {
    check.at_least("D (columns of weight)", m.cols, 1);
    if (!check.ok()) return m;
  } else {
    const BlockShape block = shape_of(known);
    if (m.cols < 1 || m.cols % block.bytes != 0) {
      check.fail_argument("weight has %lld bytes in a row, but blocks of weight_blocks %d have %d",
                          static_cast<long long>(m.cols), p.weight_blocks, block.bytes);
      return m;
    }
    m.cols = m.cols / block.bytes * block.elements;
    m.blocks = known;
  }
  *header = {};
  std::memcpy(header->magic, kPackMagic, sizeof header->magic);
  header->version = kPackVersion;
  header->blocks = static_cast<int32_t>(dense                 ? panels_of(m.dtype)
                                        : cpu::reads_packed() ? packed(known)
                                                              : known);
  header->rows = m.rows;
  header->columns = m.cols;
  header->bytes = image_bytes(*header);
  return m;
}

exn_status size(const exn_pack_params* params, size_t* bytes) {
  constexpr const char* kName = "exn_pack_size";
  exn_pack_params p;
  const exn_status read = read_params(kName, params, &p);
  if (read != EXN_OK) return read;
  if (bytes == nullptr)
    return fail(EXN_INVALID_ARGUMENT, "%s: bytes is null, a place for the size is required", kName);
  Range ranges[4];
  Check check(kName, ranges);
  PackHeader header;
  weight_of(check, p, &header);
  if (check.ok()) *bytes = static_cast<size_t>(header.bytes);
  return check.status();
}

exn_status build(const exn_pack_params* params) {
  constexpr const char* kName = "exn_pack_build";
  exn_pack_params p;
  const exn_status read = read_params(kName, params, &p);
  if (read != EXN_OK) return read;
  Range ranges[4];
  Check check(kName, ranges);
  PackHeader header;
  const Matrix weight = weight_of(check, p, &header);
  const Vector image = image_of(check, p.image, Role::kOut, kPackAlign);
  if (check.ok()) check.same("image", "bytes", image.size, "what exn_pack_size says", header.bytes);
  check.no_overlap();
  if (!check.ok()) return check.status();
  char* const to = static_cast<char*>(image.data);
  const exn_status made = cpu::pack_rows(weight, to + kPackHeaderBytes);
  if (made != EXN_OK) return made;
  Digest body;
  body.bytes(to + kPackHeaderBytes, header.bytes - kPackHeaderBytes);
  body.take(header.body);
  header.own = own_digest(header);
  std::memset(to, 0, kPackHeaderBytes);
  std::memcpy(to, &header, sizeof header);
  return EXN_OK;
}

exn_status check(const exn_pack_params* params, exn_pack_info* info) {
  constexpr const char* kName = "exn_pack_check";
  exn_pack_params p;
  const exn_status read = read_params(kName, params, &p);
  if (read != EXN_OK) return read;
  Range ranges[4];
  Check check(kName, ranges);
  check.absent("weight", p.weight, "exn_pack_check takes an image alone");
  check.reserved(p.weight_blocks, "weight_blocks");
  check.reserved(p.reserved);
  const Vector image = image_of(check, p.image, Role::kIn, kPackAlign);
  if (!check.ok()) return check.status();
  const auto refuse = [&](const char* why) {
    return fail(EXN_INVALID_ARGUMENT, "%s: image %s", kName, why);
  };
  PackHeader header;
  if (const char* wrong = read_header(image, kPackHeaderBytes, &header)) return refuse(wrong);
  if (const char* wrong = read_body(image, kPackHeaderBytes, header)) return refuse(wrong);
  const auto blocks = static_cast<Blocks>(header.blocks);
  if (is_packed(blocks) && !in_panels(blocks) && !cpu::reads_packed()) {
    return fail(EXN_UNSUPPORTED, "%s: image was packed for vnni, avx512 or amx, this runs %s",
                kName, cpu::isa());
  }
  if (info != nullptr) {
    *info = {header.rows,
             header.columns,
             row_bytes(header),
             kPackHeaderBytes,
             header.bytes,
             header.blocks,
             0};
  }
  return EXN_OK;
}

}  // namespace
}  // namespace exn

extern "C" {

exn_status exn_pack_size(const exn_pack_params* params, size_t* bytes) {
  return exn::size(params, bytes);
}

exn_status exn_pack_build(const exn_pack_params* params) { return exn::build(params); }

exn_status exn_pack_check(const exn_pack_params* params, exn_pack_info* info) {
  return exn::check(params, info);
}

}  // extern "C"
