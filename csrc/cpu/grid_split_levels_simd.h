// The gradient of a grid's features rearranged level by level, for AVX2 and AVX-512 units alike; compiled
// once per instruction set, hence the anonymous namespace.
#pragma once
#include <cstring>

#include "grid_encode_scratch.h"
#include "grid_encode_simd.h"

namespace nerfad {
namespace {

#if defined(__AVX512F__)

constexpr int kPairs = kLanes / 2;  // of floats in a vector

// Transposes kPairs rows of kPairs pairs each.
NERFAD_INLINE void transpose_pairs(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  const auto row = [=](int r) { return _mm512_castps_pd(_mm512_loadu_ps(from + r * from_stride)); };
  const auto store = [=](int r, __m512d v) { _mm512_storeu_ps(to + r * to_stride, _mm512_castpd_ps(v)); };
  __m512d two[2][4];  // quarter q of [k][r]: pair 2 q + k of rows 2 r, 2 r + 1
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    const __m512d even = row(2 * r), odd = row(2 * r + 1);
    two[0][r] = _mm512_unpacklo_pd(even, odd), two[1][r] = _mm512_unpackhi_pd(even, odd);
  }
#pragma GCC unroll 2
  for (int k = 0; k < 2; ++k) {
    const __m512d a = _mm512_shuffle_f64x2(two[k][0], two[k][1], 0x44);
    const __m512d b = _mm512_shuffle_f64x2(two[k][2], two[k][3], 0x44);
    const __m512d c = _mm512_shuffle_f64x2(two[k][0], two[k][1], 0xee);
    const __m512d d = _mm512_shuffle_f64x2(two[k][2], two[k][3], 0xee);
    store(k, _mm512_shuffle_f64x2(a, b, 0x88)), store(k + 2, _mm512_shuffle_f64x2(a, b, 0xdd));
    store(k + 4, _mm512_shuffle_f64x2(c, d, 0x88)), store(k + 6, _mm512_shuffle_f64x2(c, d, 0xdd));
  }
}

#endif

// Rearranges n gradients of features level by level, padded with zeros.
template <int F>
void split_levels(const float* grad, int n_levels, int64_t n, float* levels, int64_t level_stride) {
  int64_t done = 0;
#if defined(__AVX512F__)
  if constexpr (F == 2) {  // whole cache lines; half ones gain nothing
    for (; done + kPairs <= n; done += kPairs) {
      const float* row = grad + done * n_levels * 2;
      float* to = levels + done * 2;
      int l = 0;
      for (; l + kPairs <= n_levels; l += kPairs)
        transpose_pairs(row + l * 2, n_levels * 2, to + l * level_stride, level_stride);
      for (; l < n_levels; ++l) {
        for (int i = 0; i < kPairs; ++i)
          std::memcpy(to + l * level_stride + i * 2, row + (i * n_levels + l) * 2, 2 * sizeof(float));
      }
    }
  }
#endif
  for (int64_t i = done; i < n; ++i) {
    for (int l = 0; l < n_levels; ++l)
      std::memcpy(levels + l * level_stride + i * F, grad + (i * n_levels + l) * F, F * sizeof(float));
  }
  const size_t rest = static_cast<size_t>(padded(n) - n) * F * sizeof(float);
  for (int l = 0; l < n_levels; ++l) std::memset(levels + l * level_stride + n * F, 0, rest);
}

}  // namespace
}  // namespace nerfad
