// SPDX-License-Identifier: Apache-2.0
//
// Shadow memory: who last wrote and who last read each byte.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace simt {

constexpr uint32_t kNobody = 0xffffffffu;

struct AccessRecord {
  uint32_t block = kNobody;
  uint32_t barrier_epoch = 0;
  uint32_t lane_clock = 0;
  uint32_t warp_epoch = 0;
  uint16_t thread = 0;
  bool atomic = false;
  bool many_lanes = false;  // readers: another lane of the warp has read since the last barrier
  bool many_warps = false;  // readers: another warp has
  const char* file = nullptr;
  int line = 0;
  const void* pc = nullptr;
};

struct ShadowCell {
  AccessRecord writer;
  AccessRecord reader;
  bool initialised = false;
};

// Cells for a range of bytes, created page by page. A page's cells cover 16 bytes each until a
// smaller or misaligned access asks for finer ones.
class Shadow {
 public:
  explicit Shadow(size_t size) : pages_((size + kPageSize - 1) / kPageSize) {}

  // Calls `visit(cell, offset)` for each cell that overlaps [offset, offset + size).
  template <class Visit>
  void for_each(size_t offset, size_t size, Visit visit) {
    const size_t end = offset + size;
    while (offset < end) {
      const size_t page_end = (offset / kPageSize + 1) * kPageSize;
      const size_t stop = end < page_end ? end : page_end;
      Page& page = refined_page(offset, stop - offset);
      const size_t step = size_t{1} << page.log2_cell;
      for (size_t at = offset; at < stop; at += step) {
        visit(page.cells[at % kPageSize >> page.log2_cell], at);
      }
      offset = stop;
    }
  }

 private:
  static constexpr size_t kPageSize = 1024;
  static constexpr unsigned kCoarsest = 4;

  struct Page {
    unsigned log2_cell = kCoarsest;
    std::vector<ShadowCell> cells;
  };

  // The widest cell that an access neither starts nor ends in the middle of.
  static unsigned widest_cell(size_t offset, size_t size) {
    const auto lowest_bit = static_cast<unsigned>(__builtin_ctzll(offset | size | 16));
    return lowest_bit;
  }

  Page& refined_page(size_t offset, size_t size) {
    std::unique_ptr<Page>& slot = pages_[offset / kPageSize];
    const unsigned wanted = widest_cell(offset, size);
    if (slot == nullptr) {
      slot = std::make_unique<Page>();
      slot->log2_cell = wanted;
      slot->cells.resize(kPageSize >> wanted);
    } else if (wanted < slot->log2_cell) {
      split(slot.get(), wanted);
    }
    return *slot;
  }

  static void split(Page* page, unsigned wanted) {
    const unsigned shift = page->log2_cell - wanted;
    std::vector<ShadowCell> finer(kPageSize >> wanted);
    for (size_t i = 0; i < finer.size(); ++i) finer[i] = page->cells[i >> shift];
    page->cells = std::move(finer);
    page->log2_cell = wanted;
  }

  std::vector<std::unique_ptr<Page>> pages_;
};

}  // namespace simt
