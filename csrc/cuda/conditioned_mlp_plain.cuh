// The conditioned MLP in float32, a launch per layer, activations in global memory: for networks that are too
// large for the tensor-core kernels. Also what both have in common: the gradients of the folded condition.
#pragma once
#include "device.h"
#include "nerfad/conditioned_mlp.h"

namespace nerfad {

namespace {

// Element i of the flat parameters.
struct MlpParam {
  int layer, row, column;
  bool is_bias;
};

NERFAD_HD MlpParam mlp_param(const MlpShape& s, int64_t i) {
  int layer = 0;
  while (layer + 1 < s.n_layers() && i >= s.weight_at(layer + 1)) ++layer;
  if (i >= s.bias_at(layer)) return {layer, static_cast<int>(i - s.bias_at(layer)), 0, true};
  const int64_t at = i - s.weight_at(layer);
  return {layer, static_cast<int>(at / s.row(layer)), static_cast<int>(at % s.row(layer)), false};
}

NERFAD_HD bool is_folded(const MlpShape& s, const MlpParam& at) {
  return at.layer == 0 && (at.is_bias || at.column >= s.d_in);
}

// The first layer's bias and condition columns, from the gradients of the folded biases [n_cond, stride]: a
// warp per parameter.
__global__ void mlp_first_layer_kernel(const ConditionedMlpBwd<float> p, const float* folded, int stride) {
  const MlpShape& s = p.fwd.shape;
  const int64_t i = thread_index() / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (i >= s.weight_at(1)) return;
  const MlpParam at = mlp_param(s, i);
  if (!is_folded(s, at)) return;
  float sum = 0;
  for (int64_t c = lane; c < p.fwd.n_cond; c += 32) {
    const float g = folded[c * stride + at.row];
    sum += at.is_bias ? g : g * p.fwd.cond[c * s.d_cond + at.column - s.d_in];
  }
  for (int k = 16; k > 0; k /= 2) sum += __shfl_down_sync(~0u, sum, k);
  if (lane == 0) p.grad_params[i] = sum;
}

__global__ void mlp_cond_grad_kernel(const ConditionedMlpBwd<float> p, const float* folded, int stride) {
  const MlpShape& s = p.fwd.shape;
  const int64_t i = thread_index();
  if (i >= p.fwd.n_cond * s.d_cond) return;
  const int64_t c = i / s.d_cond, j = i % s.d_cond;
  const float* weights = p.fwd.params + s.weight_at(0) + s.d_in + j;
  float sum = 0;
  for (int n = 0; n < s.d_hidden; ++n) sum += folded[c * stride + n] * weights[n * s.row(0)];
  p.grad_cond[i] = sum;
}

// What follows from the gradients of the folded biases.
inline int launch_unfold(const ConditionedMlpBwd<float>& p, const float* folded, int stride,
                         cudaStream_t stream) {
  const int error = NERFAD_LAUNCH(mlp_first_layer_kernel, blocks_for(32 * p.fwd.shape.weight_at(1)),
                                  dim3(kBlock), 0, stream, p, folded, stride);
  if (error || !p.grad_cond) return error;
  return NERFAD_LAUNCH(mlp_cond_grad_kernel, blocks_for(p.fwd.n_cond * p.fwd.shape.d_cond), dim3(kBlock), 0,
                       stream, p, folded, stride);
}

// Scratch: folded biases, their gradients, hidden layers [n_samples, d_hidden] (two, or all for backward,
// whose gradients take their place), and the last layer's gradient.
struct PlainScratch {
  float *folded, *folded_grad, *hidden, *out_grad;
  int64_t hidden_size, size;
  int n_buffers;
  __host__ __device__ float* buffer(int layer) const { return hidden + layer % n_buffers * hidden_size; }
};

inline PlainScratch plain_layout(const ConditionedMlpFwd<float>& p, bool backward) {
  const MlpShape& s = p.shape;
  PlainScratch r{};
  r.hidden_size = p.n_samples * s.d_hidden;
  r.n_buffers = backward ? s.n_hidden : 2;
  float* at = p.scratch;
  r.folded = at;
  r.folded_grad = at += p.n_cond * s.d_hidden;
  r.hidden = at += p.n_cond * s.d_hidden;
  r.out_grad = at += r.n_buffers * r.hidden_size;
  r.size = (at - p.scratch) + (backward ? 2 * p.n_samples * s.d_out : 0);
  return r;
}

__global__ void mlp_plain_fold_kernel(const ConditionedMlpFwd<float> p, const PlainScratch m) {
  const int64_t i = thread_index();
  if (i >= p.n_cond * p.shape.d_hidden) return;
  m.folded[i] = mlp_folded_bias(p, i / p.shape.d_hidden, static_cast<int>(i % p.shape.d_hidden));
}

// A thread per sample and unit of layer l.
__global__ void mlp_plain_layer_kernel(const ConditionedMlpFwd<float> p, const PlainScratch m, int l,
                                       const float* x, float* y) {
  const MlpShape& s = p.shape;
  const int64_t i = thread_index();
  if (i >= p.n_samples * s.out(l)) return;
  const int64_t sample = i / s.out(l), unit = i % s.out(l);
  const float* weights = p.params + s.weight_at(l) + unit * s.row(l);
  const int64_t condition = p.cond_index ? p.cond_index[sample] : 0;
  float sum = l == 0 ? m.folded[condition * s.d_hidden + unit] : p.params[s.bias_at(l) + unit];
  for (int k = 0; k < s.in(l); ++k) sum += weights[k] * x[sample * s.in(l) + k];
  if (l < s.n_hidden) {
    y[i] = sum > 0.0f ? sum : (sum == sum ? 0.0f : sum);
  } else {
    y[i] = s.sigmoid ? mlp_sigmoid(sum) : sum;
  }
}

inline int launch_plain_layers(const ConditionedMlpFwd<float>& p, const PlainScratch& m, float* out,
                               cudaStream_t stream) {
  const MlpShape& s = p.shape;
  int error =
      NERFAD_LAUNCH(mlp_plain_fold_kernel, blocks_for(p.n_cond * s.d_hidden), dim3(kBlock), 0, stream, p, m);
  for (int l = 0; l < s.n_layers() && !error; ++l) {
    error = NERFAD_LAUNCH(mlp_plain_layer_kernel, blocks_for(p.n_samples * s.out(l)), dim3(kBlock), 0, stream,
                          p, m, l, l == 0 ? p.x : m.buffer(l - 1), l < s.n_hidden ? m.buffer(l) : out);
  }
  return error;
}

inline int launch_plain_fwd(const ConditionedMlpFwd<float>& p, cudaStream_t stream) {
  return launch_plain_layers(p, plain_layout(p, false), p.out, stream);
}

__global__ void mlp_plain_out_grad_kernel(const ConditionedMlpBwd<float> p, const float* out, float* delta) {
  const int64_t i = thread_index();
  if (i >= p.fwd.n_samples * p.fwd.shape.d_out) return;
  delta[i] = p.grad_out[i] * (p.fwd.shape.sigmoid ? out[i] * (1.0f - out[i]) : 1.0f);
}

// A thread per parameter of layer l, over all samples in order.
__global__ void mlp_plain_param_grad_kernel(const ConditionedMlpBwd<float> p, int l, const float* delta,
                                            const float* x) {
  const MlpShape& s = p.fwd.shape;
  const int64_t i = thread_index() + s.weight_at(l);
  if (i >= s.weight_at(l + 1)) return;
  const MlpParam at = mlp_param(s, i);
  if (is_folded(s, at)) return;
  float sum = 0;
  for (int64_t m = 0; m < p.fwd.n_samples; ++m) {
    sum += delta[m * s.out(l) + at.row] * (at.is_bias ? 1.0f : x[m * s.in(l) + at.column]);
  }
  p.grad_params[i] = sum;
}

// A thread per unit, over all samples in order.
__global__ void mlp_plain_folded_grad_kernel(const ConditionedMlpBwd<float> p, const float* delta,
                                             float* grad) {
  const int width = p.fwd.shape.d_hidden;
  const int64_t unit = thread_index();
  if (unit >= width) return;
  for (int64_t c = 0; c < p.fwd.n_cond; ++c) grad[c * width + unit] = 0;
  for (int64_t m = 0; m < p.fwd.n_samples; ++m) {
    const int64_t condition = p.fwd.cond_index ? p.fwd.cond_index[m] : 0;
    grad[condition * width + unit] += delta[m * width + unit];
  }
}

// dL/dx of layer l, a thread per sample and input; x and grad may be the same hidden buffer.
__global__ void mlp_plain_input_grad_kernel(const ConditionedMlpBwd<float> p, int l, const float* delta,
                                            const float* x, float* grad) {
  const MlpShape& s = p.fwd.shape;
  const int64_t i = thread_index();
  if (i >= p.fwd.n_samples * s.in(l)) return;
  const int64_t sample = i / s.in(l), k = i % s.in(l);
  const float* weights = p.fwd.params + s.weight_at(l) + k;
  float sum = 0;
  for (int n = 0; n < s.out(l); ++n) sum += delta[sample * s.out(l) + n] * weights[n * s.row(l)];
  grad[i] = l == 0 || x[i] > 0.0f ? sum : 0.0f;
}

inline int launch_plain_bwd(const ConditionedMlpBwd<float>& p, cudaStream_t stream) {
  const MlpShape& s = p.fwd.shape;
  const PlainScratch m = plain_layout(p.fwd, true);
  const dim3 block(kBlock);
  float *out = m.out_grad + p.fwd.n_samples * s.d_out, *delta = m.out_grad;
  int error = launch_plain_layers(p.fwd, m, out, stream);
  if (error) return error;
  error = NERFAD_LAUNCH(mlp_plain_out_grad_kernel, blocks_for(p.fwd.n_samples * s.d_out), block, 0, stream, p,
                        out, delta);
  for (int l = s.n_hidden; l >= 0 && !error; --l) {
    const float* x = l == 0 ? p.fwd.x : m.buffer(l - 1);
    error = NERFAD_LAUNCH(mlp_plain_param_grad_kernel, blocks_for(s.weight_at(l + 1) - s.weight_at(l)), block,
                          0, stream, p, l, delta, x);
    if (error) return error;
    if (l == 0) {
      error = NERFAD_LAUNCH(mlp_plain_folded_grad_kernel, blocks_for(s.d_hidden), block, 0, stream, p, delta,
                            m.folded_grad);
    }
    float* grad = l == 0 ? p.grad_x : m.buffer(l - 1);
    if (error || !grad) continue;
    error = NERFAD_LAUNCH(mlp_plain_input_grad_kernel, blocks_for(p.fwd.n_samples * s.in(l)), block, 0,
                          stream, p, l, delta, x, grad);
    delta = grad;
  }
  return error ? error : launch_unfold(p, m.folded_grad, s.d_hidden, stream);
}

}  // namespace

}  // namespace nerfad
