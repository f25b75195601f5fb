// SPDX-License-Identifier: Apache-2.0
//
// What the launchers share: errors, the current device, launch geometry.
#pragma once

#include <cstdint>

#include <exeunt/cuda/portable.cuh>
#include <exeunt/cuda/stats.cuh>
#include <exeunt/row_stats.h>

#include "base/args.h"

namespace exn::cuda {

// Records the sentence that exn_last_error() returns, and returns `status`.
exn_status fail(exn_status status, const char* sentence);

// Maps a CUDA error to a status and records "<what>: <CUDA's name and text>". EXN_OK for
// cudaSuccess.
exn_status check(cudaError_t error, const char* what);

// Makes `device` current for this thread and restores the caller's device on the way out.
class DeviceGuard {
 public:
  explicit DeviceGuard(int32_t device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  exn_status status() const { return status_; }

 private:
  int previous_ = -1;
  exn_status status_;
};

// Facts about a device, asked for once: its multiprocessors, the bytes of its L2 cache.
int64_t sm_count(int32_t device);
int64_t l2_bytes(int32_t device);

// An op's place in the list of base/ops.h, by its arguments: launchers do not see the list, so that
// a new op compiles no other's kernels again.
enum class OpIndex : int;
template <class Args>
OpIndex op_index();

// Records the path of an op, "cuda/<arch of the device>/<op>", for exn_last_path().
void report_path(int32_t device, OpIndex op);

// Refuses more rows than a launch has blocks, for the ops whose kernels take a block for each row.
// `name`: the argument whose rows they are.
exn_status check_rows(OpIndex op, const char* name, int64_t rows);
template <class Args>
exn_status check_rows(const Args&, const char* name, int64_t rows) {
  return check_rows(op_index<Args>(), name, rows);
}

// Runs `launch()` - which only queues kernels - on the device of `args` and turns a launch that
// failed into a status.
//
// The CUDA runtime is linked statically and its symbols are hidden, so the per-thread error it
// keeps is ours alone: reading it here takes nothing away from a caller that uses a runtime of its
// own.
template <class Args, class Launch>
exn_status run_on(const Args& args, const char* kernels, Launch&& launch) {
  const DeviceGuard guard(args.device);
  if (guard.status() != EXN_OK) return guard.status();
  launch();
  const exn_status status = check(cudaGetLastError(), kernels);
  if (status == EXN_OK) report_path(args.device, op_index<Args>());
  return status;
}

inline cudaStream_t stream_of(exn_stream stream) { return static_cast<cudaStream_t>(stream); }

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The smallest n with 2^n >= least.
inline int shift_for(int64_t least) {
  int shift = 0;
  while ((int64_t{1} << shift) < least) ++shift;
  return shift;
}

constexpr int64_t kMostBlocks = INT32_MAX;  // of a launch

// Blocks for `items` pieces of work; the kernels loop when there are more pieces than a grid has
// blocks.
inline unsigned grid_for(int64_t items) {
  return static_cast<unsigned>(items < kMostBlocks ? items : kMostBlocks);
}

// Dynamic shared memory that a block has without asking, beside at most 4 KiB of static: every GPU
// has 48 KiB.
constexpr int kMostSharedBytes = 44 * 1024;

// Allows a kernel the dynamic shared memory it needs (at most 68 KiB; every supported GPU has 99),
// beside at most 16 KiB that it has anyway. Queues nothing, so it is legal during capture.
template <class Kernel>
void allow_shared(Kernel kernel, int bytes) {
  if (bytes > 32 * 1024)
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

inline DrawInputs draw_inputs(const StatsOut& out) {
  return {out.draw_key, out.draw_counter, out.draw_temperature};
}

inline StatsTargets targets_of(const StatsOut& out, int64_t vocabulary) {
  return {out.argmax, out.max_logit,   out.lse,          out.p1,         out.p2,
          out.margin, out.entropy,     out.pow2_entropy, out.mean_log_p, out.valid,
          out.labels, out.label_log_p, vocabulary,       out.draw,       draw_inputs(out)};
}

inline StatsOptions stats_options(const StatsOut& out, int32_t normalizer, float temperature,
                                  float softcap, int64_t count) {
  StatsOptions options;
  options.softcap = softcap;
  options.inverse_temperature = 1.0f / temperature;
  options.inverse_count = 1.0f / static_cast<float>(count);
  options.stablemax = normalizer == EXN_STABLEMAX;
  options.want_pow2 = out.pow2_entropy != nullptr;
  options.want_mean = out.mean_log_p != nullptr;
  return options;
}

}  // namespace exn::cuda
