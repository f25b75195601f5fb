// SPDX-License-Identifier: Apache-2.0
// The suite that every op has: each case of the op passes the protocol of a call on every target,
// and its results are judged by the op's oracle. Linked into <op>_test, whose name says which op.
#include "harness.h"
#include "system.h"

namespace exn::test {
namespace {

std::vector<ListedCase> cases_of_this_program() {
  std::string op = program_name();
  const size_t end = op.rfind("_test");
  if (end != std::string::npos) op.resize(end);
  std::vector<ListedCase> kept;
  for (ListedCase& c : cases_of(op)) {
    if (wanted_somewhere(c.base)) kept.push_back(std::move(c));
  }
  return kept;
}

struct Name {
  std::string operator()(const ::testing::TestParamInfo<ListedCase>& info) const {
    return CaseName()(::testing::TestParamInfo<CaseBase>(info.param.base, info.index));
  }
};

class Cases : public ::testing::TestWithParam<ListedCase> {};

// With nothing written. Where `may_pass`, ids out of range may be none that this case has.
void expect_refused(const Target& target, const Case& c, bool may_pass) {
  const std::unique_ptr<Instance> instance = c.instantiate(target);
  use(target);
  instance->prepare();
  try {
    instance->run(nullptr);
    EXPECT_TRUE(may_pass) << "was not refused";
    EXPECT_EQ(c.judge(instance->outputs()), "");
  } catch (const std::runtime_error&) {
    EXPECT_TRUE(instance->outputs_unchanged()) << "wrote an output of a run that it refused";
  }
}

TEST_P(Cases, Pass) {
  const Case c = GetParam().make();
  for (const Target& target : targets()) {
    if (!wanted(c.base, target) || (GetParam().host_only && !target.cpu())) continue;
    SCOPED_TRACE(target.name());
    const bool refused = target.cpu() && c.cpu_refuses;
    if (refused && c.judge_on_cpu == nullptr) {
      expect_refused(target, c, GetParam().spoiled);
      continue;
    }
    if (GetParam().spoiled) continue;  // the device checker has it
    const std::unique_ptr<Instance> instance = c.instantiate(target);
    exercise(target, instance.get());
    if (HasFatalFailure()) return;
    EXPECT_EQ((refused ? c.judge_on_cpu : c.judge)(instance->outputs()), "");
  }
}

INSTANTIATE_TEST_SUITE_P(Room, Cases, ::testing::ValuesIn(cases_of_this_program()), Name());

}  // namespace

void PrintTo(const ListedCase& c, std::ostream* stream) { *stream << c.base.id; }

}  // namespace exn::test
