// SPDX-License-Identifier: Apache-2.0
//
// A params struct that has grown: callers compiled against its older headers go on working. What
// all ops do with sizes that make no sense is in misuse.h.
#include <cstdarg>
#include <cstdio>
#include <string>

#include <gtest/gtest.h>

#include "abi/params.h"

namespace exn {
namespace {

struct First {
  uint64_t struct_size;
  double scale;
};

struct Second {
  uint64_t struct_size;
  double scale;
  int32_t mode;
  int32_t axis;
};

struct Third {
  uint64_t struct_size;
  double scale;
  int32_t mode;
  int32_t axis;
  void* table;
};

char sentence[256];

template <class Caller>
exn_status read(const Caller& caller, Second* copy) {
  sentence[0] = '\0';
  return read_params("op", reinterpret_cast<const Second*>(&caller), copy);
}

}  // namespace

template <>
constexpr uint64_t kOlderSizes<Second>[1] = {sizeof(First)};

// The library keeps its own to itself.
exn_status fail(exn_status status, const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::vsnprintf(sentence, sizeof sentence, format, args);
  va_end(args);
  return status;
}

namespace {

TEST(Params, AFieldThatTheCallerDidNotKnowIsZero) {
  struct {
    First known{sizeof(First), 0.5};
    uint64_t trailing = ~uint64_t{0};  // the caller's own memory
  } caller;
  Second copy;
  std::memset(&copy, 0x5a, sizeof copy);
  ASSERT_EQ(read(caller.known, &copy), EXN_OK) << sentence;
  EXPECT_EQ(copy.scale, 0.5);
  EXPECT_EQ(copy.mode, 0);
  EXPECT_EQ(copy.axis, 0);
}

TEST(Params, ASizeBetweenTwoVersionsIsRefused) {
  for (uint64_t size = sizeof(First) + 1; size < sizeof(Second); ++size) {
    const Second caller{size, 0.5, 3, 7};
    Second copy{};
    EXPECT_EQ(read(caller, &copy), EXN_INVALID_ARGUMENT) << size;
    EXPECT_EQ(sentence, "op: params.struct_size is " + std::to_string(size) +
                            ", which no version has; this one has 24");
    EXPECT_EQ(copy.struct_size, 0u);
  }
}

TEST(Params, ShorterThanTheFirstVersionIsRefused) {
  const Second caller{sizeof(First) - 1, 0.5, 3, 7};
  Second copy{};
  EXPECT_EQ(read(caller, &copy), EXN_INVALID_ARGUMENT);
  EXPECT_STREQ(sentence, "op: params.struct_size is 15, this version needs at least 16");
  EXPECT_EQ(copy.struct_size, 0u);
}

TEST(Params, ALaterVersionIsTakenUnlessItSetsWhatIsNotKnown) {
  Third caller{sizeof(Third), 0.5, 3, 7, nullptr};
  Second copy{};
  ASSERT_EQ(read(caller, &copy), EXN_OK) << sentence;
  EXPECT_EQ(copy.axis, 7);
  caller.table = &caller;
  copy = Second{};
  EXPECT_EQ(read(caller, &copy), EXN_UNSUPPORTED);
  EXPECT_STREQ(sentence,
               "op: params.struct_size is 32 and sets a field beyond the 24 bytes this version "
               "knows");
  EXPECT_EQ(copy.struct_size, 0u);
}

}  // namespace
}  // namespace exn
