/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapping: files that are mapped for reading, and that somebody may cut meanwhile.
 *
 * Whoever reads a page of a mapping that its file no longer has gets SIGBUS, which ends the process.
 * Of a mapping that is guarded such a read finds zeros instead: the page and all behind it in the
 * mapping become zeros, private to this process, and exn_mapping_check says so from then on. So ops
 * go on without a notice, and their results mean nothing: check after a run, and before its results
 * are used.
 *
 * A guard is no copy. Bytes that are overwritten in the file change in the mapping; who has to know
 * compares the file's date.
 *
 * The first guard of a process installs a handler of SIGBUS, which stays. Of a mapping that is not
 * guarded, and for other reasons than a page that is not there, the handler calls the one that was
 * installed before it, a JVM's for instance, with what it was called with. A handler that somebody
 * installs later comes first, and should do the same.
 *
 * CPU only: the functions are no ops, may be called from any thread, and take a lock but for
 * exn_mapping_check.
 */
#ifndef EXEUNT_MAPPING_H
#define EXEUNT_MAPPING_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Guards the bytes from `begin` on, all of them pages of one file that are mapped for reading. The
 * pages' other bytes must belong to the same mapping. EXN_INVALID_ARGUMENT if begin is null, bytes 0
 * or past the end of memory, or some of them are guarded already; EXN_OUT_OF_MEMORY if there is no
 * memory to remember them; EXN_RUNTIME_FAILURE if no handler can be installed.
 */
EXN_API exn_status exn_mapping_guard(const void* begin, size_t bytes);

/**
 * EXN_OK if no read of the guarded mapping that begins at `begin` has found a page missing;
 * EXN_RUNTIME_FAILURE, with the first byte that was missing in exn_last_error(), if one has.
 * EXN_INVALID_ARGUMENT if no guarded mapping begins there. Takes nanoseconds.
 */
EXN_API exn_status exn_mapping_check(const void* begin);

/**
 * Guards the mapping that begins at `begin` no longer; before it is unmapped, and when no read of it
 * is going on. EXN_INVALID_ARGUMENT if no guarded mapping begins there.
 */
EXN_API exn_status exn_mapping_release(const void* begin);

#ifdef __cplusplus
}
#endif

#endif
