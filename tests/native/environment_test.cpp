// SPDX-License-Identifier: Apache-2.0
// Environment variables, each in a process of its own, and backends that are not those they name.
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "base/ops.h"
#include "misuse.h"
#include "system.h"

namespace exn::test {
namespace {

// Runs one test of this program with an environment of its own; true if it passed.
bool passes_with(const char* test,
                 const std::vector<std::pair<const char*, std::string>>& environment) {
  std::map<std::string, const char*> variables = {{"EXEUNT_ISA", nullptr},
                                                  {"EXEUNT_BACKEND", nullptr},
                                                  {"EXEUNT_CUDA_LIBRARY", nullptr},
                                                  {"EXEUNT_THREADS", nullptr},
                                                  {"EXEUNT_TUNING", nullptr}};
  for (const auto& [name, value] : environment) variables[name] = value.c_str();
  const std::string filter = std::string("--gtest_filter=InAProcessOfItsOwn.DISABLED_") + test;
  return run_this_program({"--gtest_also_run_disabled_tests", filter}, variables) == 0;
}

exn_status run_row_stats(DLDeviceType device = kDLCPU) {
  Placed logits(kCpu, normal(Type::kF32, {1, 8})), p1(kCpu, poisoned(Type::kF32, {1}));
  logits.mutable_dl()->device.device_type = device;
  p1.mutable_dl()->device.device_type = device;
  exn_row_stats_params p = {sizeof p, logits.dl(), {}, EXN_SOFTMAX, 1, 0, 0};
  p.out.p1 = p1.dl();
  DeviceMemory workspace(kCpu, 1 << 20);
  const exn_status status = exn_row_stats(&p, workspace.data(), 1 << 20, nullptr);
  EXPECT_TRUE(status == EXN_OK || p1.unchanged());
  return status;
}

TEST(InAProcessOfItsOwn, DISABLED_ImpossibleIsa) {
  EXPECT_EQ(run_row_stats(), EXN_UNSUPPORTED);
  expect_words({"EXEUNT_ISA", "nonsense", exn_cpu_isas()});
  EXPECT_EQ(exn_cpu_set_isa(nullptr), EXN_OK);  // an explicit choice repairs it
  EXPECT_EQ(run_row_stats(), EXN_OK) << exn_last_error();
}

TEST(InAProcessOfItsOwn, DISABLED_ForcedIsa) {
  EXPECT_STREQ(exn_cpu_isa(), std::getenv("EXEUNT_ISA"));
  ASSERT_EQ(run_row_stats(), EXN_OK) << exn_last_error();
  EXPECT_EQ(exn_last_path(), "cpu/" + std::string(std::getenv("EXEUNT_ISA")) + "/row_stats");
#if defined(__linux__) && defined(__x86_64__)
  // Tile registers make signal stacks larger: none asks for them but the set that needs them.
  constexpr long kPermissions = 0x1022, kTileData = 18;  // ARCH_GET_XCOMP_PERM
  uint64_t granted = 0;
  if (syscall(SYS_arch_prctl, kPermissions, &granted) == 0) {
    EXPECT_EQ((granted >> kTileData & 1) != 0, std::getenv("EXEUNT_ISA") == std::string("amx"));
  }
#endif
}

TEST(InAProcessOfItsOwn, DISABLED_BackendCpu) {
  EXPECT_EQ(exn_backend_available(EXN_BACKEND_CUDA), 0);
  EXPECT_NE(std::string(exn_backend_reason(EXN_BACKEND_CUDA)).find("EXEUNT_BACKEND"),
            std::string::npos);
  EXPECT_EQ(exn_cuda_open(nullptr), EXN_BACKEND_UNAVAILABLE);
  EXPECT_EQ(run_row_stats(kDLCUDA), EXN_BACKEND_UNAVAILABLE);
  expect_words({"row_stats", "EXEUNT_BACKEND"});
  void* p = nullptr;
  EXPECT_EQ(exn_alloc(kDLCUDA, 0, 8, &p), EXN_BACKEND_UNAVAILABLE);
  EXPECT_EQ(run_row_stats(), EXN_OK) << exn_last_error();
}

TEST(InAProcessOfItsOwn, DISABLED_NoSuchBackend) {
  for (int32_t backend : {EXN_BACKEND_CPU, EXN_BACKEND_CUDA}) {
    EXPECT_EQ(exn_backend_available(backend), 0);
    EXPECT_EQ(exn_device_count(backend), 0);
    EXPECT_STREQ(exn_backend_reason(backend), "EXEUNT_BACKEND is gpu, neither cpu nor cuda");
  }
  EXPECT_EQ(exn_cuda_open(nullptr), EXN_BACKEND_UNAVAILABLE);
  for (DLDeviceType device : {kDLCPU, kDLCUDA}) {
    float a[2] = {3, 4}, out[1] = {-7};  // the harness would ask for memory
    int64_t matrix[2] = {1, 2}, rows[1] = {1};
    const DLTensor row = {a, {device, 0}, 2, dl_type(Type::kF32), matrix, nullptr, 0};
    const DLTensor result = {out, {device, 0}, 1, dl_type(Type::kF32), rows, nullptr, 0};
    const exn_cosine_params p = {sizeof p, &row, &row, &result};
    EXPECT_EQ(exn_cosine_supported(&p), EXN_BACKEND_UNAVAILABLE);
    EXPECT_EQ(exn_cosine(&p, nullptr, 0, nullptr), EXN_BACKEND_UNAVAILABLE);
    expect_words({"cosine", "EXEUNT_BACKEND is gpu, neither cpu nor cuda"});
    EXPECT_EQ(out[0], -7);
    void* memory = nullptr;
    EXPECT_EQ(exn_alloc(device, 0, 8, &memory), EXN_BACKEND_UNAVAILABLE);
    expect_words({"exn_alloc", "EXEUNT_BACKEND is gpu"});
  }
}

TEST(InAProcessOfItsOwn, DISABLED_MissingCudaLibrary) {
  EXPECT_EQ(exn_backend_available(EXN_BACKEND_CUDA), 0);
  EXPECT_EQ(exn_device_count(EXN_BACKEND_CUDA), 0);
  EXPECT_NE(std::string(exn_backend_reason(EXN_BACKEND_CUDA)).find("/nonexistent/libnone.so"),
            std::string::npos);
  EXPECT_EQ(run_row_stats(kDLCUDA), EXN_BACKEND_UNAVAILABLE);
  expect_words({"/nonexistent/libnone.so"});
  EXPECT_EQ(exn_cuda_open("/nonexistent/libother.so"), EXN_BACKEND_UNAVAILABLE);
  expect_words({"/nonexistent/libother.so"});
  EXPECT_EQ(run_row_stats(), EXN_OK) << exn_last_error();
}

#if defined(_WIN32)
constexpr char kOtherLibrary[] = "user32.dll";
#else
constexpr char kOtherLibrary[] = "libm.so.6";
#endif

TEST(InAProcessOfItsOwn, DISABLED_SomeOtherLibrary) {
  EXPECT_EQ(exn_backend_available(EXN_BACKEND_CUDA), 0);
  const std::string reason = exn_backend_reason(EXN_BACKEND_CUDA);
  EXPECT_NE(reason.find(kOtherLibrary), std::string::npos) << reason;
  EXPECT_NE(reason.find("exn_cuda_backend_query"), std::string::npos) << reason;
}

TEST(InAProcessOfItsOwn, DISABLED_BackendOfAnotherAbi) {
  EXPECT_EQ(exn_backend_available(EXN_BACKEND_CUDA), 0);
  EXPECT_EQ(run_row_stats(kDLCUDA), EXN_BACKEND_UNAVAILABLE);
  expect_words({std::getenv("EXEUNT_TEST_OTHER_ABI"), "ABI " + std::to_string(kBackendAbi + 1),
                std::to_string(sizeof(Backend) + 8) + " bytes", std::to_string(kBackendAbi),
                std::to_string(sizeof(Backend))});
  EXPECT_EQ(run_row_stats(), EXN_OK) << exn_last_error();
}

// With a driver and a device it opens, and tests/gpu takes over.
TEST(InAProcessOfItsOwn, DISABLED_RealBackend) {
  if (exn_backend_available(EXN_BACKEND_CUDA) == 0) {
    const std::string reason = exn_backend_reason(EXN_BACKEND_CUDA);
    EXPECT_NE(reason.find("CUDA"), std::string::npos) << reason;
    EXPECT_TRUE(reason.find("no device") != std::string::npos ||
                reason.find("cudaError") != std::string::npos)
        << reason;
    EXPECT_EQ(exn_device_count(EXN_BACKEND_CUDA), 0);
    EXPECT_EQ(run_row_stats(kDLCUDA), EXN_BACKEND_UNAVAILABLE);
    expect_words({"row_stats", reason});
    EXPECT_EQ(exn_cuda_open(nullptr), EXN_BACKEND_UNAVAILABLE);
    expect_words({reason});
  }
  EXPECT_EQ(run_row_stats(), EXN_OK) << exn_last_error();
}

TEST(InAProcessOfItsOwn, DISABLED_Runs) { EXPECT_EQ(run_row_stats(), EXN_OK) << exn_last_error(); }

TEST(InAProcessOfItsOwn, DISABLED_Threads) { EXPECT_EQ(exn_cpu_threads(), 3); }

TEST(InAProcessOfItsOwn, DISABLED_ImpossibleThreads) {
  EXPECT_EQ(exn_cpu_threads(), 0);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(run_row_stats(), EXN_UNSUPPORTED);
    expect_words({"EXEUNT_THREADS", std::getenv("EXEUNT_THREADS"), "0..256"});
    EXPECT_EQ(exn_cpu_set_threads(0), EXN_UNSUPPORTED);
    expect_words({"EXEUNT_THREADS", std::getenv("EXEUNT_THREADS"), "0..256"});
  }
  uint64_t checksum = 0;
  EXPECT_EQ(exn_read_probe(&checksum, sizeof checksum, 0, &checksum), EXN_UNSUPPORTED);
  EXPECT_EQ(exn_cpu_set_threads(2), EXN_OK);  // an explicit choice repairs it
  EXPECT_EQ(run_row_stats(), EXN_OK) << exn_last_error();
}

TEST(InAProcessOfItsOwn, DISABLED_TuningIsKept) {
  EXPECT_NE(std::string(exn_cpu_tuning()).find("\n# the defaults\n"), std::string::npos);
  ASSERT_EQ(exn_cpu_tune(1, ""), EXN_OK) << exn_last_error();
  const std::string chosen = exn_cpu_tuning();
  EXPECT_NE(chosen.find(std::getenv("XDG_CACHE_HOME")), std::string::npos) << chosen;
  // As the next process begins.
  ASSERT_EQ(exn_cpu_set_tuning(""), EXN_OK);
  ASSERT_EQ(exn_cpu_set_tuning(nullptr), EXN_OK);
  const std::string again = exn_cpu_tuning();
  EXPECT_NE(again.find(std::getenv("XDG_CACHE_HOME")), std::string::npos) << again;
  EXPECT_EQ(run_row_stats(), EXN_OK) << exn_last_error();
}

TEST(InAProcessOfItsOwn, DISABLED_TuningOfAFile) {
  const std::string text = exn_cpu_tuning();
  EXPECT_NE(text.find(std::getenv("EXEUNT_TUNING")), std::string::npos) << text;
  EXPECT_NE(text.find("\nfar_mib 128\n"), std::string::npos) << text;
}

TEST(InAProcessOfItsOwn, DISABLED_TuningOfNoSense) {
  const std::string text = exn_cpu_tuning();
  EXPECT_NE(text.find("\n# the defaults, as of " + std::string(std::getenv("EXEUNT_TUNING")) + " " +
                      std::getenv("EXEUNT_TEST_SENTENCE")),
            std::string::npos)
      << text;
  EXPECT_EQ(run_row_stats(), EXN_OK) << exn_last_error();
}

TEST(Environment, Tuning) {
  const std::string folder =
      ::testing::TempDir() + "exeunt-" + std::to_string(std::random_device{}());
  ASSERT_TRUE(std::filesystem::create_directory(folder));
  const std::string file = folder + "/own";
  const auto write = [&](const char* text) { std::ofstream(file) << text; };
#if defined(__x86_64__)  // elsewhere a processor has no name to keep anything by
  const std::string cache = folder + "/cache";
  EXPECT_TRUE(passes_with("TuningIsKept", {{"XDG_CACHE_HOME", cache}, {"LOCALAPPDATA", cache}}));
#endif
  write("far_mib 128\n");
  EXPECT_TRUE(passes_with("TuningOfAFile", {{"EXEUNT_TUNING", file}}));
  write("far_mib 128\nfar_mib 1\n");
  EXPECT_TRUE(passes_with("TuningOfNoSense", {{"EXEUNT_TUNING", file},
                                              {"EXEUNT_TEST_SENTENCE", "line 2: far_mib is 1"}}));
  write(std::string(5000, '#').c_str());
  EXPECT_TRUE(
      passes_with("TuningOfNoSense",
                  {{"EXEUNT_TUNING", file}, {"EXEUNT_TEST_SENTENCE", "it is longer than 4 KiB"}}));
  EXPECT_TRUE(passes_with("TuningOfNoSense", {{"EXEUNT_TUNING", folder},
                                              {"EXEUNT_TEST_SENTENCE", "it cannot be read"}}));
  std::filesystem::remove_all(folder);
}

TEST(Environment, ImpossibleIsa) {
  EXPECT_TRUE(passes_with("ImpossibleIsa", {{"EXEUNT_ISA", "nonsense"}}));
}

TEST(Environment, ForcedIsa) {
  std::stringstream isas(exn_cpu_isas());
  for (std::string isa; std::getline(isas, isa, ',');) {
    EXPECT_TRUE(passes_with("ForcedIsa", {{"EXEUNT_ISA", isa}})) << isa;
  }
}

TEST(Environment, BackendCpu) {
  EXPECT_TRUE(passes_with("BackendCpu", {{"EXEUNT_BACKEND", "cpu"}}));
}

TEST(Environment, BackendThatDoesNotExist) {
  EXPECT_TRUE(passes_with("NoSuchBackend", {{"EXEUNT_BACKEND", "gpu"}}));
}

TEST(Environment, EmptyVariablesSayNothing) {
  EXPECT_TRUE(passes_with("Runs", {{"EXEUNT_BACKEND", ""}, {"EXEUNT_ISA", ""}}));
}

TEST(Environment, MissingCudaLibrary) {
  EXPECT_TRUE(
      passes_with("MissingCudaLibrary", {{"EXEUNT_CUDA_LIBRARY", "/nonexistent/libnone.so"}}));
}

TEST(Environment, SomeOtherLibrary) {
  EXPECT_TRUE(passes_with("SomeOtherLibrary", {{"EXEUNT_CUDA_LIBRARY", kOtherLibrary}}));
}

TEST(Environment, BackendOfAnotherAbi) {
  const char* library = std::getenv("EXEUNT_TEST_OTHER_ABI");
  if (library == nullptr) GTEST_SKIP() << "no such backend in this run";
  EXPECT_TRUE(passes_with("BackendOfAnotherAbi", {{"EXEUNT_CUDA_LIBRARY", library}}));
}

TEST(Environment, RealBackend) {
  const char* library = std::getenv("EXEUNT_TEST_CUDA");
  if (library == nullptr) GTEST_SKIP() << "no libexeunt_cuda.so in this run";
  EXPECT_TRUE(passes_with("RealBackend", {{"EXEUNT_CUDA_LIBRARY", library}}));
}

// The other way round: what the real backend says to a library of another ABI. Nothing else in
// this process has opened it.
TEST(Backends, RefuseALibraryOfAnotherAbi) {
  const char* path = std::getenv("EXEUNT_TEST_CUDA");
  if (path == nullptr) GTEST_SKIP() << "no libexeunt_cuda.so in this run";
  const auto query = reinterpret_cast<BackendQuery>(function_of(path, kBackendQuerySymbol));
  ASSERT_NE(query, nullptr);
  static std::string said;
  static constexpr Host kOther{[](exn_status status, const char* sentence) {
                                 said = sentence;
                                 return status;
                               },
                               [](const char*) {}};
  Backend table = {};
  EXPECT_EQ(query(kBackendAbi + 1, &kOther, &table), EXN_BACKEND_UNAVAILABLE);
  EXPECT_EQ(said, "the CUDA backend speaks ABI " + std::to_string(kBackendAbi) + ", the library " +
                      std::to_string(kBackendAbi + 1));
  EXPECT_EQ(table.alloc, nullptr) << "a refused query filled the table";
}

TEST(Environment, Threads) { EXPECT_TRUE(passes_with("Threads", {{"EXEUNT_THREADS", "3"}})); }

TEST(Environment, ImpossibleThreads) {
  for (const char* threads : {"abc", "3x", "-1", "257", "99999999999999999999"}) {
    EXPECT_TRUE(passes_with("ImpossibleThreads", {{"EXEUNT_THREADS", threads}})) << threads;
  }
}

}  // namespace
}  // namespace exn::test
