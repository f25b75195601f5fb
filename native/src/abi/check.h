// SPDX-License-Identifier: Apache-2.0
// Argument checks of the C ABI: turns borrowed DLTensors into the plain views of ops.h, or into one
// sentence that names the argument and the two values that disagree. The first failure sticks; what
// follows is skipped.
#pragma once

#include <cmath>
#include <cstring>
#include <initializer_list>

#include <exeunt/gather.h>
#include <exeunt/kv_cache.h>
#include <exeunt/norm.h>
#include <exeunt/row_stats.h>
#include <exeunt/select.h>

#include "base/args.h"
#include "base/status.h"

namespace exn {

enum class Role { kIn, kOut, kInOut };
enum class Need { kRequired, kOptional };

// Sets of dtypes as bit masks.
using DTypes = uint32_t;
constexpr DTypes bit(DType t) { return 1u << static_cast<int32_t>(t); }
constexpr DTypes kF32Only = bit(DType::kF32);
constexpr DTypes kI32Only = bit(DType::kI32);
constexpr DTypes kU8Only = bit(DType::kU8);
constexpr DTypes kI64Only = bit(DType::kI64);
constexpr DTypes kLabels = bit(DType::kI32) | bit(DType::kI64);
constexpr DTypes kFloats = bit(DType::kF32) | bit(DType::kF16) | bit(DType::kBF16);
constexpr DTypes kFloatsAndF64 = kFloats | bit(DType::kF64);
constexpr DTypes kAnything = kFloatsAndF64 | kLabels | kU8Only;

// What the fields of a norm are called in a params struct.
struct NormNames {
  const char* weight = "norm_weight";
  const char* bias = "norm_bias";
  const char* eps = "norm_eps";
};

// What a cache and its fields are called.
struct CacheNames {
  const char* cache = "cache";
  const char* k = "cache.k";
  const char* v = "cache.v";
  const char* block_table = "cache.block_table";
};

const char* name_of(DType t);

// Whether `t` is `dtype`, one of `allowed`. Compared as a whole, not field by field.
EXN_INLINE bool is_dtype(const DLDataType& t, DTypes allowed, DType dtype, uint8_t code,
                         uint8_t bits, DType* out) {
  const DLDataType known = {code, bits, 1};
  if ((allowed & bit(dtype)) == 0 || std::memcmp(&t, &known, sizeof t) != 0) return false;
  *out = dtype;
  return true;
}

// Whether `t` is one of `allowed`, and which.
EXN_INLINE bool dtype_of(const DLDataType& t, DTypes allowed, DType* out) {
  return is_dtype(t, allowed, DType::kF32, kDLFloat, 32, out) ||
         is_dtype(t, allowed, DType::kBF16, kDLBfloat, 16, out) ||
         is_dtype(t, allowed, DType::kF16, kDLFloat, 16, out) ||
         is_dtype(t, allowed, DType::kI32, kDLInt, 32, out) ||
         is_dtype(t, allowed, DType::kU8, kDLUInt, 8, out) ||
         is_dtype(t, allowed, DType::kI64, kDLInt, 64, out) ||
         is_dtype(t, allowed, DType::kF64, kDLFloat, 64, out);
}

// The tag in a public struct; kNone and false if it is none of kBlockTags.
constexpr const char* kBlockTags = "2, 3, 6, 7, 8, 12, 13 or 14";
bool blocks_of(int32_t tag, Blocks* blocks);
// The same of elements in panels, and whether an op takes those.
constexpr const char* kPanelTags = "256, 257 or 286";
bool panels_of(int32_t tag, Blocks* blocks);
enum class Panels { kRefused, kTaken };

// How many axes a tensor may have.
struct Ranks {
  int32_t least;
  int32_t most;
};
// More than any framework has: what a caller calls "any rank" is looked through up to here.
constexpr int32_t kMostRank = 64;
constexpr Ranks kAnyRank = {0, kMostRank};

// Of a tensor.
constexpr int64_t kMostElements = int64_t{1} << 48;

// The memory of a tensor: one run of bytes, or rows with gaps between them, the last of which ends
// where its elements do.
struct Range {
  const char* name;
  uintptr_t begin;
  uintptr_t end;
  uint32_t pitch;  // bytes from row to row; 0: one run, or what is taken for one: rows 4 GiB apart
  int16_t item;    // of the list that the tensor is in; -1: in none
  bool written;
};

// Which tensors are noted, to be held against each other. Hundreds of them would not fit a small
// stack: what is written is noted first, then the check goes through all arguments once more and
// holds each that is read against those. kNothing: of arguments that were checked before.
enum class Noting { kAll, kOutputs, kAgainstOutputs, kNothing };

// How many tensors a call can note, and in which way. An op with more says so in specialisations: a
// call notes them on the stack, as a run must not allocate.
template <class Args>
constexpr int kMostRanges = 32;
template <class Args>
constexpr Noting kNoting = Noting::kAll;

class Check {
 public:
  // `ranges` has space for the tensors that are noted.
  template <int kMost>
  Check(const char* op, Range (&ranges)[kMost], Noting noting = Noting::kAll)
      : op_(op),
        noting_(noting),
        ranges_(ranges),
        most_ranges_(kMost),
        most_plain_(noting == Noting::kAll ? kMost : 0) {}

