// SPDX-License-Identifier: Apache-2.0
//
// Graphs, events and host memory.
#include "device.h"

#include <cstdio>

#include "backend.h"
#include "capture.h"

namespace exn::cuda {
namespace {

cudaGraphExec_t graph_of(exn_graph graph) { return static_cast<cudaGraphExec_t>(graph); }

cudaEvent_t event_of(exn_event event) { return static_cast<cudaEvent_t>(event); }

// Takes an error for what the caller did wrong.
exn_status refuse(const char* sentence) {
  cudaGetLastError();  // consumed here, as in check()
  return fail(EXN_INVALID_ARGUMENT, sentence);
}

exn_status refuse_stream(const char* function, exn_stream stream, const char* why) {
  char sentence[200];
  std::snprintf(sentence, sizeof sentence, "%s: stream %p %s", function, stream, why);
  return refuse(sentence);
}

// Whether the stream is being captured, spoilt or not.
exn_status is_capturing(exn_stream stream, bool* capturing) {
  cudaStreamCaptureStatus state = cudaStreamCaptureStatusNone;
  const exn_status status =
      check(cudaStreamIsCapturing(stream_of(stream), &state), "cudaStreamIsCapturing");
  *capturing = state != cudaStreamCaptureStatusNone;
  return status;
}

exn_status graph_begin(int32_t device, exn_stream stream) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  if (stream == nullptr) {
    return refuse("exn_graph_begin: stream is null, the default stream, which cannot be captured; "
                  "exn_stream_create makes one that can");
  }
  bool capturing = false;
  const exn_status status = is_capturing(stream, &capturing);
  if (status != EXN_OK) return status;
  if (capturing) return refuse_stream("exn_graph_begin", stream, "is being captured already");
  return check(cudaStreamBeginCapture(stream_of(stream), cudaStreamCaptureModeThreadLocal),
               "cudaStreamBeginCapture");
}

// Ends a capture; *graph is null unless it ended well. EXN_INVALID_ARGUMENT: it did not end.
exn_status end_capture(const char* function, exn_stream stream, cudaGraph_t* graph) {
  *graph = nullptr;
  const cudaError_t error = cudaStreamEndCapture(stream_of(stream), graph);
  switch (error) {
    case cudaErrorStreamCaptureWrongThread:
      return refuse_stream(function, stream,
                           "is being captured by another thread, which alone can end that");
    case cudaErrorStreamCaptureUnmatched:
      return refuse_stream(function, stream,
                           "takes part in a capture that was begun on another stream");
    default:
      return check(error, "cudaStreamEndCapture");
  }
}

void destroy(cudaGraph_t graph) {
  if (graph != nullptr && cudaGraphDestroy(graph) != cudaSuccess) cudaGetLastError();
}

exn_status graph_end(int32_t device, exn_stream stream, exn_graph* out) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  bool capturing = false;
  exn_status status = stream == nullptr ? EXN_OK : is_capturing(stream, &capturing);
  if (status != EXN_OK) return status;
  if (!capturing) {
    return refuse_stream("exn_graph_end", stream,
                         "is not being captured, exn_graph_begin comes first");
  }
  cudaGraph_t graph = nullptr;
  status = end_capture("exn_graph_end", stream, &graph);
  cudaGraphExec_t executable = nullptr;
  if (status == EXN_OK) {
    const BesideCaptures allocating;
    status = check(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  }
  destroy(graph);
  if (status == EXN_OK) *out = executable;
  return status;
}

exn_status graph_abort(int32_t device, exn_stream stream) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  bool capturing = false;
  exn_status status = stream == nullptr ? EXN_OK : is_capturing(stream, &capturing);
  if (status != EXN_OK || !capturing) return status;
  cudaGraph_t graph = nullptr;
  status = end_capture("exn_graph_abort", stream, &graph);
  destroy(graph);
  // That it was spoilt, or streams did not join, is no news to a caller that gives it up.
  return status == EXN_RUNTIME_FAILURE ? EXN_OK : status;
}

