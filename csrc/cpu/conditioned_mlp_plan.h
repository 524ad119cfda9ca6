// How a call of a conditioned MLP, alone or in the radiance field, is cut into tasks. The plan of a backward
// pass does not depend on the number of threads, so that neither do the sums' rounding errors.
#pragma once
#include "conditioned_mlp_task.h"

namespace nerfad {

constexpr int64_t kTasksPerThread = 4;
constexpr int64_t kMaxBackwardTasks = 64;
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

// At most; no fewer for more samples. A multiple of four, so that they divide among two or four threads.
inline int64_t max_backward_tasks(int64_t n_samples, int64_t tiles_per_task) {
  const int64_t by_size = ceil_div(n_samples, tiles_per_task * kMlpTile);
  const int64_t wanted = by_size < 2 ? 1 : ceil_div(by_size, 4) * 4;
  return wanted < kMaxBackwardTasks ? wanted : kMaxBackwardTasks;
}

inline TaskSplit split_backward(int64_t n_samples, int64_t tiles_per_task) {
  return split_in_tiles(n_samples, max_backward_tasks(n_samples, tiles_per_task));
}

// Conditions [low, low + n) that a task of the backward pass meets; it has rows of sums from first_row on.
struct ConditionRange {
  int32_t low, n;
  int64_t first_row;
};

// Rows of all tasks together. Where conditions come in order, as those of rays do, the ranges of tasks hardly
// overlap; where they do not, neighbours are joined until their rows fit.
inline int64_t max_condition_rows(int64_t n_cond) {
  constexpr int64_t kSpread = 1 << 17;
  return n_cond + (kSpread < n_cond ? kSpread : n_cond) + kMaxBackwardTasks;
}

inline ConditionRange find_range(const int32_t* index, const int32_t* samples, int64_t begin, int64_t end) {
  if (!index || begin >= end) return {0, 1, 0};
  const auto condition = [&](int64_t i) { return index[samples ? samples[i] : i]; };
  int32_t low = condition(begin), high = low;
  for (int64_t i = begin; i < end; ++i) {
    const int32_t c = condition(i);
    low = c < low ? c : low;
    high = c > high ? c : high;
  }
  return {low, high - low + 1, 0};
}

inline int64_t place_rows(ConditionRange* ranges, int64_t n_tasks) {
  int64_t row = 0;
  for (int64_t task = 0; task < n_tasks; ++task) {
    ranges[task].first_row = row;
    row += ranges[task].n;
  }
  return row;
}

inline ConditionRange join(const ConditionRange& a, const ConditionRange& b) {
  const int32_t low = a.low < b.low ? a.low : b.low;
  const int32_t a_end = a.low + a.n, b_end = b.low + b.n;
  return {low, (a_end > b_end ? a_end : b_end) - low, 0};
}

struct ConditionIndex {
  const int32_t* of_sample;  // or null
  int64_t n_cond;
};

template <int kNets>
struct BackwardPlan {
  TaskSplit samples;
  ConditionRange conditions[kNets][kMaxBackwardTasks];
};

// For the listed samples (null: samples 0 to n - 1) of networks with their own conditions.
template <int kNets>
BackwardPlan<kNets> plan_backward(const ConditionIndex (&nets)[kNets], const int32_t* samples, int64_t n,
                                  int64_t tiles_per_task, const ParallelFor& parallel_for) {
  BackwardPlan<kNets> plan{split_backward(n, tiles_per_task), {}};
  TaskSplit& split = plan.samples;
  parallel_for(split.n_tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task * split.per_task,
                    last = first + split.per_task < n ? first + split.per_task : n;
      for (int k = 0; k < kNets; ++k) {
        plan.conditions[k][task] = find_range(nets[k].of_sample, samples, first, last);
      }
    }
  });
  const auto fits = [&] {
    bool all = true;
    for (int k = 0; k < kNets; ++k) {
      all &= place_rows(plan.conditions[k], split.n_tasks) <= max_condition_rows(nets[k].n_cond);
    }
    return all;
  };
  while (!fits() && split.n_tasks > 1) {
    for (int64_t task = 0; task < split.n_tasks; task += 2) {
      const int64_t other = task + 1 < split.n_tasks ? task + 1 : task;
      for (ConditionRange* ranges : plan.conditions) ranges[task / 2] = join(ranges[task], ranges[other]);
    }
    split = {ceil_div(split.n_tasks, 2), 2 * split.per_task};
  }
  return plan;
}

}  // namespace nerfad
