// SPDX-License-Identifier: Apache-2.0
// KV caches: how the tables describe them, where their elements lie, and how they get to a device.
#pragma once

#include "case.h"

namespace exn::test {

struct CacheSpec {
  int32_t layout = EXN_KV_HEAD_MAJOR;
  bool sequence_axis = true;  // false: rank 3, one sequence
  int64_t sequences = 1;
  int64_t heads = 1;
  int64_t slots = 0;  // T
  int64_t page = 1;   // PAGED; divides T
  int64_t dim = 1;
  Type type = Type::kF32;
  int64_t offset = 0;

  int64_t blocks() const { return slots / page; }                       // B
  int64_t pages() const { return sequences * blocks() + kSparePages; }  // P
  int64_t columns() const { return heads * dim; }

  static constexpr int64_t kSparePages = 3;  // pages of no sequence
};

struct CacheTensors {
  HostTensor k, v;
  HostTensor block_table;  // PAGED
};

// ---- tables -------------------------------------------------------------------------------------

// The columns called here, which say how K and V are laid out; the caller reads the others.
void read_layout(const Row& row, const char* layout, const char* sequences, const char* slots,
                 const char* page, CacheSpec* c);

// The columns `layout`, `sequences`, `heads`, `slots`, `page` and `dim`, and those called here.
CacheSpec read_cache(const Row& row, const char* dtype, const char* offset);

std::string layout_name(const CacheSpec& c);

// ---- contents -----------------------------------------------------------------------------------

// Where the caches' tensors keep an element, as an index into their one row.
int64_t cache_index(const CacheSpec& c, const HostTensor& block_table, int64_t sequence,
                    int64_t slot, int64_t head, int64_t element);

// k and v full of NaN, and a block table that is shuffled(P, seed, 7).
CacheTensors empty_cache(const CacheSpec& c, uint64_t seed);

// Every slot is filled: K with `stream`, V with the next one.
CacheTensors full_cache(const CacheSpec& c, uint64_t seed, uint64_t stream);

CacheTensors zero_cache(const CacheSpec& c);

// Puts row s * T + t of `values` [S * T, Hkv * dh] where slot t of sequence s lies.
void scatter(const CacheSpec& c, const HostTensor& block_table, const HostTensor& values,
             HostTensor* side);

// Fills one side of a cache, but leaves NaN in all but the `seen[s]` leading slots of sequence s: a
// kernel that reads what no row sees is caught.
void fill_seen(const CacheSpec& c, const HostTensor& block_table, const std::vector<int64_t>& seen,
               const std::string& kind, float scale, uint64_t seed, uint64_t stream,
               HostTensor* side);

// What the column `cache_special` says: `k_` or `v_` and `nan`, `pinf` or `ninf` is that value in K
// or V at slot T / 2 of sequence 0, head Hkv - 1, element word(seed, 6, 0) % dh; `k_ninf_half` is
// -inf there and in all slots before it.
void put_special(const CacheSpec& c, uint64_t seed, const std::string& special,
                 CacheTensors* cache);

// What the column `sequence` says, of `rows` rows: `mod` is r % S, `random` word(seed, stream, r) %
// S; not given for `-`.
HostTensor make_sequences(const std::string& kind, int64_t rows, int64_t sequences, uint64_t seed,
                          uint64_t stream);

// [R,H,dh] as the matrix of R rows says.
HostTensor make_head_rows(const MatrixSpec& m, int64_t dim, uint64_t seed, uint64_t stream);

// ---- on a device --------------------------------------------------------------------------------

exn_kv_cache input_cache(Instance* instance, const CacheSpec& c, const CacheTensors& tensors);

// Outputs <prefix>k and <prefix>v.
exn_kv_cache in_out_cache(Instance* instance, const CacheSpec& c, const CacheTensors& tensors,
                          const std::string& prefix = "");

struct PlacedCache {
  PlacedCache(int32_t device_type, const CacheSpec& c, const CacheTensors& t)
      : layout(c.layout),
        k(device_type, t.k),
        v(device_type, t.v),
        block_table(device_type, t.block_table) {}

  exn_kv_cache dl() const { return {k.dl(), v.dl(), block_table.dl(), layout, 0}; }

  int32_t layout;
  Placed k, v, block_table;
};

// A cache of two sequences with four slots, two heads and eight elements, in f32.
CacheSpec little_cache(int32_t layout);

}  // namespace exn::test
