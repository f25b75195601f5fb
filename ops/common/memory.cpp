// SPDX-License-Identifier: Apache-2.0
#include "memory.h"

#if defined(__SSE2__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#include <algorithm>
#include <stdexcept>
#include <string>

namespace exn::test {

namespace {

constexpr size_t kGuard = GuardedMemory::kGuard;
constexpr unsigned char kPoison = 0xCD;

std::ptrdiff_t distance(size_t bytes) { return static_cast<std::ptrdiff_t>(bytes); }

#if defined(__SSE2__)
constexpr size_t kLine = 64;

// Each CLFLUSH waits for the one before, which would take a third of a test's time.
void evict_in_turn(const unsigned char* bytes, size_t count) {
  for (size_t i = 0; i < count; i += kLine) _mm_clflush(bytes + i);
}

__attribute__((target("clflushopt"))) void evict_at_once(unsigned char* bytes, size_t count) {
  for (size_t i = 0; i < count; i += kLine) _mm_clflushopt(bytes + i);
}

bool evicts_at_once() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b >> 23 & 1) != 0;
}
#endif

}  // namespace

void require(exn_status status, const char* what) {
  if (status != EXN_OK) throw std::runtime_error(std::string(what) + ": " + exn_last_error());
}

DeviceMemory::DeviceMemory(int32_t device_type, size_t bytes)
    : device_type_(device_type), bytes_(bytes) {
  require(exn_alloc(device_type, 0, bytes, &data_), "exn_alloc");
}

DeviceMemory::~DeviceMemory() {
  if (is_owner_) exn_free(device_type_, 0, data_);
}

void DeviceMemory::write(const std::vector<unsigned char>& bytes) {
  if (bytes.size() != bytes_) throw std::runtime_error("DeviceMemory::write: another size");
  require(exn_copy(data_, device_type_, 0, bytes.data(), kDLCPU, 0, bytes_, nullptr), "exn_copy");
  require(exn_stream_synchronize(device_type_, 0, nullptr), "exn_stream_synchronize");
}

std::vector<unsigned char> DeviceMemory::read() const {
  std::vector<unsigned char> bytes(bytes_);
  require(exn_copy(bytes.data(), kDLCPU, 0, data_, device_type_, 0, bytes_, nullptr), "exn_copy");
  require(exn_stream_synchronize(device_type_, 0, nullptr), "exn_stream_synchronize");
  return bytes;
}

const unsigned char* DeviceMemory::look(std::vector<unsigned char>* copy) const {
  if (device_type_ == kDLCPU) return data();
  *copy = read();
  return copy->data();
}

bool DeviceMemory::holds(const std::vector<unsigned char>& bytes) const {
  std::vector<unsigned char> copy;
  return std::equal(bytes.begin(), bytes.end(), look(&copy));
}

GuardedMemory::GuardedMemory(int32_t device_type, size_t bytes, unsigned char dirt)
    : bytes_(bytes),
      image_(kGuard + bytes + kGuard, kGuardByte),
      memory_(device_type, image_.size()) {
  std::fill_n(image_.begin() + distance(kGuard), bytes, dirt);
  memory_.write(image_);
}

bool GuardedMemory::guards_intact() const {
  std::vector<unsigned char> copy;
  const unsigned char* now = memory_.look(&copy);
  const auto after = image_.begin() + distance(kGuard + bytes_);
  return std::equal(image_.begin(), image_.begin() + distance(kGuard), now) &&
         std::equal(after, image_.end(), now + kGuard + bytes_);
}

size_t Placed::begin() const {
  return kGuard + static_cast<size_t>(tensor_.offset * size_of(tensor_.type));
}

Placed::Placed(int32_t device_type, const HostTensor& tensor) : tensor_(tensor) {
  if (!tensor.given()) return;
  image_.assign(begin() + tensor.bytes.size() + kGuard, GuardedMemory::kGuardByte);
  std::copy(tensor.bytes.begin(), tensor.bytes.end(), image_.begin() + distance(begin()));
  memory_ = std::make_unique<DeviceMemory>(device_type, image_.size());
  reset();
  shape_ = tensor.shape;
  strides_.assign(shape_.size(), 1);
  for (size_t i = shape_.size(); i-- > 1;) strides_[i - 1] = strides_[i] * shape_[i];
  if (shape_.size() >= 2 && tensor.rows == shape_[0]) strides_[0] = tensor.stride;
  dl_.data = memory_->data() + kGuard;
  dl_.byte_offset = begin() - kGuard;
  dl_.device = {static_cast<DLDeviceType>(device_type), 0};
  dl_.ndim = static_cast<int32_t>(shape_.size());
  dl_.dtype = dl_type(tensor.type);
  dl_.shape = shape_.data();
  dl_.strides = strides_.data();
}

void Placed::move_to(unsigned char* memory) {
  memory_ = std::make_unique<DeviceMemory>(dl_.device.device_type, image_.size(), memory);
  reset();
  is_moved_ = true;
  dl_.data = memory + kGuard;
}

void Placed::reset() {
  if (memory_ == nullptr) return;
  memory_->write(image_);
  place(resets_++ % 2 != 0);
}

void Placed::place(bool cached) {
#if defined(__SSE2__)
  if (memory_ == nullptr || is_moved_ || dl_.device.device_type != kDLCPU) return;
  static const bool at_once = evicts_at_once();
  if (cached) {
    const volatile unsigned char* const bytes = memory_->data();
    for (size_t i = 0; i < image_.size(); i += kLine) (void)bytes[i];
  } else if (at_once) {
    evict_at_once(memory_->data(), image_.size());
  } else {
    evict_in_turn(memory_->data(), image_.size());
  }
  _mm_mfence();
#else
  (void)cached;
#endif
}

HostTensor Placed::read() const {
  HostTensor now = tensor_;
  if (memory_ == nullptr) return now;
  std::vector<unsigned char> copy;
  std::copy_n(memory_->look(&copy) + begin(), now.bytes.size(), now.bytes.begin());
  return now;
}

bool Placed::unchanged() const { return memory_ == nullptr || memory_->holds(image_); }

bool Placed::guards_intact() const {
  if (memory_ == nullptr) return true;
  std::vector<unsigned char> copy;
  const unsigned char* now = memory_->look(&copy);
  const auto size = static_cast<size_t>(size_of(tensor_.type));
  size_t gap = 0;  // where what is no element begins
  for (int64_t r = 0; r < tensor_.rows; ++r) {
    const size_t row = begin() + static_cast<size_t>(r * tensor_.stride) * size;
    if (!std::equal(now + gap, now + row, image_.begin() + distance(gap))) return false;
    gap = row + static_cast<size_t>(tensor_.cols) * size;
  }
  return std::equal(image_.begin() + distance(gap), image_.end(), now + gap);
}

HostTensor poisoned(HostTensor tensor) {
  std::fill(tensor.bytes.begin(), tensor.bytes.end(), kPoison);
  return tensor;
}

HostTensor poisoned(Type type, std::vector<int64_t> shape, int64_t pad, int64_t offset) {
  return poisoned(make_tensor(type, std::move(shape), pad, offset));
}

}  // namespace exn::test
