// SPDX-License-Identifier: Apache-2.0
// Instructions of memory: constants, loads, stores, copies and atomics.
#include "sass_numbers.h"

namespace exn::gpu {

bool Warp::access_memory(const SassInstruction& in) {
  const auto operand = [&](size_t i) -> const Operand& { return this->operand(in, i); };
  Lanes out;
  switch (in.op) {
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
    default:
      return false;
  }
  return true;
}

}  // namespace exn::gpu
