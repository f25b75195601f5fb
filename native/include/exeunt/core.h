/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exeunt core: status codes, backends, devices, memory, streams, threads.
 *
 * Conventions that hold for every function of every header
 *
 *  - Tensors are DLPack DLTensor, borrowed for the duration of the call (CUDA: until the work
 *    queued on the stream has finished). The struct, its shape and its strides live in host memory;
 *    `data` points into the memory of `device`. `strides` may be NULL (compact row-major).
 *    dtype.lanes is 1. Matrices need a last stride of 1; the row stride is free (>= columns for
 *    outputs) unless a header says otherwise. Of an empty tensor neither `data` nor `strides` means
 *    anything, and it is given all the same: only what is NULL is left out. A tensor has at most 64
 *    axes and spans at most 2^48 elements.
 *  - Data pointers need the alignment of their element only; 64-byte aligned rows take the fastest
 *    path.
 *  - All tensors of one call live on one device. CPU tensors run on the CPU backend, CUDA tensors
 *    on the CUDA backend. There exit_head, gate (with hidden layers), kv_propagate, norm and rope
 *    refuse more than 2^31 - 1 rows: EXN_UNSUPPORTED.
 *  - An op is a params struct and three functions: `_supported`, `_workspace_size`, and the run.
 *    The struct's first field is its size, one that a version has: new fields come at its end, 0 if
 *    the caller is older than the library, and taken from a newer one as long as they are 0.
 *    `_supported` and `_workspace_size` read no tensor, but on the CPU a screen's header. A run
 *    allocates nothing but the CPU's threads (the first after exn_cpu_set_threads), synchronises
 *    nothing and calls nobody back; on CUDA it may be captured into a graph (device.h).
 *  - The workspace lives on the tensors' device, is aligned to EXN_WORKSPACE_ALIGN bytes, holds at
 *    least the bytes that `_workspace_size` reports, may hold anything before the call and is
 *    garbage after it. NULL is fine when the size is 0. It must not be shared by concurrent runs.
 *  - Every function returns a status and never aborts, exits, throws or prints. When the status is
 *    not EXN_OK, exn_last_error() names the argument and the values that disagree, and, unless the
 *    status is EXN_RUNTIME_FAILURE or EXN_DEVICE_LOST, nothing was written.
 *  - On the CPU a call takes at most 16 KiB of the calling thread's stack, in every instruction
 *    set.
 *  - Every function may be called from any thread at any time, as long as no two concurrent calls
 *    share an output tensor, a state tensor or a workspace.
 *  - Outputs may not overlap inputs or each other unless a header says so. Rows may lie in the gaps
 *    between the rows of another tensor: two matrices side by side in one buffer do not overlap.
 *
 * Numeric contract: a row with a NaN, with +inf, or with nothing but -inf is invalid (see
 * row_stats.h); ties go to the smaller index; reductions are f32 (f64 where the storage is f64);
 * results are bitwise equal from run to run on one device, and on the CPU for every thread count.
 */
#ifndef EXEUNT_CORE_H
#define EXEUNT_CORE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__has_include)
#if __has_include(<dlpack/dlpack.h>)
#include <dlpack/dlpack.h>
#else
#include <exeunt/dlpack_abi.h>
#endif
#else
#include <dlpack/dlpack.h>
#endif

#if !defined(_WIN32) || defined(EXN_STATIC)
#define EXN_API __attribute__((visibility("default")))
#elif defined(EXN_EXPORTS)
#define EXN_API __declspec(dllexport)
#else /* programs that link the static library define EXN_STATIC */
#define EXN_API __declspec(dllimport)
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** Raised whenever a struct, a constant or the meaning of a function changes incompatibly. */
#define EXN_ABI_VERSION 1

/** Alignment in bytes that every workspace needs. exn_alloc satisfies it. */
#define EXN_WORKSPACE_ALIGN 64

/** Status of a call. */
typedef int32_t exn_status;
enum {
  EXN_OK = 0,
  /** An argument is wrong: dtype, rank, shape, stride, device, alignment, null, value. */
  EXN_INVALID_ARGUMENT = 1,
  /** The arguments are sound, but this backend has no kernel for them. */
  EXN_UNSUPPORTED = 2,
  /** The host or the device has not enough memory. */
  EXN_OUT_OF_MEMORY = 3,
  /** The backend of the tensors' device is not there; exn_backend_reason() says why. */
  EXN_BACKEND_UNAVAILABLE = 4,
  /** The backend failed while queueing or running work. */
  EXN_RUNTIME_FAILURE = 5,
  /** The device context is lost; nothing works on it until the process restarts. */
  EXN_DEVICE_LOST = 6
};

/** Where a run queues its work: a cudaStream_t (NULL: the default stream). The CPU ignores it. */
typedef void* exn_stream;

/** A backend. */
enum { EXN_BACKEND_CPU = 0, EXN_BACKEND_CUDA = 1 };

/** EXN_ABI_VERSION of the loaded library; compare with the header's before anything else. */
EXN_API uint32_t exn_abi_version(void);

