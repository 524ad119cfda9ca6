// Gradients on matrix-tile instructions: see mlp_matrix_tile.h. The deltas of a layer, dL/dz, are rounded to
// rows of operands as soon as they are known: these rows are multiplied for the deltas of the layer below
// and, transposed, for the weights' gradient. Their sums for the biases are taken before they are rounded.
#pragma once
#include "conditioned_mlp_tiles.h"
#include "mlp_matrix_tile.h"

namespace nerfad {
namespace {

// Where the deltas of samples add up to the gradients of a layer's biases.
struct BiasSums {
  float* to;             // [padded width], or rows of it
  const int32_t* index;  // [rows] the sample's row, or null if all use the first
  int32_t first_row;     // what the index of the first row is

  int32_t row_of(int m) const { return index ? index[m] - first_row : 0; }
};

// Adds up two vectors of columns of one sample after the other; runs of one row of sums stay in registers.
template <class S>
class RunningBiasSums {
 public:
  using V = typename S::V;
  __attribute__((always_inline)) RunningBiasSums(const BiasSums& sums, int width, int column, bool both,
                                                 int first)
      : sums_(sums), width_(width), column_(column), both_(both) {
    open(sums.row_of(first));
  }
  __attribute__((always_inline)) ~RunningBiasSums() { close(); }
  // To the row of sample m.
  __attribute__((always_inline)) void move_to(int m) {
    if (!sums_.index) return;
    const int32_t row = sums_.row_of(m);
    if (row == row_) return;
    close();
    open(row);
  }
  V low, high;

 private:
  float* here() const { return sums_.to + static_cast<int64_t>(row_) * width_ + column_; }
  __attribute__((always_inline)) void open(int32_t row) {
    row_ = row;
    low = S::load(here());
    high = both_ ? S::load(here() + S::kWidth) : S::zero();
  }
  __attribute__((always_inline)) void close() const {
    S::store(here(), low);
    if (both_) S::store(here() + S::kWidth, high);
  }

  const BiasSums sums_;
  int width_, column_;
  bool both_;
  int32_t row_;
};

// The deltas of the last layer, [rows, stride], as operands.
template <class S>
void round_deltas(const float* delta, int stride, int rows, const BiasSums& sums, MlpOperand<S>* to) {
  using A = MlpArithmetic<S>;
  const int to_stride = operand_padded<MlpOperand<S>>(stride);
  for (int column = 0; column < stride; column += kTileOperands) {
    const bool both = column + S::kWidth < stride;
    RunningBiasSums<S> running(sums, stride, column, both, 0);
    for (int m = 0; m < rows; ++m) {
      const float* from = delta + static_cast<int64_t>(m) * stride + column;
      const auto low = S::load(from), high = both ? S::load(from + S::kWidth) : S::zero();
      running.move_to(m);
      running.low = S::add(running.low, low), running.high = S::add(running.high, high);
      A::store_row(to + static_cast<int64_t>(m) * to_stride + column, A::round_row(low, high));
    }
  }
}

// The deltas of the layer below one with the weights of `layer`, as operands: zero where that layer's output
// is not positive. They take its place.
template <class S>
struct MatrixDelta {
  const LayerOf<S>& layer;
  const MlpOperand<S>* delta;
  int stride, rows;
  BiasSums sums;
  MlpOperand<S>* output;

