// The grid encoding for fused kernels, which want the features sample by sample.
#pragma once
#include "grid_gather_simd.h"

namespace nerfad {
namespace {

#if defined(__AVX512F__)

// Samples that gathers encode before their features are rearranged: 64 bytes of each stay in the L1 cache.
constexpr int kTransposeBlock = 256;

// 16 / F rows of 16 / F units of F floats: exchanges rows and columns.
template <int F>
NERFAD_INLINE void transpose_units(__m512 (&row)[16 / F]) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int half = 8 / F; half >= 1; half /= 2) {
    // Index 16 + k is lane k of the second operand.
    const int lanes = half * F;
    const __mmask16 upper = _mm512_test_epi32_mask(lane, _mm512_set1_epi32(lanes));
    const __m512i shift = _mm512_set1_epi32(lanes), other = _mm512_set1_epi32(16);
    const __m512i low = _mm512_mask_add_epi32(lane, upper, _mm512_sub_epi32(lane, shift), other);
    const __m512i high = _mm512_mask_add_epi32(_mm512_add_epi32(lane, shift), upper, lane, other);
    for (int i = 0; i < 16 / F; ++i) {
      if (i & half) continue;
      const __m512 a = row[i], b = row[i + half];
      row[i] = _mm512_permutex2var_ps(a, low, b);
      row[i + half] = _mm512_permutex2var_ps(a, high, b);
    }
  }
}

// The features of n samples in n_levels levels of `block`, [level][kTransposeBlock][F], one line in all, to
// rows of `stride`.
template <int F>
void transpose_levels(const float* block, int n_levels, int n, float* features, int64_t stride) {
  constexpr int kRows = 16 / F;
  const __mmask16 used = static_cast<__mmask16>((1u << n_levels * F) - 1);
  for (int i = 0; i < n; i += kRows) {
    __m512 row[kRows];
    for (int l = 0; l < kRows; ++l) row[l] = _mm512_load_ps(block + (l * kTransposeBlock + i) * F);
    transpose_units<F>(row);
    for (int k = 0; k < kRows; ++k) {
      if (i + k < n) _mm512_mask_storeu_ps(features + (i + k) * stride, used, row[k]);
    }
  }
}

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
      transpose_levels<F>(block, n_levels, n_block, features + first * stride + begin * F, stride);
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
