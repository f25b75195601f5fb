// SPDX-License-Identifier: Apache-2.0
#include "roof.h"

#include <cstdlib>

namespace exn::gpu {

Arithmetic arithmetic_of(const std::string& op, const std::map<std::string, std::string>& shape) {
  const auto number = [&shape](const char* name) {
    const auto found = shape.find(name);
    return found == shape.end() ? 0.0 : std::atof(found->second.c_str());
  };
  const auto is = [&shape](const char* name, const char* value) {
    const auto found = shape.find(name);
    return found != shape.end() && found->second == std::string("\"") + value + "\"";
  };
  const auto is_narrow = [&is](const char* name) { return is(name, "bf16") || is(name, "f16"); };
  const double rows = number("rows"), dim = number("dim");

  Arithmetic a;
  if (op == "linear") {
    a.operations = 2 * rows * dim * number("cols");
  } else if (op == "exit_head") {
    const double listed = number("shortlist");
    a.operations = 2 * rows * dim * (listed > 0 ? listed : number("vocab"));
  } else if (op == "gate") {
    a.operations = 2 * rows * dim * (number("repeats") * dim + number("classes"));
  } else if (op == "ffn") {
    a.operations = 2 * number("running") * dim * number("width") * (number("gate") > 0 ? 3 : 2);
  } else if (op == "kv_propagate") {
    a.operations = 4 * rows * dim * number("heads") * number("head_dim") * number("layers");
  } else if (op == "attention") {
    // Of a causal prompt, a row sees one slot more than the row before it.
    const bool causal = is("visible", "causal") && number("sequences") <= 1;
    const double seen = number("slots") - (causal ? (rows - 1) / 2 : 0);
    a.operations = 4 * rows * number("heads") * number("head_dim") * seen;
  } else if (op == "attention_scores") {
    a.operations = 2 * number("prompts") * number("window") * number("heads") * number("head_dim") *
                   number("slots");
  }
  const bool has_weights = shape.count("weight_dtype") != 0;
  if (is_narrow("dtype") && (!has_weights || is_narrow("weight_dtype"))) a.unit = "mma";
  return a;
}

}  // namespace exn::gpu
