// Tasks of uneven cost on the caller's threads.
#pragma once
#include <atomic>

#include "nerfad/parallel.h"

namespace nerfad {
namespace {

// Hands out tasks 0..n_tasks-1 in order to the threads as they become free: task(k, slot), where no two tasks
// with the same slot in [0, n_threads) run at once.
template <class Task>
void for_each_task(int64_t n_tasks, const ParallelFor& parallel_for, const Task& task) {
  std::atomic<int64_t> next{0};
  parallel_for(parallel_for.n_threads(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t slot = begin; slot < end; ++slot) {
      for (int64_t k; (k = next.fetch_add(1)) < n_tasks;) task(k, slot);
    }
  });
}

}  // namespace
}  // namespace nerfad
