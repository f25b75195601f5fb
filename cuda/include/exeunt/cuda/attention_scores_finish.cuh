// SPDX-License-Identifier: Apache-2.0
//
// What attention_scores does with products of queries and keys: how a block sums them, and the blocks
// that finish columns (attention_scores.cuh).
#pragma once

#include "attention_scores_task.cuh"

namespace exn::cuda {

// Products of a slot with the queries of a KV head whose heads a score sums.
struct HeadProducts {
  const float* first;
  int64_t pitch;  // between two queries
  const float2* weights;
  int heads;   // of a row
  int stride;  // queries between two rows
};

// What a block that scores and one that finishes have alike: the task, and how products are summed.
template <class C, int QUERIES>
class ScoresWork {
 public:
  __device__ __forceinline__ ScoresWork(const ScoresTask<C>& task, unsigned char* dynamic,
                                        ScoresShared<QUERIES>* fixed)
      : task_(task),
        dynamic_(dynamic),
        fixed_(*fixed),
        lane_(static_cast<int>(threadIdx.x) % kWarp),
        warp_(static_cast<int>(threadIdx.x) / kWarp) {}

 protected:
  // Slots that a row of a prompt sees.
  __device__ __forceinline__ int seen_by(int64_t prompt, int64_t row) const {
    const int32_t visible = task_.visible[prompt * task_.window + row];
    return static_cast<int>(clamped(visible, 0, task_.at.slots));
  }

  __device__ __forceinline__ int64_t limit_of(int64_t prompt) const {
    return task_.limit != nullptr ? clamped(task_.limit[prompt], 0, task_.columns) : task_.columns;
  }

  __device__ __forceinline__ float* product_row(int64_t head, int64_t row) const {
    return task_.products + (head * task_.product_rows + row) * task_.pitch;
  }
  __device__ __forceinline__ bool is_scored(int64_t column) const {
    return column >= 0 && column < task_.columns;
  }

  // A KV head with few queries has few products.
  __device__ __forceinline__ bool kept() const { return QUERIES > 4 && task_.shape.keeps; }
  __device__ __forceinline__ float* kept_sums(int64_t index, int head) const {
    const int64_t rows = task_.heads == HeadSum::kEach ? task_.group : 1;
    return task_.kept_sums + (index * rows + head) * task_.pitch;
  }

  // Takes a ticket for what the block has written; true for the one that takes the last of `count`.
  __device__ __forceinline__ bool is_last(unsigned* counter, int64_t count) {
    __syncthreads();
    if (threadIdx.x == 0) {
      __threadfence();
      fixed_.is_last = atomicAdd(counter, 1u) == count - 1;
      __threadfence();
    }
    __syncthreads();
    return fixed_.is_last;
  }

  // Says that all threads have written what others wait for.
  __device__ __forceinline__ void tell(unsigned* counter) const {
    __syncthreads();
    if (threadIdx.x == 0) {
      __threadfence();
      atomicAdd(counter, 1u);
    }
  }

  // What a row of the window adds to a slot's score.
  __device__ __forceinline__ float sum_heads(const HeadProducts& from, int window_row) const {
    const float* product = from.first + window_row * from.stride * from.pitch;
    const float2* weight = from.weights + window_row * from.stride;
    float sum = 0.0f;
#pragma unroll 4
    for (int i = 0; i < from.heads; ++i, product += from.pitch, ++weight) {
      sum = task_.softmax ? fmaf(expf(*product - weight->x), weight->y, sum) : sum + *product;
    }
    return sum;
  }

  // What every so-manyth row adds that sees the slot.
  __device__ __forceinline__ float sum_run(const HeadProducts& from, int rows, int run,
                                           int64_t slot) const {
    float sum = 0.0f;
#pragma unroll 1
    for (int i = run; i < rows; i += kRowRuns) {
      if (task_.summed || slot < fixed_.row_seen[i]) sum += sum_heads(from, i);
    }
    return sum;
  }

