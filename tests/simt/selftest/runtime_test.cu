// SPDX-License-Identifier: Apache-2.0
//
// The CUDA runtime calls: memory, streams, events, captures, errors.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "selftest.h"

namespace {

__global__ void add_kernel(int* data, int value) {
  data[blockIdx.x * blockDim.x + threadIdx.x] += value;
}

__global__ void trap_kernel() { __trap(); }

class Runtime : public ::testing::Test {
 protected:
  void SetUp() override { simt_reset(); }
  void TearDown() override { simt_reset(); }
};

TEST_F(Runtime, CopiesCheckWhichSideIsTheDevice) {
  DeviceArray<int> device(16);
  int host[16] = {};
  EXPECT_EQ(cudaSuccess, cudaMemcpy(device.data(), host, sizeof host, cudaMemcpyHostToDevice));
  EXPECT_EQ(cudaErrorInvalidValue, cudaMemcpy(host, host, sizeof host, cudaMemcpyHostToDevice));
  EXPECT_EQ(cudaErrorInvalidValue,
            cudaMemcpy(host, device.data(), sizeof host, cudaMemcpyHostToDevice));
  EXPECT_EQ(cudaErrorInvalidValue,
            cudaMemcpy(device.data() + 1, host, sizeof host, cudaMemcpyHostToDevice))
      << "a copy past the end of an allocation";
  EXPECT_EQ(cudaSuccess, cudaMemcpy(host, device.data(), sizeof host, cudaMemcpyDefault));
  EXPECT_EQ(cudaErrorInvalidValue, cudaMemsetAsync(host, 0, sizeof host, nullptr));
  EXPECT_EQ(cudaErrorInvalidValue, cudaGetLastError());
  EXPECT_EQ(cudaSuccess, cudaGetLastError()) << "reading the error clears it";
}

TEST_F(Runtime, FreesOnlyWhatItAllocated) {
  void* pointer = nullptr;
  ASSERT_CUDA(cudaMalloc(&pointer, 100));
  const uint64_t live = simt_live_allocations();
  EXPECT_EQ(cudaErrorInvalidValue, cudaFree(static_cast<char*>(pointer) + 4));
  EXPECT_EQ(cudaSuccess, cudaFree(pointer));
  EXPECT_EQ(cudaErrorInvalidValue, cudaFree(pointer));
  EXPECT_EQ(cudaSuccess, cudaFree(nullptr));
  EXPECT_EQ(live - 1, simt_live_allocations());
}

TEST_F(Runtime, RunsOutOfMemory) {
  void* pointer = &pointer;
  EXPECT_EQ(cudaErrorMemoryAllocation, cudaMalloc(&pointer, size_t{1} << 40));
  EXPECT_EQ(nullptr, pointer);
}

TEST_F(Runtime, NewMemoryIsPoisoned) {
  DeviceArray<float> array(4);
  for (const float value : array.to_host()) EXPECT_NE(0.0f, value);
}

TEST_F(Runtime, PointerAttributes) {
  DeviceArray<int> device(4);
  int on_host = 0;
  void* pinned = nullptr;
  ASSERT_CUDA(cudaMallocHost(&pinned, 64));
  cudaPointerAttributes attributes;
  ASSERT_CUDA(cudaPointerGetAttributes(&attributes, device.data() + 2));
  EXPECT_EQ(cudaMemoryTypeDevice, attributes.type);
  ASSERT_CUDA(cudaPointerGetAttributes(&attributes, pinned));
  EXPECT_EQ(cudaMemoryTypeHost, attributes.type);
  ASSERT_CUDA(cudaPointerGetAttributes(&attributes, &on_host));
  EXPECT_EQ(cudaMemoryTypeUnregistered, attributes.type);
  ASSERT_CUDA(cudaFreeHost(pinned));
}

TEST_F(Runtime, RefusesImpossibleLaunches) {
  DeviceArray<int> data(1);
  const auto launch = [&](dim3 grid, dim3 block, size_t shared) {
    EXN_LAUNCH(add_kernel, grid, block, shared, nullptr, data.data(), 1);
    return cudaGetLastError();
  };
  EXPECT_EQ(cudaErrorInvalidConfiguration, launch(0, 32, 0));
  EXPECT_EQ(cudaErrorInvalidConfiguration, launch(1, 0, 0));
  EXPECT_EQ(cudaErrorInvalidConfiguration, launch(1, 1025, 0));
  EXPECT_EQ(cudaErrorInvalidConfiguration, launch(dim3(1, 65536), 1, 0));
  EXPECT_EQ(cudaErrorInvalidConfiguration, launch(1, dim3(1, 1, 65), 0));
  EXPECT_EQ(cudaErrorInvalidValue, launch(1, 1, 49 << 10));
  ASSERT_CUDA(
      cudaFuncSetAttribute(add_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 << 10));
  EXPECT_EQ(cudaSuccess, launch(1, 1, 49 << 10));
  EXPECT_EQ(cudaErrorInvalidValue, launch(1, 1, 65 << 10));
  EXPECT_EQ(0u, simt_report_count());
}

TEST_F(Runtime, LaunchFailureIsSticky) {
  EXN_LAUNCH(trap_kernel, 1, 32, 0, nullptr);
  EXPECT_EQ(cudaSuccess, cudaGetLastError()) << "a device has not got that far";
  EXPECT_EQ(cudaErrorLaunchFailure, cudaDeviceSynchronize());
  EXPECT_EQ(cudaErrorLaunchFailure, cudaGetLastError());
  EXPECT_EQ(cudaErrorLaunchFailure, cudaGetLastError()) << "the context is lost";
  void* pointer = nullptr;
  EXPECT_EQ(cudaErrorLaunchFailure, cudaMalloc(&pointer, 4));
  EXPECT_NE(std::string::npos, std::string(simt_last_report()).find("trap in trap_kernel"));
  simt_reset();
  EXPECT_EQ(cudaSuccess, cudaDeviceSynchronize());
  EXPECT_STREQ("", simt_last_report());
}

TEST_F(Runtime, FailsOnRequest) {
  DeviceArray<int> data(std::vector<int>{7});
  ASSERT_EQ(0, simt_configure("FAIL", "700"));
  EXN_LAUNCH(add_kernel, 1, 1, 0, nullptr, data.data(), 1);
  EXPECT_EQ(cudaSuccess, cudaGetLastError());
  EXN_LAUNCH(add_kernel, 1, 1, 0, nullptr, data.data(), 1);
  EXPECT_EQ(cudaErrorIllegalAddress, cudaGetLastError()) << "the next launch finds out";
  EXPECT_EQ(cudaErrorIllegalAddress, cudaDeviceSynchronize());
  simt_reset();
  EXPECT_EQ(7, data.to_host()[0]) << "neither ran";
}

TEST_F(Runtime, RefusesOnRequest) {
  DeviceArray<int> data(std::vector<int>{7});
  ASSERT_EQ(0, simt_configure("REFUSE", "701"));
  EXN_LAUNCH(add_kernel, 1, 1, 0, nullptr, data.data(), 1);
  EXPECT_EQ(cudaErrorLaunchOutOfResources, cudaGetLastError());
  EXN_LAUNCH(add_kernel, 1, 1, 0, nullptr, data.data(), 1);
  EXPECT_EQ(cudaSuccess, cudaGetLastError()) << "it was one launch";
  EXPECT_EQ(8, data.to_host()[0]);
}

class Capture : public Runtime {
 protected:
  void SetUp() override {
    Runtime::SetUp();
    ASSERT_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    ASSERT_CUDA(cudaMemset(data_.data(), 0, 32 * sizeof(int)));
  }
  void TearDown() override {
    cudaStreamDestroy(stream_);
    Runtime::TearDown();
  }

