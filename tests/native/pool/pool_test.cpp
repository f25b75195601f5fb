// SPDX-License-Identifier: Apache-2.0
// Who takes part in a loop, and on which core. Bodies sleep rather than compute, so that two cores
// are enough for any number of threads.
#include "cpu/pool.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace {

using exn::cpu::parallel_for;
using exn::cpu::set_threads;

void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

// Looks every millisecond, for ten seconds.
bool comes(const std::function<bool()>& condition) {
  for (int i = 0; i < 10000 && !condition(); ++i) sleep_ms(1);
  return condition();
}

std::vector<int> cores(pthread_t thread = pthread_self()) {
  cpu_set_t set;
  std::vector<int> all;
  if (pthread_getaffinity_np(thread, sizeof set, &set) != 0) return all;
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(i, &set)) all.push_back(i);
  return all;
}

bool give(pthread_t thread, const std::vector<int>& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int core : cores) CPU_SET(core, &set);
  return pthread_setaffinity_np(thread, sizeof set, &set) == 0;
}

std::vector<int> without(std::vector<int> cores, int core) {
  cores.erase(std::remove(cores.begin(), cores.end(), core), cores.end());
  return cores;
}

// Runs a loop of two pieces, of which a worker takes one and does f; the caller waits for that.
void on_a_worker(const std::function<void()>& f) {
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<bool> taken{false};
  parallel_for(2, 1, [&](int64_t, int64_t) {
    if (std::this_thread::get_id() != caller) {
      taken = true;
      f();
    } else {
      EXPECT_TRUE(comes([&] { return taken.load(); })) << "no worker takes part";
    }
  });
}

// Long enough for all workers to have gone to sleep.
void let_workers_sleep() { sleep_ms(100); }

class Pool : public testing::Test {
 protected:
  void TearDown() override {
    ASSERT_TRUE(set_threads(1));  // and no worker stays where a test has put it
    ASSERT_TRUE(give(pthread_self(), all_));
  }
  const std::vector<int> all_ = cores();
};

TEST_F(Pool, EveryIndexComesOnceWhoeverCalls) {
  for (int threads : {1, 2, 3, 8}) {
    ASSERT_TRUE(set_threads(threads));
    for (int callers : {1, 2, 5, 24}) {  // the last are more than loops that may be open
      std::vector<std::thread> all;
      for (int c = 0; c < callers; ++c) {
        all.emplace_back([c] {
          for (int64_t count : {int64_t{1}, int64_t{2}, int64_t{7}, int64_t{1000}}) {
            for (int64_t chunk : {int64_t{1}, int64_t{3}, int64_t{999}}) {
              std::vector<std::atomic<int>> times(static_cast<size_t>(count));
              parallel_for(count, chunk, [&](int64_t begin, int64_t end) {
                EXPECT_EQ(begin % chunk, 0);
                for (int64_t i = begin; i < end; ++i) times[static_cast<size_t>(i)] += 1 + c;
              });
              for (const auto& t : times) ASSERT_EQ(t, 1 + c);
            }
          }
        });
      }
      for (std::thread& thread : all) thread.join();
    }
  }
}

// The threads of a loop's pieces.
struct Who {
  std::mutex lock;
  std::multiset<std::thread::id> pieces;
  void note() {
    std::lock_guard<std::mutex> held(lock);
    pieces.insert(std::this_thread::get_id());
  }
  std::set<std::thread::id> threads() {
    std::lock_guard<std::mutex> held(lock);
    return {pieces.begin(), pieces.end()};
  }
};

// The threads of a loop of so many pieces of a millisecond.
size_t threads_of_loop(int64_t pieces) {
  Who who;
  parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
    who.note();
    for (; begin < end; ++begin) sleep_ms(1);
  });
  return who.threads().size();
}

TEST_F(Pool, AloneACallerHasAllThreads) {
  ASSERT_TRUE(set_threads(4));
  EXPECT_EQ(threads_of_loop(400), 4u);
}

