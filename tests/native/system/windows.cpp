// SPDX-License-Identifier: Apache-2.0
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <gtest/gtest.h>
#include <process.h>
#include <windows.h>

#include "system.h"

namespace exn::test {

size_t page_bytes() {
  SYSTEM_INFO info;
  GetSystemInfo(&info);
  return info.dwPageSize;
}

Pages::Pages(size_t bytes)
    : bytes_(bytes),
      begin_(static_cast<char*>(
          VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE))) {
  EXPECT_NE(begin_, nullptr);
}

Pages::~Pages() { VirtualFree(begin_, 0, MEM_RELEASE); }

void Pages::forbid_writing(size_t from, size_t bytes) {
  DWORD before;
  EXPECT_NE(VirtualProtect(begin_ + from, bytes, PAGE_READONLY, &before), 0);
}

void Pages::forbid(size_t from, size_t bytes) {
  DWORD before;
  EXPECT_NE(VirtualProtect(begin_ + from, bytes, PAGE_NOACCESS, &before), 0);
}

std::string program_name() {
  const std::string path = _pgmptr;
  return path.substr(path.find_last_of("/\\") + 1);
}

void* function_of(const std::string& library, const char* name) {
  const HMODULE opened = LoadLibraryA(library.c_str());
  return opened == nullptr ? nullptr : reinterpret_cast<void*>(GetProcAddress(opened, name));
}

// The child begins with the variables of this process, which gets its own back.
int run_this_program(const std::vector<std::string>& arguments,
                     const std::map<std::string, const char*>& environment) {
  std::map<std::string, const char*> before;
  for (const auto& [name, value] : environment) {
    before[name] = std::getenv(name.c_str());
    SetEnvironmentVariableA(name.c_str(), value);
  }
  char path[MAX_PATH];
  GetModuleFileNameA(nullptr, path, sizeof path);
  std::vector<const char*> words = {"test"};
  for (const std::string& word : arguments) words.push_back(word.c_str());
  words.push_back(nullptr);
  const intptr_t status = _spawnv(_P_WAIT, path, words.data());
  for (const auto& [name, value] : before) SetEnvironmentVariableA(name.c_str(), value);
  return static_cast<int>(status);
}

}  // namespace exn::test