  void add(cudaStream_t stream, int value) {
    EXN_LAUNCH(add_kernel, 1, 32, 0, stream, data_.data(), value);
  }

  DeviceArray<int> data_{32};
  cudaStream_t stream_ = nullptr;
};

TEST_F(Capture, RecordsAndReplays) {
  ASSERT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
  cudaStreamCaptureStatus status;
  ASSERT_CUDA(cudaStreamIsCapturing(stream_, &status));
  EXPECT_EQ(cudaStreamCaptureStatusActive, status);
  add(stream_, 3);
  ASSERT_CUDA(cudaMemsetAsync(data_.data(), 0, sizeof(int), stream_));
  cudaGraph_t graph = nullptr;
  ASSERT_CUDA(cudaStreamEndCapture(stream_, &graph));
  EXPECT_EQ(0, data_.to_host()[5]) << "a captured launch must not run";

  cudaGraphExec_t executable = nullptr;
  ASSERT_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  ASSERT_CUDA(cudaGraphDestroy(graph));
  ASSERT_CUDA(cudaGraphLaunch(executable, stream_));
  ASSERT_CUDA(cudaGraphLaunch(executable, stream_));
  ASSERT_CUDA(cudaStreamSynchronize(stream_));
  EXPECT_EQ(6, data_.to_host()[5]);
  EXPECT_EQ(0, data_.to_host()[0]);
  ASSERT_CUDA(cudaGraphExecDestroy(executable));
}

TEST_F(Capture, ForbiddenCallsInvalidateIt) {
  void* pointer = nullptr;
  cudaGraph_t graph = nullptr;
  const auto forbidden = [&](cudaError_t error) {
    EXPECT_EQ(cudaErrorStreamCaptureUnsupported, error);
    EXPECT_EQ(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(stream_, &graph));
    EXPECT_EQ(nullptr, graph);
    cudaGetLastError();
  };
  ASSERT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal));
  forbidden(cudaMalloc(&pointer, 4));
  ASSERT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
  forbidden(cudaFree(data_.data()));
  ASSERT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
  forbidden(cudaStreamSynchronize(stream_));
  ASSERT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
  forbidden(cudaDeviceSynchronize());
}

