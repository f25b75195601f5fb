// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/verify.cuh>

#include <algorithm>

#include "backend.h"
#include "base/args/verify.h"
#include "dispatch.h"

namespace exn::cuda {
namespace {

// The kernels' headers stand alone, so they spell the ABI's constants themselves.
static_assert(static_cast<int>(RoundOutcome::kOff) == EXN_VERIFY_OFF &&
                  static_cast<int>(RoundOutcome::kGoesOn) == EXN_VERIFY_GOES_ON &&
                  static_cast<int>(RoundOutcome::kStopped) == EXN_VERIFY_STOPPED &&
                  static_cast<int>(RoundOutcome::kFull) == EXN_VERIFY_FULL &&
                  static_cast<int>(RoundOutcome::kInvalid) == EXN_VERIFY_INVALID,
              "outcomes");

constexpr int64_t kMostGridRows = 65535;  // what a launch takes in its second dimension

unsigned grid_rows(int64_t rows) { return static_cast<unsigned>(std::min(rows, kMostGridRows)); }

VerifyTask task_of(const VerifyArgs& args) {
  VerifyTask task;
  task.sequences = args.sequences;
  task.most = args.most;
  task.drafted = args.drafted;
  task.draft_length = args.draft_length;
  task.active = args.active;
  task.argmax = args.argmax;
  task.stop = args.stop;
  task.stops = args.stops;
  task.accepted = args.accepted;
  task.token = args.token;
  task.out = args.out;
  task.out_count = args.out_count;
  task.last_row = args.last_row;
  task.outcome = args.outcome;
  task.length = args.length;
  task.position = args.position;
  task.bounded = args.capacity > 0;
  task.capacity = task.bounded ? args.capacity : INT32_MAX;
  return task;
}

exn_status verify_greedy(const VerifyArgs& args, exn_stream stream) {
  const VerifyTask task = task_of(args);
  return run_on(args, "verify_greedy_kernel", [&] {
    if (task.sequences == 0) return;
    EXN_LAUNCH(verify_greedy_kernel, grid_for(ceil_div(task.sequences, kVerifyWarps)),
               kVerifyThreads, 0, stream_of(stream), task);
  });
}

// What is known of a matrix of `per_draft` rows for each sequence; takes memory for its sums.
VerifyRows rows_of(const Matrix& m, float temperature, bool probabilities, Workspace& workspace) {
  VerifyRows rows = {m.data, storage_of(m.dtype), m.stride, 1.0f / temperature, 0, nullptr};
  if (m.data == nullptr || probabilities) return rows;
  dispatch_float(m.dtype,
                 [&](auto tag) { rows.tiles = ceil_div(m.cols, kTile<type_of<decltype(tag)>>); });
  rows.sums = workspace.take<RowSums>(product(m.rows, rows.tiles));
  return rows;
}

void queue_sums(const VerifyTask& round, const Matrix& m, const VerifyRows& rows,
                cudaStream_t stream) {
  if (m.rows == 0 || rows.sums == nullptr) return;
  dispatch_float(m.dtype, [&](auto tag) {
    using T = type_of<decltype(tag)>;
    VerifyRowsTask<T> task;
    task.round = round;
    task.logits = static_cast<const T*>(m.data);
    task.per_draft = m.rows / round.sequences;
    task.columns = m.cols;
    task.stride = m.stride;
    task.inverse_temperature = rows.inverse_temperature;
    task.tiles = rows.tiles;
    task.sums = const_cast<RowSums*>(rows.sums);
    const dim3 grid(static_cast<unsigned>(rows.tiles), grid_rows(m.rows));
    EXN_LAUNCH((verify_rows_kernel<T>), grid, kTileThreads, 0, stream, task);
  });
}

exn_status verify_sampled(const VerifyArgs& args, Workspace& workspace, exn_stream stream) {
  VerifyDrawTask task;
  task.round = task_of(args);
  task.uniform = args.uniform;
  task.columns = args.logits.cols;
  task.target = rows_of(args.logits, args.temperature, false, workspace);
  task.draft = rows_of(args.draft, args.draft_temperature, args.probabilities, workspace);
  task.choices = workspace.take<VerifyChoice>(args.sequences);
  task.groups = ceil_div(task.columns, kGroupTokens);
  task.weights = workspace.take<float>(product(args.sequences, task.groups));
  if (workspace.counting()) return EXN_OK;
  return run_on(
      args, "verify_rows_kernel, verify_choose_kernel, verify_weigh_kernel, verify_draw_kernel",
      [&] {
        if (args.sequences == 0) return;
        const cudaStream_t queue = stream_of(stream);
        queue_sums(task.round, args.logits, task.target, queue);
        queue_sums(task.round, args.draft, task.draft, queue);
        EXN_LAUNCH(verify_choose_kernel, grid_for(args.sequences), kVerifyThreads, 0, queue, task);
        const dim3 groups(static_cast<unsigned>(ceil_div(task.groups, kVerifyWarps)),
                          grid_rows(args.sequences));
        EXN_LAUNCH(verify_weigh_kernel, groups, kVerifyThreads, 0, queue, task);
        EXN_LAUNCH(verify_draw_kernel, grid_for(ceil_div(args.sequences, kVerifyWarps)),
                   kVerifyThreads, 0, queue, task);
      });
}

}  // namespace

exn_status verify(const VerifyArgs& args, Workspace& workspace, exn_stream stream) {
  if (args.argmax == nullptr) return verify_sampled(args, workspace, stream);
  return workspace.counting() ? EXN_OK : verify_greedy(args, stream);
}

}  // namespace exn::cuda
