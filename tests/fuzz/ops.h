// SPDX-License-Identifier: Apache-2.0
//
// Every op of native/src/base/args.h behind one face.
#pragma once

#include "maker.h"

namespace exn::fuzz {

struct OpUnderTest {
  const char* name;  // as in its messages: exn_gate
  size_t params_bytes;
  void (*describe)(Maker&, void* params);
  exn_status (*supported)(const void* params);
  exn_status (*workspace_size)(const void* params, size_t* bytes);
  exn_status (*run)(const void* params, void* workspace, size_t bytes, exn_stream stream);
};

extern const OpUnderTest kOps[];
extern const int kOpCount;

}  // namespace exn::fuzz