TEST_F(Capture, OtherThreadsMayAllocateInThreadLocalMode) {
  const auto allocate_elsewhere = [] {
    cudaError_t error = cudaSuccess;
    std::thread([&error] {
      void* pointer = nullptr;
      cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal;
      cudaThreadExchangeStreamCaptureMode(&mode);
      error = cudaMalloc(&pointer, 4);
      if (error == cudaSuccess) cudaFree(pointer);
    }).join();
    return error;
  };
  cudaGraph_t graph = nullptr;
  ASSERT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
  EXPECT_EQ(cudaSuccess, allocate_elsewhere());
  ASSERT_CUDA(cudaStreamEndCapture(stream_, &graph));
  ASSERT_CUDA(cudaGraphDestroy(graph));
}

TEST_F(Capture, GlobalModeForbidsOtherThreadsToAllocate) {
  cudaGraph_t graph = nullptr;
  ASSERT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal));
  std::thread([] {
    void* pointer = nullptr;
    EXPECT_EQ(cudaErrorStreamCaptureUnsupported, cudaMalloc(&pointer, 4));
  }).join();
  EXPECT_EQ(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(stream_, &graph));
}

TEST_F(Capture, ForkedStreamsMustJoin) {
  cudaStream_t side = nullptr;
  cudaEvent_t fork = nullptr;
  cudaEvent_t join = nullptr;
  ASSERT_CUDA(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking));
  ASSERT_CUDA(cudaEventCreate(&fork));
  ASSERT_CUDA(cudaEventCreate(&join));
  for (const bool joined : {true, false}) {
    ASSERT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    ASSERT_CUDA(cudaEventRecord(fork, stream_));
    ASSERT_CUDA(cudaStreamWaitEvent(side, fork, 0));
    add(side, 1);
    ASSERT_CUDA(cudaEventRecord(join, side));
    if (joined) {
      ASSERT_CUDA(cudaStreamWaitEvent(stream_, join, 0));
    }
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(joined ? cudaSuccess : cudaErrorStreamCaptureUnjoined,
              cudaStreamEndCapture(stream_, &graph));
    if (graph != nullptr) cudaGraphDestroy(graph);
  }
  cudaGetLastError();
  cudaEventDestroy(fork);
  cudaEventDestroy(join);
  cudaStreamDestroy(side);
}

TEST_F(Capture, LegacyStreamClashesWithBlockingStreams) {
  cudaStream_t blocking = nullptr;
  ASSERT_CUDA(cudaStreamCreate(&blocking));
  ASSERT_CUDA(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeRelaxed));
  add(nullptr, 1);
  EXPECT_EQ(cudaErrorStreamCaptureImplicit, cudaGetLastError());
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(blocking, &graph));
  cudaGetLastError();
  cudaStreamDestroy(blocking);
}

TEST_F(Runtime, UnknownStreamsAreRefused) {
  cudaStream_t stream = nullptr;
  ASSERT_CUDA(cudaStreamCreate(&stream));
  ASSERT_CUDA(cudaStreamDestroy(stream));
  EXPECT_EQ(cudaErrorInvalidResourceHandle, cudaStreamSynchronize(stream));
  DeviceArray<int> data(32);
  EXN_LAUNCH(add_kernel, 1, 32, 0, stream, data.data(), 1);
  EXPECT_EQ(cudaErrorInvalidResourceHandle, cudaGetLastError());
}

TEST_F(Runtime, EventsMeasureTime) {
  cudaEvent_t start = nullptr;
  cudaEvent_t stop = nullptr;
  ASSERT_CUDA(cudaEventCreate(&start));
  ASSERT_CUDA(cudaEventCreate(&stop));
  float milliseconds = -1;
  EXPECT_EQ(cudaErrorInvalidResourceHandle, cudaEventElapsedTime(&milliseconds, start, stop));
  ASSERT_CUDA(cudaEventRecord(start, nullptr));
  ASSERT_CUDA(cudaEventRecord(stop, nullptr));
  ASSERT_CUDA(cudaEventSynchronize(stop));
  ASSERT_CUDA(cudaEventElapsedTime(&milliseconds, start, stop));
  EXPECT_GE(milliseconds, 0);
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
}

