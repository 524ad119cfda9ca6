// What precedes and follows the samples of a conditioned MLP, alone or in the radiance field: packing its
// weights, folding its conditions into biases, and summing the tasks' gradients, always in the order of the
// tasks. `Kernels` has fold, fold_grad and rounds.
#pragma once
#include "conditioned_mlp_plan.h"

namespace nerfad {
namespace {

template <class T, class Operand>
struct NetForward {
  ConditionedMlpFwd<T> net;
  T *packed, *last_conditions;
  Operand* operands;

  NetForward(const ConditionedMlpFwd<T>& n, Scratch<T>& memory) : net(n) {
    const PackedMlp<T, Operand> mlp{n.shape, nullptr};
    packed = memory.take(mlp.forward_size(n.n_cond));
    operands = memory.template take_as<Operand>(mlp.operands_at(n.shape.n_layers()));
    last_conditions = memory.take(static_cast<int64_t>(kMlpTile) * n.shape.d_cond);
  }
};

// A network and the memory of its gradients: sums of each task, rows for the conditions that each task meets,
// and their sums for all conditions.
template <class T, class Operand>
struct NetGradients : NetForward<T, Operand> {
  T *packed_grad, *sums, *rows, *folded_grad, *fold_sums;
  Operand* grad_operands;
  int64_t sums_size, fold_size, fold_buffer_size;

  NetGradients(const ConditionedMlpFwd<T>& n, int64_t n_tasks, Scratch<T>& memory)
      : NetForward<T, Operand>(n, memory) {
    const MlpShape& s = n.shape;
    const PackedMlpGrad<T, Operand> grad_mlp{s, nullptr};
    const int cond_width = mlp_padded(s.d_cond);
    packed_grad = memory.take(grad_mlp.size());
    grad_operands = memory.template take_as<Operand>(grad_mlp.operands_at(s.n_layers()));
    sums_size = aligned_count(MlpGradSums<T>{s, nullptr}.size());
    sums = memory.take(n_tasks * sums_size);
    rows = memory.take(max_condition_rows(n.n_cond) * width());
    folded_grad = memory.take(mlp_whole_tiles(n.n_cond) * width());
    fold_size = aligned_count(static_cast<int64_t>(s.d_hidden) * cond_width + width());
    fold_buffer_size = aligned_count(2 * kMlpTile * cond_width);
    fold_sums = memory.take(split_conditions(n.n_cond).n_tasks * (fold_size + fold_buffer_size));
  }
  int width() const { return mlp_padded(this->net.shape.d_hidden); }
};

// Packs the weights and folds all conditions into biases.
template <class Kernels, class T, class Operand>
PackedMlp<T, Operand> pack_and_fold(const Kernels& k, const NetForward<T, Operand>& m,
                                    const ParallelFor& parallel_for) {
  const ConditionedMlpFwd<T>& p = m.net;
  const PackedMlp<T> mlp = pack_mlp_forward(p, m.packed);
  const int64_t whole = p.n_cond / kMlpTile * kMlpTile, d_cond = p.shape.d_cond;
  std::memset(m.last_conditions, 0, sizeof(T) * static_cast<size_t>(kMlpTile * d_cond));
  if (d_cond > 0) {
    std::memcpy(m.last_conditions, p.cond + whole * d_cond,
                sizeof(T) * static_cast<size_t>((p.n_cond - whole) * d_cond));
  }
  const TaskSplit split = split_conditions(p.n_cond);
  parallel_for(split.n_tasks, 1, [&](int64_t begin, int64_t end) {
    const int64_t last = end * split.per_task < p.n_cond ? end * split.per_task : p.n_cond;
    k.fold(
        {mlp, p.cond, m.last_conditions, m.packed + mlp.folded_at(), p.n_cond, begin * split.per_task, last});
  });
  return as_operands(k.rounds, mlp, m.operands);
}

// The network as the tasks need it; no task has begun.
template <class Kernels, class T, class Operand>
NetGradTask<T, Operand> prepare(const Kernels& k, const NetGradients<T, Operand>& m,
                                const ParallelFor& parallel_for) {
  NetGradTask<T, Operand> task{};
  task.forward = pack_and_fold(k, m, parallel_for);
  task.weights =
      as_operands(k.rounds, pack_mlp_grad(m.net.shape, m.net.params, m.packed_grad), m.grad_operands);
  const int64_t size = mlp_whole_tiles(m.net.n_cond) * m.width();
  std::memset(m.folded_grad, 0, sizeof(T) * static_cast<size_t>(size));
  return task;
}

// Where task i sums the network's gradients; its sums begin at zero if `fresh`.
template <class T, class Operand>
void begin_sums(const NetGradients<T, Operand>& m, int64_t i, bool fresh, const ConditionRange& range,
                NetGradTask<T, Operand>& task) {
  task.sums = {m.net.shape, m.sums + i * m.sums_size};
  task.folded = m.rows + range.first_row * m.width();
  task.first_row = range.low;
  if (fresh) std::memset(task.sums.data, 0, sizeof(T) * static_cast<size_t>(m.sums_size));
  std::memset(task.folded, 0, sizeof(T) * static_cast<size_t>(range.n) * m.width());
}

// folded_grad[c] += the tasks' rows for condition c.
template <class T, class Operand>
void add_folded(const NetGradients<T, Operand>& m, const ConditionRange* ranges, int64_t n_tasks,
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
template <class T, class Operand>
void reduce_row(const NetGradients<T, Operand>& m, T* grad_params, int64_t n_sums, int l, int n) {
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

// From the sums of the first n_sums tasks to the gradients of the parameters and the conditions.
template <class Kernels, class T, class Operand>
void finish(const Kernels& k, const NetGradients<T, Operand>& m, int64_t n_sums, const NetOutputs<T>& out,
            const ParallelFor& parallel_for) {
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
      k.fold_grad({&p,
                   {s, m.packed_grad, m.packed_grad},
                   m.folded_grad,
                   sums,
                   sums + bias_at,
                   m.fold_sums + split.n_tasks * m.fold_size + i * m.fold_buffer_size,
                   first,
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
