// SPDX-License-Identifier: Apache-2.0
#include "rope_table/case.h"

#include "judge.h"
#include "maker.h"
#include "reals.h"

namespace exn::test {
inline namespace rope_table_op {

namespace {

void read_case(const Row& row, RopeTableCase* c) {
  c->positions = row.integer("positions");
  c->pairs = row.integer("pairs");
  c->offset = row.integer("offset");
  c->base = row.number("base");
  c->factor = row.number("factor");
  c->scaling = row.choice("scaling", {"none", "linear", "ntk"});
}

}  // namespace

std::vector<Expected> rope_table_oracle(const RopeTableCase& c) {
  const Wide n = 2 * static_cast<Wide>(c.pairs), factor = static_cast<Wide>(c.factor);
  Wide base = static_cast<Wide>(c.base);
  if (c.scaling == EXN_ROPE_SCALING_NTK) base *= std::pow(factor, n / (n - 2));
  std::vector<Wide> frequencies;
  for (int64_t i = 0; i < c.pairs; ++i)
    frequencies.push_back(std::pow(base, -2 * static_cast<Wide>(i) / n));
  std::vector<Expected> out;
  for (int64_t t = 0; t < c.positions; ++t) {
    const Wide position =
        static_cast<Wide>(t) / (c.scaling == EXN_ROPE_SCALING_LINEAR ? factor : 1);
    for (const Wide frequency : frequencies) {
      const Wide angle = position * frequency;
      // Functions of a long double are slow on ARM, so: of the next double, and what is left.
      const double near = static_cast<double>(angle);
      const double rest = static_cast<double>(angle - static_cast<Wide>(near));
      const double cosine = std::cos(near), sine = std::sin(near);
      // The angle in f64 is off by a few units of its own size.
      const double error = 16 * 0x1p-53 * (near + 1);
      out.push_back(stored(Type::kF32, cosine - rest * sine, error));
      out.push_back(stored(Type::kF32, sine + rest * cosine, error));
    }
  }
  return out;
}

namespace {

Case make_case(const RopeTableCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    exn_rope_table_params params = {};
    params.struct_size = sizeof params;
    params.table = instance->output("table", Type::kF32, {c.positions, c.pairs, 2}, 0, c.offset);
    params.base = static_cast<double>(c.base);
    params.factor = static_cast<double>(c.factor);
    params.scaling = c.scaling;
    instance->call(EXN_TEST_OP(rope_table), params);
    return instance;
  };
  const auto oracle = lazily([c] { return rope_table_oracle(c); });
  result.judge = [oracle](const Outputs& got) { return compare("table", oracle(), got[0]); };
  result.compulsory_bytes = bytes_of(2 * c.positions * c.pairs, Type::kF32);
  result.description = {{"positions", text(c.positions)},
                        {"pairs", text(c.pairs)},
                        {"elements", text(2 * c.positions * c.pairs)}};
  return result;
}

void describe(Maker& m, exn_rope_table_params& p) {
  m.out(FIELD(table), kF32, {m.dim("positions", 0, 9, 100), m.dim("pairs", 2, 9, 70), m.fixed(2)});
  const int32_t scaling = m.choice(FIELD(scaling), EXN_ROPE_SCALING_NONE, EXN_ROPE_SCALING_NTK);
  m.real(FIELD(base), Domain::kPositive);
  p.base = 10000 * (1 + p.base);  // below 1 the last angles are large
  m.real(FIELD(factor), Domain::kAtLeastOne);
  if (scaling == EXN_ROPE_SCALING_NONE) p.factor = 1;
  m.zero(FIELD(reserved));
}

const Described kDescribed = EXN_DESCRIBED(rope_table);

const RegisteredOp kRegistered("rope_table", [] {
  return listed("rope_table", read_cases<RopeTableCase>("rope_table", read_case), make_case);
});

}  // namespace

}  // namespace rope_table_op
}  // namespace exn::test
