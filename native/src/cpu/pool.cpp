// SPDX-License-Identifier: Apache-2.0
#include "pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <mutex>
#include <new>

namespace exn::cpu {
namespace {

constexpr int32_t kMaxThreads = 256;
// Thread-local variables of all libraries of the process lie there, too.
constexpr size_t kWorkerStack = kMostScratch + (size_t{2} << 20);

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

// 0 if EXEUNT_THREADS is no number of threads.
int32_t default_threads() {
  const char* text = std::getenv("EXEUNT_THREADS");
  if (text == nullptr || *text == 0) return usable_cores();
  char* end = nullptr;
  errno = 0;
  const long n = std::strtol(text, &end, 10);
  if (*end != 0 || errno != 0 || n < 0 || n > kMaxThreads) return 0;
  return n == 0 ? usable_cores() : static_cast<int32_t>(n);
}

class Pool;
Pool& pool();

class Pool {
 public:
  Pool() : wanted_(default_threads()) {
    // A forked child has none of the workers, nor the thread whose loop may hold the lock.
    pthread_atfork(nullptr, nullptr, [] { pool().forget_workers(); });
  }

  int32_t threads() const { return wanted_.load(std::memory_order_relaxed); }

  // Whether there is such a number: 0 asks for the default, which may make no sense.
  bool set_threads(int32_t n) {
    const int32_t wanted = n == 0 ? default_threads() : n;
    if (wanted == 0) return false;
    std::lock_guard<std::mutex> lock(busy_);
    stop();
    wanted_.store(wanted, std::memory_order_relaxed);
    return true;
  }

  void run(int64_t count, int64_t chunk, void* context, void* scratch, Body body) {
    const int64_t units = (count + chunk - 1) / chunk;
    if (threads() == 1 || units >= (int64_t{1} << 31) || !busy_.try_lock()) {
      body(context, scratch, 0, count);
      return;
    }
    std::lock_guard<std::mutex> lock(busy_, std::adopt_lock);
    start();
    loop_.count = count;
    loop_.chunk = chunk;
    loop_.context = context;
    loop_.body = body;
    done_.store(0, std::memory_order_relaxed);
    // A worker that is still looking for work of the last loop may begin at once.
    const int64_t n = threads();
    int64_t first = units;
    for (int64_t i = n - 1; i >= 0; --i) {
      const int64_t end = first;
      first = (units * i + n - 1) / n;
      ranges_[i].units.store(pack(first, end), std::memory_order_release);
    }
    loop_.generation.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) futex_wake_all(&loop_.generation);
    const uint32_t own = work(0, scratch);
    while (done_.load(std::memory_order_acquire) + own < static_cast<uint32_t>(units)) relax();
  }

 private:
  static uint64_t pack(int64_t first, int64_t end) {
    return static_cast<uint64_t>(first) << 32 | static_cast<uint64_t>(end);
  }

  // Units [first, end).
  struct Piece {
    uint32_t first, end;
  };

  // Takes half of what is left of a range, rounded up: its owner from the front, where it goes on
  // reading, anyone else from the back.
  bool take(int32_t from, bool front, Piece* piece) {
    std::atomic<uint64_t>& units = ranges_[from].units;
    uint64_t seen = units.load(std::memory_order_acquire), left;
    do {
      const auto first = static_cast<uint32_t>(seen >> 32), end = static_cast<uint32_t>(seen);
      if (first >= end) return false;
      const uint32_t some = (end - first + 1) / 2;
      *piece = front ? Piece{first, first + some} : Piece{end - some, end};
      left = front ? pack(first + some, end) : pack(first, end - some);
    } while (!units.compare_exchange_weak(seen, left, std::memory_order_acq_rel));
    return true;
  }

  void run_piece(const Piece& piece, void* scratch) {
    const int64_t end = piece.end * loop_.chunk;
    loop_.body(loop_.context, scratch, piece.first * loop_.chunk,
               end < loop_.count ? end : loop_.count);
  }

