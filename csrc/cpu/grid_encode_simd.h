// The vector core of the grid encoding, for AVX2 and AVX-512 units alike (and for the fused renderer's
// units). Everything is in an anonymous namespace: each unit compiles its own copy with its own instruction
// set, and the linker must not merge them.
//
// A group of kLanes samples shares the integer work (cells, hashes), one sample per lane. Table entries are
// then read sample by sample: all corners of a cell form one register bundle [z][y][x][feature], which is
// halved along z, y, x by linear interpolation. Where gather instructions are fast, grid_gather_simd.h does
// the same across samples.
#pragma once
#include "grid_floats.h"
#include "nerfad/grid_encode.h"

namespace nerfad {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif
typedef float LaneFloat __attribute__((vector_size(4 * kLanes), aligned(4)));
typedef uint32_t LaneUint __attribute__((vector_size(4 * kLanes), aligned(4)));
typedef int32_t LaneInt __attribute__((vector_size(4 * kLanes), aligned(4)));

// ---- The cells of a group.

template <int D>
struct CellGroup {
  alignas(64) uint32_t entry[1 << D][kLanes];
  alignas(64) float weight[D][kLanes];
  alignas(64) float slope[D][kLanes];
  uint32_t repeats;  // bit k: sample k has all its entries in common with sample k - 1
};

// Bit k: all lanes k and k - 1 of the axes' parts agree. Bit 0 is never set.
template <int D>
NERFAD_INLINE uint32_t find_repeats(const LaneUint (*part)[2]) {
#if defined(__AVX512F__)
  const LaneInt one_back = {0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
#else
  const LaneInt one_back = {0, 0, 1, 2, 3, 4, 5, 6};
#endif
  LaneInt same = LaneInt{} == LaneInt{};
  for (int a = 0; a < D; ++a) same &= part[a][0] == __builtin_shuffle(part[a][0], one_back);
#if defined(__AVX512F__)
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(same)) & ~1u;
#else
  return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(same))) & ~1u;
#endif
}

// x in [0, 1]; NaN becomes 0.
NERFAD_INLINE LaneFloat clamp_to_unit(LaneFloat x) {
#if defined(__AVX512F__)
  const __m512 from_zero = _mm512_max_ps(reinterpret_cast<__m512>(x), _mm512_setzero_ps());
  return reinterpret_cast<LaneFloat>(_mm512_min_ps(from_zero, _mm512_set1_ps(1.0f)));
#else
  const __m256 from_zero = _mm256_max_ps(reinterpret_cast<__m256>(x), _mm256_setzero_ps());
  return reinterpret_cast<LaneFloat>(_mm256_min_ps(from_zero, _mm256_set1_ps(1.0f)));
#endif
}

// The corners' entries from the axes' parts of the index.
template <int D, bool Hashed>
NERFAD_INLINE void find_entries(const GridLevel& level, const LaneUint (*part)[2],
                                uint32_t (*entry)[kLanes]) {
  for (int corner = 0; corner < (1 << D); ++corner) {
    LaneUint index = part[D - 1][corner >> (D - 1) & 1];
    for (int a = D - 2; a >= 0; --a) {
      const LaneUint& next = part[a][corner >> a & 1];
      index = Hashed ? index ^ next : index + next;
    }
    *reinterpret_cast<LaneUint*>(entry[corner]) = (index & level.mask) + level.offset;
  }
}

// Without repeats, their bits are left as they are.
template <int D, bool WithSlope, bool WithRepeats = true>
NERFAD_INLINE void find_cells(const GridLevel& level, bool smoothstep, const float* const* positions,
                              int64_t i, CellGroup<D>& group) {
  [[maybe_unused]] const LaneFloat zero = {}, one = zero + 1.0f;
  const float resolution = static_cast<float>(level.resolution);
  LaneUint part[D][2];  // each axis' share of the index, for the lower and the upper vertex
  const uint32_t stride = level.resolution + 1;
  const uint32_t factor[3] = {1u, level.hashed ? 2654435761u : stride,
                              level.hashed ? 805459861u : stride * stride};
  for (int a = 0; a < D; ++a) {
    const LaneFloat x = *reinterpret_cast<const LaneFloat*>(positions[a] + i);
    const LaneFloat scaled = clamp_to_unit(x) * resolution;
    const LaneInt last = LaneInt{} + static_cast<int32_t>(level.resolution - 1);
    LaneInt vertex = __builtin_convertvector(scaled, LaneInt);
    vertex = vertex < last ? vertex : last;
    const LaneFloat f = scaled - __builtin_convertvector(vertex, LaneFloat);
    LaneFloat* weight = reinterpret_cast<LaneFloat*>(group.weight[a]);
    *weight = smoothstep ? f * f * (3.0f - 2.0f * f) : f;
    if (WithSlope) {
      const LaneFloat slope = smoothstep ? 6.0f * f * (1.0f - f) * resolution : zero + resolution;
      *reinterpret_cast<LaneFloat*>(group.slope[a]) = (x >= zero) & (x <= one) ? slope : zero;
    }
    part[a][0] = reinterpret_cast<LaneUint>(vertex);
    if (a > 0) part[a][0] *= factor[a];
    part[a][1] = part[a][0] + factor[a];
  }
  if (WithRepeats) group.repeats = find_repeats<D>(part);
  if (level.hashed) {
    find_entries<D, true>(level, part, group.entry);
  } else {
    find_entries<D, false>(level, part, group.entry);
  }
}

