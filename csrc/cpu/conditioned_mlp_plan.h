// How a call of the conditioned MLP is cut into tasks, and where they find their scratch memory. The plan of
// the backward pass does not depend on the number of threads, so that neither do the sums' rounding errors.
#pragma once
#include "conditioned_mlp_task.h"

namespace nerfad {

constexpr int64_t kTasksPerThread = 4;
constexpr int64_t kTilesPerBackwardTask = 32, kMaxBackwardTasks = 64;
constexpr int64_t kTilesPerFoldTask = 16;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct TaskSplit {
  int64_t n_tasks, per_task;  // per_task is whole tiles
};

inline TaskSplit split_in_tiles(int64_t n, int64_t max_tasks) {
  const int64_t n_tiles = n > 0 ? ceil_div(n, kMlpTile) : 1;
  const int64_t wanted = max_tasks < 1 ? 1 : (n_tiles < max_tasks ? n_tiles : max_tasks);
  const int64_t tiles = ceil_div(n_tiles, wanted);
  return {ceil_div(n_tiles, tiles), tiles * kMlpTile};
}

inline TaskSplit split_conditions(int64_t n_cond) {
  return split_in_tiles(n_cond, ceil_div(n_cond, kTilesPerFoldTask * kMlpTile));
}

// Which conditions each task of the backward pass meets. Each has its own sums for them: where conditions
// come in order, as those of rays do, the ranges hardly overlap; where they do not, fewer tasks keep memory
// bounded.
struct BackwardPlan {
  TaskSplit samples;
  int32_t low[kMaxBackwardTasks], n_conditions[kMaxBackwardTasks];
  int64_t first_row[kMaxBackwardTasks + 1];
};

inline void find_ranges(const int32_t* cond_index, int64_t n_samples, BackwardPlan& plan) {
  plan.first_row[0] = 0;
  for (int64_t task = 0; task < plan.samples.n_tasks; ++task) {
    const int64_t begin = task * plan.samples.per_task, end = begin + plan.samples.per_task;
    int32_t low = 0, high = 0;
    if (cond_index && begin < n_samples) {
      low = high = cond_index[begin];
      for (int64_t i = begin; i < end && i < n_samples; ++i) {
        if (cond_index[i] < low) low = cond_index[i];
        if (cond_index[i] > high) high = cond_index[i];
      }
    }
    plan.low[task] = low;
    plan.n_conditions[task] = high - low + 1;
    plan.first_row[task + 1] = plan.first_row[task] + plan.n_conditions[task];
  }
}

inline BackwardPlan plan_backward(const int32_t* cond_index, int64_t n_samples, int64_t n_cond) {
  const int64_t max_rows = 2 * n_cond + 64 * kMaxBackwardTasks;
  const int64_t by_size = ceil_div(n_samples, kTilesPerBackwardTask * kMlpTile);
  BackwardPlan plan{};
  for (int64_t n = by_size < kMaxBackwardTasks ? by_size : kMaxBackwardTasks;; n /= 2) {
    plan.samples = split_in_tiles(n_samples, n);
    find_ranges(cond_index, n_samples, plan);
    if (plan.first_row[plan.samples.n_tasks] <= max_rows || plan.samples.n_tasks == 1) return plan;
  }
}

// Hands out pieces of scratch memory; with a null start it only counts.
template <class T>
class Scratch {
 public:
  explicit Scratch(T* start) : start_(start ? align_scratch(start) : nullptr) {}
  T* take(int64_t n) {
    T* here = start_ ? start_ + used_ : nullptr;
    used_ += aligned_count(n);
    return here;
  }
  int64_t needed() const { return used_ + kScratchAlign; }

 private:
  T* start_;
  int64_t used_ = 0;
};

// Space for n operands, in elements of T.
template <class T, class Operand>
Operand* take_operands(Scratch<T>& memory, int64_t n) {
  return reinterpret_cast<Operand*>(memory.take(ceil_div(n * sizeof(Operand), sizeof(T))));
}

template <class T, class Operand>
struct ForwardScratch {
  T *packed, *last_conditions, *buffers;
  Operand* operands;
  int64_t buffer_size, needed;

  ForwardScratch(const ConditionedMlpFwd<T>& p, T* start, int n_threads) {
    const PackedMlp<T, Operand> mlp{p.shape, nullptr};
    Scratch<T> memory(start);
    packed = memory.take(mlp.forward_size(p.n_cond));
    operands = take_operands<T, Operand>(memory, mlp.operands_at(p.shape.n_layers()));
    last_conditions = memory.take(static_cast<int64_t>(kMlpTile) * p.shape.d_cond);
    buffer_size = MlpForwardBuffers<T, Operand>::size(p.shape);
    buffers = memory.take(kTasksPerThread * n_threads * buffer_size);
    needed = memory.needed();
  }
};

template <class T, class Operand>
struct BackwardScratch {
  T *packed, *last_conditions, *packed_grad, *sums, *folded_rows, *folded_grad, *fold_sums, *buffers;
  Operand *operands, *grad_operands;
  int64_t sums_size, fold_size, fold_buffer_size, buffer_size, needed;

  BackwardScratch(const ConditionedMlpBwd<T>& p, const BackwardPlan& plan, T* start) {
    const MlpShape& s = p.fwd.shape;
    const PackedMlp<T, Operand> mlp{s, nullptr};
    const PackedMlpGrad<T, Operand> grad_mlp{s, nullptr};
    const int width = mlp_padded(s.d_hidden), cond_width = mlp_padded(s.d_cond);
    Scratch<T> memory(start);
    packed = memory.take(mlp.forward_size(p.fwd.n_cond));
    operands = take_operands<T, Operand>(memory, mlp.operands_at(s.n_layers()));
    last_conditions = memory.take(static_cast<int64_t>(kMlpTile) * s.d_cond);
    packed_grad = memory.take(grad_mlp.size());
    grad_operands = take_operands<T, Operand>(memory, grad_mlp.operands_at(s.n_layers()));
    sums_size = aligned_count(MlpGradSums<T>{s, nullptr}.size());
    sums = memory.take(plan.samples.n_tasks * sums_size);
    folded_rows = memory.take(plan.first_row[plan.samples.n_tasks] * width);
    folded_grad = memory.take(mlp_whole_tiles(p.fwd.n_cond) * width);
    fold_size = aligned_count(static_cast<int64_t>(s.d_hidden) * cond_width + width);
    fold_buffer_size = aligned_count(2 * kMlpTile * cond_width);
    fold_sums = memory.take(split_conditions(p.fwd.n_cond).n_tasks * (fold_size + fold_buffer_size));
    buffer_size = MlpBackwardBuffers<T, Operand>::size(s);
    buffers = memory.take(plan.samples.n_tasks * buffer_size);
    needed = memory.needed();
  }
};

}  // namespace nerfad
