// SPDX-License-Identifier: Apache-2.0
//
// select: the best columns of each row of scores, or of sums of rows, as an ascending list.
//
// A block finds the k-th best of a row by radix: it counts the leading 11 bits of all candidates,
// then the next ones of those that share them. Two or three rounds give the cut whatever k is; a
// last one lists what lies above it, in the order of the columns. The keys of neighbouring columns
// belong to one thread, and lie in shared memory: a row that fits there is read once.
//
// A long row is shared by many blocks, each of which has its slice of the columns. They meet after
// each round: the last to come adds up nothing but integers, so its order does not matter, finds
// the digit, and lets the others go on.
#pragma once

#include "select_task.cuh"

namespace exn::cuda {

// ---- a row --------------------------------------------------------------------------------------

// The columns of a row that a thread holds, a tile at a time: `items` of each tile, a multiple of
// kKeyGroup and at most 32; `keys` is shared memory for THREADS * items of them.
template <class T, int THREADS, bool SHARED>
class SelectTile {
 protected:
  __device__ __forceinline__ SelectTile(const SelectionTask& task, SelectShared<THREADS>* shared,
                                        unsigned* keys, int items, const SelectTeam& team)
      : task_(task),
        shared_(*shared),
        keys_(keys + threadIdx.x),
        items_(static_cast<unsigned>(items)),
        team_(team) {}

  __device__ __forceinline__ void start(int64_t row, const T* scores, int64_t columns,
                                        int64_t limit) {
    row_ = row;
    scores_ = scores;
    columns_ = static_cast<unsigned>(columns);
    limit_ = static_cast<unsigned>(limit);
    loaded_ = ~0u;
    met_ = 0;
  }

  // How many of them lie before a column.
  __device__ __forceinline__ unsigned mine_before(unsigned column) const {
    return column > base_ ? min(column - base_, items_) : 0u;
  }

  // Those of [begin, end), a bit for each.
  __device__ __forceinline__ unsigned mine_in(unsigned begin, unsigned end) const {
    return low_bits(mine_before(end)) & ~low_bits(mine_before(begin));
  }

  __device__ __forceinline__ unsigned mine_in(const ColumnRanges& ranges) const {
    unsigned mine = 0;
    const int32_t* const list = ranges.list + row_ * ranges.stride;
#pragma unroll 1
    for (int64_t i = 0; i < ranges.count; ++i) {
      const unsigned begin = not_negative(read_for_warp(list + 2 * i));
      mine |= mine_in(begin, not_negative(read_for_warp(list + 2 * i + 1)));
    }
    return mine;
  }

  // Thread by thread, so that those of a warp meet in no bank; each reads its own alone.
  __device__ __forceinline__ unsigned& key(unsigned item) const { return keys_[item * THREADS]; }

  // Calls f(key, item) for the thread's columns whose bits are set.
  template <class F>
  __device__ __forceinline__ void for_keys(unsigned mine, F&& f) const {
#pragma unroll 1
    for (unsigned first = 0; first < items_; first += kKeyGroup) {
#pragma unroll
      for (unsigned i = 0; i < kKeyGroup; ++i) {
        if ((mine >> (first + i) & 1u) != 0) f(key(first + i), first + i);
      }
    }
  }

  __device__ __forceinline__ void load_keys(unsigned first, int64_t heads, int64_t stride) const {
    const T* const from = scores_ + base_ + first;
    const unsigned left = mine_before(columns_) - min(mine_before(columns_), first);
    float x[kKeyGroup];
    sum_scores(from, heads, stride, left, x);
#pragma unroll
    for (unsigned i = 0; i < kKeyGroup; ++i) key(first + i) = order_key(x[i]);
  }

  __device__ __forceinline__ void take_tile(unsigned tile) {
    loaded_ = tile;
    base_ = (tile * THREADS + threadIdx.x) * items_;
    kept_ = mine_in(task_.keep) & mine_in(0, columns_);
    candidates_ = mine_in(0, limit_) & ~kept_ & ~mine_in(task_.drop);
  }

