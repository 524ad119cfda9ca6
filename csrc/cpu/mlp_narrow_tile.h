// Layers whose outputs do not fill vectors. Where a lane is an output, each multiply-add needs a broadcast
// input of its own, more than the load ports give to 16 lanes, and lanes without an output are lost. So
// lanes are inputs too: pairs or quads of them side by side, which are added up at the end.
#pragma once
#include "mlp_layer.h"

namespace nerfad {
namespace {

constexpr int kQuad = 4, kMaxQuadInputs = 128;

template <class S>
inline constexpr bool kHasQuads =
    MlpArithmetic<S>::kDepth == 1 && std::is_same_v<typename S::T, float> && S::kWidth > kQuad;
// Half as wide, load ports keep up with multiply-adds.
template <class S>
inline constexpr bool kPairsInputs = kHasQuads<S> && S::kWidth == 16;

template <class L>
bool fits_quads(const L& layer) {
  return layer.n_out <= kQuad && layer.n_in % kQuad == 0 && layer.n_in <= kMaxQuadInputs && layer.bias &&
         !layer.bias_index;
}

// A vector of columns of y = finish(bias + x weights): the products of even and odd inputs side by side.
template <class S, Finish kFinish>
void layer_pairs(const LayerOf<S>& layer, int column, const float* x, int x_stride, float* y, int y_stride);

// y [, kMlpPad] = bias + x weights for at most kQuad outputs, zero behind them.
template <class S>
void layer_quads(const LayerOf<S>& layer, const float* x, int x_stride, float* y, int y_stride);

#if defined(__AVX2__)
// sums[r][i] = the sum of quad i of row r.
inline void add_up_quads(const __m256 (&rows)[kQuad][2], __m128 (&sums)[kQuad]) {
  __m128 out[kQuad];
  for (int v = 0; v < 2; ++v) {
    const __m256 a = _mm256_hadd_ps(rows[0][v], rows[1][v]), b = _mm256_hadd_ps(rows[2][v], rows[3][v]);
    const __m256 all = _mm256_hadd_ps(a, b);
    out[2 * v] = _mm256_castps256_ps128(all), out[2 * v + 1] = _mm256_extractf128_ps(all, 1);
  }
  _MM_TRANSPOSE4_PS(out[0], out[1], out[2], out[3]);
  for (int r = 0; r < kQuad; ++r) sums[r] = out[r];
}
inline __m256 broadcast_quad(const float* p, __m256) {
  return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p));
}
inline void store_quad(float* to, __m128 quad, __m256) {
  _mm256_storeu_ps(to, _mm256_zextps128_ps256(quad));
  _mm256_storeu_ps(to + 8, _mm256_setzero_ps());
}
#endif

#if defined(__AVX512F__)
// In each quad, the sums of a's neighbours, then of b's.
inline __m512 add_neighbours(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
}
inline void add_up_quads(const __m512 (&rows)[kQuad][1], __m128 (&sums)[kQuad]) {
  const __m512 all = add_neighbours(add_neighbours(rows[0][0], rows[1][0]),  //
                                    add_neighbours(rows[2][0], rows[3][0]));
  const __m512i transposed = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512 by_row = _mm512_permutexvar_ps(transposed, all);
  sums[0] = _mm512_castps512_ps128(by_row), sums[1] = _mm512_extractf32x4_ps(by_row, 1);
  sums[2] = _mm512_extractf32x4_ps(by_row, 2), sums[3] = _mm512_extractf32x4_ps(by_row, 3);
}
inline __m512 broadcast_quad(const float* p, __m512) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
inline void store_quad(float* to, __m128 quad, __m512) { _mm512_storeu_ps(to, _mm512_zextps128_ps512(quad)); }
inline __m512 broadcast_pair(const float* p) {
  double pair;
  std::memcpy(&pair, p, sizeof(pair));
  return _mm512_castpd_ps(_mm512_set1_pd(pair));
}
#endif