  template <int kColumns, int kDepth>
  __attribute__((noinline)) void columns(int first, int end) const {
    using A = MlpArithmetic<S>;
    const int64_t row_stride = operand_padded<MlpOperand<S>>(layer.n_out);
    MlpOperand<S>* const start = output;
    const BiasSums bias_sums = sums;
    const int sums_width = layer.stride();
    const auto use = [=](const BlockAt& at, const float* block) __attribute__((always_inline)) {
      RunningBiasSums<S> running(bias_sums, sums_width, at.column, kColumns == 2, at.row);
      MlpOperand<S>* const first_row = start + at.row * row_stride + at.column;
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r) {
        MlpOperand<S>* const row = first_row + r * row_stride;
        const auto mask = A::positive(A::load_row(row));
        const auto low = S::load(block + 2 * kTileRows * r);
        const auto high = second_column<S, kColumns>(block + 2 * kTileRows * r);
        running.move_to(at.row + r);
        running.low = A::add_low(mask, running.low, low);
        running.high = A::add_high(mask, running.high, high);
        A::store_row(row, A::round_row_where(mask, low, high));
      }
    };
    for_each_block<S, kColumns, kDepth>(layer, nullptr, first, end, rows, delta, stride, use);
  }
};

// Two tiles of 16 columns of `from` [rows, stride], transposed: [2][rows / 32][16][32]. Rows of a tile
// register are columns of `from`, with 32 samples in each.
template <class S>
void transpose_rows(const MlpOperand<S>* from, int64_t stride, int rows, MlpOperand<S>* to) {
  using A = MlpArithmetic<S>;
  constexpr int kTileSize = kTileRows * kTileOperands;
  for (int m = 0; m < rows; m += kTileOperands, from += kTileOperands * stride, to += kTileSize) {
#pragma GCC unroll 4
    for (int column = 0; column < 2 * kTileRows; column += 8) {
      typename A::Row columns[8];
      A::load_columns(from + column, stride, columns);
      MlpOperand<S>* here = to + column / kTileRows * kTileRows * rows + column % kTileRows * kTileOperands;
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) A::store_row(here + i * kTileOperands, columns[i]);
    }
  }
}

// from [rows, stride] -> to[stride / 16][rows / 32]: 16 pairs of samples x 16 columns of each.
template <class S>
void pair_rows(const MlpOperand<S>* from, int stride, int rows, int width, MlpOperand<S>* to) {
  using A = MlpArithmetic<S>;
  for (int column = 0; column < width; column += kTileOperands) {
    MlpOperand<S>* here = to + static_cast<int64_t>(column) * rows;
    MlpOperand<S>* next = here + static_cast<int64_t>(kTileRows) * rows;
    const MlpOperand<S>* row = from + column;
    for (int m = 0; m < rows; m += 2, row += 2 * stride) {
      const auto even = A::load_row(row), odd = A::load_row(row + stride);
      const auto low = A::pairs_low(even, odd), high = A::pairs_high(even, odd);
      A::store_row(here + m * kTileRows, A::first_pairs(low, high));
      if (column + kTileRows < width) A::store_row(next + m * kTileRows, A::last_pairs(low, high));
    }
  }
}

// grad += delta^T x for kOut tiles of 16 outputs and kIn tiles of 16 inputs.
template <class S, int kOut, int kIn>
__attribute__((noinline)) void matrix_weight_grad(const MlpOperand<S>* delta, const MlpOperand<S>* x,
                                                  int rows, float* grad, int n_in) {
  using Tiles = typename MlpArithmetic<S>::Tiles;
  enum { kSum = 0, kLeft = 4, kRight = 6 };  // the first of the registers for sums, deltas and inputs
  const int64_t row_bytes = sizeof(float) * n_in, next = static_cast<int64_t>(kTileRows) * rows;
  float* below = grad + static_cast<int64_t>(kTileRows) * n_in;
  Tiles::template load<kSum>(grad, row_bytes);
  if constexpr (kIn == 2) Tiles::template load<kSum + 1>(grad + kTileRows, row_bytes);
  if constexpr (kOut == 2) Tiles::template load<kSum + 2>(below, row_bytes);
  if constexpr (kOut == 2 && kIn == 2) Tiles::template load<kSum + 3>(below + kTileRows, row_bytes);
  for (int m = 0; m < rows; m += kTileOperands) {
    Tiles::template load<kLeft>(delta + m * kTileRows, kTileRowBytes);
    Tiles::template load<kRight>(x + m * kTileRows, kTileRowBytes);
    Tiles::template multiply_add<kSum, kLeft, kRight>();
    if constexpr (kIn == 2) {
      Tiles::template load<kRight + 1>(x + next + m * kTileRows, kTileRowBytes);
      Tiles::template multiply_add<kSum + 1, kLeft, kRight + 1>();
    }
    if constexpr (kOut == 2) {
      Tiles::template load<kLeft + 1>(delta + next + m * kTileRows, kTileRowBytes);
      Tiles::template multiply_add<kSum + 2, kLeft + 1, kRight>();
    }
    if constexpr (kOut == 2 && kIn == 2) Tiles::template multiply_add<kSum + 3, kLeft + 1, kRight + 1>();
  }
  Tiles::template store<kSum>(grad, row_bytes);
  if constexpr (kIn == 2) Tiles::template store<kSum + 1>(grad + kTileRows, row_bytes);
  if constexpr (kOut == 2) Tiles::template store<kSum + 2>(below, row_bytes);
  if constexpr (kOut == 2 && kIn == 2) Tiles::template store<kSum + 3>(below + kTileRows, row_bytes);
}

