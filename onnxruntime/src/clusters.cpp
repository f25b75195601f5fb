// SPDX-License-Identifier: Apache-2.0
#include "clusters.h"

#include <algorithm>

#include "inner.h"

namespace exn::ort {
namespace {

// ONNX Runtime has these for all types.
bool moves(const Node& node) {
  for (const char* op : {"Cast", "Reshape", "Transpose", "Gather", "Concat", "Squeeze", "Unsqueeze",
                         "Identity", "Flatten"}) {
    if (node.is(op)) return true;
  }
  return false;
}

bool wants(const Graph& g, const Node& node) {
  if (!node.domain.empty() && node.domain != "com.microsoft") return false;
  if (node.is("Shape") || node.is("Size")) return false;
  const Value* first = g.input(node, 0);
  // A table of embeddings stays as narrow as it is.
  if (node.is("Gather") && first != nullptr && first->fixed) return false;
  bool narrow = false;
  const bool product = node.is("MatMul") || node.is("Gemm");
  for (const std::vector<int>* list : {&node.inputs, &node.outputs}) {
    for (const int value : *list) {
      if (value < 0) continue;
      // What reads rows of no elements may not fit them, which shows in a body only when it runs.
      const std::vector<int64_t>& shape = g.values[value].shape;
      if (product && g.values[value].fixed && std::count(shape.begin(), shape.end(), 0) > 0) {
        return false;
      }
      const int32_t type = g.values[value].type;
      if (!Widened::holds(type)) return false;
      narrow |= type == kBfloat16;
    }
  }
  return narrow && Widened::possible(g, node);
}

// A graph in which claims are one node each, and other nodes are what they were. None of them waits
// for itself: all that a claim makes depends on all that it reads, but for clusters, which are
// chosen so (`neighbours`).
struct Units {
  std::vector<int> unit;                  // of each node; those of claims come first
  std::vector<std::vector<int>> readers;  // units, one entry for each use
  std::vector<int> order;                 // in which they can run

  Units(const Graph& g, const std::vector<Claim>& claims) : unit(g.nodes.size(), -1) {
    int count = 0;
    for (const Claim& claim : claims) {
      for (const int node : claim.nodes) unit[node] = count;
      ++count;
    }
    for (int& one : unit) {
      if (one < 0) one = count++;
    }
    readers.resize(static_cast<size_t>(count));
    std::vector<int> waits(static_cast<size_t>(count));  // for how many uses
    for (const Value& value : g.values) {
      if (value.producer < 0) continue;
      for (const int reader : value.consumers) {
        if (unit[value.producer] == unit[reader]) continue;
        readers[unit[value.producer]].push_back(unit[reader]);
        ++waits[unit[reader]];
      }
    }
    for (int i = 0; i < count; ++i) {
      if (waits[i] == 0) order.push_back(i);
    }
    for (size_t i = 0; i < order.size(); ++i) {
      for (const int reader : readers[order[i]]) {
        if (--waits[reader] == 0) order.push_back(reader);
      }
    }
  }
};

// Sets whose members are named by their least.
struct Sets {
  std::vector<int> parent;
  explicit Sets(size_t n) : parent(n) {
    for (size_t i = 0; i < n; ++i) parent[i] = static_cast<int>(i);
  }
  int find(int i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
  }
  void join(int a, int b) {
    a = find(a);
    b = find(b);
    parent[std::max(a, b)] = std::min(a, b);
  }
};

// Which of the units that are wanted can be one. How often a way to a unit has left wanted ones never
// falls along a way, and it rises where the way leaves them for others: so no way leads out of
// neighbours of one number and back.
Sets neighbours(const Units& units, const std::vector<char>& wanted) {
  std::vector<int> left(units.readers.size());
  Sets sets(units.readers.size());
  for (const int unit : units.order) {
    for (const int reader : units.readers[unit]) {
      left[reader] = std::max(left[reader], left[unit] + (wanted[unit] && !wanted[reader]));
    }
  }
  for (const int unit : units.order) {
    for (const int reader : units.readers[unit]) {
      if (wanted[unit] && wanted[reader] && left[unit] == left[reader]) sets.join(unit, reader);
    }
  }
  return sets;
}

// What a cluster reads of others, and what others read of it.
void bound(const Graph& g, Claim* claim) {
  const auto within = [&](int node) {
    return std::binary_search(claim->nodes.begin(), claim->nodes.end(), node);
  };
  const auto once = [](std::vector<int>* list) {
    std::sort(list->begin(), list->end());
    list->erase(std::unique(list->begin(), list->end()), list->end());
  };
  for (const int node : claim->nodes) {
    for (const int value : g.nodes[node].inputs) {
      if (value < 0 || g.values[value].fixed) continue;
      const int producer = g.values[value].producer;
      if (producer < 0 || !within(producer)) claim->inputs.push_back(value);
    }
    for (const int value : g.nodes[node].outputs) {
      if (value < 0) continue;
      const std::vector<int>& readers = g.values[value].consumers;
      if (g.values[value].leaves || !std::all_of(readers.begin(), readers.end(), within)) {
        claim->outputs.push_back(value);
      }
    }
  }
  once(&claim->inputs);
  once(&claim->outputs);
}

}  // namespace

void add_clusters(const Graph& g, const Refused& refused, Claims* claims) {
  const Units units(g, claims->list);
  const auto n = static_cast<int>(g.nodes.size());
  std::vector<char> wanted(units.readers.size());
  for (int i = 0; i < n; ++i) {
    const bool claimed = units.unit[i] < static_cast<int>(claims->list.size());
    wanted[units.unit[i]] = !claimed && refused.count(i) == 0 && wants(g, g.nodes[i]);
  }
  Sets sets = neighbours(units, wanted);
  std::vector<int> place(units.readers.size(), -1);
  std::vector<Claim> clusters;
  for (int i = 0; i < n; ++i) {
    if (!wanted[units.unit[i]]) continue;
    int& at = place[sets.find(units.unit[i])];
    if (at < 0) {
      at = static_cast<int>(clusters.size());
      clusters.push_back({{}, {}, {}, Cluster{}});
    }
    clusters[at].nodes.push_back(i);
  }
  for (Claim& cluster : clusters) {
    // What only moves elements about is not worth a claim.
    if (std::all_of(cluster.nodes.begin(), cluster.nodes.end(),
                    [&](int node) { return moves(g.nodes[node]); })) {
      continue;
    }
    bound(g, &cluster);
    claims->list.push_back(std::move(cluster));
  }
}

void bundle(const Graph& g, Claims* claims) {
  constexpr size_t kFew = 256, kMany = 64;
  const size_t count = claims->list.size(), most = count <= kFew ? 1 : count / kMany;
  if (most == 1) {
    for (size_t i = 0; i < count; ++i) claims->fused.push_back({i});
    return;
  }
  const Units units(g, claims->list);
  std::vector<char> wanted(units.readers.size());
  std::fill(wanted.begin(), wanted.begin() + static_cast<std::ptrdiff_t>(count), 1);
  Sets sets = neighbours(units, wanted);
  std::vector<size_t> place(units.readers.size(), SIZE_MAX);
  // Neighbours in the order in which they can run, some at a time: no way leads from later ones to
  // those before.
  for (const int unit : units.order) {
    if (!wanted[unit]) continue;
    size_t& at = place[sets.find(unit)];
    if (at == SIZE_MAX || claims->fused[at].size() == most) {
      at = claims->fused.size();
      claims->fused.emplace_back();
    }
    claims->fused[at].push_back(static_cast<size_t>(unit));
  }
}

}  // namespace exn::ort
