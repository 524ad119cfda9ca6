// The one way CPU launchers get threads: the caller injects a pool. The torch bindings pass torch's own,
// the torch-free runtime a small pinned one. The core never starts a thread itself.
#pragma once
#include <cstdint>

namespace nerfad {

class ParallelFor {
 public:
  using Body = void (*)(void* arg, int64_t begin, int64_t end);
  using Run = void (*)(void* pool, int64_t n, int64_t grain, Body body, void* arg);

  constexpr ParallelFor(Run run, void* pool, int n_threads) : run_(run), pool_(pool), n_threads_(n_threads) {}

  // Calls fn(begin, end) on disjoint ranges that cover [0, n); returns when all are done.
  template <class Fn>
  void operator()(int64_t n, int64_t grain, const Fn& fn) const {
    if (n <= 0) return;
    run_(
        pool_, n, grain,
        [](void* arg, int64_t begin, int64_t end) { (*static_cast<const Fn*>(arg))(begin, end); },
        const_cast<void*>(static_cast<const void*>(&fn)));
  }

  int n_threads() const { return n_threads_; }

 private:
  Run run_;
  void* pool_;
  int n_threads_;
};

}  // namespace nerfad
