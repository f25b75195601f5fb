// SPDX-License-Identifier: Apache-2.0
// What the library says about itself, memory, streams, threads, probes, and a device that fails.
#ifndef _WIN32
#include <sys/wait.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <thread>

#include "misuse.h"

namespace exn::test {
namespace {

// ---- what the library says about itself ---------------------------------------------------------

TEST(Library, VersionAndStatusNames) {
  EXPECT_EQ(exn_abi_version(), static_cast<uint32_t>(EXN_ABI_VERSION));
  EXPECT_NE(std::string(exn_version()).find('.'), std::string::npos);
  EXPECT_STREQ(exn_status_name(EXN_OK), "EXN_OK");
  EXPECT_STREQ(exn_status_name(EXN_DEVICE_LOST), "EXN_DEVICE_LOST");
  EXPECT_NE(exn_status_name(99), nullptr);
}

TEST(Library, SaysWhichFileItIs) {
  const std::string path = exn_library_path();
#ifdef _WIN32
  EXPECT_NE(path.find("\\exeunt.dll"), std::string::npos) << path;
#else
  EXPECT_NE(path.find("/libexeunt.so"), std::string::npos) << path;
#endif
  EXPECT_TRUE(std::ifstream(path).is_open()) << path;
}

TEST(Library, LastErrorAndPathBelongToTheThread) {
  EXPECT_EQ(exn_row_stats_supported(nullptr), EXN_INVALID_ARGUMENT);
  const std::string mine = exn_last_error();
  EXPECT_NE(mine, "");
  std::thread([] {
    EXPECT_STREQ(exn_last_error(), "");
    EXPECT_STREQ(exn_last_path(), "");
    EXPECT_EQ(exn_cosine_supported(nullptr), EXN_INVALID_ARGUMENT);
  }).join();
  EXPECT_EQ(mine, exn_last_error());
}

TEST(Library, CpuIsAlwaysThere) {
  EXPECT_EQ(exn_backend_available(EXN_BACKEND_CPU), 1);
  EXPECT_STREQ(exn_backend_reason(EXN_BACKEND_CPU), "");
  EXPECT_EQ(exn_device_count(EXN_BACKEND_CPU), 1);
  EXPECT_NE(std::string(exn_backend_name(EXN_BACKEND_CPU)).find("cpu"), std::string::npos);
  EXPECT_EQ(exn_backend_available(7), 0);
  EXPECT_EQ(exn_device_count(7), 0);
  EXPECT_NE(std::string(exn_backend_reason(7)).find("7"), std::string::npos);
}

TEST(Library, IsasCanBeForced) {
  const std::string before = exn_cpu_isa();
  const std::string all = exn_cpu_isas();
  EXPECT_NE(("," + all + ",").find("," + before + ","), std::string::npos);
  EXPECT_EQ(exn_cpu_set_isa("sse1"), EXN_INVALID_ARGUMENT);
  expect_words({"sse1", all});
  EXPECT_EQ(before, exn_cpu_isa());
  EXPECT_EQ(exn_cpu_set_isa(nullptr), EXN_OK);
  EXPECT_EQ(all.substr(0, all.find(',')), exn_cpu_isa());
  EXPECT_EQ(exn_cpu_set_isa(before.c_str()), EXN_OK);
}

TEST(Library, Threads) {
  const int32_t before = exn_cpu_threads();
  EXPECT_GE(before, 1);
  for (int32_t bad : {-1, 257}) {
    EXPECT_EQ(exn_cpu_set_threads(bad), EXN_INVALID_ARGUMENT);
    expect_words({"threads", std::to_string(bad), "256"});
    EXPECT_EQ(exn_cpu_threads(), before);
  }
  EXPECT_EQ(exn_cpu_set_threads(7), EXN_OK);
  EXPECT_EQ(exn_cpu_threads(), 7);
  EXPECT_EQ(exn_cpu_set_threads(0), EXN_OK);
  EXPECT_GE(exn_cpu_threads(), 1);
  EXPECT_EQ(exn_cpu_set_threads(before), EXN_OK);
}

// Threads of the caller run ops at the same time, while another changes the number of threads.
TEST(Library, ConcurrentCallers) {
  const HostTensor logits = normal(Type::kF32, {9, 20000});
  const auto run = [&](std::vector<unsigned char>* bytes) {
    Placed placed(kCpu, logits);
    Placed p1(kCpu, poisoned(Type::kF32, {9})), entropy(kCpu, poisoned(Type::kF32, {9}));
    exn_row_stats_params p = {sizeof p, placed.dl(), {}, EXN_SOFTMAX, 1, 0, 0};
    p.out.p1 = p1.dl();
    p.out.entropy = entropy.dl();
    size_t size = 0;
    ASSERT_EQ(exn_row_stats_workspace_size(&p, &size), EXN_OK) << exn_last_error();
    DeviceMemory workspace(kCpu, size);
    for (int i = 0; i < 20; ++i) {
      ASSERT_EQ(exn_row_stats(&p, workspace.data(), size, nullptr), EXN_OK) << exn_last_error();
    }
    *bytes = p1.read().bytes;
    const std::vector<unsigned char> more = entropy.read().bytes;
    bytes->insert(bytes->end(), more.begin(), more.end());
  };
  std::vector<unsigned char> expected;
  run(&expected);
  for (size_t count : {1, 2, 4}) {
    std::vector<std::vector<unsigned char>> found(count);
    std::vector<std::thread> callers;
    for (auto& bytes : found) callers.emplace_back(run, &bytes);
    for (int i = 0; i < 20; ++i) EXPECT_EQ(exn_cpu_set_threads(1 + i % 5), EXN_OK);
    for (std::thread& caller : callers) caller.join();
    for (const auto& bytes : found) EXPECT_EQ(bytes, expected) << count << " callers";
  }
  EXPECT_EQ(exn_cpu_set_threads(0), EXN_OK);
}

#ifndef _WIN32  // where no process forks
// What a child that was forked does and says by its exit status: workers stay in the parent.
[[noreturn]] void compute_in_a_child(const exn_row_stats_params& p, void* workspace, size_t size) {
  alarm(60);  // rather than wait for ever
  for (int32_t threads : {0, 3, 1, 2}) {
    if (exn_row_stats(&p, workspace, size, nullptr) != EXN_OK) _exit(2);
    if (exn_cpu_set_threads(threads) != EXN_OK) _exit(3);
    if (exn_row_stats(&p, workspace, size, nullptr) != EXN_OK) _exit(4);
  }
  _exit(0);
}

TEST(Library, ForkedChildrenCompute) {
  // Theirs may hold locks while another thread forks; TSan starts no thread in a child at all.
  if (allocations() == 0) GTEST_SKIP() << "sanitizers do not survive a fork beside other threads";
  if (std::getenv("EXEUNT_TEST_EMULATOR") != nullptr) GTEST_SKIP() << "nor does QEMU";
  const HostTensor logits = normal(Type::kF32, {9, 20000});
  Placed placed(kCpu, logits), p1(kCpu, poisoned(Type::kF32, {9}));
  exn_row_stats_params p = {sizeof p, placed.dl(), {}, EXN_SOFTMAX, 1, 0, 0};
  p.out.p1 = p1.dl();
  size_t size = 0;
  ASSERT_EQ(exn_row_stats_workspace_size(&p, &size), EXN_OK) << exn_last_error();
  const auto children_compute = [&] {
    for (int i = 0; i < 10; ++i) {
      DeviceMemory workspace(kCpu, size);
      ASSERT_EQ(exn_cpu_set_threads(1 + i % 3), EXN_OK);
      ASSERT_EQ(exn_row_stats(&p, workspace.data(), size, nullptr), EXN_OK) << exn_last_error();
      const pid_t child = fork();
      ASSERT_GE(child, 0);
      if (child == 0) compute_in_a_child(p, workspace.data(), size);
      int status = 0;
      waitpid(child, &status, 0);
      ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
    }
  };
  children_compute();
  // And while another thread's loop holds the pool.
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    const std::vector<unsigned char> memory(size_t{8} << 20);
    uint64_t checksum = 0;
    while (!stop) exn_read_probe(memory.data(), memory.size(), 0, &checksum);
  });
  children_compute();
  stop = true;
  busy.join();
  EXPECT_EQ(exn_cpu_set_threads(0), EXN_OK);
}
#endif

