// SPDX-License-Identifier: Apache-2.0
// kv_propagate on the CPU. The work is cut into jobs, one per layer and block of up to 64 rows that
// owe it, and a job into tiles of Wk and Wv; one parallel loop takes the tiles of as many jobs as
// the workspace has space for, all of them as a rule. RoPE and conversion happen while the products
// of a tile are in cache, so a tile holds whole heads, or whole pairs of a long one.
#include <cstdio>

#include "../ids.h"
#include "base/args/kv_propagate.h"
#include "kv.h"
#include "rotation.h"
#include "normalise.h"
#include "tiles.h"

namespace exn::cpu::EXN_ISA {
namespace {

// ---- tiles --------------------------------------------------------------------------------------

// Consecutive columns of one head.
struct Run {
  int64_t first;
  int64_t count;
};

// Either several whole heads, or a slice of a long one: one run, or the two runs that the first and
// second elements of its pairs are.
struct HeadTile {
  int64_t head, heads;
  Run runs[2];
  int64_t first_pair, pairs;  // to rotate, in each head
  int64_t
      second;  // from the first to the second elements of pairs (EXN_ROPE_HALF), within the tile

  EXN_SIMD int64_t columns() const { return heads * (runs[0].count + runs[1].count); }
};

// How the heads of K or V are cut into tiles.
struct HeadGrid {
  int64_t heads, dim, pairs;
  bool half;
  int64_t heads_per_tile;  // 0: heads longer than a tile, cut into slices
  int64_t count;

  EXN_SIMD int64_t rotated_slices() const {
    return (pairs + kRotationPairs / 2 - 1) / (kRotationPairs / 2);
  }
  EXN_SIMD int64_t slices() const {
    return rotated_slices() + (dim - 2 * pairs + kMaxTile - 1) / kMaxTile;
  }

  EXN_SIMD HeadTile tile(int64_t i) const {
    if (heads_per_tile > 0) {
      const int64_t head = i * heads_per_tile;
      const int64_t here = heads - head < heads_per_tile ? heads - head : heads_per_tile;
      return {head, here, {{0, dim}, {0, 0}}, 0, pairs, pairs};
    }
    const int64_t head = i / slices(), slice = i % slices();
    if (slice < rotated_slices()) {
      const int64_t first = slice * (kRotationPairs / 2);
      const int64_t n = pairs - first < kRotationPairs / 2 ? pairs - first : kRotationPairs / 2;
      if (half) return {head, 1, {{first, n}, {pairs + first, n}}, first, n, n};
      return {head, 1, {{2 * first, 2 * n}, {0, 0}}, first, n, n};
    }
    const int64_t first = 2 * pairs + (slice - rotated_slices()) * kMaxTile;
    return {head, 1, {{first, dim - first < kMaxTile ? dim - first : kMaxTile}, {0, 0}}, 0, 0, 0};
  }
};

// The arguments with all layers side by side.
struct Call : KvPropagateArgs {
  Call(const KvPropagateArgs& args, const KvLayer* all) : KvPropagateArgs(args), layers(all) {}
  const KvLayer* layers;
};

// About 256 KiB of weights make a tile; the heads are dealt out evenly.
HeadGrid head_grid(const KvPropagateArgs& a) {
  const KvCache& cache = a.first.cache;
  HeadGrid grid = {cache.heads, cache.dim, a.table.pairs, a.rope_style == EXN_ROPE_HALF, 0, 0};
  if (cache.dim > kMaxTile) {
    grid.count = grid.heads * grid.slices();
    return grid;
  }
  const int64_t head_bytes = cache.dim * row_bytes(a.first.k_weight);
  int64_t most = (int64_t{256} << 10) / head_bytes;
  if (most > kMaxTile / cache.dim) most = kMaxTile / cache.dim;
  if (most < 1) most = 1;
  grid.count = (grid.heads + most - 1) / most;
  grid.heads_per_tile = (grid.heads + grid.count - 1) / grid.count;
  grid.count = (grid.heads + grid.heads_per_tile - 1) / grid.heads_per_tile;
  return grid;
}

// ---- jobs ---------------------------------------------------------------------------------------

// Rows of one layer, with space for a block of them; what they are multiplied as stands in one of
// `x` and `pairs`, or, where weights have blocks, in `rounded`: first for K, then for V.
struct Job {
  int32_t layer;
  int64_t count;
  int64_t* rows;
  float* x;
  bf16* pairs;
  char* rounded[2];
};

bool left_below(const Call& a, int32_t layer, int64_t row) {
  return a.exit_layer[row] >= 0 && a.exit_layer[row] <= a.layers[layer].index;
}

bool owes(const Call& a, int32_t layer, int64_t row) {
  return left_below(a, layer, row) && a.slot[layer * a.slot_stride + row] >= 0;
}

// Where the rows that write a slot of a layer are looked up: twice as many places as rows, and none
// where all rows are in one job, which writes them in their order.
struct SlotPlaces {
  int32_t* row = nullptr;  // + 1; 0: the place is free
  int64_t count = 0;       // a power of two

