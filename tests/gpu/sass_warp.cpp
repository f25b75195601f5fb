// SPDX-License-Identifier: Apache-2.0
// Registers of a warp, groups of its lanes, and what its memory accesses count as.
#include "sass_warp.h"

namespace exn::gpu {

Warp::Warp(Block* block, int index, int threads) : block_(block), index_(index) {
  std::memset(registers_, 0, sizeof registers_);
  const int here = std::min(kLanes, threads - index * kLanes);
  alive_ = here == kLanes ? kAll : (1u << here) - 1;
  predicates_[kTrue] = uniform_predicates_[kTrue] = kAll;
  now_ = {0, alive_};
}

void Warp::refuse(const SassInstruction& in, const std::string& why) const {
  throw std::runtime_error(block_->kernel.name + " at " + std::to_string(now_.pc) + ", " + in.text +
                           ": " + why);
}

void Warp::await(int first, int count) {
  for (int r = first; r < first + count && r < kZero; ++r) {
    const int load = load_of_[static_cast<size_t>(r)];
    if (load == 0) continue;
    flying_ -= loads_[static_cast<size_t>(load)];
    loads_[static_cast<size_t>(load)] = 0;
    load_of_[static_cast<size_t>(r)] = 0;
  }
}

const Lanes& Warp::read(const SassInstruction& in, const Operand& o, Lanes* expanded) {
  const Lanes* from = expanded;
  switch (o.kind) {
    case Kind::kRegister:
      if (flying_ > 0) await(o.index, 1);
      from = &registers_[o.index];
      break;
    case Kind::kUniform:
      std::fill_n(expanded->v, kLanes, uniforms_[o.index]);
      break;
    case Kind::kImmediate:
      std::fill_n(expanded->v, kLanes, static_cast<uint32_t>(o.value));
      break;
    case Kind::kConstant: {
      uint32_t word = 0;
      const auto at = static_cast<size_t>(o.value);
      if (o.bank != 0 || at + 4 > block_->constants.size()) refuse(in, "unknown constant");
      std::memcpy(&word, block_->constants.data() + at, 4);
      std::fill_n(expanded->v, kLanes, word);
      break;
    }
    default:
      refuse(in, "unknown operand " + o.text);
  }
  if (!o.negate && !o.invert && !o.absolute) return *from;
  for (int i = 0; i < kLanes; ++i) {
    uint32_t v = (*from)[i];
    if (in.is_float) {
      if (o.absolute) v &= 0x7fffffffu;
      if (o.negate) v ^= 0x80000000u;
    } else {
      if (o.absolute && static_cast<int32_t>(v) < 0) v = 0u - v;
      if (o.negate) v = 0u - v;
      if (o.invert) v = ~v;
    }
    (*expanded)[i] = v;
  }
  return *expanded;
}

void Warp::read_pair(const SassInstruction& in, const Operand& o, uint64_t* to) {
  Lanes low_lanes, high_lanes;
  const Lanes* low = &low_lanes;
  const Lanes* high = &high_lanes;
  if (o.kind == Kind::kRegister) {
    if (flying_ > 0) await(o.index, 2);
    low = &registers_[o.index];
    high = &registers_[o.index == kZero ? kZero : o.index + 1];
  } else if (o.kind == Kind::kUniform) {
    std::fill_n(low_lanes.v, kLanes, uniforms_[o.index]);
    std::fill_n(high_lanes.v, kLanes, o.index == kUniformZero ? 0 : uniforms_[o.index + 1]);
  } else if (o.kind == Kind::kImmediate) {
    std::fill_n(low_lanes.v, kLanes, static_cast<uint32_t>(o.value));
    std::fill_n(high_lanes.v, kLanes, static_cast<uint32_t>(o.value >> 32));
  } else {
    refuse(in, "unknown pair " + o.text);
  }
  for (int i = 0; i < kLanes; ++i) {
    to[i] = static_cast<uint64_t>((*high)[i]) << 32 | (*low)[i];
    if (o.negate) to[i] = 0 - to[i];
    if (o.invert) to[i] = ~to[i];
  }
}

uint32_t Warp::predicate(const Operand& o) const {
  const uint32_t value =
      o.kind == Kind::kUniformPredicate ? uniform_predicates_[o.index] : predicates_[o.index];
  return o.negate ? ~value : value;
}

void Warp::write(const Operand& o, const Lanes& values, int offset) {
  if (o.kind == Kind::kUniform) {
    if (o.index == kUniformZero || active_ == 0) return;
    uniforms_[o.index + offset] = values[__builtin_ctz(active_)];
    return;
  }
  if (o.index == kZero) return;
  if (flying_ > 0) await(o.index + offset, 1);
  Lanes& to = registers_[o.index + offset];
  if (active_ == kAll) {
    to = values;
    return;
  }
  for (int i = 0; i < kLanes; ++i) {
    if (active_ >> i & 1) to[i] = values[i];
  }
}

void Warp::write_pair(const Operand& o, const uint64_t* values) {
  Lanes low, high;
  for (int i = 0; i < kLanes; ++i) {
    low[i] = static_cast<uint32_t>(values[i]);
    high[i] = static_cast<uint32_t>(values[i] >> 32);
  }
  write(o, low);
  write(o, high, 1);
}

void Warp::write_predicate(const Operand& o, uint32_t values) {
  if (o.index == kTrue || active_ == 0) return;
  if (o.kind == Kind::kUniformPredicate) {
    uniform_predicates_[o.index] = (values >> __builtin_ctz(active_) & 1) != 0 ? kAll : 0;
  } else {
    predicates_[o.index] = (predicates_[o.index] & ~active_) | (values & active_);
  }
}

void Warp::add_group(size_t pc, uint32_t mask) {
  if (mask == 0) return;
  for (Group& other : others_) {
    if (other.pc == pc) {
      other.mask |= mask;
      return;
    }
  }
  others_.push_back({pc, mask});
}

// The lanes that are furthest back run first: so they meet again.
void Warp::take_lowest_group() {
  if (others_.empty()) return;
  add_group(now_.pc, now_.mask);
  size_t lowest = 0;
  for (size_t i = 1; i < others_.size(); ++i) {
    if (others_[i].pc < others_[lowest].pc) lowest = i;
  }
  now_ = others_[lowest];
  others_.erase(others_.begin() + static_cast<std::ptrdiff_t>(lowest));
}

void Warp::arrive(Meeting* meeting, uint32_t mask, size_t pc) {
  meeting->arrived |= mask;
  meeting->pc = pc;
  now_.mask &= ~mask;
  if (meeting->arrived != (meeting->expected & alive_)) return;
  add_group(meeting->pc, meeting->arrived);
  meeting->arrived = 0;
}

// They will not come any more.
void Warp::leave_meetings(uint32_t mask) {
  for (Meeting& meeting : meetings_) {
    meeting.expected &= ~mask;
    if (meeting.arrived == 0 || meeting.arrived != (meeting.expected & alive_)) continue;
    add_group(meeting.pc, meeting.arrived);
    meeting.arrived = 0;
  }
}

void Warp::pass_barrier() {
  for (const Group& group : at_barrier_) add_group(group.pc, group.mask);
  at_barrier_.clear();
  at_barrier_mask_ = 0;
}

void Warp::run() {
  yields_ = false;
  for (;;) {
    if (!others_.empty()) take_lowest_group();
    if (now_.mask == 0 || yields_) return;
    if (now_.pc >= block_->kernel.code.size())
      throw std::runtime_error(block_->kernel.name + ": ran off its end");
    if (++block_->counts->instructions > kMostInstructions)
      throw std::runtime_error(block_->kernel.name + ": does not end");
    const SassInstruction& in = block_->kernel.code[now_.pc];
    active_ = now_.mask & predicate(in.guard);
    if (active_ == 0) {
      ++now_.pc;
    } else {
      execute(in);
    }
  }
}

// ---- memory -------------------------------------------------------------------------------------

void Warp::addresses(const Operand& o, bool shared, uint64_t* to) {
  if (flying_ > 0) await(o.index, shared ? 1 : 2);
  for (int i = 0; i < kLanes; ++i) {
    uint64_t base = registers_[o.index][i];
    if (!shared && o.index != kZero)
      base |= static_cast<uint64_t>(registers_[o.index + 1][i]) << 32;
    to[i] = base + uniforms_[o.uniform] + static_cast<uint64_t>(o.value);
    if (shared) to[i] &= kAll;
  }
}

// Sectors that the active threads touch.
void Warp::count_global(const uint64_t* address, int bytes) {
  uint64_t seen[kLanes];
  int count = 0, lanes = 0;
  bool ascends = true;
  for (int i = 0; i < kLanes; ++i) {
    if ((active_ >> i & 1) == 0) continue;
    ++lanes;
    const uint64_t sector = address[i] / kSectorBytes;
    if (count > 0 && seen[count - 1] == sector) continue;
    ascends &= count == 0 || seen[count - 1] < sector;
    seen[count++] = sector;
  }
  if (!ascends) {
    std::sort(seen, seen + count);
    count = static_cast<int>(std::unique(seen, seen + count) - seen);
  }
  for (int begin = 0, end = 0; begin < count; begin = end) {
    while (end < count && seen[end] == seen[begin] + static_cast<uint64_t>(end - begin)) ++end;
    block_->touch(seen[begin] * kSectorBytes, static_cast<size_t>(end - begin) * kSectorBytes);
  }
  block_->counts->requested += static_cast<double>(lanes) * bytes;
  block_->counts->sectors += count;
}

// A wavefront brings each of 32 banks a word of four bytes. Of 16 bytes for each thread, eight
// threads have theirs at once; of 8 bytes, sixteen; if all want the same, all. The least is what it
// would take if no two words were in one bank.
void Warp::count_shared(const uint64_t* address, int bytes) {
  const int at_once = bytes == 16 ? 8 : bytes == 8 ? 16 : 32;
  const int words = std::max(1, bytes / 4);
  const uint64_t first = address[__builtin_ctz(active_)];
  int wavefronts = 0, least = 0;
  bool same = true;
  for (int begin = 0; begin < kLanes; begin += at_once) {
    uint64_t of_bank[32][kLanes];
    int in_bank[32] = {}, most = 0, count = 0;
    for (int i = begin; i < begin + at_once; ++i) {
      if ((active_ >> i & 1) == 0) continue;
      same &= address[i] == first;
      for (uint64_t word = address[i] / 4; word < address[i] / 4 + static_cast<uint64_t>(words);
           ++word) {
        const size_t bank = word % 32;
        uint64_t* const end = of_bank[bank] + in_bank[bank];
        if (std::find(of_bank[bank], end, word) != end) continue;
        *end = word;
        most = std::max(most, ++in_bank[bank]);
        ++count;
      }
    }
    wavefronts += most;
    least += (count + 31) / 32;
  }
  block_->counts->wavefronts += same ? 1 : wavefronts;
  block_->counts->least_wavefronts += same ? 1 : least;
}

unsigned char* Warp::shared_at(const SassInstruction& in, uint64_t address, int bytes) {
  if (address + static_cast<uint64_t>(bytes) > block_->shared.size())
    refuse(in, "beyond shared memory, at " + std::to_string(address));
  return block_->shared.data() + address;
}

void Warp::began_to_fly(double bytes) {
  flying_ += bytes;
  most_flying = std::max(most_flying, flying_);
}

}  // namespace exn::gpu