#if defined(__AVX2__)
template <class S>
__attribute__((noinline)) void layer_quads(const LayerOf<S>& layer, const float* x, int x_stride, float* y,
                                           int y_stride) {
  constexpr int kVectors = kQuad * kQuad / S::kWidth, kRows = S::kAccumulators / kVectors / kQuad * kQuad;
  static_assert(kMlpTile % kRows == 0);
  using V = typename S::V;
  // [n_in / kQuad][kQuad outputs][kQuad inputs]
  alignas(64) float weights[kMaxQuadInputs * kQuad];
  alignas(64) float first[kQuad * kQuad] = {};
  const int stride = layer.stride();
  for (int n = 0; n < kQuad; ++n) first[n * kQuad] = layer.bias[n];
  for (int k = 0; k < layer.n_in; k += kQuad) {
    __m128 w[kQuad];
    for (int i = 0; i < kQuad; ++i) w[i] = _mm_loadu_ps(layer.weights + static_cast<int64_t>(k + i) * stride);
    _MM_TRANSPOSE4_PS(w[0], w[1], w[2], w[3]);
    for (int n = 0; n < kQuad; ++n) _mm_store_ps(weights + (k + n) * kQuad, w[n]);
  }
  for (int row = 0; row < kMlpTile; row += kRows) {
    V sum[kRows][kVectors];
#pragma GCC unroll 24
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[r][v] = S::load(first + v * S::kWidth);
    }
    const float* x_row = x + static_cast<int64_t>(row) * x_stride;
#pragma GCC unroll 4
    for (int k = 0; k < layer.n_in; k += kQuad, x_row += kQuad) {
      V w[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) w[v] = S::load(weights + k * kQuad + v * S::kWidth);
#pragma GCC unroll 24
      for (int r = 0; r < kRows; ++r) {
        const V input = broadcast_quad(x_row + static_cast<int64_t>(r) * x_stride, V{});
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sum[r][v] = S::multiply_add(input, w[v], sum[r][v]);
      }
    }
#pragma GCC unroll 6
    for (int r = 0; r < kRows; r += kQuad) {
      V four[kQuad][kVectors];
      __m128 out[kQuad];
      for (int i = 0; i < kQuad; ++i) {
        for (int v = 0; v < kVectors; ++v) four[i][v] = sum[r + i][v];
      }
      add_up_quads(four, out);
      for (int i = 0; i < kQuad; ++i) {
        store_quad(y + static_cast<int64_t>(row + r + i) * y_stride, out[i], V{});
      }
    }
  }
}
#endif

#if defined(__AVX512F__)
template <class S, Finish kFinish>
__attribute__((noinline)) void layer_pairs(const LayerOf<S>& layer, int column, const float* x, int x_stride,
                                           float* y, int y_stride) {
  constexpr int kRows = S::kAccumulators / 2;
  static_assert(kMlpTile % kRows == 0);
  const int w_stride = layer.stride(), whole = layer.n_in / 2 * 2;
  with_bias(layer, [&](auto bias) __attribute__((always_inline)) {
    for (int row = 0; row < kMlpTile; row += kRows) {
      __m512 low[kRows], high[kRows];  // of outputs 0, 1, 4, 5, ... and 2, 3, 6, 7, ...
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) low[r] = high[r] = _mm512_setzero_ps();
      const float* w = layer.weights + column;
      const float* x_row = x + static_cast<int64_t>(row) * x_stride;
      const auto add_product = [&](__m512 even, __m512 odd, auto load) __attribute__((always_inline)) {
        const __m512 w_low = _mm512_unpacklo_ps(even, odd), w_high = _mm512_unpackhi_ps(even, odd);
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
          const __m512 input = load(x_row + static_cast<int64_t>(r) * x_stride);
          low[r] = _mm512_fmadd_ps(input, w_low, low[r]);
          high[r] = _mm512_fmadd_ps(input, w_high, high[r]);
        }
      };
#pragma GCC unroll 4
      for (int k = 0; k < whole; k += 2, w += 2 * w_stride, x_row += 2) {
        add_product(_mm512_loadu_ps(w), _mm512_loadu_ps(w + w_stride), broadcast_pair);
      }
      if (whole < layer.n_in) {
        add_product(_mm512_loadu_ps(w), _mm512_setzero_ps(),
                    [](const float* p) { return _mm512_maskz_mov_ps(0x5555, _mm512_set1_ps(*p)); });
      }
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        const __m512 first = load_bias<S, decltype(bias)::value>(layer, row + r, column);
        store_finished<S, kFinish>(layer, row + r, column,
                                   _mm512_add_ps(first, add_neighbours(low[r], high[r])),
                                   y + static_cast<int64_t>(row + r) * y_stride + column);
      }
    }
  });
}
#endif

}  // namespace
}  // namespace nerfad