  static constexpr int kFewRanges = 32;  // the bits of between_

  bool ok() const { return status_ == EXN_OK; }
  exn_status status() const { return status_; }
  int32_t device_type() const { return device_.device_type; }
  int32_t device_id() const { return device_.device_id; }

  // A call's checks are to take less than its kernel, however small. So the usual tensor is checked
  // in line, where `allowed` and `role` are constants and the result stays in registers; any other
  // is looked at again from the beginning, and refused there or not. Field by field: a whole that
  // is copied must wait for the stores that have just made its parts.

  // Rank 2, last stride 1.
  EXN_INLINE Matrix matrix(const char* name, const DLTensor* t, DTypes allowed, Role role,
                           Need need = Need::kRequired) {
    Matrix m;
    if (t == nullptr && need == Need::kOptional) return m;
    const int64_t most = int64_t{1} << 24;  // of rows and of a row, whose product is in range
    if (plain(t, 2, allowed, &m.dtype)) {
      m.rows = t->shape[0];
      m.cols = t->shape[1];
      m.stride = m.rows > 1 && t->strides != nullptr ? t->strides[0] : m.cols;
      const bool dense = t->strides == nullptr || t->strides[1] == 1 || m.cols == 1;
      const int64_t element = size_of(m.dtype);
      if (dense && m.rows > 0 && m.rows < most && m.cols > 0 && m.stride >= m.cols &&
          m.stride < most) {
        m.data = note_plain(name, t, element, ((m.rows - 1) * m.stride + m.cols) * element, role,
                            m.stride > m.cols ? m.stride * element : 0);
        if (m.data != nullptr) return m;
      }
    }
    const Matrix other = any_matrix(name, t, allowed, role, need);
    m.data = other.data;
    m.dtype = other.dtype;
    m.rows = other.rows;
    m.cols = other.cols;
    m.stride = other.stride;
    return m;
  }
  // The same of [N, as many columns as `because` has]: elements of a float type, or blocks as the
  // tag `blocks` of the field `blocks_name` says.
  Matrix weights(const char* name, const DLTensor* t, const char* blocks_name, int32_t blocks,
                 const char* because, int64_t columns, Need need = Need::kRequired,
                 Panels panels = Panels::kRefused);
  // The same, compact, of such a shape but for its last axis; seen as a matrix of all rows.
  static constexpr int64_t kAnySize = -1;
  Matrix compact_weights(const char* name, const DLTensor* t, std::initializer_list<int64_t> shape,
                         const char* blocks_name, int32_t blocks, const char* because,
                         int64_t columns, Need need = Need::kRequired);
  // What blocks a field's tag stands for; and where it may be that of rows that were packed, which
  // this backend and instruction set must then read.
  Blocks format(const char* name, int32_t tag);
  Blocks format_or_packed(const char* name, int32_t tag, Panels panels = Panels::kRefused);
  void packed_here(const char* name, Blocks blocks);
  // Whether inputs are rounded to 8 bits: EXN_INPUT_INT8, for blocks alone.
  bool int8_input(int32_t rounding, const char* blocks_name, Blocks blocks);
  // Rank 1, compact.
  EXN_INLINE Vector vector(const char* name, const DLTensor* t, DTypes allowed, Role role,
                           Need need = Need::kRequired) {
    Vector v;
    if (t == nullptr && need == Need::kOptional) return v;
    if (plain(t, 1, allowed, &v.dtype)) {
      v.size = t->shape[0];
      const bool compact = t->strides == nullptr || t->strides[0] == 1 || v.size == 1;
      const int64_t element = size_of(v.dtype);
      if (compact && v.size > 0 && v.size <= kMostElements) {
        v.data = note_plain(name, t, element, v.size * element, role, 0);
        if (v.data != nullptr) return v;
      }
    }
    const Vector other = flat(name, t, {1, 1}, allowed, role, need);
    v.data = other.data;
    v.dtype = other.dtype;
    v.size = other.size;
    return v;
  }
  // Rank 3, heads compact (strides dh and 1), row stride free.
  Heads heads(const char* name, const DLTensor* t, DTypes allowed, Role role,
              Need need = Need::kRequired);
  // Compact, of such a rank; seen flat.
  Vector flat(const char* name, const DLTensor* t, Ranks ranks, DTypes allowed, Role role,
              Need need = Need::kRequired);

