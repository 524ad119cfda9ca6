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

// The products of 16 rows at a time with kColumns tiles of 16 outputs. The layer is kDepth tiles deep, or
// deeper than two: zero. Its weights then pass through registers again and again; else they stay.
//
// Measured on a Xeon with AMX: loads and stores of tiles are microcode, which stops the instructions behind
// it for some ten cycles. So they are few, and one behind another; interleaved with vectors they cost more.
// Registers are renamed: a block's sums need not be stored before the next ones begin.
template <class S, int kColumns, int kDepth>
class LayerProduct {
  static_assert(S::kWidth == kTileRows);
  using Tiles = typename MlpArithmetic<S>::Tiles;
  enum { kSum = 0, kLeft = 2, kRight = 4 };  // the first of each kind of registers

 public:
  __attribute__((always_inline)) explicit LayerProduct(const LayerOf<S>& layer)
      : all_weights_(layer.weights),
        weight_stride_(sizeof(MlpOperand<S>) * 2 * layer.stride()),
        depth_((layer.n_in + kTileOperands - 1) / kTileOperands) {}

  // Which outputs.
  __attribute__((always_inline)) void set_column(int column) {
    weights_ = all_weights_ + 2 * column;
    if constexpr (kDepth >= 1) load_weights<kRight>(0);
    if constexpr (kDepth == 2) load_weights<kRight + 2>(1);
  }
  // Which rows are multiplied next.
  __attribute__((always_inline)) void load(const MlpOperand<S>* x, int64_t x_bytes) {
    x_ = x, x_bytes_ = x_bytes;
    if constexpr (kDepth >= 1) Tiles::template load<kLeft>(x, x_bytes);
    if constexpr (kDepth == 2) Tiles::template load<kLeft + 1>(x + kTileOperands, x_bytes);
  }
  // Sums begin with `bias`, if it is not null.
  __attribute__((always_inline)) void multiply(const float* bias) const {
    begin<kSum>(bias);
    if constexpr (kColumns == 2) begin<kSum + 1>(bias ? bias + kTileRows : nullptr);
    if constexpr (kDepth >= 1) add<kLeft, kRight>();
    if constexpr (kDepth == 2) add<kLeft + 1, kRight + 2>();
    for (int k = 0; kDepth == 0 && k < depth_; ++k) {
      Tiles::template load<kLeft>(x_ + k * kTileOperands, x_bytes_);
      load_weights<kRight>(k);
      add<kLeft, kRight>();
    }
  }
  __attribute__((always_inline)) void store(float* to, int64_t row_bytes) const {
    Tiles::template store<kSum>(to, row_bytes);
    if constexpr (kColumns == 2) Tiles::template store<kSum + 1>(to + kTileRows, row_bytes);
  }

 private:
  template <int kTo>
  __attribute__((always_inline)) void begin(const float* bias) const {
    if (bias) {
      Tiles::template load<kTo>(bias, 0);  // the same in each row
    } else {
      Tiles::template zero<kTo>();
    }
  }
  template <int kTo>
  __attribute__((always_inline)) void load_weights(int k) const {
    const MlpOperand<S>* from =
        weights_ + k * kTileRows * (weight_stride_ / static_cast<int64_t>(sizeof(MlpOperand<S>)));
    Tiles::template load<kTo>(from, weight_stride_);
    if constexpr (kColumns == 2) Tiles::template load<kTo + 1>(from + 2 * kTileRows, weight_stride_);
  }
  template <int kA, int kB>
  __attribute__((always_inline)) void add() const {
    Tiles::template multiply_add<kSum, kA, kB>();
    if constexpr (kColumns == 2) Tiles::template multiply_add<kSum + 1, kA, kB + 1>();
  }

  const MlpOperand<S>*all_weights_, *weights_ = nullptr, *x_ = nullptr;
  int64_t weight_stride_, x_bytes_ = 0;
  int depth_;
};

// Where a block of a layer's outputs lies: 16 rows of kColumns tiles.
struct BlockAt {
  int row, column;
};

// use(at, sums) for each block of columns [column, end), with its sums [16, 32] (the second half undefined if
// kColumns is 1), which begin with `bias`, if it is not null. While a block is multiplied, the one before is
// stored and the one before that used.
template <class S, int kColumns, int kDepth, class Use>
__attribute__((always_inline)) inline void for_each_block(const LayerOf<S>& layer, const float* const bias,
                                                          int column, int end, const int rows,
                                                          const MlpOperand<S>* const x, const int x_stride,
                                                          const Use& use) {
  alignas(64) float sums[2][2 * kTileSums];
  LayerProduct<S, kColumns, kDepth> product(layer);
  const int64_t x_bytes = sizeof(MlpOperand<S>) * x_stride;
  const int n_blocks = rows / kTileRows * ((end - column) / (kColumns * kTileRows));
  BlockAt next{0, column}, last[2] = {};
  const auto step = [&](int i, auto set) __attribute__((always_inline)) {
    constexpr int kSet = decltype(set)::value;
    const BlockAt used = last[kSet];
    if (i < n_blocks) {
      if (next.row == 0) product.set_column(next.column);
      product.load(x + static_cast<int64_t>(next.row) * x_stride, x_bytes);
    }
    if (i >= 1 && i <= n_blocks) product.store(sums[1 - kSet], 2 * kTileRowBytes);
    if (i < n_blocks) {
      product.multiply(bias ? bias + next.column : nullptr);
      last[kSet] = next;
      next.row += kTileRows;
      if (next.row == rows) next = {0, next.column + kColumns * kTileRows};
    }
    if (i >= 2) use(used, sums[kSet]);
  };
  for (int i = 0; i < n_blocks + 2; i += 2) {
    step(i, std::integral_constant<int, 0>{});
    if (i + 1 < n_blocks + 2) step(i + 1, std::integral_constant<int, 1>{});
  }
}

