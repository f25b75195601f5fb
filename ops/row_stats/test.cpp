// SPDX-License-Identifier: Apache-2.0
#include "harness.h"
#include "stats.h"

namespace exn::test {
namespace {

// Rounding lifts no probability above 1, whatever a logit goes through; and one logit is certain.
TEST(RowStatsBounds, ProbabilitiesEndAtOne) {
  struct Map {
    float temperature, softcap;
  };
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    use(target);
    for (int64_t columns : {1, 3, 40}) {
      HostTensor values = make_tensor(Type::kF32, {64, columns});
      fill(&values, 5, 0, "normal", 8, "-");
      for (const Map map : {Map{1, 0}, Map{1, 30}, Map{0.7f, 1000}, Map{1e-3f, 1000}}) {
        for (int32_t normalizer : {EXN_SOFTMAX, EXN_STABLEMAX}) {
          // Two ways of taking g, each within 3e-7 of it; no |z| is above 1e6.
          const double noise = normalizer == EXN_STABLEMAX ? 6e-7 * 13.82 : 0;
          Instance instance(target);
          exn_row_stats_params p = {
              sizeof p, instance.input(values), {}, normalizer, map.temperature, map.softcap, 0};
          p.out = add_stats(&instance, 1u << kP1 | 1u << kEntropy | 1u << kPow2Entropy, 64);
          instance.call(EXN_TEST_OP(row_stats), p);
          instance.prepare();
          instance.run(nullptr);
          const Outputs stats = instance.outputs();  // p1, entropy, pow2 entropy
          for (int64_t row = 0; row < 64; ++row) {
            EXPECT_LE(stats[0].at(0, row), 1)
                << columns << " logits, row " << row << ", softcap " << map.softcap;
            EXPECT_GE(stats[1].at(0, row), 0);
            EXPECT_GE(stats[2].at(0, row), 0);
            if (columns > 1) continue;
            EXPECT_EQ(stats[0].at(0, row), 1);
            EXPECT_LE(stats[1].at(0, row), noise);
            EXPECT_LE(stats[2].at(0, row), 2 * noise);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace exn::test
