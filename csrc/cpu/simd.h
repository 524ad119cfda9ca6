// The vectors that tile kernels are written with: one struct per instruction set, chosen by the flags that
// the including unit is compiled with. Everything lives in an anonymous namespace, so that code compiled for
// a better machine can never be linked into a unit for a lesser one.
#pragma once
#include <cmath>
#include <cstdint>
#include <initializer_list>

#include "intrinsics.h"

namespace nerfad {
namespace {

// kVectors x rows accumulators are kept in registers: kAccumulators of them, the rest for operands.
// load_first(p, n) loads the first n < kWidth lanes, zero in the others, and reads nothing behind them.
template <class Scalar>
struct PortableSimd {
  using T = Scalar;
  typedef T V __attribute__((vector_size(16), aligned(sizeof(T))));
  static constexpr int kWidth = 16 / sizeof(T), kVectors = 2, kAccumulators = 12;
  static V zero() { return V{}; }
  static V load(const T* p) { return *reinterpret_cast<const V*>(p); }
  static void store(T* p, V v) { *reinterpret_cast<V*>(p) = v; }
  static V load_first(const T* p, int n) {
    V v{};
    for (int i = 0; i < n; ++i) v[i] = p[i];
    return v;
  }
  static V broadcast(T x) { return V{} + x; }
  static V add(V a, V b) { return a + b; }
  static V multiply_add(V a, V b, V c) { return a * b + c; }
  static V relu(V v) { return v < 0 ? V{} : v; }  // a NaN stays
  static V keep_where_positive(V v, V h) { return h > 0 ? v : V{}; }
  static V exp(V v) {
    for (int i = 0; i < kWidth; ++i) v[i] = std::exp(v[i]);
    return v;
  }
  static V divide(V a, V b) { return a / b; }
};

#if defined(__AVX2__)
struct Avx2Simd {
  using T = float;
  using V = __m256;
  static constexpr int kWidth = 8, kVectors = 2, kAccumulators = 12;
  static V zero() { return _mm256_setzero_ps(); }
  static V load(const T* p) { return _mm256_loadu_ps(p); }
  static void store(T* p, V v) { _mm256_storeu_ps(p, v); }
  static V load_first(const T* p, int n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane));
  }
  static V broadcast(T x) { return _mm256_set1_ps(x); }
  static V add(V a, V b) { return _mm256_add_ps(a, b); }
  static V multiply_add(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  static V relu(V v) { return _mm256_max_ps(zero(), v); }  // in this order a NaN stays
  static V keep_where_positive(V v, V h) { return _mm256_and_ps(_mm256_cmp_ps(h, zero(), _CMP_GT_OQ), v); }
  static V round(V v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static V scale_by_power_of_two(V v, V n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(v, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
  }
  static V clamp(V v, T low, T high) {
    return _mm256_min_ps(broadcast(high), _mm256_max_ps(broadcast(low), v));
  }
  static V divide(V a, V b) { return _mm256_div_ps(a, b); }
  static V exp(V v);
};
#endif

#if defined(__AVX512F__)
struct Avx512Simd {
  using T = float;
  using V = __m512;
  static constexpr int kWidth = 16, kVectors = 4, kAccumulators = 24;
  static V zero() { return _mm512_setzero_ps(); }
  static V load(const T* p) { return _mm512_loadu_ps(p); }
  static void store(T* p, V v) { _mm512_storeu_ps(p, v); }
  static V load_first(const T* p, int n) {
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
  }
  static V broadcast(T x) { return _mm512_set1_ps(x); }
  static V add(V a, V b) { return _mm512_add_ps(a, b); }
  static V multiply_add(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static V relu(V v) { return _mm512_max_ps(zero(), v); }
  static V keep_where_positive(V v, V h) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(h, zero(), _CMP_GT_OQ), v);
  }
  static V round(V v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static V scale_by_power_of_two(V v, V n) { return _mm512_scalef_ps(v, n); }
  static V clamp(V v, T low, T high) {
    return _mm512_min_ps(broadcast(high), _mm512_max_ps(broadcast(low), v));
  }
  static V divide(V a, V b) { return _mm512_div_ps(a, b); }
  static V exp(V v);
};
#endif

#if defined(__AVX2__)
// e^v by 2^n e^r with |r| <= ln(2)/2 and a polynomial for e^r (Cephes expf; within 2 units in the last
// place). Clamped to the range where the result is a normal number.
template <class S>
inline typename S::V simd_exp(typename S::V v) {
  using V = typename S::V;
  v = S::clamp(v, -87.0f, 88.0f);
  const V n = S::round(S::multiply_add(v, S::broadcast(1.44269504088896341f), S::zero()));
  V r = S::multiply_add(n, S::broadcast(-0.693359375f), v);
  r = S::multiply_add(n, S::broadcast(2.12194440e-4f), r);
  V poly = S::broadcast(1.9875691500e-4f);
  for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 0.5f, 1.0f, 1.0f}) {
    poly = S::multiply_add(poly, r, S::broadcast(c));
  }
  return S::scale_by_power_of_two(poly, n);
}

inline __m256 Avx2Simd::exp(__m256 v) { return simd_exp<Avx2Simd>(v); }
#endif
#if defined(__AVX512F__)
inline __m512 Avx512Simd::exp(__m512 v) { return simd_exp<Avx512Simd>(v); }
#endif

// values[i] = f(values[i]); f is also called on zeros behind the end.
template <class S, class F>
inline void map_in_place(typename S::T* values, int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + S::kWidth <= n; i += S::kWidth) S::store(values + i, f(S::load(values + i)));
  if (i == n) return;
  typename S::T rest[S::kWidth] = {};
  for (int64_t j = i; j < n; ++j) rest[j - i] = values[j];
  S::store(rest, f(S::load(rest)));
  for (int64_t j = i; j < n; ++j) values[j] = rest[j - i];
}

template <class S>
inline void exp_in_place(typename S::T* values, int64_t n) {
  map_in_place<S>(values, n, [](auto v) __attribute__((always_inline)) { return S::exp(v); });
}

template <class S>
inline void sigmoid_in_place(typename S::T* values, int64_t n) {
  map_in_place<S>(values, n, [](auto v) __attribute__((always_inline)) {
    const auto one = S::broadcast(1), minus_v = S::multiply_add(v, S::broadcast(-1), S::zero());
    return S::divide(one, S::add(one, S::exp(minus_v)));
  });
}

}  // namespace
}  // namespace nerfad