  // Does what is left of the own range, then of the others'; returns how many units.
  uint32_t work(int32_t own, void* scratch) {
    const int32_t n = threads();
    uint32_t did = 0;
    for (int32_t from = own, tried = 0; tried < n;) {
      Piece piece;
      if (!take(from, from == own, &piece)) {
        from = from + 1 < n ? from + 1 : 0;
        ++tried;
        continue;
      }
      tried = 0;
      run_piece(piece, scratch);
      did += piece.end - piece.first;
      if (own != 0) done_.fetch_add(piece.end - piece.first, std::memory_order_release);
    }
    return did;
  }

  void worker(int32_t index, uint32_t seen) {
    alignas(64) char scratch[kMostScratch];
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
      work(index, scratch);
    }
  }

  // What a worker begins with.
  struct Start {
    Pool* pool;
    int32_t index;
    uint32_t seen;
  };

  void start() {
    if (worker_count_ > 0 || threads() == 1) return;
    stopping_.store(false, std::memory_order_release);
    const uint32_t now = loop_.generation.load(std::memory_order_relaxed);
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return;
    // The default is that of the process, which may have made it small, or none at all.
    pthread_attr_setstacksize(&attributes, kWorkerStack);
    for (int32_t i = 1; i < threads(); ++i) {
      starts_[i] = {this, i, now};
      const auto main = [](void* argument) -> void* {
        const Start& start = *static_cast<const Start*>(argument);
        start.pool->worker(start.index, start.seen);
        return nullptr;
      };
      // No thread to be had means fewer workers: the others take what they would have done.
      if (pthread_create(&workers_[worker_count_], &attributes, main, &starts_[i]) != 0) break;
      ++worker_count_;
    }
    pthread_attr_destroy(&attributes);
  }

  void stop() {
    stopping_.store(true, std::memory_order_release);
    loop_.generation.fetch_add(1, std::memory_order_release);
    futex_wake_all(&loop_.generation);
    while (worker_count_ > 0) pthread_join(workers_[--worker_count_], nullptr);
  }

  // In a forked child.
  void forget_workers() {
    worker_count_ = 0;
    sleepers_.store(0, std::memory_order_relaxed);
    for (Range& range : ranges_) range.units.store(0, std::memory_order_relaxed);
    new (&busy_) std::mutex;
  }

  // What a worker waits for and then needs, in one line: between cores that share no cache a line
  // takes some 170 ns, and 1 MiB of weights is read in 20 us.
  struct alignas(64) Loop {
    std::atomic<uint32_t> generation{0};
    int64_t count = 0;
    int64_t chunk = 1;
    void* context = nullptr;
    Body body = nullptr;
  };
  // What a thread has yet to do, first unit << 32 | end. It names units that nobody has taken, so
  // whoever finds it unchanged, in this loop or a later one, may take some.
  struct alignas(64) Range {
    std::atomic<uint64_t> units{0};
  };

  Loop loop_;
  Range ranges_[kMaxThreads];
  alignas(64) std::atomic<uint32_t> done_{0};  // units, by workers
  alignas(64) std::mutex busy_;  // written with each loop; the rest stays in all caches
  alignas(64) std::atomic<uint32_t> sleepers_{0};
  std::atomic<int32_t> wanted_;
  pthread_t workers_[kMaxThreads];
  Start starts_[kMaxThreads];
  int32_t worker_count_ = 0;
  std::atomic<bool> stopping_{false};
};

Pool& pool() {
  // Never destroyed: workers may outlive static destruction while a JVM exits.
  alignas(Pool) static unsigned char memory[sizeof(Pool)];
  static Pool* instance = new (memory) Pool;
  return *instance;
}

}  // namespace

void parallel_for_pieces(int64_t count, int64_t chunk, void* context, void* scratch, Body body) {
  pool().run(count, chunk, context, scratch, body);
}

int32_t threads() { return pool().threads(); }

bool set_threads(int32_t threads) { return pool().set_threads(threads); }

}  // namespace exn::cpu
