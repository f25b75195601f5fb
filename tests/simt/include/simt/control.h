/* SPDX-License-Identifier: Apache-2.0
 *
 * What a test can ask of the emulator. Plain C, exported from every emulated backend, so that a
 * program which opened the library can look the functions up by name.
 */
#ifndef SIMT_CONTROL_H
#define SIMT_CONTROL_H

#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

#define SIMT_API __attribute__((visibility("default")))

/* Changes one setting; the names are those of the environment without the prefix EXN_SIMT_:
 *   "POLICY"     inorder | reverse | random | priority        (default inorder)
 *   "SEED"       any integer: schedule and poison byte        (default 1)
 *   "RACECHECK"  0 | 1, race builds only                      (default 1)
 *   "REPORTS"    distinct reports printed per launch          (default 8)
 *   "PREEMPT"    race builds: switch threads at one memory access in N; 0 never (default 0)
 *   "RESIDENT"   blocks in flight                             (default 4; inorder 1)
 *   "SMS"        multiprocessors the device claims to have    (default 4)
 *   "MEMORY"     bytes the device claims to have              (default 8 GiB)
 *   "PROTECT"    0 | 1, host access to device memory faults   (default 0)
 *   "L2"         bytes of the L2 cache it claims to have      (default 1 MiB)
 *   "TRAFFIC"    0 | 1, race builds: follow what a cache lets through (default 0)
 *   "FAIL"       CUDA error that the next kernel ends with instead of running; sticks (default 0)
 *   "REFUSE"     CUDA error that the next launch returns instead of queueing (default 0)
 * Returns 0, or -1 for an unknown name or value. */
SIMT_API int simt_configure(const char* name, const char* value);

/* "plain", "asan" or "race". */
SIMT_API const char* simt_mode(void);

/* Text of the reports since the last simt_reset, empty if there were none. Valid until the calling
 * thread's next call. */
SIMT_API const char* simt_last_report(void);

/* Number of reports since the last simt_reset, repetitions included. */
SIMT_API uint64_t simt_report_count(void);

/* Clears reports, counters and a sticky launch failure, and empties the caches of TRAFFIC. */
SIMT_API void simt_reset(void);

/* Global bytes that kernels read and wrote since the last simt_reset. Race builds only: 0
 * elsewhere. An atomic update counts once. */
SIMT_API uint64_t simt_bytes_requested(void);
SIMT_API uint64_t simt_bytes_read(void);
SIMT_API uint64_t simt_bytes_written(void);

/* With TRAFFIC, of those bytes what goes to or comes from memory, in sectors of 32 bytes.
 * past_cache: past one L2 cache of the size that the device claims, first in, first out, whose
 * content survives a launch. It sees accesses in the order of the emulator's schedule, one block
 * after the other, where a GPU runs many at once: an estimate for what fits with a margin.
 * first_touched: each sector once per launch and direction, however much lies in between. */
SIMT_API uint64_t simt_bytes_past_cache(void);
SIMT_API uint64_t simt_bytes_first_touched(void);

/* Kernel launches executed, graph replays included, since the last simt_reset. */
SIMT_API uint64_t simt_launch_count(void);

/* A device that takes launches instead of the emulator: tests/gpu/counts.cpp. `launch` must have run
 * the kernel when it returns; `blocks` says how many blocks of a kernel fit on a multiprocessor. Also
 * fresh device memory is no longer filled, so that what is not touched takes none of the host's. */
typedef struct simt_launch {
  const void* kernel; /* its address in this library */
  unsigned grid[3];
  unsigned block[3];
  uint64_t dynamic_shared;
  const unsigned char* arguments; /* as a GPU gets them */
  uint64_t argument_bytes;
} simt_launch;
typedef struct simt_device {
  void* context;
  void (*launch)(void* context, const simt_launch* launch);
  int (*blocks)(void* context, const void* kernel, int threads, uint64_t dynamic_shared);
} simt_device;
/* Before the first allocation. */
SIMT_API void simt_use_device(const simt_device* device);

/* Live device allocations. */
SIMT_API uint64_t simt_live_allocations(void);

/* Thread switches since the last simt_reset. */
SIMT_API uint64_t simt_switch_count(void);

#if defined(__cplusplus)
}
#endif

#endif
