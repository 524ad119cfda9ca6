// The fused radiance field over ranges of samples, for one instruction set. Included by each unit that has
// one, with its Encode: run(p, axes, n, features, stride) writes the grid's features of n positions.
#pragma once
#include "conditioned_mlp_tiles.h"
#include "radiance_field_task.h"

namespace nerfad {
namespace {

// ---- Gathering: sample_at(i) is the index of the i-th sample of a group or tile.

// The positions of n samples axis by axis, padded with zeros to whole vectors, and their features.
template <class Encode, class T, class SampleAt>
void encode_group(const RadianceFieldFwd<T>& p, const FieldBuffers<T>& b, int n, const SampleAt& sample_at) {
  for (int i = 0; i < n; ++i) {
    const T* position = p.positions + 3 * sample_at(i);
    for (int a = 0; a < 3; ++a) b.axes[a][i] = position[a];
  }
  for (T* axis : b.axes) std::fill(axis + n, axis + (n + 15) / 16 * 16, T(0));
  const T* const axes[3] = {b.axes[0], b.axes[1], b.axes[2]};
  Encode::run(p, axes, n, b.features, mlp_padded(p.sigma.d_in));
}

// The condition of each sample of a tile, or null if all use the first; the tile's first one goes on behind
// n.
template <class SampleAt>
const int32_t* gather_index(const int32_t* index, int n, const SampleAt& sample_at, int32_t* to) {
  if (!index) return nullptr;
  for (int m = 0; m < n; ++m) to[m] = index[sample_at(m)];
  std::fill(to + n, to + kMlpTile, to[0]);
  return to;
}

// Both networks on a tile: leaves the code and the colours before their activation in the buffers.
template <class S>
void field_forward_tile(const RadianceFieldFwd<typename S::T>& p, const PackedMlp<typename S::T>& sigma,
                        const PackedMlp<typename S::T>& color, const FieldBuffers<typename S::T>& b,
                        const typename S::T* features, const int32_t* conditions, const int32_t* views) {
  const int code_stride = mlp_padded(p.sigma.d_out);
  mlp_forward_tile<S>(sigma, {sigma.folded(), conditions, p.sigma.d_in}, features, mlp_padded(p.sigma.d_in),
                      b.sigma_hidden, b.code, code_stride);
  mlp_forward_tile<S>(color, {color.folded(), views, p.color.d_in}, b.code + 1, code_stride, b.color_hidden,
                      b.rgb, mlp_padded(p.color.d_out));
}

template <class S, class Encode>
void field_forward_task(const FieldForwardTask<typename S::T>& task) {
  using T = typename S::T;
  const RadianceFieldFwd<T>& p = *task.p;
  const FieldBuffers<T> b(p, task.scratch, false);
  const int feature_stride = mlp_padded(p.sigma.d_in), code_stride = mlp_padded(p.sigma.d_out);
  int32_t conditions[kMlpTile], views[kMlpTile];
  for (int64_t group = task.begin; group < task.end; group += kFieldGroup) {
    const int n_group = static_cast<int>(std::min<int64_t>(kFieldGroup, task.end - group));
    encode_group<Encode>(p, b, n_group, [&](int i) { return group + i; });
    for (int tile = 0; tile < n_group; tile += kMlpTile) {
      const int64_t first = group + tile;
      const int n = std::min(kMlpTile, n_group - tile);
      const auto sample_at = [&](int m) { return first + m; };
      field_forward_tile<S>(p, task.sigma, task.color, b, b.features + tile * feature_stride,
                            gather_index(p.cond_index, n, sample_at, conditions),
                            gather_index(p.view_index, n, sample_at, views));
      for (int m = 0; m < n; ++m) {
        p.sigmas[first + m] = clamp_log_density(b.code[m * code_stride] + p.density_bias);
      }
      copy_rows(b.rgb, mlp_padded(3), p.rgbs + 3 * first, 3, n, 3);
    }
    exp_in_place<S>(p.sigmas + group, n_group);
    if (p.color.sigmoid) sigmoid_in_place<S>(p.rgbs + 3 * group, 3 * n_group);
  }
}

// ---- Backward.

// Where a tile's gradient of a network's input goes: layer 0's product writes [kMlpTile, padded d_in].
template <class T>
struct InputGrad {
  T* to;
  int stride;
};

// From delta = dL/dz of the last layer (overwritten) to the gradients of weights, conditions and inputs.
template <class S>
void net_backward_tile(const NetGradTask<typename S::T>& net, const typename S::T* x, int x_stride,
                       typename S::T* const* hidden, const int32_t* conditions, typename S::T* delta,
                       typename S::T* next, const InputGrad<typename S::T>& input_grad) {
  using T = typename S::T;
  const MlpShape& s = net.sums.shape;
  for (int l = s.n_hidden; l >= 0; --l) {
    const int out_stride = mlp_padded(s.out(l)), in_width = mlp_padded(s.in(l));
    const T* input = l == 0 ? x : hidden[l - 1];
    weight_grad_tile<S>(delta, out_stride, s.out(l), input, l == 0 ? x_stride : in_width, in_width,
                        net.sums.data + net.sums.weights_at(l));
    const Layer<T> layer{net.weights.weights(l), nullptr, nullptr, input, s.out(l), in_width};
    if (l > 0) {
      bias_grad_tile<S>(delta, out_stride, nullptr, 0, net.sums.data + net.sums.biases_at(l));
      layer_tile<S, Finish::kWherePositive>(layer, delta, out_stride, next, in_width);
      std::swap(delta, next);
    } else {
      bias_grad_tile<S>(delta, out_stride, conditions, net.first_row, net.folded);
      layer_tile<S, Finish::kNone>(layer, delta, out_stride, input_grad.to, input_grad.stride);
    }
  }
}

// dL/dz of the colour network's outputs for n samples of a tile; zero behind them.
template <class S, class SampleAt>
void color_delta(const RadianceFieldBwd<typename S::T>& p, const FieldBuffers<typename S::T>& b, int n,
                 const SampleAt& sample_at) {
  using T = typename S::T;
  const int stride = mlp_padded(p.fwd.color.d_out);
  T rgb[3 * kMlpTile], *delta = b.delta[0];
  copy_rows(b.rgb, stride, rgb, 3, n, 3);
  if (p.fwd.color.sigmoid) sigmoid_in_place<S>(rgb, 3 * n);
  std::fill(delta, delta + kMlpTile * stride, T(0));
  for (int m = 0; m < n; ++m) {
    const T* grad = p.grad_rgbs + 3 * sample_at(m);
    for (int c = 0; c < 3; ++c) {
      const T y = rgb[3 * m + c];
      delta[m * stride + c] = p.fwd.color.sigmoid ? grad[c] * y * (T(1) - y) : grad[c];
    }
  }
}

// dL/dz of the log densities of n samples, into the first column of the code's gradient; zero behind them.
template <class S, class SampleAt>
void density_delta(const RadianceFieldBwd<typename S::T>& p, const FieldBuffers<typename S::T>& b, int n,
                   const SampleAt& sample_at) {
  using T = typename S::T;
  const int stride = mlp_padded(p.fwd.sigma.d_out);
  T sigma[kMlpTile];
  for (int m = 0; m < n; ++m) sigma[m] = clamp_log_density(b.code[m * stride] + p.fwd.density_bias);
  exp_in_place<S>(sigma, n);
  for (int m = 0; m < kMlpTile; ++m) {
    const bool inside = m < n && is_log_density_inside(b.code[m * stride] + p.fwd.density_bias);
    b.code_delta[m * stride] = inside ? p.grad_sigmas[sample_at(m)] * sigma[m] : T(0);
  }
}

template <class S, class SampleAt>
void field_backward_tile(const FieldBackwardTask<typename S::T>& task, const FieldBuffers<typename S::T>& b,
                         const typename S::T* features, int n, const SampleAt& sample_at) {
  using T = typename S::T;
  const RadianceFieldBwd<T>& p = *task.p;
  const int code_stride = mlp_padded(p.fwd.sigma.d_out);
  int32_t condition_of[kMlpTile], view_of[kMlpTile];
  const int32_t* conditions = gather_index(p.fwd.cond_index, n, sample_at, condition_of);
  const int32_t* views = gather_index(p.fwd.view_index, n, sample_at, view_of);
  field_forward_tile<S>(p.fwd, task.sigma.forward, task.color.forward, b, features, conditions, views);
  color_delta<S>(p, b, n, sample_at);
  // The gradient of the code lands one column to the right; a row's last, of padding, is overwritten by the
  // log density of the next.
  net_backward_tile<S>(task.color, b.code + 1, code_stride, b.color_hidden, views, b.delta[0], b.delta[1],
                       {b.code_delta + 1, code_stride});
  density_delta<S>(p, b, n, sample_at);
  const int width = mlp_padded(p.fwd.sigma.d_in);
  net_backward_tile<S>(task.sigma, features, width, b.sigma_hidden, conditions, b.code_delta, b.delta[1],
                       {b.delta[0], width});
}

template <class S, class Encode>
void field_backward_task(const FieldBackwardTask<typename S::T>& task) {
  using T = typename S::T;
  const RadianceFieldFwd<T>& p = task.p->fwd;
  const FieldBuffers<T> b(p, task.scratch, true);
  const int width = mlp_padded(p.sigma.d_in), n_features = p.sigma.d_in;
  for (int64_t group = task.begin; group < task.end; group += kFieldGroup) {
    const int n_group = static_cast<int>(std::min<int64_t>(kFieldGroup, task.end - group));
    encode_group<Encode>(p, b, n_group, [&](int i) { return static_cast<int64_t>(task.samples[group + i]); });
    for (int i = 0; i < n_group; ++i) {
      for (int a = 0; a < 3; ++a) task.positions[3 * (group + i) + a] = b.axes[a][i];
    }
    for (int tile = 0; tile < n_group; tile += kMlpTile) {
      const int64_t first = group + tile;
      const int n = std::min(kMlpTile, n_group - tile);
      field_backward_tile<S>(task, b, b.features + tile * width, n,
                             [&](int m) { return static_cast<int64_t>(task.samples[first + m]); });
      copy_rows(b.delta[0], width, task.grad_features + first * n_features, n_features, n, n_features);
    }
  }
}

template <class S, class Encode>
const FieldKernels<typename S::T>& field_kernels() {
  static const FieldKernels<typename S::T> kernels{
      field_forward_task<S, Encode>, field_backward_task<S, Encode>, mlp_fold_task<S>, mlp_fold_grad_task<S>};
  return kernels;
}

}  // namespace
}  // namespace nerfad
