/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device: the work of streams recorded as graphs and launched again, points in it that hosts and
 * other streams wait for, and host memory that copies reach without waiting.
 *
 * A decode step is a hundred small kernels whose grids and decisions do not depend on the host, so
 * it can be captured once and launched as a whole for each token:
 *
 *   exn_graph_begin(kDLCUDA, 0, stream);
 *   exn_exit_head(&head, ...stream); exn_exit_rule(&rule, ...stream);  // recorded, not run
 *   exn_copy(decision, kDLCPU, 0, exits, kDLCUDA, 0, 4, stream);       // into exn_host_alloc's
 *   exn_graph_end(kDLCUDA, 0, stream, &step);
 *   for each token: exn_graph_launch(kDLCUDA, 0, step, stream);
 *                   exn_event_record(kDLCUDA, 0, done, stream);        // and queue what follows
 *                   exn_event_synchronize(kDLCUDA, 0, done);           // then read `decision`
 *
 * `device_type` and `device_id` are those of the stream, as everywhere. On the CPU every run has
 * finished when its call returns: there are no graphs (EXN_UNSUPPORTED), events are reached when
 * they are recorded, and host memory is exn_alloc's.
 *
 * CUDA contexts. Calls run in the context that is current in the calling thread if it is one of the
 * device, however it was made (cuCtxCreate included), else in the device's primary context, as the
 * CUDA runtime does; streams, events, graphs and memory belong to that context. With several
 * devices, and a context of your own, make one of the tensors' device current first: a call that
 * has to change devices leaves the primary context of the former one current.
 */
#ifndef EXEUNT_DEVICE_H
#define EXEUNT_DEVICE_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- graphs ---------------------------------------------------------------------------------- */

/** What was captured, ready to be launched: a cudaGraphExec_t. */
typedef void* exn_graph;

/**
 * From here on, what is queued on the stream is recorded instead of run, until exn_graph_end or
 * exn_graph_abort, which this thread must call. Streams that wait for an event of the capture
 * (exn_stream_wait) take part in it, and this one has to wait for them before the end.
 *
 * The capture is local to the thread: others may allocate, free and synchronise meanwhile. This one
 * may allocate and free as well, at once and unrecorded; what it must not do is wait for a stream
 * of the capture or ask one of its events, which spoils the capture. An op or a copy that is
 * refused records nothing and spoils nothing.
 *
 * Run an op once before it is captured: CUDA loads the code of a kernel when it is first launched.
 *
 * EXN_INVALID_ARGUMENT: the stream is the default stream, which cannot be captured, or is being
 * captured. EXN_UNSUPPORTED on the CPU.
 */
EXN_API exn_status exn_graph_begin(int32_t device_type, int32_t device_id, exn_stream stream);

/**
 * Ends the capture that was begun on the stream, and makes a graph of it. Whatever is returned, but
 * for EXN_INVALID_ARGUMENT, the stream runs again what is queued on it, and *out is written only
 * with EXN_OK.
 *
 * EXN_INVALID_ARGUMENT: the stream is not being captured, another thread began it, or it takes part
 * in another stream's. EXN_RUNTIME_FAILURE: the capture was spoilt, or streams are left for which
 * this one does not wait.
 */
EXN_API exn_status exn_graph_end(int32_t device_type, int32_t device_id, exn_stream stream,
                                 exn_graph* out);

/**
 * Ends the capture that was begun on the stream, spoilt or not, and forgets it; nothing if the
 * stream is not being captured. EXN_INVALID_ARGUMENT as exn_graph_end.
 */
EXN_API exn_status exn_graph_abort(int32_t device_type, int32_t device_id, exn_stream stream);

/**
 * Queues all that was captured on the stream, which need not be that of the capture. Addresses,
 * shapes and numbers are those of the capture: tensors, workspaces and host memory must still be
 * there, and what they hold is read now. Launches of one graph run one after the other.
 */
EXN_API exn_status exn_graph_launch(int32_t device_type, int32_t device_id, exn_graph graph,
                                    exn_stream stream);

/** Destroys a graph of exn_graph_end; NULL is ignored. Launches that are queued still complete. */
EXN_API exn_status exn_graph_destroy(int32_t device_type, int32_t device_id, exn_graph graph);

/* ---- events ---------------------------------------------------------------------------------- */

/** A point in the work of a stream: a cudaEvent_t. */
typedef void* exn_event;

/** Creates an event that was never recorded, which counts as reached. */
EXN_API exn_status exn_event_create(int32_t device_type, int32_t device_id, exn_event* out);

/** Destroys an event of exn_event_create; NULL is ignored. */
EXN_API exn_status exn_event_destroy(int32_t device_type, int32_t device_id, exn_event event);

/**
 * The event stands from here on for all that is queued on the stream so far. In a capture it is a
 * point of the graph, for exn_stream_wait alone.
 */
EXN_API exn_status exn_event_record(int32_t device_type, int32_t device_id, exn_event event,
                                    exn_stream stream);

/**
 * What is queued on the stream from here on waits for the event, as it was recorded last. The host
 * does not wait. The event may be another CUDA device's.
 */
EXN_API exn_status exn_stream_wait(int32_t device_type, int32_t device_id, exn_stream stream,
                                   exn_event event);

/** *reached: 1 if the work that the event stands for is done, else 0; does not wait. */
EXN_API exn_status exn_event_query(int32_t device_type, int32_t device_id, exn_event event,
                                   int32_t* reached);

/** Waits until the work that the event stands for is done, and reports what failed on the way. */
EXN_API exn_status exn_event_synchronize(int32_t device_type, int32_t device_id, exn_event event);

/**
 * Waits for both, and gives the time from one to the other, in milliseconds; CUDA resolves about
 * half a microsecond. EXN_INVALID_ARGUMENT: one of them was never recorded.
 */
EXN_API exn_status exn_event_elapsed(int32_t device_type, int32_t device_id, exn_event start,
                                     exn_event end, float* milliseconds);

/* ---- host memory ----------------------------------------------------------------------------- */

/**
 * Allocates host memory, aligned to at least 64 bytes, that copies to and from the device reach in
 * the stream's order, while pageable memory makes exn_copy wait. It is CPU memory to all else:
 * tensors there have device kDLCPU. It is pinned, so take little. `bytes` 0 gives a unique non-null
 * pointer.
 */
EXN_API exn_status exn_host_alloc(int32_t device_type, int32_t device_id, size_t bytes, void** out);

/** Frees memory of exn_host_alloc; NULL is ignored. Copies that use it must be done. */
EXN_API exn_status exn_host_free(int32_t device_type, int32_t device_id, void* pointer);

#ifdef __cplusplus
}
#endif

#endif