  // Any rank, seen along one axis; compact, but for a free stride of axis 0 if that is the one.
  Axis along(const char* name, const DLTensor* t, int32_t axis, DTypes allowed, Role role);

  // f32 [size], compact, as long as `because`.
  const float* coefficients(const char* name, const DLTensor* t, const char* because, int64_t size,
                            Need need = Need::kOptional);
  // A compact vector with one element per row of `because`.
  template <class T>
  T* per_row(const char* name, const DLTensor* t, DTypes allowed, Role role, const char* because,
             int64_t rows, Need need = Need::kRequired) {
    if (t == nullptr && need == Need::kOptional) return nullptr;
    const Vector v = vector(name, t, allowed, role, need);
    if (t != nullptr) same(name, "elements", v.size, because, rows);
    return static_cast<T*>(v.data);
  }
  // norm, eps and the coefficients that go with them, for rows of `dim` elements.
  void norm(const NormNames& names, const DLTensor* weight, const DLTensor* bias, int32_t norm,
            float eps, int64_t dim, const float** weight_out, const float** bias_out) {
    norm_options(names, norm, eps);
    norm_coefficients(names, weight, bias, norm, dim, weight_out, bias_out);
  }
  void norm_options(const NormNames& names, int32_t norm, float eps);
  void norm_coefficients(const NormNames& names, const DLTensor* weight, const DLTensor* bias,
                         int32_t norm, int64_t dim, const float** weight_out,
                         const float** bias_out);
  KvCache cache(const CacheNames& names, const exn_kv_cache& cache, Role role);
  // A cache of which only K is read: v may be null.
  KvCache keys(const CacheNames& names, const exn_kv_cache& cache);
  // Whether two caches are one: K and V are both the same, laid out alike, or neither is.
  bool one_cache(const CacheNames& destination_names, const KvCache& destination,
                 const CacheNames& source_names, const KvCache& source);
  // R rows of N columns. Made if indices is given.
  Selection selection(const exn_selection& selection, int64_t rows, int64_t columns);
  RopeTable rope_table(const char* name, const DLTensor* t, int64_t head_dim,
                       Need need = Need::kRequired);