  void take(Workspace& ws, int64_t rows) {
    if (rows > kRowBlock) count = 2;
    while (count > 0 && count < 2 * rows) count *= 2;
    row = ws.take<int32_t>(count);
  }
};

// Whether two rows write one slot of a cache, -1 being none. Slots are told apart by their place:
// sequences may share a page.
bool writes_twice(const Call& a, const KvCache& cache, const int32_t* slots,
                  const SlotPlaces& places) {
  if (places.count == 0) return false;
  std::memset(places.row, 0, static_cast<size_t>(places.count) * sizeof *places.row);
  const auto offset = [&](int64_t row) {
    return kv_offset(cache, sequence_of(a.sequence, row), 0, slots[row]);
  };
  for (int64_t row = 0; row < a.hidden.rows; ++row) {
    if (slots[row] < 0) continue;
    const int64_t at = offset(row);
    uint64_t place = static_cast<uint64_t>(at) * 0x9e3779b97f4a7c15u >> 32;
    for (;; ++place) {
      int32_t* const other = places.row + (place & static_cast<uint64_t>(places.count - 1));
      if (*other == 0) {
        *other = static_cast<int32_t>(row + 1);
        break;
      }
      if (offset(*other - 1) == at) return true;
    }
  }
  return false;
}

// Deals the rows that owe something out to jobs, layer after layer.
class Dealer {
 public:
  // `repeats`: layers of which some rows write one slot.
  Dealer(const Call& a, const uint8_t* repeats) : a_(a), repeats_(repeats) {}

  // Fills up to `capacity` jobs; returns how many. Jobs run side by side, so that no two are of a
  // layer that repeats a slot: there the last row has to stay.
  int64_t deal(Job* jobs, int64_t capacity) {
    int64_t count = 0;
    while (count < capacity && layer_ < a_.layer_count) {
      if (count > 0 && jobs[count - 1].layer == layer_ && repeats_[layer_] != 0) break;
      Job& job = jobs[count];
      job.layer = layer_;
      job.count = 0;
      for (; row_ < a_.hidden.rows && job.count < kRowBlock; ++row_) {
        if (owes(a_, layer_, row_)) job.rows[job.count++] = row_;
      }
      if (row_ == a_.hidden.rows) {
        row_ = 0;
        ++layer_;
      }
      if (job.count > 0) ++count;
    }
    return count;
  }

