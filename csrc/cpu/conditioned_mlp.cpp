#include "nerfad/conditioned_mlp.h"

#include "conditioned_mlp_tiles.h"
#include "nerfad/isa.h"

namespace nerfad {

namespace {

constexpr int64_t kTasksPerThread = 4;
// Backward: tasks do not depend on the number of threads, so that neither do the sums' rounding errors.
constexpr int64_t kTilesPerBackwardTask = 32, kMaxBackwardTasks = 64, kMaxFoldedSums = 4096;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class T>
const MlpKernels<T>& kernels() {
  static const MlpKernels<T> portable{mlp_forward_task<PortableSimd<T>>, mlp_backward_task<PortableSimd<T>>};
#if defined(__x86_64__)
  if constexpr (sizeof(T) == sizeof(float)) {
    if (current_isa() >= Isa::kAvx512) return mlp_kernels_avx512();
    if (current_isa() >= Isa::kAvx2) return mlp_kernels_avx2();
  }
#endif
  return portable;
}

struct Split {
  int64_t n_tasks, samples_per_task;
};

Split split_samples(int64_t n_samples, int64_t max_tasks) {
  const int64_t n_tiles = ceil_div(n_samples, kMlpTile);
  const int64_t n_tasks = n_tiles < 1 ? 1 : n_tiles < max_tasks ? n_tiles : max_tasks;
  const int64_t tiles = ceil_div(n_tiles, n_tasks);
  return {ceil_div(n_tiles, tiles < 1 ? 1 : tiles), tiles * kMlpTile};
}

template <class T>
Split backward_split(const ConditionedMlpBwd<T>& p) {
  const int64_t by_size = ceil_div(p.fwd.n_samples, kTilesPerBackwardTask * kMlpTile);
  int64_t max_tasks = by_size < kMaxBackwardTasks ? by_size : kMaxBackwardTasks;
  // Each task has its own sums for every condition: fewer tasks where there are many conditions.
  const int64_t by_conditions = kMaxFoldedSums / p.fwd.n_cond;
  if (max_tasks > by_conditions) max_tasks = by_conditions;
  return split_samples(p.fwd.n_samples, max_tasks < 1 ? 1 : max_tasks);
}

// Sum over tasks of element `at` of their gradient sums, in the order of tasks.
template <class T>
T sum_tasks(const T* first, int64_t stride, int64_t n_tasks, int64_t at) {
  T sum = 0;
  for (int64_t task = 0; task < n_tasks; ++task) sum += first[task * stride + at];
  return sum;
}

// Row n of layer l: the weight's columns, the condition's columns, and the bias.
template <class T>
void reduce_row(const ConditionedMlpBwd<T>& p, const MlpGradSums<T>& sums, const T* folded, int64_t stride,
                int64_t n_tasks, int l, int n) {
  const ConditionedMlpFwd<T>& f = p.fwd;
  const MlpShape& s = f.shape;
  T* row = p.grad_params + s.weight_at(l) + static_cast<int64_t>(n) * s.row(l);
  T& bias = p.grad_params[s.bias_at(l) + n];
  const int64_t from = sums.weights_at(l) + static_cast<int64_t>(n) * mlp_padded(s.in(l));
  for (int k = 0; k < s.in(l); ++k) row[k] = sum_tasks(sums.data, stride, n_tasks, from + k);
  if (l > 0) {
    bias = sum_tasks(sums.data, stride, n_tasks, sums.biases_at(l) + n);
    return;
  }
  bias = 0;
  for (int j = 0; j < s.d_cond; ++j) row[s.d_in + j] = 0;
  for (int64_t c = 0; c < f.n_cond; ++c) {
    const T g = folded[c * mlp_padded(s.d_hidden) + n];
    bias += g;
    for (int j = 0; j < s.d_cond; ++j) row[s.d_in + j] += g * f.cond[c * s.d_cond + j];
  }
}

// dL/dc = W_c^T dL/d(folded bias).
template <class T>
void condition_grad(const ConditionedMlpBwd<T>& p, const T* folded, int64_t c) {
  const MlpShape& s = p.fwd.shape;
  T* grad = p.grad_cond + c * s.d_cond;
  for (int j = 0; j < s.d_cond; ++j) grad[j] = 0;
  for (int n = 0; n < s.d_hidden; ++n) {
    const T g = folded[c * mlp_padded(s.d_hidden) + n];
    const T* weights = p.fwd.params + s.weight_at(0) + static_cast<int64_t>(n) * s.row(0) + s.d_in;
    for (int j = 0; j < s.d_cond; ++j) grad[j] += g * weights[j];
  }
}

template <class T>
void reduce(const ConditionedMlpBwd<T>& p, const MlpGradSums<T>& sums, T* folded, int64_t stride,
            int64_t n_tasks, const ParallelFor& parallel_for) {
  constexpr int64_t kRowsPerTask = 16;
  const MlpShape& s = p.fwd.shape;
  const int width = mlp_padded(s.d_hidden);
  parallel_for(p.fwd.n_cond * width, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      folded[i] = sum_tasks(sums.data, stride, n_tasks, sums.folded_at() + i);
  });
  parallel_for(s.n_hidden * s.d_hidden + s.d_out, kRowsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int layer =
          static_cast<int>(i / s.d_hidden) < s.n_hidden ? static_cast<int>(i / s.d_hidden) : s.n_hidden;
      const int row = static_cast<int>(i) - layer * s.d_hidden;
      reduce_row(p, sums, folded, stride, n_tasks, layer, row);
    }
  });
  if (!p.grad_cond) return;
  parallel_for(p.fwd.n_cond, kRowsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) condition_grad(p, folded, c);
  });
}

}  // namespace

