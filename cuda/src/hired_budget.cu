// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/hired_budget.cuh>

#include "backend.h"
#include "base/args/hired_budget.h"

namespace exn::cuda {

// Patches of an image whose attention is kept in shared memory: with what the kernel itself needs
// less than the 48 KiB that every block may have.
constexpr int64_t kMostStaged = 12000;

exn_status hired_budget(const HiredBudgetArgs& args, Workspace& workspace, exn_stream stream) {
  const int64_t parts = args.grid_rows * args.grid_cols;
  const int64_t patches = args.patch_rows * args.patch_cols;
  const int64_t images = args.attention.rows;
  HiredBudgetTask task;
  task.scores = workspace.take<double>(images * parts);
  task.shares = workspace.take<float>(images * parts);
  if (workspace.counting()) return EXN_OK;
  task.attention = static_cast<const float*>(args.attention.data);
  task.stride = args.attention.stride;
  task.images = images;
  task.budget = args.budget;
  task.marks = args.marks;
  task.valid = args.valid;
  task.patches = static_cast<int32_t>(patches);
  task.parts = static_cast<int32_t>(parts);
  task.region_size = static_cast<int32_t>(parts > 0 ? patches / parts : patches);
  const bool grid = args.region == EXN_HIRED_GRID && parts > 0;
  // A strip is a region of one row.
  task.region_width =
      grid ? static_cast<int32_t>(args.patch_cols / args.grid_cols) : task.region_size;
  task.pitch = grid ? static_cast<int32_t>(args.patch_cols) : 0;
  task.grid_cols = grid ? static_cast<int32_t>(args.grid_cols) : 1;
  task.row_stride = grid ? static_cast<int32_t>(args.patch_rows / args.grid_rows * args.patch_cols)
                         : task.region_size;
  task.full_budget = static_cast<int32_t>(args.full_budget);
  task.sub_budget = args.sub_budget;
  task.mark_count = static_cast<int32_t>(args.mark_count);
  task.counts = args.score == EXN_HIRED_TOP_COUNT;
  task.deals = args.remainder == EXN_HIRED_LARGEST_REMAINDER;
  task.stages = patches <= kMostStaged;
  const size_t stage_bytes = task.stages ? static_cast<size_t>(patches) * sizeof(float) : 0;
  return run_on(args, "hired_budget_kernel", [&] {
    if (images == 0) return;
    EXN_LAUNCH(hired_budget_kernel, grid_for(images), kHiredThreads, stage_bytes, stream_of(stream),
               task);
  });
}

}  // namespace exn::cuda
