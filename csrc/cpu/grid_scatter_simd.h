// The gradient of the grid encoding's table, for AVX2 and AVX-512 units alike; compiled once per instruction
// set, hence the anonymous namespace.
//
// One task per level (per part of a level if there are more threads than levels) reads all samples in order
// and alone writes its entries: no atomics, and the same bits on any number of threads.
//
// With two features a level, the usual number, fine levels are bound by the traffic of dirty lines between
// the L1 and L2 caches: measured on a Xeon with AMX, about 3.6 cycles a line, four to five lines a sample.
// Samples sorted by cells, the sorting not counted, would be 4 % faster; prefetching entries makes it slower.
#pragma once
#include <cstring>
#include <type_traits>

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
  alignas(32) float values[(F << D)];
  store_floats(values, cell);
  for (int corner = 0; corner < (1 << D); ++corner) {
    const uint32_t entry = group.entry[corner][lane];
    if (!WholeLevel && entry - range.begin >= range.size) continue;
    float* at = table + size_t(entry) * F;
    const Floats<F> one = load_floats<F>(values + corner * F);
    store_floats(at, multiply_add(load_floats<F>(at), 1.0f, one));
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
#if defined(__AVX512F__)
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(any)) == 0;
#else
  return _mm256_movemask_ps(reinterpret_cast<__m256>(any)) == 0;
#endif
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

// ---- Two features: a corner and its neighbour along x are one vector of four floats.

enum class GridIndex { kHashed, kWrapped, kDense };

// Samples whose cells are found before any of them is scattered, so that the processor, whose window holds
// about ten samples' updates, need not wait for a group's cells each time. Few, so that they leave the L1
// cache to the table.
constexpr int kScatterBatch = 64;

template <int D>
struct ScatterBatch {
  static constexpr int kEdges = 1 << (D - 1);            // of a cell along x
  alignas(64) uint32_t entry[kEdges][2][kScatterBatch];  // of the level; [.][1] is unused in dense ones
  alignas(64) float weight[kEdges][kScatterBatch];       // across the other axes
  alignas(64) float along_x[kScatterBatch][4];           // gradients for the lower and the upper vertex
};

// Which element of (low, high) is element `at` of the vectors [sample][low, high][feature] that start at
// element `first` of both.
constexpr int interleaved(int first, int at) {
  return first + at / 4 * 2 + at % 2 + (at % 4 < 2 ? 0 : kLanes);
}

// Writes 2 kLanes floats: the gradients of kLanes / 2 samples for their lower and upper vertices along x.
NERFAD_INLINE void split_along_x(const float* grad, LaneFloat upper, float* to) {
  const LaneFloat all = *reinterpret_cast<const LaneFloat*>(grad), high = all * upper, low = all - high;
  LaneInt first, second;
  for (int k = 0; k < kLanes; ++k) {
    first[k] = interleaved(0, k);
    second[k] = interleaved(kLanes / 2, k);
  }
  *reinterpret_cast<LaneFloat*>(to) = __builtin_shuffle(low, high, first);
  *reinterpret_cast<LaneFloat*>(to + kLanes) = __builtin_shuffle(low, high, second);
}

// The cells of kLanes samples from i on, to place `at` of the batch.
template <GridIndex Index, int D>
NERFAD_INLINE void add_to_batch(const GridLevel& level, bool smoothstep, const float* const* positions,
                                const float* grad, int64_t i, ScatterBatch<D>& batch, int at) {
  constexpr bool kHashed = Index == GridIndex::kHashed;
  const LaneFloat zero = {}, one = zero + 1.0f;
  const float resolution = static_cast<float>(level.resolution);
  const LaneInt last = LaneInt{} + static_cast<int32_t>(level.resolution - 1);
  const uint32_t stride = level.resolution + 1;
  const uint32_t factor[3] = {1u, kHashed ? 2654435761u : stride, kHashed ? 805459861u : stride * stride};
  LaneUint part[D][2];  // each axis' share of the index, for the lower and the upper vertex
  LaneFloat upper[D];   // weights
  for (int a = 0; a < D; ++a) {
    const LaneFloat x = *reinterpret_cast<const LaneFloat*>(positions[a] + i);
    const LaneFloat from_zero = x > zero ? x : zero;  // NaN becomes 0
    const LaneFloat scaled = (from_zero < one ? from_zero : one) * resolution;
    LaneInt vertex = __builtin_convertvector(scaled, LaneInt);
    vertex = vertex < last ? vertex : last;
    const LaneFloat f = scaled - __builtin_convertvector(vertex, LaneFloat);
    upper[a] = smoothstep ? f * f * (3.0f - 2.0f * f) : f;
    part[a][0] = reinterpret_cast<LaneUint>(vertex) * factor[a];
    part[a][1] = part[a][0] + factor[a];
  }
  for (int edge = 0; edge < ScatterBatch<D>::kEdges; ++edge) {
    LaneUint index = part[1][edge & 1];
    LaneFloat weight = edge & 1 ? upper[1] : one - upper[1];
    if constexpr (D == 3) {
      const LaneUint& z = part[2][edge >> 1];
      index = kHashed ? index ^ z : index + z;
      weight *= edge >> 1 ? upper[2] : one - upper[2];
    }
    *reinterpret_cast<LaneFloat*>(batch.weight[edge] + at) = weight;
    for (int side = 0; side < (Index == GridIndex::kDense ? 1 : 2); ++side) {
      const LaneUint entry = kHashed ? index ^ part[0][side] : index + part[0][side];
      *reinterpret_cast<LaneUint*>(batch.entry[edge][side] + at) = entry & level.mask;
    }
  }
  LaneInt low, high;
  for (int k = 0; k < kLanes; ++k) {
    low[k] = k / 2;
    high[k] = (k + kLanes) / 2;
  }
  split_along_x(grad + 2 * i, __builtin_shuffle(upper[0], low), batch.along_x[at]);
  split_along_x(grad + 2 * i + kLanes, __builtin_shuffle(upper[0], high), batch.along_x[at + kLanes / 2]);
}

