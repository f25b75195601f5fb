// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/draft_lookup.cuh>

#include "backend.h"
#include "base/args/draft_lookup.h"

namespace exn::cuda {

static_assert(kLookupMost == EXN_LOOKUP_MOST, "tokens that are compared");

exn_status draft_lookup(const DraftLookupArgs& args, Workspace& workspace, exn_stream stream) {
  if (workspace.counting()) return EXN_OK;
  DraftLookupTask task;
  task.sequences = args.sequences;
  task.capacity = args.capacity;
  task.stride = args.stride;
  task.width = args.width;
  task.most = args.most;
  task.context = args.context;
  task.length = args.length;
  task.append = args.append;
  task.append_count = args.append_count;
  task.active = args.active;
  task.limit = args.limit;
  task.drafted = args.drafted;
  task.draft_length = args.draft_length;
  task.matched = args.matched;
  task.min_ngram = args.min_ngram;
  task.max_ngram = args.max_ngram;
  task.most_matched = args.most_matched;
  return run_on(args, "draft_lookup_kernel", [&] {
    if (task.sequences == 0) return;
    EXN_LAUNCH(draft_lookup_kernel, grid_for(task.sequences), kLookupThreads, 0, stream_of(stream),
               task);
  });
}

}  // namespace exn::cuda
