// What marching kLanes rays at a time needs beyond lanes.h: masks in the form that the instruction set has,
// and the operations that make or use them.
#pragma once
#include "simd.h"  // first: it silences gcc 12 about its own intrinsics

#include "lanes.h"

namespace nerfad {
namespace {

inline Floats all(float x) { return Floats{} + x; }
inline Ints all(int x) { return Ints{} + x; }

#if defined(__AVX512F__)

using Mask = __mmask16;

inline __m512i raw(Ints x) { return reinterpret_cast<__m512i>(x); }
inline Ints ints(__m512i x) { return reinterpret_cast<Ints>(x); }

inline uint32_t bits_of(Mask mask) { return mask; }
inline Mask first_lanes(int n) { return static_cast<Mask>((1u << n) - 1); }

// One of the predicates _CMP_*.
template <int kPredicate>
inline Mask compare(Floats a, Floats b) {
  return _mm512_cmp_ps_mask(a, b, kPredicate);
}
inline Mask greater(Ints a, Ints b) { return _mm512_cmpgt_epi32_mask(raw(a), raw(b)); }
inline Mask equal(Ints a, Ints b) { return _mm512_cmpeq_epi32_mask(raw(a), raw(b)); }
inline Mask any_bit(Ints a, Ints b) { return _mm512_test_epi32_mask(raw(a), raw(b)); }

inline Floats choose(Mask mask, Floats yes, Floats no) { return _mm512_mask_mov_ps(no, mask, yes); }
inline Ints choose(Mask mask, Ints yes, Ints no) {
  return ints(_mm512_mask_mov_epi32(raw(no), mask, raw(yes)));
}

inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats multiply_subtract(Floats a, Floats b, Floats c) { return _mm512_fmsub_ps(a, b, c); }
inline Floats absolute(Floats x) { return _mm512_abs_ps(x); }
// The second of the two if one is NaN.
inline Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Ints smaller(Ints a, Ints b) { return ints(_mm512_min_epi32(raw(a), raw(b))); }
inline Ints round_up(Floats x) {
  return ints(_mm512_cvt_roundps_epi32(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC));
}

// Zero in the other lanes, where nothing is read or written.
inline Floats load(Mask mask, const float* from) { return _mm512_maskz_loadu_ps(mask, from); }
inline void store(Mask mask, int32_t* to, Ints x) { _mm512_mask_storeu_epi32(to, mask, raw(x)); }
inline Floats gather(Mask mask, const float* from, Ints index) {
  return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, raw(index), from, 4);
}
// The four bytes from byte kScale * index on.
template <int kScale>
inline Ints gather_bytes(Mask mask, const void* from, Ints index) {
  return ints(_mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, raw(index), from, kScale));
}

#else

struct Mask {
  __m256i v;  // -1 is true
  explicit operator bool() const { return !_mm256_testz_si256(v, v); }
};

inline Mask operator&(Mask a, Mask b) { return {_mm256_and_si256(a.v, b.v)}; }
inline Mask operator|(Mask a, Mask b) { return {_mm256_or_si256(a.v, b.v)}; }
inline Mask operator~(Mask a) { return {_mm256_xor_si256(a.v, _mm256_set1_epi32(-1))}; }
inline Mask& operator&=(Mask& a, Mask b) { return a = a & b; }
inline Mask& operator|=(Mask& a, Mask b) { return a = a | b; }

inline __m256i raw(Ints x) { return reinterpret_cast<__m256i>(x); }
inline Ints ints(__m256i x) { return reinterpret_cast<Ints>(x); }

inline uint32_t bits_of(Mask mask) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(mask.v)));
}

template <int kPredicate>
inline Mask compare(Floats a, Floats b) {
  return {_mm256_castps_si256(_mm256_cmp_ps(a, b, kPredicate))};
}
inline Mask greater(Ints a, Ints b) { return {_mm256_cmpgt_epi32(raw(a), raw(b))}; }
inline Mask equal(Ints a, Ints b) { return {_mm256_cmpeq_epi32(raw(a), raw(b))}; }
inline Mask any_bit(Ints a, Ints b) { return ~equal(a & b, Ints{}); }
inline Mask first_lanes(int n) { return greater(all(n), Ints{0, 1, 2, 3, 4, 5, 6, 7}); }

inline Floats choose(Mask mask, Floats yes, Floats no) {
  return _mm256_blendv_ps(no, yes, _mm256_castsi256_ps(mask.v));
}
inline Ints choose(Mask mask, Ints yes, Ints no) {
  return ints(_mm256_blendv_epi8(raw(no), raw(yes), mask.v));
}

inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline Floats multiply_subtract(Floats a, Floats b, Floats c) { return _mm256_fmsub_ps(a, b, c); }
inline Floats absolute(Floats x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
inline Floats smaller(Floats a, Floats b) { return _mm256_min_ps(a, b); }
inline Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
inline Ints smaller(Ints a, Ints b) { return ints(_mm256_min_epi32(raw(a), raw(b))); }
inline Ints round_up(Floats x) { return ints(_mm256_cvtps_epi32(_mm256_ceil_ps(x))); }

inline Floats load(Mask mask, const float* from) { return _mm256_maskload_ps(from, mask.v); }
inline void store(Mask mask, int32_t* to, Ints x) { _mm256_maskstore_epi32(to, mask.v, raw(x)); }
inline Floats gather(Mask mask, const float* from, Ints index) {
  return _mm256_mask_i32gather_ps(_mm256_setzero_ps(), from, raw(index), _mm256_castsi256_ps(mask.v), 4);
}
template <int kScale>
inline Ints gather_bytes(Mask mask, const void* from, Ints index) {
  return ints(_mm256_mask_i32gather_epi32(_mm256_setzero_si256(), static_cast<const int*>(from), raw(index),
                                          mask.v, kScale));
}

#endif

}  // namespace
}  // namespace nerfad