// ---- memory, copies, streams --------------------------------------------------------------------

TEST(Memory, AllocationIsAlignedAndUnique) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    void *a = nullptr, *b = nullptr;
    ASSERT_EQ(exn_alloc(target.device_type, 0, 0, &a), EXN_OK) << exn_last_error();
    ASSERT_EQ(exn_alloc(target.device_type, 0, 0, &b), EXN_OK) << exn_last_error();
    EXPECT_NE(a, nullptr);
    EXPECT_NE(a, b);
    EXPECT_EQ(exn_free(target.device_type, 0, a), EXN_OK);
    EXPECT_EQ(exn_free(target.device_type, 0, b), EXN_OK);
    EXPECT_EQ(exn_free(target.device_type, 0, nullptr), EXN_OK);
    for (size_t bytes : {size_t{1}, size_t{65}, size_t{4097}, size_t{3} << 20}) {
      ASSERT_EQ(exn_alloc(target.device_type, 0, bytes, &a), EXN_OK) << exn_last_error();
      const uintptr_t align = target.cpu() && bytes >= size_t{2} << 20 ? uintptr_t{2} << 20 : 64;
      EXPECT_EQ(reinterpret_cast<uintptr_t>(a) % align, 0u) << bytes;
      EXPECT_EQ(exn_free(target.device_type, 0, a), EXN_OK);
    }
    a = &b;
    EXPECT_EQ(exn_alloc(target.device_type, 0, SIZE_MAX / 2, &a), EXN_OUT_OF_MEMORY);
    expect_words({std::to_string(SIZE_MAX / 2)});
    EXPECT_EQ(a, &b) << "a failed allocation wrote a pointer";
  }
}

