// The gradient of the grid encoding's table, for AVX2 and AVX-512 units alike; compiled once per instruction
// set, hence the anonymous namespace.
//
// One task per level (per part of a level if there are more threads than levels) reads all samples in order
// and alone writes its entries: no atomics, and the same bits on any number of threads.
#pragma once
#include <cstring>

#include "grid_encode_scratch.h"
#include "grid_encode_simd.h"

namespace nerfad {
namespace {

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

// The level's gradients [n, F] are at grad; `part` of n_parts of its entries.
template <int D, int F>
void scatter_part(const GridEncodeBwd<float>& p, int l, int64_t part, int64_t n_parts,
                  const float* const* axes, const float* grad) {
  const GridLevel& level = p.fwd.shape.levels[l];
  const bool smoothstep = p.fwd.shape.smoothstep;
  const int64_t begin = level.size * part / n_parts, end = level.size * (part + 1) / n_parts;
  const EntryRange range{static_cast<uint32_t>(level.offset + begin), static_cast<uint32_t>(end - begin)};
  if (p.fresh_table) {
    std::memset(p.grad_table + int64_t(range.begin) * F, 0, sizeof(float) * int64_t(range.size) * F);
  }
  if (n_parts == 1) {
    scatter_level<D, F, true>(level, smoothstep, axes, p.fwd.n, grad, range, p.grad_table);
  } else {
    scatter_level<D, F, false>(level, smoothstep, axes, p.fwd.n, grad, range, p.grad_table);
  }
}

// Rearranges n gradients of features level by level, padded with zeros.
template <int F>
void split_levels(const float* grad, int n_levels, int64_t n, float* levels, int64_t level_stride) {
  for (int64_t i = 0; i < n; ++i) {
    for (int l = 0; l < n_levels; ++l, grad += F)
      std::memcpy(levels + l * level_stride + i * F, grad, F * sizeof(float));
  }
  const size_t rest = static_cast<size_t>(padded(n) - n) * F * sizeof(float);
  for (int l = 0; l < n_levels; ++l) std::memset(levels + l * level_stride + n * F, 0, rest);
}

}  // namespace
}  // namespace nerfad
