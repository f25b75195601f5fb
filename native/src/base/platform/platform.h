// SPDX-License-Identifier: Apache-2.0
// What exeunt needs of the operating system. Of the sources beside this, the build takes those of
// its system; no other file asks which system it is for.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace exn::platform {

// ---- threads and cores --------------------------------------------------------------------------

// Nanoseconds of a clock that never goes back.
int64_t now();

// Cores that this process may use, at least 1.
int32_t usable_cores();

// That of the calling thread, or -1 where the system does not say, or threads cannot be placed.
int current_core();

// Lets another thread have the calling thread's core.
void yield_core();

// Calls f in each child that this process forks from now on, which has no other threads.
void in_forked_child(void (*f)());

// Sleeps while *word is `seen`, until wake() of one of `sleepers`; may return without.
void wait_on(std::atomic<uint32_t>* word, uint32_t seen, uint32_t sleepers);

// Wakes all that wait on the word for one of these bits; where the system knows no such bits, all.
void wake(std::atomic<uint32_t>* word, uint32_t sleepers);

// A thread that may be kept off a core, where the system lets threads be placed.
class Thread {
 public:
  // Calls main(argument) on a thread of its own, with so many bytes of stack. False: none is to be
  // had. After join(), or in a forked child, it may begin anew.
  bool begin(void (*main)(void*), void* argument, size_t stack);
  void join();

  // Any core that others allow it, but not this one.
  void keep_off(int core);

  // Only this core, if others allow it.
  void move_to(int core);

  // Nanoseconds for which it has run; 0 if unknown.
  int64_t ran() const;

 private:
  struct State;
  State* state_ = nullptr;  // kept for the next begin()
};

// ---- memory -------------------------------------------------------------------------------------

// `align` is a power of two that divides `bytes`. Null: there is none.
void* allocate(size_t align, size_t bytes);
void release(void* p);

// Asks for large pages, which the system may refuse.
void prefer_large_pages(void* p, size_t bytes);

size_t page_size();

// Has mend(address) called where a page of a mapped file is missing, since the file was cut. If it
// returns true, the page is there now. False: the system refuses the handler. It is called within a
// signal handler, and at most one is ever installed.
bool on_lost_page(bool (*mend)(uintptr_t address));

// Puts pages of zeros there in place of what is mapped.
bool map_zeros(uintptr_t from, size_t bytes);

// ---- libraries ----------------------------------------------------------------------------------

// Null after putting into *why what is wrong.
void* open_library(const std::string& path, std::string* why);
void* symbol_of(void* library, const char* name);
void close_library(void* library);

// The file of the library that this is linked into; empty if unknown. It is never freed.
const char* this_library();

// How the file of library `name` is called in this folder, which ends with a separator or is empty.
std::string library_in(const std::string& folder, const char* name);

// The folder of a file, with its separator; empty if it has none.
std::string folder_of(const std::string& file);

// ---- files --------------------------------------------------------------------------------------

// Up to `most` bytes of a file, how many there were; -1: it cannot be read. Allocates nothing.
int64_t read_file(const char* path, char* to, size_t most);

// Has the file hold this text, with the two folders it lies in: another process sees what it held
// before, or all of this. False, with the system's reason in *why.
bool replace_file(const std::string& path, const char* text, std::string* why);

// The folder of the user's for what can be made anew. False: there is none, or no space for its name.
bool cache_folder(char* to, size_t size);

// ---- processor ----------------------------------------------------------------------------------

// Asks for the registers of AMX's tiles, which a process has to ask for; false where it is refused.
bool may_use_tiles();

}  // namespace exn::platform