TEST(Memory, WrongDevices) {
  void* p = nullptr;
  EXPECT_EQ(exn_alloc(kDLCPU, 0, 8, nullptr), EXN_INVALID_ARGUMENT);
  expect_words({"out", "null"});
  EXPECT_EQ(exn_alloc(42, 0, 8, &p), EXN_INVALID_ARGUMENT);
  expect_words({"device_type", "42"});
  EXPECT_EQ(exn_alloc(kDLCPU, 3, 8, &p), EXN_INVALID_ARGUMENT);
  expect_words({"device_id", "3", "1"});
  EXPECT_EQ(exn_alloc(kDLCPU, -1, 8, &p), EXN_INVALID_ARGUMENT);
  EXPECT_EQ(p, nullptr);
}

TEST(Memory, CopiesBothWays) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    DeviceMemory there(target, 1000), again(target, 1000);
    std::vector<unsigned char> bytes(1000), back(1000);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i * 7);
    there.write(bytes);
    ASSERT_EQ(exn_copy(again.data(), target.device_type, 0, there.data(), target.device_type, 0,
                       1000, nullptr),
              EXN_OK)
        << exn_last_error();
    ASSERT_EQ(exn_stream_synchronize(target.device_type, 0, nullptr), EXN_OK);
    EXPECT_EQ(again.read(), bytes);
    EXPECT_EQ(exn_copy(nullptr, target.device_type, 0, bytes.data(), kDLCPU, 0, 10, nullptr),
              EXN_INVALID_ARGUMENT);
    expect_words({"dst", "null", "10"});
    EXPECT_EQ(exn_copy(back.data(), kDLCPU, 0, nullptr, target.device_type, 0, 10, nullptr),
              EXN_INVALID_ARGUMENT);
    expect_words({"src", "null", "10"});
    EXPECT_EQ(exn_copy(nullptr, target.device_type, 0, nullptr, kDLCPU, 0, 0, nullptr), EXN_OK);
  }
}