// How many threads each of so many callers has while all of them are inside, in order.
std::vector<int> shares(int callers) {
  std::atomic<int> inside{0};
  std::vector<int> shares(static_cast<size_t>(callers));
  const auto call = [&](int* share) {
    const std::thread::id caller = std::this_thread::get_id();
    std::atomic<bool> entered{false};
    Who who;
    parallel_for(400, 1, [&](int64_t begin, int64_t end) {
      // So that every thread is asked whether it may stay when all are there.
      if (std::this_thread::get_id() == caller && !entered.exchange(true)) ++inside;
      EXPECT_TRUE(comes([&] { return inside == callers; }));
      who.note();
      for (; begin < end; ++begin) sleep_ms(1);
    });
    *share = 1;
    for (const std::thread::id& thread : who.threads())
      if (thread != caller && who.pieces.count(thread) > 1) ++*share;
  };
  std::vector<std::thread> all;
  for (int& share : shares) all.emplace_back(call, &share);
  for (std::thread& thread : all) thread.join();
  std::sort(shares.begin(), shares.end());
  return shares;
}

TEST_F(Pool, CallersShareTheThreads) {
  const struct {
    int threads;
    std::vector<int> shares;
  } cases[] = {{4, {4}},          {4, {2, 2}}, {4, {1, 1, 1, 1}}, {2, {1, 1}},
               {8, {2, 2, 2, 2}}, {5, {2, 3}}, {7, {2, 2, 3}},    {3, {1, 1, 1, 1}}};
  for (const auto& c : cases) {
    ASSERT_TRUE(set_threads(c.threads));
    // A team that was formed before the last caller came may have a worker in common with another,
    // and one of them does without; no caller ever has more.
    std::vector<int> found;
    for (int i = 0; i < 20 && found != c.shares; ++i) {
      found = shares(static_cast<int>(c.shares.size()));
      for (size_t s = 0; s < found.size(); ++s) EXPECT_LE(found[s], c.shares[s]);
    }
    EXPECT_EQ(found, c.shares) << c.threads << " threads";
  }
}

TEST_F(Pool, ACallerKeepsItsShareBetweenTwoLoops) {
  using Clock = std::chrono::steady_clock;
  ASSERT_TRUE(set_threads(4));
  const auto give_up = Clock::now() + std::chrono::seconds(5);
  bool soon = false;
  while (!soon && Clock::now() < give_up) {
    std::atomic<int> inside{0};
    std::atomic<bool> left{false};
    const auto meet = [&] {
      const Clock::time_point start = Clock::now();
      std::atomic<bool> entered{false};
      parallel_for(2, 1, [&](int64_t, int64_t) {
        if (!entered.exchange(true)) ++inside;
        while (inside < 2) std::this_thread::yield();
      });
      return start;
    };
    Clock::time_point others, first = Clock::time_point::max();
    std::thread other([&] {
      others = meet();
      left = true;
    });
    const Clock::time_point own = meet();
    while (!left) std::this_thread::yield();
    Who who;
    std::mutex lock;
    parallel_for(12, 1, [&](int64_t begin, int64_t end) {
      {
        std::lock_guard<std::mutex> held(lock);
        first = std::min(first, Clock::now());
      }
      who.note();
      for (; begin < end; ++begin) sleep_ms(1);
    });
    other.join();
    // On a busy machine the other has often been away for longer.
    soon = first - std::max(own, others) < std::chrono::microseconds(25);
    if (soon) {
      EXPECT_EQ(who.threads().size(), 2u);
    }
  }
  if (!soon) GTEST_SKIP() << "too busy: no two loops followed each other within 25 us";
  sleep_ms(1);
  EXPECT_EQ(threads_of_loop(400), 4u) << "the other has not been there for long";
}

TEST_F(Pool, WorkersStayOffTheirCallersCore) {
  if (all_.size() < 2) GTEST_SKIP() << "one core";
  ASSERT_TRUE(set_threads(2));
  on_a_worker([] {});  // begun by a thread of one core, it would have no other
  for (int core : {all_[0], all_[1], all_[0]}) {
    let_workers_sleep();
    ASSERT_TRUE(give(pthread_self(), {core}));
    std::vector<int> of_worker;
    on_a_worker([&] { of_worker = cores(); });
    EXPECT_EQ(of_worker, without(all_, core));
  }
}

