// Layers on matrix-tile instructions (AMX, TDPBF16PS): 16 x 16 sums of products of bfloat16 pairs, on the
// same memory layouts as the vector code of mlp_tile.h. `Tiles` is the register file: the processor's in
// conditioned_mlp.amx.cpp, an emulation in tests/cpp/matrix_tile_test.cpp, which runs over both.
#pragma once
#include "mlp_tile.h"

namespace nerfad {
namespace {

constexpr int kTileRows = 16;                     // of a tile register
constexpr int kTileRowBytes = 64;                 // 16 sums, or 16 pairs of operands
constexpr int kTileOperands = 32;                 // in a row
constexpr int kTileSums = kTileRows * kTileRows;  // in a register
constexpr int kTileRegisters = 8;

// Arithmetic of Pairs (bfloat16 in pairs) with the products on Tiles.
template <class Pairs, class TileFile>
struct MatrixTiles : Pairs {};

template <class Pairs, class TileFile>
struct MlpArithmetic<MatrixTiles<Pairs, TileFile>> : MlpArithmetic<Pairs> {
  static constexpr bool kMatrixTiles = true;
  static constexpr int kTile = kLargestTile<BFloat16>;
  static constexpr int kRowStep = kTileOperands;  // a weight gradient multiplies so many samples at once
  using Tiles = TileFile;
  using Scope = typename Tiles::Scope;
};

// The product of a layer's operands with kColumns tiles of 16 outputs. All weights stay in registers if the
// layer is kDepth tiles deep; zero: deeper than two.
template <class S, int kColumns, int kDepth>
class LayerProduct {
  static_assert(S::kWidth == kTileRows);
  using Tiles = typename MlpArithmetic<S>::Tiles;
  enum { kSum = 0, kLeft = 2, kRight = 4 };  // the first of the registers for sums, inputs and weights

 public:
  // Sums begin with the bias of the 16 outputs, if there is one.
  LayerProduct(const LayerOf<S>& layer, int column, const float* bias)
      : weights_(layer.weights + 2 * column),
        bias_(bias),
        weight_stride_(sizeof(MlpOperand<S>) * 2 * layer.stride()),
        depth_((layer.n_in + kTileOperands - 1) / kTileOperands) {
    if constexpr (kDepth >= 1) load_weights<kRight>(0);
    if constexpr (kDepth == 2) load_weights<kRight + 2>(1);
  }

  // The sums of 16 rows of x into registers.
  __attribute__((always_inline)) void multiply(const MlpOperand<S>* x, int64_t x_bytes) const {
    begin<kSum>(0);
    if constexpr (kColumns == 2) begin<kSum + 1>(kTileRows);
    if constexpr (kDepth >= 1) {
      Tiles::template load<kLeft>(x, x_bytes);
      if constexpr (kDepth == 2) Tiles::template load<kLeft + 1>(x + kTileOperands, x_bytes);
      add<kLeft, kRight>();
      if constexpr (kDepth == 2) add<kLeft + 1, kRight + 2>();
    } else {
      for (int k = 0; k < depth_; ++k) {
        Tiles::template load<kLeft>(x + k * kTileOperands, x_bytes);
        load_weights<kRight>(k);
        add<kLeft, kRight>();
      }
    }
  }
  __attribute__((always_inline)) void store(float* to, int64_t row_bytes, int64_t next_column) const {
    Tiles::template store<kSum>(to, row_bytes);
    if constexpr (kColumns == 2) Tiles::template store<kSum + 1>(to + next_column, row_bytes);
  }

 private:
  template <int kTo>
  void begin(int column) const {
    if (bias_) {
      Tiles::template load<kTo>(bias_ + column, 0);  // the same in each row
    } else {
      Tiles::template zero<kTo>();
    }
  }
  template <int kTo>
  void load_weights(int k) const {
    const MlpOperand<S>* from = weights_ + k * kTileRows * (weight_stride_ / sizeof(MlpOperand<S>));
    Tiles::template load<kTo>(from, weight_stride_);
    if constexpr (kColumns == 2) Tiles::template load<kTo + 1>(from + 2 * kTileRows, weight_stride_);
  }
  template <int kA, int kB>
  void add() const {
    Tiles::template multiply_add<kSum, kA, kB>();
    if constexpr (kColumns == 2) Tiles::template multiply_add<kSum + 1, kA, kB + 1>();
  }

