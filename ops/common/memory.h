// SPDX-License-Identifier: Apache-2.0
// Memory and guarded tensors on a device, through the C ABI. What fails throws std::runtime_error.
#pragma once

#include <memory>
#include <vector>

#include "tensor.h"

namespace exn::test {

// Throws with exn_last_error if the status is not EXN_OK.
void require(exn_status status, const char* what);

// Memory of exn_alloc.
class DeviceMemory {
 public:
  DeviceMemory(int32_t device_type, size_t bytes);
  // Memory of the caller's.
  DeviceMemory(int32_t device_type, size_t bytes, void* data)
      : device_type_(device_type), bytes_(bytes), data_(data), is_owner_(false) {}
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  unsigned char* data() const { return static_cast<unsigned char*>(data_); }
  size_t size() const { return bytes_; }
  void write(const std::vector<unsigned char>& bytes);
  std::vector<unsigned char> read() const;
  // The bytes as they are: where they lie if the host can read them there, else a copy in `copy`.
  const unsigned char* look(std::vector<unsigned char>* copy) const;
  bool holds(const std::vector<unsigned char>& bytes) const;

 private:
  int32_t device_type_;
  size_t bytes_;
  void* data_ = nullptr;
  bool is_owner_ = true;
};

// Bytes between guards, full of `dirt`.
class GuardedMemory {
 public:
  GuardedMemory(int32_t device_type, size_t bytes, unsigned char dirt);

  void* data() { return memory_.data() + kGuard; }
  bool unchanged() const { return memory_.holds(image_); }
  bool guards_intact() const;

  static constexpr size_t kGuard = 128;  // bytes on each side
  static constexpr unsigned char kGuardByte = 0xA7;

 private:
  size_t bytes_;
  std::vector<unsigned char> image_;
  DeviceMemory memory_;
};

// A tensor in device memory with guard bytes on both sides, `offset` elements past a 64-byte
// boundary.
class Placed {
 public:
  Placed(int32_t device_type, const HostTensor& tensor);

  // Null if the tensor was not given.
  const DLTensor* dl() const { return tensor_.given() ? &dl_ : nullptr; }
  DLTensor* mutable_dl() { return &dl_; }
  const HostTensor& initial() const { return tensor_; }

  // Bytes with guards, so that another may follow at once.
  size_t footprint() const { return (image_.size() + 63) / 64 * 64; }
  // Goes on, as it was in the beginning, in memory of the caller's at a 64-byte boundary.
  void move_to(unsigned char* memory);
  // Puts the initial bytes back; every other time, from the first on, no cache has them then.
  void reset();
  // Into the caches, or out of all of them; not where it was moved to, which may be gone.
  void place(bool cached);
  HostTensor read() const;
  // Nothing has changed, not even a guard byte.
  bool unchanged() const;
  // Nothing but elements of the tensor has changed.
  bool guards_intact() const;

 private:
  size_t begin() const;

  HostTensor tensor_;
  std::vector<unsigned char> image_;
  std::unique_ptr<DeviceMemory> memory_;
  std::vector<int64_t> shape_, strides_;
  DLTensor dl_{};
  int resets_ = 0;
  bool is_moved_ = false;
};

// An output tensor full of poison.
HostTensor poisoned(HostTensor tensor);
HostTensor poisoned(Type type, std::vector<int64_t> shape, int64_t pad = 0, int64_t offset = 0);

}  // namespace exn::test
