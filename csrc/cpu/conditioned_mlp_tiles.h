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

// The condition of each sample of a tile that may be cut short; null if all use the first.
template <class T>
const int32_t* tile_conditions(const ConditionedMlpFwd<T>& p, int64_t first, int n, int32_t* cut) {
  if (!p.cond_index) return nullptr;
  if (n == kMlpTile) return p.cond_index + first;
  std::fill(cut, cut + kMlpTile, 0);
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
    mlp_forward_tile<S>(task.mlp, {task.mlp.bias(0), tile_conditions(p, first, n, cut), s.d_in}, x, s.d_in,
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
  mlp_forward_tile<S>(task.mlp, {task.mlp.bias(0), conditions, s.d_in}, buffers.x, x_stride, buffers.hidden,
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
  std::fill(sums.data, sums.data + sums.size(p.n_cond), T(0));
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
      bias_grad_tile<S>(delta, out_stride, l == 0 ? conditions : nullptr, sums.bias(l));
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

}  // namespace
}  // namespace nerfad
