// SPDX-License-Identifier: Apache-2.0
#include "cache_model.h"

#include "config.h"

namespace simt {
namespace {

constexpr size_t kSector = 32;

struct Models {
  CacheModel kept;
  CacheModel per_launch;
};

Models& models() {
  static Models instance;
  return instance;
}

}  // namespace

void CacheModel::access(SectorTag* tag, bool write, uint64_t capacity_sectors) {
  const bool hit = tag->filled > emptied_ && clock_ - tag->filled < capacity_sectors;
  if (!hit) tag->filled = ++clock_;
  if (write) {
    if (tag->written == tag->filled) return;
    tag->written = tag->filled;
  } else if (hit) {
    return;
  }
  bytes_ += kSector;
}

SectorTags::SectorTags(size_t bytes)
    : kept((bytes + kSector - 1) / kSector), per_launch(kept.size()) {}

void follow_access(SectorTags* tags, size_t offset, size_t size, bool write) {
  const uint64_t capacity = config().l2_bytes / kSector;
  for (size_t sector = offset / kSector; sector * kSector < offset + size; ++sector) {
    models().kept.access(&tags->kept[sector], write, capacity);
    models().per_launch.access(&tags->per_launch[sector], write, UINT64_MAX);
  }
}

void begin_traffic_launch() { models().per_launch.empty(); }

void reset_traffic() {
  models().kept.reset();
  models().per_launch.reset();
}

uint64_t bytes_past_cache() { return models().kept.bytes(); }
uint64_t bytes_first_touched() { return models().per_launch.bytes(); }

}  // namespace simt
