// SPDX-License-Identifier: Apache-2.0
#include "harness.h"

#include <cmath>

namespace exn::test {
namespace {

const Op<exn_perp_grad_params> kOp = {"perp_grad", exn_perp_grad_supported,
                                      exn_perp_grad_workspace_size, exn_perp_grad};

class PerpGrad : public ::testing::TestWithParam<PerpGradCase> {};

// What is left of a gradient that cannot be told from a multiple of the weights.
void expect_noise(const PerpGradExpected& expected, const HostTensor& got) {
  double square = 0;
  for (int64_t i = 0; i < got.cols; ++i) square += got.at(0, i) * got.at(0, i);
  EXPECT_LE(std::sqrt(square), 1.02 * expected.norm);
}

TEST_P(PerpGrad, MatchesOracle) {
  const PerpGradCase& c = GetParam();
  const PerpGradInputs in = make_inputs(c);
  const PerpGradExpected expected = perp_grad_oracle(c, in);
  for (const Target& target : targets()) {
    if (!wanted(c, target)) continue;
    SCOPED_TRACE(target.name());
    Placed weight(target, in.weight);
    Placed grad(target, in.grad);
    HostTensor poison = in.grad;
    poison.bytes.assign(poison.bytes.size(), 0xCD);
    Placed separate(target, poison);
    Placed& out = c.in_place ? grad : separate;
    const exn_perp_grad_params params = {sizeof params, weight.dl(), grad.dl(),
                                         out.dl(),      c.form,      0};
    std::vector<Placed*> read = {&weight};
    if (!c.in_place) read.push_back(&grad);
    exercise(target, kOp, params, read, {&out});
    if (HasFatalFailure()) return;
    if (expected.noise) {
      expect_noise(expected, out.read());
    } else {
      expect_all_agree(std::string("perp_grad ") + name_of(c.type), expected.out, out.read());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, PerpGrad,
                         ::testing::ValuesIn(wanted_cases(perp_grad_cases())),
                         CaseName());

}  // namespace
}  // namespace exn::test
