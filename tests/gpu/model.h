// SPDX-License-Identifier: Apache-2.0
// The ops at the shapes of an 8-billion-parameter model. Inputs, gigabytes of them, are made on the
// device; every element can be made again on the host, which computes samples of the outputs in
// double precision.
#pragma once

#include <vector>

#include "bench.h"

namespace exn::gpu {

struct ModelShape {
  int64_t dim = 4096, block_dim = 4096, vocab = 128256, width = 14336;
  std::vector<const char*> formats = {"q4_0", "q4_1", "q5_0", "q5_1",
                                      "q8_0", "q4_k", "q5_k", "q6_k"};
  int64_t kv_heads = 8, head_dim = 128;
  int64_t shortlist = 2048;
  std::vector<int64_t> groups = {4, 8};
  std::vector<int64_t> batches = {1, 8, 16, 64};
  std::vector<int64_t> slots = {4096, 32768};
  std::vector<int64_t> layers = {1, 4, 16};
  std::vector<int64_t> windows = {8, 32};
  std::vector<int64_t> scored_slots = {4096, 32768};
  std::vector<int64_t> other_widths;  // of heads that are turned
};
// The same ops with sizes that the emulator can run.
ModelShape rehearsal_shape();
// The shape with fewer slots where all blocks must run side by side, for which counts.cpp takes long,
// and with heads of all widths.
ModelShape counted_shape();

// Somebody else's way to the same result, in C++; those in Python are in peers.py.
struct PeerWork : Work {
  std::string peer;
  std::function<Complaint()> check;
};

struct ModelWork : Work {
  // Runs it once and says what is wrong with the result.
  std::function<Complaint()> check;
  std::vector<PeerWork> peers;
};

// By op, in alphabetical order.
std::vector<ModelWork> model_work(const ModelShape& shape);

}  // namespace exn::gpu
