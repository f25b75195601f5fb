// SPDX-License-Identifier: Apache-2.0
//
// An instruction of machine code as sass.cpp reads it and sass_run.cpp runs it.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace exn::gpu {

constexpr int kZero = 255;        // RZ
constexpr int kUniformZero = 63;  // URZ
constexpr int kTrue = 7;          // PT, UPT
constexpr size_t kInstructionBytes = 16;
constexpr size_t kSystemShared = 1024;  // that the system takes of each block's shared memory

enum class Kind : uint8_t {
  kNone,
  kRegister,
  kUniform,
  kPredicate,
  kUniformPredicate,
  kImmediate,
  kConstant,
  kMemory,
  kBarrier,
  kName
};

struct Operand {
  Kind kind = Kind::kNone;
  bool negate = false, invert = false, absolute = false;
  int half = -1;               // of a register that holds two numbers
  int byte = 0;                // of one that holds four
  int index = kZero;           // of the register, the predicate, the barrier
  int uniform = kUniformZero;  // added to an address
  int bank = 0;                // of a constant
  int64_t value = 0;           // bits of an immediate; offset of an address
  std::string text;            // of an immediate or a name
};

enum class Op {
  kNop,
  kMove,
  kAdd3,
  kMad,
  kMadWide,
  kMadHigh,
  kLea,
  kLogic,
  kLogicOfPredicates,
  kShift,
  kPermute,
  kSelect,
  kCompare,
  kAdd,
  kAddMinMax,
  kMinMax,
  kMinMax3,
  kHalfMinMax3,
  kAbs,
  kPopulation,
  kReverse,
  kFindLeading,
  kFloatAdd,
  kFloatMultiply,
  kFloatFma,
  kFloatMinMax,
  kFloatCompare,
  kFloatCheck,
  kFunction,
  kHalfToFloat,
  kHalves,
  kMatrices,
  kPack,
  kFloatToInt,
  kIntToFloat,
  kRoundFloat,
  kShuffle,
  kVote,
  kReduce,
  kSpecial,
  kPredicates,
  kUniformOf,
  kZeroPair,
  kConstant,
  kLoad,
  kStore,
  kLoadShared,
  kStoreShared,
  kCopyAsync,
  kCommit,
  kWait,
  kAtomic,
  kAtomicShared,
  kBranch,
  kBranchTo,
  kBranchDiverged,
  kCall,
  kReturn,
  kPush,
  kPop,
  kBreak,
  kSyncWarp,
  kBarrier,
  kBarrierVote,
  kBarrierResult,
  kExit,
  kYield,
  kUnknown
};

// Of an opcode, what is written after a dot; those that no operation looks at are left out.
enum class Mod {
  k128,
  k64,
  kADD,
  kALL,
  kANY,
  kBF16,
  kBF16_V2,
  kBFLY,
  kCAS,
  kCEIL,
  kDIV,
  kDOWN,
  kEX,
  kEX2,
  kF32,
  kF64,
  kFLOOR,
  kFTZ,
  kHI,
  kINC,
  kL,
  kLG2,
  kMAX,
  kMIN,
  kNAN,
  kOR,
  kPACK_AB,
  kRCP,
  kRED,
  kRM,
  kRP,
  kRSQ,
  kRZ,
  kS16,
  kS32,
  kS64,
  kS8,
  kSAT,
  kSH,
  kSQRT,
  kSX32,
  kTANH,
  kTRUNC,
  kU16,
  kU32,
  kU64,
  kU8,
  kUP,
  kW,
  kWIDE,
  kX,
  kXOR
};

// Outcomes of a comparison, as bits.
enum Comparison { kEqual = 1, kLess = 2, kGreater = 4, kUnordered = 8 };

struct SassInstruction {
  Op op = Op::kUnknown;
  std::string text;
  Operand guard;
  std::vector<Operand> operands;
  uint64_t modifiers = 0;
  int bytes = 4;          // of a load or store, for each thread
  int comparison = 0;     // which outcomes are true
  bool is_float = false;  // what negation and absolute values mean
  bool is_unsigned = false;

  bool has(Mod mod) const { return (modifiers >> static_cast<int>(mod) & 1) != 0; }
};

inline uint32_t bits_of(float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  return bits;
}

inline float float_of(uint32_t bits) {
  float v;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}

}  // namespace exn::gpu
