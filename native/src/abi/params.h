// SPDX-License-Identifier: Apache-2.0
// Params structs of callers that were compiled against another version of their header.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/status.h"

namespace exn {

// The size of a struct when it was first released. One that has grown since names that size in a
// specialisation; 0 in a field that a caller did not know must mean what was done before it came.
template <class Params>
constexpr uint64_t kFirstSize = sizeof(Params);

// No struct is longer: what lies beyond is read to see whether a later version's fields are set.
constexpr uint64_t kMostParamsBytes = 4096;

// Copies a caller's struct of any released size, with zeros in the fields that the caller did not
// know. A longer one, of a later version, is taken if what it adds is 0.
template <class Params>
exn_status read_params(const char* op, const Params* params, Params* copy) {
  if (params == nullptr) return fail(EXN_INVALID_ARGUMENT, "%s: params is null", op);
  const uint64_t size = params->struct_size;
  constexpr uint64_t kKnown = sizeof(Params);
  if (size < kFirstSize<Params>) {
    return fail(EXN_INVALID_ARGUMENT,
                "%s: params.struct_size is %llu, this version needs at least %llu", op,
                static_cast<unsigned long long>(size),
                static_cast<unsigned long long>(kFirstSize<Params>));
  }
  if (size > kMostParamsBytes) {
    return fail(EXN_INVALID_ARGUMENT,
                "%s: params.struct_size is %llu, the largest sensible value is %llu", op,
                static_cast<unsigned long long>(size),
                static_cast<unsigned long long>(kMostParamsBytes));
  }
  const char* bytes = reinterpret_cast<const char*>(params);
  for (uint64_t i = kKnown; i < size; ++i) {
    if (bytes[i] != 0) {
      return fail(EXN_UNSUPPORTED,
                  "%s: params.struct_size is %llu and sets a field beyond the %llu bytes this "
                  "version knows",
                  op, static_cast<unsigned long long>(size),
                  static_cast<unsigned long long>(kKnown));
    }
  }
  if (size < kKnown) *copy = Params{};
  std::memcpy(copy, params, size < kKnown ? size : kKnown);
  return EXN_OK;
}

}  // namespace exn
