// The gradient of a grid's features rearranged level by level, for AVX2 and AVX-512 units alike; compiled
// once per instruction set, hence the anonymous namespace.
#pragma once
#include <cstring>

#include "grid_encode_scratch.h"
#include "grid_encode_simd.h"

namespace nerfad {
namespace {

constexpr int kPairs = kLanes / 2;  // of floats in a vector

// Transposes kPairs rows of kPairs pairs each.
NERFAD_INLINE void transpose_pairs(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  typedef int64_t Pairs __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
  Pairs row[kPairs];
  for (int r = 0; r < kPairs; ++r) row[r] = *reinterpret_cast<const Pairs*>(from + r * from_stride);
#pragma GCC unroll 4
  for (int s = 1; s < kPairs; s *= 2) {
    Pairs even, odd;  // of blocks of s pairs, of two rows: which elements to take
    for (int k = 0; k < kPairs; ++k) {
      even[k] = k & s ? kPairs + k - s : k;
      odd[k] = k & s ? kPairs + k : k + s;
    }
#pragma GCC unroll 8
    for (int r = 0; r < kPairs; ++r) {
      if (r & s) continue;
      const Pairs a = row[r], b = row[r + s];
      row[r] = __builtin_shuffle(a, b, even);
      row[r + s] = __builtin_shuffle(a, b, odd);
    }
  }
  for (int r = 0; r < kPairs; ++r) *reinterpret_cast<Pairs*>(to + r * to_stride) = row[r];
}

// Rearranges n gradients of features level by level, padded with zeros.
template <int F>
void split_levels(const float* grad, int n_levels, int64_t n, float* levels, int64_t level_stride) {
  int64_t done = 0;
  if constexpr (F == 2 && kLanes == 16) {  // whole cache lines; half ones gain nothing
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
  for (int64_t i = done; i < n; ++i) {
    for (int l = 0; l < n_levels; ++l)
      std::memcpy(levels + l * level_stride + i * F, grad + (i * n_levels + l) * F, F * sizeof(float));
  }
  const size_t rest = static_cast<size_t>(padded(n) - n) * F * sizeof(float);
  for (int l = 0; l < n_levels; ++l) std::memset(levels + l * level_stride + n * F, 0, rest);
}

}  // namespace
}  // namespace nerfad
