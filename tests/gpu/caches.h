// SPDX-License-Identifier: Apache-2.0
//
// The KV caches of a case on a device.
#pragma once

#include <string>

#include "case_table_cache.h"
#include "judge.h"

namespace exn::test {

inline exn_kv_cache described(const CacheSpec& c, const DLTensor* k, const DLTensor* v,
                              const DLTensor* block_table) {
  return {k, v, block_table, c.layout, 0};
}

inline exn_kv_cache input_cache(Instance* instance, const CacheSpec& c,
                                const CacheTensors& tensors) {
  const DLTensor* k = instance->input(tensors.k);
  const DLTensor* v = instance->input(tensors.v);
  return described(c, k, v, instance->input(tensors.block_table));
}

inline exn_kv_cache in_out_cache(Instance* instance, const CacheSpec& c,
                                 const CacheTensors& tensors) {
  const DLTensor* k = instance->in_out("k", tensors.k);
  const DLTensor* v = instance->in_out("v", tensors.v);
  return described(c, k, v, instance->input(tensors.block_table));
}

inline std::string layout_name(const CacheSpec& c) {
  const char* const names[] = {"head", "token", "paged"};
  return quoted(names[c.layout]);
}

}  // namespace exn::test
