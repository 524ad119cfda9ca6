#include "ceilings_simd.h"

namespace nerfad {

// vdpbf16ps: 32 products of bfloat16 pairs summed into 16 float32.
double ceiling_dot_avx512bf16(const CeilingBuffer& buffer, int64_t iterations) {
  constexpr int kChains = 24;
  __m512 sums[kChains];
  for (auto& sum : sums) sum = _mm512_loadu_ps(buffer.data);
  const __m512bh a = _mm512_cvtne2ps_pbh(sums[0], sums[1]), b = a;
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 32
    for (int c = 0; c < kChains; ++c) sums[c] = _mm512_dpbf16_ps(sums[c], a, b);
  }
  __m512 total = _mm512_setzero_ps();
  for (auto sum : sums) total = _mm512_add_ps(total, sum);
  _mm512_storeu_ps(buffer.data, total);
  return 2.0 * 32 * kChains * static_cast<double>(iterations);
}

}  // namespace nerfad
