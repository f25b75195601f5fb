// SPDX-License-Identifier: Apache-2.0
//
// Runs the machine code of a kernel (sm_90, as cuobjdump prints it) and counts what it does: warp
// instructions, what global memory is asked for, how often shared memory answers. It knows what our
// kernels use and refuses the rest. Values are those of f32 but for last bits; no time is modelled.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace exn::gpu {

struct SassInstruction;

struct SassKernel {
  std::string name;  // mangled
  int registers = 0;
  int64_t static_shared = 0;
  bool waits_for_blocks = false;  // so that all of them must run side by side
  std::vector<SassInstruction> code;
  std::vector<unsigned char> tables;  // of its switches

  SassKernel();
  ~SassKernel();
  SassKernel(SassKernel&&) noexcept;
  SassKernel& operator=(SassKernel&&) noexcept;
};

// The kernels of a built libexeunt_cuda.so by their mangled names, without their code. Throws if
// cuobjdump fails.
std::map<std::string, SassKernel> read_kernels(const std::string& cuobjdump,
                                               const std::string& library);
// The code of those that are named.
void read_code(const std::string& cuobjdump, const std::string& library,
               const std::vector<std::string>& names, std::map<std::string, SassKernel>* kernels);

struct SassCounts {
  double instructions = 0;  // of warps
  double requested = 0;     // bytes of global memory
  double sectors = 0;       // of 32 bytes, distinct in each instruction of a warp
  double wavefronts = 0;    // of shared memory, and the least that could move as many bytes
  double least_wavefronts = 0;
  double in_flight = 0;  // bytes on their way from global memory, at most, all warps together

  void add(const SassCounts& other, double times);
};

struct SassLaunch {
  std::array<uint32_t, 3> grid = {1, 1, 1};
  std::array<uint32_t, 3> block = {1, 1, 1};
  int64_t dynamic_shared = 0;
  std::vector<unsigned char> arguments;

  int64_t blocks() const { return int64_t{grid[0]} * grid[1] * grid[2]; }
  int threads() const { return static_cast<int>(block[0] * block[1] * block[2]); }
};

// Called before global memory is touched, whose addresses are those of this process.
using Touch = std::function<void(uint64_t address, size_t bytes)>;

// Runs these blocks, side by side if the kernel waits for blocks, else one after the other, each
// to its end. Their sum.
SassCounts run_blocks(const SassKernel& kernel, const SassLaunch& launch,
                      const std::vector<int64_t>& blocks, const Touch& touch);

}  // namespace exn::gpu
