// SPDX-License-Identifier: Apache-2.0
// What Linux and macOS share.
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/platform/platform.h"
#include "base/platform/posix.h"

namespace exn::platform {

int64_t now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{1000000000} * time.tv_sec + time.tv_nsec;
}

void yield_core() { sched_yield(); }

void in_forked_child(void (*f)()) { pthread_atfork(nullptr, nullptr, f); }

bool PosixThread::begin(size_t stack) {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return false;
  // The default is that of the process, which may have made it small, or none at all.
  pthread_attr_setstacksize(&attributes, stack);
  const auto call = [](void* self) -> void* {
    static_cast<PosixThread*>(self)->main(static_cast<PosixThread*>(self)->argument);
    return nullptr;
  };
  const bool runs = pthread_create(&thread, &attributes, call, this) == 0;
  pthread_attr_destroy(&attributes);
  return runs;
}

void* allocate(size_t align, size_t bytes) { return std::aligned_alloc(align, bytes); }

void release(void* p) { std::free(p); }

size_t page_size() {
  static const auto bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

// ---- missing pages of mapped files --------------------------------------------------------------

namespace {

bool (*mend_page)(uintptr_t address);
struct sigaction before;  // the handler that ours came before

// What would have happened without us.
void pass_on(int signal, siginfo_t* info, void* context) {
  if ((before.sa_flags & SA_SIGINFO) != 0) {
    before.sa_sigaction(signal, info, context);
    return;
  }
  const bool sent = info->si_code <= 0;  // by somebody, and not by an instruction
  if (before.sa_handler == SIG_IGN && sent) return;
  if (before.sa_handler != SIG_IGN && before.sa_handler != SIG_DFL) {
    before.sa_handler(signal);
    return;
  }
  struct sigaction usual = {};
  usual.sa_handler = SIG_DFL;
  sigaction(signal, &usual, nullptr);
  if (sent) raise(signal);  // once this handler has returned, as the instruction does
}

void on_bus_error(int signal, siginfo_t* info, void* context) {
  const int kept = errno;
  if (info->si_code != BUS_ADRERR || !mend_page(reinterpret_cast<uintptr_t>(info->si_addr))) {
    pass_on(signal, info, context);
  }
  errno = kept;
}

}  // namespace

bool on_lost_page(bool (*mend)(uintptr_t address)) {
  mend_page = mend;
  if (sigaction(SIGBUS, nullptr, &before) != 0) return false;
  struct sigaction ours = {};
  ours.sa_sigaction = on_bus_error;
  ours.sa_mask = before.sa_mask;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | (before.sa_flags & SA_NODEFER);
  return sigaction(SIGBUS, &ours, nullptr) == 0;
}

bool map_zeros(uintptr_t from, size_t bytes) {
  return mmap(reinterpret_cast<void*>(from), bytes, PROT_READ,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

// ---- libraries ----------------------------------------------------------------------------------

void* open_library(const std::string& path, std::string* why) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) *why = dlerror();
  return library;
}

void* symbol_of(void* library, const char* name) { return dlsym(library, name); }

void close_library(void* library) { dlclose(library); }

// Asks for a variable of its own: another library that was loaded first may define a function of the
// same name.
const char* this_library() {
  Dl_info info;
  return dladdr(&mend_page, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "";
}

std::string folder_of(const std::string& file) { return file.substr(0, file.rfind('/') + 1); }

// ---- files --------------------------------------------------------------------------------------

int64_t read_file(const char* path, char* to, size_t most) {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -1;
  size_t had = 0;
  ssize_t bytes = 0;
  while (had < most && (bytes = read(file, to + had, most - had)) != 0) {
    if (bytes > 0) {
      had += static_cast<size_t>(bytes);
    } else if (errno != EINTR) {
      break;
    }
  }
  close(file);
  return bytes < 0 ? -1 : static_cast<int64_t>(had);
}

bool replace_file(const std::string& path, const char* text, std::string* why) {
  std::string folder = folder_of(path);
  if (!folder.empty()) folder.pop_back();
  const std::string outer = folder_of(folder);
  if (!outer.empty()) mkdir(outer.c_str(), 0700);
  if (!folder.empty()) mkdir(folder.c_str(), 0700);
  const std::string made = path + "." + std::to_string(getpid());
  const int file = open(made.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  const auto length = static_cast<ssize_t>(std::strlen(text));
  bool done = file >= 0 && write(file, text, static_cast<size_t>(length)) == length;
  if (file >= 0) done = close(file) == 0 && done;
  if (done && rename(made.c_str(), path.c_str()) == 0) return true;
  *why = std::strerror(errno);
  unlink(made.c_str());
  return false;
}

bool cache_folder(char* to, size_t size) {
  const char* const named = std::getenv("XDG_CACHE_HOME");
  const char* const home = std::getenv("HOME");
  int length = -1;
  if (named != nullptr && named[0] == '/') {
    length = std::snprintf(to, size, "%s", named);
  } else if (home != nullptr && home[0] == '/') {
    length = std::snprintf(to, size, "%s/.cache", home);
  }
  return length > 0 && static_cast<size_t>(length) < size;
}

}  // namespace exn::platform