// run.columns<kColumns, kDepth>(first, end) for all tiles of n_out columns, in pairs while there are two.
template <class Run>
void for_each_column(int n_out, int n_in, const Run& run) {
  const auto with_depth = [&](auto columns, int first, int end) {
    constexpr int kColumns = decltype(columns)::value;
    if (first == end) return;
    if (n_in <= kTileOperands) {
      run.template columns<kColumns, 1>(first, end);
    } else if (n_in <= 2 * kTileOperands) {
      run.template columns<kColumns, 2>(first, end);
    } else {
      run.template columns<kColumns, 0>(first, end);
    }
  };
  const int n_tiles = (n_out + kTileRows - 1) / kTileRows, pairs_end = n_tiles / 2 * 2 * kTileRows;
  with_depth(std::integral_constant<int, 2>{}, 0, pairs_end);
  with_depth(std::integral_constant<int, 1>{}, pairs_end, n_tiles * kTileRows);
}

template <class S, int kColumns>
__attribute__((always_inline)) inline typename S::V second_column(const float* sums) {
  return kColumns == 2 ? S::load(sums + kTileRows) : S::zero();
}

// y = finish(x weights + bias): operands of the next layer, which need a bias, or sums as they are.
template <class S, Finish kFinish>
struct MatrixLayer {
  static_assert(kFinish == Finish::kRelu);
  const LayerOf<S>& layer;
  const MlpOperand<S>* x;
  int x_stride, rows;
  MlpOperand<S>* y;
  int y_stride;

  template <int kColumns, int kDepth>
  __attribute__((noinline)) void columns(int first, int end) const {
    if (layer.bias_index) {
      finish<kColumns, kDepth, true>(first, end);
    } else {
      finish<kColumns, kDepth, false>(first, end);
    }
  }

 private:
  template <int kColumns, int kDepth, bool kIndexed>
  __attribute__((always_inline)) void finish(int first, int end) const {
    using A = MlpArithmetic<S>;
    MlpOperand<S>* const start = y;
    const int64_t stride = y_stride, bias_stride = layer.stride();
    const float* const biases = layer.bias;
    const int32_t* const index = layer.bias_index;
    const auto use = [=](const BlockAt& at, const float* sums) __attribute__((always_inline)) {
      MlpOperand<S>* to = start + at.row * stride + at.column;
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r) {
        auto low = S::load(sums + 2 * kTileRows * r);
        auto high = second_column<S, kColumns>(sums + 2 * kTileRows * r);
        if constexpr (kIndexed) {
          const float* bias = biases + index[at.row + r] * bias_stride + at.column;
          low = S::add(low, S::load(bias));
          if constexpr (kColumns == 2) high = S::add(high, S::load(bias + kTileRows));
        }
        A::store_row(to + r * stride, A::round_row(S::relu(low), S::relu(high)));
      }
    };
    for_each_block<S, kColumns, kDepth>(layer, kIndexed ? nullptr : biases, first, end, rows, x, x_stride,
                                        use);
  }
};

template <class S>
struct MatrixLayer<S, Finish::kNone> {
  const LayerOf<S>& layer;  // without bias_index
  const MlpOperand<S>* x;
  int x_stride, rows;
  float* y;
  int y_stride;

  template <int kColumns, int kDepth>
  __attribute__((noinline)) void columns(int first, int end) const {
    LayerProduct<S, kColumns, kDepth> product(layer);
    const int64_t x_bytes = sizeof(MlpOperand<S>) * x_stride, y_bytes = sizeof(float) * y_stride;
    for (int column = first; column < end; column += kColumns * kTileRows) {
      product.set_column(column);
      const float* const bias = layer.bias ? layer.bias + column : nullptr;
      for (int row = 0; row < rows + kTileRows; row += kTileRows) {
        if (row < rows) product.load(x + static_cast<int64_t>(row) * x_stride, x_bytes);
        if (row > 0) product.store(y + static_cast<int64_t>(row - kTileRows) * y_stride + column, y_bytes);
        if (row < rows) product.multiply(bias);
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