TEST(Streams, CreateUseDestroy) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    exn_stream stream = nullptr;
    ASSERT_EQ(exn_stream_create(target.device_type, 0, &stream), EXN_OK) << exn_last_error();
    EXPECT_EQ(stream == nullptr, target.cpu());
    DeviceMemory there(target, 64);
    const std::vector<unsigned char> bytes(64, 9);
    EXPECT_EQ(exn_copy(there.data(), target.device_type, 0, bytes.data(), kDLCPU, 0, 64, stream),
              EXN_OK);
    EXPECT_EQ(exn_stream_synchronize(target.device_type, 0, stream), EXN_OK);
    EXPECT_EQ(there.read(), bytes);
    EXPECT_EQ(exn_stream_destroy(target.device_type, 0, stream), EXN_OK);
    EXPECT_EQ(exn_stream_destroy(target.device_type, 0, nullptr), EXN_OK);
    EXPECT_EQ(exn_stream_create(target.device_type, 0, nullptr), EXN_INVALID_ARGUMENT);
    expect_words({"out", "null"});
  }
}

// ---- a device that fails ------------------------------------------------------------------------

// On the emulated device, which fails when told to and recovers by a reset. A real one would not
// until the process ends.
class FailingDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const Target& target : targets()) {
      if (target.emulated) device_ = target;
    }
    if (device_.cpu()) GTEST_SKIP() << "no emulated device in this run";
    configure_ =
        reinterpret_cast<int (*)(const char*, const char*)>(emulator_function("simt_configure"));
    reset_ = reinterpret_cast<void (*)()>(emulator_function("simt_reset"));
    ASSERT_TRUE(configure_ != nullptr && reset_ != nullptr);
    in_ = std::make_unique<Placed>(device_, normal(Type::kF32, {2, 8}));
    out_ = std::make_unique<Placed>(device_, poisoned(Type::kF32, {2}));
  }
  void TearDown() override {
    if (reset_ != nullptr) reset_();
  }

  exn_status run() const { return run_into(out_->dl()); }
  exn_status run_into(const DLTensor* out) const {
    const exn_cosine_params p = {sizeof p, in_->dl(), in_->dl(), out};
    return exn_cosine(&p, nullptr, 0, nullptr);
  }
  static exn_status synchronize() { return exn_stream_synchronize(kDLCUDA, 0, nullptr); }
  void configure(const char* name, int error) const {
    ASSERT_EQ(configure_(name, std::to_string(error).c_str()), 0);
  }
  void expect_well() const {
    EXPECT_EQ(run(), EXN_OK) << exn_last_error();
    EXPECT_EQ(synchronize(), EXN_OK) << exn_last_error();
  }

  Target device_;
  int (*configure_)(const char*, const char*) = nullptr;
  void (*reset_)() = nullptr;
  std::unique_ptr<Placed> in_, out_;
};

// A kernel that writes where no memory is: the run has returned before anybody knows.
TEST_F(FailingDevice, IsLostByAKernelAndSaysSoFromThenOn) {
  exn_stream stream = nullptr;
  ASSERT_EQ(exn_stream_create(kDLCUDA, 0, &stream), EXN_OK) << exn_last_error();
  void *memory = nullptr, *more = nullptr;
  ASSERT_EQ(exn_alloc(kDLCUDA, 0, 256, &memory), EXN_OK) << exn_last_error();
  DLTensor outside = *out_->dl();
  outside.data = memory;
  outside.byte_offset = 256;
  EXPECT_EQ(run_into(&outside), EXN_OK) << exn_last_error();
  EXPECT_EQ(exn_stream_synchronize(kDLCUDA, 0, stream), EXN_DEVICE_LOST);
  expect_words({"cudaStreamSynchronize", "719", "cudaErrorLaunchFailure", "launch failure"});

  EXPECT_EQ(synchronize(), EXN_DEVICE_LOST);
  EXPECT_EQ(run(), EXN_DEVICE_LOST);
  expect_words({"cosine", "cudaErrorLaunchFailure"});
  EXPECT_EQ(exn_alloc(kDLCUDA, 0, 8, &more), EXN_DEVICE_LOST);
  expect_words({"cudaMalloc", "cudaErrorLaunchFailure"});
  EXPECT_EQ(more, nullptr);
  float value = 0;
  EXPECT_EQ(exn_copy(&value, kDLCPU, 0, memory, kDLCUDA, 0, sizeof value, nullptr),
            EXN_DEVICE_LOST);
  expect_words({"cudaMemcpyAsync", "cudaErrorLaunchFailure"});
  EXPECT_EQ(exn_backend_available(EXN_BACKEND_CUDA), 1) << "the backend is there, its device lost";
  EXPECT_EQ(exn_device_count(EXN_BACKEND_CUDA), 1);

  Placed in(kCpu, normal(Type::kF32, {2, 8})), out(kCpu, poisoned(Type::kF32, {2}));
  const exn_cosine_params on_cpu = {sizeof on_cpu, in.dl(), in.dl(), out.dl()};
  EXPECT_EQ(exn_cosine(&on_cpu, nullptr, 0, nullptr), EXN_OK) << exn_last_error();
  EXPECT_NEAR(out.read().at(0, 1), 1, 1e-6);

  EXPECT_EQ(exn_free(kDLCUDA, 0, memory), EXN_DEVICE_LOST);
  expect_words({"cudaFree", "cudaErrorLaunchFailure"});
  exn_stream_destroy(kDLCUDA, 0, stream);  // lost or not, it ends
  reset_();
  expect_well();
}