  // The axis of `name` must have `expected` elements, as `because` has.
  void same(const char* name, const char* axis, int64_t got, const char* because,
            int64_t expected) {
    if (got != expected) {
      fail_argument("%s has %lld %s, but %s has %lld", name, wide(got), axis, because,
                    wide(expected));
    }
  }
  // Both views must have one dtype.
  void same_dtype(const char* name, DType got, const char* because, DType expected) {
    if (got != expected) {
      fail_argument("%s has dtype %s, but %s has %s", name, name_of(got), because,
                    name_of(expected));
    }
  }
  void shape(const char* name, const DLTensor* t, std::initializer_list<int64_t> expected);
  void size(const char* name, const DLTensor* t, int32_t axis, int64_t expected);
  void one_of(const char* name, int32_t value, int32_t first, int32_t last) {
    if (value < first || value > last)
      fail_argument("%s is %d, expected %d..%d", name, value, first, last);
  }
  void at_least(const char* name, int64_t value, int64_t least) {
    if (value < least)
      fail_argument("%s is %lld, expected at least %lld", name, wide(value), wide(least));
  }
  void at_most(const char* name, int64_t value, int64_t most) {
    if (value > most)
      fail_argument("%s is %lld, expected at most %lld", name, wide(value), wide(most));
  }
  // Finite and > 0, or >= 0.
  void positive(const char* name, double value) {
    if (!(value > 0) || std::isinf(value))
      fail_argument("%s is %g, expected a finite value > 0", name, value);
  }
  void not_negative(const char* name, float value) {
    if (!(value >= 0) || std::isinf(value)) {
      fail_argument("%s is %g, expected a finite value >= 0", name, static_cast<double>(value));
    }
  }
  void share(const char* name, double value) {
    if (!(value >= 0 && value <= 1)) fail_argument("%s is %g, expected 0..1", name, value);
  }
  void finite(const char* name, float value) {
    if (!std::isfinite(value))
      fail_argument("%s is %g, expected a finite value", name, static_cast<double>(value));
  }
  void not_nan(const char* name, float value) {
    if (std::isnan(value)) fail_argument("%s is NaN, expected a number", name);
  }
  // A field that has no meaning yet: a caller who sets it expects something this version does not
  // do.
  void reserved(int32_t value, const char* name = "reserved") {
    if (value != 0) fail_argument("%s is %d, expected 0", name, value);
  }
  // Counts that kernels multiply, each at least 0. Within it no sum or product of theirs with the
  // bytes of an element, or of what is kept for it, leaves 63 bits.
  struct Count {
    const char* name;
    int64_t value;
  };
  void product_in_range(std::initializer_list<Count> counts);
  void absent(const char* name, const void* value, const char* because) {
    if (value != nullptr) fail_argument("%s is given, but %s", name, because);
  }

  // Until leave(), what is checked is of item `item` of `list`: errors say so.
  void enter(const char* list, int32_t item) {
    list_ = list;
    item_ = item;
  }
  void leave() { item_ = -1; }

  // `out` may share memory with `in` only when it is exactly `in`. Up to kMostAliases pairs.
  void may_alias(const char* out, const char* in);
  // Call after the last tensor: outputs must not overlap anything else.
  void no_overlap();
  // The same of kOutputs, in two steps: call this after the first pass over the arguments, then go
  // through them again.
  void outputs_apart();

  // Cold: what leads here is kept out of the way of the checks that pass.
  void fail_argument(const char* format, ...) __attribute__((cold, format(printf, 2, 3)));

 private:
  static constexpr int kMostAliases = EXN_GATHER_MAX_TENSORS + 1;

  // Where empty tensors are said to be, whatever their callers say: it is not null, which in the
  // arguments of a kernel means that the caller gave no tensor, and it is never read or written.
  alignas(64) static char nothing_[64];

  static long long wide(int64_t x) { return static_cast<long long>(x); }

  void dense_panels(const char* name, const Matrix& m, Blocks panels);
  void row_of_blocks(const char* name, int64_t bytes, const char* blocks_name, Blocks blocks,
                     const char* because, int64_t columns);

