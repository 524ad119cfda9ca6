#include "nerfad/radiance_field.h"

#include "radiance_field_kernels.h"
#include "radiance_field_memory.h"
#include "radiance_field_tiles.h"
#include "tasks.h"

namespace nerfad {

namespace {

struct PortableEncode {
  static constexpr bool kSplits = false;
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

// A list of the samples that have a gradient, in order; returns how many. The others are behind an early stop
// or outside the loss, and all their contributions are exactly zero.
template <class T, class Operand>
int64_t list_samples(const RadianceFieldBwd<T>& p, const FieldBackwardMemory<T, Operand>& m,
                     const ParallelFor& parallel_for) {
  const int64_t n = p.fwd.n, n_blocks = ceil_div(n, kListBlock);
  parallel_for(n_blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * kListBlock, last = first + kListBlock < n ? first + kListBlock : n;
      int32_t *to = m.samples + first, *const start = to;
      for (int64_t i = first; i < last; ++i) {
        *to = static_cast<int32_t>(i);
        to += has_gradient(p, i);
      }
      m.block_counts[block] = static_cast<int32_t>(to - start);
    }
  });
  int64_t total = 0;
  for (int64_t block = 0; block < n_blocks; ++block) {
    std::memmove(m.samples + total, m.samples + block * kListBlock, sizeof(int32_t) * m.block_counts[block]);
    total += m.block_counts[block];
  }
  return total;
}

// Features that are kept rounded, to rows of the same operands or of rounded float32.
inline void copy_rounded(const BFloat16* from, int64_t n, BFloat16* to) { std::copy_n(from, n, to); }
template <class T>
void copy_rounded(const BFloat16* from, int64_t n, T* to) {
  for (int64_t k = 0; k < n; ++k) to[k] = widen(from[k]);
}

// Their positions and features, unless tasks encode their own.
template <class T, class Operand>
FeatureSource<T, Operand> find_features(const RadianceFieldFwd<T>& p,
                                        const FieldBackwardMemory<T, Operand>& m, const int32_t* samples,
                                        int64_t n, bool all_listed, const ParallelFor& parallel_for) {
  if (!m.encoded.features) return {};
  const int64_t width = p.sigma.d_in, axis_stride = grid_scratch(p.grid, n).axis_stride;
  const bool kept = keeps_features(p);
  const bool copies = kept && !(all_listed && (p.features || kRoundedRows<Operand>));
  Operand* const rounded = reinterpret_cast<Operand*>(m.encoded.features);
  parallel_for(n, kFieldGroup, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* position = p.positions + 3 * static_cast<int64_t>(samples[i]);
      for (int a = 0; a < 3; ++a) m.positions[3 * i + a] = position[a];
      if (!kept) continue;
      if (m.splits) {
        for (int a = 0; a < 3; ++a) m.grid[a * axis_stride + i] = position[a];
      }
      if (!copies) continue;
      if (p.features) {
        std::copy_n(p.features + samples[i] * width, width, m.encoded.features + i * width);
      } else {
        copy_rounded(p.rounded_features + samples[i] * width, width, rounded + i * width);
      }
    }
  });
  if (!kept) {
    T* rows = m.splits ? nullptr : m.encoded.features;
    return m.encoded.template encode<Operand>(p, m.positions, n, rows, parallel_for);
  }
  if (m.splits) {
    for (int a = 0; a < 3; ++a)
      std::fill(m.grid + a * axis_stride + n, m.grid + a * axis_stride + padded(n), T(0));
  }
  if constexpr (kRoundedRows<Operand>) {
    if (!p.features) return {nullptr, copies ? rounded : p.rounded_features + samples[0] * width, nullptr, 0};
  }
  return {copies ? m.encoded.features : p.features + samples[0] * width, nullptr, nullptr, 0};
}

