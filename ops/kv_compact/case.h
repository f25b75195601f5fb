// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cache.h"
#include "judge.h"

namespace exn::test {
inline namespace kv_compact_op {

struct KvCompactCase : CaseBase {
  CacheSpec source;
  CacheSpec destination;  // source, if in_place
  bool in_place = false;
  bool per_head = false;
  std::string sequence;
  std::string length;
  std::string kept;
  std::string list;
  std::string form;
  std::string pages;
  bool frees = false;
  int64_t freed = 0;  // F
  bool new_length = false;

  int64_t sequences() const;  // B
  int64_t lists() const;
};

struct KvCompactInputs {
  CacheTensors source;
  CacheTensors destination;  // not given if in_place
  HostTensor list, offsets, count, sequence, length;
};

std::vector<KvCompactCase> kv_compact_cases();
KvCompactInputs make_inputs(const KvCompactCase& c);

// A call that is `refused` is EXN_INVALID_ARGUMENT on the CPU with nothing written; a device, which
// cannot read a list on the host, gives what the other members then say.
struct KvCompactExpected {
  bool refused = false;
  CacheTensors cache;  // the destination
  std::vector<int32_t> new_length;
  std::vector<int32_t> freed;
  int32_t freed_count = 0;
};

KvCompactExpected kv_compact_oracle(const KvCompactCase& c, const KvCompactInputs& in);

}  // namespace kv_compact_op
}  // namespace exn::test
