// SPDX-License-Identifier: Apache-2.0
// What the tests need of the operating system.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace exn::test {

size_t page_bytes();

// Pages of zeros of their own.
class Pages {
 public:
  explicit Pages(size_t bytes);
  ~Pages();
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  char* begin() const { return begin_; }

  // From now on whole pages, from the one at byte `from` on, may only be read, or not even that.
  void forbid_writing(size_t from, size_t bytes);
  void forbid(size_t from, size_t bytes);

 private:
  [[maybe_unused]] size_t bytes_;
  char* begin_;
};

// The file of this program, without its folder.
std::string program_name();

// A function of a library, which stays loaded; null if there is none.
void* function_of(const std::string& library, const char* name);

// Runs this program once more, with other variables: null removes one. Its exit status, or -1.
int run_this_program(const std::vector<std::string>& arguments,
                     const std::map<std::string, const char*>& environment);

}  // namespace exn::test