  const MlpOperand<S>* weights_;
  const float* bias_;
  int64_t weight_stride_;
  int depth_;
};

// use(row, sums) for each 16 rows of x, with their sums [16, 32] (the second half undefined if kColumns is
// 1): vector instructions on one block, while the products of the next are under way.
template <class S, int kColumns, int kDepth, class Use>
__attribute__((always_inline)) inline void for_each_block(const LayerProduct<S, kColumns, kDepth>& product,
                                                          int rows, const MlpOperand<S>* x, int x_stride,
                                                          const Use& use) {
  alignas(64) float sums[2][2 * kTileSums];
  const int64_t x_bytes = sizeof(MlpOperand<S>) * x_stride;
  for (int row = 0; row < rows; row += kTileRows) {
    product.multiply(x + static_cast<int64_t>(row) * x_stride, x_bytes);
    if (row > 0) use(row - kTileRows, sums[(row / kTileRows - 1) % 2]);
    product.store(sums[row / kTileRows % 2], 2 * kTileRowBytes, kTileRows);
  }
  use(rows - kTileRows, sums[(rows / kTileRows - 1) % 2]);
}

// run.columns<kColumns, kDepth>(column) for all tiles of n_out columns, in pairs while there are two.
template <class Run>
void for_each_column(int n_out, int n_in, const Run& run) {
  const auto with_depth = [&](auto columns, int column) {
    constexpr int kColumns = decltype(columns)::value;
    if (n_in <= kTileOperands) {
      run.template columns<kColumns, 1>(column);
    } else if (n_in <= 2 * kTileOperands) {
      run.template columns<kColumns, 2>(column);
    } else {
      run.template columns<kColumns, 0>(column);
    }
  };
  int column = 0;
  for (; column + kTileRows < n_out; column += 2 * kTileRows) {
    with_depth(std::integral_constant<int, 2>{}, column);
  }
  if (column < n_out) with_depth(std::integral_constant<int, 1>{}, column);
}

template <class S, int kColumns>
__attribute__((always_inline)) inline typename S::V second_column(const float* sums) {
  return kColumns == 2 ? S::load(sums + kTileRows) : S::zero();
}

// y = finish(bias + x weights): operands of the next layer, or sums as they are.
template <class S, Finish kFinish>
struct MatrixLayer {
  static_assert(kFinish != Finish::kWherePositive, "MatrixDelta does that");
  const LayerOf<S>& layer;
  const MlpOperand<S>* x;
  int x_stride, rows;
  LayerOut<S, kFinish>* y;
  int y_stride;

  template <int kColumns, int kDepth>
  __attribute__((noinline)) void columns(int column) const {
    using A = MlpArithmetic<S>;
    const bool varies = layer.bias_index;
    const LayerProduct<S, kColumns, kDepth> product(layer, column,
                                                    layer.bias && !varies ? layer.bias + column : nullptr);
    if constexpr (kFinish == Finish::kNone) {
      for (int row = 0; row < rows; row += kTileRows) {
        product.multiply(x + static_cast<int64_t>(row) * x_stride, sizeof(MlpOperand<S>) * x_stride);
        product.store(y + static_cast<int64_t>(row) * y_stride + column, sizeof(float) * y_stride, kTileRows);
      }
    } else {
      const auto finish = [&](const auto& value_of) __attribute__((always_inline)) {
        for_each_block(product, rows, x, x_stride,
                       [&](int row, const float* sums) __attribute__((always_inline)) {
                         MlpOperand<S>* to = y + static_cast<int64_t>(row) * y_stride + column;
#pragma GCC unroll 4
                         for (int r = 0; r < kTileRows; ++r, to += y_stride) {
                           const auto [low, high] = value_of(row + r, sums + 2 * kTileRows * r);
                           A::store_row(to, A::round_row(S::relu(low), S::relu(high)));
                         }
                       });
      };
      using V = typename S::V;
      struct Row {
        V low, high;
      };
      if (varies) {
        finish([&](int m, const float* sums) __attribute__((always_inline)) {
          const float* bias =
              layer.bias + static_cast<int64_t>(layer.bias_index[m]) * layer.stride() + column;
          return Row{
              S::add(S::load(sums), S::load(bias)),
              kColumns == 2 ? S::add(S::load(sums + kTileRows), S::load(bias + kTileRows)) : S::zero()};
        });
      } else {
        finish([&](int, const float* sums) __attribute__((always_inline)) {
          return Row{S::load(sums), second_column<S, kColumns>(sums)};
        });
      }
    }
  }
};

template <class S, Finish kFinish>
void matrix_layer_tile(const LayerOf<S>& layer, const MlpOperand<S>* x, int x_stride, LayerOut<S, kFinish>* y,
                       int y_stride, int rows) {
  for_each_column(layer.n_out, layer.n_in, MatrixLayer<S, kFinish>{layer, x, x_stride, rows, y, y_stride});
}

}  // namespace
}  // namespace nerfad