  // Reads a tile, unless the threads hold it already.
  __device__ __forceinline__ void load(unsigned tile) {
    if (tile == loaded_) return;
    take_tile(tile);
    for (unsigned first = 0; first < items_; first += kKeyGroup) load_keys(first, 1, 0);
  }

  // Reads the only tile of a row of several heads. Apart from load(), which is in many places.
  __device__ __forceinline__ void load_sums(int64_t heads, int64_t stride) {
    take_tile(0);
#pragma unroll 1
    for (unsigned first = 0; first < items_; first += kKeyGroup) load_keys(first, heads, stride);
  }

  // Calls f() once for each of the block's tiles with columns of [begin, end), its keys loaded.
  template <class F>
  __device__ __forceinline__ void for_tiles(unsigned begin, unsigned end, F&& f) {
    if (SHARED) {
      const unsigned own = team_.tiles * THREADS * items_;
      begin = max(begin, team_.rank * own);
      end = min(end, (team_.rank + 1) * own);
    }
#pragma unroll 1
    for (unsigned tile = begin / (THREADS * items_); tile * THREADS * items_ < end; ++tile) {
      load(tile);
      f();
    }
  }

  // ---- segments: they ascend, so each begins where the one before ends --------------------------

  __device__ __forceinline__ unsigned boundary(int64_t segment) const {
    if (task_.segments == nullptr) return segment == 0 ? 0u : columns_;
    return min(not_negative(read_for_warp(task_.segments + segment)), columns_);
  }

  __device__ __forceinline__ unsigned last_boundary() const {
    unsigned last = boundary(0);
#pragma unroll 1
    for (int64_t i = 1; i <= task_.segment_count; ++i) last = max(last, boundary(i));
    return last;
  }

  __device__ __forceinline__ int wanted_of(int64_t segment) const {
    if (task_.budget == nullptr) return static_cast<int>(clamped(task_.k, 0, columns_));
    return max(read_for_warp(task_.budget + row_ * task_.segment_count + segment), 0);
  }

  const SelectionTask& task_;
  SelectShared<THREADS>& shared_;
  unsigned* const keys_;  // the thread's
  const unsigned items_;
  const SelectTeam team_;
  unsigned met_;  // meetings so far
  int64_t row_;
  const T* scores_;
  unsigned columns_;  // below 2^31, as what follows
  unsigned limit_;
  unsigned loaded_;  // the tile that the threads hold
  unsigned base_;    // the thread's first column
  unsigned kept_;    // a bit for each of the thread's columns, as in the next one
  unsigned candidates_;
};

// The cut of a segment: the key that the last of the chosen columns has, and how many have it.
template <class T, int THREADS, bool SHARED>
class SelectCut : protected SelectTile<T, THREADS, SHARED> {
 protected:
  using Tile = SelectTile<T, THREADS, SHARED>;
  using Tile::boundary, Tile::candidates_, Tile::for_keys, Tile::for_tiles, Tile::last_boundary,
      Tile::met_, Tile::mine_in, Tile::shared_, Tile::team_;
  using Tile::Tile;

  // ---- blocks that share the row ----------------------------------------------------------------

  // Waits until all of them are here. The last one to come calls work() before any goes on.
  template <class F>
  __device__ __forceinline__ void meet(F&& work) {
    SelectMeeting& meeting = *team_.meeting;
    ++met_;
    __syncthreads();
    if (threadIdx.x == 0) {
      __threadfence();
      shared_.is_last = atomicAdd(&meeting.arrived, 1u) == met_ * team_.blocks - 1;
      __threadfence();
    }
    __syncthreads();
    if (shared_.is_last) {
      work();
      __syncthreads();
      if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(&meeting.released, 1u);
      }
    } else if (threadIdx.x == 0) {
      while (atomicAdd(&meeting.released, 0u) != met_) __nanosleep(50);
      __threadfence();
    }
    __syncthreads();
  }

