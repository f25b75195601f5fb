// SPDX-License-Identifier: Apache-2.0
//
// Queues a selection of columns, for the ops that make one.
#pragma once

#include <algorithm>

#include <exeunt/cuda/select.cuh>

#include "backend.h"

namespace exn::cuda {

inline SelectionTask selection_of(const Selection& selection) {
  SelectionTask task;
  task.indices = selection.indices;
  task.capacity = selection.capacity;
  task.count = selection.count;
  task.valid = selection.valid;
  task.budget = selection.budget;
  task.segments = selection.segments;
  task.segment_count = selection.segment_count;
  task.keep = {selection.keep, selection.keep_count, selection.keep_stride};
  task.drop = {selection.drop, selection.drop_count, selection.drop_stride};
  task.k = selection.k;
  return task;
}

template <int THREADS, class T>
void queue_select_by(const SelectTask<T>& task, cudaStream_t stream) {
  const int bytes = THREADS * task.items * static_cast<int>(sizeof(unsigned));
  allow_shared(select_kernel<T, THREADS>, bytes);
  EXN_LAUNCH((select_kernel<T, THREADS>), grid_for(task.rows), THREADS, bytes, stream, task);
}

// Columns from which on a row is shared by a team of blocks, if there are multiprocessors for it.
constexpr int64_t kTeamColumns = 16384;

// The teams of `rows` rows, which are not sums that the kernel makes itself; none where rows are
// short, or so many that each SM has one anyway.
inline SelectTeams take_teams(int64_t rows, int64_t columns, int32_t device, Workspace& workspace) {
  SelectTeams teams = {};
  const int64_t sms = std::min<int64_t>(sm_count(device), kMostTeamBlocks);
  if (columns >= kTeamColumns && rows > 0 && 2 * rows <= sms) {
    const int64_t most = std::min(sms / rows, ceil_div(columns, kTeamThreads * kKeyGroup));
    teams.tiles = ceil_div(columns, most * kTeamThreads * kTeamItems);
    const int64_t held = ceil_div(columns, most * teams.tiles);
    teams.blocks = ceil_div(
        columns, teams.tiles * ceil_div(held, kTeamThreads * kKeyGroup) * kTeamThreads * kKeyGroup);
  }
  teams.meetings = workspace.take<SelectMeeting>(teams.blocks > 0 ? rows : 0);
  teams.counts = workspace.take<int2>(rows * 2 * teams.blocks);
  return teams;
}

template <class T>
void queue_select_team(SelectTask<T> task, SelectTeams teams, cudaStream_t stream) {
  const int64_t keys = ceil_div(task.columns, teams.blocks * teams.tiles * kTeamThreads);
  task.items = static_cast<int>(ceil_div(keys, kKeyGroup)) * kKeyGroup;
  const size_t bytes = sizeof(unsigned) * static_cast<size_t>(kTeamThreads * task.items);
  const auto blocks = static_cast<unsigned>(task.rows * teams.blocks);
  cudaMemsetAsync(teams.meetings, 0, static_cast<size_t>(task.rows) * sizeof(SelectMeeting),
                  stream);
#if defined(EXN_SIMT)
  EXN_LAUNCH((select_team_kernel<T>), blocks, kTeamThreads, bytes, stream, task, teams);
#else
  // Blocks that wait for one another: cooperative, so that the device starts all or none.
  void* arguments[] = {&task, &teams};
  cudaLaunchCooperativeKernel(select_team_kernel<T>, dim3(blocks), dim3(kTeamThreads), arguments,
                              bytes, stream);
#endif
}

// With the fewest threads, and the fewest columns for each, that hold a row.
template <class T>
void queue_select(SelectTask<T> task, const SelectTeams& teams, cudaStream_t stream) {
  if (task.rows == 0) return;
  if (teams.blocks > 0) return queue_select_team(task, teams, stream);
  const bool is_short = task.columns <= 256 * kSelectItems<256>;
  const int threads = is_short ? 256 : 512;
  const int64_t groups = task.columns > 0 ? ceil_div(task.columns, threads * kKeyGroup) : 1;
  const bool is_held = groups * kKeyGroup <= kSelectItems<512>;
  task.items = is_held ? static_cast<int>(groups) * kKeyGroup : kSelectRoundItems;
  if (is_short) {
    queue_select_by<256>(task, stream);
  } else {
    queue_select_by<512>(task, stream);
  }
}

}  // namespace exn::cuda
