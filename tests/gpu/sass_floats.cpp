// SPDX-License-Identifier: Apache-2.0
// Instructions of floats, and conversions.
#include "../simt/include/simt/tensor_core.h"
#include "sass_numbers.h"

namespace exn::gpu {

bool Warp::calculate_floats(const SassInstruction& in) {
  const auto operand = [&](size_t i) -> const Operand& { return this->operand(in, i); };
  Lanes lanes_a, lanes_b, out;
  switch (in.op) {
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
    case Op::kMatrices:
      multiply_matrices(in);
      break;
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
        for (int i = 0; i < kLanes; ++i) values[i] = a[i] >> operand(1).byte * 8;
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
    default:
      return false;
  }
  return true;
}

// D = A B + C of HMMA.16816, or of signed bytes, IMMA.16832 and IMMA.16816: registers as
// mma.m16n8k16 and mma.m16n8k32 have them, one after the other.
void Warp::multiply_matrices(const SassInstruction& in) {
  const auto is = [&](const char* name) { return in.text.find(name) != std::string::npos; };
  const bool wide = is("IMMA.16832.S8.S8 "), narrow = is("IMMA.16816.S8.S8 ");
  const bool bytes = wide || narrow;
  if (!bytes && !is("HMMA.16816.F32.BF16 ")) refuse(in, "is of other matrices");
  if (active_ != kAll) refuse(in, "by a part of a warp");
  const auto word = [&](size_t i, int offset, int lane) {
    const Operand& o = operand(in, i);
    if (o.kind != Kind::kRegister || o.negate) refuse(in, "unknown operand " + o.text);
    if (o.index == kZero) return 0u;
    if (flying_ > 0) await(o.index + offset, 1);
    return registers_[o.index + offset][lane];
  };
  uint32_t a[kLanes][4], b[kLanes][2];
  int32_t counts[kLanes][4];
  float sums[kLanes][4];
  const int of_a = narrow ? 2 : 4, of_b = narrow ? 1 : 2;
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < of_a; ++i) a[lane][i] = word(1, i, lane);
    for (int i = 0; i < of_b; ++i) b[lane][i] = word(2, i, lane);
    for (int i = 0; i < 4; ++i) {
      counts[lane][i] = static_cast<int32_t>(word(3, i, lane));
      sums[lane][i] = float_of(word(3, i, lane));
    }
  }
  if (bytes) {
    std::array<simt::MmaBytesLane, kLanes> lanes;
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] = {a[lane], b[lane], counts[lane]};
    simt::mma_m16n8_s8(lanes, of_b);
  } else {
    std::array<simt::MmaLane, kLanes> lanes;
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] = {a[lane], b[lane], sums[lane]};
    simt::mma_m16n8k16_bf16(lanes);
  }
  for (int i = 0; i < 4; ++i) {
    Lanes out;
    for (int lane = 0; lane < kLanes; ++lane) {
      out[lane] = bytes ? static_cast<uint32_t>(counts[lane][i]) : bits_of(sums[lane][i]);
    }
    write(operand(in, 0), out, i);
  }
}

}  // namespace exn::gpu
