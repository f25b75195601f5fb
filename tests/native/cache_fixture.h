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

// For a tensor of any rank: everything else that can be wrong with it.
template <class Params>
void spoil_flat(const Op<Params>& op, const Params& params, Placed* t, const char* name,
                const std::vector<Placed*>& written) {
  DLTensor* dl = t->mutable_dl();
  const DLTensor good = *dl;
  dl->dtype = {kDLInt, 16, 1};
  expect_refused(op, params, written, EXN_INVALID_ARGUMENT, {name, "16", "i32"});
  *dl = good;
  dl->data = nullptr;
  dl->byte_offset = 0;
  expect_refused(op, params, written, EXN_INVALID_ARGUMENT, {name, "null"});
  *dl = good;
  dl->byte_offset += 1;
  expect_refused(op, params, written, EXN_INVALID_ARGUMENT, {name, "aligned", "4"});
  *dl = good;
}

// How a params struct's cache can be wrong.
template <class Params>
void spoil_cache(const Op<Params>& op, const Params& params, exn_kv_cache Params::* field,
                 PlacedCache* cache, const std::string& name, const std::vector<Placed*>& written) {
  Params p = params;
  for (int32_t bad : {-1, 3}) {
    (p.*field).layout = bad;
    expect_refused(op, p, written, EXN_INVALID_ARGUMENT, {"layout", std::to_string(bad)});
  }
  p = params;
  (p.*field).k = nullptr;
  expect_refused(op, p, written, EXN_INVALID_ARGUMENT, {name + ".k", "null"});
  p = params;
  (p.*field).v = nullptr;
  expect_refused(op, p, written, EXN_INVALID_ARGUMENT, {name + ".v", "null"});
  Spoiler<Params> spoil(op, params, written);
  const std::string k = name + ".k", v = name + ".v", table = name + ".block_table";
  spoil.tensor(&cache->k, k.c_str(), "bf16");
  spoil.tensor(&cache->v, v.c_str(), "bf16");
  spoil.on_another_device(&cache->v, v.c_str());
  spoil.sizes(&cache->v, v.c_str());
  cache->v.mutable_dl()->dtype = dl_type(Type::kI32);
  expect_refused(op, params, written, EXN_INVALID_ARGUMENT, {v, "i32", "f32"});
  cache->v.mutable_dl()->dtype = dl_type(Type::kF16);  // a float type, but not that of K
  expect_refused(op, params, written, EXN_INVALID_ARGUMENT, {v, "f16", k, "f32"});
  cache->v.mutable_dl()->dtype = dl_type(Type::kF32);
  p = params;
  if (cache->layout == EXN_KV_PAGED) {
    (p.*field).block_table = nullptr;
    expect_refused(op, p, written, EXN_INVALID_ARGUMENT, {table, "null"});
    spoil.tensor(&cache->block_table, table.c_str(), "i32");
    spoil.on_another_device(&cache->block_table, table.c_str());
  } else {
    const DLTensor any = *cache->k.dl();
    (p.*field).block_table = &any;
    expect_refused(op, p, written, EXN_INVALID_ARGUMENT, {table, "layout"});
  }
}

}  // namespace exn::test
