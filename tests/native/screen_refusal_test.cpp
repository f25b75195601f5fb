// SPDX-License-Identifier: Apache-2.0
// Images that are damaged, made up, or of another head, and arguments of the builder: refused in a
// sentence that names what is wrong.
#include <functional>

#include "screen_image.h"

namespace exn::test {
namespace {

std::string said(exn_status status) {
  return status == EXN_OK ? "" : std::to_string(status) + " " + exn_last_error();
}

class Hostile : public ::testing::Test {
 protected:
  Model m_{make_head(Type::kF32, nullptr, 200, 48, 6), 48, 2, 0, 6};

  // What a run says to the image.
  std::string run(int64_t bytes, int32_t level = 0) {
    std::vector<int32_t> argmax(1);
    HostTensor x = make_tensor(Type::kF32, {1, 48});
    View hidden = view_of(x), weight = view_of(m_.head), out = view_of(argmax),
         image(m_.image->at.get(), kDLUInt, 8, {bytes});
    exn_exit_head_params p = {};
    p.struct_size = sizeof p;
    p.hidden = hidden.dl();
    p.weight = weight.dl();
    p.temperature = 1;
    p.out.argmax = out.dl();
    p.screen = image.dl();
    p.screen_level = level;
    return said(exn_exit_head_supported(&p));
  }
  void sign() { test::sign(m_); }
};

TEST_F(Hostile, AreRefusedInASentence) {
  const auto whole = static_cast<int64_t>(m_.image->bytes);
  ASSERT_EQ(run(whole), "");
  for (const int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{4095}, int64_t{4096}, whole - 1}) {
    EXPECT_NE(run(bytes).find("1 exn_exit_head: screen "), std::string::npos) << run(bytes);
  }
  EXPECT_NE(run(whole, 2).find("screen_level is 2"), std::string::npos) << run(whole, 2);
  EXPECT_NE(run(whole, -1).find("screen_level is -1"), std::string::npos);
  char* const p = m_.image->at.get();
  const std::string before(p, 4096);
  sign();
  ASSERT_EQ(std::string(p, 4096), before) << "the test does not know the checksum";
  for (size_t i = 0; i < kSigned + 8; ++i) {
    for (const int bit : {1, 64, 128}) {
      p[i] = static_cast<char>(p[i] ^ bit);
      const std::string why = run(whole);
      EXPECT_NE(why.find("1 exn_exit_head: screen "), std::string::npos) << i << ": " << why;
      EXPECT_NE(m_.check(), EXN_OK) << i;
      EXPECT_NE(m_.check(1), EXN_OK) << i;
      std::memcpy(p, before.data(), 4096);
    }
  }
  // With a checksum that fits, whatever would lead out of bounds is refused all the same.
  for (size_t i = 0; i < 88; i += 4) {
    for (const uint32_t value : {0u, 1u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
      uint32_t now;
      std::memcpy(&now, p + i, 4);
      // Unused ends of groups are not read.
      const bool unused = i >= 56 + 4 * static_cast<size_t>(Image(m_).groups);
      std::memcpy(p + i, &value, 4);
      sign();
      const std::string why = run(whole);
      if (now != value && !unused) {
        EXPECT_NE(why.find("1 exn_exit_head: screen "), std::string::npos) << i << ": " << why;
      }
      std::memcpy(p, before.data(), 4096);
    }
  }
  EXPECT_EQ(run(whole), "");
}

// What belongs to a screen, and what cannot be beside one.
TEST_F(Hostile, ArgumentsAreNamed) {
  using P = exn_exit_head_params;
  std::vector<float> number(1), numbers(200);
  std::vector<int32_t> integer(1);
  std::vector<uint8_t> byte(1);
  HostTensor x = make_tensor(Type::kF32, {1, 48}), other = make_tensor(Type::kF32, {199, 48}),
             key = make_tensor(Type::kI64, {1}), narrow = make_tensor(Type::kF32, {1, 47}),
             less = make_tensor(Type::kF32, {200, 47});
  View hidden = view_of(x), weight = view_of(m_.head), argmax = view_of(integer),
       real = view_of(number, {1}), whole = view_of(integer), longer = view_of(key),
       flag = view_of(byte), image = m_.image->view(), rows = view_of(other),
       columns = view_of(narrow), short_rows = view_of(less);
  P p = {};
  p.struct_size = sizeof p;
  p.hidden = hidden.dl();
  p.weight = weight.dl();
  p.temperature = 1;
  p.out.argmax = argmax.dl();
  const auto refused = [&](const std::string& part, const std::function<void(P*)>& spoil) {
    P q = p;
    spoil(&q);
    const std::string why = said(exn_exit_head_supported(&q));
    EXPECT_EQ(why.rfind("1 exn_exit_head: ", 0), 0u) << part << ": " << why;
    EXPECT_NE(why.find(part), std::string::npos) << part << ": " << why;
  };
  ASSERT_EQ(exn_exit_head_supported(&p), EXN_OK) << exn_last_error();
  refused("certified is given", [&](P* q) { q->certified = flag.dl(); });
  refused("p1_low is given", [&](P* q) { q->p1_low = real.dl(); });
  refused("p1_high is given", [&](P* q) { q->p1_high = real.dl(); });
  refused("rows_read is given", [&](P* q) { q->rows_read = whole.dl(); });
  refused("screen_level is 1", [](P* q) { q->screen_level = 1; });
  refused("screen_mode is 1", [](P* q) { q->screen_mode = EXN_SCREEN_CALIBRATED; });
  refused("screen_budget is 1", [](P* q) { q->screen_budget = 1; });
  refused("screen_factor is 1", [](P* q) { q->screen_factor = 1; });
  p.screen = image.dl();
  ASSERT_EQ(exn_exit_head_supported(&p), EXN_OK) << exn_last_error();
  refused("shortlist is given", [&](P* q) { q->shortlist = whole.dl(); });
  refused("normalizer is EXN_STABLEMAX", [](P* q) { q->normalizer = EXN_STABLEMAX; });
  refused("out.p2 is given", [&](P* q) { q->out.p2 = real.dl(); });
  refused("out.margin is given", [&](P* q) { q->out.margin = real.dl(); });
  refused("out.entropy is given", [&](P* q) { q->out.entropy = real.dl(); });
  refused("out.pow2_entropy is given", [&](P* q) { q->out.pow2_entropy = real.dl(); });
  refused("out.mean_log_p is given", [&](P* q) { q->out.mean_log_p = real.dl(); });
  refused("out.labels is given, but screen", [&](P* q) {
    q->out.labels = whole.dl();
    q->out.label_log_p = real.dl();
  });
  refused("out.draw is given, but screen", [&](P* q) {
    q->out.draw = whole.dl();
    q->out.draw_key = q->out.draw_counter = longer.dl();
  });
  refused("p1_high is null", [&](P* q) { q->p1_low = real.dl(); });
  refused("p1_low is null", [&](P* q) { q->p1_high = real.dl(); });
  for (const int32_t bad : {-1, 2})
    refused("screen_mode is " + std::to_string(bad), [&](P* q) { q->screen_mode = bad; });
  for (const int32_t bad : {-1, 201})
    refused("screen_budget is " + std::to_string(bad), [&](P* q) { q->screen_budget = bad; });
  for (const float bad : {-1.0f, std::nanf("")}) {
    refused("screen_factor is", [&](P* q) {
      q->screen_mode = EXN_SCREEN_CALIBRATED;
      q->screen_factor = bad;
    });
  }
  refused("screen_factor is 8", [](P* q) { q->screen_factor = 8; });
  refused("screen", [&](P* q) { q->weight = rows.dl(); });
  refused("screen", [&](P* q) {
    q->hidden = columns.dl();
    q->weight = short_rows.dl();
  });
}

// A device has no way to say so. What it reads, the emulator looks at.
TEST_F(Hostile, DevicesReadTheHead) {
  if (device().cpu()) GTEST_SKIP() << "the CPU refuses such images";
  char* const p = m_.image->at.get();
  const std::string before(p, 4096);
  Question q;
  q.hidden = hidden_of(m_, Type::kF32, 2, 3);
  const Answers full = ask(m_, q, false);
  ASSERT_NE(ask(m_, q, true).certified[0], EXN_CERTIFIED_NOT);
  const auto expect_head = [&](size_t what) {
    const Answers got = ask(m_, q, true);
    for (size_t r = 0; r < 2; ++r) {
      EXPECT_EQ(got.certified[r], EXN_CERTIFIED_NOT) << what;
      EXPECT_EQ(got.argmax[r], full.argmax[r]) << what;
      EXPECT_TRUE(same_bits(got.p1[r], full.p1[r])) << what;
    }
    std::memcpy(p, before.data(), 4096);
  };
  for (size_t i = 0; i < kSigned + 8; i += 3) {
    p[i] = static_cast<char>(p[i] ^ 1 << i % 8);
    expect_head(i);
  }
  for (size_t i = 0; i < 88; i += 4) {
    for (const uint32_t value : {0u, 1u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
      uint32_t now;
      std::memcpy(&now, p + i, 4);
      if (now == value || i >= 56 + 4 * static_cast<size_t>(Image(m_).groups)) continue;
      std::memcpy(p + i, &value, 4);
      sign();
      expect_head(i);
    }
  }
  q.level = 2;
  expect_head(1);
  q.level = 0;
  for (const size_t less : {m_.image->bytes - 64, m_.image->bytes / 2, size_t{4096}}) {
    q.image_bytes = less;
    expect_head(less);
    const auto bytes = static_cast<int64_t>(less);
    std::memcpy(p + 16, &bytes, 8);  // it says so itself
    sign();
    expect_head(less);
  }
}

TEST_F(Hostile, BodiesAndHeadsAreTold) {
  ASSERT_EQ(m_.check(), EXN_OK);
  char* const p = m_.image->at.get();
  for (const size_t at :
       {size_t{250}, size_t{4095}, size_t{4096}, m_.image->bytes / 2, m_.image->bytes - 1}) {
    p[at] = static_cast<char>(p[at] ^ 4);
    EXPECT_EQ(m_.check(), EXN_INVALID_ARGUMENT) << at;
    EXPECT_EQ(m_.check(1), at < 4096 ? EXN_INVALID_ARGUMENT : EXN_OK) << at;
    p[at] = static_cast<char>(p[at] ^ 4);
  }
  const double kept = m_.head.at(77, 7);
  m_.head.set(77, 7, kept * 1.0001);
  EXPECT_EQ(m_.check(), EXN_INVALID_ARGUMENT);
  EXPECT_NE(std::string(exn_last_error()).find("another head"), std::string::npos);
  EXPECT_EQ(m_.check(1), EXN_OK);
  EXPECT_EQ(m_.check(2), EXN_INVALID_ARGUMENT);
  m_.head.set(77, 7, kept);
  EXPECT_EQ(m_.check(), EXN_OK);
}

TEST_F(Hostile, NumbersThatAreMadeUpReadNothingElse) {
  char* const p = m_.image->at.get();
  for (uint64_t seed = 0; seed < 6; ++seed) {
    for (size_t i = 4096; i < m_.image->bytes; ++i) {
      const uint64_t w = word(seed, 70, i);
      p[i] = static_cast<char>(seed == 0 ? 0xff : seed == 1 ? 0x7f : w);
    }
    Question q;
    q.hidden = hidden_of(m_, Type::kF32, 9, seed);
    const Answers a = ask(m_, q, true);
    for (size_t r = 0; r < 9; ++r) {
      EXPECT_GE(a.argmax[r], -1);
      EXPECT_LT(a.argmax[r], 200);
    }
  }
}

TEST(ScreenArguments, AreNamed) {
  const HostTensor head = make_head(Type::kF32, nullptr, 50, 20, 1);
  std::vector<float> states(22 * 20, 1);
  std::vector<int32_t> levels(22, 0);
  levels[3] = 1;
  Aligned image(1 << 16);
  View weight = view_of(head), x = view_of(states, {22, 20}), level = view_of(levels);
  exn_screen_params p = {};
  p.struct_size = sizeof p;
  p.weight = weight.dl();
  p.states = x.dl();
  p.levels = level.dl();
  p.level_count = 2;
  size_t bytes = 0;
  ASSERT_EQ(exn_screen_size(&p, &bytes), EXN_OK) << exn_last_error();
  ASSERT_LE(bytes, image.bytes);
  View to(image.at.get(), kDLUInt, 8, {static_cast<int64_t>(bytes)});
  p.image = to.dl();
  ASSERT_EQ(exn_screen_build(&p), EXN_OK) << exn_last_error();
  const auto refused = [&](const char* part, const std::function<void(exn_screen_params*)>& spoil) {
    exn_screen_params q = p;
    spoil(&q);
    const std::string why = said(exn_screen_build(&q));
    EXPECT_NE(why.find("1 exn_screen_build: "), std::string::npos) << part << ": " << why;
    EXPECT_NE(why.find(part), std::string::npos) << why;
  };
  refused("weight", [](exn_screen_params* q) { q->weight = nullptr; });
  refused("states", [](exn_screen_params* q) { q->states = nullptr; });
  refused("image", [](exn_screen_params* q) { q->image = nullptr; });
  refused("weight_blocks is 4", [](exn_screen_params* q) { q->weight_blocks = 4; });
  refused("level_count is 0", [](exn_screen_params* q) { q->level_count = 0; });
  refused("level 2 has 0 states", [&](exn_screen_params* q) {
    q->level_count = 3;
    states.resize(23 * 20, 1);  // one state more for one level more
    static std::vector<int32_t> more(23, 0);
    more[3] = 1;
    static View wide = view_of(states, {23, 20}), of = view_of(more);
    static Aligned aligned(1 << 16);
    size_t size = 0;
    ASSERT_EQ(exn_screen_size(q, &size), EXN_OK);
    static View out(aligned.at.get(), kDLUInt, 8, {static_cast<int64_t>(size)});
    q->states = wide.dl();
    q->levels = of.dl();
    q->image = out.dl();
  });
  View again = view_of(states, {22, 20}), few = view_of(states, {21, 20});
  const std::vector<int32_t> zeros(21, 0);
  View some = view_of(zeros);
  p.states = again.dl();
  refused("D + level_count", [&](exn_screen_params* q) {
    q->states = few.dl();
    q->levels = some.dl();
  });
  refused("bits_per_weight is 4", [](exn_screen_params* q) { q->bits_per_weight = 4; });
  refused("bits_per_weight is nan", [](exn_screen_params* q) { q->bits_per_weight = NAN; });
  refused("header_only is 1", [](exn_screen_params* q) { q->header_only = 1; });
  View shorter(image.at.get(), kDLUInt, 8, {static_cast<int64_t>(bytes) - 1});
  refused("exn_screen_size", [&](exn_screen_params* q) { q->image = shorter.dl(); });
  View crooked(image.at.get() + 8, kDLUInt, 8, {static_cast<int64_t>(bytes)});
  refused("not aligned to 64", [&](exn_screen_params* q) { q->image = crooked.dl(); });
  levels[5] = 2;
  refused("levels[5] is 2", [](exn_screen_params*) {});
  levels[5] = 0;
  states[41] = NAN;
  refused("states[2,1] is nan", [](exn_screen_params*) {});
  states[41] = 1;
  HostTensor odd = head;
  odd.set(9, 3, HUGE_VAL);
  View infinite = view_of(odd);
  refused("row 9 of weight", [&](exn_screen_params* q) { q->weight = infinite.dl(); });
  EXPECT_EQ(exn_screen_build(&p), EXN_OK) << exn_last_error();
}

// Wherever it lies of many rows that a thread looks through.
TEST(ScreenArguments, EveryRowIsLookedAt) {
  const std::vector<float> states(22 * 20, 1);
  ASSERT_EQ(exn_cpu_set_threads(1), EXN_OK);
  for (const int64_t v : {255, 256, 700, 1099}) {
    HostTensor head = make_head(Type::kF32, nullptr, 1100, 20, 1);
    head.set(v, 19, v % 2 == 0 ? -HUGE_VAL : std::nan(""));
    View weight = view_of(head), x = view_of(states, {22, 20});
    exn_screen_params p = {};
    p.struct_size = sizeof p;
    p.weight = weight.dl();
    p.states = x.dl();
    p.level_count = 1;
    size_t bytes = 0;
    ASSERT_EQ(exn_screen_size(&p, &bytes), EXN_OK) << exn_last_error();
    const Aligned image(bytes);
    View to = image.view();
    p.image = to.dl();
    const std::string why = said(exn_screen_build(&p));
    EXPECT_NE(why.find("row " + std::to_string(v) + " of weight"), std::string::npos) << why;
  }
  ASSERT_EQ(exn_cpu_set_threads(0), EXN_OK);
}

}  // namespace
}  // namespace exn::test
