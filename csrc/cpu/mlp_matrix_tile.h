// Layers on matrix-tile instructions (AMX, TDPBF16PS): 16 x 16 sums of products of bfloat16 pairs, on the
// same memory layouts as the vector code of mlp_tile.h. `Tiles` is the register file: the processor's in
// conditioned_mlp.amx.cpp, an emulation in tests/cpp/matrix_tile_test.cpp. The code has run over the
// emulation only: no AMX hardware was at hand.
#pragma once
#include "mlp_tile.h"

namespace nerfad {
namespace {

constexpr int kTileRows = 16;       // of a full tile register
constexpr int kTileRowBytes = 64;   // 16 sums, or 16 pairs of operands
constexpr int kTilePairs = 16;      // pairs that a layer multiplies at once
constexpr int kGradTilePairs = 12;  // pairs of samples that a weight gradient multiplies at once
constexpr int kSamplePairs = kMlpTile / 2;
static_assert(kMlpTile == 3 * kTileRows && kSamplePairs % kGradTilePairs == 0);

// Tile registers and their shapes. The operands of weight gradients have their own: a tile of samples is not
// whole registers deep.
enum TileRegister { kSum0, kSum1, kSum2, kLeft, kRight, kGradLeft, kGradRight, kTileRegisters };
struct TileShape {
  uint8_t rows, row_bytes;
};
constexpr TileShape kTileShapes[kTileRegisters] = {
    {kTileRows, kTileRowBytes},      {kTileRows, kTileRowBytes},  {kTileRows, kTileRowBytes},
    {kTileRows, kTileRowBytes},      {kTilePairs, kTileRowBytes}, {kTileRows, 4 * kGradTilePairs},
    {kGradTilePairs, kTileRowBytes},
};

// Arithmetic of Pairs (bfloat16 in pairs) with the products on Tiles.
template <class Pairs, class TileFile>
struct MatrixTiles : Pairs {};

template <class Pairs, class TileFile>
struct MlpArithmetic<MatrixTiles<Pairs, TileFile>> : MlpArithmetic<Pairs> {
  static constexpr bool kMatrixTiles = true;
  using Tiles = TileFile;
  using Scope = typename Tiles::Scope;
};

// y = finish(bias + sums) for 16 columns of a layer; sums is [kMlpTile, 16].
template <class S, Finish kFinish>
void finish_columns(const LayerOf<S>& layer, int column, const float* sums, LayerOut<S, kFinish>* y,
                    int y_stride) {
  using A = MlpArithmetic<S>;
  const int mask_stride = operand_padded<MlpOperand<S>>(layer.n_out);
  for (int m = 0; m < kMlpTile; ++m) {
    const int64_t bias_row = layer.bias_index ? layer.bias_index[m] : 0;
    for (int n = 0; n < kTileRows; n += S::kWidth) {
      const int at = column + n;
      auto value = S::load(sums + m * kTileRows + n);
      if (layer.bias) value = S::add(value, S::load(layer.bias + bias_row * layer.stride() + at));
      LayerOut<S, kFinish>* to = y + static_cast<int64_t>(m) * y_stride + at;
      if constexpr (kFinish == Finish::kRelu) {
        A::store(to, S::relu(value));
      } else if constexpr (kFinish == Finish::kWherePositive) {
        S::store(to, A::keep_where_positive(value, layer.mask + m * mask_stride + at));
      } else {
        S::store(to, value);
      }
    }
  }
}

template <class S, Finish kFinish>
void matrix_layer_tile(const LayerOf<S>& layer, const MlpOperand<S>* x, int x_stride, LayerOut<S, kFinish>* y,
                       int y_stride) {
  using Tiles = typename MlpArithmetic<S>::Tiles;
  constexpr int kOperandBytes = sizeof(MlpOperand<S>), kSumBytes = sizeof(float) * kTileRows;
  alignas(64) float sums[kMlpTile * kTileRows];
  const MlpOperand<S>*x1 = x + kTileRows * x_stride, *x2 = x1 + kTileRows * x_stride;
  const int x_bytes = kOperandBytes * x_stride, w_bytes = kOperandBytes * 2 * layer.stride();
  for (int column = 0; column < layer.n_out; column += kTileRows) {
    Tiles::template zero<kSum0>();
    Tiles::template zero<kSum1>();
    Tiles::template zero<kSum2>();
    for (int k = 0; k < layer.n_in; k += 2 * kTilePairs) {
      Tiles::template load<kRight>(layer.weights + static_cast<int64_t>(k) * layer.stride() + 2 * column,
                                   w_bytes);
      Tiles::template load<kLeft>(x + k, x_bytes);
      Tiles::template multiply_add<kSum0, kLeft, kRight>();
      Tiles::template load<kLeft>(x1 + k, x_bytes);
      Tiles::template multiply_add<kSum1, kLeft, kRight>();
      Tiles::template load<kLeft>(x2 + k, x_bytes);
      Tiles::template multiply_add<kSum2, kLeft, kRight>();
    }
    Tiles::template store<kSum0>(sums, kSumBytes);
    Tiles::template store<kSum1>(sums + kTileRows * kTileRows, kSumBytes);
    Tiles::template store<kSum2>(sums + 2 * kTileRows * kTileRows, kSumBytes);
    finish_columns<S, kFinish>(layer, column, sums, y, y_stride);
  }
  if constexpr (kFinish == Finish::kRelu) {  // the next layer reads whole registers
    for (int n = layer.stride(); n < operand_padded<MlpOperand<S>>(layer.n_out); ++n) {
      for (int m = 0; m < kMlpTile; ++m) y[static_cast<int64_t>(m) * y_stride + n] = {0};
    }
  }
}

// to[n][m] = from[m][n]: 16 columns of pairs of samples.
template <class Operand>
void transpose_pairs(const Operand* from, int stride, Operand* to) {
  for (int n = 0; n < kTileRows; ++n) {
    for (int m = 0; m < kSamplePairs; ++m) {
      std::memcpy(to + 2 * (n * kSamplePairs + m), from + static_cast<int64_t>(m) * stride + 2 * n,
                  2 * sizeof(Operand));
    }
  }
}

// grad += delta^T x for 16 outputs, whose transposed delta is `left` [16, kSamplePairs], and 16 inputs.
template <class S>
void matrix_weight_grad_block(const MlpOperand<S>* left, const MlpOperand<S>* x, int x_stride, float* grad,
                              int grad_bytes) {
  using Tiles = typename MlpArithmetic<S>::Tiles;
  constexpr int kOperandBytes = sizeof(MlpOperand<S>);
  Tiles::template load<kSum0>(grad, grad_bytes);
  for (int m = 0; m < kSamplePairs; m += kGradTilePairs) {
    Tiles::template load<kGradLeft>(left + 2 * m, kOperandBytes * 2 * kSamplePairs);
    Tiles::template load<kGradRight>(x + static_cast<int64_t>(m) * x_stride, kOperandBytes * x_stride);
    Tiles::template multiply_add<kSum0, kGradLeft, kGradRight>();
  }
  Tiles::template store<kSum0>(grad, grad_bytes);
}

template <class S>
void matrix_weight_grad_tile(const MlpOperand<S>* delta, int delta_stride, int n_out, const MlpOperand<S>* x,
                             int x_stride, int n_in_padded, float* grad) {
  alignas(64) MlpOperand<S> left[kTileRows * 2 * kSamplePairs];
  alignas(64) float few[kTileRows * kTileRows] = {};
  for (int n = 0; n < n_out; n += kTileRows) {
    transpose_pairs(delta + 2 * n, delta_stride, left);
    const int rows = n_out - n < kTileRows ? n_out - n : kTileRows;
    for (int k = 0; k < n_in_padded; k += kTileRows) {
      float* to = grad + static_cast<int64_t>(n) * n_in_padded + k;
      if (rows == kTileRows) {
        matrix_weight_grad_block<S>(left, x + 2 * k, x_stride, to, sizeof(float) * n_in_padded);
        continue;
      }
      const size_t row_bytes = sizeof(float) * kTileRows;
      for (int r = 0; r < rows; ++r) std::memcpy(few + r * kTileRows, to + r * n_in_padded, row_bytes);
      matrix_weight_grad_block<S>(left, x + 2 * k, x_stride, few, row_bytes);
      for (int r = 0; r < rows; ++r) std::memcpy(to + r * n_in_padded, few + r * kTileRows, row_bytes);
    }
  }
}

}  // namespace
}  // namespace nerfad
