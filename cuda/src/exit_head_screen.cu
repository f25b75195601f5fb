// SPDX-License-Identifier: Apache-2.0
#include "base/screen.h"

#include <exeunt/cuda/screen.cuh>

#include <cstddef>

#include "exit_head.h"

namespace exn::cuda {
namespace {

// The image is described twice, for the host and for kernels that know nothing of it.
#define EXN_SAME(field)                                                                \
  static_assert(offsetof(exn::ScreenHeader, field) == offsetof(ScreenHeader, field) && \
                    sizeof(exn::ScreenHeader::field) == sizeof(ScreenHeader::field),   \
                #field)
EXN_SAME(magic);
EXN_SAME(version);
EXN_SAME(levels);
EXN_SAME(bytes);
EXN_SAME(vocabulary);
EXN_SAME(dim);
EXN_SAME(segments);
EXN_SAME(groups);
EXN_SAME(ends);
EXN_SAME(units);
EXN_SAME(residual);
EXN_SAME(frobenius);
EXN_SAME(own);
#undef EXN_SAME
static_assert(sizeof(exn::ScreenHeader) == sizeof(ScreenHeader));
static_assert(exn::kScreenVersion == kScreenVersion && exn::kScreenMostDim == kScreenMostDim &&
              exn::kScreenMostLevels == kScreenMostLevels &&
              exn::kScreenSegments == kScreenSegments &&
              exn::kScreenHeaderBytes == kScreenHeaderBytes && exn::kScreenGroups == kScreenGroups);
static_assert(EXN_CERTIFIED_NOT == kCertifiedNot && EXN_CERTIFIED_PROVEN == kCertifiedProven &&
              EXN_CERTIFIED_CALIBRATED == kCertifiedCalibrated);

constexpr bool is_magic(uint64_t number) {
  for (int i = 0; i < 8; ++i) {
    if (static_cast<char>(number >> i * 8) != exn::kScreenMagic[i]) return false;
  }
  return true;
}
static_assert(is_magic(kScreenMagic));

constexpr bool are_formats() {
  for (int i = 0; i < kScreenSegments; ++i) {
    if (static_cast<int>(exn::kScreenFormats[i]) != static_cast<int>(screen_format(i)))
      return false;
  }
  return true;
}
static_assert(are_formats());

bool wants_mass(const ExitHeadArgs& args) {
  return args.out.p1 != nullptr || args.out.lse != nullptr || args.p1_low != nullptr;
}

void queue_scores(const ScreenTask& task, cudaStream_t stream) {
  allow_shared(screen_scores_kernel, kScreenBytes);
  EXN_LAUNCH(screen_scores_kernel, linear_grid(1, 1, task.tiles), kBlockTileThreads, kScreenBytes,
             stream, task);
}

// The logits of a list of at most `most` rows of the head, for each row of hidden.
void queue_exact(const ExitHeadArgs& args, const ScreenTask& task, int64_t most, bool second,
                 cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(head_tiles(args.weight, most)),
                  static_cast<unsigned>(task.rows));
  if (is_quantised(args.weight)) {
    const auto input = head_input<uint8_t>(args, task.x, task.rows);
    with_blocks(static_cast<Blocks>(args.weight.blocks), [&](auto format) {
      constexpr Blocks kFormat = decltype(format)::value;
      constexpr int kBytes = BlockTileShape<kFormat>::kSharedBytes;
      allow_shared(screen_exact_blocks_kernel<kFormat>, kBytes);
      EXN_LAUNCH((screen_exact_blocks_kernel<kFormat>), grid, kBlockTileThreads, kBytes, stream,
                 input, task, second);
    });
    return;
  }
  dispatch_float(args.weight.dtype, [&](auto tag) {
    using W = type_of<decltype(tag)>;
    using Shape = LinearShape<W, kFewestRows<W>>;
    allow_shared(screen_exact_kernel<W>, Shape::kSharedBytes);
    EXN_LAUNCH((screen_exact_kernel<W>), grid, Shape::kThreads, Shape::kSharedBytes, stream,
               head_input<W>(args, task.x, task.rows), task, second);
  });
}

// What all rows have in common, and what they take of the workspace.
ScreenTask task_of(const ExitHeadArgs& args, Workspace& workspace) {
  ScreenTask task = {};
  task.image = reinterpret_cast<const uint8_t*>(args.screen);
  task.image_bytes = args.screen_bytes;
  task.vocabulary = args.weight.rows;
  task.dim = args.hidden.cols;
  task.level = args.screen_level;
  task.factor = args.screen_factor;
  task.budget = args.screen_budget;
  task.bias = args.bias;
  task.has_blocks = is_quantised(args.weight);
  task.x_stride = padded(args.hidden.cols);
  task.tiles = ceil_div(task.vocabulary, kBlockTile);
  task.sum_tiles = ceil_div(task.tiles * kBlockTile, kMassTile);
  const int64_t rows = args.hidden.rows < kScreenRows ? args.hidden.rows : kScreenRows;
  const int64_t bounds = rows * task.tiles * kBlockTile;
  task.view = workspace.take<ScreenView>(1);
  task.row = workspace.take<ScreenRow>(rows);
  task.full = workspace.take<int32_t>(rows);
  task.y = workspace.take<float>(rows * task.x_stride);
  task.upper = workspace.take<float>(bounds);
  task.tile = workspace.take<ScreenExtremes>(rows * task.tiles);
  task.ids = workspace.take<int32_t>(rows * task.budget);
  task.exact = workspace.take<float>(rows * task.budget);
  if (wants_mass(args)) {
    task.logits = workspace.take<float>(bounds);
    task.sums = workspace.take<float>(rows * task.sum_tiles * 3);
  }
  task.out = targets_of(args.out, task.vocabulary);
  task.certified = args.certified;
  task.p1_low = args.p1_low;
  task.p1_high = args.p1_high;
  task.rows_read = args.rows_read;
  const HeadOutput output = head_output(args);
  task.options = output.options;
  task.states = workspace.take<StatsState>(rows * output.tiles);
  task.head_tiles = output.tiles;
  return task;
}

void queue_rows(const ExitHeadArgs& args, const ScreenTask& task, cudaStream_t stream) {
  const auto rows = static_cast<unsigned>(task.rows);
  EXN_LAUNCH(screen_rotate_kernel, static_cast<unsigned>(task.x_stride / kRotateColumns),
             kRotateThreads, 0, stream, task);
  EXN_LAUNCH(screen_row_kernel, rows, kScreenRowThreads, 0, stream, task);
  queue_scores(task, stream);
  EXN_LAUNCH(screen_choose_kernel, rows, kScreenThreads, 0, stream, task);
  const int64_t best = task.budget < kScreenBestRows ? task.budget : kScreenBestRows;
  queue_exact(args, task, best, false, stream);
  EXN_LAUNCH(screen_prune_kernel, rows, kScreenThreads, 0, stream, task);
  queue_exact(args, task, task.budget, true, stream);
  EXN_LAUNCH(screen_leader_kernel, rows, kLeaderThreads, 0, stream, task);
  if (task.logits != nullptr) {
    EXN_LAUNCH(screen_mass_kernel, dim3(static_cast<unsigned>(task.sum_tiles), rows), kMassThreads,
               0, stream, task);
  }
  HeadOutput output = head_output(args);
  output.states = task.states;
  output.wanted = task.full;
  queue_logits(args, task.x, task.rows, output, stream);
  EXN_LAUNCH(screen_finish_kernel, rows, kMergeThreads, 0, stream, task);
}

}  // namespace

int64_t screen_bytes(const ExitHeadArgs& args) {
  Workspace counter;
  task_of(args, counter);
  return static_cast<int64_t>(counter.used());
}

void queue_screened(const ExitHeadArgs& args, void* memory, const float* x, cudaStream_t stream) {
  Workspace workspace(memory, static_cast<size_t>(screen_bytes(args)));
  ScreenTask task = task_of(args, workspace);
  for (int64_t first = 0; first < args.hidden.rows; first += kScreenRows) {
    const int64_t left = args.hidden.rows - first;
    task.x = x + first * task.x_stride;
    task.rows = static_cast<int>(left < kScreenRows ? left : kScreenRows);
    task.first_row = first;
    queue_rows(args, task, stream);
  }
}

}  // namespace exn::cuda