TEST_F(FailingDevice, EveryErrorThatEndsAContextIsALostDevice) {
  for (const int error : {214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721}) {
    SCOPED_TRACE(error);
    configure("FAIL", error);
    EXPECT_EQ(run(), EXN_OK) << exn_last_error();
    EXPECT_EQ(synchronize(), EXN_DEVICE_LOST);
    expect_words({"CUDA error " + std::to_string(error)});
    EXPECT_EQ(run(), EXN_DEVICE_LOST);
    reset_();
  }
  expect_well();
}

TEST_F(FailingDevice, ARefusedLaunchIsAFailureOfOneRun) {
  const std::pair<int, exn_status> refusals[] = {
      {1, EXN_RUNTIME_FAILURE},       {98, EXN_RUNTIME_FAILURE},   // invalid value, device function
      {209, EXN_RUNTIME_FAILURE},     {701, EXN_RUNTIME_FAILURE},  // no kernel image, resources
      {2, EXN_OUT_OF_MEMORY},         {35, EXN_BACKEND_UNAVAILABLE},
      {100, EXN_BACKEND_UNAVAILABLE}, {999, EXN_BACKEND_UNAVAILABLE}};
  for (const auto& [error, status] : refusals) {
    SCOPED_TRACE(error);
    configure("REFUSE", error);
    EXPECT_EQ(run(), status);
    expect_words({"cosine", "CUDA error " + std::to_string(error)});
    expect_well();
  }
}

TEST_F(FailingDevice, ACopyPastAnAllocationIsAFailureOfOneCall) {
  void* memory = nullptr;
  ASSERT_EQ(exn_alloc(kDLCUDA, 0, 256, &memory), EXN_OK) << exn_last_error();
  const std::vector<unsigned char> bytes(260);
  EXPECT_EQ(exn_copy(memory, kDLCUDA, 0, bytes.data(), kDLCPU, 0, 260, nullptr),
            EXN_RUNTIME_FAILURE);
  expect_words({"cudaMemcpyAsync", "cudaErrorInvalidValue", "invalid argument"});
  EXPECT_EQ(exn_copy(memory, kDLCUDA, 0, bytes.data(), kDLCPU, 0, 256, nullptr), EXN_OK)
      << exn_last_error();
  expect_well();
  EXPECT_EQ(exn_free(kDLCUDA, 0, memory), EXN_OK) << exn_last_error();
}

TEST(ReadProbe, DependsOnEveryByte) {
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    use(target);
    std::vector<unsigned char> bytes(1037);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(mix(i));
    uint64_t before = 0, after = 0;
    ASSERT_EQ(exn_read_probe(bytes.data(), bytes.size(), 0, &before), EXN_OK) << exn_last_error();
    for (int32_t way = 0; way < EXN_READ_WAYS; ++way) {
      ASSERT_EQ(exn_read_probe(bytes.data(), bytes.size(), way, &after), EXN_OK);
      EXPECT_EQ(before, after) << "way " << way;
      for (size_t i = 0; i < bytes.size(); ++i) {
        bytes[i] ^= 0x10;
        ASSERT_EQ(exn_read_probe(bytes.data(), bytes.size(), way, &after), EXN_OK);
        EXPECT_NE(before, after) << "way " << way << ", byte " << i;
        bytes[i] ^= 0x10;
      }
    }
    EXPECT_EQ(exn_read_probe(bytes.data(), bytes.size(), 0, nullptr), EXN_INVALID_ARGUMENT);
    expect_words({"checksum", "null"});
    EXPECT_EQ(exn_read_probe(nullptr, 8, 0, &after), EXN_INVALID_ARGUMENT);
    expect_words({"data", "null", "8"});
    for (int32_t way : {-1, EXN_READ_WAYS}) {
      EXPECT_EQ(exn_read_probe(bytes.data(), 8, way, &after), EXN_INVALID_ARGUMENT);
      expect_words({"way", std::to_string(way), "0..5"});
    }
    EXPECT_EQ(exn_read_probe(nullptr, 0, 0, &after), EXN_OK);
  }
}