// Adds n samples' gradients to the entries of the level that the range holds.
template <GridIndex Index, int D, bool WholeLevel>
NERFAD_INLINE void scatter_batch(const ScatterBatch<D>& batch, int n, const EntryRange& range, float* level) {
  for (int i = 0; i < n; ++i) {
    const __m128 both = _mm_load_ps(batch.along_x[i]);
    for (int edge = 0; edge < ScatterBatch<D>::kEdges; ++edge) {
      const __m128 weight = _mm_set1_ps(batch.weight[edge][i]);
      const uint32_t low_entry = batch.entry[edge][0][i];
      const uint32_t high_entry = Index == GridIndex::kDense ? low_entry + 1 : batch.entry[edge][1][i];
      float *low = level + size_t(low_entry) * 2, *high = level + size_t(high_entry) * 2;
      if constexpr (!WholeLevel) {
        const Floats<2> for_low{both}, for_high{_mm_movehl_ps(both, both)};
        const float w = batch.weight[edge][i];
        if (low_entry - range.begin < range.size)
          store_floats(low, multiply_add(load_floats<2>(low), w, for_low));
        if (high_entry - range.begin < range.size)
          store_floats(high, multiply_add(load_floats<2>(high), w, for_high));
      } else if constexpr (Index == GridIndex::kDense) {
        _mm_storeu_ps(low, _mm_fmadd_ps(weight, both, _mm_loadu_ps(low)));
      } else {
        // The two are never one entry: their indices differ in the last bit or by one.
        const __m128 old = _mm_loadh_pi(load_floats<2>(low).v, reinterpret_cast<const __m64*>(high));
        const __m128 sum = _mm_fmadd_ps(weight, both, old);
        _mm_storel_pi(reinterpret_cast<__m64*>(low), sum);
        _mm_storeh_pi(reinterpret_cast<__m64*>(high), sum);
      }
    }
  }
}

// As scatter_level; the range is within the level, whose first entry is at `table`.
template <GridIndex Index, int D, bool WholeLevel>
void scatter_pairs(const GridLevel& level, bool smoothstep, const float* const* positions, int64_t n,
                   const float* grad, const EntryRange& range, float* table) {
  ScatterBatch<D> batch;
  for (int64_t i = 0; i < n;) {
    int filled = 0;
    for (; i < n && filled < kScatterBatch; i += kLanes) {
      if (all_zero(grad + i * 2, kLanes * 2)) continue;  // behind the early stop
      add_to_batch<Index, D>(level, smoothstep, positions, grad, i, batch, filled);
      filled += kLanes;
    }
    scatter_batch<Index, D, WholeLevel>(batch, filled, range, table);
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
  const auto scatter = [&](auto whole) {
    constexpr bool kWhole = decltype(whole)::value;
    if constexpr (F == 2) {
      const EntryRange within{range.begin - level.offset, range.size};
      float* first = p.grad_table + int64_t(level.offset) * F;
      auto* run = &scatter_pairs<GridIndex::kWrapped, D, kWhole>;
      if (level.hashed) {
        run = &scatter_pairs<GridIndex::kHashed, D, kWhole>;
      } else if (level.mask == ~0u) {
        run = &scatter_pairs<GridIndex::kDense, D, kWhole>;
      }
      run(level, smoothstep, axes, p.fwd.n, grad, within, first);
    } else {
      scatter_level<D, F, kWhole>(level, smoothstep, axes, p.fwd.n, grad, range, p.grad_table);
    }
  };
  if (n_parts == 1) {
    scatter(std::true_type{});
  } else {
    scatter(std::false_type{});
  }
}

}  // namespace
}  // namespace nerfad
