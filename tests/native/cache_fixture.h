// SPDX-License-Identifier: Apache-2.0
// What the suites of the ops on KV caches, and of those that take indices, share.
#pragma once

#include "cache.h"
#include "misuse.h"

namespace exn::test {

// Filled with `value`.
inline HostTensor filled(Type type, std::vector<int64_t> shape, int32_t value) {
  HostTensor t = make_tensor(type, std::move(shape));
  for (int64_t i = 0; i < t.size(); ++i) t.set_integer(i, value);
  return t;
}

inline std::vector<int32_t> integers_of(const HostTensor& t) {
  std::vector<int32_t> values;
  for (int64_t i = 0; i < t.size(); ++i) values.push_back(static_cast<int32_t>(t.integer_at(i)));
  return values;
}

// The run alone must refuse what only the contents of the tensors can tell.
template <class Params>
void expect_run_refused(const Op<Params>& op, const Params& params,
                        const std::vector<Placed*>& written, const Words& words) {
  EXPECT_EQ(op.supported(&params), EXN_OK) << exn_last_error();
  EXPECT_EQ(run_once(targets().front(), op, params), EXN_INVALID_ARGUMENT) << op.name;
  expect_words(words);
  for (const Placed* t : written)
    EXPECT_TRUE(t->unchanged()) << op.name << " wrote an output of a run that it refused";
}

// Index tensors are read where they are: `ids[at] = value` in device memory of the CPU, undone at
// the end of the scope.
class Poke {
 public:
  Poke(Placed* ids, int64_t at, int32_t value)
      : place_(static_cast<int32_t*>(ids->dl()->data) + ids->dl()->byte_offset / 4 + at),
        before_(*place_) {
    *place_ = value;
  }
  ~Poke() { *place_ = before_; }
  Poke(const Poke&) = delete;
  Poke& operator=(const Poke&) = delete;

 private:
  int32_t* place_;
  int32_t before_;
};

// Whether there is a CPU to try misuse on.
inline bool on_cpu() { return !targets().empty() && targets().front().cpu(); }

}  // namespace exn::test
