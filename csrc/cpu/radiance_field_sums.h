// Folding the conditions of the fused radiance field's networks before the samples, and summing the tasks'
// gradients after them, always in the order of the tasks.
#pragma once
#include "radiance_field_plan.h"

namespace nerfad {
namespace {

template <class T>
using FoldKernel = void (*)(const MlpFoldTask<T>&);
template <class T>
using FoldGradKernel = void (*)(const MlpFoldGradTask<T>&);

// Packs the weights and folds all conditions into biases.
template <class T>
PackedMlp<T> pack_and_fold(const ConditionedMlpFwd<T>& p, T* memory, T* last_conditions, FoldKernel<T> fold,
                           const ParallelFor& parallel_for) {
  const PackedMlp<T> mlp = pack_mlp_forward(p, memory);
  const int64_t whole = p.n_cond / kMlpTile * kMlpTile, d_cond = p.shape.d_cond;
  std::memset(last_conditions, 0, sizeof(T) * static_cast<size_t>(kMlpTile * d_cond));
  if (d_cond > 0) {
    std::memcpy(last_conditions, p.cond + whole * d_cond,
                sizeof(T) * static_cast<size_t>((p.n_cond - whole) * d_cond));
  }
  const TaskSplit split = split_conditions(p.n_cond);
  parallel_for(split.n_tasks, 1, [&](int64_t begin, int64_t end) {
    const int64_t last = end * split.per_task < p.n_cond ? end * split.per_task : p.n_cond;
    fold({mlp, p.cond, last_conditions, memory + mlp.folded_at(), p.n_cond, begin * split.per_task, last});
  });
  return mlp;
}

template <class T>
void prepare(const NetGradients<T>& m, FoldKernel<T> fold, NetGradTask<T>& task,
             const ParallelFor& parallel_for) {
  task.forward = pack_and_fold(m.net, m.packed, m.last_conditions, fold, parallel_for);
  task.weights = pack_mlp_grad(m.net.shape, m.net.params, m.packed_grad);
  const int64_t size = mlp_whole_tiles(m.net.n_cond) * m.width();
  std::memset(m.folded_grad, 0, sizeof(T) * static_cast<size_t>(size));
}

// Where task i sums the network's gradients; its sums begin at zero if `fresh`.
template <class T>
void begin_sums(const NetGradients<T>& m, int64_t i, bool fresh, const ConditionRange& range,
                NetGradTask<T>& task) {
  task.sums = {m.net.shape, m.sums + i * m.sums_size};
  task.folded = m.rows + range.first_row * m.width();
  task.first_row = range.low;
  task.n_rows = range.n;
  if (fresh) std::memset(task.sums.data, 0, sizeof(T) * static_cast<size_t>(m.sums_size));
  std::memset(task.folded, 0, sizeof(T) * static_cast<size_t>(range.n) * m.width());
}

// folded_grad[c] += the tasks' rows for condition c.
template <class T>
void add_folded(const NetGradients<T>& m, const ConditionRange* ranges, int64_t n_tasks,
                const ParallelFor& parallel_for) {
  constexpr int64_t kConditionsPerTask = 512;
  const int width = m.width();
  parallel_for(m.net.n_cond, kConditionsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t task = 0; task < n_tasks; ++task) {
      const ConditionRange& r = ranges[task];
      const int64_t first = r.low > begin ? r.low : begin, last = r.low + r.n < end ? r.low + r.n : end;
      if (first >= last) continue;
      const T* from = m.rows + (r.first_row + first - r.low) * width;
      T* to = m.folded_grad + first * width;
      for (int64_t k = 0; k < (last - first) * width; ++k) to[k] += from[k];
    }
  });
}

template <class T>
struct NetOutputs {
  T *grad_params, *grad_cond;
};

template <class T>
void add_to(T* to, const T* from, int n) {
  for (int k = 0; k < n; ++k) to[k] += from[k];
}

// Row n of layer l's weight, and its bias.
template <class T>
void reduce_row(const NetGradients<T>& m, T* grad_params, int64_t n_sums, int l, int n) {
  const MlpShape& s = m.net.shape;
  const MlpGradSums<T> sums{s, nullptr};
  T* row = grad_params + s.weight_at(l) + static_cast<int64_t>(n) * s.row(l);
  T& bias = grad_params[s.bias_at(l) + n];
  for (int k = 0; k < s.row(l); ++k) row[k] = 0;
  bias = 0;
  const int64_t weights = sums.weights_at(l) + static_cast<int64_t>(n) * mlp_padded(s.in(l));
  for (int64_t task = 0; task < n_sums; ++task) {
    const T* from = m.sums + task * m.sums_size;
    add_to(row, from + weights, s.in(l));
    if (l > 0) bias += from[sums.biases_at(l) + n];
  }
  if (l > 0) return;
  const int cond_width = mlp_padded(s.d_cond);
  for (int64_t task = 0; task < split_conditions(m.net.n_cond).n_tasks; ++task) {
    const T* from = m.fold_sums + task * m.fold_size;
    add_to(row + s.d_in, from + static_cast<int64_t>(n) * cond_width, s.d_cond);
    bias += from[static_cast<int64_t>(s.d_hidden) * cond_width + n];
  }
}

// From the sums of all tasks to the gradients of the parameters and the conditions.
template <class T>
void finish(const NetGradients<T>& m, const NetGradTask<T>& task, int64_t n_sums, const NetOutputs<T>& out,
            FoldGradKernel<T> fold_grad, const ParallelFor& parallel_for) {
  constexpr int64_t kRowsPerTask = 16;
  const MlpShape& s = m.net.shape;
  ConditionedMlpBwd<T> p{};
  p.fwd = m.net;
  p.grad_cond = out.grad_cond;
  const TaskSplit split = split_conditions(m.net.n_cond);
  const int64_t bias_at = static_cast<int64_t>(s.d_hidden) * mlp_padded(s.d_cond);
  parallel_for(split.n_tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T* sums = m.fold_sums + i * m.fold_size;
      const int64_t first = i * split.per_task, last = first + split.per_task;
      fold_grad({&p, task.weights, m.folded_grad, sums, sums + bias_at,
                 m.fold_sums + split.n_tasks * m.fold_size + i * m.fold_buffer_size, first,
                 last < m.net.n_cond ? last : m.net.n_cond});
    }
  });
  parallel_for(s.n_hidden * s.d_hidden + s.d_out, kRowsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int above = static_cast<int>(i / s.d_hidden), layer = above < s.n_hidden ? above : s.n_hidden;
      reduce_row(m, out.grad_params, n_sums, layer, static_cast<int>(i) - layer * s.d_hidden);
    }
  });
}

}  // namespace
}  // namespace nerfad