TEST_F(Pool, WorkersStayWhereOthersPutThem) {
  if (all_.size() < 2) GTEST_SKIP() << "one core";
  ASSERT_TRUE(set_threads(2));
  on_a_worker([] {});
  ASSERT_TRUE(give(pthread_self(), {all_[1]}));  // so it does not have that core already
  on_a_worker([&] { ASSERT_TRUE(give(pthread_self(), {all_[1]})); });
  for (int core : {all_[0], all_[1], all_[0]}) {
    let_workers_sleep();
    ASSERT_TRUE(give(pthread_self(), {core}));
    std::vector<int> of_worker;
    on_a_worker([&] { of_worker = cores(); });
    EXPECT_EQ(of_worker, std::vector<int>{all_[1]}) << "caller on core " << core;
  }
}

// A worker that does not run, here because it sleeps, is taken for one that waits for a core.
TEST_F(Pool, ACallerLendsItsCoreToALateWorker) {
  if (all_.size() < 2) GTEST_SKIP() << "one core";
  ASSERT_TRUE(set_threads(2));
  on_a_worker([] {});
  for (int core : {all_[0], all_[1]}) {
    let_workers_sleep();
    ASSERT_TRUE(give(pthread_self(), {core}));
    pthread_t worker;
    on_a_worker([&] {
      worker = pthread_self();
      EXPECT_TRUE(comes([&] { return cores() == std::vector<int>{core}; }));
    });
    EXPECT_EQ(cores(worker), without(all_, core)) << "it was not given back";
  }
}

TEST_F(Pool, AWorkerThatComputesKeepsItsCore) {
  if (all_.size() < 2) GTEST_SKIP() << "one core";
  ASSERT_TRUE(set_threads(2));
  on_a_worker([] {});
  let_workers_sleep();
  ASSERT_TRUE(give(pthread_self(), {all_[0]}));
  bool kept = false;  // once is enough: on a busy machine another process may have its core
  for (int i = 0; i < 200 && !kept; ++i) {
    on_a_worker([&] {
      const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(3);
      while (std::chrono::steady_clock::now() < end) {
      }
      kept = cores() != std::vector<int>{all_[0]};
    });
  }
  EXPECT_TRUE(kept);
}

// ---- children -----------------------------------------------------------------------------------

#if defined(__SANITIZE_THREAD__)
constexpr bool kForks = false;  // ThreadSanitizer starts no thread in the child of several
#else
constexpr bool kForks = true;
#endif

// Whether f holds in a child that is forked now. One that hangs is ended, and says no.
bool holds_in_a_child(const std::function<bool()>& f) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    _exit(f() ? 0 : 1);
  }
  int status = -1;
  return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

// The lock for starting is held for as long as it takes to begin so many threads.
TEST_F(Pool, AChildForkedWhileThePoolStartsStartsItsOwn) {
  if (!kForks) GTEST_SKIP() << "no threads in children here";
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(set_threads(64));
    std::atomic<bool> begins{false};
    std::thread other([&] {
      begins = true;
      parallel_for(2, 1, [](int64_t, int64_t) {});
    });
    while (!begins) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(i * 50));
    const bool holds = holds_in_a_child([] {
      std::atomic<int64_t> sum{0};
      parallel_for(100, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
      return sum == 100;
    });
    other.join();
    ASSERT_TRUE(holds) << "fork " << i;
  }
}

TEST_F(Pool, AChildForkedWithinALoopHasAllThreadsAndNoPieces) {
  if (!kForks) GTEST_SKIP() << "no threads in children here";
  ASSERT_TRUE(set_threads(4));
  std::atomic<bool> inside{false}, in_child{false}, strays{false};
  std::thread other([&] {
    parallel_for(300, 1, [&](int64_t begin, int64_t end) {
      inside = true;
      if (in_child) strays = true;
      for (; begin < end; ++begin) sleep_ms(1);
    });
  });
  while (!inside) std::this_thread::yield();
  EXPECT_TRUE(holds_in_a_child([&] {
    in_child = true;
    const bool all = threads_of_loop(400) == 4 && !strays;
    return all && set_threads(2) && threads_of_loop(100) == 2;  // which waits for every loop's end
  }));
  other.join();
}

}  // namespace
