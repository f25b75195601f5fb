// SPDX-License-Identifier: Apache-2.0
// Windows 10 and later, 64 bits.
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <malloc.h>
#include <windows.h>

#include <cstring>
#include <new>

#include "base/platform/platform.h"

namespace exn::platform {

// ---- threads and cores --------------------------------------------------------------------------

int64_t now() {
  LARGE_INTEGER ticks, a_second;
  QueryPerformanceCounter(&ticks);
  QueryPerformanceFrequency(&a_second);
  const int64_t seconds = ticks.QuadPart / a_second.QuadPart;
  const int64_t rest = ticks.QuadPart % a_second.QuadPart;
  return int64_t{1000000000} * seconds + int64_t{1000000000} * rest / a_second.QuadPart;
}

int32_t usable_cores() {
  const DWORD cores = GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
  return cores < 1 ? 1 : static_cast<int32_t>(cores);
}

// Threads are left where the system puts them.
int current_core() { return -1; }

void yield_core() { SwitchToThread(); }

void in_forked_child(void (*)()) {}  // no process forks

void wait_on(std::atomic<uint32_t>* word, uint32_t seen, uint32_t) {
  WaitOnAddress(word, &seen, sizeof seen, INFINITE);
}

void wake(std::atomic<uint32_t>* word, uint32_t) { WakeByAddressAll(word); }

struct Thread::State {
  HANDLE thread;
  void (*main)(void*);
  void* argument;
};

bool Thread::begin(void (*main)(void*), void* argument, size_t stack) {
  if (state_ == nullptr) state_ = new (std::nothrow) State;
  if (state_ == nullptr) return false;
  state_->main = main;
  state_->argument = argument;
  const auto call = [](void* state) -> DWORD {
    static_cast<State*>(state)->main(static_cast<State*>(state)->argument);
    return 0;
  };
  state_->thread =
      CreateThread(nullptr, stack, call, state_, STACK_SIZE_PARAM_IS_A_RESERVATION, nullptr);
  return state_->thread != nullptr;
}

void Thread::join() {
  WaitForSingleObject(state_->thread, INFINITE);
  CloseHandle(state_->thread);
}

void Thread::keep_off(int) {}

void Thread::move_to(int) {}

int64_t Thread::ran() const { return 0; }

// ---- memory -------------------------------------------------------------------------------------

void* allocate(size_t align, size_t bytes) { return _aligned_malloc(bytes, align); }

void release(void* p) { _aligned_free(p); }

void prefer_large_pages(void*, size_t) {}  // they take a privilege that few have

size_t page_size() {
  static const size_t bytes = [] {
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return static_cast<size_t>(info.dwPageSize);
  }();
  return bytes;
}

// A file that is mapped cannot be cut here.
bool on_lost_page(bool (*)(uintptr_t)) { return true; }

bool map_zeros(uintptr_t, size_t) { return false; }

// ---- libraries ----------------------------------------------------------------------------------

namespace {

// Paths are UTF-8 here, as everywhere else.
std::wstring wide(const std::string& text) {
  const auto bytes = static_cast<int>(text.size());
  const int length = MultiByteToWideChar(CP_UTF8, 0, text.data(), bytes, nullptr, 0);
  std::wstring result(static_cast<size_t>(length), L' ');
  MultiByteToWideChar(CP_UTF8, 0, text.data(), bytes, result.data(), length);
  return result;
}

std::string narrow(const wchar_t* text, DWORD length) {
  const auto words = static_cast<int>(length);
  const int bytes = WideCharToMultiByte(CP_UTF8, 0, text, words, nullptr, 0, nullptr, nullptr);
  std::string result(static_cast<size_t>(bytes), ' ');
  WideCharToMultiByte(CP_UTF8, 0, text, words, result.data(), bytes, nullptr, nullptr);
  return result;
}

}  // namespace

void* open_library(const std::string& path, std::string* why) {
  HMODULE library = LoadLibraryW(wide(path).c_str());
  if (library == nullptr) *why = path + ": error " + std::to_string(GetLastError());
  return library;
}

void* symbol_of(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}

void close_library(void* library) { FreeLibrary(static_cast<HMODULE>(library)); }

const char* this_library() {
  static const std::string file = [] {
    HMODULE library = nullptr;
    wchar_t path[4 * MAX_PATH];
    constexpr DWORD kByAddress =
        GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
    static constexpr char kOwn = 0;
    if (!GetModuleHandleExW(kByAddress, reinterpret_cast<const wchar_t*>(&kOwn), &library)) {
      return std::string();
    }
    const DWORD length = GetModuleFileNameW(library, path, 4 * MAX_PATH);
    return length < 4 * MAX_PATH ? narrow(path, length) : std::string();
  }();
  return file.c_str();
}

std::string library_in(const std::string& folder, const char* name) {
  return folder + name + ".dll";
}

std::string folder_of(const std::string& file) {
  return file.substr(0, file.find_last_of("/\\") + 1);
}

// ---- files --------------------------------------------------------------------------------------

int64_t read_file(const char* path, char* to, size_t most) {
  HANDLE file = CreateFileW(wide(path).c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE,
                            nullptr, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr);
  if (file == INVALID_HANDLE_VALUE) return -1;
  DWORD bytes = 0;
  const BOOL done = ReadFile(file, to, static_cast<DWORD>(most), &bytes, nullptr);
  CloseHandle(file);
  return done ? static_cast<int64_t>(bytes) : -1;
}

bool replace_file(const std::string& path, const char* text, std::string* why) {
  std::string folder = folder_of(path);
  if (!folder.empty()) folder.pop_back();
  const std::string outer = folder_of(folder);
  if (!outer.empty()) CreateDirectoryW(wide(outer).c_str(), nullptr);
  if (!folder.empty()) CreateDirectoryW(wide(folder).c_str(), nullptr);
  const std::wstring made = wide(path + "." + std::to_string(GetCurrentProcessId()));
  HANDLE file = CreateFileW(made.c_str(), GENERIC_WRITE, 0, nullptr, CREATE_ALWAYS,
                            FILE_ATTRIBUTE_NORMAL, nullptr);
  DWORD written = 0;
  const auto length = static_cast<DWORD>(std::strlen(text));
  bool done = file != INVALID_HANDLE_VALUE && WriteFile(file, text, length, &written, nullptr) &&
              written == length;
  if (file != INVALID_HANDLE_VALUE) done = CloseHandle(file) && done;
  if (done && MoveFileExW(made.c_str(), wide(path).c_str(), MOVEFILE_REPLACE_EXISTING)) return true;
  *why = "error " + std::to_string(GetLastError());
  DeleteFileW(made.c_str());
  return false;
}

bool cache_folder(char* to, size_t size) {
  wchar_t folder[MAX_PATH];
  const DWORD length = GetEnvironmentVariableW(L"LOCALAPPDATA", folder, MAX_PATH);
  if (length == 0 || length >= MAX_PATH) return false;
  const std::string name = narrow(folder, length);
  if (name.size() >= size) return false;
  std::memcpy(to, name.c_str(), name.size() + 1);
  return true;
}

// ---- processor ----------------------------------------------------------------------------------

bool may_use_tiles() { return false; }

}  // namespace exn::platform
