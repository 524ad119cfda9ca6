// The grid encoding with gather instructions, for AVX-512 units: 16 samples are interpolated at once, with
// the features of a sample in neighbouring lanes. The order of arithmetic is that of the bundles in
// grid_encode_simd.h, so that both give the same bits, and each machine can run the faster one (gathers()).
#pragma once
#include "grid_encode_simd.h"
#include "nerfad/isa.h"

namespace nerfad {
namespace {

// Entries of 4 or 8 bytes are gathered; larger ones fill a register by themselves.
template <class S, int F>
constexpr bool kGathered = kLanes == 16 && (F * sizeof(S) == 4 || F * sizeof(S) == 8);

// Gathers take signed indices of 32 bits.
template <class S, int F>
bool is_gathered(const GridShape& shape) {
  return kGathered<S, F> && gathers() && shape.n_entries() <= INT32_MAX;
}

#if defined(__AVX512F__)

// F features of 16 samples, sample by sample: vector p holds those of samples 16 / F * p and on.
template <int F>
struct SampleFloats {
  __m512 v[F];
};

NERFAD_INLINE __m512 widen_wide(__m256i raw, Half) { return _mm512_cvtph_ps(raw); }
NERFAD_INLINE __m512 widen_wide(__m256i raw, BFloat16) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16));
}

// 64 bytes of entries as one vector of float32 or two of 16-bit numbers.
template <class S>
NERFAD_INLINE void unpack_entries(__m512i raw, __m512* to) {
  if constexpr (sizeof(S) == 4) {
    to[0] = _mm512_castsi512_ps(raw);
  } else {
    to[0] = widen_wide(_mm512_castsi512_si256(raw), S{});
    to[1] = widen_wide(_mm512_extracti64x4_epi64(raw, 1), S{});
  }
}

template <class S, int F>
NERFAD_INLINE SampleFloats<F> gather_corner(const void* table, const uint32_t* entry) {
  SampleFloats<F> r;
  if constexpr (F * sizeof(S) == 4) {
    unpack_entries<S>(_mm512_i32gather_epi32(_mm512_load_si512(entry), table, 4), r.v);
  } else {
    for (int half = 0; half < 2; ++half) {
      const __m256i index = _mm256_load_si256(reinterpret_cast<const __m256i*>(entry + 8 * half));
      unpack_entries<S>(_mm512_i32gather_epi64(index, table, 8), r.v + half * F / 2);
    }
  }
  return r;
}

// The weights of 16 samples, each F times.
template <int F>
NERFAD_INLINE SampleFloats<F> repeat_weights(const float* weights) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512 all = _mm512_load_ps(weights);
  SampleFloats<F> r;
  for (int p = 0; p < F; ++p) {
    const __m512i sample = _mm512_srli_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(16 * p)), F / 2);
    r.v[p] = F == 1 ? all : _mm512_permutexvar_ps(sample, all);
  }
  return r;
}

// From the corner on, along the axes from Axis on: the last axis first.
template <class S, int D, int F, int Axis>
NERFAD_INLINE SampleFloats<F> gather_interpolated(const void* table, const CellGroup<D>& group,
                                                  const SampleFloats<F>* weight, int corner) {
  if constexpr (Axis == D) {
    return gather_corner<S, F>(table, group.entry[corner]);
  } else {
    const auto low = gather_interpolated<S, D, F, Axis + 1>(table, group, weight, corner);
    const auto high = gather_interpolated<S, D, F, Axis + 1>(table, group, weight, corner | 1 << Axis);
    SampleFloats<F> r;
    for (int p = 0; p < F; ++p) {
      r.v[p] = _mm512_fmadd_ps(weight[Axis].v[p], _mm512_sub_ps(high.v[p], low.v[p]), low.v[p]);
    }
    return r;
  }
}

// Groups whose cells are found before any is read: a group's gathers then need not wait for its own index
// arithmetic.
constexpr int kGroupsAhead = 8;

// As encode_level; writes the features of n samples, padded to a multiple of kLanes, behind one another.
template <class S, int D, int F>
__attribute__((noinline)) void gather_level(const GridLevel& level, bool smoothstep, const void* table,
                                            const float* const* positions, int64_t n, float* features) {
  CellGroup<D> groups[kGroupsAhead];
  for (int64_t first = 0; first < n; first += kGroupsAhead * kLanes) {
    const int64_t rest = (n - first + kLanes - 1) / kLanes;
    const int n_groups = rest < kGroupsAhead ? static_cast<int>(rest) : kGroupsAhead;
    for (int k = 0; k < n_groups; ++k) {
      find_cells<D, false, false>(level, smoothstep, positions, first + k * kLanes, groups[k]);
    }
    for (int k = 0; k < n_groups; ++k) {
      SampleFloats<F> weight[D];
      for (int a = 0; a < D; ++a) weight[a] = repeat_weights<F>(groups[k].weight[a]);
      const auto sum = gather_interpolated<S, D, F, 0>(table, groups[k], weight, 0);
      for (int p = 0; p < F; ++p) _mm512_storeu_ps(features + (first + k * kLanes) * F + 16 * p, sum.v[p]);
    }
  }
}

#endif

// Encodes n positions (a multiple of kLanes of each axis must be readable) in one level, by gathers or by
// bundles; features [n, F], padded to a multiple of kLanes samples.
template <class S, int D, int F>
void encode_level_block(const GridLevel& level, bool smoothstep, const void* table, const GridCells* cells,
                        [[maybe_unused]] bool gathered, const float* const* positions, int64_t n,
                        float* features) {
#if defined(__AVX512F__)
  if constexpr (kGathered<S, F>) {
    if (gathered && !cells) return gather_level<S, D, F>(level, smoothstep, table, positions, n, features);
  }
#endif
  encode_level<S, D, F>(level, smoothstep, table, cells, positions, n, features, F);
}

}  // namespace
}  // namespace nerfad