  const ScoresTask<C>& task_;
  unsigned char* const dynamic_;
  ScoresShared<QUERIES>& fixed_;
  const int lane_;
  const int warp_;
};

// A block that finishes some columns of a row of scores.
template <class C, int QUERIES>
class ScoresFinish : ScoresWork<C, QUERIES> {
 public:
  using Work = ScoresWork<C, QUERIES>;
  using Work::Work;

  __device__ __forceinline__ void finish(int64_t item) {
    const int64_t piece = item % task_.shape.pieces;
    locate_row(item / task_.shape.pieces);
    wait_for_products();
    const bool missing = task_.counters.missing[row().prompt] != 0;
    const int64_t begin = piece * task_.shape.piece;
    const int64_t end = min(begin + task_.shape.piece, task_.columns);
#pragma unroll 1
    for (int64_t column = begin; column < end; column += kScoreThreads) {
      write_columns(column, missing);
    }
    if (!task_.ends) return;
    if (task_.scored != nullptr && piece == 0 && threadIdx.x == 0) {
      task_.scored[row().index] = static_cast<int32_t>(row().scored);
    }
    if (!task_.selects) return;
    if (!is_last(&task_.counters.finished[row().index], task_.shape.pieces)) return;
    auto* const shared = reinterpret_cast<SelectShared<kScoreThreads>*>(dynamic_);
    auto* const keys = reinterpret_cast<unsigned*>(dynamic_ + sizeof *shared);
    SelectRow<float, kScoreThreads> selection(task_.selection, shared, keys,
                                              task_.shape.select_items);
    selection.run(row().index, task_.scores + row().index * task_.columns, task_.columns,
                  row().scored);
  }

 private:
  using Work::dynamic_, Work::fixed_, Work::is_last, Work::kept, Work::kept_sums, Work::limit_of,
      Work::product_row, Work::seen_by, Work::sum_run, Work::task_;

  __device__ __forceinline__ const ScoreRow& row() const { return fixed_.row; }

  // What the row sums, and how far: the most slots that a row of this launch sees, and any row.
  __device__ __forceinline__ void locate_row(int64_t index) {
    const int64_t prompt = index / task_.score_heads;
    int here = 0;
    int anywhere = 0;
    for (int64_t i = threadIdx.x; i < task_.window; i += kScoreThreads) {
      const int seen = seen_by(prompt, i);
      anywhere = max(anywhere, seen);
      if (i < task_.first_row || i >= task_.first_row + task_.rows) continue;
      fixed_.row_seen[i - task_.first_row] = seen;
      here = max(here, seen);
    }
    here = block_reduce<Max, kScoreWarps>(here, fixed_.most[0]);
    anywhere = block_reduce<Max, kScoreWarps>(anywhere, fixed_.most[1]);
    if (threadIdx.x != 0) return;
    const int head = static_cast<int>(index % task_.score_heads);
    ScoreRow& row = fixed_.row;
    row.index = index;
    row.prompt = prompt;
    row.seen = here;
    row.scored = clamped(anywhere - task_.first, 0, limit_of(prompt));
    row.kv_begin = 0;
    row.kv_end = static_cast<int>(task_.kv_heads);
    row.rows = task_.summed ? task_.product_rows : task_.rows;
    row.stride = task_.summed ? 1 : task_.group;
    row.begin = 0;
    row.end = row.stride;
    if (task_.heads == HeadSum::kEach) {
      row.kv_begin = head / task_.group;
      row.begin = head % task_.group;
      row.end = row.begin + 1;
    } else if (task_.heads == HeadSum::kGroup) {
      row.kv_begin = head;
    }
    if (task_.score_heads > 1) row.kv_end = row.kv_begin + 1;
  }