 private:
  const Call& a_;
  const uint8_t* repeats_;
  int32_t layer_ = 0;
  int64_t row_ = 0;
};

// Nothing is written unless all ids of rows that owe something are in range. `slots` has space for
// a number per row; says of each layer whether it repeats a slot.
exn_status check_rows(const Call& a, int32_t* slots, const SlotPlaces& places, uint8_t* repeats) {
  const char* op = "exn_kv_propagate";
  const int64_t rows = a.hidden.rows;
  exn_status status = check_ids(op, "exit_layer", a.exit_layer, rows, -1, a.model_layers);
  for (int32_t layer = 0; status == EXN_OK && layer < a.layer_count; ++layer) {
    const int32_t* given = a.slot + layer * a.slot_stride;
    for (int64_t row = 0; row < rows; ++row) {
      slots[row] = left_below(a, layer, row) ? given[row] : -1;
    }
    char name[32] = "slot";
    if (a.slot_stride > 0) std::snprintf(name, sizeof name, "slot[%d]", layer);
    const KvCache& cache = a.layers[layer].cache;
    status = check_slots(op, cache, "sequence", a.sequence, name, slots, rows, true);
    if (status == EXN_OK && a.table.data != nullptr) {
      status = check_ids_of_rows(op, "position", a.position, slots, rows, 0, a.table.positions - 1);
    }
    repeats[layer] = status == EXN_OK && writes_twice(a, cache, slots, places) ? 1 : 0;
  }
  return status;
}

bool rounded(const KvPropagateArgs& a) {
  return a.hidden.dtype == a.first.k_weight.dtype && a.hidden.dtype != DType::kF32;
}

void normalise_job(const Call& a, const Job& job, const Moments* moments, int64_t stride) {
  const KvLayer& layer = a.layers[job.layer];
  const int64_t dim = a.hidden.cols;
  const bool pairs = job.pairs != nullptr, round = rounded(a);
  with_float_type(a.hidden.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    for (int64_t i = 0; i < job.count; ++i) {
      const int64_t row = job.rows[i];
      const auto normalise = [&](auto* x) {
        normalise_row(row_of<T>(a.hidden, row), dim, moments[row], layer.norm_weight,
                      layer.norm_bias, x);
        for (int64_t k = dim; k < stride; ++k) from_float(x + k, 0);
      };
      if (pairs) {
        normalise(job.pairs + i * stride);
        continue;
      }
      float* x = job.x + i * stride;
      normalise(x);
      if (round) round_row(a.hidden.dtype, x, dim);
      with_weight_type(layer.k_weight,
                       [&](auto weight) { order_pairs<EXN_TYPE_OF(weight)>(x, stride); });
      if (job.rounded[0] == nullptr) continue;
      round_input(layer.k_weight, x, false, job.rounded[0] + i * rounded_bytes(layer.k_weight));
      round_input(layer.v_weight, x, false, job.rounded[1] + i * rounded_bytes(layer.v_weight));
    }
  });
}

// ---- one tile -----------------------------------------------------------------------------------

void add_bias(const HeadTile& t, const float* bias, int64_t dim, float* z) {
  for (int64_t h = 0; h < t.heads; ++h) {
    for (const Run& run : t.runs) {
      const float* b = bias + (t.head + h) * dim + run.first;
      for_vectors(run.count, [&](int64_t i, int n) EXN_FLAT {
        store_part(z + i, add(load_part(z + i, n, 0.0f), load_part(b + i, n, 0.0f)), n);
      });
      z += run.count;
    }
  }
}

template <class T>
void write_slot(const HeadTile& t, const KvCache& cache, void* data, int64_t sequence, int64_t slot,
                const float* z) {
  for (int64_t h = 0; h < t.heads; ++h) {
    T* to = static_cast<T*>(data) + kv_offset(cache, sequence, t.head + h, slot);
    for (const Run& run : t.runs) {
      convert(z, run.count, to + run.first);
      z += run.count;
    }
  }
}

// One tile of a job.
struct Piece {
  const Job* job;
  HeadTile tile;
  bool keys;
};

// The weight rows of a piece in order.
template <class T>
struct TileRows {
  Matrix weight;
  int64_t first, straight, jump;