  // Whether nothing that tensor() looks at can be wrong but the sizes, the rank is as wanted, and
  // there is memory: so it is with nearly all tensors.
  EXN_INLINE bool plain(const DLTensor* t, int32_t rank, DTypes allowed, DType* dtype) const {
    return t != nullptr && ok() && std::memcmp(&t->device, &device_, sizeof device_) == 0 &&
           t->ndim == rank && t->shape != nullptr && t->data != nullptr &&
           dtype_of(t->dtype, allowed, dtype);
  }
  // Notes the memory of a plain tensor and returns it; null if it cannot be so.
  EXN_INLINE char* note_plain(const char* name, const DLTensor* t, int64_t element, int64_t bytes,
                              Role role, int64_t pitch) {
    uintptr_t at, end;
    if (__builtin_add_overflow(reinterpret_cast<uintptr_t>(t->data), t->byte_offset, &at) ||
        __builtin_add_overflow(at, static_cast<uintptr_t>(bytes), &end) || at == 0 ||
        (at & static_cast<uintptr_t>(element - 1)) != 0 || range_count_ >= most_plain_) {
      return nullptr;
    }
    if (device_of_ == nullptr) device_of_ = name;
    add({name, at, end, pitch <= UINT32_MAX ? static_cast<uint32_t>(pitch) : 0,
         static_cast<int16_t>(item_), role != Role::kIn});
    return reinterpret_cast<char*>(at);
  }
  EXN_INLINE void add(const Range& range) {
    const bool between = range.begin < all_end_ && range.end > all_begin_;
    between_ |= uint32_t{between} << range_count_ % kFewRanges;
    if (range.begin < all_begin_) all_begin_ = range.begin;
    if (range.end > all_end_) all_end_ = range.end;
    ranges_[range_count_++] = range;
  }
  Matrix any_matrix(const char* name, const DLTensor* t, DTypes allowed, Role role, Need need);
  bool tensor(const char* name, const DLTensor* t, Ranks ranks, DTypes allowed, Need need,
              DType* dtype);
  void wrong_dtype(const char* name, const DLDataType& got, DTypes allowed) __attribute__((cold));
  void wrong_rank(const char* name, int32_t rank, Ranks ranks) __attribute__((cold));
  void* data(const char* name, const DLTensor* t, DType dtype, int64_t extent);
  bool compact(const char* name, const DLTensor* t);
  void note(const char* name, const void* begin, int64_t bytes, Role role, int64_t pitch = 0);
  void ends_beyond(const char* name, const void* begin, int64_t bytes) __attribute__((cold));
  void finds_no_room(const char* name) __attribute__((cold));
  void too_wide(const char* name, int64_t stride, int64_t count, const char* of)
      __attribute__((cold));
  void note_apart(const Range& range);
  bool some_overlap() const;
  bool overlaps(const Range& a, const Range& b);
  bool are_one(const Range& a, const Range& b) const;
  void write_name(const Range& range, char (&text)[96]) const;
  void ranges(const char* name, const DLTensor* t, int64_t rows, const int32_t** out,
              int64_t* count, int64_t* stride);
  KvCache described(const CacheNames& names, const exn_kv_cache& cache, Role role, Need v_needed);

  const char* op_;
  Noting noting_;
  const char* list_ = nullptr;
  int32_t item_ = -1;
  exn_status status_ = EXN_OK;
  DLDevice device_ = {kDLCPU, 0};  // of all tensors, once device_of_ names the first
  const char* device_of_ = nullptr;
  // The tensors of a call. One that lies below or above all that came before it is apart from
  // them; the others are bits of `between_`.
  uint32_t between_ = 0;
  uintptr_t all_begin_ = UINTPTR_MAX;
  uintptr_t all_end_ = 0;
  Range* ranges_;
  int most_ranges_;
  int most_plain_;
  int range_count_ = 0;
  struct Alias {
    const char* out;
    const char* in;
  };
  Alias aliases_[kMostAliases];
  int alias_count_ = 0;
};

// The outputs of row_stats and exit_head.
StatsOut read_stats(Check& check, const exn_stats& stats, int64_t rows, int32_t normalizer);
void check_normalizer(Check& check, int32_t normalizer, float temperature, float softcap);

}  // namespace exn
