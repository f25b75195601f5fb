// SPDX-License-Identifier: Apache-2.0
//
// Streams, events, captures and graphs. Work runs at once, in the order of the calls, which is one
// of the orders CUDA allows whatever the streams are.
#include <algorithm>
#include <chrono>
#include <mutex>
#include <set>

#include "runtime_state.h"
#include "scheduler.h"

struct CUstream_st {
  unsigned flags = cudaStreamDefault;
  const void* context = nullptr;  // that it was made in
  std::shared_ptr<simt::Capture> capture;
  bool has_unjoined_work = false;  // captured work that the origin does not wait for yet
};

struct CUevent_st {
  unsigned flags = cudaEventDefault;
  bool recorded = false;
  std::chrono::steady_clock::time_point time;
  // While its last record is part of a capture:
  std::weak_ptr<simt::Capture> capture;
  cudaStream_t captured_on = nullptr;
};

struct CUgraphExec_st {
  std::vector<simt::Action> actions;
};

namespace simt {
namespace {

unsigned long long next_capture_id = 1;

std::set<cudaStream_t>& streams() {
  static std::set<cudaStream_t> instance;
  return instance;
}

std::vector<std::shared_ptr<Capture>>& captures() {
  static std::vector<std::shared_ptr<Capture>> instance;
  return instance;
}

bool is_default_stream(cudaStream_t stream) {
  return stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread;
}

// Whether the calling thread must not make an unsafe call because of this capture.
bool forbids_unsafe_calls(const Capture& capture) {
  const bool is_own = capture.owner == std::this_thread::get_id();
  switch (this_host_thread().capture_mode) {
    case cudaStreamCaptureModeGlobal:
      return (is_own && capture.mode != cudaStreamCaptureModeRelaxed) ||
             capture.mode == cudaStreamCaptureModeGlobal;
    case cudaStreamCaptureModeThreadLocal:
      return is_own && capture.mode != cudaStreamCaptureModeRelaxed;
    default:
      return false;
  }
}

// Work on the legacy stream would have to wait for every blocking stream that is being captured.
bool depends_on_capturing_stream(cudaStream_t stream) {
  if (stream != nullptr && stream != cudaStreamLegacy) return false;
  return std::any_of(streams().begin(), streams().end(), [](cudaStream_t other) {
    return other->capture != nullptr && (other->flags & cudaStreamNonBlocking) == 0;
  });
}

void invalidate_blocking_captures() {
  for (cudaStream_t stream : streams()) {
    if (stream->capture != nullptr && (stream->flags & cudaStreamNonBlocking) == 0) {
      stream->capture->invalidated = true;
    }
  }
}

void run(const std::vector<Action>& actions) {
  for (const Action& action : actions) action();
}

// Ends the capture on all its streams; true if work was left that the origin does not wait for.
bool detach_streams(const Capture* capture) {
  bool unjoined = false;
  for (cudaStream_t stream : streams()) {
    if (stream->capture.get() != capture) continue;
    unjoined |= stream->has_unjoined_work && stream != capture->origin;
    stream->capture.reset();
    stream->has_unjoined_work = false;
  }
  auto& all = captures();
  all.erase(std::remove_if(all.begin(), all.end(),
                           [capture](const auto& other) { return other.get() == capture; }),
            all.end());
  return unjoined;
}

}  // namespace

bool is_valid_stream(cudaStream_t stream) {
  return is_default_stream(stream) || streams().count(stream) != 0;
}

std::shared_ptr<Capture> capture_of(cudaStream_t stream) {
  return is_default_stream(stream) ? nullptr : stream->capture;
}

cudaError_t submit(cudaStream_t stream, Action action) {
  if (const cudaError_t error = context_error()) return error;
  if (!is_valid_stream(stream)) return cudaErrorInvalidResourceHandle;
  if (!is_default_stream(stream) && stream->context != this_host_thread().context) {
    return cudaErrorInvalidResourceHandle;
  }
  if (const std::shared_ptr<Capture> capture = capture_of(stream)) {
    if (capture->invalidated) return cudaErrorStreamCaptureInvalidated;
    capture->actions.push_back(std::move(action));
    stream->has_unjoined_work = true;
    return cudaSuccess;
  }
  if (depends_on_capturing_stream(stream)) {
    invalidate_blocking_captures();
    return cudaErrorStreamCaptureImplicit;
  }
  action();
  return cudaSuccess;
}

cudaError_t check_unsafe_call() {
  bool forbidden = false;
  for (const auto& capture : captures()) {
    if (!forbids_unsafe_calls(*capture)) continue;
    capture->invalidated = true;
    forbidden = true;
  }
  return forbidden ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

cudaError_t check_not_capturing(cudaStream_t stream) {
  const std::shared_ptr<Capture> capture = capture_of(stream);
  if (capture == nullptr) return cudaSuccess;
  capture->invalidated = true;
  return cudaErrorStreamCaptureUnsupported;
}

}  // namespace simt

using simt::fail;
using Lock = std::lock_guard<std::mutex>;

// ---- streams ------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const Lock lock(simt::runtime_mutex());
  if (const cudaError_t error = simt::context_error()) return fail(error);
  *stream = new CUstream_st;
  (*stream)->flags = flags;
  (*stream)->context = simt::this_host_thread().context;
  simt::streams().insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Lock lock(simt::runtime_mutex());
  if (simt::streams().count(stream) == 0) return fail(cudaErrorInvalidResourceHandle);
  if (const auto capture = simt::capture_of(stream)) {
    if (capture->origin == stream) simt::detach_streams(capture.get());
  }
  simt::streams().erase(stream);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(simt::runtime_mutex());
  if (!simt::is_valid_stream(stream)) return fail(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = simt::check_not_capturing(stream)) return fail(error);
  return fail(simt::context_error());
}

cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }

// ---- events -------------------------------------------------------------------------------------

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st;
  (*event)->flags = flags;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(simt::runtime_mutex());
  if (!simt::is_valid_stream(stream)) return fail(cudaErrorInvalidResourceHandle);
  if (const auto capture = simt::capture_of(stream)) {
    event->capture = capture;
    event->captured_on = stream;
    return cudaSuccess;
  }
  event->capture.reset();
  event->captured_on = nullptr;
  event->recorded = true;
  event->time = std::chrono::steady_clock::now();
  return fail(simt::context_error());
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Lock lock(simt::runtime_mutex());
  if (!simt::is_valid_stream(stream)) return fail(cudaErrorInvalidResourceHandle);
  const auto capture = event->capture.lock();
  if (capture == nullptr) return cudaSuccess;
  if (simt::is_default_stream(stream)) return fail(cudaErrorStreamCaptureImplicit);
  if (stream->capture == nullptr) stream->capture = capture;
  if (stream->capture != capture) return fail(cudaErrorStreamCaptureMerge);
  if (event->captured_on != nullptr && simt::streams().count(event->captured_on) != 0) {
    // The waiting stream answers for the work from here on.
    if (event->captured_on != stream) {
      stream->has_unjoined_work |= event->captured_on->has_unjoined_work;
      event->captured_on->has_unjoined_work = false;
    }
  }
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(simt::runtime_mutex());
  if (const auto capture = event->capture.lock()) {
    capture->invalidated = true;
    return fail(cudaErrorCapturedEvent);
  }
  return fail(simt::context_error());
}

cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const Lock lock(simt::runtime_mutex());
  if (!start->recorded || !end->recorded) return fail(cudaErrorInvalidResourceHandle);
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return fail(simt::context_error());
}

// ---- captures and graphs ------------------------------------------------------------------------

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  const Lock lock(simt::runtime_mutex());
  std::swap(*mode, simt::this_host_thread().capture_mode);
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const Lock lock(simt::runtime_mutex());
  if (!simt::is_valid_stream(stream)) return fail(cudaErrorInvalidResourceHandle);
  if (simt::is_default_stream(stream)) return fail(cudaErrorStreamCaptureUnsupported);
  if (stream->capture != nullptr) return fail(cudaErrorIllegalState);
  auto capture = std::make_shared<simt::Capture>();
  capture->mode = mode;
  capture->owner = std::this_thread::get_id();
  capture->origin = stream;
  capture->id = simt::next_capture_id++;
  stream->capture = capture;
  simt::captures().push_back(std::move(capture));
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Lock lock(simt::runtime_mutex());
  *graph = nullptr;
  if (!simt::is_valid_stream(stream)) return fail(cudaErrorInvalidResourceHandle);
  const auto capture = simt::capture_of(stream);
  if (capture == nullptr) return fail(cudaErrorIllegalState);
  if (capture->origin != stream) return fail(cudaErrorStreamCaptureUnmatched);
  if (capture->mode != cudaStreamCaptureModeRelaxed &&
      capture->owner != std::this_thread::get_id()) {
    return fail(cudaErrorStreamCaptureWrongThread);
  }
  const bool unjoined = simt::detach_streams(capture.get());
  if (capture->invalidated) return fail(cudaErrorStreamCaptureInvalidated);
  if (unjoined) return fail(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{capture->actions};
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const Lock lock(simt::runtime_mutex());
  if (!simt::is_valid_stream(stream)) return fail(cudaErrorInvalidResourceHandle);
  const auto capture = simt::capture_of(stream);
  if (capture == nullptr) {
    if (simt::depends_on_capturing_stream(stream)) return fail(cudaErrorStreamCaptureImplicit);
    *status = cudaStreamCaptureStatusNone;
  } else {
    *status =
        capture->invalidated ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
  }
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = new CUgraphExec_st{graph->actions};
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph,
                                          unsigned long long flags) {
  return cudaGraphInstantiate(executable, graph, flags);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const Lock lock(simt::runtime_mutex());
  return fail(simt::submit(stream, [actions = executable->actions] { simt::run(actions); }));
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  const Lock lock(simt::runtime_mutex());
  if (nodes != nullptr) return fail(cudaErrorNotSupported);
  *count = graph->actions.size();
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