  EXN_SIMD const T* operator()(int64_t w) const {
    return row_of<T>(weight, first + w + (w < straight ? 0 : jump));
  }
};

template <class T>
EXN_SIMD TileRows<T> tile_rows(const Call& a, const Piece& piece) {
  const KvLayer& layer = a.layers[piece.job->layer];
  const HeadTile& t = piece.tile;
  const int64_t straight = t.runs[1].count > 0 ? t.runs[0].count : t.columns();
  const int64_t jump = t.runs[1].first - t.runs[0].first - t.runs[0].count;
  return {piece.keys ? layer.k_weight : layer.v_weight, t.head * layer.cache.dim + t.runs[0].first,
          straight, jump};
}

// Bias, rotation and conversion of what a piece's products are, on their way into the cache.
void write_piece(const Call& a, const Piece& piece, TileProducts* tile) {
  const Job& job = *piece.job;
  const HeadTile& t = piece.tile;
  const KvLayer& layer = a.layers[job.layer];
  const float* bias = piece.keys ? layer.k_bias : layer.v_bias;
  void* data = piece.keys ? layer.cache.k : layer.cache.v;
  const int64_t head_columns = t.runs[0].count + t.runs[1].count;
  Rotation rotation;
  for (int64_t i = 0; i < job.count; ++i) {
    const int64_t row = job.rows[i];
    float* z = tile->row(i);
    if (bias != nullptr) add_bias(t, bias, layer.cache.dim, z);
    if (piece.keys && t.pairs > 0) {
      load_rotation(a.table, a.position[row], t.first_pair, t.pairs, a.rope_style, &rotation);
      for (int64_t h = 0; h < t.heads; ++h) {
        float* head = z + h * head_columns;
        rotate(rotation, head, t.second, head);
      }
    }
    const int64_t sequence = sequence_of(a.sequence, row);
    const int64_t slot = a.slot[job.layer * a.slot_stride + row];
    with_float_type(layer.cache.dtype, [&](auto type) {
      write_slot<EXN_TYPE_OF(type)>(t, layer.cache, data, sequence, slot, z);
    });
  }
}

// `next` is what this thread takes after this piece, or null.
template <class T>
void project(const Call& a, const Piece& piece, const Piece* next, int64_t stride,
             TileProducts* tile) {
  Inputs in;
  in.f32 = piece.job->x;
  in.bf = piece.job->pairs;
  in.stride = stride;
  const KvLayer& layer = a.layers[piece.job->layer];
  const Matrix& weight = piece.keys ? layer.k_weight : layer.v_weight;
  in.rounded = piece.job->rounded[piece.keys ? 0 : 1];
  in.rounded_stride = rounded_bytes(weight);
  in.blocks = weight.blocks;
  in.far = is_far(a.layers[piece.job->layer].k_weight, 2 * a.layer_count);
  const int64_t columns = piece.tile.columns();
  const int64_t reach = next != nullptr ? next->tile.columns() : 0;
  const TileRows<T> here = tile_rows<T>(a, piece);
  const TileRows<T> then = tile_rows<T>(a, next != nullptr ? *next : piece);
  const WeightRows<T> rows(columns, reach,
                           [=](int64_t w) { return w < columns ? here(w) : then(w - columns); });
  row_products(rows, in, piece.job->count, a.hidden.cols, tile->z, kMaxTile, tile->scratch);
  write_piece(a, piece, tile);
}

template <class T>
void run_jobs(const Call& a, const HeadGrid& grid, const Job* jobs, int64_t count, int64_t stride,
              TileProducts* own) {
  const int64_t items = 2 * grid.count;  // of a job: those of K, then those of V
  const auto run = [&](int64_t begin, int64_t end, TileProducts& tile) {
    const auto piece = [&](int64_t i) -> Piece {
      const int64_t item = i % items;
      return {jobs + i / items, grid.tile(item % grid.count), item < grid.count};
    };
    Piece next = piece(begin);
    for (int64_t i = begin; i < end; ++i) {
      const Piece now = next;
      if (i + 1 < end) next = piece(i + 1);
      project<T>(a, now, i + 1 < end ? &next : nullptr, stride, &tile);
    }
  };
  parallel_for(count * items, share(count * items, a.hidden.rows), own, run);
}

// Most that a row takes as it meets blocks of K or V.
int64_t most_rounded_bytes(const KvPropagateArgs& a) {
  int64_t most = 0;
  if (a.first.k_weight.blocks == Blocks::kNone) return most;
  for (int32_t i = 0; i < a.layer_count; ++i) {
    const KvLayer layer = a.layer(i);
    const int64_t here = rounded_bytes(layer.k_weight, layer.v_weight);
    if (here > most) most = here;
  }
  return most;
}

}  // namespace

