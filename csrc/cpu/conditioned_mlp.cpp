#include "nerfad/conditioned_mlp.h"

#include "conditioned_mlp_plan.h"
#include "conditioned_mlp_tiles.h"
#include "nerfad/isa.h"

namespace nerfad {

namespace {

template <class T>
const MlpKernels<T>& exact_kernels() {
#if defined(__x86_64__)
  if constexpr (sizeof(T) == sizeof(float)) {
    if (current_isa() >= Isa::kAvx512) return mlp_kernels_avx512();
    if (current_isa() >= Isa::kAvx2) return mlp_kernels_avx2();
  }
#endif
  return mlp_kernels<PortableSimd<T>>();
}

const MlpKernels<float>& rounded_kernels() {
#if defined(__x86_64__)
  if (current_isa() >= Isa::kAvx512) return mlp_kernels_rounded_avx512();
  if (current_isa() >= Isa::kAvx2) return mlp_kernels_rounded_avx2();
#endif
  return mlp_kernels<Bf16Rounded<PortableSimd<float>>, PortableSimd<float>>();
}

// Calls run(kernels) with those for the precision on this machine.
template <class T, class Run>
auto with_kernels(MlpPrecision precision, const Run& run) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (precision == MlpPrecision::kBFloat16) {
#if defined(__x86_64__)
      if (current_isa() >= Isa::kAmx) return run(mlp_kernels_amx());
      if (current_isa() >= Isa::kAvx512Bf16) return run(mlp_kernels_avx512bf16());
#endif
      return run(rounded_kernels());
    }
  }
  return run(exact_kernels<T>());
}

// Packs the weights and folds all conditions into biases.
template <class T, class Operand>
PackedMlp<T> pack_and_fold(const MlpKernels<T, Operand>& kernels, const ConditionedMlpFwd<T>& p, T* memory,
                           T* last_conditions, const ParallelFor& parallel_for) {
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
    kernels.fold(
        {mlp, p.cond, last_conditions, memory + mlp.folded_at(), p.n_cond, begin * split.per_task, last});
  });
  return mlp;
}

// folded_grad[c] = sum over tasks of their rows for condition c, in the order of tasks.
template <class T>
void sum_folded(const BackwardPlan& plan, const T* rows, int width, int64_t c, T* to) {
  for (int n = 0; n < width; ++n) to[n] = 0;
  for (int64_t task = 0; task < plan.samples.n_tasks; ++task) {
    const int64_t row = c - plan.low[task];
    if (row < 0 || row >= plan.n_conditions[task]) continue;
    const T* from = rows + (plan.first_row[task] + row) * width;
    for (int n = 0; n < width; ++n) to[n] += from[n];
  }
}

template <class T>
void add_to(T* to, const T* from, int n) {
  for (int k = 0; k < n; ++k) to[k] += from[k];
}

// Row n of layer l's weight, and its bias: sums over tasks in their order.
template <class T, class Operand>
void reduce_row(const ConditionedMlpBwd<T>& p, const BackwardScratch<T, Operand>& m, int64_t n_tasks, int l,
                int n) {
  const MlpShape& s = p.fwd.shape;
  const MlpGradSums<T> sums{s, nullptr};
  T* row = p.grad_params + s.weight_at(l) + static_cast<int64_t>(n) * s.row(l);
  T& bias = p.grad_params[s.bias_at(l) + n];
  for (int k = 0; k < s.row(l); ++k) row[k] = 0;
  bias = 0;
  const int64_t weights = sums.weights_at(l) + static_cast<int64_t>(n) * mlp_padded(s.in(l));
  for (int64_t task = 0; task < n_tasks; ++task) {
    const T* from = m.sums + task * m.sums_size;
    add_to(row, from + weights, s.in(l));
    if (l > 0) bias += from[sums.biases_at(l) + n];
  }
  if (l > 0) return;
  const int cond_width = mlp_padded(s.d_cond);
  for (int64_t task = 0; task < split_conditions(p.fwd.n_cond).n_tasks; ++task) {
    const T* from = m.fold_sums + task * m.fold_size;
    add_to(row + s.d_in, from + static_cast<int64_t>(n) * cond_width, s.d_cond);
    bias += from[static_cast<int64_t>(s.d_hidden) * cond_width + n];
  }
}

// From the tasks' sums for single conditions to the gradients of all conditions and what they are multiplied
// with.
template <class T, class Operand>
void unfold(const MlpKernels<T, Operand>& kernels, const ConditionedMlpBwd<T>& p, const BackwardPlan& plan,
            const BackwardScratch<T, Operand>& m, const PackedMlpGrad<T>& grad_mlp,
            const ParallelFor& parallel_for) {
  constexpr int64_t kConditionsPerTask = 256;
  const MlpShape& s = p.fwd.shape;
  const int width = mlp_padded(s.d_hidden);
  parallel_for(mlp_whole_tiles(p.fwd.n_cond), kConditionsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      sum_folded(plan, m.folded_rows, width, c, m.folded_grad + c * width);
  });
  const TaskSplit split = split_conditions(p.fwd.n_cond);
  const int64_t bias_at = static_cast<int64_t>(s.d_hidden) * mlp_padded(s.d_cond);
  parallel_for(split.n_tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      T* sums = m.fold_sums + task * m.fold_size;
      const int64_t first = task * split.per_task, last = first + split.per_task;
      kernels.fold_grad({&p, grad_mlp, m.folded_grad, sums, sums + bias_at,
                         m.fold_sums + split.n_tasks * m.fold_size + task * m.fold_buffer_size, first,
                         last < p.fwd.n_cond ? last : p.fwd.n_cond});
    }
  });
}

