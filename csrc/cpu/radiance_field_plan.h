// How a backward pass of the fused radiance field is cut into tasks, and the memory of its networks' gradient
// sums. Nothing here depends on the number of threads, so that neither do the sums' rounding errors.
#pragma once
#include "conditioned_mlp_plan.h"
#include "radiance_field_task.h"

namespace nerfad {

// Samples whose gradients of features wait for the scatter at a time.
constexpr int64_t kFieldChunk = 1 << 16;
constexpr int64_t kTilesPerFieldTask = 16;

// Conditions [low, low + n) that a task meets; it has rows from first_row on.
struct ConditionRange {
  int32_t low, n;
  int64_t first_row;
};

struct FieldPlan {
  TaskSplit samples;
  ConditionRange conditions[kMaxBackwardTasks], views[kMaxBackwardTasks];
};

inline int64_t max_condition_rows(int64_t n_cond) {
  const int64_t spread = 2 * kFieldChunk < n_cond ? 2 * kFieldChunk : n_cond;
  return n_cond + spread + kMaxBackwardTasks;
}

inline ConditionRange find_range(const int32_t* index, const int32_t* samples, int64_t begin, int64_t end) {
  if (!index || begin >= end) return {0, 1, 0};
  int32_t low = index[samples[begin]], high = low;
  for (int64_t i = begin; i < end; ++i) {
    const int32_t c = index[samples[i]];
    low = c < low ? c : low;
    high = c > high ? c : high;
  }
  return {low, high - low + 1, 0};
}

// Where conditions come in order, as those of rays do, the ranges of tasks hardly overlap; where they do not,
// neighbours are joined until their rows fit.
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

template <class T>
FieldPlan plan_field_chunk(const RadianceFieldFwd<T>& p, const int32_t* samples, int64_t n,
                           const ParallelFor& parallel_for) {
  FieldPlan plan{};
  TaskSplit& split = plan.samples;
  const int64_t by_size = ceil_div(n, kTilesPerFieldTask * kMlpTile);
  split = split_in_tiles(n, by_size < kMaxBackwardTasks ? by_size : kMaxBackwardTasks);
  parallel_for(split.n_tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task * split.per_task,
                    last = first + split.per_task < n ? first + split.per_task : n;
      plan.conditions[task] = find_range(p.cond_index, samples, first, last);
      plan.views[task] = find_range(p.view_index, samples, first, last);
    }
  });
  while ((place_rows(plan.conditions, split.n_tasks) > max_condition_rows(p.n_cond) ||
          place_rows(plan.views, split.n_tasks) > max_condition_rows(p.n_views)) &&
         split.n_tasks > 1) {
    for (int64_t task = 0; task < split.n_tasks; task += 2) {
      const int64_t other = task + 1 < split.n_tasks ? task + 1 : task;
      plan.conditions[task / 2] = join(plan.conditions[task], plan.conditions[other]);
      plan.views[task / 2] = join(plan.views[task], plan.views[other]);
    }
    split = {ceil_div(split.n_tasks, 2), 2 * split.per_task};
  }
  return plan;
}

// A network, packed and folded, and the memory of its gradients: sums of each task, rows for the conditions
// that each task meets, and their sums for all conditions.
template <class T>
struct NetGradients {
  ConditionedMlpFwd<T> net;
  T *packed, *last_conditions, *packed_grad, *sums, *rows, *folded_grad, *fold_sums;
  int64_t sums_size, fold_size, fold_buffer_size;

  NetGradients(const ConditionedMlpFwd<T>& n, Scratch<T>& memory) : net(n) {
    const MlpShape& s = n.shape;
    const int width = mlp_padded(s.d_hidden), cond_width = mlp_padded(s.d_cond);
    packed = memory.take(PackedMlp<T>{s, nullptr}.forward_size(n.n_cond));
    last_conditions = memory.take(static_cast<int64_t>(kMlpTile) * s.d_cond);
    packed_grad = memory.take(PackedMlpGrad<T>{s, nullptr}.size());
    sums_size = aligned_count(MlpGradSums<T>{s, nullptr}.size());
    sums = memory.take(kMaxBackwardTasks * sums_size);
    rows = memory.take(max_condition_rows(n.n_cond) * width);
    folded_grad = memory.take(mlp_whole_tiles(n.n_cond) * width);
    fold_size = aligned_count(static_cast<int64_t>(s.d_hidden) * cond_width + width);
    fold_buffer_size = aligned_count(2 * kMlpTile * cond_width);
    fold_sums = memory.take(split_conditions(n.n_cond).n_tasks * (fold_size + fold_buffer_size));
  }
  int width() const { return mlp_padded(net.shape.d_hidden); }
};

template <class T>
struct FieldForwardScratch {
  T *sigma, *color, *last_conditions, *last_views, *buffers;
  int64_t buffer_size, needed;

  FieldForwardScratch(const RadianceFieldFwd<T>& p, T* start, int n_threads) {
    Scratch<T> memory(start);
    sigma = memory.take(PackedMlp<T>{p.sigma, nullptr}.forward_size(p.n_cond));
    color = memory.take(PackedMlp<T>{p.color, nullptr}.forward_size(p.n_views));
    last_conditions = memory.take(static_cast<int64_t>(kMlpTile) * p.sigma.d_cond);
    last_views = memory.take(static_cast<int64_t>(kMlpTile) * p.color.d_cond);
    buffer_size = FieldBuffers<T>::needed(p, false);
    buffers = memory.take(n_threads * buffer_size);
    needed = memory.needed();
  }
};

template <class T>
struct FieldBackwardScratch {
  Scratch<T> memory;
  NetGradients<T> sigma, color;
  int32_t *samples, *block_counts;  // samples with a gradient, and how many each block of them has
  T *positions, *grad_features, *grad_positions, *grid, *buffers;
  int64_t buffer_size;

  FieldBackwardScratch(const RadianceFieldBwd<T>& b, T* start, int n_threads)
      : memory(start), sigma(b.fwd.sigma_net(), memory), color(b.fwd.color_net(), memory) {
    const RadianceFieldFwd<T>& p = b.fwd;
    const int64_t chunk = p.n < kFieldChunk ? p.n : kFieldChunk;
    samples = reinterpret_cast<int32_t*>(memory.take(p.n));
    block_counts = reinterpret_cast<int32_t*>(memory.take(ceil_div(p.n, kFieldChunk) + 1));
    positions = memory.take(3 * chunk);
    grad_features = memory.take(p.sigma.d_in * chunk);
    grad_positions = memory.take(b.grad_positions ? 3 * chunk : 0);
    grid = memory.take(grid_encode_bwd_scratch(p.grid, chunk));
    buffer_size = FieldBuffers<T>::needed(p, true);
    buffers = memory.take(n_threads * buffer_size);
  }
  int64_t needed() const { return memory.needed(); }
};

}  // namespace nerfad