  // ---- looking for the cut ----------------------------------------------------------------------

  // A NaN among the candidates of any segment.
  __device__ __forceinline__ bool has_nan() {
    const unsigned begin = boundary(0);
    const unsigned end = last_boundary();
    bool found = false;
    for_tiles(begin, end, [&] {
      for_keys(candidates_ & mine_in(begin, end),
               [&](unsigned key, unsigned) { found |= is_nan_key(key); });
    });
    const bool here = __syncthreads_or(found) != 0;
    if constexpr (SHARED) {
      if (here && threadIdx.x == 0) atomicOr(&team_.meeting->found_nan, 1);
      meet([] {});
      if (threadIdx.x == 0) shared_.found_nan = team_.meeting->found_nan;
      __syncthreads();
      return shared_.found_nan != 0;
    }
    return here;
  }

  // Counts a digit, the bits from `shift` on, of the candidates of [begin, end) whose bits above it
  // are `prefix`. The first digit has none above it.
  __device__ __forceinline__ void count_digits(unsigned begin, unsigned end, int shift, int bits,
                                               unsigned prefix) {
    for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += THREADS) shared_.digits[i] = 0;
    __syncthreads();
    const int above = shift + bits;
    for_tiles(begin, end, [&] {
      for_keys(candidates_ & mine_in(begin, end), [&](unsigned key, unsigned) {
        if (above == kKeyBits || key >> above == prefix) {
          atomicAdd(&shared_.digits[key >> shift & low_bits(bits)], 1);
        }
      });
    });
    __syncthreads();
    if constexpr (SHARED) {
      for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += THREADS) {
        if (shared_.digits[i] != 0) atomicAdd(&team_.meeting->digits[i], shared_.digits[i]);
      }
    }
  }

  // The sum of what the threads before this one have, and that of all. A barrier must pass before
  // the next call.
  __device__ __forceinline__ int sum_before(int value, int* total) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    int sum = value;
#pragma unroll
    for (int offset = 1; offset < kWarp; offset *= 2) {
      const int other = __shfl_up_sync(kFullWarp, sum, offset);
      if (lane >= offset) sum += other;
    }
    if (lane == kWarp - 1) shared_.sums[warp] = sum;
    __syncthreads();
    int before = sum - value;
    int all = 0;
