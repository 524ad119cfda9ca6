// Register-blocked layers over a tile of kMlpTile samples. Activations are sample-major [kMlpTile, padded
// width], so that forward, input gradient and weight gradient need no transposition: each broadcasts a scalar
// (or a pair) of one operand against vectors of the other.
#pragma once
#include "mlp_narrow_tile.h"

namespace nerfad {
namespace {

// Rows [row, row + kRows) and vectors [0, kVectors) from `column` of y = finish(bias + x weights).
template <class S, int kVectors, int kRows, Finish kFinish, Bias kBias>
__attribute__((always_inline)) inline void layer_block(const LayerOf<S>& layer, int row, int column,
                                                       const MlpOperand<S>* x, int x_stride,
                                                       LayerOut<S, kFinish>* y, int y_stride) {
  using A = MlpArithmetic<S>;
  constexpr int kDepth = A::kDepth;
  typename S::V sum[kRows][kVectors];
#pragma GCC unroll 24
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = load_bias<S, kBias>(layer, row + r, column + v * S::kWidth);
    }
  }
  const MlpOperand<S>* w = layer.weights + column * kDepth;
  const int w_stride = layer.stride() * kDepth;
  const MlpOperand<S>* x_row = x + static_cast<int64_t>(row) * x_stride;
#pragma GCC unroll 4
  for (int k = 0; k < layer.n_in; k += kDepth, w += w_stride, x_row += kDepth) {
    typename A::OperandVector weights[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) weights[v] = A::load(w + v * S::kWidth * kDepth);
#pragma GCC unroll 24
    for (int r = 0; r < kRows; ++r) {
      const auto input = A::broadcast(x_row + static_cast<int64_t>(r) * x_stride);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = A::multiply_add(input, weights[v], sum[r][v]);
    }
  }
#pragma GCC unroll 24
  for (int r = 0; r < kRows; ++r) {
    LayerOut<S, kFinish>* to = y + static_cast<int64_t>(row + r) * y_stride + column;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      store_finished<S, kFinish>(layer, row + r, column + v * S::kWidth, sum[r][v], to + v * S::kWidth);
    }
  }
}

template <class S, int kVectors, Finish kFinish>
__attribute__((noinline)) void layer_columns(const LayerOf<S>& layer, int column, const MlpOperand<S>* x,
                                             int x_stride, LayerOut<S, kFinish>* y, int y_stride) {
  constexpr int kRows = S::kAccumulators / kVectors;
  static_assert(kMlpTile % kRows == 0);
  with_bias(layer, [&](auto bias) __attribute__((always_inline)) {
    for (int row = 0; row < kMlpTile; row += kRows) {
      layer_block<S, kVectors, kRows, kFinish, decltype(bias)::value>(layer, row, column, x, x_stride, y,
                                                                      y_stride);
    }
  });
}

template <class S, Finish kFinish>
void vector_layer_tile(const LayerOf<S>& layer, const MlpOperand<S>* x, int x_stride, LayerOut<S, kFinish>* y,
                       int y_stride) {
  if constexpr (kHasQuads<S> && kFinish == Finish::kNone) {
    if (fits_quads(layer)) return layer_quads<S>(layer, x, x_stride, y, y_stride);
  }
  const int vectors = (layer.n_out + S::kWidth - 1) / S::kWidth;
  int v = 0;
  for (; v + S::kVectors <= vectors; v += S::kVectors) {
    layer_columns<S, S::kVectors, kFinish>(layer, v * S::kWidth, x, x_stride, y, y_stride);
  }
  const int column = v * S::kWidth, left = vectors - v;
  if constexpr (S::kVectors == 4) {
    if (left == 3) layer_columns<S, 3, kFinish>(layer, column, x, x_stride, y, y_stride);
    if (left == 2) layer_columns<S, 2, kFinish>(layer, column, x, x_stride, y, y_stride);
  }
  if (left == 1) {
    if constexpr (kPairsInputs<S>) {
      layer_pairs<S, kFinish>(layer, column, x, x_stride, y, y_stride);
    } else {
      layer_columns<S, 1, kFinish>(layer, column, x, x_stride, y, y_stride);
    }
  }
  if constexpr (kFinish != Finish::kRelu) {
    for (int n = vectors * S::kWidth; n < layer.stride(); n += S::kWidth) {
      for (int m = 0; m < kMlpTile; ++m) S::store(y + static_cast<int64_t>(m) * y_stride + n, S::zero());
    }
  }
}

// grad_weights[n][k] += sum over samples of delta[m][n] x[m][k], for kRows outputs n and kVectors vectors of
// k. Both operands hold the samples of a lane side by side.
template <class S, int kVectors, int kRows>
__attribute__((always_inline)) inline void weight_grad_block(const MlpOperand<S>* delta, int delta_stride,
                                                             const MlpOperand<S>* x, int x_stride,
                                                             typename S::T* grad, int grad_stride) {
  using A = MlpArithmetic<S>;
  constexpr int kDepth = A::kDepth;
  typename S::V sum[kRows][kVectors];
#pragma GCC unroll 24
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = S::load(grad + r * grad_stride + v * S::kWidth);
  }