// ---- Reading a cell's corners.

// 16 bytes of the bundle of raw entries of `Bytes` bytes each, from corner `first` on.
template <int Bytes, int Corners>
NERFAD_INLINE __m128i load_corners(const char* table, const uint32_t (*entry)[kLanes], int lane, int first) {
  const auto at = [&](int k) { return table + static_cast<size_t>(entry[first + k][lane]) * Bytes; };
  if constexpr (Bytes == 16) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at(0)));
  } else if constexpr (Bytes == 8) {
    const __m128 low = _mm_castpd_ps(_mm_load_sd(reinterpret_cast<const double*>(at(0))));
    return _mm_castps_si128(_mm_loadh_pi(low, reinterpret_cast<const __m64*>(at(1))));
  } else if constexpr (Bytes == 4) {
    const auto word = [&](int k) { return *reinterpret_cast<const int*>(at(k)); };
    return _mm_setr_epi32(word(0), word(1), word(2), word(3));
  } else {
    const auto word = [&](int k) { return *reinterpret_cast<const short*>(at(k % Corners)); };
    return _mm_setr_epi16(word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7));
  }
}

NERFAD_INLINE __m256 widen_vector(__m128i raw, Half) { return _mm256_cvtph_ps(raw); }
NERFAD_INLINE __m256 widen_vector(__m128i raw, BFloat16) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(raw), 16));
}

template <class S, int D, int F>
NERFAD_INLINE Floats<(F << D)> load_cell(const void* table, const CellGroup<D>& group, int lane) {
  constexpr int kCorners = 1 << D, kBytes = F * static_cast<int>(sizeof(S));
  const char* base = static_cast<const char*>(table);
  Floats<(F << D)> r;
  if constexpr (kBytes == 32) {
    for (int k = 0; k < kCorners; ++k) {
      r.v[k] = _mm256_loadu_ps(reinterpret_cast<const float*>(base + size_t(group.entry[k][lane]) * 32));
    }
  } else {
    constexpr int kPerPiece = 16 / kBytes;  // corners in 16 bytes
    const auto piece = [&](int k) {
      return load_corners<kBytes, kCorners>(base, group.entry, lane, k * kPerPiece);
    };
    if constexpr ((F << D) == 4) {  // two dimensions, one feature
      if constexpr (sizeof(S) == 4) {
        r.v = _mm_castsi128_ps(piece(0));
      } else {
        r.v = _mm256_castps256_ps128(widen_vector(piece(0), S{}));
      }
    } else {
      for (int k = 0; k < (F << D) / 8; ++k) {
        if constexpr (sizeof(S) == 4) {
          r.v[k] = _mm256_set_m128(_mm_castsi128_ps(piece(2 * k + 1)), _mm_castsi128_ps(piece(2 * k)));
        } else {
          r.v[k] = widen_vector(piece(k), S{});
        }
      }
    }
  }
  return r;
}

// The same from an expanded level, whose cells are bundles in memory.
template <class S, int D, int F>
NERFAD_INLINE Floats<(F << D)> load_expanded(const GridCells& cells, uint32_t lowest) {
  const S* from = static_cast<const S*>(cells.corners) + (static_cast<size_t>(lowest) * F << D);
  Floats<(F << D)> r;
  if constexpr (sizeof(S) == 4) {
    r = load_floats<(F << D)>(from);
  } else if constexpr ((F << D) == 4) {
    const __m128i raw = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
    r.v = _mm256_castps256_ps128(widen_vector(raw, S{}));
  } else {
    for (int k = 0; k < (F << D) / 8; ++k) {
      r.v[k] = widen_vector(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 8 * k)), S{});
    }
  }
  return r;
}

template <int D, int F>
NERFAD_INLINE Floats<F> interpolate_cell(const Floats<(F << D)>& cell, const CellGroup<D>& group, int lane) {
  if constexpr (D == 3) {
    const auto plane = interpolate(cell, group.weight[2][lane]);
    return interpolate(interpolate(plane, group.weight[1][lane]), group.weight[0][lane]);
  } else {
    return interpolate(interpolate(cell, group.weight[1][lane]), group.weight[0][lane]);
  }
}

// Encodes n positions (a multiple of kLanes of each axis must be readable) in one level: sample i's features
// at features[i * stride .. i * stride + F). With cells, the level is one of the expanded ones.
template <class S, int D, int F>
__attribute__((noinline)) void encode_level(const GridLevel& level, bool smoothstep, const void* table,
                                            const GridCells* cells, const float* const* positions, int64_t n,
                                            float* features, int64_t stride) {
  CellGroup<D> group;
  for (int64_t i = 0; i < n; i += kLanes) {
    find_cells<D, false>(level, smoothstep, positions, i, group);
    const int lanes = n - i < kLanes ? static_cast<int>(n - i) : kLanes;
    Floats<(F << D)> cell;
    for (int lane = 0; lane < lanes; ++lane) {
      if (!(group.repeats >> lane & 1)) {
        cell = cells ? load_expanded<S, D, F>(*cells, group.entry[0][lane])
                     : load_cell<S, D, F>(table, group, lane);
      }
      store_floats(features + (i + lane) * stride, interpolate_cell<D, F>(cell, group, lane));
    }
  }
}

}  // namespace
}  // namespace nerfad
