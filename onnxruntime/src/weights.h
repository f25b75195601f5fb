// SPDX-License-Identifier: Apache-2.0
// Weights of products in exeunt's layout.
#pragma once

#include <memory>

#include "calls.h"
#include "match.h"

namespace exn::ort {

struct Weights {
  Memory memory;
  size_t bytes = 0;
  bool panels = false;  // packed (exeunt/pack.h), 32 rows in each
  int32_t type = 0;     // kUint8: blocks, or panels
  int32_t blocks = 0;   // EXN_BLOCKS_*
  int64_t rows = 0, columns = 0, row_bytes = 0;

  char* row(int64_t i) const { return memory.as<char>() + i * row_bytes; }
};

// "" or why the layout here cannot hold the numbers of a product's weights, whose sizes are right.
std::string unheld(const Graph& graph, const Product& product);

// Has weights that are alike once, however many products, of however many graphs of a session, use
// them. It keeps none itself.
class Store {
 public:
  // From here on until the next call constants at one address are one constant.
  void begin() { ++graph_; }
  // `panels`: of dense weights. Others are such that `unheld` has nothing to say.
  std::shared_ptr<const Weights> get(const Graph& graph, const Product& product, bool panels);

 private:
  struct Entry {
    std::weak_ptr<const Weights> weights;
    std::vector<const void*> sources;
    int64_t graph;
  };

  std::unordered_map<std::string, std::vector<Entry>> entries_;
  int64_t graph_ = 0;
};

}  // namespace exn::ort
