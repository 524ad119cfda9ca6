#include "nerfad/conditioned_mlp.h"

#include "conditioned_mlp_sums.h"
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

constexpr int64_t kTilesPerBackwardTask = 32;

template <class T, class Operand>
struct ForwardMemory {
  Scratch<T> memory;
  NetForward<T, Operand> net;
  T* buffers;
  int64_t buffer_size;

  ForwardMemory(const ConditionedMlpFwd<T>& p, T* start, int n_threads) : memory(start), net(p, memory) {
    buffer_size = MlpForwardBuffers<T, Operand>::size(p.shape);
    buffers = memory.take(kTasksPerThread * n_threads * buffer_size);
  }
};

template <class T, class Operand>
struct BackwardMemory {
  Scratch<T> memory;
  int64_t n_tasks;  // at most
  NetGradients<T, Operand> net;
  T* buffers;
  int64_t buffer_size;

  BackwardMemory(const ConditionedMlpFwd<T>& p, T* start)
      : memory(start),
        n_tasks(max_backward_tasks(p.n_samples, kTilesPerBackwardTask)),
        net(p, n_tasks, memory) {
    buffer_size = aligned_count(MlpBackwardBuffers<T, Operand>::size(p.shape));
    buffers = memory.take(n_tasks * buffer_size);
  }
};

template <class T, class Operand>
void forward(const MlpKernels<T, Operand>& kernels, const ConditionedMlpFwd<T>& p,
             const ParallelFor& parallel_for) {
  const ForwardMemory<T, Operand> m(p, p.scratch, parallel_for.n_threads());
  const PackedMlp<T, Operand> mlp = pack_and_fold(kernels, m.net, parallel_for);
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
  const ConditionedMlpFwd<T>& f = p.fwd;
  const BackwardMemory<T, Operand> m(f, f.scratch);
  const NetGradTask<T, Operand> net = prepare(kernels, m.net, parallel_for);
  const BackwardPlan<1> plan =
      plan_backward<1>({{f.cond_index, f.n_cond}}, nullptr, f.n_samples, kTilesPerBackwardTask, parallel_for);
  const TaskSplit& split = plan.samples;
  parallel_for(split.n_tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * split.per_task, last = first + split.per_task;
      MlpBackwardTask<T, Operand> task{&p, net, m.buffers + begin * m.buffer_size, first,
                                       last < f.n_samples ? last : f.n_samples};
      begin_sums(m.net, i, true, plan.conditions[0][i], task.net);
      kernels.backward(task);
    }
  });
  add_folded(m.net, plan.conditions[0], split.n_tasks, parallel_for);
  finish(kernels, m.net, split.n_tasks, {p.grad_params, p.grad_cond}, parallel_for);
}

template <class T, class Operand>
int64_t forward_scratch(const MlpKernels<T, Operand>&, const ConditionedMlpFwd<T>& p, int n_threads) {
  return ForwardMemory<T, Operand>(p, nullptr, n_threads).memory.needed();
}

template <class T, class Operand>
int64_t backward_scratch(const MlpKernels<T, Operand>&, const ConditionedMlpBwd<T>& p) {
  return BackwardMemory<T, Operand>(p.fwd, nullptr).memory.needed();
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
