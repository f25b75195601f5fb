// SPDX-License-Identifier: Apache-2.0
//
// Runs machine code, warp by warp.
#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <stdexcept>

#include "sass.h"
#include "sass_code.h"
#include "tensor.h"

namespace exn::gpu {

using test::bf16_from_float;
using test::f16_from_float;
using test::float_from_bf16;
using test::float_from_f16;

void SassCounts::add(const SassCounts& other, double times) {
  instructions += times * other.instructions;
  requested += times * other.requested;
  sectors += times * other.sectors;
  wavefronts += times * other.wavefronts;
  least_wavefronts += times * other.least_wavefronts;
  in_flight += times * other.in_flight;
}

namespace {

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
  void execute(const SassInstruction& in);
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

// ---- numbers ------------------------------------------------------------------------------------

// The nearest f32 in a direction: up, down, to zero, or simply the nearest.
float rounded(const SassInstruction& in, double v) {
  const auto f = static_cast<float>(v);
  if (!std::isfinite(f)) return f;
  const auto back = static_cast<double>(f);
  const bool down = in.has(Mod::kRM) || (in.has(Mod::kRZ) && v > 0);
  const bool up = in.has(Mod::kRP) || (in.has(Mod::kRZ) && v < 0);
  if (down && back > v) return std::nextafter(f, -INFINITY);
  if (up && back < v) return std::nextafter(f, INFINITY);
  return f;
}

uint32_t finished(const SassInstruction& in, double v) {
  float f = rounded(in, v);
  if (in.has(Mod::kSAT)) f = f > 0 ? std::min(f, 1.0f) : 0.0f;
  if (in.has(Mod::kFTZ) && std::fpclassify(f) == FP_SUBNORMAL) f = std::copysign(0.0f, f);
  return bits_of(f);
}

double wide(uint32_t bits) { return static_cast<double>(float_of(bits)); }

int outcome(double a, double b) {
  return a < b ? kLess : a > b ? kGreater : a == b ? kEqual : kUnordered;
}

uint32_t min_max(const SassInstruction& in, uint32_t a, uint32_t b, bool least) {
  const bool less = in.is_unsigned ? a < b : static_cast<int32_t>(a) < static_cast<int32_t>(b);
  return less == least ? a : b;
}

uint32_t float_min_max(const SassInstruction& in, uint32_t a, uint32_t b, bool least) {
  const float x = float_of(a), y = float_of(b);
  if (std::isnan(x) || std::isnan(y)) {
    if (in.has(Mod::kNAN)) return 0x7fffffffu;
    return std::isnan(x) ? b : a;
  }
  if (x == y) return (std::signbit(x) == least) ? a : b;
  return (x < y) == least ? a : b;
}

// What a table of eight bits makes of each three bits.
Lanes logic(const Lanes& a, const Lanes& b, const Lanes& c, int table) {
  Lanes out = {};
  for (int i = 0; i < 8; ++i) {
    if ((table >> i & 1) == 0) continue;
    const uint32_t not_a = i & 4 ? 0 : kAll, not_b = i & 2 ? 0 : kAll, not_c = i & 1 ? 0 : kAll;
    for (int lane = 0; lane < kLanes; ++lane)
      out[lane] |= (a[lane] ^ not_a) & (b[lane] ^ not_b) & (c[lane] ^ not_c);
  }
  return out;
}

uint32_t function_of(const SassInstruction& in, uint32_t bits) {
  const double x = wide(bits);
  double y = 0;
  if (in.has(Mod::kEX2)) {
    y = std::exp2(x);
  } else if (in.has(Mod::kLG2)) {
    y = std::log2(x);
  } else if (in.has(Mod::kRCP)) {
    y = 1 / x;
  } else if (in.has(Mod::kRSQ)) {
    y = 1 / std::sqrt(x);
  } else if (in.has(Mod::kSQRT)) {
    y = std::sqrt(x);
  } else if (in.has(Mod::kTANH)) {
    y = std::tanh(x);
  } else {
    throw std::runtime_error("unknown function: " + in.text);
  }
  return bits_of(static_cast<float>(y));
}

uint32_t permuted(uint32_t a, uint32_t selector, uint32_t c) {
  const uint64_t bytes = static_cast<uint64_t>(c) << 32 | a;
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t pick = selector >> (4 * i) & 0xf;
    auto byte = static_cast<uint32_t>(bytes >> (8 * (pick & 7)) & 0xff);
    if (pick & 8) byte = byte & 0x80 ? 0xff : 0;
    out |= byte << (8 * i);
  }
  return out;
}

uint32_t shifted(const SassInstruction& in, uint32_t low, uint32_t by, uint32_t high) {
  const bool is_wide = in.has(Mod::kU64) || in.has(Mod::kS64);
  const bool is_signed = in.has(Mod::kS32) || in.has(Mod::kS64);
  by = in.has(Mod::kW) ? by & (is_wide ? 63 : 31) : std::min(by, is_wide ? 63u : 32u);
  const uint64_t both = static_cast<uint64_t>(high) << 32 | low;
  if (in.has(Mod::kL)) {
    const uint64_t moved = both << by;
    return static_cast<uint32_t>(in.has(Mod::kHI) ? moved >> 32 : moved);
  }
  if (in.has(Mod::kHI)) {
    if (is_signed) return static_cast<uint32_t>(static_cast<int32_t>(high) >> std::min(by, 31u));
    return by > 31 ? 0 : high >> by;
  }
  return static_cast<uint32_t>(is_signed ? static_cast<uint64_t>(static_cast<int64_t>(both) >> by)
                                         : both >> by);
}

uint32_t packed_half(const SassInstruction& in, uint32_t bits) {
  const float v = float_of(bits);
  return in.has(Mod::kBF16) ? bf16_from_float(v) : f16_from_float(v);
}

uint64_t integer_of(const SassInstruction& in, uint32_t bits) {
  double v = wide(bits);
  v = in.has(Mod::kFLOOR)   ? std::floor(v)
      : in.has(Mod::kCEIL)  ? std::ceil(v)
      : in.has(Mod::kTRUNC) ? std::trunc(v)
                            : std::nearbyint(v);
  if (std::isnan(v)) return 0;
  const auto clamp = [&](double least, double most) { return std::min(std::max(v, least), most); };
  if (in.has(Mod::kU64))
    return v >= 0x1p64 ? ~uint64_t{0} : static_cast<uint64_t>(std::max(v, 0.0));
  if (in.has(Mod::kS64)) return static_cast<uint64_t>(static_cast<int64_t>(clamp(-0x1p63, 0x1p62)));
  if (in.has(Mod::kU32)) return static_cast<uint32_t>(clamp(0, 4294967295.0));
  return static_cast<uint32_t>(static_cast<int32_t>(clamp(-2147483648.0, 2147483647.0)));
}

uint32_t float_from_integer(const SassInstruction& in, uint64_t v) {
  const auto word = static_cast<uint32_t>(v);
  double d = static_cast<int32_t>(word);
  if (in.has(Mod::kU64)) {
    // A double that is not below it, so that rounding up stays right.
    d = static_cast<double>(v);
  } else if (in.has(Mod::kS64)) {
    d = static_cast<double>(static_cast<int64_t>(v));
  } else if (in.has(Mod::kU32)) {
    d = word;
  } else if (in.has(Mod::kS16)) {
    d = static_cast<int16_t>(word);
  } else if (in.has(Mod::kU16)) {
    d = word & 0xffff;
  } else if (in.has(Mod::kS8)) {
    d = static_cast<int8_t>(word);
  } else if (in.has(Mod::kU8)) {
    d = word & 0xff;
  }
  return bits_of(rounded(in, d));
}

// ---- instructions -------------------------------------------------------------------------------

void Warp::execute(const SassInstruction& in) {
  const auto& ops = in.operands;
  const size_t next = now_.pc + 1;
  const auto operand = [&](size_t i) -> const Operand& {
    if (i >= ops.size()) refuse(in, "has too few operands");
    return ops[i];
  };
  // Of an integer operation: its result, the predicates after it that take carries, the sources.
  const auto first_source = [&](size_t from) {
    while (from < ops.size() &&
           (ops[from].kind == Kind::kPredicate || ops[from].kind == Kind::kUniformPredicate))
      ++from;
    return from;
  };
  Lanes lanes_a, lanes_b, lanes_c, out;
  switch (in.op) {
    case Op::kNop:
      break;
    case Op::kMove:
      map(in, 1, [](uint32_t a, uint32_t, uint32_t) { return a; });
      break;
    case Op::kAdd3: {
      const size_t s = first_source(1);
      const bool extended = in.has(Mod::kX);
      const uint32_t carry_a = extended ? predicate(operand(s + 3)) : 0;
      const uint32_t carry_b = extended ? predicate(operand(s + 4)) : 0;
      uint64_t sum[kLanes];
      for (int i = 0; i < kLanes; ++i) sum[i] = (carry_a >> i & 1) + (carry_b >> i & 1);
      for (size_t k = s; k < s + 3; ++k) {
        Operand plain = operand(k);
        const bool negated = plain.negate;
        // With carries, -x is ~x and one more.
        plain.negate = false;
        plain.invert |= negated;
        Lanes expanded;
        const Lanes& v = read(in, plain, &expanded);
        for (int i = 0; i < kLanes; ++i) sum[i] += static_cast<uint64_t>(v[i]) + negated;
      }
      uint32_t once = 0, twice = 0;
      for (int i = 0; i < kLanes; ++i) {
        out[i] = static_cast<uint32_t>(sum[i]);
        once |= static_cast<uint32_t>(sum[i] >> 32 >= 1) << i;
        twice |= static_cast<uint32_t>(sum[i] >> 32 >= 2) << i;
      }
      write(operand(0), out);
      if (s > 1) write_predicate(operand(1), once);
      if (s > 2) write_predicate(operand(2), twice);
      break;
    }
    case Op::kMad: {
      const Lanes& a = read(in, operand(1), &lanes_a);
      const Lanes& b = read(in, operand(2), &lanes_b);
      const Lanes& c = read(in, operand(3), &lanes_c);
      const uint32_t carry = in.has(Mod::kX) ? predicate(operand(4)) : 0;
      for (int i = 0; i < kLanes; ++i) out[i] = a[i] * b[i] + c[i] + (carry >> i & 1);
      write(operand(0), out);
      break;
    }
    case Op::kMadWide:
    case Op::kMadHigh: {
      const size_t s = first_source(1);
      const Lanes& a = read(in, operand(s), &lanes_a);
      const Lanes& b = read(in, operand(s + 1), &lanes_b);
      uint64_t sum[kLanes];
      read_pair(in, operand(s + 2), sum);
      uint32_t carry = 0;
      for (int i = 0; i < kLanes; ++i) {
        const uint64_t product =
            in.is_unsigned
                ? static_cast<uint64_t>(a[i]) * b[i]
                : static_cast<uint64_t>(static_cast<int64_t>(static_cast<int32_t>(a[i])) *
                                        static_cast<int32_t>(b[i]));
        sum[i] += product;
        carry |= static_cast<uint32_t>(sum[i] < product) << i;
        out[i] = static_cast<uint32_t>(sum[i] >> 32);
      }
      if (in.op == Op::kMadWide) {
        write_pair(operand(0), sum);
      } else {
        write(operand(0), out);
      }
      if (s > 1) write_predicate(operand(1), carry);
      break;
    }
    case Op::kLea: {
      const size_t s = first_source(1);
      const Lanes& a = read(in, operand(s), &lanes_a);
      const Lanes& b = read(in, operand(s + 1), &lanes_b);
      const bool high = in.has(Mod::kHI), extended = in.has(Mod::kSX32);
      const bool has_high = high && !extended;
      const Lanes& c = has_high ? read(in, operand(s + 2), &lanes_c) : a;
      const Operand& by = operand(s + (has_high ? 3 : 2));
      const uint32_t carry_in = in.has(Mod::kX) ? predicate(ops.back()) : 0;
      uint32_t carry = 0;
      for (int i = 0; i < kLanes; ++i) {
        const uint32_t upper =
            extended ? static_cast<uint32_t>(static_cast<int32_t>(a[i]) >> 31) : c[i];
        const uint64_t both = (static_cast<uint64_t>(upper) << 32 | a[i]) << (by.value & 31);
        const uint64_t term = high ? both >> 32 : both & kAll;
        const uint64_t sum = term + b[i] + (carry_in >> i & 1);
        out[i] = static_cast<uint32_t>(sum);
        carry |= static_cast<uint32_t>(sum >> 32 & 1) << i;
      }
      write(operand(0), out);
      if (s > 1) write_predicate(operand(1), carry);
      break;
    }
    case Op::kLogic: {
      const size_t d = first_source(0);
      const Lanes& a = read(in, operand(d + 1), &lanes_a);
      const Lanes& b = read(in, operand(d + 2), &lanes_b);
      const Lanes& c = read(in, operand(d + 3), &lanes_c);
      const auto table = static_cast<int>(operand(d + 4).value);
      uint32_t nonzero = 0;
      out = logic(a, b, c, table);
      for (int i = 0; i < kLanes; ++i) nonzero |= static_cast<uint32_t>(out[i] != 0) << i;
      write(operand(d), out);
      if (d > 0) write_predicate(operand(0), nonzero | predicate(operand(d + 5)));
      break;
    }
    case Op::kLogicOfPredicates: {
      lanes_a[0] = predicate(operand(2));
      lanes_b[0] = predicate(operand(3));
      lanes_c[0] = predicate(operand(4));
      const auto of_table = [&](size_t i) {
        return logic(lanes_a, lanes_b, lanes_c, static_cast<int>(operand(i).value))[0];
      };
      const uint32_t first = of_table(5), second = of_table(6);
      write_predicate(operand(0), first);
      write_predicate(operand(1), second);
      break;
    }
    case Op::kShift:
      map(in, 3, [&](uint32_t a, uint32_t b, uint32_t c) { return shifted(in, a, b, c); });
      break;
    case Op::kPermute:
      map(in, 3, permuted);
      break;
    case Op::kSelect: {
      const Lanes& a = read(in, operand(1), &lanes_a);
      const Lanes& b = read(in, operand(2), &lanes_b);
      const uint32_t which = predicate(operand(3));
      for (int i = 0; i < kLanes; ++i) out[i] = which >> i & 1 ? a[i] : b[i];
      write(operand(0), out);
      break;
    }
    case Op::kCompare:
    case Op::kFloatCompare: {
      const Lanes& a = read(in, operand(2), &lanes_a);
      const Lanes& b = read(in, operand(3), &lanes_b);
      const uint32_t below = in.has(Mod::kEX) ? predicate(operand(5)) : 0;
      uint32_t result = 0;
      for (int i = 0; i < kLanes; ++i) {
        int found;
        if (in.op == Op::kFloatCompare) {
          found = outcome(wide(a[i]), wide(b[i]));
        } else if (in.is_unsigned) {
          found = a[i] < b[i] ? kLess : a[i] > b[i] ? kGreater : kEqual;
        } else {
          const auto x = static_cast<int32_t>(a[i]), y = static_cast<int32_t>(b[i]);
          found = x < y ? kLess : x > y ? kGreater : kEqual;
        }
        // Of the upper words: if they are equal, the lower ones have decided.
        const bool is = in.has(Mod::kEX) && found == kEqual ? (below >> i & 1) != 0
                                                            : (in.comparison & found) != 0;
        result |= static_cast<uint32_t>(is) << i;
      }
      const uint32_t with = predicate(operand(4));  // before either is written
      const auto combined = [&](uint32_t v) {
        return in.has(Mod::kOR) ? v | with : in.has(Mod::kXOR) ? v ^ with : v & with;
      };
      write_predicate(operand(0), combined(result));
      write_predicate(operand(1), combined(~result));
      break;
    }
    case Op::kAdd:
      map(in, 2, [](uint32_t a, uint32_t b, uint32_t) { return a + b; });
      break;
    case Op::kAddMinMax: {
      const uint32_t least = predicate(operand(4));
      const Lanes& a = read(in, operand(1), &lanes_a);
      const Lanes& b = read(in, operand(2), &lanes_b);
      const Lanes& c = read(in, operand(3), &lanes_c);
      for (int i = 0; i < kLanes; ++i)
        out[i] = min_max(in, a[i] + b[i], c[i], (least >> i & 1) != 0);
      write(operand(0), out);
      break;
    }
    case Op::kMinMax:
    case Op::kFloatMinMax: {
      const uint32_t least = predicate(operand(3));
      const Lanes& a = read(in, operand(1), &lanes_a);
      const Lanes& b = read(in, operand(2), &lanes_b);
      for (int i = 0; i < kLanes; ++i) {
        const bool wants_least = (least >> i & 1) != 0;
        out[i] = in.op == Op::kMinMax ? min_max(in, a[i], b[i], wants_least)
                                      : float_min_max(in, a[i], b[i], wants_least);
      }
      write(operand(0), out);
      break;
    }
    case Op::kMinMax3: {
      const bool least = (predicate(operand(4)) & 1) != 0;
      map(in, 3, [&](uint32_t a, uint32_t b, uint32_t c) {
        return min_max(in, min_max(in, a, b, least), c, least);
      });
      break;
    }
    case Op::kHalfMinMax3: {
      const bool least = (predicate(operand(4)) & 1) != 0;
      const auto number = [&](uint32_t half) {
        const auto bits = static_cast<uint16_t>(half);
        return bits_of(in.has(Mod::kBF16_V2) ? float_from_bf16(bits) : float_from_f16(bits));
      };
      const auto best = [&](uint32_t a, uint32_t b, uint32_t c) {
        uint32_t found = a;
        for (const uint32_t other : {b, c}) {
          const uint32_t x = number(found & 0xffff), y = number(other & 0xffff);
          if (float_min_max(in, x, y, least) != x) found = other;
        }
        return found & 0xffff;
      };
      map(in, 3, [&](uint32_t a, uint32_t b, uint32_t c) {
        return best(a, b, c) | best(a >> 16, b >> 16, c >> 16) << 16;
      });
      break;
    }
    case Op::kAbs:
      map(in, 1,
          [](uint32_t a, uint32_t, uint32_t) { return static_cast<int32_t>(a) < 0 ? 0u - a : a; });
      break;
    case Op::kPopulation:
      map(in, 1, [](uint32_t a, uint32_t, uint32_t) {
        return static_cast<uint32_t>(__builtin_popcount(a));
      });
      break;
    case Op::kReverse:
      map(in, 1, [](uint32_t a, uint32_t, uint32_t) {
        uint32_t reversed = 0;
        for (int i = 0; i < 32; ++i) reversed |= (a >> i & 1) << (31 - i);
        return reversed;
      });
      break;
    case Op::kFindLeading:
      map(in, 1, [&](uint32_t a, uint32_t, uint32_t) {
        if (a == 0) return kAll;
        const auto zeros = static_cast<uint32_t>(__builtin_clz(a));
        return in.has(Mod::kSH) ? zeros : 31 - zeros;
      });
      break;
    case Op::kFloatAdd:
      map(in, 2, [&](uint32_t a, uint32_t b, uint32_t) { return finished(in, wide(a) + wide(b)); });
      break;
    case Op::kFloatMultiply:
      map(in, 2, [&](uint32_t a, uint32_t b, uint32_t) { return finished(in, wide(a) * wide(b)); });
      break;
    case Op::kFloatFma:
      if (in.modifiers == 0) {
        map(in, 3, [](uint32_t a, uint32_t b, uint32_t c) {
          return bits_of(static_cast<float>(wide(a) * wide(b) + wide(c)));
        });
      } else {
        map(in, 3, [&](uint32_t a, uint32_t b, uint32_t c) {
          return finished(in, wide(a) * wide(b) + wide(c));
        });
      }
      break;
    case Op::kFloatCheck: {
      // Whether a quotient needs the slow way.
      const Lanes& a = read(in, operand(1), &lanes_a);
      const Lanes& b = read(in, operand(2), &lanes_b);
      uint32_t slow = 0;
      for (int i = 0; i < kLanes; ++i) {
        const double x = std::fabs(wide(a[i])), y = std::fabs(wide(b[i]));
        const bool fast =
            y >= 0x1p-125 && y <= 0x1p125 &&
            (x == 0 || (x >= 0x1p-102 && x <= 0x1p127 && x / y < 0x1p125 && x / y > 0x1p-125));
        slow |= static_cast<uint32_t>(!fast) << i;
      }
      write_predicate(operand(0), slow);
      break;
    }
    case Op::kFunction:
      map(in, 1, [&](uint32_t a, uint32_t, uint32_t) { return function_of(in, a); });
      break;
    case Op::kHalfToFloat: {
      if (!in.has(Mod::kF32) || operand(1).index != kZero || operand(2).half < 0)
        refuse(in, "is more than a conversion");
      const int by = 16 * operand(2).half;
      Operand plain = operand(2);
      plain.half = -1;
      const Lanes& a = read(in, plain, &lanes_a);
      for (int i = 0; i < kLanes; ++i)
        out[i] = bits_of(float_from_f16(static_cast<uint16_t>(a[i] >> by)));
      write(operand(0), out);
      break;
    }
    case Op::kHalves: {
      if (operand(1).index != kZero || operand(2).index != kZero)
        refuse(in, "is more than a constant");
      const auto half = [&](size_t i) -> uint32_t {
        return f16_from_float(float_of(static_cast<uint32_t>(operand(i).value)));
      };
      std::fill_n(out.v, kLanes, half(3) << 16 | half(4));
      write(operand(0), out);
      break;
    }
    case Op::kPack:
      if (in.has(Mod::kPACK_AB)) {
        map(in, 2, [&](uint32_t a, uint32_t b, uint32_t) {
          return packed_half(in, a) << 16 | packed_half(in, b);
        });
      } else {
        map(in, 1, [&](uint32_t a, uint32_t, uint32_t) { return packed_half(in, a); });
      }
      break;
    case Op::kFloatToInt: {
      const Lanes& a = read(in, operand(1), &lanes_a);
      uint64_t values[kLanes];
      for (int i = 0; i < kLanes; ++i) values[i] = integer_of(in, a[i]);
      if (in.has(Mod::kU64) || in.has(Mod::kS64)) {
        write_pair(operand(0), values);
      } else {
        for (int i = 0; i < kLanes; ++i) out[i] = static_cast<uint32_t>(values[i]);
        write(operand(0), out);
      }
      break;
    }
    case Op::kIntToFloat: {
      uint64_t values[kLanes];
      if (in.has(Mod::kU64) || in.has(Mod::kS64)) {
        read_pair(in, operand(1), values);
      } else {
        const Lanes& a = read(in, operand(1), &lanes_a);
        for (int i = 0; i < kLanes; ++i) values[i] = a[i];
      }
      for (int i = 0; i < kLanes; ++i) out[i] = float_from_integer(in, values[i]);
      write(operand(0), out);
      break;
    }
    case Op::kRoundFloat:
      map(in, 1, [&](uint32_t a, uint32_t, uint32_t) {
        const float v = float_of(a);
        return bits_of(in.has(Mod::kFLOOR)   ? std::floor(v)
                       : in.has(Mod::kCEIL)  ? std::ceil(v)
                       : in.has(Mod::kTRUNC) ? std::trunc(v)
                                             : std::nearbyint(v));
      });
      break;
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
      if (!in.has(Mod::kANY)) refuse(in, "unknown vote");
      const uint32_t votes = predicate(operand(2)) & active_;
      std::fill_n(out.v, kLanes, votes);
      write(operand(0), out);
      write_predicate(operand(1), votes != 0 ? kAll : 0);
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
    case Op::kPredicates: {
      const Lanes& a = read(in, operand(2), &lanes_a);
      const auto which = static_cast<uint32_t>(operand(3).value);
      for (int i = 0; i < kLanes; ++i) {
        uint32_t all = 0;
        for (int p = 0; p < 7; ++p) all |= (predicates_[p] >> i & 1) << p;
        out[i] = (all & which) | (a[i] & ~which);
      }
      write(operand(0), out);
      break;
    }
    case Op::kUniformOf:
      map(in, 1, [](uint32_t a, uint32_t, uint32_t) { return a; });
      break;
    case Op::kZeroPair: {
      if (operand(1).text != "SRZ") refuse(in, "unknown register");
      const uint64_t zeros[kLanes] = {};
      write_pair(operand(0), zeros);
      break;
    }
    case Op::kConstant: {
      const Operand& from = operand(1);
      const Lanes base = registers_[from.index];  // which may be overwritten
      if (from.bank != 0 && from.bank != 2) refuse(in, "unknown constants");
      const auto& constants = from.bank == 0 ? block_->constants : block_->kernel.tables;
      for (int word = 0; word < std::max(1, in.bytes / 4); ++word) {
        for (int i = 0; i < kLanes; ++i) {
          const size_t at =
              base[i] + uniforms_[from.uniform] + static_cast<uint32_t>(from.value + 4 * word);
          const auto size = static_cast<size_t>(std::min(in.bytes, 4));
          out[i] = 0;
          if ((active_ >> i & 1) == 0) continue;
          if (at + size > constants.size()) refuse(in, "beyond the constants");
          std::memcpy(&out[i], constants.data() + at, size);
        }
        write(operand(0), out, word);
      }
      break;
    }
    case Op::kLoad: {
      uint64_t address[kLanes];
      addresses(operand(1), false, address);
      const double sectors = block_->counts->sectors;
      count_global(address, in.bytes);
      for (int word = 0; word < std::max(1, in.bytes / 4); ++word) {
        for (int i = 0; i < kLanes; ++i) {
          out[i] = 0;
          if ((active_ >> i & 1) == 0) continue;
          std::memcpy(&out[i],
                      reinterpret_cast<const void*>(address[i] + 4 * static_cast<uint64_t>(word)),
                      static_cast<size_t>(std::min(in.bytes, 4)));
          if (in.has(Mod::kS8)) out[i] = static_cast<uint32_t>(static_cast<int8_t>(out[i]));
          if (in.has(Mod::kS16)) out[i] = static_cast<uint32_t>(static_cast<int16_t>(out[i]));
        }
        write(operand(0), out, word);
      }
      const double bytes = (block_->counts->sectors - sectors) * kSectorBytes;
      if (bytes == 0 || operand(0).index == kZero) break;
      loads_.push_back(bytes);
      for (int word = 0; word < std::max(1, in.bytes / 4); ++word)
        load_of_[static_cast<size_t>(operand(0).index + word)] =
            static_cast<int>(loads_.size()) - 1;
      began_to_fly(bytes);
      break;
    }
    case Op::kStore: {
      uint64_t address[kLanes];
      addresses(operand(0), false, address);
      if (flying_ > 0) await(operand(1).index, std::max(1, in.bytes / 4));
      count_global(address, in.bytes);
      for (int i = 0; i < kLanes; ++i) {
        if ((active_ >> i & 1) == 0) continue;
        for (int word = 0; word < std::max(1, in.bytes / 4); ++word) {
          const int from = operand(1).index == kZero ? kZero : operand(1).index + word;
          std::memcpy(reinterpret_cast<void*>(address[i] + 4 * static_cast<uint64_t>(word)),
                      &registers_[from].v[i], static_cast<size_t>(std::min(in.bytes, 4)));
        }
      }
      break;
    }
    case Op::kLoadShared: {
      uint64_t address[kLanes];
      addresses(operand(1), true, address);
      count_shared(address, in.bytes);
      for (int word = 0; word < std::max(1, in.bytes / 4); ++word) {
        for (int i = 0; i < kLanes; ++i) {
          out[i] = 0;
          if ((active_ >> i & 1) == 0) continue;
          std::memcpy(&out[i], shared_at(in, address[i], in.bytes) + 4 * word,
                      static_cast<size_t>(std::min(in.bytes, 4)));
          if (in.has(Mod::kS8)) out[i] = static_cast<uint32_t>(static_cast<int8_t>(out[i]));
          if (in.has(Mod::kS16)) out[i] = static_cast<uint32_t>(static_cast<int16_t>(out[i]));
        }
        write(operand(0), out, word);
      }
      break;
    }
    case Op::kStoreShared: {
      uint64_t address[kLanes];
      addresses(operand(0), true, address);
      if (flying_ > 0) await(operand(1).index, std::max(1, in.bytes / 4));
      count_shared(address, in.bytes);
      for (int i = 0; i < kLanes; ++i) {
        if ((active_ >> i & 1) == 0) continue;
        for (int word = 0; word < std::max(1, in.bytes / 4); ++word) {
          const int from = operand(1).index == kZero ? kZero : operand(1).index + word;
          std::memcpy(shared_at(in, address[i], in.bytes) + 4 * word, &registers_[from].v[i],
                      static_cast<size_t>(std::min(in.bytes, 4)));
        }
      }
      break;
    }
    case Op::kCopyAsync: {
      uint64_t to[kLanes], from[kLanes];
      addresses(operand(0), true, to);
      addresses(operand(1), false, from);
      const double sectors = block_->counts->sectors;
      count_global(from, in.bytes);
      count_shared(to, in.bytes);
      for (int i = 0; i < kLanes; ++i) {
        if ((active_ >> i & 1) == 0) continue;
        std::memcpy(shared_at(in, to[i], in.bytes), reinterpret_cast<const void*>(from[i]),
                    static_cast<size_t>(in.bytes));
      }
      const double bytes = (block_->counts->sectors - sectors) * kSectorBytes;
      open_copies_ += bytes;
      began_to_fly(bytes);
      break;
    }
    case Op::kCommit:
      copies_.push_back(open_copies_);
      open_copies_ = 0;
      break;
    case Op::kWait:
      while (static_cast<int64_t>(copies_.size()) > operand(1).value) {
        flying_ -= copies_.front();
        copies_.pop_front();
      }
      break;
    case Op::kAtomic:
    case Op::kAtomicShared: {
      const bool in_shared = in.op == Op::kAtomicShared;
      const size_t memory = operand(0).kind == Kind::kMemory   ? 0
                            : operand(1).kind == Kind::kMemory ? 1
                                                               : 2;
      const bool increments = in.has(Mod::kINC), swaps = in.has(Mod::kCAS);
      uint64_t address[kLanes], value[kLanes] = {}, other[kLanes] = {}, old[kLanes] = {};
      addresses(operand(memory), in_shared, address);
      const size_t size = in.has(Mod::k64) ? 8 : 4;
      if (!increments) read_pair(in, operand(memory + 1), value);
      if (swaps) read_pair(in, operand(memory + 2), other);
      if (in_shared) {
        count_shared(address, static_cast<int>(size));
      } else {
        count_global(address, static_cast<int>(size));
      }
      for (int i = 0; i < kLanes; ++i) {
        if ((active_ >> i & 1) == 0) continue;
        void* at = in_shared ? static_cast<void*>(shared_at(in, address[i], static_cast<int>(size)))
                             : reinterpret_cast<void*>(address[i]);
        std::memcpy(&old[i], at, size);
        const auto a = static_cast<uint32_t>(old[i]), b = static_cast<uint32_t>(value[i]);
        uint64_t becomes = 0;
        if (swaps) {
          const uint64_t bits = size == 8 ? ~uint64_t{0} : kAll;
          becomes = (old[i] & bits) == (value[i] & bits) ? other[i] : old[i];
        } else if (increments) {
          becomes = a + 1;
        } else if (in.has(Mod::kADD)) {
          becomes = a + b;
        } else if (in.has(Mod::kOR)) {
          becomes = a | b;
        } else if (in.has(Mod::kMIN) || in.has(Mod::kMAX)) {
          becomes = min_max(in, a, b, in.has(Mod::kMIN));
        } else {
          refuse(in, "unknown atomic");
        }
        std::memcpy(at, &becomes, size);
      }
      if (memory > 0) {
        const Operand& to = operand(memory - 1);
        if (size == 8) {
          write_pair(to, old);
        } else {
          for (int i = 0; i < kLanes; ++i) out[i] = static_cast<uint32_t>(old[i]);
          write(to, out);
        }
      }
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

}  // namespace

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
