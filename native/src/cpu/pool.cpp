// SPDX-License-Identifier: Apache-2.0
#include "pool.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <mutex>
#include <new>

#include "base/platform/platform.h"

namespace exn::cpu {
namespace {

constexpr int32_t kMaxThreads = 256;
// Loops that have workers at a time; a caller that comes while so many are open runs alone.
constexpr int32_t kMostLoops = 16;
// Thread-local variables of all libraries of the process lie there, too.
constexpr size_t kWorkerStack = kMostScratch + (size_t{2} << 20);
// Looks at what another thread writes, 20 to 60 us in all.
constexpr int kPatience = 2000;
// For half of that to all of it, in ns, a caller keeps its share between two loops. Ops follow each
// other within less, and a worker that others got meanwhile would take the core of its next loop.
constexpr int64_t kLinger = 50000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  __asm__ volatile("yield");
#endif
}

int32_t usable_cores() {
  const int32_t n = platform::usable_cores();
  return n > kMaxThreads ? kMaxThreads : n;
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

// ---- a loop -------------------------------------------------------------------------------------

// Units [first, end).
struct Piece {
  uint32_t first, end;
};

// What a thread has yet to do, first unit << 32 | end. It names units that no thread has taken, so
// a thread that finds it unchanged, in this loop or a later one, may take some.
class alignas(64) Range {
 public:
  void set(int64_t first, int64_t end) {
    units_.store(pack(first, end), std::memory_order_release);
  }

  // Takes half of what is left, rounded up: its owner from the front, where it goes on reading,
  // anyone else from the back.
  bool take(bool front, Piece* piece) {
    uint64_t seen = units_.load(std::memory_order_acquire), left;
    do {
      const auto first = static_cast<uint32_t>(seen >> 32), end = static_cast<uint32_t>(seen);
      if (first >= end) return false;
      const uint32_t some = (end - first + 1) / 2;
      *piece = front ? Piece{first, first + some} : Piece{end - some, end};
      left = front ? pack(first + some, end) : pack(first, end - some);
    } while (!units_.compare_exchange_weak(seen, left, std::memory_order_acq_rel));
    return true;
  }

 private:
  static uint64_t pack(int64_t first, int64_t end) {
    return static_cast<uint64_t>(first) << 32 | static_cast<uint64_t>(end);
  }

  std::atomic<uint64_t> units_{0};
};

// The threads that share a loop: its caller, which has seat 0, and the workers from `first` on.
struct Team {
  int32_t first, seats;

  // 0: it has none.
  int32_t seat_of(int32_t worker) const {
    const int32_t seat = worker - first + 1;
    return seat >= 1 && seat < seats ? seat : 0;
  }

  uint32_t bits() const {
    uint32_t bits = seats > 32 ? ~0u : 0;
    for (int32_t i = 0; bits != ~0u && i + 1 < seats; ++i) bits |= bit(first + i);
    return bits;
  }

  static uint32_t bit(int32_t worker) { return 1u << (worker & 31); }
};

struct Loop {
  // What a worker waits for and then needs, in one line: between cores that share no cache a line
  // takes some 170 ns, and 1 MiB of weights is read in 20 us.
  alignas(64) std::atomic<uint32_t> generation{0};
  std::atomic<Team> team{Team{0, 0}};
  int64_t count = 0;
  int64_t chunk = 1;
  void* context = nullptr;
  Body body = nullptr;

  Range ranges[kMaxThreads];                  // by seat
  alignas(64) std::atomic<uint32_t> done{0};  // units, by workers
  std::atomic<bool> awaited{false};           // its caller sleeps until a worker is through
  alignas(64) std::mutex busy;  // written with each loop; the rest stays in all caches

  // Does what is left of the seat's range, then of the others', as long as may_stay(); returns how
  // many units.
  template <class MayStay>
  uint32_t work(int32_t seat, int32_t seats, void* scratch, MayStay&& may_stay) {
    uint32_t did = 0;
    for (int32_t from = seat, tried = 0; tried < seats && may_stay();) {
      Piece piece;
      if (!ranges[from].take(from == seat, &piece)) {
        from = from + 1 < seats ? from + 1 : 0;
        ++tried;
        continue;
      }
      tried = 0;
      const int64_t end = piece.end * chunk;
      body(context, scratch, piece.first * chunk, end < count ? end : count);
      did += piece.end - piece.first;
      if (seat != 0) report(piece.end - piece.first);
    }
    return did;
  }

 private:
  void report(uint32_t units) {
    done.fetch_add(units, std::memory_order_seq_cst);
    if (!awaited.load(std::memory_order_seq_cst)) return;
    platform::wake(&done, ~0u);
    platform::yield_core();  // to the caller, whose core this is
  }
};

// ---- a thread of the pool -----------------------------------------------------------------------

// It stays off the core of the caller that it works for. Left to the system, a worker that wakes
// beside a busy process is often queued after its caller, takes a piece when that one's time is
// over, and has the caller wait for it on the core that it needs.
struct alignas(64) Worker {
  std::atomic<const Loop*> serves{nullptr};  // the loop whose pieces it takes
  platform::Thread thread;
};

// ---- the pool -----------------------------------------------------------------------------------

class Pool;
Pool& pool();

class Pool {
 public:
  Pool() : wanted_(default_threads()) {
    // A forked child has none of the workers, nor the threads whose loops may hold the locks.
    platform::in_forked_child([] { pool().forget_workers(); });
  }

  int32_t threads() const { return wanted_.load(std::memory_order_relaxed); }

  // Whether there is such a number: 0 asks for the default, which may make no sense.
  bool set_threads(int32_t n) {
    const int32_t wanted = n == 0 ? default_threads() : n;
    if (wanted == 0) return false;
    for (Loop& loop : loops_) loop.busy.lock();
    stop();
    wanted_.store(wanted, std::memory_order_relaxed);
    crowd_.store(1, std::memory_order_relaxed);
    for (Loop& loop : loops_) loop.busy.unlock();
    return true;
  }

  void run(int64_t count, int64_t chunk, void* context, void* scratch, Body body) {
    const int64_t units = (count + chunk - 1) / chunk;
    if (threads() == 1 || units >= (int64_t{1} << 31)) return body(context, scratch, 0, count);
    const int32_t crowd = enter();
    const int32_t at = crowd < threads() ? lock_loop() : kMostLoops;
    const Team team = at < kMostLoops ? team_of(at, crowd) : Team{1, 1};
    if (team.seats > 1) {
      Loop& loop = loops_[at];
      loop.count = count;
      loop.chunk = chunk;
      loop.context = context;
      loop.body = body;
      share_out(loop, team, units, scratch);
    } else {
      body(context, scratch, 0, count);
    }
    if (at < kMostLoops) loops_[at].busy.unlock();
    callers_.fetch_sub(1, std::memory_order_relaxed);
  }

 private:
  // Counts the calling thread in, and says how many callers share the threads: those inside, or
  // more, if there were more a moment ago.
  int32_t enter() {
    const int32_t inside = callers_.fetch_add(1, std::memory_order_relaxed) + 1;
    const int32_t crowd = crowd_.load(std::memory_order_relaxed);
    if (inside == 1 && crowd == 1) return 1;
    const int64_t time = platform::now(), until = crowd_until_.load(std::memory_order_relaxed);
    if (inside < crowd && time < until) return crowd;
    // All workers read these: they are written when they have to be.
    if (inside != crowd) crowd_.store(inside, std::memory_order_relaxed);
    if (inside != crowd || until - time < kLinger / 2)
      crowd_until_.store(time + kLinger, std::memory_order_relaxed);
    return inside;
  }

  // Threads for the caller of a loop, itself included: as many as for any other, but for one that
  // the first have more where the number of callers does not divide that of threads.
  int32_t share_of(int32_t at, int32_t crowd) const {
    const int32_t all = threads();
    if (crowd == 1) return all;
    const int32_t share = all / crowd + (at < all % crowd ? 1 : 0);
    return share < 1 ? 1 : share;
  }

  // A place that no loop uses; kMostLoops if there is none.
  int32_t lock_loop() {
    int32_t at = 0;
    while (at < kMostLoops && !loops_[at].busy.try_lock()) ++at;
    return at;
  }

  // Callers have teams of their own, side by side, as long as all count as many callers.
  Team team_of(int32_t at, int32_t crowd) {
    if (loops_used_.load(std::memory_order_relaxed) <= at)
      loops_used_.store(at + 1, std::memory_order_relaxed);
    if (crowd == 1) return {1, threads()};
    const int32_t share = share_of(at, crowd), more = threads() % crowd;
    const int32_t before = at * (threads() / crowd - 1) + (at < more ? at : more);
    return {1 + before % (threads() - share + 1), share};
  }

  void share_out(Loop& loop, const Team& team, int64_t units, void* scratch) {
    start();
    loop.done.store(0, std::memory_order_relaxed);
    loop.team.store(team, std::memory_order_relaxed);
    // A worker that is still looking for work of the last loop may begin at once.
    const int64_t n = team.seats;
    int64_t first = units;
    for (int64_t i = n - 1; i >= 0; --i) {
      const int64_t end = first;
      first = (units * i + n - 1) / n;
      loop.ranges[i].set(first, end);
    }
    loop.generation.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) wake(team);
    const uint32_t own = loop.work(0, team.seats, scratch, [] { return true; });
    wait(loop, static_cast<uint32_t>(units) - own);
  }

  void wake(const Team& team) {
    // Among many cores the system finds free ones, and these calls would take longer than a loop.
    constexpr int32_t kFew = 16;
    const int core = team.seats <= kFew ? platform::current_core() : -1;
    for (int32_t i = 0; core >= 0 && i + 1 < team.seats; ++i) {
      const int32_t worker = team.first + i;
      if (worker <= worker_count_) workers_[worker].thread.keep_off(core);
    }
    news_.fetch_add(1, std::memory_order_release);
    platform::wake(&news_, team.bits());
  }

  // Until workers have done so many units.
  void wait(Loop& loop, uint32_t units) {
    while (!comes(loop, units)) lend_core(loop, units);
  }

  static bool comes(const Loop& loop, uint32_t units) {
    for (int i = 0; i < kPatience; ++i) {
      if (loop.done.load(std::memory_order_acquire) == units) return true;
      relax();
    }
    return false;
  }

  // A worker that has a piece in hand and does not run waits for a core. It gets this one.
  void lend_core(Loop& loop, uint32_t units) {
    const int core = platform::current_core();
    if (core < 0) return platform::yield_core();
    for (int32_t i = 1; i <= worker_count_; ++i) {
      Worker& worker = workers_[i];
      if (worker.serves.load(std::memory_order_relaxed) != &loop) continue;
      const int64_t ran = worker.thread.ran();
      if (comes(loop, units)) return;
      if (ran == 0 || worker.thread.ran() != ran) continue;
      loop.awaited.store(true, std::memory_order_seq_cst);
      const uint32_t seen = loop.done.load(std::memory_order_seq_cst);
      if (seen != units) {
        worker.thread.move_to(core);
        platform::wait_on(&loop.done, seen, ~0u);
        worker.thread.keep_off(core);
      }
      loop.awaited.store(false, std::memory_order_relaxed);
      return;
    }
  }

  // ---- workers ----------------------------------------------------------------------------------

  // Which loops a worker has looked into.
  struct Seen {
    uint32_t generation[kMostLoops];
  };

  void worker(int32_t index) {
    alignas(64) char scratch[kMostScratch];
    Seen seen;
    for (int32_t i = 0; i < kMostLoops; ++i)
      seen.generation[i] = loops_[i].generation.load(std::memory_order_relaxed) - 1;
    while (!stopping_.load(std::memory_order_acquire)) {
      // Loops follow each other within microseconds while an op runs: a
      // short spin spares the wake-up.
      Loop* loop = next_loop(&seen);
      for (int spin = 0; loop == nullptr && spin < kPatience; ++spin) {
        relax();
        loop = next_loop(&seen);
      }
      if (loop != nullptr) {
        serve(*loop, index, scratch);
      } else {
        sleep(&seen, index);
      }
    }
  }

  // One that it has not seen, or null.
  Loop* next_loop(Seen* seen) {
    const int32_t used = loops_used_.load(std::memory_order_relaxed);
    for (int32_t i = 0; i < used; ++i) {
      const uint32_t now = loops_[i].generation.load(std::memory_order_seq_cst);
      if (now == seen->generation[i]) continue;
      seen->generation[i] = now;
      return &loops_[i];
    }
    return nullptr;
  }

  void serve(Loop& loop, int32_t index, void* scratch) {
    const Team team = loop.team.load(std::memory_order_relaxed);
    const int32_t seat = team.seat_of(index);
    if (seat == 0) return;
    Worker& self = workers_[index];
    self.serves.store(&loop, std::memory_order_relaxed);
    // Another caller may come and want its share.
    const auto at = static_cast<int32_t>(&loop - loops_);
    loop.work(seat, team.seats, scratch,
              [&] { return seat < share_of(at, crowd_.load(std::memory_order_relaxed)); });
    self.serves.store(nullptr, std::memory_order_relaxed);
  }

  void sleep(Seen* seen, int32_t index) {
    const uint32_t news = news_.load(std::memory_order_acquire);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    Seen unchanged = *seen;
    if (!stopping_.load(std::memory_order_seq_cst) && next_loop(&unchanged) == nullptr)
      platform::wait_on(&news_, news, Team::bit(index));
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }

  void start() {
    if (started_.load(std::memory_order_acquire)) return;
    std::lock_guard<std::mutex> lock(starting_);
    if (started_.load(std::memory_order_relaxed)) return;
    stopping_.store(false, std::memory_order_release);
    for (int32_t i = 1; i < threads(); ++i) {
      starts_[i] = {this, i};
      const auto main = [](void* argument) {
        const Start& start = *static_cast<const Start*>(argument);
        start.pool->worker(start.index);
      };
      workers_[i].serves.store(nullptr, std::memory_order_relaxed);
      // No thread to be had means fewer workers: the others take what they would have done.
      if (!workers_[i].thread.begin(main, &starts_[i], kWorkerStack)) break;
      worker_count_ = i;
    }
    started_.store(true, std::memory_order_release);
  }

  void stop() {
    stopping_.store(true, std::memory_order_seq_cst);
    news_.fetch_add(1, std::memory_order_release);
    platform::wake(&news_, ~0u);
    while (worker_count_ > 0) workers_[worker_count_--].thread.join();
    started_.store(false, std::memory_order_relaxed);
  }

  // In a forked child.
  void forget_workers() {
    worker_count_ = 0;
    started_.store(false, std::memory_order_relaxed);
    sleepers_.store(0, std::memory_order_relaxed);
    callers_.store(0, std::memory_order_relaxed);
    crowd_.store(1, std::memory_order_relaxed);
    new (&starting_) std::mutex;
    for (int32_t i = 0; i < loops_used_.load(std::memory_order_relaxed); ++i) {
      for (Range& range : loops_[i].ranges) range.set(0, 0);
      loops_[i].awaited.store(false, std::memory_order_relaxed);
    }
    for (Loop& loop : loops_) new (&loop.busy) std::mutex;
  }

  // What a worker begins with.
  struct Start {
    Pool* pool;
    int32_t index;
  };

  Loop loops_[kMostLoops];
  alignas(64) std::atomic<int32_t> callers_{0};  // written with each loop
  // Read by all workers, written when callers come and go.
  alignas(64) std::atomic<int32_t> crowd_{1};  // callers that share the threads
  std::atomic<int64_t> crowd_until_{0};        // when that is doubted, by now()
  std::atomic<int32_t> loops_used_{0};
  alignas(64) std::atomic<uint32_t> news_{0};  // what workers sleep by
  std::atomic<uint32_t> sleepers_{0};
  std::atomic<int32_t> wanted_;
  Worker workers_[kMaxThreads];  // from 1 on
  Start starts_[kMaxThreads];
  int32_t worker_count_ = 0;
  std::mutex starting_;
  std::atomic<bool> started_{false}, stopping_{false};
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
