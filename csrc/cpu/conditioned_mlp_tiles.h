// The conditioned MLP over ranges of tiles, for one instruction set. Included by each unit that has one.
#pragma once
#include <algorithm>

#include "conditioned_mlp_task.h"
#include "mlp_tile.h"

namespace nerfad {
namespace {

// What the first layer adds to its product, and how many of the weights' rows it uses.
template <class T>
struct FirstLayer {
  const T* bias;              // [padded d_hidden], or rows of it
  const int32_t* bias_index;  // [rows] row of each sample, or null
  int n_in;
};

// Runs all layers on a tile of operands (see tile_operands); layer l writes the operands hidden[l], and the
// last one writes `last` with stride `last_stride`, zero in its padding.
template <class S>
void mlp_forward_tile(const PackedMlp<typename S::T, MlpOperand<S>>& mlp,
                      const FirstLayer<typename S::T>& first, const MlpOperand<S>* x, int x_stride,
                      MlpOperand<S>* const* hidden, typename S::T* last, int last_stride,
                      int rows = kMlpTile) {
  const MlpShape& s = mlp.shape;
  const int width = operand_padded<MlpOperand<S>>(s.d_hidden);
  for (int l = 0; l < s.n_layers(); ++l) {
    LayerOf<S> layer{mlp.weights(l), mlp.bias(l), nullptr, nullptr, s.in(l), s.out(l)};
    if (l == 0) layer.bias = first.bias, layer.bias_index = first.bias_index, layer.n_in = first.n_in;
    if (l < s.n_hidden) {
      layer.n_out = mlp_padded(s.d_hidden);  // gradients read whole pads
      layer_tile<S, Finish::kRelu>(layer, x, x_stride, hidden[l], width, rows);
      x = hidden[l];
      x_stride = width;
    } else {
      layer_tile<S, Finish::kNone>(layer, x, x_stride, last, last_stride, rows);
    }
  }
}

// Where a tile's gradient of a network's input goes; layer 0's product writes [rows, padded d_in].
template <class T>
struct InputGrad {
  T* to;  // or null
  int stride;
};

template <class S>
void vector_backward_tile(const NetGradTask<typename S::T, MlpOperand<S>>& net, const MlpOperands<S>& x,
                          MlpOperand<S>* const* hidden, const int32_t* conditions, const typename S::T* delta,
                          const MlpDeltaBuffers<typename S::T, MlpOperand<S>>& b,
                          const InputGrad<typename S::T>& grad_x) {
  using T = typename S::T;
  const MlpShape& s = net.sums.shape;
  for (int l = s.n_hidden; l >= 0; --l) {
    const int out_stride = mlp_padded(s.out(l)), in_width = mlp_padded(s.in(l));
    const MlpOperands<S> input =
        l == 0 ? x : MlpOperands<S>{hidden[l - 1], operand_padded<MlpOperand<S>>(s.d_hidden)};
    const MlpOperands<S> delta_rows =
        tile_operands<S>(delta, out_stride, kMlpTile, out_stride, Padding::kWanted, b.rows);
    const MlpOperands<S> columns = side_by_side<S>(delta_rows, out_stride, b.columns);
    const MlpOperands<S> inputs = side_by_side<S>(input, in_width, b.inputs);
    weight_grad_tile<S>(columns.data, columns.stride, s.out(l), inputs.data, inputs.stride, in_width,
                        net.sums.data + net.sums.weights_at(l));
    const LayerOf<S> layer{net.weights.weights(l), nullptr, nullptr, input.data, s.out(l), in_width};
    if (l > 0) {
      bias_grad_tile<S>(delta, out_stride, nullptr, 0, net.sums.data + net.sums.biases_at(l));
      T* next = delta == b.delta[0] ? b.delta[1] : b.delta[0];
      layer_tile<S, Finish::kWherePositive>(layer, delta_rows.data, delta_rows.stride, next, in_width);
      delta = next;
    } else {
      bias_grad_tile<S>(delta, out_stride, conditions, net.first_row, net.folded);
      if (grad_x.to) {
        layer_tile<S, Finish::kNone>(layer, delta_rows.data, delta_rows.stride, grad_x.to, grad_x.stride);
      }
    }
  }
}

// The same on matrix-tile instructions, for the arithmetics that have them: mlp_matrix_grad.h.
template <class S>
void matrix_backward_tile(const NetGradTask<float, MlpOperand<S>>& net, const MlpOperands<S>& x,
                          MlpOperand<S>* const* hidden, const int32_t* conditions, const float* delta,
                          const MlpDeltaBuffers<float, MlpOperand<S>>& b, const InputGrad<float>& grad_x,
                          int rows);

// From delta = dL/dz of the last layer, [rows, padded d_out], and the layers' operands to the sums of
// gradients, which are added to, and to the input's gradient. `conditions` [rows] or null, as in the
// forward pass. Overwrites the buffers, of which delta may be one, and the hidden layers.
template <class S>
void mlp_backward_tile(const NetGradTask<typename S::T, MlpOperand<S>>& net, const MlpOperands<S>& x,
                       MlpOperand<S>* const* hidden, const int32_t* conditions, const typename S::T* delta,
                       const MlpDeltaBuffers<typename S::T, MlpOperand<S>>& b,
                       const InputGrad<typename S::T>& grad_x, [[maybe_unused]] int rows) {
  if constexpr (MlpArithmetic<S>::kMatrixTiles) {
    matrix_backward_tile<S>(net, x, hidden, conditions, delta, b, grad_x, rows);
  } else {
    vector_backward_tile<S>(net, x, hidden, conditions, delta, b, grad_x);
  }
}

// rows [n, width] of a matrix to or from rows of another stride.
template <class T>
void copy_rows(const T* from, int from_stride, T* to, int to_stride, int n, int width) {
  if (width == 3) {  // colours
    for (int m = 0; m < n; ++m, from += from_stride, to += to_stride) {
      const T red = from[0], green = from[1], blue = from[2];
      to[0] = red, to[1] = green, to[2] = blue;
    }
    return;
  }
  for (int m = 0; m < n; ++m) std::memmove(to + m * to_stride, from + m * from_stride, sizeof(T) * width);
}

// rows [n, width] of a dense matrix to a tile whose padding and whose rows behind n are zero.
template <class S>
void pad_rows(const typename S::T* from, int n, int width, int rows, typename S::T* to) {
  const int stride = mlp_padded(width);
  for (int m = 0; m < n; ++m, from += width) {
    for (int k = 0; k < stride; k += S::kWidth, to += S::kWidth) {
      if (k + S::kWidth <= width) {
        S::store(to, S::load(from + k));
      } else {
        S::store(to, k < width ? S::load_first(from + k, width - k) : S::zero());
      }
    }
  }
  std::fill(to, to + (rows - n) * stride, typename S::T(0));
}

// The condition of each sample of a tile; where it is cut short, its first one goes on. Null if there is
// none.
template <class T>
const int32_t* tile_conditions(const ConditionedMlpFwd<T>& p, int64_t first, int n, int rows, int32_t* cut) {
  if (!p.cond_index) return nullptr;
  if (n == rows) return p.cond_index + first;
  std::copy(p.cond_index + first, p.cond_index + first + n, cut);
  std::fill(cut + n, cut + rows, p.cond_index[first]);
  return cut;
}

template <class S>
void mlp_forward_task(const MlpForwardTask<typename S::T, MlpOperand<S>>& task) {
  using T = typename S::T;
  using A = MlpArithmetic<S>;
  [[maybe_unused]] const typename A::Scope scope;
  const ConditionedMlpFwd<T>& p = *task.fwd;
  const MlpShape& s = p.shape;
  const MlpForwardBuffers<T, MlpOperand<S>> b(s, task.scratch);
  const int x_stride = static_cast<int>(p.x_stride);
  int32_t cut[A::kTile];
  for (int64_t first = task.begin; first < task.end; first += A::kTile) {
    const int n = static_cast<int>(std::min<int64_t>(A::kTile, task.end - first)), rows = tile_rows<S>(n);
    const MlpOperands<S> x =
        tile_operands<S>(p.x + first * p.x_stride, x_stride, n, s.d_in, Padding::kUnread, b.x, rows);
    T* out = p.out + first * s.d_out;
    const bool in_place = n == rows && s.d_out % kMlpPad == 0;
    const int out_stride = mlp_padded(s.d_out);
    mlp_forward_tile<S>(task.mlp, {task.mlp.folded(), tile_conditions(p, first, n, rows, cut), s.d_in},
                        x.data, x.stride, b.hidden, in_place ? out : b.out, out_stride, rows);
    if (!in_place) copy_rows(b.out, out_stride, out, s.d_out, n, s.d_out);
    if (s.sigmoid) sigmoid_in_place<S>(out, static_cast<int64_t>(n) * s.d_out);
  }
}

// dL/dz of the last layer of a tile, zero where it is cut short, from its output, which is overwritten, and
// dL/dy.
template <class S>
void mlp_output_delta(const ConditionedMlpBwd<typename S::T>& p, int64_t first, int n, int rows,
                      typename S::T* out, typename S::T* delta) {
  using T = typename S::T;
  const MlpShape& s = p.fwd.shape;
  const T* grad = p.grad_out + first * s.d_out;
  if (s.sigmoid) {
    copy_rows(out, mlp_padded(s.d_out), out, s.d_out, n, s.d_out);
    sigmoid_in_place<S>(out, static_cast<int64_t>(n) * s.d_out);
    for (int i = 0; i < n * s.d_out; ++i) out[i] = grad[i] * (out[i] * (T(1) - out[i]));
    grad = out;
  }
  pad_rows<S>(grad, n, s.d_out, rows, delta);
}

template <class S>
void mlp_backward_task(const MlpBackwardTask<typename S::T, MlpOperand<S>>& task) {
  using T = typename S::T;
  using A = MlpArithmetic<S>;
  [[maybe_unused]] const typename A::Scope scope;
  const ConditionedMlpFwd<T>& p = task.bwd->fwd;
  const MlpShape& s = p.shape;
  const MlpBackwardBuffers<T, MlpOperand<S>> b(s, Scratch<T>(task.scratch));
  const int x_stride = static_cast<int>(p.x_stride);
  int32_t cut[A::kTile];
  for (int64_t first = task.begin; first < task.end; first += A::kTile) {
    const int n = static_cast<int>(std::min<int64_t>(A::kTile, task.end - first)), rows = tile_rows<S>(n);
    const int32_t* conditions = tile_conditions(p, first, n, rows, cut);
    const MlpOperands<S> x =
        tile_operands<S>(p.x + first * p.x_stride, x_stride, n, s.d_in, Padding::kWanted, b.x, rows);
    mlp_forward_tile<S>(task.net.forward, {task.net.forward.folded(), conditions, s.d_in}, x.data, x.stride,
                        b.hidden, b.out, mlp_padded(s.d_out), rows);
    mlp_output_delta<S>(*task.bwd, first, n, rows, b.out, b.deltas.delta[0]);
    T* grad_x = task.bwd->grad_x;
    const bool in_place = n == rows && s.d_in % kMlpPad == 0;
    mlp_backward_tile<S>(
        task.net, x, b.hidden, conditions, b.deltas.delta[0], b.deltas,
        {grad_x ? (in_place ? grad_x + first * s.d_in : b.grad_x) : nullptr, mlp_padded(s.d_in)}, rows);
    if (grad_x && !in_place) {
      copy_rows(b.grad_x, mlp_padded(s.d_in), grad_x + first * s.d_in, s.d_in, n, s.d_in);
    }
  }
}

template <class S>
void mlp_fold_task(const MlpFoldTask<typename S::T>& task) {
  using T = typename S::T;
  const MlpShape& s = task.mlp.shape;
  const int width = mlp_padded(s.d_hidden);
  const Layer<T> layer{task.mlp.cond_weights(), task.mlp.bias(0), nullptr, nullptr, s.d_cond, width};
  for (int64_t first = task.begin; first < task.end; first += kMlpTile) {
    const T* x = first + kMlpTile <= task.n_cond ? task.cond + first * s.d_cond : task.last_tile;
    layer_tile<S, Finish::kNone>(layer, x, s.d_cond, task.folded + first * width, width);
  }
}

template <class S>
void mlp_fold_grad_task(const MlpFoldGradTask<typename S::T>& task) {
  using T = typename S::T;
  const ConditionedMlpBwd<T>& p = *task.bwd;
  const MlpShape& s = p.fwd.shape;
  const int width = mlp_padded(s.d_hidden), cond_width = mlp_padded(s.d_cond);
  T *cond = task.scratch, *grad = task.scratch + kMlpTile * cond_width;
  std::fill(task.weight_sums, task.weight_sums + s.d_hidden * cond_width, T(0));
  std::fill(task.bias_sums, task.bias_sums + width, T(0));
  const Layer<T> layer{task.grad_mlp.cond_weights(), nullptr, nullptr, nullptr, s.d_hidden, cond_width};
  for (int64_t first = task.begin; first < task.end; first += kMlpTile) {
    const int n = static_cast<int>(std::min<int64_t>(kMlpTile, p.fwd.n_cond - first));
    const T* delta = task.folded_grad + first * width;
    bias_grad_tile<S>(delta, width, nullptr, 0, task.bias_sums);
    if (s.d_cond == 0) continue;
    std::fill(cond, cond + kMlpTile * cond_width, T(0));
    copy_rows(p.fwd.cond + first * s.d_cond, s.d_cond, cond, cond_width, n, s.d_cond);
    weight_grad_tile<S>(delta, width, s.d_hidden, cond, cond_width, cond_width, task.weight_sums);
    layer_tile<S, Finish::kNone>(layer, delta, width, grad, cond_width);
    copy_rows(grad, cond_width, p.grad_cond + first * s.d_cond, s.d_cond, n, s.d_cond);
  }
}

// Conditions are folded by Exact, which does not round, whatever S does.
template <class S, class Exact = S>
const MlpKernels<typename S::T, MlpOperand<S>>& mlp_kernels() {
  static const MlpKernels<typename S::T, MlpOperand<S>> kernels{
      mlp_forward_task<S>, mlp_backward_task<S>, mlp_fold_task<Exact>, mlp_fold_grad_task<Exact>,
      MlpArithmetic<S>::kRounds};
  return kernels;
}

}  // namespace
}  // namespace nerfad
