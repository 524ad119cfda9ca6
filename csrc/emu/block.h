// Blocks of CUDA threads on the CPU: each thread is a fiber, a block runs on one OS thread, blocks are spread
// over several. What cannot happen on a correct launch (deadlock, lanes in different warp functions) ends the
// process with one line that names the block and the thread.
//
// NERFAD_SIMT_SEED=n runs the threads of a block in a shuffled order; NERFAD_SIMT_THREADS=n sets the OS
// threads.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "fiber.h"

namespace simt {

constexpr int kWarp = 32;
constexpr int kMaxThreads = 1024;
constexpr size_t kMaxDynamicShared = 227 * 1024;

enum class State : uint8_t { kNew, kReady, kAtBarrier, kInWarpOp, kDone };

// A function that the lanes of a warp call together. `run` gets each lane's slot: arguments in, results out.
struct WarpOp {
  void (*run)(void* const* slots, uint32_t mask);
  const char* name;
  bool orders_memory;  // only __syncwarp does
};

struct Thread {
  Fiber fiber;
  char* stack = nullptr;
  uint3 index;
  int lane;
  struct Warp* warp;
  State state;
  const WarpOp* op;  // the warp function it waits in, with that call's mask
  uint32_t op_mask;
};

struct Warp {
  Thread* lanes[kWarp] = {};
  void* slots[kWarp] = {};
  uint32_t arrived = 0, alive = 0;
};

struct Votes {
  int any = 0, all = 1, count = 0;
};

struct Block {
  dim3 grid_size, block_size;
  uint3 index;
  int n_threads, n_alive, n_at_barrier;
  unsigned barrier_number;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<int> order;
  std::vector<char*> free_stacks;
  Votes votes, vote_result;  // of __syncthreads_or and its siblings
  Fiber scheduler;
  void (*kernel)(void*);
  void* kernel_closure;
  char* dynamic_shared = nullptr;
  size_t dynamic_shared_bytes;
#if defined(__SANITIZE_THREAD__)
  char start_token, end_token, barrier_tokens[2];
#endif
};

inline thread_local Block* g_block = nullptr;
inline thread_local Thread* g_thread = nullptr;

[[noreturn]] inline void die(const char* message, const char* detail = "") {
  const uint3 b = g_block ? g_block->index : uint3{}, t = g_thread ? g_thread->index : uint3{};
  std::fprintf(stderr, "simt: %s%s (block %u,%u,%u thread %u,%u,%u)\n", message, detail, b.x, b.y, b.z, t.x,
               t.y, t.z);
  std::abort();
}

SIMT_HIDDEN inline void release(void* token) {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(token);
#endif
  (void)token;
}

SIMT_HIDDEN inline void acquire(void* token) {
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(token);
#endif
  (void)token;
}

SIMT_HIDDEN inline void wait_as(State state) {
  g_thread->state = state;
  switch_fiber(g_thread->fiber, g_block->scheduler);
}

SIMT_HIDDEN inline void thread_main() {
  Block& block = *g_block;
  fiber_entered(block.scheduler);
#if defined(__SANITIZE_THREAD__)
  acquire(&block.start_token);
#endif
  block.kernel(block.kernel_closure);
#if defined(__SANITIZE_THREAD__)
  release(&block.end_token);
#endif
  Thread& self = *g_thread;
  for (const Thread* other : self.warp->lanes) {
    if (other && other->state == State::kInWarpOp && (other->op_mask >> self.lane & 1)) {
      die("a thread exits while its warp waits for it in ", other->op->name);
    }
  }
  self.state = State::kDone;
  self.warp->alive &= ~(1u << self.lane);
  --block.n_alive;
  switch_fiber(self.fiber, block.scheduler, true);
  std::abort();  // a finished thread is never resumed
}

SIMT_HIDDEN inline void resume(Block& block, Thread& thread) {
  if (thread.state == State::kNew) {
    if (block.free_stacks.empty()) block.free_stacks.push_back(allocate_stack());
    thread.stack = block.free_stacks.back();
    block.free_stacks.pop_back();
    prepare_fiber(thread.fiber, thread.stack, thread_main);
  }
  thread.state = State::kReady;
  g_thread = &thread;
  switch_fiber(block.scheduler, thread.fiber);
  if (thread.state == State::kDone) block.free_stacks.push_back(thread.stack);
}

SIMT_HIDDEN inline void open_barrier(Block& block) {
  for (Thread& t : block.threads) {
    if (t.state == State::kAtBarrier) t.state = State::kReady;
  }
  block.vote_result = std::exchange(block.votes, Votes{});
  block.n_at_barrier = 0;
  ++block.barrier_number;
}

// __syncthreads and its voting siblings. Threads that have exited do not count.
SIMT_HIDDEN inline const Votes& barrier(bool predicate) {
  Block& block = *g_block;
  block.votes.any |= predicate;
  block.votes.all &= predicate;
  block.votes.count += predicate;
#if defined(__SANITIZE_THREAD__)
  char* token = &block.barrier_tokens[block.barrier_number & 1];
  release(token);
#endif
  if (++block.n_at_barrier == block.n_alive) {
    open_barrier(block);
  } else {
    wait_as(State::kAtBarrier);
  }
#if defined(__SANITIZE_THREAD__)
  acquire(token);
#endif
  return block.vote_result;
}

// Every lane named in `mask` arrives with its slot; the last one runs `op` for all of them and goes on.
SIMT_HIDDEN inline void collective(uint32_t mask, const WarpOp& op, void* slot) {
  Thread& self = *g_thread;
  Warp& warp = *self.warp;
  if (!(mask >> self.lane & 1)) die("a lane is left out by the mask that it passes to ", op.name);
  if (mask & ~warp.alive) die("the mask names a lane that has exited or does not exist: ", op.name);
  self.op = &op;
  self.op_mask = mask;
  warp.slots[self.lane] = slot;
  warp.arrived |= 1u << self.lane;
  if (op.orders_memory) release(&warp);
  if ((warp.arrived & mask) != mask) {
    wait_as(State::kInWarpOp);
  } else {
    for (int i = 0; i < kWarp; ++i) {
      if (!(mask >> i & 1)) continue;
      const Thread& other = *warp.lanes[i];
      if (other.op != &op) die("the lanes of a warp are in different warp functions, one in ", op.name);
      if (other.op_mask != mask) die("the lanes of a warp pass different masks to ", op.name);
    }
    op.run(warp.slots, mask);
    warp.arrived &= ~mask;
    for (int i = 0; i < kWarp; ++i) {
      if (mask >> i & 1) warp.lanes[i]->state = State::kReady;
    }
  }
  if (op.orders_memory) acquire(&warp);
}

SIMT_HIDDEN inline void reset_block(Block& block, uint3 index) {
  block.index = index;
  block.n_alive = block.n_threads;
  block.n_at_barrier = 0;
  block.barrier_number = 0;
  block.votes = Votes{};
  // All ones are NaNs: reads of shared memory that nobody wrote show up in the results.
  if (block.dynamic_shared) std::memset(block.dynamic_shared, 0xff, block.dynamic_shared_bytes);
  for (Warp& w : block.warps) w.arrived = w.alive = 0;
  for (Thread& t : block.threads) {
    t.state = State::kNew;
    t.warp->alive |= 1u << t.lane;
  }
}

SIMT_HIDDEN inline void run_block(Block& block, uint3 index) {
  reset_block(block, index);
#if defined(__SANITIZE_THREAD__)
  block.scheduler.tsan_fiber = __tsan_get_current_fiber();
  release(&block.start_token);
#endif
  while (block.n_alive) {
    bool progress = false;
    for (int i : block.order) {
      Thread& t = block.threads[i];
      if (t.state != State::kNew && t.state != State::kReady) continue;
      resume(block, t);
      progress = true;
    }
    if (block.n_alive && block.n_at_barrier == block.n_alive) {
      open_barrier(block);  // the last threads left without waiting
      progress = true;
    }
    if (!progress)
      die("deadlock: threads wait at __syncthreads or in a warp function for others that never come");
  }
#if defined(__SANITIZE_THREAD__)
  acquire(&block.end_token);
#endif
  g_thread = nullptr;
}

struct Launch {
  dim3 grid, block;
  size_t dynamic_shared_bytes;
  void (*kernel)(void*);
  void* closure;
  std::atomic<int64_t> next_block{0};