TEST(CopyProbe, CopiesEveryByteAndNoOther) {
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    use(target);
    constexpr size_t kPieces = (size_t{600} << 10) + 77;
    std::vector<unsigned char> source(kPieces + 64), copy(kPieces + 128);
    for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<unsigned char>(mix(i));
    for (int32_t way = 0; way < EXN_COPY_WAYS; ++way) {
      for (size_t bytes : {size_t{0}, size_t{1}, size_t{31}, size_t{63}, size_t{64}, size_t{130},
                           size_t{4097}, kPieces}) {
        for (size_t skew : {size_t{0}, size_t{1}, size_t{63}}) {
          std::fill(copy.begin(), copy.end(), static_cast<unsigned char>(0xa5));
          unsigned char* to = copy.data() + skew;
          const unsigned char* from = source.data() + (skew * 5) % 64;
          ASSERT_EQ(exn_copy_probe(to, from, bytes, way), EXN_OK) << exn_last_error();
          const auto untouched = [](unsigned char c) { return c == 0xa5; };
          SCOPED_TRACE(std::to_string(bytes) + " bytes, skew " + std::to_string(skew) + ", way " +
                       std::to_string(way));
          EXPECT_TRUE(std::equal(to, to + bytes, from));
          EXPECT_TRUE(std::all_of(copy.data(), to, untouched));
          EXPECT_TRUE(std::all_of(to + bytes, copy.data() + copy.size(), untouched));
        }
      }
    }
    EXPECT_EQ(exn_copy_probe(nullptr, source.data(), 8, 0), EXN_INVALID_ARGUMENT);
    expect_words({"dst", "null", "8"});
    EXPECT_EQ(exn_copy_probe(copy.data(), nullptr, 8, 0), EXN_INVALID_ARGUMENT);
    expect_words({"src", "null", "8"});
    for (int32_t way : {-1, EXN_COPY_WAYS}) {
      EXPECT_EQ(exn_copy_probe(copy.data(), source.data(), 8, way), EXN_INVALID_ARGUMENT);
      expect_words({"way", std::to_string(way), "0..4"});
    }
    EXPECT_EQ(exn_copy_probe(copy.data(), copy.data() + 7, 8, 0), EXN_INVALID_ARGUMENT);
    expect_words({"overlap", "8"});
    EXPECT_EQ(exn_copy_probe(copy.data() + 7, copy.data(), 8, 0), EXN_INVALID_ARGUMENT);
    EXPECT_EQ(exn_copy_probe(copy.data() + 8, copy.data(), 8, 0), EXN_OK);
    EXPECT_EQ(exn_copy_probe(nullptr, nullptr, 0, 1), EXN_OK);
  }
}

TEST(FmaProbe, CountsWhatItDoes) {
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    use(target);
    for (const uint64_t wanted : {uint64_t{0}, uint64_t{1}, uint64_t{193}, uint64_t{3000001}}) {
      uint64_t done = 7;
      ASSERT_EQ(exn_fma_probe(wanted, &done), EXN_OK) << exn_last_error();
      EXPECT_GE(done, wanted);
      EXPECT_LT(done, wanted + 192);
      if (wanted == 0) {
        EXPECT_EQ(done, 0u);
      }
    }
    EXPECT_EQ(exn_fma_probe(1, nullptr), EXN_INVALID_ARGUMENT);
    expect_words({"done", "null"});
  }
}

}  // namespace
}  // namespace exn::test