template <class T>
int64_t conditioned_mlp_fwd_scratch(const ConditionedMlpFwd<T>& p, int n_threads) {
  return kScratchAlign + aligned_count(PackedMlp<T>{p.shape, nullptr}.forward_size(p.n_cond)) +
         kTasksPerThread * n_threads * MlpForwardBuffers<T>::size(p.shape);
}

template <class T>
void conditioned_mlp_fwd_cpu(const ConditionedMlpFwd<T>& p, const ParallelFor& parallel_for) {
  T* memory = align_scratch(p.scratch);
  const PackedMlp<T> mlp = pack_mlp_forward(p, memory);
  memory += aligned_count(mlp.forward_size(p.n_cond));
  const Split split = split_samples(p.n_samples, kTasksPerThread * parallel_for.n_threads());
  const MlpKernels<T>& k = kernels<T>();
  parallel_for(split.n_tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task * split.samples_per_task, last = first + split.samples_per_task;
      k.forward({&p, mlp, memory + begin * MlpForwardBuffers<T>::size(p.shape), first,
                 last < p.n_samples ? last : p.n_samples});
    }
  });
}

template <class T>
int64_t conditioned_mlp_bwd_scratch(const ConditionedMlpBwd<T>& p) {
  const MlpShape& s = p.fwd.shape;
  const int64_t n_tasks = backward_split(p).n_tasks;
  return kScratchAlign + aligned_count(PackedMlp<T>{s, nullptr}.forward_size(p.fwd.n_cond)) +
         aligned_count(PackedMlpGrad<T>{s, nullptr}.size()) +
         n_tasks *
             (aligned_count(MlpGradSums<T>{s, nullptr}.size(p.fwd.n_cond)) + MlpBackwardBuffers<T>::size(s)) +
         p.fwd.n_cond * mlp_padded(s.d_hidden);
}

template <class T>
void conditioned_mlp_bwd_cpu(const ConditionedMlpBwd<T>& p, const ParallelFor& parallel_for) {
  const ConditionedMlpFwd<T>& f = p.fwd;
  T* memory = align_scratch(f.scratch);
  const PackedMlp<T> mlp = pack_mlp_forward(f, memory);
  memory += aligned_count(mlp.forward_size(f.n_cond));
  const PackedMlpGrad<T> grad_mlp = pack_mlp_grad(f.shape, f.params, memory);
  memory += aligned_count(grad_mlp.size());
  const Split split = backward_split(p);
  const MlpGradSums<T> sums{f.shape, memory};
  const int64_t stride = aligned_count(sums.size(f.n_cond)), buffers = MlpBackwardBuffers<T>::size(f.shape);
  memory += split.n_tasks * stride;
  const MlpKernels<T>& k = kernels<T>();
  parallel_for(split.n_tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task * split.samples_per_task, last = first + split.samples_per_task;
      k.backward({&p,
                  mlp,
                  grad_mlp,
                  {f.shape, sums.data + task * stride},
                  memory + begin * buffers,
                  first,
                  last < f.n_samples ? last : f.n_samples});
    }
  });
  reduce(p, sums, memory + split.n_tasks * buffers, stride, split.n_tasks, parallel_for);
}

#define NERFAD_INSTANTIATE(T)                                                             \
  template int64_t conditioned_mlp_fwd_scratch(const ConditionedMlpFwd<T>&, int);         \
  template int64_t conditioned_mlp_bwd_scratch(const ConditionedMlpBwd<T>&);              \
  template void conditioned_mlp_fwd_cpu(const ConditionedMlpFwd<T>&, const ParallelFor&); \
  template void conditioned_mlp_bwd_cpu(const ConditionedMlpBwd<T>&, const ParallelFor&);
NERFAD_INSTANTIATE(float)
NERFAD_INSTANTIATE(double)

}  // namespace nerfad