#pragma unroll
    for (int i = 0; i < THREADS / kWarp; ++i) {
      if (i < warp) before += shared_.sums[i];
      all += shared_.sums[i];
    }
    *total = all;
    return before;
  }

  // Finds the digit of the `wanted`-th largest key, for all threads; returns how many keys there
  // are. If they are fewer than are wanted, nothing is found.
  __device__ __forceinline__ int find_digit(int wanted) {
    if constexpr (SHARED) {
      return find_together(wanted);
    } else {
      return find_here(wanted);
    }
  }

  // Of the keys of all blocks, by the last one that comes; it leaves what they have counted at 0.
  __device__ __forceinline__ int find_together(int wanted) {
    SelectMeeting& meeting = *team_.meeting;
    meet([&] {
      for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += THREADS) {
        const int count = meeting.digits[i];
        shared_.digits[i] = count;
        if (count != 0) meeting.digits[i] = 0;
      }
      __syncthreads();
      const int total = find_here(wanted);
      if (threadIdx.x != 0) return;
      meeting.total = total;
      if (total < wanted) return;
      meeting.digit = shared_.digit;
      meeting.wanted = shared_.wanted;
      meeting.present = shared_.present;
    });
    if (threadIdx.x == 0) {
      shared_.total = meeting.total;
      shared_.digit = meeting.digit;
      shared_.wanted = meeting.wanted;
      shared_.present = meeting.present;
    }
    __syncthreads();
    return shared_.total;
  }

  // Of the keys that are counted in the block's shared memory.
  __device__ __forceinline__ int find_here(int wanted) const {
    constexpr int kOwners = THREADS < kDigits / 4 ? THREADS : kDigits / 4;
    constexpr int kOwned = kDigits / kOwners;
    int owned[kOwned];  // of the thread's digits, the largest first
    int sum = 0;
    const int first = kDigits - 1 - static_cast<int>(threadIdx.x) * kOwned;
#pragma unroll
    for (int i = 0; i < kOwned; i += 4) {
      int4 four = make_int4(0, 0, 0, 0);
      if (threadIdx.x < kOwners) {
        four = *reinterpret_cast<const int4*>(&shared_.digits[first - i - 3]);
      }
      owned[i] = four.w;
      owned[i + 1] = four.z;
      owned[i + 2] = four.y;
      owned[i + 3] = four.x;
      sum += four.x + four.y + four.z + four.w;
    }
    int total;
    int before = sum_before(sum, &total);
    if (before < wanted && wanted <= before + sum) {
#pragma unroll
      for (int i = 0; i < kOwned; ++i) {
        if (before < wanted && wanted <= before + owned[i]) {
          shared_.digit = first - i;
          shared_.wanted = wanted - before;
          shared_.present = owned[i];
        }
        before += owned[i];
      }
    }
    __syncthreads();
    return total;
  }

  __device__ __forceinline__ Cut find_cut(unsigned begin, unsigned end, int wanted) {
    if (wanted == 0) return kKeepNone;
    unsigned prefix = 0;
    int shift = kKeyBits;
#pragma unroll 1
    do {
      const int bits = shift < kDigitBits ? shift : kDigitBits;
      shift -= bits;
      count_digits(begin, end, shift, bits, prefix);
      if (find_digit(wanted) <= wanted && shift + bits == kKeyBits) return kKeepAll;
      prefix = prefix << bits | static_cast<unsigned>(shared_.digit);
      wanted = shared_.wanted;
      // All that share these bits are kept. No key is so low that they are all 0.
      if (wanted == shared_.present) return {(prefix << shift) - 1u, 0};
    } while (shift > 0);
    return {prefix, wanted};
  }
};

// One row, by all threads of a block, or of the blocks of a team.
template <class T, int THREADS, bool SHARED = false>
class SelectRow : SelectCut<T, THREADS, SHARED> {
 public:
  __device__ __forceinline__ SelectRow(const SelectionTask& task, SelectShared<THREADS>* shared,
                                       unsigned* keys, int items, const SelectTeam& team = {})
      : Cutter(task, shared, keys, items, team) {}

  // `limit` is the number of leading columns that may be chosen. Of several heads, `scores` are
  // those of the first, `stride` elements before those of the next; their row must fit the threads'
  // keys. All threads have left the shared memory when this returns.
  __device__ __forceinline__ void run(int64_t row, const T* scores, int64_t columns, int64_t limit,
                                      int64_t heads = 1, int64_t stride = 0) {
    start(row, scores, columns, limit);
    listed_ = 0;
    if (heads > 1) load_sums(heads, stride);
    const bool broken = has_nan();
    if (broken) {
      list_everything();
    } else {
      list_best();
    }
    finish(!broken);
  }

 private:
  using Cutter = SelectCut<T, THREADS, SHARED>;
  using Cutter::base_, Cutter::boundary, Cutter::candidates_, Cutter::columns_, Cutter::find_cut,
      Cutter::for_keys, Cutter::for_tiles, Cutter::has_nan, Cutter::kept_, Cutter::limit_,
      Cutter::load_sums, Cutter::meet, Cutter::met_, Cutter::mine_in, Cutter::row_, Cutter::start,
      Cutter::shared_, Cutter::sum_before, Cutter::task_, Cutter::team_, Cutter::wanted_of;

  // ---- listing ----------------------------------------------------------------------------------

  __device__ __forceinline__ void put(unsigned place, int item) const {
    if (place >= task_.capacity) return;
    task_.indices[row_ * task_.capacity + place] = static_cast<int32_t>(base_ + item);
  }

