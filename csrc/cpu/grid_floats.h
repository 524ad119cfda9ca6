// Bundles of floats in AVX registers: a cell's corners, which interpolation halves axis by axis. In an
// anonymous namespace, for each unit compiles its own copy with its own instruction set.
#pragma once
#include "intrinsics.h"

#define NERFAD_INLINE inline __attribute__((always_inline))

namespace nerfad {
namespace {

// N floats in registers, in the lower part of the last one if N < 8.

template <int N>
struct Floats {
  __m256 v[N / 8];
};
template <>
struct Floats<4> {
  __m128 v;
};
template <>
struct Floats<2> {
  __m128 v;
};
template <>
struct Floats<1> {
  __m128 v;
};

template <int N>
NERFAD_INLINE void split(const Floats<N>& a, Floats<N / 2>& low, Floats<N / 2>& high) {
  if constexpr (N >= 16) {
    for (int k = 0; k < N / 16; ++k) low.v[k] = a.v[k], high.v[k] = a.v[k + N / 16];
  } else if constexpr (N == 8) {
    low.v = _mm256_castps256_ps128(a.v[0]), high.v = _mm256_extractf128_ps(a.v[0], 1);
  } else if constexpr (N == 4) {
    low.v = a.v, high.v = _mm_movehl_ps(a.v, a.v);
  } else {
    low.v = a.v, high.v = _mm_movehdup_ps(a.v);
  }
}

template <int N>
NERFAD_INLINE Floats<2 * N> join(const Floats<N>& low, const Floats<N>& high) {
  Floats<2 * N> r;
  if constexpr (N >= 8) {
    for (int k = 0; k < N / 8; ++k) r.v[k] = low.v[k], r.v[k + N / 8] = high.v[k];
  } else if constexpr (N == 4) {
    r.v[0] = _mm256_set_m128(high.v, low.v);
  } else if constexpr (N == 2) {
    r.v = _mm_movelh_ps(low.v, high.v);
  } else {
    r.v = _mm_unpacklo_ps(low.v, high.v);
  }
  return r;
}

// a + f * b
template <int N>
NERFAD_INLINE Floats<N> multiply_add(const Floats<N>& a, float f, const Floats<N>& b) {
  Floats<N> r;
  if constexpr (N >= 8) {
    for (int k = 0; k < N / 8; ++k) r.v[k] = _mm256_fmadd_ps(_mm256_set1_ps(f), b.v[k], a.v[k]);
  } else {
    r.v = _mm_fmadd_ps(_mm_set1_ps(f), b.v, a.v);
  }
  return r;
}

template <int N>
NERFAD_INLINE Floats<N> subtract(const Floats<N>& a, const Floats<N>& b) {
  Floats<N> r;
  if constexpr (N >= 8) {
    for (int k = 0; k < N / 8; ++k) r.v[k] = _mm256_sub_ps(a.v[k], b.v[k]);
  } else {
    r.v = _mm_sub_ps(a.v, b.v);
  }
  return r;
}

template <int N>
NERFAD_INLINE Floats<N> scale(float f, const Floats<N>& a) {
  Floats<N> r;
  if constexpr (N >= 8) {
    for (int k = 0; k < N / 8; ++k) r.v[k] = _mm256_mul_ps(_mm256_set1_ps(f), a.v[k]);
  } else {
    r.v = _mm_mul_ps(_mm_set1_ps(f), a.v);
  }
  return r;
}

template <int N>
NERFAD_INLINE Floats<N> load_floats(const float* from) {
  Floats<N> r;
  if constexpr (N >= 8) {
    for (int k = 0; k < N / 8; ++k) r.v[k] = _mm256_loadu_ps(from + 8 * k);
  } else if constexpr (N == 4) {
    r.v = _mm_loadu_ps(from);
  } else if constexpr (N == 2) {
    r.v = _mm_castpd_ps(_mm_load_sd(reinterpret_cast<const double*>(from)));
  } else {
    r.v = _mm_load_ss(from);
  }
  return r;
}

template <int N>
NERFAD_INLINE void store_floats(float* to, const Floats<N>& a) {
  if constexpr (N >= 8) {
    for (int k = 0; k < N / 8; ++k) _mm256_storeu_ps(to + 8 * k, a.v[k]);
  } else if constexpr (N == 4) {
    _mm_storeu_ps(to, a.v);
  } else if constexpr (N == 2) {
    _mm_storel_pi(reinterpret_cast<__m64*>(to), a.v);
  } else {
    _mm_store_ss(to, a.v);
  }
}

// Halves a bundle along its slowest axis at weight f of the upper half.
template <int N>
NERFAD_INLINE Floats<N / 2> interpolate(const Floats<N>& a, float f) {
  Floats<N / 2> low, high;
  split(a, low, high);
  return multiply_add(low, f, subtract(high, low));
}

// The difference of the two halves: the derivative of `interpolate` by f.
template <int N>
NERFAD_INLINE Floats<N / 2> difference(const Floats<N>& a) {
  Floats<N / 2> low, high;
  split(a, low, high);
  return subtract(high, low);
}

// The adjoint of `interpolate`: hands a gradient to both halves.
template <int N>
NERFAD_INLINE Floats<2 * N> distribute(const Floats<N>& grad, float f) {
  const Floats<N> high = scale(f, grad);
  return join(subtract(grad, high), high);
}

}  // namespace
}  // namespace nerfad
