// SPDX-License-Identifier: Apache-2.0
// The seam between the C ABI and the backends. The ABI layer (src/core) checks every argument once and hands
// plain, sound values on; a backend fills one Backend table with one function per op.
//
// An op function runs in two modes, so that the size query and the carving of the workspace cannot disagree:
//
//   exn_status my_op(const MyArgs& a, Workspace& ws, exn_stream stream) {
//     float* partial = ws.take<float>(n);
//     if (ws.counting()) return EXN_OK;      // size query: nothing below may run
//     ... launch ...
//   }
#pragma once

#include <cstddef>
#include <cstdint>

#include <exeunt/exeunt.h>

namespace exn {

enum class DType : int32_t { kF32, kF16, kBF16, kF64, kI32, kI64, kU8 };

// Everything with code in this header is forced inline: the CPU kernels include it in translation units that are compiled
// for one instruction set each, and a shared out-of-line copy could carry instructions that another machine lacks.
#define EXN_INLINE inline __attribute__((always_inline))

EXN_INLINE int64_t size_of(DType t) {
  switch (t) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kU8:
      return 1;
  }
  return 0;
}

// Hands out pieces of the caller's workspace, each 64-byte aligned; counts only when it has no base.
class Workspace {
 public:
  EXN_INLINE Workspace(void* base, bool counting) : base_(static_cast<char*>(base)), counting_(counting) {}

  template <class T>
  EXN_INLINE T* take(int64_t count) {
    const size_t at = used_;
    used_ += (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return counting_ || base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  EXN_INLINE bool counting() const { return counting_; }
  EXN_INLINE size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
  bool counting_;
};

// A matrix with unit column stride. data is null when the argument was left out.
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;  // elements between rows
};

// A compact vector (or a compact tensor seen flat). data is null when the argument was left out.
struct Vector {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t size = 0;
};

// Null where not asked for.
struct StatsOut {
  int32_t* argmax = nullptr;
  float* max_logit = nullptr;
  float* lse = nullptr;
  float* p1 = nullptr;
  float* p2 = nullptr;
  float* margin = nullptr;
  float* entropy = nullptr;
  float* pow2_entropy = nullptr;
  float* mean_log_p = nullptr;
  uint8_t* valid = nullptr;
};

struct RowStatsArgs {
  int32_t device = 0;
  Matrix logits;
  int32_t normalizer = 0;
  float temperature = 1;
  float softcap = 0;
  StatsOut out;
};

struct ExitHeadArgs {
  int32_t device = 0;
  Matrix hidden;
  Matrix weight;
  const float* bias = nullptr;         // [V]
  const float* norm_weight = nullptr;  // [D]
  const float* norm_bias = nullptr;    // [D]
  Matrix translator;                   // [D,D]
  const float* translator_bias = nullptr;
  Vector shortlist;  // i32 [N]
  int32_t norm = 0;
  float norm_eps = 0;
  int32_t translate = 0;
  int32_t normalizer = 0;
  float temperature = 1;
  float softcap = 0;
  StatsOut out;
};

struct StableMaxArgs {
  int32_t device = 0;
  Matrix logits;
  Matrix out;
  int32_t normalizer = 0;
  bool log = false;
};

struct CrossEntropyArgs {
  int32_t device = 0;
  Matrix logits;
  Vector labels;  // i32 or i64
  Vector loss;    // f64 or f32; may be null
  Matrix grad;    // may be null
  int64_t ignore_index = 0;
  int32_t normalizer = 0;
  int32_t reduction = 0;
};

struct PerpGradArgs {
  int32_t device = 0;
  Vector weight;
  Vector grad;
  Vector out;
  int32_t form = 0;
};

struct CosineArgs {
  int32_t device = 0;
  Matrix a;
  Matrix b;
  float* out = nullptr;
};

struct GateArgs {
  int32_t device = 0;
  Matrix features;
  Vector hidden_weight;  // [D*D] or [repeats*D*D]
  const float* hidden_bias = nullptr;
  Matrix out_weight;  // [O,D]
  const float* out_bias = nullptr;
  float* prob = nullptr;
  int32_t kind = 0;
  int32_t repeats = 0;
};

struct ExitRuleArgs {
  int32_t device = 0;
  int64_t rows = 0;
  const float* score = nullptr;
  const int32_t* label = nullptr;
  const uint8_t* valid = nullptr;
  const int32_t* step = nullptr;
  int32_t* state = nullptr;
  uint8_t* exit_mask = nullptr;
  int32_t* active_list = nullptr;
  int32_t* active_count = nullptr;
  int32_t* exit_layer = nullptr;
  int32_t rule = 0;
  int32_t comparator = 0;
  int32_t decay = 0;
  int32_t scope = 0;
  float threshold = 0;
  float decay_tau = 0;
  float decay_horizon = 1;
  int32_t step_index = 0;
  int32_t patience = 0;
  int32_t min_steps = 0;
  int32_t max_steps = 0;
  int32_t layer = 0;
  int32_t first = 0;
  int32_t force = 0;
};

// What a backend needs from the library that opened it.
struct Host {
  // Records the sentence behind exn_last_error() of this thread and returns `status`.
  exn_status (*fail)(exn_status status, const char* sentence);
  // Records exn_last_path() of this thread. `path` is static text or lives as long as the backend.
  void (*ran)(const char* path);
};

constexpr uint32_t kBackendAbi = 1;

struct Backend {
  uint32_t abi;   // kBackendAbi
  uint32_t size;  // sizeof(Backend)
  const char* name;

  int32_t (*device_count)();
  exn_status (*alloc)(int32_t device, size_t bytes, void** out);
  exn_status (*free)(int32_t device, void* pointer);
  // to_device / from_device: which sides are device memory of this backend.
  exn_status (*copy)(int32_t device, void* dst, bool dst_on_device, const void* src, bool src_on_device,
                     size_t bytes, exn_stream stream);
  exn_status (*stream_create)(int32_t device, exn_stream* out);
  exn_status (*stream_destroy)(int32_t device, exn_stream stream);
  exn_status (*stream_synchronize)(int32_t device, exn_stream stream);

  exn_status (*row_stats)(const RowStatsArgs&, Workspace&, exn_stream);
  exn_status (*exit_head)(const ExitHeadArgs&, Workspace&, exn_stream);
  exn_status (*stablemax)(const StableMaxArgs&, Workspace&, exn_stream);
  exn_status (*cross_entropy)(const CrossEntropyArgs&, Workspace&, exn_stream);
  exn_status (*perp_grad)(const PerpGradArgs&, Workspace&, exn_stream);
  exn_status (*cosine)(const CosineArgs&, Workspace&, exn_stream);
  exn_status (*gate)(const GateArgs&, Workspace&, exn_stream);
  exn_status (*exit_rule)(const ExitRuleArgs&, Workspace&, exn_stream);
};

// The one symbol that libexeunt_cuda.so exports. Fills *table and returns EXN_OK, or returns
// EXN_BACKEND_UNAVAILABLE after host.fail() said why (no driver, no device, other ABI).
using BackendQuery = exn_status (*)(uint32_t abi, const Host* host, Backend* table);
constexpr const char* kBackendQuerySymbol = "exn_cuda_backend_query";

}  // namespace exn
