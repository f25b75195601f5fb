// SPDX-License-Identifier: Apache-2.0
//
// The same cases, chosen by libFuzzer's bytes: the first says of which op.
#include <cstdlib>

#include "core_calls.h"
#include "trial.h"

namespace {

using namespace exn::fuzz;

struct Driver {
  Arena arena;
  Progress progress{};
  Count count{};
  Bench bench{&arena, kDLCPU, &progress};
  Case c{&arena, kDLCPU};

  Driver() {
    bench.set_path("cpu/");
    bench.set_reproduction("this input");
  }
};

}  // namespace

// More memory than there is must be a null pointer here too.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Driver* driver = new Driver;  // as large as a stack
  if (size == 0) return 0;
  Random random(data + 1, size - 1);
  const std::vector<OpUnderTest>& ops = ops_under_test();
  const size_t op = data[0] % (ops.size() + 1);
  if (op == ops.size()) {
    judge_core(&driver->bench, &random, kDLCPU, &driver->count);
  } else if (make_case(&driver->c, ops[op], &random)) {
    driver->bench.judge(&driver->c, &driver->count);
  }
  if (driver->progress.findings > 0) std::abort();
  return 0;
}
