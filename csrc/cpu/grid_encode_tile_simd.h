// The grid encoding for fused kernels, which want the features sample by sample.
#pragma once
#include "grid_gather_simd.h"
#include "grid_transpose_simd.h"

namespace nerfad {
namespace {

#if defined(__AVX512F__)

// Samples that gathers encode before their features are rearranged: 64 bytes of each stay in the L1 cache.
constexpr int kTransposeBlock = 256;

template <class S, int D, int F>
void gather_tile(const GridShape& shape, const void* table, const GridCells& cells,
                 const float* const* positions, int n, float* features, int64_t stride) {
  constexpr int kLevels = 16 / F;
  alignas(64) float block[kLevels * kTransposeBlock * F] = {};
  for (int begin = 0; begin < shape.n_levels; begin += kLevels) {
    const int n_levels = shape.n_levels - begin < kLevels ? shape.n_levels - begin : kLevels;
    for (int first = 0; first < n; first += kTransposeBlock) {
      const int n_block = n - first < kTransposeBlock ? n - first : kTransposeBlock;
      const float* axes[D];
      for (int a = 0; a < D; ++a) axes[a] = positions[a] + first;
      for (int l = 0; l < n_levels; ++l) {
        const GridCells* expanded = begin + l < cells.n_levels ? &cells : nullptr;
        encode_level_block<S, D, F>(shape.levels[begin + l], shape.smoothstep, table, expanded, true, axes,
                                    n_block, block + l * kTransposeBlock * F);
      }
      transpose_levels<F>(block, kTransposeBlock * F, n_levels, n_block,
                          features + first * stride + begin * F, stride);
    }
  }
}

#endif

// Encodes n positions, given axis by axis (positions[a][i], shape.n_dims axes, readable up to a multiple of
// kLanes), in all levels: features[i * stride + level * n_features + f]. The table's bytes are those of
// GridEncodeFwd.
[[maybe_unused]] void grid_encode_tile(const GridShape& shape, TableType table_type, const void* table,
                                       const GridCells& cells, const float* const* positions, int n,
                                       float* features, int64_t stride) {
  grid_dispatch_float32(table_type, shape, [&](auto s, auto d, auto f) {
    using S = decltype(s);
    constexpr int D = decltype(d)::value, F = decltype(f)::value;
#if defined(__AVX512F__)
    if constexpr (kGathered<S, F>) {
      if (is_gathered<S, F>(shape)) {
        return gather_tile<S, D, F>(shape, table, cells, positions, n, features, stride);
      }
    }
#endif
    for (int l = 0; l < shape.n_levels; ++l) {
      encode_level<S, D, F>(shape.levels[l], shape.smoothstep, table, l < cells.n_levels ? &cells : nullptr,
                            positions, n, features + l * F, stride);
    }
  });
}

}  // namespace
}  // namespace nerfad