template <class T, class Operand>
void forward(const MlpKernels<T, Operand>& kernels, const ConditionedMlpFwd<T>& p,
             const ParallelFor& parallel_for) {
  const ForwardScratch<T, Operand> m(p, p.scratch, parallel_for.n_threads());
  const PackedMlp<T> exact = pack_and_fold(kernels, p, m.packed, m.last_conditions, parallel_for);
  const PackedMlp<T, Operand> mlp = as_operands(kernels.rounds, exact, m.operands);
  const TaskSplit split = split_in_tiles(p.n_samples, kTasksPerThread * parallel_for.n_threads());
  parallel_for(split.n_tasks, 1, [&](int64_t begin, int64_t end) {
    const int64_t last = end * split.per_task;
    kernels.forward({&p, mlp, m.buffers + begin * m.buffer_size, begin * split.per_task,
                     last < p.n_samples ? last : p.n_samples});
  });
}

template <class T, class Operand>
void backward(const MlpKernels<T, Operand>& kernels, const ConditionedMlpBwd<T>& p,
              const ParallelFor& parallel_for) {
  constexpr int64_t kRowsPerTask = 16;
  const ConditionedMlpFwd<T>& f = p.fwd;
  const MlpShape& s = f.shape;
  const BackwardPlan plan = plan_backward(f.cond_index, f.n_samples, f.n_cond);
  const BackwardScratch<T, Operand> m(p, plan, f.scratch);
  const PackedMlp<T> exact = pack_and_fold(kernels, f, m.packed, m.last_conditions, parallel_for);
  const PackedMlpGrad<T> exact_grad = pack_mlp_grad(s, f.params, m.packed_grad);
  const PackedMlp<T, Operand> mlp = as_operands(kernels.rounds, exact, m.operands);
  const PackedMlpGrad<T, Operand> grad_mlp = as_operands(kernels.rounds, exact_grad, m.grad_operands);
  const int64_t n_tasks = plan.samples.n_tasks;
  parallel_for(n_tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task * plan.samples.per_task, last = first + plan.samples.per_task;
      kernels.backward({&p,
                        mlp,
                        grad_mlp,
                        {s, m.sums + task * m.sums_size},
                        m.folded_rows + plan.first_row[task] * mlp_padded(s.d_hidden),
                        plan.low[task],
                        plan.n_conditions[task],
                        m.buffers + begin * m.buffer_size,
                        first,
                        last < f.n_samples ? last : f.n_samples});
    }
  });
  unfold(kernels, p, plan, m, exact_grad, parallel_for);
  parallel_for(s.n_hidden * s.d_hidden + s.d_out, kRowsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int above = static_cast<int>(i / s.d_hidden), layer = above < s.n_hidden ? above : s.n_hidden;
      reduce_row(p, m, n_tasks, layer, static_cast<int>(i) - layer * s.d_hidden);
    }
  });
}

template <class T, class Operand>
int64_t forward_scratch(const MlpKernels<T, Operand>&, const ConditionedMlpFwd<T>& p, int n_threads) {
  return ForwardScratch<T, Operand>(p, nullptr, n_threads).needed;
}

template <class T, class Operand>
int64_t backward_scratch(const MlpKernels<T, Operand>&, const ConditionedMlpBwd<T>& p) {
  const BackwardPlan plan = plan_backward(p.fwd.cond_index, p.fwd.n_samples, p.fwd.n_cond);
  return BackwardScratch<T, Operand>(p, plan, nullptr).needed;
}

}  // namespace

template <class T>
int64_t conditioned_mlp_fwd_scratch(const ConditionedMlpFwd<T>& p, int n_threads) {
  return with_kernels<T>(p.precision, [&](const auto& k) { return forward_scratch(k, p, n_threads); });
}

template <class T>
void conditioned_mlp_fwd_cpu(const ConditionedMlpFwd<T>& p, const ParallelFor& parallel_for) {
  with_kernels<T>(p.precision, [&](const auto& k) { forward(k, p, parallel_for); });
}

template <class T>
int64_t conditioned_mlp_bwd_scratch(const ConditionedMlpBwd<T>& p) {
  return with_kernels<T>(p.fwd.precision, [&](const auto& k) { return backward_scratch(k, p); });
}

template <class T>
void conditioned_mlp_bwd_cpu(const ConditionedMlpBwd<T>& p, const ParallelFor& parallel_for) {
  with_kernels<T>(p.fwd.precision, [&](const auto& k) { backward(k, p, parallel_for); });
}

#define NERFAD_INSTANTIATE(T)                                                             \
  template int64_t conditioned_mlp_fwd_scratch(const ConditionedMlpFwd<T>&, int);         \
  template int64_t conditioned_mlp_bwd_scratch(const ConditionedMlpBwd<T>&);              \
  template void conditioned_mlp_fwd_cpu(const ConditionedMlpFwd<T>&, const ParallelFor&); \
  template void conditioned_mlp_bwd_cpu(const ConditionedMlpBwd<T>&, const ParallelFor&);
NERFAD_INSTANTIATE(float)
NERFAD_INSTANTIATE(double)

}  // namespace nerfad
