// The vector launchers of the grid encoding, compiled once per instruction set by the units that include
// this.
//
// Levels are the outer loop over a block of samples, so that a level's table stays in the L2 cache. The
// gradient of the table is scattered by level ownership: one task per level (per part of a level if there are
// more threads than levels) reads all samples in order and alone writes its entries: no atomics, and the same
// bits on any number of threads.
#pragma once
#include <atomic>
#include <cstring>

#include "grid_encode_blocks.h"
#include "grid_encode_simd.h"

namespace nerfad {
namespace {

// Runs work(block's first sample, its size, slot) over all blocks; at most one thread at a time is in a slot.
template <class Work>
void for_each_block(int64_t n, int64_t block, const ParallelFor& parallel_for, const Work& work) {
  std::atomic<int64_t> next{0};
  parallel_for(parallel_for.n_threads(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t slot = begin; slot < end; ++slot) {
      for (int64_t first; (first = block * next.fetch_add(1)) < n;) {
        work(first, first + block < n ? block : n - first, slot);
      }
    }
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

template <class S, int D, int F>
void encode_block(const GridEncodeFwd<float>& p, int64_t first, int64_t n, const GridBlocks& layout,
                  float* scratch) {
  float* axes[D];
  for (int a = 0; a < D; ++a) axes[a] = scratch + a * layout.block;
  split_axes<D>(p.positions + first * D, n, axes);
  float* features = scratch + D * layout.block;
  const int n_levels = p.shape.n_levels;
  for (int l = 0; l < n_levels; ++l) {
    encode_level<S, D, F>(p.shape.levels[l], p.shape.smoothstep, p.table, axes, n,
                          features + l * layout.level_stride);
  }
  float* out = p.features + first * n_levels * F;
  for (int64_t i = 0; i < n; ++i) {
    const float* in = features + i * F;
    for (int l = 0; l < n_levels; ++l, out += F, in += layout.level_stride)
      std::memcpy(out, in, F * sizeof(float));
  }
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
void position_grad_level(const GridLevel& level, bool smoothstep, const void* table,
                         const float* const* positions, int64_t n, const float* grad,
                         float* const* grad_axes) {
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

// ---- Gradient of the table.

struct EntryRange {
  uint32_t begin, size;
};

// Adds a cell's bundle to the entries of the table that the range holds.
template <int D, int F, bool WholeLevel>
NERFAD_INLINE void add_cell(float* table, const EntryRange& range, const CellGroup<D>& group, int lane,
                            const Floats<(F << D)>& cell) {
  constexpr int kCorners = 1 << D;
  if constexpr (WholeLevel && F == 2) {
    // Two corners along x at once: they never share an entry, for their indices differ in the last bit or by
    // one.
    for (int k = 0; k < kCorners / 2; ++k) {
      auto* low = reinterpret_cast<__m64*>(table + size_t(group.entry[2 * k][lane]) * 2);
      auto* high = reinterpret_cast<__m64*>(table + size_t(group.entry[2 * k + 1][lane]) * 2);
      const __m128 old = _mm_loadh_pi(_mm_loadl_pi(_mm_setzero_ps(), low), high);
      const __m256 pairs = cell.v[k / 2];
      const __m128 sum =
          _mm_add_ps(old, k % 2 ? _mm256_extractf128_ps(pairs, 1) : _mm256_castps256_ps128(pairs));
      _mm_storel_pi(low, sum);
      _mm_storeh_pi(high, sum);
    }
  } else {
    alignas(32) float values[(F << D)];
    store_floats(values, cell);
    for (int corner = 0; corner < kCorners; ++corner) {
      const uint32_t entry = group.entry[corner][lane];
      if (!WholeLevel && entry - range.begin >= range.size) continue;
      float* at = table + size_t(entry) * F;
      const Floats<F> one = load_floats<F>(values + corner * F);
      store_floats(at, multiply_add(load_floats<F>(at), 1.0f, one));
    }
  }
}

template <int D, int F>
NERFAD_INLINE Floats<(F << D)> spread(const float* grad, const CellGroup<D>& group, int lane) {
  const auto plane =
      distribute(distribute(load_floats<F>(grad), group.weight[0][lane]), group.weight[1][lane]);
  if constexpr (D == 3) {
    return distribute(plane, group.weight[2][lane]);
  } else {
    return plane;
  }
}

NERFAD_INLINE bool all_zero(const float* values, int64_t n) {
  LaneFloat any = {};
  for (int64_t i = 0; i < n; i += kLanes) {
    const LaneFloat v = *reinterpret_cast<const LaneFloat*>(values + i);
    any = reinterpret_cast<LaneFloat>(reinterpret_cast<LaneInt>(any) | (v != LaneFloat{}));
  }
  const LaneInt bits = reinterpret_cast<LaneInt>(any);
  int32_t found = 0;
  for (int lane = 0; lane < kLanes; ++lane) found |= bits[lane];
  return found == 0;
}

// grad [n, F], padded with zeros to a multiple of kLanes samples.
template <int D, int F, bool WholeLevel>
void scatter_level(const GridLevel& level, bool smoothstep, const float* const* positions, int64_t n,
                   const float* grad, const EntryRange& range, float* table) {
  CellGroup<D> group;
  for (int64_t i = 0; i < n; i += kLanes) {
    if (all_zero(grad + i * F, kLanes * F)) continue;  // behind the early stop
    find_cells<D, false>(level, smoothstep, positions, i, group);
    const int lanes = n - i < kLanes ? static_cast<int>(n - i) : kLanes;
    if (group.repeats == 0) {
      for (int lane = 0; lane < lanes; ++lane) {
        add_cell<D, F, WholeLevel>(table, range, group, lane,
                                   spread<D, F>(grad + (i + lane) * F, group, lane));
      }
      continue;
    }
    // Neighbours on a ray often lie in one cell: sum them in registers first.
    auto sum = spread<D, F>(grad + i * F, group, 0);
    for (int lane = 1; lane < lanes; ++lane) {
      const auto next = spread<D, F>(grad + (i + lane) * F, group, lane);
      if (group.repeats >> lane & 1) {
        sum = multiply_add(next, 1.0f, sum);
      } else {
        add_cell<D, F, WholeLevel>(table, range, group, lane - 1, sum);
        sum = next;
      }
    }
    add_cell<D, F, WholeLevel>(table, range, group, lanes - 1, sum);
  }
}

// ---- Launchers.

void encode_fwd(const GridEncodeFwd<float>& p, const ParallelFor& parallel_for) {
  const GridBlocks layout = grid_blocks(p.shape, p.n, parallel_for.n_threads());
  grid_dispatch_float32(p.table_type, p.shape, [&](auto s, auto d, auto f) {
    for_each_block(p.n, layout.block, parallel_for, [&](int64_t first, int64_t n, int64_t slot) {
      encode_block<decltype(s), decltype(d)::value, decltype(f)::value>(p, first, n, layout,
                                                                        p.scratch + slot * layout.slot_size);
    });
  });
}

// Rearranges a block of gradients level by level and, if asked for, differentiates it by the positions.
template <class S, int D, int F>
void prepare_block(const GridEncodeBwd<float>& p, int64_t first, int64_t n,
                   const GridBackwardLayout& layout) {
  const GridShape& shape = p.fwd.shape;
  float* axes[D];
  for (int a = 0; a < D; ++a) axes[a] = p.scratch + layout.positions[a] + first;
  split_axes<D>(p.fwd.positions + first * D, n, axes);
  float* grads = p.scratch + layout.grads + first * F;
  for (int64_t i = 0; i < padded(n); ++i) {
    const float* in = p.grad_features + (first + i) * shape.n_levels * F;
    for (int l = 0; l < shape.n_levels; ++l) {
      float* out = grads + l * layout.level_stride + i * F;
      if (i < n) {
        std::memcpy(out, in + l * F, F * sizeof(float));
      } else {
        std::memset(out, 0, F * sizeof(float));
      }
    }
  }
  if (!p.grad_positions) return;
  float* grad_axes[D];
  for (int a = 0; a < D; ++a) {
    grad_axes[a] = p.scratch + layout.grad_positions[a] + first;
    std::memset(grad_axes[a], 0, static_cast<size_t>(padded(n)) * sizeof(float));
  }
  for (int l = 0; l < shape.n_levels; ++l) {
    position_grad_level<S, D, F>(shape.levels[l], shape.smoothstep, p.fwd.table, axes, n,
                                 grads + l * layout.level_stride, grad_axes);
  }
  for (int64_t i = 0; i < n; ++i) {
    for (int a = 0; a < D; ++a) p.grad_positions[(first + i) * D + a] = grad_axes[a][i];
  }
}

template <int D, int F>
void scatter(const GridEncodeBwd<float>& p, const GridBackwardLayout& layout,
             const ParallelFor& parallel_for) {
  const GridShape& shape = p.fwd.shape;
  const float* axes[D];
  for (int a = 0; a < D; ++a) axes[a] = p.scratch + layout.positions[a];
  const int n_parts = (parallel_for.n_threads() + shape.n_levels - 1) / shape.n_levels;
  for_each_block(shape.n_levels * n_parts, 1, parallel_for, [&](int64_t task, int64_t, int64_t) {
    const int l = shape.n_levels - 1 - static_cast<int>(task / n_parts);  // the costly fine levels first
    const GridLevel& level = shape.levels[l];
    const float* grad = p.scratch + layout.grads + l * layout.level_stride;
    const int64_t part = task % n_parts, size = level.size;
    const EntryRange range{static_cast<uint32_t>(level.offset + size * part / n_parts),
                           static_cast<uint32_t>(size * (part + 1) / n_parts - size * part / n_parts)};
    if (n_parts == 1) {
      scatter_level<D, F, true>(level, shape.smoothstep, axes, p.fwd.n, grad, range, p.grad_table);
    } else {
      scatter_level<D, F, false>(level, shape.smoothstep, axes, p.fwd.n, grad, range, p.grad_table);
    }
  });
}

void encode_bwd(const GridEncodeBwd<float>& p, const ParallelFor& parallel_for) {
  const GridShape& shape = p.fwd.shape;
  const GridBackwardLayout layout = grid_backward_layout(shape, p.fwd.n);
  const int64_t block = grid_blocks(shape, p.fwd.n, parallel_for.n_threads()).block;
  grid_dispatch_float32(p.fwd.table_type, shape, [&](auto s, auto d, auto f) {
    for_each_block(p.fwd.n, block, parallel_for, [&](int64_t first, int64_t n, int64_t) {
      prepare_block<decltype(s), decltype(d)::value, decltype(f)::value>(p, first, n, layout);
    });
  });
  if (!p.grad_table) return;
  grid_dispatch_shape<float>(shape, [&](auto, auto d, auto f) {
    scatter<decltype(d)::value, decltype(f)::value>(p, layout, parallel_for);
  });
}

}  // namespace
}  // namespace nerfad