  // Lists the thread's columns `certain`, and of `tied` the block's first ones, `ties` at most.
  // Returns how many ties are left.
  __device__ __forceinline__ int list_tile(unsigned certain, unsigned tied, int ties) {
    constexpr int kHalf = 16;
    int total;
    const int before = sum_before(__popc(certain) | __popc(tied) << kHalf, &total);
    const int tied_before = before >> kHalf;
    int taken = tied_before < ties ? tied_before : ties;
    unsigned place = listed_ + (before & low_bits(kHalf)) + taken;
    // The ties that are taken are the thread's first ones.
    for (; tied != 0 && taken < ties; tied &= tied - 1u, ++taken) certain |= tied & (0u - tied);
    for (; certain != 0; certain &= certain - 1u) {
      put(place++, __ffs(static_cast<int>(certain)) - 1);
    }
    const int all_tied = total >> kHalf;
    const int all_taken = all_tied < ties ? all_tied : ties;
    listed_ += (total & low_bits(kHalf)) + all_taken;
    __syncthreads();  // all have read the sums
    return ties - all_taken;
  }

  // The sum over all threads of the block.
  __device__ __forceinline__ int sum_of(int value) const {
    int total;
    sum_before(value, &total);
    __syncthreads();  // all have read the sums
    return total;
  }

  // Counts what mark() says of the block's tiles, and learns how much the blocks before it list: its
  // place in the list, and how many ties are left for it. Returns the end of what all list.
  template <class F>
  __device__ __forceinline__ unsigned skip_others(unsigned from, unsigned end, int* ties,
                                                  F&& mark) {
    int certain = 0;
    int tied = 0;
    for_tiles(from, end, [&] {
      const Marks marks = mark();
      certain += __popc(marks.certain);
      tied += __popc(marks.tied);
    });
    certain = sum_of(certain);
    tied = sum_of(tied);
    // Two places in turn: a block that lists again may be ahead of those that still read, by one meeting.
    int2* const counts = team_.counts + (met_ & 1u) * team_.blocks;
    if (threadIdx.x == 0) counts[team_.rank] = make_int2(certain, tied);
    meet([] {});
    int2 count = make_int2(0, 0);
    if (threadIdx.x < team_.blocks) count = counts[threadIdx.x];
    const bool is_before = threadIdx.x < team_.rank;
    const int certain_before = sum_of(is_before ? count.x : 0);
    const int tied_before = sum_of(is_before ? count.y : 0);
    const int all_certain = sum_of(count.x);
    const int all_tied = sum_of(count.y);
    const int taken_before = min(tied_before, *ties);
    const unsigned after = listed_ + all_certain + min(all_tied, *ties);
    listed_ += certain_before + taken_before;
    *ties -= taken_before;
    return after;
  }

  // A thread's columns in a tile, a bit for each: those that are listed, and those that are until no
  // ties are left.
  struct Marks {
    unsigned certain;
    unsigned tied;
  };

  // Lists what mark() says of each tile with columns of [from, end).
  template <class F>
  __device__ __forceinline__ void list_marked(unsigned from, unsigned end, int ties, F&& mark) {
    unsigned after = 0;
    if constexpr (SHARED) after = skip_others(from, end, &ties, mark);
    for_tiles(from, end, [&] {
      const Marks marks = mark();
      ties = list_tile(marks.certain, marks.tied, ties);
    });
    if constexpr (SHARED) listed_ = after;
  }

  // Lists columns [from, end): the forced ones, and the candidates from `begin` on that the cut
  // leaves.
  __device__ __forceinline__ void list(unsigned from, unsigned begin, unsigned end, Cut cut) {
    list_marked(from, end, cut.ties, [&] {
      Marks marks = {kept_ & mine_in(from, end), 0u};
      for_keys(candidates_ & mine_in(begin, end), [&](unsigned key, unsigned item) {
        marks.certain |= (key > cut.key ? 1u : 0u) << item;
        marks.tied |= (key == cut.key ? 1u : 0u) << item;
      });
      return marks;
    });
  }

