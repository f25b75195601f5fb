// SPDX-License-Identifier: Apache-2.0
//
// What of the kernels' traffic a cache lets through to memory, told from what was requested.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace simt {

struct SectorTag {
  uint64_t filled = 0;   // when the sector last came into the cache; 0: never
  uint64_t written = 0;  // `filled` of the stay during which it was last written to
};

// A cache that keeps the sectors which came in last, replaced first in, first out. A sector that is
// written to is counted once for each stay, for its way back; none is fetched to be written to.
// Partly used sectors count in full.
class CacheModel {
 public:
  void access(SectorTag* tag, bool write, uint64_t capacity_sectors);
  void empty() { emptied_ = clock_; }
  uint64_t bytes() const { return bytes_; }
  void reset() {
    empty();
    bytes_ = 0;
  }

 private:
  uint64_t clock_ = 0;  // sectors that have come in
  uint64_t emptied_ = 0;
  uint64_t bytes_ = 0;
};

// The tags of one allocation.
struct SectorTags {
  std::vector<SectorTag> kept;        // of a cache that lasts from launch to launch
  std::vector<SectorTag> per_launch;  // of one without limit, empty at each launch

  explicit SectorTags(size_t bytes);
};

// Both caches see this access.
void follow_access(SectorTags* tags, size_t offset, size_t size, bool write);
void begin_traffic_launch();
void reset_traffic();
uint64_t bytes_past_cache();
uint64_t bytes_first_touched();

}  // namespace simt