exn_status graph_launch(int32_t device, exn_graph graph, exn_stream stream) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  return check(cudaGraphLaunch(graph_of(graph), stream_of(stream)), "cudaGraphLaunch");
}

exn_status graph_destroy(int32_t device, exn_graph graph) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  const BesideCaptures freeing;
  return check(cudaGraphExecDestroy(graph_of(graph)), "cudaGraphExecDestroy");
}

exn_status event_create(int32_t device, exn_event* out) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  cudaEvent_t event = nullptr;
  const exn_status status =
      check(cudaEventCreateWithFlags(&event, cudaEventDefault), "cudaEventCreate");
  if (status == EXN_OK) *out = event;
  return status;
}

exn_status event_destroy(int32_t device, exn_event event) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  return check(cudaEventDestroy(event_of(event)), "cudaEventDestroy");
}

exn_status event_record(int32_t device, exn_event event, exn_stream stream) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  return check(cudaEventRecord(event_of(event), stream_of(stream)), "cudaEventRecord");
}

exn_status event_wait(int32_t device, exn_stream stream, exn_event event) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  return check(cudaStreamWaitEvent(stream_of(stream), event_of(event), 0), "cudaStreamWaitEvent");
}

// An event of a capture that the host asks for stands for no work that was ever queued.
exn_status reached(cudaError_t error, const char* function, const char* what) {
  if (error != cudaErrorCapturedEvent) return check(error, what);
  char sentence[160];
  std::snprintf(sentence, sizeof sentence,
                "%s: the event was recorded in a capture last, where only streams can wait for it",
                function);
  return refuse(sentence);
}

exn_status event_query(int32_t device, exn_event event, int32_t* is_reached) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  const cudaError_t error = cudaEventQuery(event_of(event));
  if (error == cudaErrorNotReady) {
    cudaGetLastError();  // an answer, not a failure
    *is_reached = 0;
    return EXN_OK;
  }
  const exn_status status = reached(error, "exn_event_query", "cudaEventQuery");
  if (status == EXN_OK) *is_reached = 1;
  return status;
}

exn_status event_synchronize(int32_t device, exn_event event) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  return reached(cudaEventSynchronize(event_of(event)), "exn_event_synchronize",
                 "cudaEventSynchronize");
}

exn_status event_elapsed(int32_t device, exn_event start, exn_event end, float* milliseconds) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  for (const exn_event event : {start, end}) {
    const exn_status status =
        reached(cudaEventSynchronize(event_of(event)), "exn_event_elapsed", "cudaEventSynchronize");
    if (status != EXN_OK) return status;
  }
  float elapsed = 0;
  const cudaError_t error = cudaEventElapsedTime(&elapsed, event_of(start), event_of(end));
  if (error == cudaErrorInvalidResourceHandle) {
    return refuse("exn_event_elapsed: start or end was never recorded");
  }
  const exn_status status = check(error, "cudaEventElapsedTime");
  if (status == EXN_OK) *milliseconds = elapsed;
  return status;
}

exn_status host_alloc(int32_t device, size_t bytes, void** out) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  const BesideCaptures allocating;
  void* memory = nullptr;
  const cudaError_t error = cudaHostAlloc(&memory, bytes, cudaHostAllocPortable);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    char sentence[96];
    std::snprintf(sentence, sizeof sentence, "exn_host_alloc: %zu bytes cannot be pinned", bytes);
    return fail(EXN_OUT_OF_MEMORY, sentence);
  }
  const exn_status status = check(error, "cudaHostAlloc");
  if (status == EXN_OK) *out = memory;
  return status;
}

exn_status host_free(int32_t device, void* pointer) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  const BesideCaptures freeing;
  return check(cudaFreeHost(pointer), "cudaFreeHost");
}

}  // namespace

const DeviceCalls kDeviceCalls = {graph_begin,   graph_end,    graph_abort,       graph_launch,
                                  graph_destroy, event_create, event_destroy,     event_record,
                                  event_wait,    event_query,  event_synchronize, event_elapsed,
                                  host_alloc,    host_free};

}  // namespace exn::cuda