  int64_t n_blocks() const { return static_cast<int64_t>(grid.x) * grid.y * grid.z; }
  int64_t n_threads() const { return static_cast<int64_t>(block.x) * block.y * block.z; }
  bool valid() const {
    return n_blocks() >= 1 && n_threads() >= 1 && n_threads() <= kMaxThreads && grid.y < 65536 &&
           grid.z < 65536 && dynamic_shared_bytes <= kMaxDynamicShared;
  }
};

inline int environment(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : otherwise;
}

inline void make_threads(Block& block) {
  block.threads.resize(block.n_threads);
  block.warps.resize((block.n_threads + kWarp - 1) / kWarp);
  for (int i = 0; i < block.n_threads; ++i) {
    const unsigned n = i, nx = block.block_size.x, ny = block.block_size.y;
    Thread& t = block.threads[i];
    t.index = {n % nx, n / nx % ny, n / (nx * ny)};
    t.lane = i % kWarp;
    t.warp = &block.warps[i / kWarp];
    t.warp->lanes[t.lane] = &t;
    block.order.push_back(i);
  }
}

inline void shuffle(std::vector<int>& order, uint64_t& state) {
  for (size_t i = order.size() - 1; i > 0; --i) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    std::swap(order[i], order[(state >> 33) % (i + 1)]);
  }
}