exn_status kv_propagate(const KvPropagateArgs& args, Workspace& ws) {
  const int64_t rows = args.hidden.rows, dim = args.hidden.cols, stride = padded(dim, ws.tiles());
  const int64_t block = rows < kRowBlock ? rows : kRowBlock;
  const bool pairs = in_pairs(ws, args.hidden.dtype, args.first.k_weight.dtype);
  const int64_t rounded_row = most_rounded_bytes(args);
  const int64_t job_bytes = block * (stride * (pairs ? 2 : 4) + 2 * rounded_row);
  const int64_t all = args.layer_count * ((rows + kRowBlock - 1) / kRowBlock);
  const int64_t fit = (int64_t{64} << 20) / (job_bytes + 1) + 1;
  const int64_t capacity = all < fit ? all : fit;
  Job* jobs = ws.take<Job>(capacity);
  int64_t* job_rows = ws.take<int64_t>(capacity * block);
  float* x = ws.take<float>(pairs ? 0 : capacity * block * stride);
  bf16* narrow = ws.take<bf16>(pairs ? capacity * block * stride : 0);
  char* rounded = ws.take<char>(product(2 * capacity, block, rounded_row));
  Moments* moments = ws.take<Moments>(rows);
  int32_t* slots = ws.take<int32_t>(rows);
  SlotPlaces places;
  places.take(ws, rows);
  uint8_t* repeats = ws.take<uint8_t>(args.layer_count);
  TileProducts* own = ws.take<TileProducts>(1);
  KvLayer* layers = ws.take<KvLayer>(args.layer_count);
  if (ws.counting()) return EXN_OK;

  for (int32_t i = 0; i < args.layer_count; ++i) layers[i] = args.layer(i);
  const Call a(args, layers);

  const exn_status status = check_rows(a, slots, places, repeats);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "kv_propagate"));
  for (int64_t i = 0; i < capacity; ++i) {
    const int64_t at = i * block * stride;
    jobs[i] = {0,
               0,
               job_rows + i * block,
               pairs ? nullptr : x + at,
               pairs ? narrow + at : nullptr,
               {nullptr, nullptr}};
    for (int kind = 0; rounded_row > 0 && kind < 2; ++kind) {
      jobs[i].rounded[kind] = rounded + (2 * i + kind) * block * rounded_row;
    }
  }
  with_float_type(a.hidden.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    for (int64_t row = 0; row < rows; ++row) {
      moments[row] = moments_of(row_of<T>(a.hidden, row), dim, a.norm, a.norm_eps);
    }
  });
  const HeadGrid grid = head_grid(a);
  Dealer dealer(a, repeats);
  for (int64_t count; (count = dealer.deal(jobs, capacity)) > 0;) {
    parallel_for(count, 65536 / (block * dim) + 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) normalise_job(a, jobs[i], moments, stride);
    });
    with_weight_type(a.first.k_weight, [&](auto type) {
      run_jobs<EXN_TYPE_OF(type)>(a, grid, jobs, count, stride, own);
    });
  }
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
