// SPDX-License-Identifier: Apache-2.0
// What a backend does for device.h: one function for each of its own, with sound arguments.
#pragma once

#include <exeunt/device.h>

namespace exn {

struct DeviceCalls {
  exn_status (*graph_begin)(int32_t device, exn_stream stream);
  exn_status (*graph_end)(int32_t device, exn_stream stream, exn_graph* out);
  exn_status (*graph_abort)(int32_t device, exn_stream stream);
  exn_status (*graph_launch)(int32_t device, exn_graph graph, exn_stream stream);
  exn_status (*graph_destroy)(int32_t device, exn_graph graph);

  exn_status (*event_create)(int32_t device, exn_event* out);
  exn_status (*event_destroy)(int32_t device, exn_event event);
  exn_status (*event_record)(int32_t device, exn_event event, exn_stream stream);
  exn_status (*event_wait)(int32_t device, exn_stream stream, exn_event event);
  exn_status (*event_query)(int32_t device, exn_event event, int32_t* reached);
  exn_status (*event_synchronize)(int32_t device, exn_event event);
  exn_status (*event_elapsed)(int32_t device, exn_event start, exn_event end, float* milliseconds);

  exn_status (*host_alloc)(int32_t device, size_t bytes, void** out);
  exn_status (*host_free)(int32_t device, void* pointer);
};

}  // namespace exn