// One OS thread's share of a launch.
inline void run_blocks(Launch& launch) {
  Block block{};
  block.grid_size = launch.grid;
  block.block_size = launch.block;
  block.n_threads = static_cast<int>(launch.n_threads());
  block.kernel = launch.kernel;
  block.kernel_closure = launch.closure;
  block.dynamic_shared_bytes = launch.dynamic_shared_bytes;
  void* shared = nullptr;  // of the exact size, so that the address sanitizer sees what lies right behind
  if (launch.dynamic_shared_bytes && posix_memalign(&shared, 128, launch.dynamic_shared_bytes) != 0) {
    die("no memory for dynamic shared memory");
  }
  block.dynamic_shared = static_cast<char*>(shared);
  make_threads(block);
  g_block = &block;
  const uint64_t seed = environment("NERFAD_SIMT_SEED", 0);
  uint64_t state = seed * 0x9e3779b97f4a7c15ull + 1;
  const int64_t nx = launch.grid.x, ny = launch.grid.y, n_blocks = launch.n_blocks();
  for (int64_t k; (k = launch.next_block.fetch_add(1)) < n_blocks;) {
    if (seed) shuffle(block.order, state);
    run_block(block, {static_cast<unsigned>(k % nx), static_cast<unsigned>(k / nx % ny),
                      static_cast<unsigned>(k / (nx * ny))});
  }
  for (char* stack : block.free_stacks) free_stack(stack);
#if defined(__SANITIZE_THREAD__)
  for (Thread& t : block.threads) {
    if (t.fiber.tsan_fiber) __tsan_destroy_fiber(t.fiber.tsan_fiber);
  }
#endif
  std::free(shared);
  g_block = nullptr;
}

template <class Kernel>
cudaError_t launch(dim3 grid, dim3 block, size_t dynamic_shared_bytes, Kernel kernel) {
  Launch launch{grid, block, dynamic_shared_bytes, [](void* k) { (*static_cast<Kernel*>(k))(); }, &kernel};
  if (!launch.valid()) return cudaErrorInvalidConfiguration;
  const int64_t cores = environment("NERFAD_SIMT_THREADS", std::thread::hardware_concurrency());
  std::vector<std::thread> workers;
  for (int64_t i = 1; i < std::min(cores, launch.n_blocks()); ++i) {
    workers.emplace_back([&launch] { run_blocks(launch); });
  }
  run_blocks(launch);
  for (std::thread& w : workers) w.join();
  return cudaSuccess;
}

}  // namespace simt
