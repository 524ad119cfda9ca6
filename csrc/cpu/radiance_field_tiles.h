// The fused radiance field over ranges of samples, for one instruction set. Included by each unit that has
// one, with its Encode: run(p, axes, n, features, stride) writes the grid's features of n positions, and, if
// kSplits, split(grid, grad, n, levels, level_stride) rearranges the gradients of n samples' features and
// join(grid, levels, level_stride, n, rows, memory, to) makes a tile of operands of features.
#pragma once
#include "conditioned_mlp_tiles.h"
#include "radiance_field_task.h"

namespace nerfad {
namespace {

// ---- Gathering: sample_at(i) is the index of the i-th sample of a group or tile.

// The positions of n samples axis by axis, padded with zeros to whole vectors, and their features, to `to`.
template <class Encode, class T, class Operand, class SampleAt>
void encode_group(const RadianceFieldFwd<T>& p, const FieldBuffers<T, Operand>& b, int n,
                  const SampleAt& sample_at, T* to) {
  for (int i = 0; i < n; ++i) {
    const T* position = p.positions + 3 * sample_at(i);
    for (int a = 0; a < 3; ++a) b.axes[a][i] = position[a];
  }
  for (T* axis : b.axes) std::fill(axis + n, axis + (n + 15) / 16 * 16, T(0));
  const T* const axes[3] = {b.axes[0], b.axes[1], b.axes[2]};
  Encode::run(p, axes, n, to, mlp_padded(p.sigma.d_in));
}

// The condition of each sample of a tile, or null if all use the first; the tile's first one goes on behind
// n.
template <class SampleAt>
const int32_t* gather_index(const int32_t* index, int n, int rows, const SampleAt& sample_at, int32_t* to) {
  if (!index) return nullptr;
  for (int m = 0; m < n; ++m) to[m] = index[sample_at(m)];
  std::fill(to + n, to + rows, to[0]);
  return to;
}

// The first n features of a source as a tile of operands, zero behind them. `memory` and `to` are memory for
// them as they are, which levels leave there unless they are rounded on the way, and as operands.
template <class S, class Encode>
MlpOperands<S> feature_operands(const RadianceFieldFwd<typename S::T>& p,
                                const FeatureSource<typename S::T, MlpOperand<S>>& from, int n, int rows,
                                typename S::T* memory, MlpOperand<S>* to) {
  const int width = mlp_padded(p.sigma.d_in);
  if (from.rounded) {
    if (n == rows) return {from.rounded, width};
    std::copy_n(from.rounded, n * width, to);
    std::memset(static_cast<void*>(to + n * width), 0, sizeof(*to) * (rows - n) * width);
    return {to, width};
  }
  if constexpr (Encode::kSplits) {
    if (from.levels)
      return Encode::template join<S>(p.grid, from.levels, from.level_stride, n, rows, memory, to);
  }
  return tile_operands<S>(from.rows, width, n, width, Padding::kWanted, to, rows);
}

// The same in the forward pass, for n samples from `first` on; leaves them where it keeps them, if anywhere.
template <class S, class Encode>
MlpOperands<S> kept_feature_operands(const RadianceFieldFwd<typename S::T>& p,
                                     const FeatureSource<typename S::T, MlpOperand<S>>& from,
                                     const FieldBuffers<typename S::T, MlpOperand<S>>& b, int64_t first,
                                     int n, int rows) {
  using T = typename S::T;
  const int width = mlp_padded(p.sigma.d_in);
  T* memory = p.features ? p.features + first * width : b.features;
  BFloat16* rounded = p.rounded_features ? p.rounded_features + first * width : nullptr;
  if constexpr (kRoundedRows<MlpOperand<S>>) {
    const bool in_place = rounded && n == rows;
    const auto x = feature_operands<S, Encode>(p, from, n, rows, memory, in_place ? rounded : b.inputs[0]);
    if (rounded && !in_place) std::copy_n(x.data, n * width, rounded);
    return x;
  } else {
    const auto x = feature_operands<S, Encode>(p, from, n, rows, memory, b.inputs[0]);
    const T* exact = from.levels ? memory : from.rows;
    for (int i = 0; rounded && i < n * width; ++i) rounded[i] = round_bfloat16(static_cast<float>(exact[i]));
    return x;
  }
}

// A tile's inputs of both networks.
template <class S>
struct FieldInputs {
  MlpOperands<S> features, code;
};

// Both networks on a tile of features: leaves the code and the colours before their activation in the
// buffers.
template <class S>
FieldInputs<S> field_forward_tile(const RadianceFieldFwd<typename S::T>& p,
                                  const PackedMlp<typename S::T, MlpOperand<S>>& sigma,
                                  const PackedMlp<typename S::T, MlpOperand<S>>& color,
                                  const FieldBuffers<typename S::T, MlpOperand<S>>& b,
                                  const MlpOperands<S>& features, const int32_t* conditions,
                                  const int32_t* views, int rows) {
  const int code_stride = mlp_padded(p.sigma.d_out);
  FieldInputs<S> in{features, {}};
  mlp_forward_tile<S>(sigma, {sigma.folded(), conditions, p.sigma.d_in}, features.data, features.stride,
                      b.sigma_hidden, b.code, code_stride, rows);
  in.code =
      tile_operands<S>(b.code + 1, code_stride, rows, p.color.d_in, Padding::kUnread, b.inputs[1], rows);
  mlp_forward_tile<S>(color, {color.folded(), views, p.color.d_in}, in.code.data, in.code.stride,
                      b.color_hidden, b.rgb, mlp_padded(p.color.d_out), rows);
  return in;
}

template <class S, class Encode>
void field_forward_task(const FieldForwardTask<typename S::T, MlpOperand<S>>& task) {
  using T = typename S::T;
  using A = MlpArithmetic<S>;
  [[maybe_unused]] const typename A::Scope scope;
  const RadianceFieldFwd<T>& p = *task.p;
  Scratch<T> memory(task.scratch);
  const FieldForwardBuffers<T, MlpOperand<S>> b(p, memory);
  const int code_stride = mlp_padded(p.sigma.d_out);
  int32_t conditions[A::kTile], views[A::kTile];
  for (int64_t group = task.begin; group < task.end; group += kFieldGroup) {
    const int n_group = static_cast<int>(std::min<int64_t>(kFieldGroup, task.end - group));
    FeatureSource<T, MlpOperand<S>> features = task.features.from(group - task.begin, p);
    if (!features) {
      T* const rows = p.features ? p.features + group * mlp_padded(p.sigma.d_in) : b.features;
      encode_group<Encode>(p, b, n_group, [&](int i) { return group + i; }, rows);
      features.rows = rows;
    }
    for (int tile = 0; tile < n_group; tile += A::kTile) {
      const int64_t first = group + tile;
      const int n = std::min(A::kTile, n_group - tile), rows = tile_rows<S>(n);
      const auto sample_at = [&](int m) { return first + m; };
      const MlpOperands<S> x = kept_feature_operands<S, Encode>(p, features.from(tile, p), b, first, n, rows);
      field_forward_tile<S>(p, task.sigma, task.color, b, x,
                            gather_index(p.cond_index, n, rows, sample_at, conditions),
                            gather_index(p.view_index, n, rows, sample_at, views), rows);
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

// dL/dz of the colour network's outputs for n samples of a tile; zero behind them.
template <class S, class SampleAt>
void color_delta(const RadianceFieldBwd<typename S::T>& p,
                 const FieldBackwardBuffers<typename S::T, MlpOperand<S>>& b, int n, int rows,
                 const SampleAt& sample_at) {
  using T = typename S::T;
  T grad[3 * MlpArithmetic<S>::kTile];
  for (int m = 0; m < n; ++m) std::memcpy(grad + 3 * m, p.grad_rgbs + 3 * sample_at(m), 3 * sizeof(T));
  if (p.fwd.color.sigmoid) {
    T rgb[3 * MlpArithmetic<S>::kTile];
    copy_rows(b.rgb, mlp_padded(3), rgb, 3, n, 3);
    sigmoid_in_place<S>(rgb, 3 * n);
    for (int i = 0; i < 3 * n; ++i) grad[i] = grad[i] * rgb[i] * (T(1) - rgb[i]);
  }
  pad_rows<S>(grad, n, 3, rows, b.deltas.delta[0]);
}

// dL/dz of the log densities of n samples, into the first column of the code's gradient; zero behind them.
template <class S, class SampleAt>
void density_delta(const RadianceFieldBwd<typename S::T>& p,
                   const FieldBackwardBuffers<typename S::T, MlpOperand<S>>& b, int n, int rows,
                   const SampleAt& sample_at) {
  using T = typename S::T;
  const int stride = mlp_padded(p.fwd.sigma.d_out);
  T sigma[MlpArithmetic<S>::kTile];
  for (int m = 0; m < n; ++m) sigma[m] = clamp_log_density(b.code[m * stride] + p.fwd.density_bias);
  exp_in_place<S>(sigma, n);
  for (int m = 0; m < rows; ++m) {
    const bool inside = m < n && is_log_density_inside(b.code[m * stride] + p.fwd.density_bias);
    b.code_delta[m * stride] = inside ? p.grad_sigmas[sample_at(m)] * sigma[m] : T(0);
  }
}

// Leaves the gradient of the features, [rows, padded features], at grad_features.
template <class S, class SampleAt>
void field_backward_tile(const FieldBackwardTask<typename S::T, MlpOperand<S>>& task,
                         const FieldBackwardBuffers<typename S::T, MlpOperand<S>>& b,
                         const MlpOperands<S>& features, typename S::T* grad_features, int n, int rows,
                         const SampleAt& sample_at) {
  using T = typename S::T;
  const RadianceFieldBwd<T>& p = *task.p;
  int32_t condition_of[MlpArithmetic<S>::kTile], view_of[MlpArithmetic<S>::kTile];
  const int32_t* conditions = gather_index(p.fwd.cond_index, n, rows, sample_at, condition_of);
  const int32_t* views = gather_index(p.fwd.view_index, n, rows, sample_at, view_of);
  const FieldInputs<S> in = field_forward_tile<S>(p.fwd, task.sigma.forward, task.color.forward, b, features,
                                                  conditions, views, rows);
  color_delta<S>(p, b, n, rows, sample_at);
  // The gradient of the code lands one column to the right; a row's last, of padding, is overwritten by the
  // log density of the next.
  mlp_backward_tile<S>(task.color, in.code, b.color_hidden, views, b.deltas.delta[0], b.deltas,
                       {b.code_delta + 1, mlp_padded(p.fwd.sigma.d_out)}, rows);
  density_delta<S>(p, b, n, rows, sample_at);
  mlp_backward_tile<S>(task.sigma, in.features, b.sigma_hidden, conditions, b.code_delta, b.deltas,
                       {grad_features, mlp_padded(p.fwd.sigma.d_in)}, rows);
}

template <class S, class Encode>
void field_backward_task(const FieldBackwardTask<typename S::T, MlpOperand<S>>& task) {
  using T = typename S::T;
  using A = MlpArithmetic<S>;
  [[maybe_unused]] const typename A::Scope scope;
  const RadianceFieldFwd<T>& p = task.p->fwd;
  Scratch<T> memory(task.scratch);
  const FieldBackwardBuffers<T, MlpOperand<S>> b(p, memory);
  const int width = mlp_padded(p.sigma.d_in), n_features = p.sigma.d_in;
  for (int64_t group = task.begin; group < task.end; group += kFieldGroup) {
    const int n_group = static_cast<int>(std::min<int64_t>(kFieldGroup, task.end - group));
    FeatureSource<T, MlpOperand<S>> features = task.features.from(group, p);
    if (!features) {
      const auto sample_at = [&](int i) { return static_cast<int64_t>(task.samples[group + i]); };
      encode_group<Encode>(p, b, n_group, sample_at, b.features);
      for (int i = 0; i < n_group; ++i) {
        for (int a = 0; a < 3; ++a) task.positions[3 * (group + i) + a] = b.axes[a][i];
      }
      features.rows = b.features;
    }
    for (int tile = 0; tile < n_group; tile += A::kTile) {
      const int64_t first = group + tile;
      const int n = std::min(A::kTile, n_group - tile), rows = tile_rows<S>(n);
      T* grad_features = task.grad_features + first * n_features;
      const bool in_place = !task.grad_levels && n == rows && n_features % kMlpPad == 0;
      const MlpOperands<S> x =
          feature_operands<S, Encode>(p, features.from(tile, p), n, rows, b.features, b.inputs[0]);
      field_backward_tile<S>(task, b, x, in_place ? grad_features : b.grad_x, n, rows,
                             [&](int m) { return static_cast<int64_t>(task.samples[first + m]); });
      if constexpr (Encode::kSplits) {
        if (task.grad_levels) {
          Encode::split(p.grid, b.grad_x, n, task.grad_levels + first * p.grid.n_features, task.level_stride);
          continue;
        }
      }
      if (!in_place) copy_rows(b.grad_x, width, grad_features, n_features, n, n_features);
    }
  }
}

// Conditions are folded by Exact, which does not round, whatever S does.
template <class S, class Encode, class Exact = S>
const FieldKernels<typename S::T, MlpOperand<S>>& field_kernels() {
  static const FieldKernels<typename S::T, MlpOperand<S>> kernels{
      field_forward_task<S, Encode>, field_backward_task<S, Encode>, mlp_fold_task<Exact>,
      mlp_fold_grad_task<Exact>,     MlpArithmetic<S>::kRounds,      Encode::kSplits};
  return kernels;
}

}  // namespace
}  // namespace nerfad
