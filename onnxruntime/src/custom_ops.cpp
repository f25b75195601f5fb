// SPDX-License-Identifier: Apache-2.0
#include "custom_ops.h"

namespace exn::ort {

CustomOps::CustomOps(const Api& api) : api_(api) {
  check(api, api.CreateCustomOpDomain("org.exeunt", &domain_));
}

CustomOps::~CustomOps() { api_.ReleaseCustomOpDomain(domain_); }

}  // namespace exn::ort
