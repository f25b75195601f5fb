// SPDX-License-Identifier: Apache-2.0
#include "harness.h"

namespace exn::test {
namespace {

const Op<exn_cosine_params> kOp = {"cosine", exn_cosine_supported, exn_cosine_workspace_size,
                                   exn_cosine};

class Cosine : public ::testing::TestWithParam<CosineCase> {};

TEST_P(Cosine, MatchesOracle) {
  const CosineCase& c = GetParam();
  const CosineInputs in = make_inputs(c);
  const std::vector<Expected> expected = cosine_oracle(c, in);
  for (const Target& target : targets()) {
    if (!wanted(c, target)) continue;
    SCOPED_TRACE(target.name());
    Placed a(target, in.a);
    Placed b(target, in.b);
    Placed out(target, poisoned(Type::kF32, {c.a.rows}));
    const DLTensor* other = in.b.given() ? b.dl() : a.dl();
    const exn_cosine_params params = {sizeof params, a.dl(), other, out.dl()};
    exercise(target, kOp, params, {&a, &b}, {&out});
    if (HasFatalFailure()) return;
    const HostTensor got = out.read();
    expect_all_agree(std::string("cosine ") + name_of(c.a.type), expected, got);
    for (int64_t r = 0; r < c.a.rows; ++r) {
      EXPECT_FALSE(got.at(0, r) > 1 || got.at(0, r) < -1) << "row " << r;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Cosine,
                         ::testing::ValuesIn(wanted_cases(cosine_cases())),
                         CaseName());

}  // namespace
}  // namespace exn::test
