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
  const int32_t* bias_index;  // [kMlpTile] row of each sample, or null
  int n_in;
};

// Runs all layers; layer l writes hidden[l], and the last one writes `last` with stride `last_stride`.
template <class S>
void mlp_forward_tile(const PackedMlp<typename S::T>& mlp, const FirstLayer<typename S::T>& first,
                      const typename S::T* x, int x_stride, typename S::T* const* hidden, typename S::T* last,
                      int last_stride) {
  using T = typename S::T;
  const MlpShape& s = mlp.shape;
  const int width = mlp_padded(s.d_hidden);
  for (int l = 0; l < s.n_layers(); ++l) {
    Layer<T> layer{mlp.weights(l), mlp.bias(l), nullptr, nullptr, s.in(l), mlp_padded(s.out(l))};
    if (l == 0) layer.bias = first.bias, layer.bias_index = first.bias_index, layer.n_in = first.n_in;
    if (l < s.n_hidden) {
      layer_tile<S, Finish::kRelu>(layer, x, x_stride, hidden[l], width);
      x = hidden[l];
      x_stride = width;
    } else {
      layer_tile<S, Finish::kNone>(layer, x, x_stride, last, last_stride);
    }
  }
}

// rows [n, width] of a dense matrix to or from a tile with padded rows.
template <class T>
void copy_rows(const T* from, int from_stride, T* to, int to_stride, int n, int width) {
  for (int m = 0; m < n; ++m) {
    for (int k = 0; k < width; ++k) to[m * to_stride + k] = from[m * from_stride + k];
  }
}

// The condition of each sample of a tile; where it is cut short, its first one goes on. Null if there is
// none.
template <class T>
const int32_t* tile_conditions(const ConditionedMlpFwd<T>& p, int64_t first, int n, int32_t* cut) {
  if (!p.cond_index) return nullptr;
  if (n == kMlpTile) return p.cond_index + first;
  std::fill(cut, cut + kMlpTile, p.cond_index[first]);
  std::copy(p.cond_index + first, p.cond_index + first + n, cut);
  return cut;
}

template <class S>
void mlp_forward_task(const MlpForwardTask<typename S::T>& task) {
  using T = typename S::T;
  const ConditionedMlpFwd<T>& p = *task.fwd;
  const MlpShape& s = p.shape;
  const MlpForwardBuffers<T> buffers(s, task.scratch);
  int32_t cut[kMlpTile];
  for (int64_t first = task.begin; first < task.end; first += kMlpTile) {
    const int n = static_cast<int>(std::min<int64_t>(kMlpTile, task.end - first));
    const T* x = p.x + first * s.d_in;
    if (n < kMlpTile) {
      std::fill(buffers.x, buffers.x + kMlpTile * s.d_in, T(0));
      copy_rows(x, s.d_in, buffers.x, s.d_in, n, s.d_in);
      x = buffers.x;
    }
    const int out_stride = mlp_padded(s.d_out);
    mlp_forward_tile<S>(task.mlp, {task.mlp.folded(), tile_conditions(p, first, n, cut), s.d_in}, x, s.d_in,
                        buffers.hidden, buffers.out, out_stride);
    T* out = p.out + first * s.d_out;
    copy_rows(buffers.out, out_stride, out, s.d_out, n, s.d_out);
    if (s.sigmoid) sigmoid_in_place<S>(out, static_cast<int64_t>(n) * s.d_out);
  }
}

// Loads a tile of the inputs and output gradients, zero where the tile is cut short, runs the layers, and
// leaves dL/dz of the last layer in buffers.delta[0].
template <class S>
void mlp_backward_load(const MlpBackwardTask<typename S::T>& task,
                       const MlpBackwardBuffers<typename S::T>& buffers, int64_t first, int n,
                       const int32_t* conditions) {
  using T = typename S::T;
  const ConditionedMlpFwd<T>& p = task.bwd->fwd;
  const MlpShape& s = p.shape;
  const int x_stride = mlp_padded(s.d_in), out_stride = mlp_padded(s.d_out);
  std::fill(buffers.x, buffers.x + kMlpTile * x_stride, T(0));
  copy_rows(p.x + first * s.d_in, s.d_in, buffers.x, x_stride, n, s.d_in);
  mlp_forward_tile<S>(task.mlp, {task.mlp.folded(), conditions, s.d_in}, buffers.x, x_stride, buffers.hidden,
                      buffers.out, out_stride);
  T* delta = buffers.delta[0];
  std::fill(delta, delta + kMlpTile * out_stride, T(0));
  copy_rows(task.bwd->grad_out + first * s.d_out, s.d_out, delta, out_stride, n, s.d_out);
  if (!s.sigmoid) return;
  sigmoid_in_place<S>(buffers.out, kMlpTile * out_stride);
  for (int i = 0; i < kMlpTile * out_stride; ++i) delta[i] *= buffers.out[i] * (T(1) - buffers.out[i]);
}

template <class S>
void mlp_backward_task(const MlpBackwardTask<typename S::T>& task) {
  using T = typename S::T;
  const ConditionedMlpFwd<T>& p = task.bwd->fwd;
  const MlpShape& s = p.shape;
  const MlpBackwardBuffers<T> buffers(s, task.scratch);
  const MlpGradSums<T>& sums = task.sums;
  std::fill(sums.data, sums.data + sums.size(), T(0));
  std::fill(task.folded, task.folded + static_cast<int64_t>(task.n_conditions) * mlp_padded(s.d_hidden),
            T(0));
  int32_t cut[kMlpTile];
  for (int64_t first = task.begin; first < task.end; first += kMlpTile) {
    const int n = static_cast<int>(std::min<int64_t>(kMlpTile, task.end - first));
    const int32_t* conditions = tile_conditions(p, first, n, cut);
    mlp_backward_load<S>(task, buffers, first, n, conditions);
    T *delta = buffers.delta[0], *next = buffers.delta[1];
    for (int l = s.n_hidden; l >= 0; --l) {
      const int out_stride = mlp_padded(s.out(l)), in_stride = mlp_padded(s.in(l));
      const T* input = l == 0 ? buffers.x : buffers.hidden[l - 1];
      weight_grad_tile<S>(delta, out_stride, s.out(l), input, in_stride, in_stride,
                          sums.data + sums.weights_at(l));
      if (l > 0) {
        bias_grad_tile<S>(delta, out_stride, nullptr, 0, sums.data + sums.biases_at(l));
      } else {
        bias_grad_tile<S>(delta, out_stride, conditions, task.first_condition, task.folded);
      }
      const Layer<T> layer{task.grad_mlp.weights(l), nullptr, nullptr, input, s.out(l), in_stride};
      if (l > 0) {
        layer_tile<S, Finish::kWherePositive>(layer, delta, out_stride, next, in_stride);
      } else if (task.bwd->grad_x) {
        layer_tile<S, Finish::kNone>(layer, delta, out_stride, next, in_stride);
        copy_rows(next, in_stride, task.bwd->grad_x + first * s.d_in, s.d_in, n, s.d_in);
      }
      std::swap(delta, next);
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

template <class S>
const MlpKernels<typename S::T>& mlp_kernels() {
  static const MlpKernels<typename S::T> kernels{mlp_forward_task<S>, mlp_backward_task<S>, mlp_fold_task<S>,
                                                 mlp_fold_grad_task<S>};
  return kernels;
}

}  // namespace
}  // namespace nerfad
