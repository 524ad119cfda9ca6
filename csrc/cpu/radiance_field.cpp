#include "nerfad/radiance_field.h"

#include "nerfad/isa.h"
#include "radiance_field_plan.h"
#include "radiance_field_sums.h"
#include "radiance_field_tiles.h"
#include "tasks.h"

namespace nerfad {

namespace {

struct PortableEncode {
  template <class T>
  static void run(const RadianceFieldFwd<T>& p, const T* const* axes, int n, T* features, int stride) {
    const auto encode = [&](auto s, auto d, auto f) {
      constexpr int F = decltype(f)::value;
      for (int i = 0; i < n; ++i) {
        const T position[3] = {axes[0][i], axes[1][i], axes[2][i]};
        for (int l = 0; l < p.grid.n_levels; ++l) {
          grid_interpolate<T, decltype(s), decltype(d)::value, F>(p.grid, p.table, position, l,
                                                                  features + i * stride + l * F);
        }
      }
    };
    if constexpr (sizeof(T) == sizeof(double)) {
      grid_dispatch_shape<double>(p.grid, encode);
    } else {
      grid_dispatch_float32(p.table_type, p.grid, encode);
    }
  }
};

template <class T>
const FieldKernels<T>& kernels() {
#if defined(__x86_64__)
  if constexpr (sizeof(T) == sizeof(float)) {
    if (current_isa() >= Isa::kAvx512) return field_kernels_avx512();
    if (current_isa() >= Isa::kAvx2) return field_kernels_avx2();
  }
#endif
  return field_kernels<PortableSimd<T>, PortableEncode>();
}

// A list of the samples that have a gradient, in order; returns how many. The others are behind an early stop
// or outside the loss, and all their contributions are exactly zero.
template <class T>
int64_t list_samples(const RadianceFieldBwd<T>& p, const FieldBackwardScratch<T>& m,
                     const ParallelFor& parallel_for) {
  const int64_t n = p.fwd.n, n_blocks = ceil_div(n, kFieldChunk);
  const auto for_block = [&](int64_t block, const auto& use) {
    const int64_t last = (block + 1) * kFieldChunk < n ? (block + 1) * kFieldChunk : n;
    for (int64_t i = block * kFieldChunk; i < last; ++i) {
      if (has_gradient(p, i)) use(static_cast<int32_t>(i));
    }
  };
  parallel_for(n_blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      int32_t count = 0;
      for_block(block, [&](int32_t) { ++count; });
      m.block_counts[block] = count;
    }
  });
  int32_t total = 0;
  for (int64_t block = 0; block < n_blocks; ++block) {
    const int32_t count = m.block_counts[block];
    m.block_counts[block] = total;
    total += count;
  }
  parallel_for(n_blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      int32_t* to = m.samples + m.block_counts[block];
      for_block(block, [&](int32_t i) { *to++ = i; });
    }
  });
  return total;
}

template <class T>
void zero_buffers(T* buffers, int64_t size, const ParallelFor& parallel_for) {
  std::memset(buffers, 0, sizeof(T) * static_cast<size_t>(size * parallel_for.n_threads()));
}

// Both networks' passes over `n` listed samples: adds to the sums, whose first n_begun tasks have begun, and
// leaves positions and gradients of features. Returns how many tasks have sums now.
template <class T>
int64_t run_networks(const RadianceFieldBwd<T>& p, const FieldBackwardScratch<T>& m,
                     const FieldBackwardTask<T>& common, int64_t n, int64_t n_begun,
                     const ParallelFor& parallel_for) {
  const FieldPlan plan = plan_field_chunk(p.fwd, common.samples, n, parallel_for);
  const FieldKernels<T>& k = kernels<T>();
  for_each_task(plan.samples.n_tasks, parallel_for, [&](int64_t i, int64_t slot) {
    FieldBackwardTask<T> task = common;
    begin_sums(m.sigma, i, i >= n_begun, plan.conditions[i], task.sigma);
    begin_sums(m.color, i, i >= n_begun, plan.views[i], task.color);
    task.scratch = m.buffers + slot * m.buffer_size;
    task.begin = i * plan.samples.per_task;
    task.end = task.begin + plan.samples.per_task < n ? task.begin + plan.samples.per_task : n;
    k.backward(task);
  });
  add_folded(m.sigma, plan.conditions, plan.samples.n_tasks, parallel_for);
  add_folded(m.color, plan.views, plan.samples.n_tasks, parallel_for);
  return plan.samples.n_tasks > n_begun ? plan.samples.n_tasks : n_begun;
}

