// SPDX-License-Identifier: Apache-2.0
// Instructions of integers, predicates and moves, and comparisons.
#include "sass_numbers.h"

namespace exn::gpu {

bool Warp::calculate(const SassInstruction& in) {
  const auto& ops = in.operands;
  const auto operand = [&](size_t i) -> const Operand& { return this->operand(in, i); };
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
    default:
      return false;
  }
  return true;
}

}  // namespace exn::gpu