  // All products of the prompt are there, of a softmax the weights too; and the place is, for all
  // threads.
  __device__ __forceinline__ void wait_for_products() const {
    const int64_t count = task_.kv_heads * (task_.softmax && !kept() ? 1 : task_.shape.tiles);
    if (threadIdx.x == 0) {
      unsigned* const ready = &task_.counters.ready[row().prompt];
      while (atomicAdd(ready, 0u) != count) __nanosleep(100);
      __threadfence();
    }
    __syncthreads();
  }

  // What all of them add.
  __device__ __forceinline__ float sum_head(int64_t head, int64_t column) const {
    const int64_t slot = task_.first + column;
    if (kept() && task_.kept[head * task_.shape.tiles + slot / task_.layout.tile_slots] != 0) {
      return kept_sums(head, task_.heads == HeadSum::kEach ? row().begin : 0)[column];
    }
    const HeadProducts from{product_row(head, row().begin) + column, task_.pitch,
                            task_.weights + head * task_.shape.queries + row().begin,
                            row().end - row().begin, row().stride};
    float sum = 0.0f;
#pragma unroll 1
    for (int run = 0; run < kRowRuns; ++run) sum += sum_run(from, row().rows, run, slot);
    return sum;
  }

  // What the launch's rows add to a column, KV head by KV head.
  __device__ __forceinline__ float sum_rows(int64_t column) const {
    float sum = 0.0f;
    if (task_.first + column >= row().seen) return sum;
#pragma unroll 1
    for (int kv_head = row().kv_begin; kv_head < row().kv_end; ++kv_head) {
      sum += sum_head(row().prompt * task_.kv_heads + kv_head, column);
    }
    return sum;
  }

  // The same and all launches before; in the last one, the score before it is pooled.
  __device__ __forceinline__ float value_of(int64_t column) const {
    float value = sum_rows(column);
    if (!task_.starts) value += task_.sums[row().index * task_.columns + column];
    const bool is_mean = task_.ends && task_.heads == HeadSum::kMean;
    return is_mean ? value / static_cast<float>(task_.kv_heads * task_.group) : value;
  }

  // Columns from `first` on, one for each thread. A column's value lies in shared memory for the
  // others whose pool it belongs to.
  __device__ __forceinline__ void write_columns(int64_t first, bool missing) const {
    const int half = task_.ends ? task_.pool_width / 2 : 0;
    float* const values = reinterpret_cast<float*>(dynamic_);
    const float outside = task_.pool == Pooling::kMax ? -INFINITY : 0.0f;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < kScoreThreads + 2 * half; i += kScoreThreads) {
      const int64_t column = first - half + i;
      float value = outside;
      if (column >= 0 && column < row().scored) value = missing ? NAN : value_of(column);
      values[i] = value;
    }
    __syncthreads();
    const int64_t column = first + threadIdx.x;
    if (column < task_.columns) write(column, values + threadIdx.x);
    __syncthreads();  // the next columns take the place of these
  }

  __device__ __forceinline__ void write(int64_t column, const float* values) const {
    const int64_t at = row().index * task_.columns + column;
    if (column >= row().scored) {
      if (task_.ends && !task_.accumulate) task_.scores[at] = -INFINITY;
    } else if (!task_.ends) {
      task_.sums[at] = *values;
    } else if (task_.accumulate) {
      task_.scores[at] += *values;
    } else {
      task_.scores[at] = pooled(values);
    }
  }

  __device__ __forceinline__ float pooled(const float* values) const {
    if (task_.pool == Pooling::kNone) return *values;
    if (task_.pool == Pooling::kMax) {
      float largest = -INFINITY;
      for (int i = 0; i < task_.pool_width; ++i) {
        const float value = values[i];
        if (value > largest || value != value) largest = value;
        if (largest != largest) break;
      }
      return largest;
    }
    float sum = 0.0f;
    for (int i = 0; i < task_.pool_width; ++i) sum += values[i];
    return sum / static_cast<float>(task_.pool_width);
  }
};

}  // namespace exn::cuda
