// The vector launchers of the grid encoding, compiled once per instruction set by the units that include
// this.
//
// A chunk of samples is rearranged axis by axis, every level then handles all of it, so that the level's
// table is read into the L2 cache of one core once, and the results are rearranged again.
#pragma once
#include <cstring>

#include "grid_encode_scratch.h"
#include "grid_gather_simd.h"
#include "grid_scatter_simd.h"
#include "grid_split_levels_simd.h"
#include "grid_transpose_simd.h"
#include "tasks.h"

namespace nerfad {
namespace {

constexpr int64_t kBlock = 1024;  // samples rearranged at a time

// Calls work(first, size) for ranges of `size` that cover n samples.
template <class Work>
void for_each_range(int64_t n, int64_t size, const ParallelFor& parallel_for, const Work& work) {
  for_each_task((n + size - 1) / size, parallel_for,
                [&](int64_t k, int64_t) { work(k * size, (k + 1) * size < n ? size : n - k * size); });
}

// Calls work(group, first, size): each group of levels over n samples, cut only if there are too few groups
// to keep all threads busy.
template <class Work>
void for_each_group_range(int n_groups, int64_t n, const ParallelFor& parallel_for, const Work& work) {
  constexpr int64_t kTasksPerThread = 4, kSmallest = 4096;
  const int64_t wanted = kTasksPerThread * parallel_for.n_threads();
  const int64_t cuts = parallel_for.n_threads() == 1 ? 1 : (wanted + n_groups - 1) / n_groups;
  const int64_t fair = padded((n + cuts - 1) / cuts);
  const int64_t size = fair < kSmallest ? kSmallest : fair;
  const int64_t n_ranges = (n + size - 1) / size;
  for_each_task(n_groups * n_ranges, parallel_for, [&](int64_t k, int64_t) {
    const int64_t first = k % n_ranges * size;
    work(n_groups - 1 - static_cast<int>(k / n_ranges), first, first + size < n ? size : n - first);
  });
}

// Positions of n samples, axis by axis, padded with zeros to a multiple of kLanes.
template <int D>
void split_axes(const float* positions, int64_t n, float* const* axes) {
  for (int64_t i = 0; i < n; ++i) {
    for (int a = 0; a < D; ++a) axes[a][i] = positions[i * D + a];
  }
  for (int64_t i = n; i < padded(n); ++i) {
    for (int a = 0; a < D; ++a) axes[a][i] = 0;
  }
}

// n samples of a chunk at p.positions and p.features.
template <class S, int D, int F>
void encode_chunk(const GridEncodeFwd<float>& p, const GridScratch& layout, const ParallelFor& parallel_for) {
  const int n_levels = p.shape.n_levels;
  const bool gathered = is_gathered<S, F>(p.shape);
  for_each_range(p.n, kBlock, parallel_for, [&](int64_t first, int64_t n) {
    float* axes[D];
    for (int a = 0; a < D; ++a) axes[a] = p.scratch + a * layout.axis_stride + first;
    split_axes<D>(p.positions + first * D, n, axes);
  });
  for_each_group_range(n_levels, p.n, parallel_for, [&](int level, int64_t first, int64_t n) {
    const float* axes[D];
    for (int a = 0; a < D; ++a) axes[a] = p.scratch + a * layout.axis_stride + first;
    float* features = p.scratch + layout.features + level * layout.level_stride + first * F;
    encode_level_block<S, D, F>(p.shape.levels[level], p.shape.smoothstep, p.table,
                                level < p.cells.n_levels ? &p.cells : nullptr, gathered, axes, n, features);
  });
  for_each_range(p.features ? p.n : 0, kBlock, parallel_for, [&](int64_t first, int64_t n) {
    join_levels<F>(p.scratch + layout.features + first * F, layout.level_stride, n_levels, n,
                   p.features + first * n_levels * F);
  });
}

// ---- Gradient of the positions.

template <int F>
NERFAD_INLINE float dot(const Floats<F>& a, const Floats<F>& b) {
  if constexpr (F == 8) {
    const __m256 product = _mm256_mul_ps(a.v[0], b.v[0]);
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(product), _mm256_extractf128_ps(product, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
  } else {
    __m128 sum = _mm_mul_ps(a.v, b.v);
    if constexpr (F == 4) sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    if constexpr (F >= 2) sum = _mm_add_ss(sum, _mm_movehdup_ps(sum));
    return _mm_cvtss_f32(sum);
  }
}

// Adds one level's share to grad_axes.
template <class S, int D, int F>
__attribute__((noinline)) void position_grad_level(const GridLevel& level, bool smoothstep, const void* table,
                                                   const float* const* positions, int64_t n,
                                                   const float* grad, float* const* grad_axes) {
  CellGroup<D> group;
  alignas(64) float dots[D][kLanes] = {};
  for (int64_t i = 0; i < n; i += kLanes) {
    find_cells<D, true>(level, smoothstep, positions, i, group);
    const int lanes = n - i < kLanes ? static_cast<int>(n - i) : kLanes;
    for (int lane = 0; lane < lanes; ++lane) {
      const Floats<F> g = load_floats<F>(grad + (i + lane) * F);
      const auto cell = load_cell<S, D, F>(table, group, lane);
      const float fx = group.weight[0][lane], fy = group.weight[1][lane];
      Floats<(F << 2)> plane;
      if constexpr (D == 3) {
        dots[2][lane] = dot<F>(g, interpolate(interpolate(difference(cell), fy), fx));
        plane = interpolate(cell, group.weight[2][lane]);
      } else {
        plane = cell;
      }
      dots[1][lane] = dot<F>(g, interpolate(difference(plane), fx));
      dots[0][lane] = dot<F>(g, difference(interpolate(plane, fy)));
    }
    for (int a = 0; a < D; ++a) {
      LaneFloat* sum = reinterpret_cast<LaneFloat*>(grad_axes[a] + i);
      *sum += *reinterpret_cast<LaneFloat*>(group.slope[a]) * *reinterpret_cast<LaneFloat*>(dots[a]);
    }
  }
}

template <class S, int D, int F>
void position_grad_chunk(const GridEncodeBwd<float>& p, const GridScratch& layout,
                         const ParallelFor& parallel_for) {
  const GridShape& shape = p.fwd.shape;
  const int n_groups = shape.n_levels < kLevelGroups ? shape.n_levels : kLevelGroups;
  float* partial = p.scratch + layout.partial;
  for_each_group_range(n_groups, p.fwd.n, parallel_for, [&](int group, int64_t first, int64_t n) {
    const float* axes[D];
    float* sums[D];
    for (int a = 0; a < D; ++a) {
      axes[a] = p.scratch + a * layout.axis_stride + first;
      sums[a] = partial + (group * D + a) * layout.axis_stride + first;
      std::memset(sums[a], 0, static_cast<size_t>(padded(n)) * sizeof(float));
    }
    for (int l = group; l < shape.n_levels; l += n_groups) {
      const float* grad = p.scratch + layout.features + l * layout.level_stride + first * F;
      position_grad_level<S, D, F>(shape.levels[l], shape.smoothstep, p.fwd.table, axes, n, grad, sums);
    }
  });
  for_each_range(p.fwd.n, kBlock, parallel_for, [&](int64_t first, int64_t n) {
    for (int64_t i = first; i < first + n; ++i) {
      for (int a = 0; a < D; ++a) {
        float sum = 0;
        for (int group = 0; group < n_groups; ++group)
          sum += partial[(group * D + a) * layout.axis_stride + i];
        p.grad_positions[i * D + a] = sum;
      }
    }
  });
}

template <class S, int D, int F>
void backward_chunk(const GridEncodeBwd<float>& p, const GridScratch& layout,
                    const ParallelFor& parallel_for) {
  const int n_levels = p.fwd.shape.n_levels;
  float* grads = p.scratch + layout.features;
  const float* all_axes[D];
  for (int a = 0; a < D; ++a) all_axes[a] = p.scratch + a * layout.axis_stride;
  for_each_range(p.is_split ? 0 : p.fwd.n, kBlock, parallel_for, [&](int64_t first, int64_t n) {
    float* axes[D];
    for (int a = 0; a < D; ++a) axes[a] = p.scratch + a * layout.axis_stride + first;
    split_axes<D>(p.fwd.positions + first * D, n, axes);
    split_levels<F>(p.grad_features + first * n_levels * F, n_levels, n, grads + first * F,
                    layout.level_stride);
  });
  if (p.grad_positions) position_grad_chunk<S, D, F>(p, layout, parallel_for);
  if (!p.grad_table) return;
  const int64_t n_parts = (parallel_for.n_threads() + n_levels - 1) / n_levels;
  for_each_task(n_levels * n_parts, parallel_for, [&](int64_t k, int64_t) {
    const int l = n_levels - 1 - static_cast<int>(k / n_parts);  // the costly fine levels first
    scatter_part<D, F>(p, l, k % n_parts, n_parts, all_axes, grads + l * layout.level_stride);
  });
}

// ---- Launchers.

void encode_fwd(const GridEncodeFwd<float>& p, const ParallelFor& parallel_for) {
  const GridScratch layout = grid_scratch(p.shape, p.n);
  grid_dispatch_float32(p.table_type, p.shape, [&](auto s, auto d, auto f) {
    for (int64_t first = 0; first < p.n; first += layout.chunk) {
      GridEncodeFwd<float> chunk = p;
      chunk.positions += first * p.shape.n_dims;
      if (p.features) chunk.features += first * p.shape.n_outputs();
      chunk.n = p.n - first < layout.chunk ? p.n - first : layout.chunk;
      encode_chunk<decltype(s), decltype(d)::value, decltype(f)::value>(chunk, layout, parallel_for);
    }
  });
}

void encode_bwd(const GridEncodeBwd<float>& p, const ParallelFor& parallel_for) {
  const GridShape& shape = p.fwd.shape;
  const GridScratch layout = grid_scratch(shape, p.fwd.n);
  grid_dispatch_float32(p.fwd.table_type, shape, [&](auto s, auto d, auto f) {
    int64_t first = 0;
    do {  // once without samples too: it zeroes a fresh table
      GridEncodeBwd<float> chunk = p;
      chunk.fresh_table = p.fresh_table && first == 0;
      chunk.fwd.positions += first * shape.n_dims;
      chunk.grad_features += first * shape.n_outputs();
      if (p.grad_positions) chunk.grad_positions += first * shape.n_dims;
      chunk.fwd.n = p.fwd.n - first < layout.chunk ? p.fwd.n - first : layout.chunk;
      backward_chunk<decltype(s), decltype(d)::value, decltype(f)::value>(chunk, layout, parallel_for);
      first += layout.chunk;
    } while (first < p.fwd.n);
  });
}

}  // namespace
}  // namespace nerfad
