// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <errno.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>

#include "system.h"

namespace exn::test {

size_t page_bytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

Pages::Pages(size_t bytes)
    : bytes_(bytes),
      begin_(static_cast<char*>(
          mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
  EXPECT_NE(static_cast<void*>(begin_), MAP_FAILED);
}

Pages::~Pages() { munmap(begin_, bytes_); }

void Pages::forbid_writing(size_t from, size_t bytes) {
  EXPECT_EQ(mprotect(begin_ + from, bytes, PROT_READ), 0);
}

void Pages::forbid(size_t from, size_t bytes) {
  EXPECT_EQ(mprotect(begin_ + from, bytes, PROT_NONE), 0);
}

std::string program_name() { return program_invocation_short_name; }

void* function_of(const std::string& library, const char* name) {
  void* const opened = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  return opened == nullptr ? nullptr : dlsym(opened, name);
}

namespace {

// Replaces this process; returns only if that fails. A cross-built program needs its emulator
// (EXEUNT_TEST_EMULATOR, words separated by blanks) in front: the kernel cannot start it alone.
void become_this_program(const std::vector<std::string>& arguments) {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  if (length <= 0) return;
  std::vector<std::string> words;
  const char* emulator = std::getenv("EXEUNT_TEST_EMULATOR");
  std::stringstream emulator_words(emulator != nullptr ? emulator : "");
  for (std::string word; emulator_words >> word;) words.push_back(word);
  words.emplace_back(path, static_cast<size_t>(length));
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  execvp(pointers[0], pointers.data());
}

}  // namespace

int run_this_program(const std::vector<std::string>& arguments,
                     const std::map<std::string, const char*>& environment) {
  const pid_t child = fork();
  if (child == 0) {
    for (const auto& [name, value] : environment) {
      value == nullptr ? unsetenv(name.c_str()) : setenv(name.c_str(), value, 1);
    }
    become_this_program(arguments);
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace exn::test