// Both networks' passes over `n` listed samples: adds to the sums, whose first n_begun tasks have begun, and
// leaves positions and gradients of features. Returns how many tasks have sums now.
template <class T, class Operand>
int64_t run_networks(const FieldKernels<T, Operand>& k, const FieldBackwardMemory<T, Operand>& m,
                     const FieldBackwardTask<T, Operand>& common, int64_t n, int64_t n_begun,
                     const ParallelFor& parallel_for) {
  const RadianceFieldFwd<T>& p = common.p->fwd;
  const BackwardPlan<2> plan = plan_backward<2>({{p.cond_index, p.n_cond}, {p.view_index, p.n_views}},
                                                common.samples, n, kTilesPerFieldTask, parallel_for);
  const TaskSplit& split = plan.samples;
  for_each_task(split.n_tasks, parallel_for, [&](int64_t i, int64_t slot) {
    FieldBackwardTask<T, Operand> task = common;
    begin_sums(m.sigma, i, i >= n_begun, plan.conditions[0][i], task.sigma);
    begin_sums(m.color, i, i >= n_begun, plan.conditions[1][i], task.color);
    task.scratch = m.buffers + slot * m.buffer_size;
    task.begin = i * split.per_task;
    task.end = task.begin + split.per_task < n ? task.begin + split.per_task : n;
    k.backward(task);
  });
  add_folded(m.sigma, plan.conditions[0], split.n_tasks, parallel_for);
  add_folded(m.color, plan.conditions[1], split.n_tasks, parallel_for);
  return split.n_tasks > n_begun ? split.n_tasks : n_begun;
}

// Scatters the gradients of n samples' features to the table, which the first chunk zeroes, and to the
// positions.
template <class T, class Operand>
void run_grid(const RadianceFieldBwd<T>& p, const FieldBackwardMemory<T, Operand>& m, const int32_t* samples,
              int64_t n, bool is_first, const ParallelFor& parallel_for) {
  const GridEncodeBwd<T> grid{{m.positions, p.fwd.table, nullptr, nullptr, n, p.fwd.table_type, p.fwd.grid},
                              m.grad_features,
                              p.grad_table,
                              p.grad_positions ? m.grad_positions : nullptr,
                              m.grid,
                              false,
                              is_first,
                              m.splits};
  grid_encode_bwd_cpu(grid, parallel_for);
  if (!p.grad_positions) return;
  for (int64_t i = 0; i < n; ++i) {
    for (int a = 0; a < 3; ++a) p.grad_positions[3 * samples[i] + a] = m.grad_positions[3 * i + a];
  }
}

template <class T, class Operand>
void forward(const FieldKernels<T, Operand>& k, const RadianceFieldFwd<T>& p,
             const ParallelFor& parallel_for) {
  const FieldForwardMemory<T, Operand> m(p, p.scratch, parallel_for.n_threads(), n_encoded_first(p, p.n));
  const FieldForwardTask<T, Operand> all = m.prepare(k, p, parallel_for);
  // Samples [first, end) in tasks of `size`.
  const auto run = [&](int64_t first, int64_t end, int64_t size, const FeatureSource<T, Operand>& features) {
    for_each_task(ceil_div(end - first, size), parallel_for, [&](int64_t i, int64_t slot) {
      FieldForwardTask<T, Operand> task = all;
      task.scratch = m.buffers + slot * m.buffer_size;
      task.begin = first + i * size;
      task.end = task.begin + size < end ? task.begin + size : end;
      task.features = features.from(i * size, p);
      k.forward(task);
    });
  };
  if (m.n_encoded == 0) return run(0, p.n, kFieldGroup, {});
  for (int64_t first = 0; first < p.n; first += m.n_encoded) {
    const int64_t end = first + m.n_encoded < p.n ? first + m.n_encoded : p.n;
    T* rows = p.features ? p.features + first * p.sigma.d_in : m.encoded.features;
    const auto features = m.encoded.template encode<Operand>(p, p.positions + 3 * first, end - first,
                                                             k.splits ? nullptr : rows, parallel_for);
    run(first, end, kForwardTask, features);
  }
}

