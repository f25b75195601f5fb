// SPDX-License-Identifier: Apache-2.0
#include "../kernels.h"
#include "isa.h"

namespace exn::cpu::EXN_ISA {

#define EXN_DECLARE(op, Args) exn_status op(const Args&, Workspace&);
EXN_FOR_EACH_OP(EXN_DECLARE)
#undef EXN_DECLARE
uint64_t read_probe(const void* data, int64_t bytes, int32_t way);
void copy_probe(void* to, const void* from, int64_t bytes, int32_t way);
uint64_t fma_probe(uint64_t multiply_adds);
#if defined(EXN_HAS_BYTE_DOT)
constexpr bool kPacks = true;
#else
constexpr bool kPacks = false;
#endif
void pack_rows(const Matrix& weight, char* to);

#define EXN_NAME(op, Args) op,
extern const Kernels kernels;
const Kernels kernels = {
    EXN_ISA_NAME, EXN_FOR_EACH_OP(EXN_NAME) read_probe, copy_probe, fma_probe, kPacks, pack_rows,
    false};
#if defined(EXN_HAS_TILES)
extern const Kernels kernels_with_tiles;
const Kernels kernels_with_tiles = {EXN_TILES_NAME,
                                    EXN_FOR_EACH_OP(EXN_NAME) read_probe,
                                    copy_probe,
                                    fma_probe,
                                    kPacks,
                                    pack_rows,
                                    true};
#endif
#undef EXN_NAME

}  // namespace exn::cpu::EXN_ISA
