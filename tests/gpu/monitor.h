// SPDX-License-Identifier: Apache-2.0
// Clocks, power and temperature of the device, from NVIDIA's management library.
#pragma once

#include <string>

namespace exn::gpu {

class Monitor {
 public:
  // Without the library, or where it does not know the device, nothing is read; why() says so.
  void open(const std::string& library);
  const std::string& why() const { return why_; }

  // JSON: an object of what can be read now.
  std::string read() const;

 private:
  std::string why_ = "not opened";
  void* device_ = nullptr;
};

}  // namespace exn::gpu
