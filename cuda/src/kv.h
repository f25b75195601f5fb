// SPDX-License-Identifier: Apache-2.0
//
// From the seam's description of a KV cache to the device's.
#pragma once

#include <exeunt/cuda/kv.cuh>

#include "backend.h"

namespace exn::cuda {

inline KvLayout layout_of(const KvCache& cache) {
  KvLayout at;
  at.sequences = static_cast<int32_t>(cache.sequences);
  at.slots = static_cast<int32_t>(cache.slots);
  at.unit_stride = cache.blocks != nullptr ? cache.page_stride : cache.sequence_stride;
  at.head_stride = cache.head_stride;
  at.slot_stride = cache.slot_stride;
  at.blocks = cache.blocks;
  at.block_count = cache.block_count;
  at.pages = cache.pages;
  // A page larger than any slot's number only exists where there are no blocks.
  at.page = static_cast<int32_t>(cache.page < INT32_MAX ? cache.page : INT32_MAX);
  return at;
}

template <class T>
KvView<T> view_of(const KvCache& cache) {
  return {static_cast<T*>(cache.k), static_cast<T*>(cache.v), layout_of(cache)};
}

// A cache as it is moved, whatever it holds: offsets and strides in words.
template <class Word>
KvView<Word> words_of(const KvCache& cache) {
  const int64_t elements = static_cast<int64_t>(sizeof(Word)) / size_of(cache.dtype);
  KvView<Word> view = view_of<Word>(cache);
  view.at.unit_stride /= elements;
  view.at.head_stride /= elements;
  view.at.slot_stride /= elements;
  return view;
}

}  // namespace exn::cuda
