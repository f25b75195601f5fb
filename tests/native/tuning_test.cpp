// SPDX-License-Identifier: Apache-2.0
// What the kernels choose by processor: no value of any choice changes a bit; what is refused; what
// is kept for later processes.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>

#include "misuse.h"

namespace exn::test {
namespace {

// The lines without comments.
std::vector<std::string> choices_in(const std::string& text) {
  std::vector<std::string> lines;
  std::stringstream all(text);
  for (std::string line; std::getline(all, line);) {
    line = line.substr(0, line.find("  #"));
    if (!line.empty() && line[0] != '#') lines.push_back(line);
  }
  return lines;
}

// Of each choice every value, as text: the refusal of another lists them.
std::vector<std::string> all_values() {
  std::vector<std::string> lines;
  for (const std::string& line : choices_in(exn_cpu_tuning())) {
    const std::string name = line.substr(0, line.find(' '));
    EXPECT_EQ(exn_cpu_set_tuning((name + " -1").c_str()), EXN_INVALID_ARGUMENT);
    const std::string sentence = exn_last_error(), expected = "expected";
    std::stringstream values(sentence.substr(sentence.find(expected) + expected.size()));
    for (std::string value; std::getline(values, value, ',');) lines.push_back(name + value);
  }
  return lines;
}

class Tuning : public ::testing::Test {
 protected:
  void TearDown() override { ASSERT_EQ(exn_cpu_set_tuning(nullptr), EXN_OK); }
};

TEST_F(Tuning, ListsEachChoiceWithItsValues) {
  EXPECT_EQ(choices_in(exn_cpu_tuning()).size(), 8u);
  const std::vector<std::string> all = all_values();
  EXPECT_GE(all.size(), 20u);
  for (const std::string& line : all) {
    ASSERT_EQ(exn_cpu_set_tuning(line.c_str()), EXN_OK) << line << ": " << exn_last_error();
    EXPECT_NE(std::string(exn_cpu_tuning()).find("\n" + line + "\n"), std::string::npos) << line;
  }
}

TEST_F(Tuning, RefusesWhatMakesNoSense) {
  ASSERT_EQ(exn_cpu_set_tuning("# a comment\n\n  far_mib 64 # MiB\r\nprefetch_again 1"), EXN_OK);
  const std::string before = exn_cpu_tuning();
  const std::pair<const char*, std::vector<std::string>> bad[] = {
      {"far_mib 64\nfar_mib 65", {"line 2", "far_mib", "65", "64, 128"}},
      {"fast 1", {"line 1", "fast"}},
      {"\n\nfar_mib", {"line 3"}},
      {"far_mib 64 64", {"line 1"}},
      {"far_mib 999999999999999999999", {"line 1", "far_mib"}},
  };
  for (const auto& [text, words] : bad) {
    EXPECT_EQ(exn_cpu_set_tuning(text), EXN_INVALID_ARGUMENT) << text;
    expect_words({"exn_cpu_set_tuning", "text"});
    for (const std::string& word : words) expect_words({word});
    EXPECT_EQ(before, exn_cpu_tuning());
  }
  EXPECT_EQ(exn_cpu_set_tuning(std::string(5000, 'x').c_str()), EXN_INVALID_ARGUMENT);
  for (int32_t milliseconds : {0, -1, 60001}) {
    EXPECT_EQ(exn_cpu_tune(milliseconds, nullptr), EXN_INVALID_ARGUMENT);
    expect_words({"milliseconds", std::to_string(milliseconds), "60000"});
  }
  EXPECT_EQ(exn_cpu_tune(1, "/nonexistent/folder/of/none/tuning.txt"), EXN_RUNTIME_FAILURE);
  expect_words({"exn_cpu_tune", "/nonexistent/folder/of/none/tuning.txt"});
}

TEST_F(Tuning, KeepsWhatItMeasured) {
  const std::string file =
      ::testing::TempDir() + "exeunt-tuning-" + std::to_string(std::random_device{}());
  ASSERT_EQ(exn_cpu_tune(1, file.c_str()), EXN_OK) << exn_last_error();
  const std::string chosen = exn_cpu_tuning();
  std::stringstream kept;
  kept << std::ifstream(file).rdbuf();
  EXPECT_EQ(chosen, kept.str());
  EXPECT_NE(chosen.find(" takes "), std::string::npos) << chosen;
  ASSERT_EQ(exn_cpu_set_tuning(nullptr), EXN_OK);
  ASSERT_EQ(exn_cpu_set_tuning(kept.str().c_str()), EXN_OK) << exn_last_error();
  EXPECT_EQ(choices_in(chosen), choices_in(exn_cpu_tuning()));
  std::remove(file.c_str());
}

// Runs f() with each value of each choice, and compares what it returns with what the first gives.
template <class F>
void expect_one_result(F&& f) {
  static const std::vector<std::string> all = all_values();
  ASSERT_EQ(exn_cpu_set_tuning(""), EXN_OK);
  const Outputs expected = f();
  // Together with both kinds of cores.
  for (const char* kind : {"prefetch_streams 0\nfar_mib 4\n", "prefetch_streams 1\nfar_mib 4\n"}) {
    for (const std::string& line : all) {
      ASSERT_EQ(exn_cpu_set_tuning((kind + line).c_str()), EXN_OK) << exn_last_error();
      const Outputs got = f();
      ASSERT_EQ(got.size(), expected.size());
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(got[i].bytes, expected[i].bytes) << "output " << i << " with " << kind << line;
      }
    }
  }
}

TEST_F(Tuning, ChangesNoBitOfACase) {
  for (const char* op : {"linear", "ffn", "exit_head", "kv_propagate", "attention",
                         "attention_scores", "gather", "kv_compact", "stablemax", "select"}) {
    size_t number = 0;
    for (const ListedCase& listed : cases_of(op)) {
      if (++number % 8 != 0 || !in_share(number / 8) || listed.spoiled || listed.base.bench)
        continue;
      const Case c = listed.make();
      for (const Target& target : targets()) {
        if (!target.cpu() || !wanted(c.base, target) || c.cpu_refuses) continue;
        SCOPED_TRACE(std::string(op) + "/" + c.base.id + " on " + target.name());
        const std::unique_ptr<Instance> instance = c.instantiate(target);
        use(target);
        expect_one_result([&] {
          instance->reset_outputs();
          instance->prepare();
          instance->run(nullptr);
          return instance->outputs();
        });
        if (HasFatalFailure()) return;
      }
    }
  }
}

Outputs product_of(const Target& target, const Placed& in, const Placed& weight, int32_t blocks,
                   int64_t rows) {
  Placed out(kCpu, poisoned(Type::kF32, {in.initial().rows, rows}));
  exn_linear_params p = {};
  p.struct_size = sizeof p;
  p.input = in.dl();
  p.weight = weight.dl();
  p.weight_blocks = blocks;
  p.out = out.dl();
  EXPECT_EQ(run_once(target, EXN_TEST_OP(linear), p), EXN_OK) << exn_last_error();
  return Outputs{out.read()};
}

TEST_F(Tuning, ChangesNoBitOfAProductWithFarWeights) {
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    use(target);
    for (Type type : {Type::kF32, Type::kBF16, Type::kF16}) {
      const int64_t columns = 1100, rows = (int64_t{4} << 20) / columns / size_of(type) + 7;
      const Placed weight(kCpu, normal(type, {rows, columns}));
      for (int64_t inputs : {1, 4, 8}) {
        for (Type input : {Type::kF32, Type::kBF16}) {
          if (input == Type::kBF16 && type != Type::kBF16) continue;
          const Placed in(kCpu, normal(input, {inputs, columns}));
          expect_one_result([&] { return product_of(target, in, weight, EXN_BLOCKS_NONE, rows); });
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_F(Tuning, ChangesNoBitOfAProductWithBlocks) {
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    use(target);
    for (const BlockFormat& format : block_formats()) {
      for (int64_t columns : {768, 1792, 6144}) {
        const int64_t rows = 13;
        HostTensor blocks = make_blocks(format, rows, columns, 0, 0);
        fill_blocks(&blocks, 7, 1, "normal", 1, "-");
        const Placed weight(kCpu, blocks);
        for (int64_t inputs = 5; inputs <= 9; ++inputs) {
          SCOPED_TRACE(std::string(format.name) + " of " + std::to_string(columns));
          const Placed in(kCpu, normal(Type::kF32, {inputs, columns}));
          expect_one_result([&] { return product_of(target, in, weight, format.tag, rows); });
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

}  // namespace
}  // namespace exn::test