#pragma GCC unroll 4
  for (int m = 0; m < kMlpTile; m += kDepth, delta += delta_stride, x += x_stride) {
    typename A::OperandVector inputs[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) inputs[v] = A::load(x + v * S::kWidth * kDepth);
#pragma GCC unroll 24
    for (int r = 0; r < kRows; ++r) {
      const auto d = A::broadcast(delta + r * kDepth);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = A::multiply_add(d, inputs[v], sum[r][v]);
    }
  }
#pragma GCC unroll 24
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) S::store(grad + r * grad_stride + v * S::kWidth, sum[r][v]);
  }
}

template <class S, int kVectors>
__attribute__((noinline)) void weight_grad_columns(const MlpOperand<S>* delta, int delta_stride, int n_out,
                                                   const MlpOperand<S>* x, int x_stride, typename S::T* grad,
                                                   int grad_stride) {
  constexpr int kRows = S::kAccumulators / kVectors, kDepth = MlpArithmetic<S>::kDepth;
  int n = 0;
  const auto rows = [&](auto count) __attribute__((always_inline)) {
    weight_grad_block<S, kVectors, decltype(count)::value>(delta + n * kDepth, delta_stride, x, x_stride,
                                                           grad + n * grad_stride, grad_stride);
    n += decltype(count)::value;
  };
  while (n + kRows <= n_out) rows(std::integral_constant<int, kRows>{});
  // Few sums at a time would wait for one another.
  if constexpr (kRows > 8) {
    while (n + 8 <= n_out) rows(std::integral_constant<int, 8>{});
  }
  if constexpr (kRows > 4) {
    if (n + 4 <= n_out) rows(std::integral_constant<int, 4>{});
  }
  while (n + 2 <= n_out) rows(std::integral_constant<int, 2>{});
  if (n < n_out) rows(std::integral_constant<int, 1>{});
}

// grad [n_out, n_in padded] += delta^T x; x is readable up to its padded width. Both are side_by_side.
template <class S>
void weight_grad_tile(const MlpOperand<S>* delta, int delta_stride, int n_out, const MlpOperand<S>* x,
                      int x_stride, int n_in_padded, typename S::T* grad) {
  const int vectors = n_in_padded / S::kWidth;
  int v = 0;
  const auto columns = [&](auto count) {
    constexpr int kVectors = decltype(count)::value;
    const int k = v * S::kWidth;
    weight_grad_columns<S, kVectors>(delta, delta_stride, n_out, x + k * MlpArithmetic<S>::kDepth, x_stride,
                                     grad + k, n_in_padded);
    v += kVectors;
  };
  while (v + S::kVectors <= vectors) columns(std::integral_constant<int, S::kVectors>{});
  if constexpr (S::kVectors == 4) {
    if (vectors - v == 3) columns(std::integral_constant<int, 3>{});
    if (vectors - v == 2) columns(std::integral_constant<int, 2>{});
    if (vectors - v == 1) columns(std::integral_constant<int, 1>{});
  }
}

// The same on matrix-tile instructions, for the arithmetics that have them: mlp_matrix_tile.h.
template <class S, Finish kFinish>
void matrix_layer_tile(const LayerOf<S>& layer, const MlpOperand<S>* x, int x_stride, LayerOut<S, kFinish>* y,
                       int y_stride, int rows);

// y [rows, n_out] = finish(bias + x weights); vectors take kMlpTile rows.
template <class S, Finish kFinish>
void layer_tile(const LayerOf<S>& layer, const MlpOperand<S>* x, int x_stride, LayerOut<S, kFinish>* y,
                int y_stride, [[maybe_unused]] int rows = kMlpTile) {
  if constexpr (MlpArithmetic<S>::kMatrixTiles) {
    matrix_layer_tile<S, kFinish>(layer, x, x_stride, y, y_stride, rows);
  } else {
    vector_layer_tile<S, kFinish>(layer, x, x_stride, y, y_stride);
  }
}

// The vectors [column, column + kVectors) of bias_grad_tile. Runs of one condition are summed in registers.
template <class S, int kVectors>
void bias_grad_columns(const typename S::T* delta, int width, int column, const int32_t* index,
                       int32_t first_row, typename S::T* sums) {
  typename S::V sum[kVectors];
  const auto row_of = [&](int m) { return index ? index[m] - first_row : 0; };
  for (int m = 0; m < kMlpTile;) {
    const int32_t row = row_of(m);
    typename S::T* to = sums + static_cast<int64_t>(row) * width + column;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[v] = S::load(to + v * S::kWidth);
    for (; m < kMlpTile && row_of(m) == row; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sum[v] = S::add(sum[v], S::load(delta + m * width + column + v * S::kWidth));
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) S::store(to + v * S::kWidth, sum[v]);
  }
}

// sums[index[m] - first_row] += delta[m] (index null: all to the first row).
template <class S>
void bias_grad_tile(const typename S::T* delta, int width, const int32_t* index, int32_t first_row,
                    typename S::T* sums) {
  int column = 0;
  for (; column + S::kVectors * S::kWidth <= width; column += S::kVectors * S::kWidth) {
    bias_grad_columns<S, S::kVectors>(delta, width, column, index, first_row, sums);
  }
  for (; column < width; column += S::kWidth) {
    bias_grad_columns<S, 1>(delta, width, column, index, first_row, sums);
  }
}

}  // namespace
}  // namespace nerfad