/** Human-readable library version, e.g. "0.1.0". Static text. */
EXN_API const char* exn_version(void);

/**
 * File name of the loaded library, as the dynamic linker opened it: tells which of several it was.
 * "" if unknown. Static text.
 */
EXN_API const char* exn_library_path(void);

/** Name of a status, e.g. "EXN_INVALID_ARGUMENT". Static text. */
EXN_API const char* exn_status_name(exn_status status);

/**
 * One sentence about the last failed call of this thread; "" if none failed yet. Valid until the
 * next exeunt call of the same thread.
 */
EXN_API const char* exn_last_error(void);

/**
 * Which kernel the last run of this thread dispatched to, as "backend/isa-or-arch/op", e.g.
 * "cpu/avx512/row_stats" or "cuda/sm_90/exit_head"; "" before the first run. Set by the code that
 * ran, so a test can prove which path was taken. Valid until the next run of this thread.
 */
EXN_API const char* exn_last_path(void);

/* ---- backends -------------------------------------------------------------------------------- */

/**
 * Opens the CUDA backend. `path`: file name of the backend library; NULL: the environment variable
 * EXEUNT_CUDA_LIBRARY, else libexeunt_cuda.so beside libexeunt.so. The first attempt decides; later
 * calls return its outcome, unless it failed and another path is given. Called implicitly with NULL
 * by the first call that needs CUDA. The environment variable EXEUNT_BACKEND=cpu keeps the CUDA
 * backend closed; a value that is neither cpu nor cuda makes both backends unavailable, rather than
 * letting the one run that was not meant. Returns EXN_OK or EXN_BACKEND_UNAVAILABLE.
 */
EXN_API exn_status exn_cuda_open(const char* path);

/** 1 if the backend can run ops now, else 0. Opens the CUDA backend if nobody did. */
EXN_API int32_t exn_backend_available(int32_t backend);

/** Why the backend is not available, in one sentence; "" if it is. Valid as exn_last_error is. */
EXN_API const char* exn_backend_reason(int32_t backend);

/** The backend and what it runs on, e.g. "cpu (avx512, 2 threads)". Valid as exn_last_error is. */
EXN_API const char* exn_backend_name(int32_t backend);

/** Number of devices of a backend: 1 for the CPU; 0 if the backend is not available. */
EXN_API int32_t exn_device_count(int32_t backend);

/**
 * Instruction set the CPU kernels use: "baseline", "avx2", "vnni", "avx512", "amx" or "neon".
 * Static text. "vnni" is "avx512" without its products of pairs of bf16, for processors before them
 * and virtual machines that hide them.
 *
 * "amx" is "avx512", but that linear and ffn multiply prompts, which are more than 64 rows, with
 * bf16 weights in tiles, several times as fast. The library asks Linux for the registers once, when
 * it chooses or lists the sets; from then on signal stacks of less than about 12 KiB (MINSIGSTKSZ
 * as the kernel reports it, AT_MINSIGSTKSZ) are refused in this process. With EXEUNT_ISA=avx512
 * only exn_cpu_isas asks.
 */
EXN_API const char* exn_cpu_isa(void);

/** Comma-separated instruction sets that this machine can run, best first. Static text. */
EXN_API const char* exn_cpu_isas(void);

/**
 * Forces an instruction set; NULL: best one. The environment variable EXEUNT_ISA does the same
 * before the first call. An unknown or impossible name is EXN_INVALID_ARGUMENT and changes nothing
 * (an impossible EXEUNT_ISA makes every CPU run fail with EXN_UNSUPPORTED rather than take another
 * path silently).
 */
EXN_API exn_status exn_cpu_set_isa(const char* name);

/**
 * Threads that CPU runs may use, the caller included; runs of several callers at the same time
 * share them, each with its own at least. 0 if EXEUNT_THREADS is no number from 0 to 256, which
 * makes every CPU run fail with EXN_UNSUPPORTED until exn_cpu_set_threads() gives one.
 */
EXN_API int32_t exn_cpu_threads(void);

/**
 * Sets the thread count, 1..256; 0: the default, which is one per usable core unless the
 * environment variable EXEUNT_THREADS says 1..256. Results do not depend on it. Waits for a CPU run
 * in progress. A forked child may call it, and every op; it starts threads of its own.
 */
EXN_API exn_status exn_cpu_set_threads(int32_t threads);

/**
 * What the CPU kernels choose by processor, a line `name value` for each choice: which loads they
 * ask for ahead, and how many rows they take together. No result depends on it, not in a bit. Lines
 * that begin with # say which processor this is, where the choices come from and, after
 * exn_cpu_tune, what the other values would take. Valid until the thread's next call of this
 * function.
 *
 * They are, in this order: what the environment variable EXEUNT_TUNING names, a file of such lines,
 * or "default"; else what exn_cpu_tune wrote for this processor and instruction set into the user's
 * cache folder; else the defaults, which follow from the sizes of the caches. A file that makes no
 * sense leaves the defaults, and a line says why. They are chosen before the first run, and anew by
 * exn_cpu_set_isa.
 */
