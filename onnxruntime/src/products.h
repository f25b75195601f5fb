// SPDX-License-Identifier: Apache-2.0
// Products with constant weights, and what they take with them.
#pragma once

#include "patterns.h"

namespace exn::ort {

class Products {
 public:
  Products(Patterns& patterns, const Policy& policy)
      : m(patterns), g(patterns.g), policy_(policy) {}

  // The product that a node is. False with a reason if it is not taken, without if it is none.
  bool start(int node, Product* product, std::string* why) const;
  // Takes what follows; with a residual, a norm or a head only if it is the only one of its group.
  void follow(Product* product, bool alone);
  // Takes what comes before all products of a group.
  void precede(Group* group);
  void describe(Product* product) const;

 private:
  bool start_bits(const Node& node, Product* p, std::string* why) const;
  bool start_dense(const Node& node, Product* p, std::string* why) const;
  bool start_dequantised(int dequantise, Product* p, std::string* why) const;
  bool take_bias(Product* p, int value) const;
  bool take_sum(Product* p, int value) const;
  void take(Product* p, const std::vector<int>& nodes, int output);

  bool widened(Product* p);
  bool biased(Product* p);
  bool added(Product* p);
  bool activated(Product* p);
  bool silu(Product* p);
  bool erf_gelu(Product* p);
  bool normalised(Product* p);
  void head(Product* p);
  bool statistics(Product* p, int value, bool probabilities) const;
  bool read_by_products(const Group& group) const;

  Patterns& m;
  const Graph& g;
  const Policy& policy_;
};

}  // namespace exn::ort
