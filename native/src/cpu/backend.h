// SPDX-License-Identifier: Apache-2.0
// The door to the CPU backend. It counts on checked arguments, like every backend; what it refuses
// is an environment that asks for what makes no sense.
#pragma once

#include "base/ops.h"

namespace exn {
struct ScreenArgs;
}

namespace exn::cpu {

const Backend& backend();
const char* description();

// The instruction set in use, "" if EXEUNT_ISA names none that this machine runs, and those that
// it runs, best first.
const char* isa();
const char* isas();
// Null: the best. False if this machine does not run it.
bool use_isa(const char* name);

// As exn_cpu_tuning, exn_cpu_set_tuning and exn_cpu_tune have it.
const char* tuning_in_force();
exn_status use_tuning(const char* text);
exn_status tune(int32_t milliseconds, const char* path);

// 0 if EXEUNT_THREADS makes no sense and use_threads() gave no number.
int32_t thread_count();
// 0: what EXEUNT_THREADS says, or all cores.
exn_status use_threads(int32_t count);

// Makes the image of a screen, of checked arguments; entries of levels, and whether states and head
// are finite, it sees for itself.
exn_status build_screen(const ScreenArgs& args);

// Whether the instruction set in use wants rows of blocks rearranged, and reads them so.
bool reads_packed();
// Rows of blocks, of checked arguments, as the instruction set in use reads them fastest, one after
// the other; those without blocks in panels, which all sets read.
exn_status pack_rows(const Matrix& weight, char* to);

exn_status read_probe(const void* data, int64_t bytes, int32_t way, uint64_t* checksum);
exn_status copy_probe(void* to, const void* from, int64_t bytes, int32_t way);
exn_status fma_probe(uint64_t multiply_adds, uint64_t* done);

}  // namespace exn::cpu