EXN_API const char* exn_cpu_tuning(void);

/**
 * Makes the choices that the lines of `text` name, and all others by default; NULL: as the process
 * began. A line that makes no sense is EXN_INVALID_ARGUMENT and changes nothing. Runs in progress
 * take one way or the other.
 */
EXN_API exn_status exn_cpu_set_tuning(const char* text);

/**
 * Measures what is fastest on this processor, with the instruction set and the threads in use, in
 * about `milliseconds` (1..60000; 300 tell enough where nothing else runs, and a call of each kind
 * is made twice however long it takes), with 102 MiB of memory, and makes the choices. Where `path`
 * is not NULL, writes them there, in one step; "": into the file that later processes of this user
 * take by themselves. EXN_INVALID_ARGUMENT: milliseconds out of range, or a path of 1024 bytes or
 * more; EXN_OUT_OF_MEMORY; EXN_UNSUPPORTED: "" where the processor has no name or the user no cache
 * folder; EXN_RUNTIME_FAILURE if it cannot be written: the choices are made all the same. A second
 * call waits; runs of other threads are sound meanwhile, and spoil the times.
 */
EXN_API exn_status exn_cpu_tune(int32_t milliseconds, const char* path);

/* ---- memory and streams ---------------------------------------------------------------------- */

/**
 * Allocates device memory, aligned to at least 64 bytes; from 2 MiB on the CPU 2 MiB aligned with
 * transparent huge pages asked for, which makes reading weights 35-40 % faster where the system's
 * pages are small. `bytes` 0 gives a unique non-null pointer. `device_type` is kDLCPU or kDLCUDA.
 * During a capture (device.h) it allocates at once, records nothing and spoils no capture.
 */
EXN_API exn_status exn_alloc(int32_t device_type, int32_t device_id, size_t bytes, void** out);

/**
 * Frees memory of exn_alloc; NULL is ignored. On CUDA it waits for work queued on that device, and
 * spoils no capture; a graph that uses the memory must not be launched any more.
 */
EXN_API exn_status exn_free(int32_t device_type, int32_t device_id, void* pointer);

/**
 * Copies `bytes` bytes. CPU to CPU at once; with CUDA on one side in stream order: host memory must
 * stay alive until the stream got there. Pageable host memory makes the call synchronous, that of
 * exn_host_alloc (device.h) does not.
 */
EXN_API exn_status exn_copy(void* dst, int32_t dst_device_type, int32_t dst_device_id,
                            const void* src, int32_t src_device_type, int32_t src_device_id,
                            size_t bytes, exn_stream stream);

/** Creates a stream (CPU: *out = NULL, every run is synchronous). */
EXN_API exn_status exn_stream_create(int32_t device_type, int32_t device_id, exn_stream* out);

/** Destroys a stream of exn_stream_create; NULL is ignored. */
EXN_API exn_status exn_stream_destroy(int32_t device_type, int32_t device_id, exn_stream stream);

/** Waits until everything queued on the stream is done and reports what failed on the way. */
EXN_API exn_status exn_stream_synchronize(int32_t device_type, int32_t device_id,
                                          exn_stream stream);

/** Ways of exn_read_probe and exn_copy_probe to do the same; they are numbered from 0. */
#define EXN_READ_WAYS 6
#define EXN_COPY_WAYS 5

/**
 * Reads `bytes` bytes of CPU memory once with the widest loads of the instruction set in use and
 * the current thread count, and adds them up: the speed of light of a memory-bound kernel. Which
 * `way` is the fastest depends on the processor and on where the bytes are, so try all: 0 and 1
 * leave prefetching to the processor, in short and in long steps, 2 and 3 prefetch into L1, 4 and 5
 * into L2, from two distances each. *checksum receives a value that depends on every byte, and not
 * on the way. For benchmarks.
 */
EXN_API exn_status exn_read_probe(const void* data, size_t bytes, int32_t way, uint64_t* checksum);

/**
 * Copies `bytes` bytes of CPU memory once, linearly, as exn_read_probe reads them: the speed of
 * light of a kernel that moves what it reads. `way` 0 stores through the caches, the others past
 * them where the instruction set can do that, which is faster where what is written is not in them;
 * what is read is prefetched into L1 by 2, into L2 by 3, and several times by 4. The two blocks
 * must not overlap. For benchmarks.
 */
EXN_API exn_status exn_copy_probe(void* dst, const void* src, size_t bytes, int32_t way);

/**
 * Does `multiply_adds` f32 multiply-adds, rounded up to a multiple of at most 192, in registers,
 * with the widest vectors of the instruction set in use and the current thread count: the FMA peak,
 * the speed of light of a kernel that is bound by its arithmetic. Where the set has no FMA, as the
 * SSE2 baseline, each is a product and a sum. *done receives how many were done, counted by their
 * own results. For benchmarks.
 */
EXN_API exn_status exn_fma_probe(uint64_t multiply_adds, uint64_t* done);

#ifdef __cplusplus
}
#endif

#endif
