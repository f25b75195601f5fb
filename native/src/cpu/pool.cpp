// SPDX-License-Identifier: Apache-2.0
#include "pool.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace exn::cpu {
namespace {

constexpr int32_t kMaxThreads = 256;

void futex_wait(std::atomic<uint32_t>* word, uint32_t seen) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
}

void futex_wake_all(std::atomic<uint32_t>* word) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, kMaxThreads, nullptr, nullptr, 0);
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  __asm__ volatile("yield");
#endif
}

int32_t usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  const int n = CPU_COUNT(&set);
  return n < 1 ? 1 : n > kMaxThreads ? kMaxThreads : n;
}

int32_t default_threads() {
  const char* text = std::getenv("EXEUNT_THREADS");
  const int n = text != nullptr ? std::atoi(text) : 0;
  return n >= 1 && n <= kMaxThreads ? n : usable_cores();
}

class Pool {
 public:
  Pool() : wanted_(default_threads()) {}

  int32_t threads() const { return wanted_.load(std::memory_order_relaxed); }

  void set_threads(int32_t n) {
    std::lock_guard<std::mutex> lock(busy_);
    stop();
    wanted_.store(n == 0 ? default_threads() : n, std::memory_order_relaxed);
  }

  void run(int64_t count, int64_t chunk, void* context, Body body) {
    const int64_t pieces = (count + chunk - 1) / chunk;
    if (threads() == 1 || pieces >= (int64_t{1} << 31) || !busy_.try_lock()) {
      body(context, 0, count);
      return;
    }
    std::lock_guard<std::mutex> lock(busy_, std::adopt_lock);
    start();
    const auto all = static_cast<uint32_t>(pieces);
    // The generation in the upper half makes a claim by a worker that slept
    // through the last loop fail.
    const uint32_t generation = loop_.generation.load(std::memory_order_relaxed) + 1;
    uint32_t piece = 0;
    loop_.count = count;
    loop_.chunk = chunk;
    loop_.context = context;
    loop_.body = body;
    done_.store(0, std::memory_order_relaxed);
    loop_.pieces.store(all, std::memory_order_relaxed);
    // The caller's first piece is claimed before anyone can see the loop.
    loop_.next.store(uint64_t{generation} << 32 | 1, std::memory_order_release);
    loop_.generation.store(generation, std::memory_order_release);
    // Whoever goes to sleep at this very moment sleeps through the loop, which is done without it.
    if (sleepers_.load(std::memory_order_seq_cst) > 0) futex_wake_all(&loop_.generation);
    uint32_t own = 0;
    do {
      run_piece(piece);
      ++own;
    } while (claim(generation, &piece));
    while (done_.load(std::memory_order_acquire) + own < all) relax();
    // Closes the loop: a worker that comes late finds no piece and must not read
    // the loop's fields any more.
    loop_.next.store(uint64_t{generation} << 32 | 0xffffffffu, std::memory_order_release);
  }

 private:
  bool claim(uint32_t generation, uint32_t* piece) {
    uint64_t seen = loop_.next.load(std::memory_order_acquire);
    do {
      *piece = static_cast<uint32_t>(seen);
      if (seen >> 32 != generation || *piece >= loop_.pieces.load(std::memory_order_relaxed))
        return false;
    } while (!loop_.next.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel));
    return true;
  }

  void run_piece(uint32_t piece) {
    const int64_t begin = piece * loop_.chunk, end = begin + loop_.chunk;
    loop_.body(loop_.context, begin, end < loop_.count ? end : loop_.count);
  }

  void work(uint32_t generation) {
    for (uint32_t piece; claim(generation, &piece);) {
      run_piece(piece);
      done_.fetch_add(1, std::memory_order_release);
    }
  }

  void worker(uint32_t seen) {
    while (!stopping_.load(std::memory_order_acquire)) {
      uint32_t now = loop_.generation.load(std::memory_order_acquire);
      // Loops follow each other within microseconds while an op runs: a
      // short spin spares the wake-up.
      for (int spin = 0; now == seen && spin < 2000; ++spin) {
        relax();
        now = loop_.generation.load(std::memory_order_acquire);
      }
      if (now == seen) {
        sleepers_.fetch_add(1, std::memory_order_seq_cst);
        futex_wait(&loop_.generation, seen);
        sleepers_.fetch_sub(1, std::memory_order_seq_cst);
        continue;
      }
      seen = now;
      work(now);
    }
  }

  void start() {
    if (!workers_.empty() || threads() == 1) return;
    stopping_.store(false, std::memory_order_release);
    const uint32_t now = loop_.generation.load(std::memory_order_relaxed);
    for (int32_t i = 1; i < threads(); ++i) {
      try {
        workers_.emplace_back([this, now] { worker(now); });
      } catch (const std::exception&) {  // no thread, or no memory for its record
        return;  // fewer workers: the caller claims what they would have done
      }
    }
  }

  void stop() {
    stopping_.store(true, std::memory_order_release);
    loop_.generation.fetch_add(1, std::memory_order_release);
    futex_wake_all(&loop_.generation);
    for (std::thread& t : workers_) t.join();
    workers_.clear();
  }

  // What a worker needs to begin, in one line: between cores that share no cache a line takes some
  // 170 ns, and a weight matrix of 1 MiB is read in 20 us.
  struct alignas(64) Loop {
    std::atomic<uint32_t> generation{0};
    std::atomic<uint32_t> pieces{0};
    std::atomic<uint64_t> next{0xffffffffu};
    int64_t count = 0;
    int64_t chunk = 1;
    void* context = nullptr;
    Body body = nullptr;
  };
  static_assert(sizeof(Loop) == 64);

  Loop loop_;
  alignas(64) std::atomic<uint32_t> done_{0};  // pieces that workers did
  alignas(64) std::mutex busy_;  // written with each loop; the rest stays in all caches
  alignas(64) std::atomic<uint32_t> sleepers_{0};
  std::atomic<int32_t> wanted_;
  std::vector<std::thread> workers_;
  std::atomic<bool> stopping_{false};
};

Pool& pool() {
  // Never destroyed: workers may outlive static destruction while a JVM exits.
  static Pool* instance = new Pool;
  return *instance;
}

}  // namespace

void parallel_for_pieces(int64_t count, int64_t chunk, void* context, Body body) {
  pool().run(count, chunk, context, body);
}

int32_t threads() { return pool().threads(); }

void set_threads(int32_t threads) { pool().set_threads(threads); }

}  // namespace exn::cpu
