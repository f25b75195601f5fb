// SPDX-License-Identifier: Apache-2.0
// Where the recorded vectors are: in the folder that EXEUNT_GOLDEN names, otherwise where CMake has
// unpacked those of tests/golden. A test without them fails.
#pragma once

#include <cstdlib>
#include <string>

namespace exn::test {

inline std::string golden_path(const std::string& file) {
  const char* named = std::getenv("EXEUNT_GOLDEN");
  const bool given = named != nullptr && *named != '\0';
  return (given ? std::string(named) : std::string(EXN_SOURCE_DIRECTORY) + "/build/native/golden") +
         "/" + file;
}

}  // namespace exn::test