// Scatters the gradients of n samples' features to the table, and to the positions.
template <class T>
void run_grid(const RadianceFieldBwd<T>& p, const FieldBackwardScratch<T>& m, const int32_t* samples,
              int64_t n, const ParallelFor& parallel_for) {
  const GridEncodeBwd<T> grid{{m.positions, p.fwd.table, nullptr, nullptr, n, p.fwd.table_type, p.fwd.grid},
                              m.grad_features,
                              p.grad_table,
                              p.grad_positions ? m.grad_positions : nullptr,
                              m.grid,
                              false};
  grid_encode_bwd_cpu(grid, parallel_for);
  if (!p.grad_positions) return;
  for (int64_t i = 0; i < n; ++i) {
    for (int a = 0; a < 3; ++a) p.grad_positions[3 * samples[i] + a] = m.grad_positions[3 * i + a];
  }
}

}  // namespace

template <class T>
int64_t radiance_field_fwd_scratch(const RadianceFieldFwd<T>& p, int n_threads) {
  return FieldForwardScratch<T>(p, nullptr, n_threads).needed;
}

template <class T>
void radiance_field_fwd_cpu(const RadianceFieldFwd<T>& p, const ParallelFor& parallel_for) {
  const FieldForwardScratch<T> m(p, p.scratch, parallel_for.n_threads());
  const FieldKernels<T>& k = kernels<T>();
  const PackedMlp<T> sigma = pack_and_fold(p.sigma_net(), m.sigma, m.last_conditions, k.fold, parallel_for);
  const PackedMlp<T> color = pack_and_fold(p.color_net(), m.color, m.last_views, k.fold, parallel_for);
  zero_buffers(m.buffers, m.buffer_size, parallel_for);
  for_each_task(ceil_div(p.n, kFieldGroup), parallel_for, [&](int64_t i, int64_t slot) {
    const int64_t begin = i * kFieldGroup, end = begin + kFieldGroup;
    k.forward({&p, sigma, color, m.buffers + slot * m.buffer_size, begin, end < p.n ? end : p.n});
  });
}

template <class T>
int64_t radiance_field_bwd_scratch(const RadianceFieldBwd<T>& p, int n_threads) {
  return FieldBackwardScratch<T>(p, nullptr, n_threads).needed();
}

template <class T>
void radiance_field_bwd_cpu(const RadianceFieldBwd<T>& p, const ParallelFor& parallel_for) {
  const RadianceFieldFwd<T>& f = p.fwd;
  const FieldBackwardScratch<T> m(p, f.scratch, parallel_for.n_threads());
  const FieldKernels<T>& k = kernels<T>();
  FieldBackwardTask<T> task{};
  task.p = &p;
  task.positions = m.positions;
  task.grad_features = m.grad_features;
  prepare(m.sigma, k.fold, task.sigma, parallel_for);
  prepare(m.color, k.fold, task.color, parallel_for);
  zero_buffers(m.buffers, m.buffer_size, parallel_for);
  const int64_t n = list_samples(p, m, parallel_for);
  int64_t n_sums = 0;
  for (int64_t first = 0; first < n; first += kFieldChunk) {
    const int64_t n_chunk = n - first < kFieldChunk ? n - first : kFieldChunk;
    task.samples = m.samples + first;
    n_sums = run_networks(p, m, task, n_chunk, n_sums, parallel_for);
    run_grid(p, m, task.samples, n_chunk, parallel_for);
  }
  finish(m.sigma, task.sigma, n_sums, {p.grad_sigma_params, p.grad_cond}, k.fold_grad, parallel_for);
  finish(m.color, task.color, n_sums, {p.grad_color_params, p.grad_views}, k.fold_grad, parallel_for);
}

#define NERFAD_INSTANTIATE(T)                                                           \
  template int64_t radiance_field_fwd_scratch(const RadianceFieldFwd<T>&, int);         \
  template int64_t radiance_field_bwd_scratch(const RadianceFieldBwd<T>&, int);         \
  template void radiance_field_fwd_cpu(const RadianceFieldFwd<T>&, const ParallelFor&); \
  template void radiance_field_bwd_cpu(const RadianceFieldBwd<T>&, const ParallelFor&);
NERFAD_INSTANTIATE(float)
NERFAD_INSTANTIATE(double)

}  // namespace nerfad