  __device__ __forceinline__ void list_best() {
    unsigned from = 0;  // what lies before is listed
    unsigned end = boundary(0);
#pragma unroll 1
    for (int64_t segment = 0; segment < task_.segment_count; ++segment) {
      const unsigned begin = end;
      const unsigned next = boundary(segment + 1);
      if (next <= begin) continue;
      end = next;
      const Cut cut = find_cut(begin, end, wanted_of(segment));
      list(from, begin, end, cut);
      from = end;
    }
    list(from, columns_, columns_, kKeepNone);
  }

  __device__ __forceinline__ void list_everything() {
    list_marked(0, columns_, 0, [&] { return Marks{mine_in(0, limit_) | kept_, 0u}; });
  }

  __device__ __forceinline__ void finish(bool valid) const {
    const unsigned rank = SHARED ? team_.rank : 0;
    const unsigned step = SHARED ? team_.blocks * THREADS : THREADS;
    for (int64_t i = int64_t{listed_} + rank * THREADS + threadIdx.x; i < task_.capacity;
         i += step) {
      task_.indices[row_ * task_.capacity + i] = -1;
    }
    if (threadIdx.x != 0 || rank != 0) return;
    if (task_.count != nullptr) task_.count[row_] = static_cast<int32_t>(listed_);
    if (task_.valid != nullptr) task_.valid[row_] = valid;
  }

  unsigned listed_;  // columns so far
};

template <class T>
__device__ __forceinline__ int64_t limit_of(const SelectTask<T>& task, int64_t row) {
  if (task.limit == nullptr) return task.columns;
  return clamped(read_for_warp(task.limit + row), 0, task.columns);
}

// One block per row. Bytes: every score once where the row has at most THREADS * items columns, as
// all have whose heads are summed up here, else up to five times, all but the first from the L2
// cache; 4 for each place of the list. THREADS * items keys lie in the dynamic shared memory.
template <class T, int THREADS>
__global__ __launch_bounds__(THREADS,
                             THREADS == 512 ? 1 : 3) void select_kernel(SelectTask<T> task) {
  __shared__ SelectShared<THREADS> shared;
  EXN_DYN_SMEM(keys);
  SelectRow<T, THREADS> block(task.selection, &shared, reinterpret_cast<unsigned*>(keys),
                              task.items);
  for (int64_t row = blockIdx.x; row < task.rows; row += gridDim.x) {
    block.run(row, task.scores + row * task.heads * task.stride, task.columns, limit_of(task, row),
              task.heads, task.stride);
  }
}

constexpr int kTeamThreads = 256;
constexpr int kTeamItems = 32;        // columns of a thread, at most
constexpr int kMostTeamBlocks = 256;  // a thread for each, to add up what they list

// A team of blocks per row, which wait for one another: all must run at once. Bytes: every score
// once where the team's threads hold the row, else up to six times, all but the first from the L2
// cache; for each block 4 for each different digit of its keys, up to three times, and 8 for each
// block before and after it; 4 for each place of the list.
template <class T>
__global__ __launch_bounds__(kTeamThreads, 2) void select_team_kernel(SelectTask<T> task,
                                                                      SelectTeams teams) {
  __shared__ SelectShared<kTeamThreads> shared;
  EXN_DYN_SMEM(keys);
  const auto blocks = static_cast<unsigned>(teams.blocks);
  const int64_t row = blockIdx.x / blocks;
  SelectTeam team;
  team.meeting = teams.meetings + row;
  team.counts = teams.counts + row * 2 * teams.blocks;
  team.blocks = blocks;
  team.rank = blockIdx.x % blocks;
  team.tiles = static_cast<unsigned>(teams.tiles);
  SelectRow<T, kTeamThreads, true> block(task.selection, &shared, reinterpret_cast<unsigned*>(keys),
                                         task.items, team);
  block.run(row, task.scores + row * task.stride, task.columns, limit_of(task, row));
}

}  // namespace exn::cuda
