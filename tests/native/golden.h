// SPDX-License-Identifier: Apache-2.0
// Where the recorded vectors are. A test without them is skipped, and says so; one that finds their
// folder, but not what belongs there, fails.
#pragma once

#include <sys/stat.h>

#include <cstdlib>
#include <string>

namespace exn::test {

inline std::string golden_path(const std::string& file) {
  const char* named = std::getenv("EXEUNT_GOLDEN");
  const bool given = named != nullptr && *named != '\0';
  return (given ? std::string(named) : std::string(EXN_SOURCE_DIRECTORY) + "/../shared/golden") +
         "/" + file;
}

inline bool golden_folder_exists() {
  struct stat found;
  return stat(golden_path("").c_str(), &found) == 0;
}

}  // namespace exn::test
