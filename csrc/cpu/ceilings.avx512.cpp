#include "ceilings_simd.h"

namespace nerfad {

double ceiling_fma_avx512(const CeilingBuffer& buffer, int64_t iterations) {
  return fma_loop<Avx512Simd, 24>(buffer, iterations);
}

double ceiling_read_avx512(const CeilingBuffer& buffer, int64_t iterations) {
  return read_loop<Avx512Simd>(buffer, iterations);
}

double ceiling_gather_avx512(const CeilingBuffer& buffer, int64_t iterations) {
  constexpr int kChains = 4;
  const __m256i mask = _mm256_set1_epi32(static_cast<int>(buffer.n / 2 - 1));
  const __m256i step = _mm256_set1_epi32(static_cast<int>(kWeyl));
  const __m256i lanes = _mm256_set_epi32(1, 7919, 104729, 1299709, 15485863, 32452843, 49979687, 67867967);
  __m256i state[kChains];
  __m512i sums[kChains];
  for (int c = 0; c < kChains; ++c) {
    state[c] = _mm256_mullo_epi32(lanes, _mm256_set1_epi32(2 * c + 1));
    sums[c] = _mm512_setzero_si512();
  }
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 4
    for (int c = 0; c < kChains; ++c) {
      state[c] = _mm256_add_epi32(state[c], step);
      const __m256i scrambled = _mm256_xor_si256(state[c], _mm256_srli_epi32(state[c], 15));
      const __m256i place = _mm256_and_si256(scrambled, mask);
      sums[c] = _mm512_add_epi64(sums[c], _mm512_i32gather_epi64(place, buffer.data, 8));
    }
  }
  const __m512i total =
      _mm512_add_epi64(_mm512_add_epi64(sums[0], sums[1]), _mm512_add_epi64(sums[2], sums[3]));
  _mm512_storeu_si512(buffer.data, total);
  return 8.0 * kChains * static_cast<double>(iterations);
}

}  // namespace nerfad
