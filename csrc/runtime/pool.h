// A small pool of threads, each pinned to a processor of its own: unpinned ones may share a core. The calling
// thread works too and is left where it is.
#pragma once
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "nerfad/parallel.h"

namespace nerfad {

class Pool {
 public:
  explicit Pool(int n_threads);  // 0: one per processor that this process may use
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int n_threads() const { return static_cast<int>(threads_.size()) + 1; }
  ParallelFor parallel_for() { return ParallelFor(&Pool::run, this, n_threads()); }

 private:
  struct Job {
    int64_t n, chunk;
    ParallelFor::Body body;
    void* arg;
  };

  static void run(void* pool, int64_t n, int64_t grain, ParallelFor::Body body, void* arg);
  void work(const Job& job);
  void worker();

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Job job_{};
  std::atomic<int64_t> next_{0};
  uint64_t round_ = 0;  // of jobs; workers wait for it to change
  int busy_ = 0;
  bool stop_ = false;
};

}  // namespace nerfad
