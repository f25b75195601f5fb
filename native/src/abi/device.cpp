// SPDX-License-Identifier: Apache-2.0
// The functions of device.h: checks once for all backends.
#include "backends.h"

namespace exn {
namespace {

// Calls f(the backend's functions) after the checks that all share.
template <class F>
exn_status call(const char* function, int32_t device_type, int32_t device_id, F&& f) {
  const Backend* backend = nullptr;
  const exn_status status = device_backend(function, device_type, device_id, &backend);
  return status != EXN_OK ? status : f(*backend->calls);
}

// What a pointer of a call has to be.
struct Wanted {
  const char* name;
  const void* pointer;
  const char* what;
};

constexpr const char* kGraph = "a graph of exn_graph_end";
constexpr const char* kEvent = "an event of exn_event_create";
constexpr const char* kPlace = "a place for the result";

// The same, after those pointers were looked at.
template <class F>
exn_status call(const char* function, int32_t device_type, int32_t device_id,
                std::initializer_list<Wanted> wanted, F&& f) {
  for (const Wanted& w : wanted) {
    if (w.pointer == nullptr) {
      return fail(EXN_INVALID_ARGUMENT, "%s: %s is null, %s is required", function, w.name, w.what);
    }
  }
  return call(function, device_type, device_id, f);
}

}  // namespace
}  // namespace exn

using exn::DeviceCalls;

extern "C" {

exn_status exn_graph_begin(int32_t device_type, int32_t device_id, exn_stream stream) {
  return exn::call("exn_graph_begin", device_type, device_id,
                   [&](const DeviceCalls& calls) { return calls.graph_begin(device_id, stream); });
}

exn_status exn_graph_end(int32_t device_type, int32_t device_id, exn_stream stream,
                         exn_graph* out) {
  return exn::call(
      "exn_graph_end", device_type, device_id, {{"out", out, exn::kPlace}},
      [&](const DeviceCalls& calls) { return calls.graph_end(device_id, stream, out); });
}

exn_status exn_graph_abort(int32_t device_type, int32_t device_id, exn_stream stream) {
  return exn::call("exn_graph_abort", device_type, device_id,
                   [&](const DeviceCalls& calls) { return calls.graph_abort(device_id, stream); });
}

exn_status exn_graph_launch(int32_t device_type, int32_t device_id, exn_graph graph,
                            exn_stream stream) {
  return exn::call(
      "exn_graph_launch", device_type, device_id, {{"graph", graph, exn::kGraph}},
      [&](const DeviceCalls& calls) { return calls.graph_launch(device_id, graph, stream); });
}

exn_status exn_graph_destroy(int32_t device_type, int32_t device_id, exn_graph graph) {
  if (graph == nullptr) return EXN_OK;
  return exn::call("exn_graph_destroy", device_type, device_id,
                   [&](const DeviceCalls& calls) { return calls.graph_destroy(device_id, graph); });
}

exn_status exn_event_create(int32_t device_type, int32_t device_id, exn_event* out) {
  return exn::call("exn_event_create", device_type, device_id, {{"out", out, exn::kPlace}},
                   [&](const DeviceCalls& calls) { return calls.event_create(device_id, out); });
}

exn_status exn_event_destroy(int32_t device_type, int32_t device_id, exn_event event) {
  if (event == nullptr) return EXN_OK;
  return exn::call("exn_event_destroy", device_type, device_id,
                   [&](const DeviceCalls& calls) { return calls.event_destroy(device_id, event); });
}

exn_status exn_event_record(int32_t device_type, int32_t device_id, exn_event event,
                            exn_stream stream) {
  return exn::call(
      "exn_event_record", device_type, device_id, {{"event", event, exn::kEvent}},
      [&](const DeviceCalls& calls) { return calls.event_record(device_id, event, stream); });
}

exn_status exn_stream_wait(int32_t device_type, int32_t device_id, exn_stream stream,
                           exn_event event) {
  return exn::call(
      "exn_stream_wait", device_type, device_id, {{"event", event, exn::kEvent}},
      [&](const DeviceCalls& calls) { return calls.event_wait(device_id, stream, event); });
}

exn_status exn_event_query(int32_t device_type, int32_t device_id, exn_event event,
                           int32_t* reached) {
  return exn::call(
      "exn_event_query", device_type, device_id,
      {{"event", event, exn::kEvent}, {"reached", reached, exn::kPlace}},
      [&](const DeviceCalls& calls) { return calls.event_query(device_id, event, reached); });
}

exn_status exn_event_synchronize(int32_t device_type, int32_t device_id, exn_event event) {
  return exn::call(
      "exn_event_synchronize", device_type, device_id, {{"event", event, exn::kEvent}},
      [&](const DeviceCalls& calls) { return calls.event_synchronize(device_id, event); });
}

exn_status exn_event_elapsed(int32_t device_type, int32_t device_id, exn_event start, exn_event end,
                             float* milliseconds) {
  return exn::call("exn_event_elapsed", device_type, device_id,
                   {{"start", start, exn::kEvent},
                    {"end", end, exn::kEvent},
                    {"milliseconds", milliseconds, exn::kPlace}},
                   [&](const DeviceCalls& calls) {
                     return calls.event_elapsed(device_id, start, end, milliseconds);
                   });
}

exn_status exn_host_alloc(int32_t device_type, int32_t device_id, size_t bytes, void** out) {
  return exn::call("exn_host_alloc", device_type, device_id, {{"out", out, exn::kPlace}},
                   [&](const DeviceCalls& calls) {
                     return calls.host_alloc(device_id, bytes == 0 ? 1 : bytes, out);
                   });
}

exn_status exn_host_free(int32_t device_type, int32_t device_id, void* pointer) {
  if (pointer == nullptr) return EXN_OK;
  return exn::call("exn_host_free", device_type, device_id,
                   [&](const DeviceCalls& calls) { return calls.host_free(device_id, pointer); });
}

}  // extern "C"
