// SPDX-License-Identifier: Apache-2.0
// The state of a block that runs: its warps, with their registers, lanes that wait for each other,
// and loads on their way. The parts of Warp are in sass_warp.cpp (registers, groups of lanes, memory
// traffic) and, by what instructions do, in sass_integers.cpp, sass_floats.cpp, sass_memory.cpp and
// sass_run.cpp (control).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <deque>
#include <memory>
#include <stdexcept>
#include <vector>

#include "sass.h"
#include "sass_code.h"

namespace exn::gpu {

constexpr int kLanes = 32;
constexpr uint32_t kAll = 0xffffffffu;
// Where a kernel's arguments begin among its constants, on sm_90.
constexpr size_t kArguments = 0x210;
constexpr size_t kSectorBytes = 32;
constexpr double kMostInstructions = 3e8;  // a block that takes more will not end

struct Lanes {
  uint32_t v[kLanes];
  uint32_t& operator[](int lane) { return v[lane]; }
  uint32_t operator[](int lane) const { return v[lane]; }
};

struct Group {
  size_t pc = 0;
  uint32_t mask = 0;
};

// Threads that wait for others of their warp.
struct Meeting {
  uint32_t expected = 0;
  uint32_t arrived = 0;
  size_t pc = 0;
};

class Block;

class Warp {
 public:
  Warp(Block* block, int index, int threads);

  void run();  // until all threads are done, wait for the block, or have others run first
  bool is_done() const { return alive_ == 0; }
  bool waits_for_block() const { return alive_ != 0 && at_barrier_mask_ == alive_; }
  void pass_barrier();

 private:
  // Runs an instruction. Those of numbers and of memory have functions of their own, which return
  // whether it was one of theirs.
  void execute(const SassInstruction& in);
  bool calculate(const SassInstruction& in);
  bool calculate_floats(const SassInstruction& in);
  void multiply_matrices(const SassInstruction& in);
  bool access_memory(const SassInstruction& in);
  const Operand& operand(const SassInstruction& in, size_t i) const {
    if (i >= in.operands.size()) refuse(in, "has too few operands");
    return in.operands[i];
  }
  [[noreturn]] void refuse(const SassInstruction& in, const std::string& why) const;

  const Lanes& read(const SassInstruction& in, const Operand& o, Lanes* expanded);
  // Both words of a pair of registers; of an immediate, its sign follows.
  void read_pair(const SassInstruction& in, const Operand& o, uint64_t* to);
  uint32_t predicate(const Operand& o) const;
  void write(const Operand& o, const Lanes& values, int offset = 0);
  void write_pair(const Operand& o, const uint64_t* values);
  void write_predicate(const Operand& o, uint32_t values);
  // What of a register is on its way must have come.
  void await(int first, int count);

  void addresses(const Operand& o, bool shared, uint64_t* to);
  void count_global(const uint64_t* address, int bytes);
  void count_shared(const uint64_t* address, int bytes);
  unsigned char* shared_at(const SassInstruction& in, uint64_t address, int bytes);
  void began_to_fly(double bytes);

  void arrive(Meeting* meeting, uint32_t mask, size_t pc);
  void leave_meetings(uint32_t mask);
  void add_group(size_t pc, uint32_t mask);
  void take_lowest_group();

  template <class F>
  void map(const SassInstruction& in, int count, F f);

  Block* block_;
  int index_;
  Lanes registers_[256];
  uint32_t uniforms_[64] = {};
  uint32_t predicates_[8] = {};
  uint32_t uniform_predicates_[8] = {};
  uint32_t alive_ = 0;
  uint32_t active_ = 0;  // of the group that runs, those whose guard is true
  Group now_;
  std::vector<Group> others_;
  Meeting meetings_[17];  // the last is that of WARPSYNC
  std::vector<Group> at_barrier_;
  uint32_t at_barrier_mask_ = 0;
  bool yields_ = false;

  std::array<int, 256> load_of_{};  // the load that a register waits for; 0: none
  std::vector<double> loads_{0.0};
  double open_copies_ = 0;
  std::deque<double> copies_;
  double flying_ = 0;

 public:
  double most_flying = 0;
};

class Block {
 public:
  Block(const SassKernel& kernel, const SassLaunch& launch, int64_t number, const Touch& touch,
        SassCounts* counts);

  // False if it waits for other blocks.
  bool run();

  const SassKernel& kernel;
  const SassLaunch& launch;
  const Touch& touch;
  SassCounts* counts;
  uint32_t index[3];
  std::vector<unsigned char> shared;
  std::vector<unsigned char> constants;
  bool vote = false;
  bool voted = false;

 private:
  std::vector<std::unique_ptr<Warp>> warps_;
};

// The operation on the `count` operands after the first, which takes the result.
template <class F>
void Warp::map(const SassInstruction& in, int count, F f) {
  Lanes expanded[3], out;
  const Lanes* from[3] = {&expanded[0], &expanded[0], &expanded[0]};
  for (int i = 0; i < count; ++i)
    from[i] = &read(in, in.operands[static_cast<size_t>(i) + 1], &expanded[i]);
  for (int i = 0; i < kLanes; ++i) out[i] = f((*from[0])[i], (*from[1])[i], (*from[2])[i]);
  write(in.operands[0], out);
}

}  // namespace exn::gpu
