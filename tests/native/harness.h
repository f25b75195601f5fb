// SPDX-License-Identifier: Apache-2.0
// What the op suites share: the devices and instruction sets to test, guarded tensors in device
// memory, and the protocol that every call has to pass whatever its numbers are.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "case.h"
#include "judge.h"

namespace exn::test {

// A backend and, on the CPU, an instruction set.
struct Target {
  int32_t device_type = kDLCPU;
  std::string isa;        // "" on CUDA
  bool emulated = false;  // CUDA, but by an emulator: small cases only

  operator int32_t() const { return device_type; }
  bool cpu() const { return device_type == kDLCPU; }
  std::string name() const { return cpu() ? "cpu/" + isa : emulated ? "cuda (emulated)" : "cuda"; }
};

// Every instruction set of this machine (or the one that EXEUNT_ISA names; none if
// EXEUNT_TEST_CUDA_ONLY=1), and CUDA if it is available.
const std::vector<Target>& targets();

// A function of the emulated device (tests/simt/include/simt/control.h); null if none takes part.
void* emulator_function(const char* name);

// Makes `target` take the next runs.
void use(const Target& target);

// Whether the library was built without NDEBUG (EXEUNT_TEST_ASSERTS=1) and refuses what other
// builds leave to the caller.
bool library_asserts();

// Whether this run of the tests takes the case on this target: on an emulated device small ones,
// else all but `timed` and `big` ones (EXEUNT_TEST_BIG=1: the latter too) and, with EXEUNT_QUICK=1,
// `bench` ones, which are the shapes of real models with nothing odd about them.
bool wanted(const CaseBase& c, const Target& target);

// Whether so many rows of linear or ffn meet such weights in tiles on the CPU, in an order of sums
// that fewer rows do not have.
bool meets_in_tiles(Type weight, int64_t rows);

// Whether any target takes it; else the summary at the end of the program names it as left out. With
// EXEUNT_TEST_SHARE=I/N this run has one case in N, picked by its name; runs of all I have all.
bool wanted_somewhere(const CaseBase& c);
bool in_share(size_t index);  // of what has no name

template <class Case>
std::vector<Case> wanted_cases(std::vector<Case> cases) {
  std::vector<Case> kept;
  for (Case& c : cases) {
    if (wanted_somewhere(c)) kept.push_back(std::move(c));
  }
  return kept;
}

// Name of a parametrised test.
struct CaseName {
  template <class Case>
  std::string operator()(const ::testing::TestParamInfo<Case>& info) const {
    std::string name = info.param.id;
    for (char& ch : name) {
      if (std::isalnum(static_cast<unsigned char>(ch)) == 0) ch = '_';
    }
    return name;
  }
};

inline std::ostream& operator<<(std::ostream& stream, const CaseBase& c) { return stream << c.id; }

// What this process has allocated so far; stays 0 under a sanitizer, whose malloc does not count.
uint64_t allocations();

// Calls f() and expects that no thread allocates meanwhile. This holds for every run on the CPU, a
// refused one too, but for the first after exn_cpu_set_threads().
template <class F>
auto without_allocations(const char* name, F&& f) {
  const uint64_t before = allocations();
  const auto result = f();
  EXPECT_EQ(allocations() - before, 0u) << name << ": allocations of a run";
  return result;
}

// Runs the call and checks everything that does not depend on the numbers: that it is supported,
// that a workspace one byte too small is refused and nothing written, that a dirty workspace of
// exactly the right size is enough, that inputs and everything around the tensors stay as they are,
// that the forced path ran, that a second run gives the same bits, and on the CPU that every thread
// count does and that nothing is allocated. The outputs of the first good run are left in place.
// `written` are outputs and in-out tensors, `read` the rest.
void exercise(const Target& target, const BoundCall& call, const std::vector<Placed*>& read,
              const std::vector<Placed*>& written);

template <class Params>
void exercise(const Target& target, const Op<Params>& op, const Params& params,
              const std::vector<Placed*>& read, const std::vector<Placed*>& written) {
  exercise(target, bound(op, params), read, written);
}

// The same for all calls of an instance, one after the other.
void exercise(const Target& target, Instance* instance);

// Runs a call once with a fresh workspace and waits for it.
exn_status run_once(const Target& target, const BoundCall& call);

template <class Params>
exn_status run_once(const Target& target, const Op<Params>& op, const Params& params) {
  return run_once(target, bound(op, params));
}

// The outputs of one run of an instance, which nothing may refuse.
Outputs outputs_of(const Target& target, const std::unique_ptr<Instance>& instance);

// Some rows of the tensors of a call, where they lie: block(&params.input) puts a view of them in
// the place of a tensor that is given.
class BlockOfRows {
 public:
  BlockOfRows(int64_t first, int64_t count) : first_(first), count_(count) {}
  void operator()(const DLTensor** field);

 private:
  int64_t first_, count_;
  std::deque<DLTensor> views_;
  std::deque<std::vector<int64_t>> shapes_;
};

// `got`, the outputs of a call on a block of rows, has in these the bits of `all`.
void expect_rows_agree(const Outputs& all, const Outputs& got, int64_t first, int64_t count);

// `rows` rows of the instance's one call, taken `size` at a time, have the bits that they have
// together, which are `all`. `cut(&params, block)` calls `block` for each field that has a row axis;
// blocks that `takes(first)` does not take are left out.
template <class Params, class Cut, class Takes>
void expect_blocks_agree(const Target& target, const Op<Params>& op, Instance* instance,
                         const Outputs& all, int64_t rows, int64_t size, Cut cut, Takes takes) {
  for (int64_t first = 0; size < rows && first + size <= rows; first += size) {
    if (!takes(first)) continue;
    Params params = instance->params<Params>();
    BlockOfRows block(first, size);
    cut(&params, block);
    instance->reset_outputs();
    ASSERT_EQ(run_once(target, op, params), EXN_OK) << exn_last_error();
    expect_rows_agree(all, instance->outputs(), first, size);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

// Compares all elements of a matrix (or of a vector) with expectations in row-major order.
void expect_all_agree(const std::string& what, const std::vector<Expected>& expected,
                      const HostTensor& got);

}  // namespace exn::test
