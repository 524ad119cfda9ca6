// A grid's features from level by level to rounded rows of samples, as the networks' tiles multiply them;
// compiled once per instruction set, hence the anonymous namespace.
#pragma once
#include <cstring>

#include "mlp_arithmetic.h"

namespace nerfad {
namespace {

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
