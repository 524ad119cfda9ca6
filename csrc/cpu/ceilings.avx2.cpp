#include "ceilings_simd.h"

namespace nerfad {

double ceiling_fma_avx2(const CeilingBuffer& buffer, int64_t iterations) {
  return fma_loop<Avx2Simd, 12>(buffer, iterations);
}

double ceiling_read_avx2(const CeilingBuffer& buffer, int64_t iterations) {
  return read_loop<Avx2Simd>(buffer, iterations);
}

double ceiling_gather_avx2(const CeilingBuffer& buffer, int64_t iterations) {
  constexpr int kChains = 4;
  const auto* entries = reinterpret_cast<const long long*>(buffer.data);
  const __m128i mask = _mm_set1_epi32(static_cast<int>(buffer.n / 2 - 1));
  const __m128i step = _mm_set1_epi32(static_cast<int>(kWeyl));
  __m128i state[kChains];
  __m256i sums[kChains];
  for (int c = 0; c < kChains; ++c) {
    state[c] = _mm_set_epi32(7919 * c + 1, 104729 * c + 2, 1299709 * c + 3, 15485863 * c + 4);
    sums[c] = _mm256_setzero_si256();
  }
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 4
    for (int c = 0; c < kChains; ++c) {
      state[c] = _mm_add_epi32(state[c], step);
      const __m128i place = _mm_and_si128(_mm_xor_si128(state[c], _mm_srli_epi32(state[c], 15)), mask);
      sums[c] = _mm256_add_epi64(sums[c], _mm256_i32gather_epi64(entries, place, 8));
    }
  }
  const __m256i total =
      _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(buffer.data), total);
  return 4.0 * kChains * static_cast<double>(iterations);
}

}  // namespace nerfad
