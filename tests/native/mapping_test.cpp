// SPDX-License-Identifier: Apache-2.0
// Files that are cut while they are mapped. Each test works in a child, since a handler of signals
// is the whole process's, and what it does not handle ends it.
#include <exeunt/exeunt.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csetjmp>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <string>
#include <thread>
#include <vector>

namespace exn::test {
namespace {

constexpr size_t kPages = 64;

using Words = std::vector<std::string>;

void expect_words(const Words& words) {
  for (const std::string& word : words)
    EXPECT_NE(std::string(exn_last_error()).find(word), std::string::npos)
        << "'" << exn_last_error() << "' does not say " << word;
}

// What a child's test came to: 0 it passed, 1 it failed, -1 it was ended.
int in_a_child(const std::function<void()>& test) {
  const pid_t child = fork();
  if (child == 0) {
    test();
    std::_Exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return !WIFEXITED(status) ? -1 : WEXITSTATUS(status);
}

// A file of ones that is mapped for reading.
class Mapped {
 public:
  Mapped() {
    char name[] = "/tmp/exeunt_mapping_XXXXXX";
    file_ = mkstemp(name);
    unlink(name);
    const std::vector<float> page(page_bytes() / sizeof(float), 1.0f);
    for (size_t i = 0; i < kPages; ++i)
      EXPECT_EQ(write(file_, page.data(), page_bytes()), static_cast<ssize_t>(page_bytes()));
    void* const at = mmap(nullptr, bytes(), PROT_READ, MAP_SHARED, file_, 0);
    EXPECT_NE(at, MAP_FAILED);
    begin_ = static_cast<char*>(at);
  }
  ~Mapped() {
    munmap(begin_, bytes());
    close(file_);
  }

  static size_t page_bytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }
  static size_t bytes() { return kPages * page_bytes(); }
  char* begin() const { return begin_; }
  void cut(size_t pages) const {
    EXPECT_EQ(ftruncate(file_, static_cast<off_t>(pages * page_bytes())), 0);
  }
  float at(size_t page) const {
    const volatile char* const p = begin_ + page * page_bytes();
    char bytes[sizeof(float)];
    for (size_t i = 0; i < sizeof bytes; ++i) bytes[i] = p[i];
    float value;
    std::memcpy(&value, bytes, sizeof value);
    return value;
  }

 private:
  int file_;
  char* begin_;
};

TEST(Mapping, ReadsZerosWhereAFileWasCut) {
  EXPECT_EQ(
      in_a_child([] {
        Mapped file, other;
        for (const Mapped* each : {&file, &other})
          ASSERT_EQ(exn_mapping_guard(each->begin(), Mapped::bytes()), EXN_OK) << exn_last_error();
        EXPECT_EQ(file.at(63), 1);
        EXPECT_EQ(exn_mapping_check(file.begin()), EXN_OK);
        file.cut(10);
        EXPECT_EQ(exn_mapping_check(file.begin()), EXN_OK) << "it was not read";
        EXPECT_EQ(file.at(20), 0);
        EXPECT_EQ(file.at(63), 0);
        EXPECT_EQ(file.at(10), 0) << "a second time, before the first";
        EXPECT_EQ(file.at(9), 1);
        EXPECT_EQ(exn_mapping_check(file.begin()), EXN_RUNTIME_FAILURE);
        expect_words({"exn_mapping_check", "no byte " + std::to_string(20 * Mapped::page_bytes())});
        EXPECT_EQ(exn_mapping_check(other.begin()), EXN_OK);
        EXPECT_EQ(other.at(63), 1);
        for (const Mapped* each : {&file, &other})
          EXPECT_EQ(exn_mapping_release(each->begin()), EXN_OK) << exn_last_error();
        // Its place is taken by the next one.
        Mapped next;
        ASSERT_EQ(exn_mapping_guard(next.begin(), Mapped::bytes()), EXN_OK);
        EXPECT_EQ(exn_mapping_check(next.begin()), EXN_OK);
        EXPECT_EQ(exn_mapping_release(next.begin()), EXN_OK);
      }),
      0);
}

TEST(Mapping, EveryThreadOfARunReadsZeros) {
  EXPECT_EQ(
      in_a_child([] {
        ASSERT_EQ(exn_cpu_set_threads(2), EXN_OK);
        const int64_t columns = static_cast<int64_t>(Mapped::page_bytes() / sizeof(float));
        for (size_t kept = 0; kept < kPages; kept += 7) {
          Mapped file;
          ASSERT_EQ(exn_mapping_guard(file.begin(), Mapped::bytes()), EXN_OK);
          file.cut(kept);
          int64_t shape[] = {kPages, columns}, rows[] = {kPages};
          DLTensor logits = {file.begin(), {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, nullptr, 0};
          std::vector<float> most(kPages, -1);
          DLTensor out = {most.data(), {kDLCPU, 0}, 1, {kDLFloat, 32, 1}, rows, nullptr, 0};
          exn_row_stats_params p = {sizeof p, &logits, {}, EXN_SOFTMAX, 1, 0, 0};
          p.out.max_logit = &out;
          void* workspace = nullptr;
          ASSERT_EQ(exn_alloc(kDLCPU, 0, 1 << 20, &workspace), EXN_OK);
          ASSERT_EQ(exn_row_stats(&p, workspace, 1 << 20, nullptr), EXN_OK) << exn_last_error();
          EXPECT_EQ(exn_free(kDLCPU, 0, workspace), EXN_OK);
          for (size_t i = 0; i < kPages; ++i) EXPECT_EQ(most[i], i < kept ? 1 : 0) << i;
          EXPECT_EQ(exn_mapping_check(file.begin()), EXN_RUNTIME_FAILURE);
          EXPECT_EQ(exn_mapping_release(file.begin()), EXN_OK);
        }
      }),
      0);
}

TEST(Mapping, OthersAreLeftToTheHandlerBefore) {
  // Without one, the process ends.
  EXPECT_NE(in_a_child([] {
              Mapped guarded, other;
              EXPECT_EQ(exn_mapping_guard(guarded.begin(), Mapped::bytes()), EXN_OK);
              other.cut(0);
              other.at(5);
              std::_Exit(0);
            }),
            0);
  static sigjmp_buf back;
  static void* where = nullptr;
  struct sigaction own = {};
  own.sa_flags = SA_SIGINFO;
  own.sa_sigaction = [](int, siginfo_t* info, void*) {
    where = info->si_addr;
    siglongjmp(back, 1);
  };
  EXPECT_EQ(in_a_child([&] {
              ASSERT_EQ(sigaction(SIGBUS, &own, nullptr), 0);
              Mapped guarded, other;
              ASSERT_EQ(exn_mapping_guard(guarded.begin(), Mapped::bytes()), EXN_OK);
              guarded.cut(0);
              other.cut(0);
              for (const Mapped* file : {&guarded, &other}) {
                where = nullptr;
                if (sigsetjmp(back, 1) == 0) {
                  EXPECT_EQ(file->at(5), 0);
                  EXPECT_EQ(file, &guarded);
                } else {
                  EXPECT_EQ(file, &other);
                  EXPECT_EQ(where, other.begin() + 5 * Mapped::page_bytes());
                }
              }
              // Nor is it guarded when that is over.
              EXPECT_EQ(exn_mapping_release(guarded.begin()), EXN_OK);
              Mapped again;
              again.cut(0);
              if (sigsetjmp(back, 1) == 0) {
                again.at(5);
                ADD_FAILURE() << "a page that is not there was read";
              }
            }),
            0);
}

TEST(Mapping, RefusesWhatMakesNoSense) {
  EXPECT_EQ(
      in_a_child([] {
        Mapped file;
        char* const begin = file.begin();
        const auto refused = [](exn_status status, const Words& words) {
          EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
          expect_words(words);
        };
        refused(exn_mapping_guard(nullptr, 5), {"exn_mapping_guard", "begin is null"});
        for (const size_t bytes : {size_t{0}, SIZE_MAX, size_t{1} << 63})
          refused(exn_mapping_guard(begin, bytes), {"exn_mapping_guard", std::to_string(bytes)});
        for (const char* none : std::initializer_list<const char*>{nullptr, begin, begin + 1}) {
          refused(exn_mapping_check(none), {"exn_mapping_check", "begin"});
          refused(exn_mapping_release(none), {"exn_mapping_release", "begin"});
        }
        const size_t page = Mapped::page_bytes();
        ASSERT_EQ(exn_mapping_guard(begin + 2 * page + 3, page), EXN_OK);
        for (const size_t from : {size_t{0}, 2 * page, 2 * page + 3, 3 * page, 4 * page - 1})
          refused(exn_mapping_guard(begin + from, 3 * page), {"guarded already"});
        EXPECT_EQ(exn_mapping_guard(begin, 2 * page), EXN_OK) << exn_last_error();
        EXPECT_EQ(exn_mapping_guard(begin + 4 * page, 1), EXN_OK) << exn_last_error();
        refused(exn_mapping_check(begin + 2 * page), {"exn_mapping_check", "begin"});
        for (const size_t at : {2 * page + 3, size_t{0}, 4 * page})
          EXPECT_EQ(exn_mapping_release(begin + at), EXN_OK);
        refused(exn_mapping_release(begin), {"exn_mapping_release", "begin"});
      }),
      0);
}

// Guards come and go while others are read.
TEST(Mapping, GuardsComeAndGo) {
  EXPECT_EQ(in_a_child([] {
              const auto work = [] {
                for (int i = 0; i < 50; ++i) {
                  Mapped file;
                  EXPECT_EQ(exn_mapping_guard(file.begin(), Mapped::bytes()), EXN_OK)
                      << exn_last_error();
                  const size_t kept = static_cast<size_t>(i) % kPages;
                  file.cut(kept);
                  for (size_t page = 0; page < kPages; ++page)
                    EXPECT_EQ(file.at(page), page < kept ? 1 : 0) << page;
                  EXPECT_EQ(exn_mapping_check(file.begin()), EXN_RUNTIME_FAILURE);
                  EXPECT_EQ(exn_mapping_release(file.begin()), EXN_OK);
                }
              };
              std::thread others[3];
              for (std::thread& each : others) each = std::thread(work);
              work();
              for (std::thread& each : others) each.join();
            }),
            0);
}

}  // namespace
}  // namespace exn::test
