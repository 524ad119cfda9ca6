#include "pool.h"

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace nerfad {

namespace {

constexpr int64_t kChunksPerThread = 4;

std::vector<int> usable_processors() {
  std::vector<int> found;
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) found.push_back(cpu);
    }
  }
#endif
  return found;
}

void pin(std::thread& thread, int cpu) {
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  pthread_setaffinity_np(thread.native_handle(), sizeof(set), &set);
#else
  (void)thread, (void)cpu;
#endif
}

}  // namespace

Pool::Pool(int n_threads) {
  const std::vector<int> processors = usable_processors();
  if (n_threads < 1) n_threads = processors.empty() ? 1 : static_cast<int>(processors.size());
  for (int i = 1; i < n_threads; ++i) {
    threads_.emplace_back([this] { worker(); });
    // The last ones first: the caller most likely sits on an early one.
    if (!processors.empty())
      pin(threads_.back(), processors[processors.size() - 1 - (i - 1) % processors.size()]);
  }
}

Pool::~Pool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Pool::work(const Job& job) {
  for (;;) {
    const int64_t begin = next_.fetch_add(job.chunk);
    if (begin >= job.n) return;
    job.body(job.arg, begin, begin + job.chunk < job.n ? begin + job.chunk : job.n);
  }
}

void Pool::worker() {
  uint64_t seen = 0;
  for (;;) {
    Job job;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || round_ != seen; });
      if (stop_) return;
      seen = round_;
      job = job_;
    }
    work(job);
    std::lock_guard<std::mutex> lock(mutex_);
    if (--busy_ == 0) done_.notify_one();
  }
}

void Pool::run(void* self, int64_t n, int64_t grain, ParallelFor::Body body, void* arg) {
  Pool& pool = *static_cast<Pool*>(self);
  const int64_t pieces = kChunksPerThread * pool.n_threads();
  const int64_t fair = (n + pieces - 1) / pieces;
  const Job job{n, fair > grain ? fair : grain, body, arg};
  if (pool.threads_.empty() || n <= job.chunk) {
    body(arg, 0, n);
    return;
  }
  {
    std::lock_guard<std::mutex> lock(pool.mutex_);
    pool.job_ = job;
    pool.next_ = 0;
    pool.busy_ = static_cast<int>(pool.threads_.size());
    ++pool.round_;
  }
  pool.wake_.notify_all();
  pool.work(job);
  std::unique_lock<std::mutex> lock(pool.mutex_);
  pool.done_.wait(lock, [&] { return pool.busy_ == 0; });
}

}  // namespace nerfad
