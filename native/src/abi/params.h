// SPDX-License-Identifier: Apache-2.0
// Params structs of callers that were compiled against another version of their header.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/status.h"

namespace exn {

// The sizes that a struct had in earlier versions. One that has grown names them in a specialisation,
// in rising order, each by the first field that came after it; 0 in a field that a caller did not
// know must mean what was done before it came.
template <class Params>
constexpr uint64_t kOlderSizes[1] = {sizeof(Params)};

// Whether a caller of some version passes so many bytes, each field whole or not at all.
template <class Params>
bool had_size(uint64_t size) {
  bool had = size == sizeof(Params);
  for (const uint64_t older : kOlderSizes<Params>) had |= size == older;
  return had;
}

// No struct is longer: what lies beyond is read to see whether a later version's fields are set.
constexpr uint64_t kMostParamsBytes = 4096;

// Copies a caller's struct of this version or an earlier one, with zeros in the fields that the caller
// did not know. A longer one, of a later version, is taken if what it adds is 0.
template <class Params>
exn_status read_params(const char* op, const Params* params, Params* copy) {
  if (params == nullptr) return fail(EXN_INVALID_ARGUMENT, "%s: params is null", op);
  const uint64_t size = params->struct_size;
  constexpr uint64_t kKnown = sizeof(Params);
  constexpr uint64_t kFirst = kOlderSizes<Params>[0];
  static_assert(kFirst % alignof(Params) == 0, "the new field lies in what was padding");
  if (size < kFirst) {
    return fail(EXN_INVALID_ARGUMENT,
                "%s: params.struct_size is %llu, this version needs at least %llu", op,
                static_cast<unsigned long long>(size), static_cast<unsigned long long>(kFirst));
  }
  if (size < kKnown && !had_size<Params>(size)) {
    return fail(EXN_INVALID_ARGUMENT,
                "%s: params.struct_size is %llu, which no version has; this one has %llu", op,
                static_cast<unsigned long long>(size), static_cast<unsigned long long>(kKnown));
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
