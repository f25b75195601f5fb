// SPDX-License-Identifier: Apache-2.0
// embedding on the CPU: a row of the table read, and one written, per id.
#include "../ids.h"
#include "base/args/embedding.h"
#include "block_elements.h"
#include "elements.h"
#include "rows.h"

namespace exn::cpu::EXN_ISA {
namespace {

template <class U>
EXN_SIMD U* out_row(const EmbeddingArgs& a, int64_t row) {
  return static_cast<U*>(a.out.data) + row * a.out.stride;
}

template <class T, class U>
void scale_row(const T* from, int64_t dim, f32v scale, U* to) {
  for_vectors(dim, [&](int64_t i, int n) EXN_FLAT {
    store_part(to + i, mul(load_part(from + i, n, 0.0f), scale), n);
  });
}

template <Blocks kFormat, class U>
void unpack_row(const uint8_t* from, int64_t dim, f32v scale, U* to) {
  constexpr BlockShape kShape = shape_of(kFormat);
  for (int64_t at = 0; at < dim; at += kShape.elements, from += kShape.bytes) {
    for_elements<kFormat>(from, [&](int i, f32v v) EXN_FLAT { store(to + at + i, mul(v, scale)); });
  }
}

// Calls f(from, to) with the row of the table and that of out for each id.
template <class T, class U, class F>
EXN_SIMD void for_ids(const EmbeddingArgs& a, F&& f) {
  parallel_for(a.out.rows, 32768 / a.out.cols + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      f(row_of<T>(a.table, a.ids[row]), out_row<U>(a, row));
  });
}

}  // namespace

exn_status embedding(const EmbeddingArgs& a, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  const exn_status status =
      check_ids("exn_embedding", "ids", a.ids, a.out.rows, 0, a.table.rows - 1);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "embedding"));
  const int64_t dim = a.out.cols;
  if (a.table.dtype == a.out.dtype && a.scale == 1) {
    for_rows(a.out.rows, dim * size_of(a.out.dtype),
             [&](int64_t row) { copy_row(a.table, a.ids[row], a.out, row); });
    return EXN_OK;
  }
  const f32v scale = set1(a.scale);
  with_float_type(a.out.dtype, [&](auto to) {
    using U = EXN_TYPE_OF(to);
    if (a.table.blocks != Blocks::kNone) {
      with_blocks(a.table.blocks, [&](auto format) {
        for_ids<uint8_t, U>(
            a, [&](const uint8_t* from, U* out) { unpack_row<format()>(from, dim, scale, out); });
      });
      return;
    }
    with_float_type(a.table.dtype, [&](auto from_type) {
      using T = EXN_TYPE_OF(from_type);
      for_ids<T, U>(a, [&](const T* from, U* out) { scale_row(from, dim, scale, out); });
    });
  });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
