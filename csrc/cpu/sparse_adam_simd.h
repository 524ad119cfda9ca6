// The vector loop of the sparse Adam step; compiled once per instruction set, hence the anonymous namespace.
#pragma once
#include <immintrin.h>

#include "nerfad/sparse_adam.h"

namespace nerfad {
namespace {

#if defined(__AVX512F__)
using Vector = __m512;
using Mask = __mmask16;
constexpr int kWidth = 16;
inline Vector broadcast(float x) { return _mm512_set1_ps(x); }
inline Vector load(const float* from) { return _mm512_loadu_ps(from); }
inline Mask nonzero(Vector g) { return _mm512_cmp_ps_mask(g, _mm512_setzero_ps(), _CMP_NEQ_UQ); }
inline bool any(Mask mask) { return mask != 0; }
inline void store(float* to, Mask mask, Vector x) { _mm512_mask_storeu_ps(to, mask, x); }
// The masked form: gcc 12 warns about its own _mm512_sqrt_ps.
inline Vector root(Vector x) { return _mm512_maskz_sqrt_ps(0xffff, x); }
#else
using Vector = __m256;
using Mask = __m256i;
constexpr int kWidth = 8;
inline Vector broadcast(float x) { return _mm256_set1_ps(x); }
inline Vector load(const float* from) { return _mm256_loadu_ps(from); }
inline Mask nonzero(Vector g) {
  return _mm256_castps_si256(_mm256_cmp_ps(g, _mm256_setzero_ps(), _CMP_NEQ_UQ));
}
inline bool any(Mask mask) { return !_mm256_testz_si256(mask, mask); }
inline void store(float* to, Mask mask, Vector x) { _mm256_maskstore_ps(to, mask, x); }
inline Vector root(Vector x) { return _mm256_sqrt_ps(x); }
#endif

// Elements [begin, end). Vectors of gradients that are all zero cost one read.
void sparse_adam_range(const SparseAdam<float>& p, int64_t begin, int64_t end) {
  const Vector beta1 = broadcast(p.beta1), beta2 = broadcast(p.beta2);
  const Vector rest1 = broadcast(1.0f - p.beta1), rest2 = broadcast(1.0f - p.beta2);
  const Vector v_scale = broadcast(p.v_scale), eps = broadcast(p.eps);
  const Vector step_size = broadcast(p.step_size), keep = broadcast(p.keep), zero = broadcast(0.0f);
  int64_t i = begin;
  for (; i + kWidth <= end; i += kWidth) {
    const Vector g = load(p.grads + i);
    const Mask touched = nonzero(g);
    if (!any(touched)) continue;
    const Vector m = beta1 * load(p.m + i) + rest1 * g;
    const Vector v = beta2 * load(p.v + i) + rest2 * g * g;
    const Vector param = keep * load(p.params + i) - step_size * m / (root(v) * v_scale + eps);
    store(p.m + i, touched, m);
    store(p.v + i, touched, v);
    store(p.params + i, touched, param);
    if (p.zero_grad) store(p.grads + i, touched, zero);
  }
  for (; i < end; ++i) sparse_adam_element(p, i);
}

}  // namespace
}  // namespace nerfad