TEST(RuntimeDeathTest, ProtectedMemoryIsNotForTheHost) {
  EXPECT_DEATH(
      {
        simt_configure("PROTECT", "1");
        DeviceArray<int> array(std::vector<int>{1, 2});
        const int value = *static_cast<volatile int*>(array.data());
        std::printf("read %d\n", value);
      },
      "");
}

TEST(RuntimeDeathTest, ProtectedMemoryIsForKernelsAndCopies) {
  EXPECT_EXIT(
      {
        simt_configure("PROTECT", "1");
        DeviceArray<int> array(std::vector<int>{1, 2});
        EXN_LAUNCH(add_kernel, 1, 2, 0, nullptr, array.data(), 5);
        std::exit(array.to_host() == std::vector<int>{6, 7} ? 3 : 4);
      },
      ::testing::ExitedWithCode(3), "");
}

// Host threads take turns; none sees another's emulated threads, shared memory or errors.
__global__ void block_sum(const int* in, int* out) {
  __shared__ int sums[64];
  const unsigned t = threadIdx.x;
  sums[t] = in[t];
  __syncthreads();
  for (unsigned stride = 32; stride > 0; stride /= 2) {
    if (t < stride) sums[t] += sums[t + stride];
    __syncthreads();
  }
  if (t == 0) *out = sums[0];
}

TEST_F(Runtime, ManyHostThreads) {
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int id = 0; id < 4; ++id) {
    threads.emplace_back([id, &wrong] {
      for (int round = 0; round < 20; ++round) {
        DeviceArray<int> in(std::vector<int>(64, id + round));
        DeviceArray<int> out(1);
        EXN_LAUNCH(block_sum, 1, 64, 0, nullptr, in.data(), out.data());
        wrong += out.to_host()[0] != 64 * (id + round);
        wrong += cudaGetLastError() != cudaSuccess;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(0, wrong.load());
  EXPECT_EQ(0u, simt_report_count()) << simt_last_report();
}

TEST(Control, RefusesUnknownSettings) {
  EXPECT_EQ(-1, simt_configure("POLICY", "sometimes"));
  EXPECT_EQ(-1, simt_configure("SPEED", "1"));
  EXPECT_EQ(-1, simt_configure("SEED", "x"));
  EXPECT_EQ(0, simt_configure("SEED", "1"));
}

__global__ void copy_kernel(const float4* in, float4* out, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) out[i] = in[i];
}

TEST(Control, CountsRequestedBytes) {
  DeviceArray<float4> in(100);
  DeviceArray<float4> out(100);
  simt_reset();
  EXN_LAUNCH(copy_kernel, 2, 64, 0, nullptr, in.data(), out.data(), 100);
  const bool counts = std::string(simt_mode()) == "race";
  EXPECT_EQ(counts ? 1600u : 0u, simt_bytes_read());
  EXPECT_EQ(counts ? 1600u : 0u, simt_bytes_written());
  EXPECT_EQ(1u, simt_launch_count());
}

__global__ void reread_kernel(const float* in, float* out, int n, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    for (int i = 0; i < n; ++i) out[i] = in[i];
  }
}

TEST(Control, TellsMemoryFromCache) {
  if (std::string(simt_mode()) != "race") GTEST_SKIP() << "only the race build counts";
  constexpr int kCount = 1024;
  constexpr uint64_t kBytes = kCount * sizeof(float);
  DeviceArray<float> in(kCount);
  DeviceArray<float> out(kCount);
  ASSERT_EQ(0, simt_configure("TRAFFIC", "1"));
  const auto launch = [&](int rounds) {
    EXN_LAUNCH(reread_kernel, 1, 1, 0, nullptr, in.data(), out.data(), kCount, rounds);
  };

  simt_reset();
  launch(3);
  EXPECT_EQ(6 * kBytes, simt_bytes_requested());
  EXPECT_EQ(2 * kBytes, simt_bytes_past_cache());
  EXPECT_EQ(2 * kBytes, simt_bytes_first_touched());
  launch(1);  // finds both in the cache that is kept
  EXPECT_EQ(2 * kBytes, simt_bytes_past_cache());
  EXPECT_EQ(4 * kBytes, simt_bytes_first_touched());

  simt_reset();
  ASSERT_EQ(0, simt_configure("L2", "4096"));  // holds half of what a round touches
  launch(3);
  EXPECT_EQ(6 * kBytes, simt_bytes_past_cache());
  EXPECT_EQ(2 * kBytes, simt_bytes_first_touched());

  ASSERT_EQ(0, simt_configure("L2", "1048576"));
  ASSERT_EQ(0, simt_configure("TRAFFIC", "0"));
  simt_reset();
}

}  // namespace