// grad [n_out, n_in] += delta^T x, with x from pair_rows; both widths are whole tiles. `columns` is memory
// for two tiles of 16 columns of deltas.
template <class S>
void matrix_weight_grads(const MlpOperand<S>* delta, int stride, int n_out, const MlpOperand<S>* x, int n_in,
                         int rows, float* grad, MlpOperand<S>* columns) {
  for (int n = 0; n < n_out; n += 2 * kTileRows) {
    transpose_rows<S>(delta + n, stride, rows, columns);
    for (int k = 0; k < n_in; k += 2 * kTileRows) {
      const bool two_out = n + kTileRows < n_out, two_in = k + kTileRows < n_in;
      const auto run = two_out ? (two_in ? matrix_weight_grad<S, 2, 2> : matrix_weight_grad<S, 2, 1>)
                               : (two_in ? matrix_weight_grad<S, 1, 2> : matrix_weight_grad<S, 1, 1>);
      run(columns, x + static_cast<int64_t>(k) * rows, rows, grad + static_cast<int64_t>(n) * n_in + k, n_in);
    }
  }
}

template <class S>
void matrix_backward_tile(const NetGradTask<float, MlpOperand<S>>& net, const MlpOperands<S>& x,
                          MlpOperand<S>* const* hidden, const int32_t* conditions, const float* last_delta,
                          const MlpDeltaBuffers<float, MlpOperand<S>>& b, const InputGrad<float>& grad_x,
                          int rows) {
  using Operand = MlpOperand<S>;
  const MlpShape& s = net.sums.shape;
  const auto bias_sums = [&](int l) {
    return l > 0 ? BiasSums{net.sums.data + net.sums.biases_at(l), nullptr, 0}
                 : BiasSums{net.folded, conditions, net.first_row};
  };
  round_deltas<S>(last_delta, mlp_padded(s.d_out), rows, bias_sums(s.n_hidden), b.rows);
  const Operand* delta = b.rows;
  for (int l = s.n_hidden; l >= 0; --l) {
    const int n_out = mlp_padded(s.out(l)), n_in = mlp_padded(s.in(l));
    const int stride = operand_padded<Operand>(n_out);
    const MlpOperands<S> input =
        l == 0 ? x : MlpOperands<S>{hidden[l - 1], operand_padded<Operand>(s.d_hidden)};
    pair_rows<S>(input.data, input.stride, rows, n_in, b.inputs);
    matrix_weight_grads<S>(delta, stride, n_out, b.inputs, n_in, rows, net.sums.data + net.sums.weights_at(l),
                           b.columns);
    const LayerOf<S> layer{net.weights.weights(l), nullptr, nullptr, nullptr, s.out(l), n_in};
    if (l > 0) {
      for_each_column(n_in, s.out(l),
                      MatrixDelta<S>{layer, delta, stride, rows, bias_sums(l - 1), hidden[l - 1]});
      delta = hidden[l - 1];
    } else if (grad_x.to) {
      matrix_layer_tile<S, Finish::kNone>(layer, delta, stride, grad_x.to, grad_x.stride, rows);
    }
  }
}

}  // namespace
}  // namespace nerfad
