// Features from level by level to sample by sample, a line of 64 bytes at a time.
#pragma once
#include <cstring>

#include "grid_floats.h"

namespace nerfad {
namespace {

#if defined(__AVX512F__)

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

// n_levels levels of the features of n samples, [level][n][F] with whole vectors readable, to rows of
// samples.
template <int F>
void transpose_levels(const float* levels, int64_t level_stride, int n_levels, int64_t n, float* features,
                      int64_t stride) {
  constexpr int kRows = 16 / F;
  for (int64_t i = 0; i < n; i += kRows) {
    const int n_rows = n - i < kRows ? static_cast<int>(n - i) : kRows;
    for (int begin = 0; begin < n_levels; begin += kRows) {
      const int n_here = n_levels - begin < kRows ? n_levels - begin : kRows;
      const __mmask16 used = static_cast<__mmask16>((1u << n_here * F) - 1);
      const float* from = levels + begin * level_stride + i * F;
      float* to = features + i * stride + begin * F;
      __m512 row[kRows];
      for (int l = 0; l < kRows; ++l) {
        row[l] = l < n_here ? _mm512_loadu_ps(from + l * level_stride) : _mm512_setzero_ps();
      }
      transpose_units<F>(row);
      for (int k = 0; k < n_rows; ++k) _mm512_mask_storeu_ps(to + k * stride, used, row[k]);
    }
  }
}

#endif

// The same to dense rows, for any F and instruction set.
template <int F>
void join_levels(const float* levels, int64_t level_stride, int n_levels, int64_t n, float* rows) {
#if defined(__AVX512F__)
  if constexpr (F <= 4) return transpose_levels<F>(levels, level_stride, n_levels, n, rows, n_levels * F);
#endif
  for (int64_t i = 0; i < n; ++i) {
    const float* from = levels + i * F;
    for (int l = 0; l < n_levels; ++l, rows += F, from += level_stride)
      std::memcpy(rows, from, F * sizeof(float));
  }
}

}  // namespace
}  // namespace nerfad
