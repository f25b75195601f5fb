// SPDX-License-Identifier: Apache-2.0
//
// Runs machine code, warp by warp: control, exchange between lanes, and blocks.
#include "sass_numbers.h"

namespace exn::gpu {

void SassCounts::add(const SassCounts& other, double times) {
  instructions += times * other.instructions;
  requested += times * other.requested;
  sectors += times * other.sectors;
  wavefronts += times * other.wavefronts;
  least_wavefronts += times * other.least_wavefronts;
  in_flight += times * other.in_flight;
}

// ---- control and exchange between lanes ---------------------------------------------------------

void Warp::execute(const SassInstruction& in) {
  const size_t next = now_.pc + 1;
  if (calculate(in) || calculate_floats(in) || access_memory(in)) {
    now_.pc = next;
    return;
  }
  const auto& ops = in.operands;
  const auto operand = [&](size_t i) -> const Operand& { return this->operand(in, i); };
  Lanes lanes_a, lanes_b, lanes_c, out;
  switch (in.op) {
    case Op::kShuffle: {
      const Lanes& a = read(in, operand(2), &lanes_a);
      const Lanes& b = read(in, operand(3), &lanes_b);
      const Lanes& c = read(in, operand(4), &lanes_c);
      uint32_t inside = 0;
      for (int i = 0; i < kLanes; ++i) {
        const auto segment = static_cast<int>(c[i] >> 8 & 0x1f);
        const int clamp = static_cast<int>(c[i] & 0x1f), by = static_cast<int>(b[i] & 0x1f);
        const int least = i & segment, most = least | (clamp & ~segment);
        int from = 0;
        bool valid = false;
        if (in.has(Mod::kUP)) {
          from = i - by;
          valid = from >= most;
        } else {
          from = in.has(Mod::kDOWN)   ? i + by
                 : in.has(Mod::kBFLY) ? i ^ by
                                      : least | (by & ~segment);
          valid = from <= most;
        }
        out[i] = a[valid ? from : i];
        inside |= static_cast<uint32_t>(valid) << i;
      }
      write(operand(1), out);
      write_predicate(operand(0), inside);
      break;
    }
    case Op::kVote: {
      if (!in.has(Mod::kANY) && !in.has(Mod::kALL)) refuse(in, "unknown vote");
      const uint32_t votes = predicate(in.operands.back()) & active_;
      std::fill_n(out.v, kLanes, votes);
      const bool has_ballot = in.operands.size() == 3;
      if (has_ballot) write(operand(0), out);
      const bool is_so = in.has(Mod::kALL) ? votes == active_ : votes != 0;
      write_predicate(operand(has_ballot ? 1 : 0), is_so ? kAll : 0);
      break;
    }
    case Op::kReduce: {
      const Lanes& a = read(in, operand(1), &lanes_a);
      bool first = true;
      uint32_t all = 0;
      for (int i = 0; i < kLanes; ++i) {
        if ((active_ >> i & 1) == 0) continue;
        all = first                                    ? a[i]
              : in.has(Mod::kOR)                       ? all | a[i]
              : in.has(Mod::kMIN) || in.has(Mod::kMAX) ? min_max(in, all, a[i], in.has(Mod::kMIN))
                                                       : all + a[i];
        first = false;
      }
      std::fill_n(out.v, kLanes, all);
      write(operand(0), out);
      break;
    }
    case Op::kSpecial: {
      const std::string& name = operand(1).text;
      const auto& block = block_->launch.block;
      for (int i = 0; i < kLanes; ++i) {
        const auto thread = static_cast<uint32_t>(index_ * kLanes + i);
        if (name == "SR_TID.X") {
          out[i] = thread % block[0];
        } else if (name == "SR_TID.Y") {
          out[i] = thread / block[0] % block[1];
        } else if (name == "SR_TID.Z") {
          out[i] = thread / (block[0] * block[1]);
        } else if (name == "SR_CTAID.X") {
          out[i] = block_->index[0];
        } else if (name == "SR_CTAID.Y") {
          out[i] = block_->index[1];
        } else if (name == "SR_CTAID.Z") {
          out[i] = block_->index[2];
        } else if (name == "SR_LANEID") {
          out[i] = static_cast<uint32_t>(i);
        } else if (name == "SR_CgaCtaId") {
          out[i] = 0;  // no clusters
        } else {
          refuse(in, "unknown register");
        }
      }
      write(operand(0), out);
      break;
    }
    case Op::kBranch: {
      uint32_t taken = active_;
      if (ops.size() > 1) taken &= predicate(operand(0));
      const auto target = static_cast<size_t>(ops.back().value) / kInstructionBytes;
      if (taken == now_.mask) {
        now_.pc = target;
        return;
      }
      if (taken != 0) {
        now_.mask &= ~taken;
        add_group(target, taken);
      }
      break;
    }
    case Op::kBranchDiverged:
      // Not taken while the warp is together, as full-mask operations promise.
      if (now_.mask != (uniforms_[operand(0).index] & alive_)) refuse(in, "a warp fell apart");
      break;
    case Op::kCall:
      if (active_ != now_.mask) refuse(in, "called by some");
      now_.pc = static_cast<size_t>(ops.back().value) / kInstructionBytes;
      return;
    case Op::kBranchTo:
    case Op::kReturn: {
      if (active_ != now_.mask) refuse(in, "taken by some");
      const Operand& to = operand(0);
      const uint64_t from =
          static_cast<uint64_t>(to.value) + (in.op == Op::kReturn ? 0 : next * kInstructionBytes);
      now_.mask = 0;
      for (int i = 0; i < kLanes; ++i) {
        if (active_ >> i & 1)
          add_group((registers_[to.index][i] + from) / kInstructionBytes, 1u << i);
      }
      return;
    }
    case Op::kPush:
      meetings_[operand(0).index] = {now_.mask, 0, 0};
      break;
    case Op::kPop: {
      const uint32_t coming = active_;
      if (coming != now_.mask) refuse(in, "met by some");
      arrive(&meetings_[operand(0).index], coming, next);
      return;
    }
    case Op::kBreak: {
      Meeting& meeting = meetings_[operand(0).index];
      meeting.expected &= ~active_;
      if (meeting.arrived != 0 && meeting.arrived == (meeting.expected & alive_)) {
        add_group(meeting.pc, meeting.arrived);
        meeting.arrived = 0;
      }
      break;
    }
    case Op::kSyncWarp:
      meetings_[16].expected = kAll;
      arrive(&meetings_[16], now_.mask, next);
      return;
    case Op::kBarrier:
    case Op::kBarrierVote:
      if (active_ != now_.mask) refuse(in, "met by some");
      if (in.op == Op::kBarrierVote) {
        if (!in.has(Mod::kOR)) refuse(in, "unknown vote");
        block_->vote |= (predicate(operand(1)) & active_) != 0;
      }
      at_barrier_.push_back({next, now_.mask});
      at_barrier_mask_ |= now_.mask;
      now_.mask = 0;
      return;
    case Op::kBarrierResult:
      write_predicate(operand(1), block_->voted ? kAll : 0);
      break;
    case Op::kExit: {
      const uint32_t gone = active_;
      alive_ &= ~gone;
      now_.mask &= ~gone;
      if (gone != 0) leave_meetings(gone);
      if (now_.mask == 0) return;
      break;
    }
    case Op::kYield:
      yields_ = true;
      break;
    case Op::kUnknown:
      if (active_ != 0) refuse(in, "unknown instruction");
      break;
    default:
      refuse(in, "is not run");
  }
  now_.pc = next;
}

// ---- blocks -------------------------------------------------------------------------------------

Block::Block(const SassKernel& k, const SassLaunch& l, int64_t number, const Touch& t,
             SassCounts* c)
    : kernel(k), launch(l), touch(t), counts(c) {
  index[0] = static_cast<uint32_t>(number % l.grid[0]);
  index[1] = static_cast<uint32_t>(number / l.grid[0] % l.grid[1]);
  index[2] = static_cast<uint32_t>(number / (int64_t{l.grid[0]} * l.grid[1]));
  shared.assign(kSystemShared + static_cast<size_t>(k.static_shared + l.dynamic_shared) + 1024, 0);
  constants.assign(kArguments, 0);
  for (size_t i = 0; i < 3; ++i) {
    std::memcpy(&constants[4 * i], &l.block[i], 4);
    std::memcpy(&constants[12 + 4 * i], &l.grid[i], 4);
  }
  constants.insert(constants.end(), l.arguments.begin(), l.arguments.end());
  const int threads = l.threads();
  for (int w = 0; w < (threads + kLanes - 1) / kLanes; ++w)
    warps_.push_back(std::make_unique<Warp>(this, w, threads));
}

bool Block::run() {
  for (;;) {
    bool all_done = true, all_wait = true;
    for (const auto& warp : warps_) {
      if (!warp->is_done() && !warp->waits_for_block()) warp->run();
      all_done &= warp->is_done();
      all_wait &= warp->is_done() || warp->waits_for_block();
    }
    if (all_done) {
      for (const auto& warp : warps_) counts->in_flight += warp->most_flying;
      return true;
    }
    if (!all_wait) return false;
    voted = vote;
    vote = false;
    for (const auto& warp : warps_) warp->pass_barrier();
  }
}

SassCounts run_blocks(const SassKernel& kernel, const SassLaunch& launch,
                      const std::vector<int64_t>& blocks, const Touch& touch) {
  SassCounts counts;
  if (!kernel.waits_for_blocks) {
    for (const int64_t number : blocks) {
      Block block(kernel, launch, number, touch, &counts);
      constexpr int kPatience = 1000;
      int rounds = 0;
      while (!block.run()) {
        if (++rounds > kPatience) throw std::runtime_error(kernel.name + ": stands still");
      }
    }
    return counts;
  }
  std::vector<std::unique_ptr<Block>> running;
  for (const int64_t number : blocks)
    running.push_back(std::make_unique<Block>(kernel, launch, number, touch, &counts));
  while (!running.empty()) {
    for (auto& block : running) {
      if (block->run()) block.reset();
    }
    running.erase(std::remove(running.begin(), running.end(), nullptr), running.end());
  }
  return counts;
}

}  // namespace exn::gpu
