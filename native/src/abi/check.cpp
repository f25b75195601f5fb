// SPDX-License-Identifier: Apache-2.0
#include "check.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "cpu/backend.h"

namespace exn {
namespace {

void list_dtypes(DTypes set, char* text, size_t size) {
  text[0] = 0;
  size_t used = 0;
  for (int i = 0; i < 7; ++i) {
    if (!(set >> i & 1)) continue;
    const int n = std::snprintf(text + used, size - used, "%s%s", used ? " or " : "",
                                name_of(static_cast<DType>(i)));
    used += n > 0 ? static_cast<size_t>(n) : 0;
  }
}

const char* device_name(int32_t type) {
  return type == kDLCPU ? "cpu" : type == kDLCUDA ? "cuda" : "unknown device type";
}

// What a product of counts from several tensors may be.
constexpr int64_t kMostProduct = int64_t{1} << 56;

// stride * count within what a tensor may span. Not by a division, which takes longer than the rest
// of a tensor's checks.
bool spans(int64_t stride, int64_t count) { return product(stride, count) <= kMostElements; }

bool is_empty(const DLTensor* t) {
  for (int32_t i = 0; i < t->ndim; ++i) {
    if (t->shape[i] == 0) return true;
  }
  return false;
}

// Whether what is given in two parts lies beyond the last address; `at` is their sum.
bool begins_beyond(const DLTensor* t, uintptr_t* at) {
  return __builtin_add_overflow(reinterpret_cast<uintptr_t>(t->data), t->byte_offset, at);
}

int64_t stride_of(const DLTensor* t, int32_t axis) {
  if (t->strides != nullptr) return t->strides[axis];
  int64_t stride = 1;
  for (int32_t i = t->ndim - 1; i > axis; --i) stride *= t->shape[i];
  return stride;
}

}  // namespace

alignas(64) char Check::nothing_[64];

bool blocks_of(int32_t tag, Blocks* blocks) {
  *blocks = static_cast<Blocks>(tag);
  if (!is_packed(*blocks) && shape_of(*blocks).elements > 0) return true;
  *blocks = Blocks::kNone;
  return false;
}

bool panels_of(int32_t tag, Blocks* blocks) {
  *blocks = static_cast<Blocks>(tag);
  if (in_panels(*blocks)) return true;
  *blocks = Blocks::kNone;
  return false;
}

const char* name_of(DType t) {
  static constexpr const char* kNames[] = {"f32", "f16", "bf16", "f64", "i32", "i64", "u8"};
  return kNames[static_cast<int32_t>(t)];
}

void Check::fail_argument(const char* format, ...) {
  if (!ok()) return;
  char text[768];
  int used = 0;
  if (item_ >= 0) used = std::snprintf(text, sizeof text, "%s[%d].", list_, item_);
  va_list args;
  va_start(args, format);
  std::vsnprintf(text + used, sizeof text - static_cast<size_t>(used), format, args);
  va_end(args);
  status_ = fail(EXN_INVALID_ARGUMENT, "%s: %s", op_, text);
}

void Check::wrong_dtype(const char* name, const DLDataType& got, DTypes allowed) {
  char wanted[64];
  list_dtypes(allowed, wanted, sizeof wanted);
  DType dtype;
  if (dtype_of(got, kAnything, &dtype)) {
    fail_argument("%s has dtype %s, expected %s", name, name_of(dtype), wanted);
  } else {
    fail_argument("%s has dtype (code %d, bits %d, lanes %d), expected %s", name, got.code,
                  got.bits, got.lanes, wanted);
  }
}

void Check::wrong_rank(const char* name, int32_t rank, Ranks ranks) {
  if (ranks.least == ranks.most) {
    fail_argument("%s has rank %d, expected %d", name, rank, ranks.least);
  } else {
    fail_argument("%s has rank %d, expected %d%s%d", name, rank, ranks.least,
                  ranks.most == ranks.least + 1 ? " or " : "..", ranks.most);
  }
}

void Check::product_in_range(std::initializer_list<Count> counts) {
  if (!ok()) return;
  int64_t all = 1;
  for (const Count& count : counts) all = product(all, std::max<int64_t>(count.value, 1));
  if (all <= kMostProduct) return;
  char text[512];
  size_t used = 0;
  for (const Count& count : counts) {
    const int n = std::snprintf(text + used, sizeof text - used, "%s%s is %lld",
                                used > 0 ? ", " : "", count.name, wide(count.value));
    used = std::min(used + static_cast<size_t>(n), sizeof text - 1);
  }
  fail_argument("%s: their product exceeds %lld", text, wide(kMostProduct));
}

bool Check::tensor(const char* name, const DLTensor* t, Ranks ranks, DTypes allowed, Need need,
                   DType* dtype) {
  if (!ok()) return false;
  if (t == nullptr) {
    if (need == Need::kRequired) fail_argument("%s is null, a tensor is required", name);
    return false;
  }
  if (!dtype_of(t->dtype, allowed, dtype)) {
    wrong_dtype(name, t->dtype, allowed);
    return false;
  }
  int32_t type;  // by its bytes: in C++ an enum must not hold a value that it does not name
  std::memcpy(&type, &t->device.device_type, sizeof type);
  if (type != kDLCPU && type != kDLCUDA) {
    fail_argument("%s has device type %d, expected 1 (cpu) or 2 (cuda)", name, type);
    return false;
  }
  if (device_of_ == nullptr) {
    device_of_ = name;
    device_ = t->device;
  } else if (type != device_type() || t->device.device_id != device_id()) {
    fail_argument("%s is on %s:%d, but %s is on %s:%d", name, device_name(type),
                  t->device.device_id, device_of_, device_name(device_type()), device_id());
    return false;
  }
  // Before anything goes through the shape, which may have fewer entries than the rank says.
  if (t->ndim < ranks.least || t->ndim > ranks.most) {
    wrong_rank(name, t->ndim, ranks);
    return false;
  }
  if (t->ndim > 0 && t->shape == nullptr) {
    fail_argument("%s has rank %d, but its shape is null", name, t->ndim);
    return false;
  }
  // Without its zeros: what an empty tensor's other sizes make is multiplied out in strides.
  int64_t elements = 1;
  for (int32_t i = 0; i < t->ndim; ++i) {
    const int64_t size = t->shape[i];
    if (size < 0) {
      fail_argument("%s has size %lld in axis %d, expected at least 0", name, wide(size), i);
      return false;
    }
    elements = product(elements, size > 0 ? size : 1);
    if (elements > kMostElements) {
      fail_argument("%s has size %lld in axis %d, with which it exceeds %lld elements", name,
                    wide(size), i, wide(kMostElements));
      return false;
    }
  }
  return true;
}

// `extent` elements from the first to the last. Of an empty tensor neither pointer nor strides mean
// anything.
void* Check::data(const char* name, const DLTensor* t, DType dtype, int64_t extent) {
  if (extent == 0) return nothing_;
  if (t->data == nullptr) {
    fail_argument("%s has data null, but %lld elements", name, wide(extent));
    return nullptr;
  }
  uintptr_t at;
  if (begins_beyond(t, &at)) {
    fail_argument("%s has data %p and byte_offset %llu, together beyond the last address", name,
                  t->data, static_cast<unsigned long long>(t->byte_offset));
  }
  void* p = reinterpret_cast<void*>(at);
  const uintptr_t align = static_cast<uintptr_t>(size_of(dtype));  // a power of two
  if ((at & (align - 1)) != 0) {
    fail_argument("%s is at address %p, which is not aligned to its %d-byte element", name, p,
                  static_cast<int>(align));
  }
  return p;
}

bool Check::compact(const char* name, const DLTensor* t) {
  if (t->strides == nullptr || is_empty(t)) return true;
  int64_t expected = 1;
  for (int32_t i = t->ndim - 1; i >= 0; --i) {
    if (t->shape[i] != 1 && t->strides[i] != expected) {
      fail_argument("%s has stride %lld in axis %d, a compact tensor needs %lld", name,
                    wide(t->strides[i]), i, wide(expected));
      return false;
    }
    expected *= t->shape[i];
  }
  return true;
}

void Check::too_wide(const char* name, int64_t stride, int64_t count, const char* of) {
  fail_argument("%s has %s %lld, too large for %lld of them", name, of, wide(stride), wide(count));
}

namespace {

// Bytes from row to row where there are gaps between them, else 0.
int64_t pitch_of(int64_t rows, int64_t stride, int64_t columns, DType dtype) {
  return rows > 1 && stride > columns ? stride * size_of(dtype) : 0;
}

}  // namespace

Matrix Check::any_matrix(const char* name, const DLTensor* t, DTypes allowed, Role role,
                         Need need) {
  Matrix m;
  if (!tensor(name, t, {2, 2}, allowed, need, &m.dtype)) return m;
  m.rows = t->shape[0];
  m.cols = t->shape[1];
  const bool empty = m.rows == 0 || m.cols == 0;
  m.stride = m.rows > 1 && !empty ? stride_of(t, 0) : m.cols;
  if (m.cols > 1 && !empty && stride_of(t, 1) != 1) {
    fail_argument("%s has last stride %lld, expected 1", name, wide(stride_of(t, 1)));
    return m;
  }
  if (m.stride < (role == Role::kIn ? 0 : m.cols)) {
    fail_argument("%s has row stride %lld, expected at least %lld", name, wide(m.stride),
                  wide(role == Role::kIn ? 0 : m.cols));
    return m;
  }
  if (!spans(m.stride, m.rows)) {
    too_wide(name, m.stride, m.rows, "row stride");
    return m;
  }
  const int64_t extent = empty ? 0 : (m.rows - 1) * m.stride + m.cols;
  m.data = data(name, t, m.dtype, extent);
  note(name, m.data, extent * size_of(m.dtype), role, pitch_of(m.rows, m.stride, m.cols, m.dtype));
  return m;
}

Blocks Check::format(const char* name, int32_t tag) {
  Blocks known = Blocks::kNone;
  if (tag != EXN_BLOCKS_NONE && !blocks_of(tag, &known)) {
    fail_argument("%s is %d, expected one of EXN_BLOCKS_*: 0, %s", name, tag, kBlockTags);
  }
  return known;
}

Blocks Check::format_or_packed(const char* name, int32_t tag, Panels panels) {
  if (tag < EXN_BLOCKS_PACKED) return format(name, tag);
  Blocks known = Blocks::kNone;
  if (panels_of(tag, &known)) {
    if (panels == Panels::kTaken) return known;
    fail_argument("%s is %d, rows in panels, which linear alone takes", name, tag);
    return Blocks::kNone;
  }
  if (!blocks_of(tag - EXN_BLOCKS_PACKED, &known)) {
    fail_argument("%s is %d, expected one of EXN_BLOCKS_*: 0, %s, or with EXN_BLOCKS_PACKED", name,
                  tag, kBlockTags);
    return known;
  }
  return packed(known);
}

void Check::packed_here(const char* name, Blocks blocks) {
  if (!ok() || !is_packed(blocks)) return;
  const auto tag = static_cast<int32_t>(blocks);
  if (device_type() != kDLCPU) {
    status_ = fail(EXN_UNSUPPORTED, "%s: %s is %d, packed for the CPU, but its weights are on cuda",
                   op_, name, tag);
  } else if (!in_panels(blocks) && !cpu::reads_packed()) {
    status_ = fail(EXN_UNSUPPORTED, "%s: %s is %d, packed for vnni, avx512 or amx, this runs %s",
                   op_, name, tag, cpu::isa());
  }
}

bool Check::int8_input(int32_t rounding, const char* blocks_name, Blocks blocks) {
  one_of("input_rounding", rounding, EXN_INPUT_INT16, EXN_INPUT_INT8);
  if (rounding != EXN_INPUT_INT8) return false;
  if (blocks == Blocks::kNone || in_panels(blocks)) {
    fail_argument("input_rounding is %d (EXN_INPUT_INT8), but %s is %d, no quantised blocks",
                  rounding, blocks_name, static_cast<int32_t>(blocks));
  }
  if (ok() && device_type() != kDLCPU) {
    status_ = fail(EXN_UNSUPPORTED,
                   "%s: input_rounding is %d (EXN_INPUT_INT8), for the CPU, but input is on cuda",
                   op_, rounding);
  }
  return true;
}

// Panels are read across rows, a vector at a time.
void Check::dense_panels(const char* name, const Matrix& m, Blocks panels) {
  const auto element = static_cast<int64_t>(shape_of(panels).bytes);
  if (m.rows > 1 && m.stride != m.cols) {
    fail_argument("%s has %lld bytes from row to row, but rows in panels lie together: %lld", name,
                  wide(m.stride), wide(m.cols));
  } else if (reinterpret_cast<uintptr_t>(m.data) % static_cast<uintptr_t>(element) != 0) {
    fail_argument("%s is at address %p, which is not aligned to %lld bytes", name, m.data,
                  wide(element));
  }
}

void Check::row_of_blocks(const char* name, int64_t bytes, const char* blocks_name, Blocks blocks,
                          const char* because, int64_t columns) {
  const BlockShape block = shape_of(blocks);
  const auto tag = static_cast<int32_t>(blocks);
  if (columns % block.elements != 0) {
    fail_argument("%s is %d, whose blocks have %d elements, which do not divide the %lld of %s",
                  blocks_name, tag, block.elements, wide(columns), because);
  } else if (bytes != columns / block.elements * block.bytes) {
    fail_argument("%s has %lld bytes in a row, but %lld columns of %s %d take %lld", name,
                  wide(bytes), wide(columns), blocks_name, tag,
                  wide(columns / block.elements * block.bytes));
  }
}

Matrix Check::weights(const char* name, const DLTensor* t, const char* blocks_name, int32_t blocks,
                      const char* because, int64_t columns, Need need, Panels panels) {
  const Blocks known = format_or_packed(blocks_name, blocks, panels);
  Matrix m = matrix(name, t, known == Blocks::kNone ? kFloats : kU8Only, Role::kIn, need);
  if (t == nullptr || !ok()) return m;
  if (known == Blocks::kNone) {
    same(name, "columns", m.cols, because, columns);
    return m;
  }
  packed_here(blocks_name, known);
  row_of_blocks(name, m.cols, blocks_name, known, because, columns);
  if (in_panels(known)) dense_panels(name, m, known);
  m.blocks = known;
  m.cols = columns;
  return m;
}

Matrix Check::compact_weights(const char* name, const DLTensor* t,
                              std::initializer_list<int64_t> shape, const char* blocks_name,
                              int32_t blocks, const char* because, int64_t columns, Need need) {
  const Blocks known = format_or_packed(blocks_name, blocks);
  const auto rank = static_cast<int32_t>(shape.size()) + 1;
  const Vector v =
      flat(name, t, {rank, rank}, known == Blocks::kNone ? kFloats : kU8Only, Role::kIn, need);
  Matrix m;
  if (t == nullptr || !ok()) return m;
  int32_t axis = 0;
  for (const int64_t size : shape) {
    if (size != kAnySize) this->size(name, t, axis, size);
    ++axis;
  }
  const int64_t last = t->shape[axis];
  if (known == Blocks::kNone) {
    size(name, t, axis, columns);
  } else {
    packed_here(blocks_name, known);
    row_of_blocks(name, last, blocks_name, known, because, columns);
  }
  m.data = v.data;
  m.dtype = v.dtype;
  m.rows = last > 0 ? v.size / last : 0;
  m.cols = columns;
  m.stride = last;
  m.blocks = known;
  return m;
}

Vector Check::flat(const char* name, const DLTensor* t, Ranks ranks, DTypes allowed, Role role,
                   Need need) {
  Vector v;
  if (!tensor(name, t, ranks, allowed, need, &v.dtype) || !compact(name, t)) return v;
  v.size = 1;
  for (int32_t i = 0; i < t->ndim; ++i) v.size *= t->shape[i];
  v.data = data(name, t, v.dtype, v.size);
  note(name, v.data, v.size * size_of(v.dtype), role);
  return v;
}

Heads Check::heads(const char* name, const DLTensor* t, DTypes allowed, Role role, Need need) {
  Heads h;
  if (!tensor(name, t, {3, 3}, allowed, need, &h.dtype)) return h;
  h.rows = t->shape[0];
  h.heads = t->shape[1];
  h.dim = t->shape[2];
  const int64_t columns = h.heads * h.dim;
  const bool empty = h.rows == 0 || columns == 0;
  h.stride = h.rows > 1 && !empty ? stride_of(t, 0) : columns;
  const bool dense =
      empty || ((h.dim <= 1 || stride_of(t, 2) == 1) && (h.heads <= 1 || stride_of(t, 1) == h.dim));
  if (!dense) {
    fail_argument("%s has strides %lld and %lld within a row, compact heads need %lld and 1", name,
                  wide(stride_of(t, 1)), wide(stride_of(t, 2)), wide(h.dim));
    return h;
  }
  if (h.stride < (role == Role::kIn ? 0 : columns)) {
    fail_argument("%s has row stride %lld, expected at least %lld", name, wide(h.stride),
                  wide(role == Role::kIn ? 0 : columns));
    return h;
  }
  if (!spans(h.stride, h.rows)) {
    too_wide(name, h.stride, h.rows, "row stride");
    return h;
  }
  const int64_t extent = empty ? 0 : (h.rows - 1) * h.stride + columns;
  h.data = data(name, t, h.dtype, extent);
  note(name, h.data, extent * size_of(h.dtype), role, pitch_of(h.rows, h.stride, columns, h.dtype));
  return h;
}

Axis Check::along(const char* name, const DLTensor* t, int32_t axis, DTypes allowed, Role role) {
  Axis a;
  if (!tensor(name, t, kAnyRank, allowed, Need::kRequired, &a.dtype)) return a;
  if (axis < 0 || axis >= t->ndim) {
    fail_argument("%s has rank %d, which has no axis %d", name, t->ndim, axis);
    return a;
  }
  for (int32_t i = 0; i < axis; ++i) a.outer *= t->shape[i];
  for (int32_t i = axis + 1; i < t->ndim; ++i) a.inner *= t->shape[i];
  a.size = t->shape[axis];
  a.stride = a.inner;
  a.outer_stride = a.size * a.inner;
  const bool empty = a.outer == 0 || a.size == 0 || a.inner == 0;
  if (axis > 0) {
    if (!compact(name, t)) return a;
  } else if (!empty) {
    DLTensor entry = *t;  // what lies within an entry is compact
    entry.ndim = t->ndim - 1;
    entry.shape = t->shape + 1;
    entry.strides = t->strides != nullptr ? t->strides + 1 : nullptr;
    if (!compact(name, &entry)) return a;
    if (a.size > 1) a.stride = stride_of(t, 0);
    if (a.stride < a.inner) {
      fail_argument("%s has stride %lld in axis 0, expected at least %lld", name, wide(a.stride),
                    wide(a.inner));
      return a;
    }
    if (!spans(a.stride, a.size)) {
      too_wide(name, a.stride, a.size, "stride in axis 0");
      return a;
    }
  }
  const int64_t extent =
      empty ? 0 : (a.outer - 1) * a.outer_stride + (a.size - 1) * a.stride + a.inner;
  a.data = data(name, t, a.dtype, extent);
  note(name, a.data, extent * size_of(a.dtype), role,
       axis == 0 ? pitch_of(a.size, a.stride, a.inner, a.dtype) : 0);
  return a;
}

const float* Check::coefficients(const char* name, const DLTensor* t, const char* because,
                                 int64_t size, Need need) {
  return per_row<const float>(name, t, kF32Only, Role::kIn, because, size, need);
}

void Check::norm_options(const NormNames& names, int32_t norm, float eps) {
  one_of("norm", norm, EXN_NORM_NONE, EXN_NORM_LAYER);
  not_negative(names.eps, eps);
}

void Check::norm_coefficients(const NormNames& names, const DLTensor* weight, const DLTensor* bias,
                              int32_t norm, int64_t dim, const float** weight_out,
                              const float** bias_out) {
  if (norm == EXN_NORM_NONE) absent(names.weight, weight, "norm is EXN_NORM_NONE (0)");
  if (norm != EXN_NORM_LAYER) absent(names.bias, bias, "norm is not EXN_NORM_LAYER (2)");
  const Need need = norm == EXN_NORM_NONE ? Need::kOptional : Need::kRequired;
  *weight_out = coefficients(names.weight, weight, "the normalised row", dim, need);
  *bias_out = coefficients(names.bias, bias, "the normalised row", dim);
}

void Check::ranges(const char* name, const DLTensor* t, int64_t rows, const int32_t** out,
                   int64_t* count, int64_t* stride) {
  const Vector v = flat(name, t, {2, 3}, kI32Only, Role::kIn, Need::kOptional);
  if (!ok() || t == nullptr) return;
  const int64_t ranges = t->shape[t->ndim - 2];
  t->ndim == 2 ? shape(name, t, {ranges, 2}) : shape(name, t, {rows, ranges, 2});
  *out = static_cast<const int32_t*>(v.data);
  *count = ranges;
  *stride = t->ndim == 2 ? 0 : 2 * ranges;
}

Selection Check::selection(const exn_selection& given, int64_t rows, int64_t columns) {
  Selection s;
  at_most("N (columns of scores)", columns, INT32_MAX);
  const Vector indices = flat("selection.indices", given.indices, {2, 2}, kI32Only, Role::kOut);
  if (!ok()) return s;
  s.capacity = given.indices->shape[1];
  shape("selection.indices", given.indices, {rows, s.capacity});
  s.indices = static_cast<int32_t*>(indices.data);
  s.count = per_row<int32_t>("selection.count", given.count, kI32Only, Role::kOut,
                             "the scores' rows", rows, Need::kOptional);
  s.valid = per_row<uint8_t>("selection.valid", given.valid, kU8Only, Role::kOut,
                             "the scores' rows", rows, Need::kOptional);
  const Vector segments =
      vector("selection.segments", given.segments, kI32Only, Role::kIn, Need::kOptional);
  if (given.segments != nullptr) {
    at_least("elements of selection.segments", segments.size, 2);
    s.segments = static_cast<const int32_t*>(segments.data);
    s.segment_count = segments.size - 1;
  }
  const Vector budget =
      flat("selection.budget", given.budget, given.segments != nullptr ? Ranks{2, 2} : Ranks{1, 1},
           kI32Only, Role::kIn, Need::kOptional);
  if (given.segments != nullptr) {
    shape("selection.budget", given.budget, {rows, s.segment_count});
  } else {
    shape("selection.budget", given.budget, {rows});
  }
  s.budget = static_cast<const int32_t*>(budget.data);
  ranges("selection.keep", given.keep, rows, &s.keep, &s.keep_count, &s.keep_stride);
  ranges("selection.drop", given.drop, rows, &s.drop, &s.drop_count, &s.drop_stride);
  if (given.budget == nullptr) {
    at_least("selection.k", given.k, 0);
    // More than there are columns means all of them, so no list needs to be longer than that.
    // Segments may keep less or more, which only the device knows.
    at_least("K (columns of selection.indices)", s.capacity, std::min(given.k, columns));
  }
  s.k = given.k;
  return s;
}

RopeTable Check::rope_table(const char* name, const DLTensor* t, int64_t head_dim, Need need) {
  RopeTable table;
  const Vector v = flat(name, t, {3, 3}, kF32Only, Role::kIn, need);
  if (!ok() || t == nullptr) return table;
  if (t->shape[2] != 2) {
    fail_argument("%s has %lld elements in the last axis, expected [T, n/2, 2]", name,
                  wide(t->shape[2]));
    return table;
  }
  table.data = static_cast<const float*>(v.data);
  table.positions = t->shape[0];
  table.pairs = t->shape[1];
  if (table.pairs < 1)
    fail_argument("%s has %lld pairs, expected at least 1", name, wide(table.pairs));
  if (2 * table.pairs > head_dim) {
    fail_argument("%s rotates %lld elements, but a head has %lld", name, wide(2 * table.pairs),
                  wide(head_dim));
  }
  return table;
}

void Check::shape(const char* name, const DLTensor* t, std::initializer_list<int64_t> expected) {
  if (!ok() || t == nullptr) return;
  if (t->ndim != static_cast<int32_t>(expected.size())) {
    fail_argument("%s has rank %d, expected %d", name, t->ndim, static_cast<int>(expected.size()));
    return;
  }
  int32_t axis = 0;
  for (const int64_t size : expected) this->size(name, t, axis++, size);
}

void Check::size(const char* name, const DLTensor* t, int32_t axis, int64_t expected) {
  if (!ok() || t->shape[axis] == expected) return;
  fail_argument("%s has size %lld in axis %d, expected %lld", name, wide(t->shape[axis]), axis,
                wide(expected));
}

// What the draws of rows depend on.
static void read_draws(Check& check, const exn_stats& stats, int64_t rows, int32_t normalizer,
                       StatsOut* out) {
  if (stats.draw == nullptr) {
    constexpr const char* kWhy = "out.draw is null";
    check.absent("out.draw_key", stats.draw_key, kWhy);
    check.absent("out.draw_counter", stats.draw_counter, kWhy);
    check.absent("out.draw_temperature", stats.draw_temperature, kWhy);
    return;
  }
  const auto input = [&](const char* name, const DLTensor* t, DTypes dtypes, Need need) {
    return check.per_row<const void>(name, t, dtypes, Role::kIn, "the input", rows, need);
  };
  out->draw_key =
      static_cast<const int64_t*>(input("out.draw_key", stats.draw_key, kI64Only, Need::kRequired));
  out->draw_counter = static_cast<const int64_t*>(
      input("out.draw_counter", stats.draw_counter, kI64Only, Need::kRequired));
  out->draw_temperature = static_cast<const float*>(
      input("out.draw_temperature", stats.draw_temperature, kF32Only, Need::kOptional));
  if (normalizer == EXN_STABLEMAX)
    check.fail_argument("normalizer is EXN_STABLEMAX (1), but out.draw is given");
}

StatsOut read_stats(Check& check, const exn_stats& stats, int64_t rows, int32_t normalizer) {
  int given = 0;
  const auto output = [&](const char* name, const DLTensor* t, DTypes dtypes) -> void* {
    if (t == nullptr) return nullptr;
    ++given;
    const Vector v = check.vector(name, t, dtypes, Role::kOut);
    check.same(name, "elements", v.size, "the input's rows", rows);
    return v.data;
  };
  StatsOut out;
  out.argmax = static_cast<int32_t*>(output("out.argmax", stats.argmax, kI32Only));
  out.max_logit = static_cast<float*>(output("out.max_logit", stats.max_logit, kF32Only));
  out.lse = static_cast<float*>(output("out.lse", stats.lse, kF32Only));
  out.p1 = static_cast<float*>(output("out.p1", stats.p1, kF32Only));
  out.p2 = static_cast<float*>(output("out.p2", stats.p2, kF32Only));
  out.margin = static_cast<float*>(output("out.margin", stats.margin, kF32Only));
  out.entropy = static_cast<float*>(output("out.entropy", stats.entropy, kF32Only));
  out.pow2_entropy = static_cast<float*>(output("out.pow2_entropy", stats.pow2_entropy, kF32Only));
  out.mean_log_p = static_cast<float*>(output("out.mean_log_p", stats.mean_log_p, kF32Only));
  out.valid = static_cast<uint8_t*>(output("out.valid", stats.valid, kU8Only));
  out.labels = check.per_row<const int32_t>("out.labels", stats.labels, kI32Only, Role::kIn,
                                            "the input", rows, Need::kOptional);
  out.label_log_p = static_cast<float*>(output("out.label_log_p", stats.label_log_p, kF32Only));
  if (stats.labels == nullptr) {
    check.absent("out.label_log_p", stats.label_log_p, "out.labels is null");
  } else if (stats.label_log_p == nullptr) {
    check.fail_argument("out.labels is given, but out.label_log_p is null");
  }
  out.draw = static_cast<int32_t*>(output("out.draw", stats.draw, kI32Only));
  read_draws(check, stats, rows, normalizer, &out);
  if (given == 0) check.fail_argument("out has 0 outputs, expected at least 1");
  return out;
}

void check_normalizer(Check& check, int32_t normalizer, float temperature, float softcap) {
  check.one_of("normalizer", normalizer, EXN_SOFTMAX, EXN_STABLEMAX);
  check.positive("temperature", temperature);
  check.not_negative("softcap", softcap);
}

}  // namespace exn
