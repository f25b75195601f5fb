// SPDX-License-Identifier: Apache-2.0
#include "cub_peers.h"

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_segmented_sort.cuh>
#include <cuda/std/__cccl/version.h>

#include <cuda_runtime.h>

#include <algorithm>
#include <numeric>
#include <vector>

#if CCCL_VERSION >= 3003000
#include <cub/device/device_topk.cuh>
#define EXEUNT_HAS_TOPK 1
#else
#define EXEUNT_HAS_TOPK 0
#endif

namespace {

constexpr const char* kNames[] = {
    "CUB sort",
#if EXEUNT_HAS_TOPK
    "CUB top-k",
#endif
};
constexpr int kWays = sizeof kNames / sizeof kNames[0];

struct Peer {
  int way;
  int64_t rows, cols, k;
  size_t select_bytes = 0, order_bytes = 0;
  void* workspace = nullptr;
  float* keys = nullptr;    // of those selected, or all in order
  int* columns = nullptr;   // 0, 1, ... of each row
  int* selected = nullptr;  // not yet in ascending order
  int* offsets = nullptr;   // of rows among all columns, then among those selected
};

// The k best of each row come first in peer.selected, row by row `cols` apart.
cudaError_t select(Peer& peer, void* workspace, const float* scores, cudaStream_t stream) {
  const int all = static_cast<int>(peer.rows * peer.cols);
#if EXEUNT_HAS_TOPK
  if (peer.way == 1) {
    const auto env = cuda::std::execution::env{
        cuda::stream_ref{stream},
        cuda::execution::require(cuda::execution::determinism::not_guaranteed,
                                 cuda::execution::output_ordering::unsorted)};
    return cub::DeviceTopK::MaxPairs(workspace, peer.select_bytes, scores, peer.keys,
                                     static_cast<const int*>(peer.columns), peer.selected, all,
                                     static_cast<int>(peer.k), env);
  }
#endif
  if (peer.rows == 1) {
    return cub::DeviceRadixSort::SortPairsDescending(
        workspace, peer.select_bytes, scores, peer.keys, static_cast<const int*>(peer.columns),
        peer.selected, all, 0, 32, stream);
  }
  return cub::DeviceSegmentedSort::SortPairsDescending(
      workspace, peer.select_bytes, scores, peer.keys, static_cast<const int*>(peer.columns),
      peer.selected, all, static_cast<int>(peer.rows), peer.offsets, peer.offsets + 1, stream);
}

// The first k of each row in ascending order: of columns, whose bits are few.
cudaError_t put_in_order(Peer& peer, void* workspace, int* indices, cudaStream_t stream) {
  if (peer.rows == 1) {
    int bits = 1;
    while ((int64_t{1} << bits) < peer.cols) ++bits;
    return cub::DeviceRadixSort::SortKeys(workspace, peer.order_bytes,
                                          static_cast<const int*>(peer.selected), indices,
                                          static_cast<int>(peer.k), 0, bits, stream);
  }
  // Segments of the input and of the output lie alike, so the output is moved together afterwards.
  const int* starts = peer.offsets + peer.rows + 1;
  return cub::DeviceSegmentedSort::SortKeys(
      workspace, peer.order_bytes, static_cast<const int*>(peer.selected),
      reinterpret_cast<int*>(peer.keys), static_cast<int>(peer.rows * peer.cols),
      static_cast<int>(peer.rows), starts, starts + peer.rows, stream);
}

template <class T>
bool allocate(T** memory, size_t count) {
  return cudaMalloc(reinterpret_cast<void**>(memory), count * sizeof(T)) == cudaSuccess;
}

bool prepare(Peer* peer) {
  const auto all = static_cast<size_t>(peer->rows * peer->cols);
  const auto rows = static_cast<size_t>(peer->rows);
  std::vector<int> columns(all), offsets;
  for (size_t i = 0; i < all; ++i)
    columns[i] = static_cast<int>(static_cast<int64_t>(i) % peer->cols);
  for (int64_t r = 0; r <= peer->rows; ++r) offsets.push_back(static_cast<int>(r * peer->cols));
  for (int64_t r = 0; r < peer->rows; ++r) offsets.push_back(static_cast<int>(r * peer->cols));
  for (int64_t r = 0; r < peer->rows; ++r)
    offsets.push_back(static_cast<int>(r * peer->cols + peer->k));
  if (!allocate(&peer->keys, all) || !allocate(&peer->columns, all) ||
      !allocate(&peer->selected, all) || !allocate(&peer->offsets, 3 * rows + 1)) {
    return false;
  }
  if (cudaMemcpy(peer->columns, columns.data(), all * sizeof(int), cudaMemcpyHostToDevice) !=
          cudaSuccess ||
      cudaMemcpy(peer->offsets, offsets.data(), offsets.size() * sizeof(int),
                 cudaMemcpyHostToDevice) != cudaSuccess) {
    return false;
  }
  if (select(*peer, nullptr, peer->keys, nullptr) != cudaSuccess ||
      put_in_order(*peer, nullptr, peer->columns, nullptr) != cudaSuccess) {
    return false;
  }
  char* bytes = nullptr;
  if (!allocate(&bytes, std::max(peer->select_bytes, peer->order_bytes))) return false;
  peer->workspace = bytes;
  return true;
}

}  // namespace

extern "C" {

const char* exeunt_peer_cub_name(int way) { return way < kWays ? kNames[way] : nullptr; }

void* exeunt_peer_cub_make(int way, int64_t rows, int64_t cols, int64_t k) {
  // Top-k takes one row, and counts are 32 bits wide.
  if (way < 0 || way >= kWays || (way == 1 && rows != 1) || rows * cols > INT32_MAX || k > cols) {
    return nullptr;
  }
  auto* peer = new Peer{way, rows, cols, k};
  if (prepare(peer)) return peer;
  exeunt_peer_cub_free(peer);
  return nullptr;
}

void exeunt_peer_cub_free(void* peer) {
  auto* p = static_cast<Peer*>(peer);
  for (void* memory : {p->workspace, static_cast<void*>(p->keys), static_cast<void*>(p->columns),
                       static_cast<void*>(p->selected), static_cast<void*>(p->offsets)}) {
    cudaFree(memory);
  }
  delete p;
}

int exeunt_peer_cub_run(void* peer, const float* scores, int* indices, void* stream) {
  auto* p = static_cast<Peer*>(peer);
  const auto s = static_cast<cudaStream_t>(stream);
  cudaError_t error = select(*p, p->workspace, scores, s);
  if (error == cudaSuccess) error = put_in_order(*p, p->workspace, indices, s);
  if (error != cudaSuccess || p->rows == 1) return error;
  const size_t row = static_cast<size_t>(p->k) * sizeof(int);
  return cudaMemcpy2DAsync(indices, row, p->keys, static_cast<size_t>(p->cols) * sizeof(int), row,
                           static_cast<size_t>(p->rows), cudaMemcpyDeviceToDevice, s);
}

}  // extern "C"
