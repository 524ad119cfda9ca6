// A grid's features from level by level to sample by sample, for the networks' tiles; compiled once per
// instruction set, hence the anonymous namespace.
#pragma once
#include <cstring>

#include "grid_transpose_simd.h"
#include "mlp_arithmetic.h"
#include "nerfad/grid_encode.h"

namespace nerfad {
namespace {

// Levels [n_levels][level_stride], readable up to whole vectors, to rows [n, grid outputs].
[[maybe_unused]] void join_levels(const GridShape& grid, const float* levels, int64_t level_stride, int n,
                                  float* rows) {
  const int n_features = grid.n_features, width = grid.n_outputs();
#if defined(__AVX512F__)
  if (n_features == 1) return transpose_levels<1>(levels, level_stride, grid.n_levels, n, rows, width);
  if (n_features == 2) return transpose_levels<2>(levels, level_stride, grid.n_levels, n, rows, width);
  if (n_features == 4) return transpose_levels<4>(levels, level_stride, grid.n_levels, n, rows, width);
#endif
  for (int l = 0; l < grid.n_levels; ++l) {
    const float* from = levels + l * level_stride;
    for (int i = 0; i < n; ++i)
      std::memcpy(rows + i * width + l * n_features, from + i * n_features, n_features * sizeof(float));
  }
}

// Two features of each level, rounded on the way: a tile [rows, stride] of operands, zero behind n samples
// and behind the levels. 16 levels of 16 samples are a block of pairs.
template <class S>
void join_pairs(const float* levels, int64_t level_stride, int n_levels, int n, int rows, BFloat16* to,
                int stride) {
  using A = MlpArithmetic<S>;
  constexpr int kBlock = 16;
  for (int first = 0; first < n; first += kBlock) {
    for (int begin = 0; 2 * begin < stride; begin += kBlock) {
      typename A::Row pairs[kBlock];
#pragma GCC unroll 16
      for (int l = 0; l < kBlock; ++l) {
        const float* from = levels + (begin + l) * level_stride + 2 * first;
        const bool is_level = begin + l < n_levels;
        pairs[l] = is_level ? A::round_row(S::load(from), S::load(from + kBlock))
                            : A::round_row(S::zero(), S::zero());
      }
      A::transpose(pairs);
#pragma GCC unroll 16
      for (int i = 0; i < kBlock; ++i) A::store_row(to + (first + i) * stride + 2 * begin, pairs[i]);
    }
  }
  std::memset(static_cast<void*>(to + n * stride), 0, sizeof(BFloat16) * (rows - n) * stride);
}

}  // namespace
}  // namespace nerfad