template <class T, class Operand>
void backward(const FieldKernels<T, Operand>& k, const RadianceFieldBwd<T>& p,
              const ParallelFor& parallel_for) {
  const FieldBackwardMemory<T, Operand> m(k, p, p.fwd.scratch, parallel_for.n_threads());
  FieldBackwardTask<T, Operand> task{};
  task.p = &p;
  task.positions = m.positions;
  task.grad_features = m.grad_features;
  task.sigma = prepare(k, m.sigma, parallel_for);
  task.color = prepare(k, m.color, parallel_for);
  zero_buffers(m.buffers, m.buffer_size, parallel_for);
  const int64_t n = list_samples(p, m, parallel_for);
  int64_t n_sums = 0;
  if (n == 0) run_grid(p, m, m.samples, 0, true, parallel_for);  // zeroes the gradient of the table
  for (int64_t first = 0; first < n; first += kFieldChunk) {
    const int64_t n_chunk = n - first < kFieldChunk ? n - first : kFieldChunk;
    task.samples = m.samples + first;
    if (m.splits) {
      const GridScratch layout = grid_scratch(p.fwd.grid, n_chunk);
      task.grad_levels = m.grid + layout.features;
      task.level_stride = layout.level_stride;
    }
    task.features = find_features(p.fwd, m, task.samples, n_chunk, n == p.fwd.n, parallel_for);
    n_sums = run_networks(k, m, task, n_chunk, n_sums, parallel_for);
    run_grid(p, m, task.samples, n_chunk, first == 0, parallel_for);
  }
  finish(k, m.sigma, n_sums, {p.grad_sigma_params, p.grad_cond}, parallel_for);
  finish(k, m.color, n_sums, {p.grad_color_params, p.grad_views}, parallel_for);
}

template <class T, class Operand>
int64_t forward_scratch(const FieldKernels<T, Operand>&, const RadianceFieldFwd<T>& p, int n_threads) {
  return FieldForwardMemory<T, Operand>(p, nullptr, n_threads, n_encoded_first(p, p.n)).memory.needed();
}

template <class T, class Operand>
int64_t backward_scratch(const FieldKernels<T, Operand>& k, const RadianceFieldBwd<T>& p, int n_threads) {
  return FieldBackwardMemory<T, Operand>(k, p, nullptr, n_threads).memory.needed();
}

}  // namespace

template <class T>
const FieldKernels<T>& field_kernels_portable() {
  return field_kernels<PortableSimd<T>, PortableEncode>();
}

template const FieldKernels<float>& field_kernels_portable();
template const FieldKernels<double>& field_kernels_portable();

const FieldKernels<float>& field_kernels_rounded_portable() {
  return field_kernels<Bf16Rounded<PortableSimd<float>>, PortableEncode, PortableSimd<float>>();
}

template <class T>
int64_t radiance_field_fwd_scratch(const RadianceFieldFwd<T>& p, int n_threads) {
  return with_field_kernels<T>(p.precision, [&](const auto& k) { return forward_scratch(k, p, n_threads); });
}

template <class T>
void radiance_field_fwd_cpu(const RadianceFieldFwd<T>& p, const ParallelFor& parallel_for) {
  with_field_kernels<T>(p.precision, [&](const auto& k) { forward(k, p, parallel_for); });
}

template <class T>
int64_t radiance_field_bwd_scratch(const RadianceFieldBwd<T>& p, int n_threads) {
  return with_field_kernels<T>(p.fwd.precision,
                               [&](const auto& k) { return backward_scratch(k, p, n_threads); });
}

template <class T>
void radiance_field_bwd_cpu(const RadianceFieldBwd<T>& p, const ParallelFor& parallel_for) {
  with_field_kernels<T>(p.fwd.precision, [&](const auto& k) { backward(k, p, parallel_for); });
}

#define NERFAD_INSTANTIATE(T)                                                           \
  template int64_t radiance_field_fwd_scratch(const RadianceFieldFwd<T>&, int);         \
  template int64_t radiance_field_bwd_scratch(const RadianceFieldBwd<T>&, int);         \
  template void radiance_field_fwd_cpu(const RadianceFieldFwd<T>&, const ParallelFor&); \
  template void radiance_field_bwd_cpu(const RadianceFieldBwd<T>&, const ParallelFor&);
NERFAD_INSTANTIATE(float)
NERFAD_INSTANTIATE(double)

}  // namespace nerfad
