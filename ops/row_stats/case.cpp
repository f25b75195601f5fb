// SPDX-License-Identifier: Apache-2.0
#include "parts.h"
#include "reals.h"
#include "stats.h"

namespace exn::test {
inline namespace row_stats_op {

namespace {

struct RowStatsCase : CaseBase {
  MatrixSpec logits;
  int32_t normalizer = EXN_SOFTMAX;
  float temperature = 1;
  float softcap = 0;
  uint32_t outputs = 0;
};

void read_case(const Row& row, RowStatsCase* c) {
  c->logits = read_matrix(row);
  c->normalizer = row.choice("normalizer", {"softmax", "stablemax"});
  c->temperature = row.number("temperature");
  c->softcap = row.number("softcap");
  c->outputs = read_stats(row, *c, c->normalizer);
}

HostTensor make_logits(const RowStatsCase& c) { return make_matrix(c.logits, c.seed, 0); }

StatsInputs inputs_of(const RowStatsCase& c) {
  return make_stats_inputs(c.outputs, c.seed, c.logits.rows, c.logits.cols);
}

std::vector<StatsExpected> row_stats_oracle(const RowStatsCase& c) {
  const HostTensor logits = make_logits(c);
  const StatsInputs in = inputs_of(c);
  std::vector<StatsExpected> rows;
  for (int64_t r = 0; r < logits.rows; ++r) {
    const Logits row = {row_of<double>(logits, r), {}, {}};
    rows.push_back(stats_oracle(row, c.normalizer, c.temperature, c.softcap, in, r));
  }
  return rows;
}

Case make_case(const RowStatsCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    const DLTensor* logits = instance->input(make_logits(c));
    const exn_stats out = add_stats(instance.get(), c.outputs, c.logits.rows, inputs_of(c));
    const exn_row_stats_params params = {sizeof params, logits,    out, c.normalizer,
                                         c.temperature, c.softcap, 0};
    instance->call(EXN_TEST_OP(row_stats), params);
    return instance;
  };
  const auto oracle = lazily([c] { return row_stats_oracle(c); });
  result.judge = [c, oracle](const Outputs& got) { return judge_stats(c.outputs, oracle(), got); };
  result.compulsory_bytes = bytes_of(c.logits.rows * c.logits.cols, c.logits.type);
  // Both choose among the stored logits, before a soft-cap or a temperature makes some of them
  // equal, and multiply by the inverse of the temperature.
  result.same_as_cpu = {"argmax", "valid"};
  if (c.softcap == 0) result.same_as_cpu.push_back("max_logit");
  result.description = {{"rows", text(c.logits.rows)},
                        {"cols", text(c.logits.cols)},
                        {"dtype", quoted(name_of(c.logits.type))},
                        {"normalizer", text(c.normalizer)},
                        {"outputs", stat_names(c.outputs)}};
  return result;
}

void describe(Maker& m, exn_row_stats_params& p) {
  const Dim rows = m.dim("rows", 0, 4, 70), columns = m.dim("columns", 1, 40, 600);
  m.in(FIELD(logits), m.type(kFloats), {rows, columns}, kRows);
  normalizer(m, p);
  m.zero(FIELD(reserved));
  stats(m, p.out, rows, columns, p.normalizer == EXN_SOFTMAX);
}

const Described kDescribed = EXN_DESCRIBED(row_stats);

const RegisteredOp kRegistered("row_stats", [] {
  return listed("row_stats", read_cases<RowStatsCase>("row_stats", read_case), make_case);
});

}  // namespace

}  // namespace row_stats_op
}  // namespace exn::test
