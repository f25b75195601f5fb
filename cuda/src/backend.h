// SPDX-License-Identifier: Apache-2.0
//
// What the launchers share: errors, the current device, launch geometry.
#pragma once

#include <cstdint>

#include <exeunt/cuda/portable.cuh>
#include <exeunt/cuda/stats.cuh>

#include "core/ops.h"

namespace exn::cuda {

// Maps a CUDA error to a status and records "<what>: <CUDA's name and text>". EXN_OK for cudaSuccess.
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

// Records the path of an op, "cuda/<arch of the device>/<op>", for exn_last_path().
enum class OpName { kRowStats, kExitHead, kStableMax, kCrossEntropy, kPerpGrad, kCosine, kGate, kExitRule, kCount };
void report_path(int32_t device, OpName op);

// Runs `launch()` - which only queues kernels - on `device` and turns a launch that failed into a status.
//
// The CUDA runtime is linked statically and its symbols are hidden, so the per-thread error it keeps is
// ours alone: reading it here takes nothing away from a caller that uses a runtime of its own.
template <class Launch>
exn_status run_on(int32_t device, OpName op, const char* kernels, Launch&& launch) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  launch();
  const exn_status status = check(cudaGetLastError(), kernels);
  if (status == EXN_OK) report_path(device, op);
  return status;
}

inline cudaStream_t stream_of(exn_stream stream) { return static_cast<cudaStream_t>(stream); }

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks for `items` pieces of work; the kernels loop when there are more pieces than a grid has blocks.
inline unsigned grid_for(int64_t items) {
  constexpr int64_t kMostBlocks = INT32_MAX;
  return static_cast<unsigned>(items < kMostBlocks ? items : kMostBlocks);
}

inline StatsTargets targets_of(const StatsOut& out) {
  return {out.argmax, out.max_logit, out.lse,          out.p1,         out.p2,
          out.margin, out.entropy,   out.pow2_entropy, out.mean_log_p, out.valid};
}

inline StatsOptions stats_options(const StatsOut& out, int32_t normalizer, float temperature, float softcap,
                                  int64_t count) {
  StatsOptions options;
  options.softcap = softcap;
  options.temperature = temperature;
  options.inverse_count = 1.0f / static_cast<float>(count);
  options.stablemax = normalizer == EXN_STABLEMAX;
  options.want_pow2 = out.pow2_entropy != nullptr;
  options.want_mean = out.mean_log_p != nullptr;
  return options;
}

// The ops, one per source file.
exn_status row_stats(const RowStatsArgs& args, Workspace& workspace, exn_stream stream);
exn_status exit_head(const ExitHeadArgs& args, Workspace& workspace, exn_stream stream);
exn_status stablemax(const StableMaxArgs& args, Workspace& workspace, exn_stream stream);
exn_status cross_entropy(const CrossEntropyArgs& args, Workspace& workspace, exn_stream stream);
exn_status perp_grad(const PerpGradArgs& args, Workspace& workspace, exn_stream stream);
exn_status cosine(const CosineArgs& args, Workspace& workspace, exn_stream stream);
exn_status gate(const GateArgs& args, Workspace& workspace, exn_stream stream);
exn_status exit_rule(const ExitRuleArgs& args, Workspace& workspace, exn_stream stream);

}  // namespace exn::cuda
