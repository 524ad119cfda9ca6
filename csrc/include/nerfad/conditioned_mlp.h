// A small ReLU MLP over samples that share conditions:
//   h_1 = relu(W_x x_i + (W_c c_k(i) + b_1)),  h_{l+1} = relu(W_{l+1} h_l + b_{l+1}),  y_i = act(W h_n + b)
// The bracket is folded into one bias per condition, once per call. Parameters are one flat vector: for each
// layer the weight [out, in] row by row (the first layer's columns: input, then condition), then its bias.
#pragma once
#include <cmath>

#include "nerfad/hd.h"
#include "nerfad/parallel.h"

namespace nerfad {

// kBFloat16: what is multiplied is rounded to bfloat16 first (inputs, hidden layers, weights, and in backward
// the gradients of layers), products are added up in float32; biases, folded conditions, outputs and
// gradients are float32. CUDA kernels multiply in half precision and have no other.
enum class MlpPrecision : int { kFloat32 = 0, kBFloat16 = 1 };

struct MlpShape {
  int d_in;
  int d_cond;
  int d_hidden;
  int n_hidden;  // hidden layers, >= 1
  int d_out;
  bool sigmoid;  // applied to the output

  NERFAD_HD int n_layers() const { return n_hidden + 1; }
  NERFAD_HD int in(int layer) const { return layer == 0 ? d_in : d_hidden; }
  NERFAD_HD int out(int layer) const { return layer == n_hidden ? d_out : d_hidden; }
  // Length of a weight row in the flat vector.
  NERFAD_HD int row(int layer) const { return in(layer) + (layer == 0 ? d_cond : 0); }
  NERFAD_HD int64_t weight_at(int layer) const {
    int64_t at = 0;
    for (int l = 0; l < layer; ++l) at += static_cast<int64_t>(out(l)) * (row(l) + 1);
    return at;
  }
  NERFAD_HD int64_t bias_at(int layer) const {
    return weight_at(layer) + static_cast<int64_t>(out(layer)) * row(layer);
  }
  NERFAD_HD int64_t n_params() const { return weight_at(n_layers()); }
};

template <class T>
struct ConditionedMlpFwd {
  const T* x;                 // [n_samples, d_in], rows x_stride apart; CUDA takes dense ones
  const T* params;            // [n_params]
  const T* cond;              // [n_cond, d_cond] or null if d_cond is 0
  const int32_t* cond_index;  // [n_samples] or null (all use the first condition)
  T* out;                     // out [n_samples, d_out]
  T* scratch;                 // [conditioned_mlp_*_scratch(...)], contents undefined
  int64_t n_samples;
  int64_t x_stride;
  int64_t n_cond;  // >= 1; 1 if d_cond is 0
  MlpShape shape;
  MlpPrecision precision;  // kFloat32 if T is double
};

template <class T>
struct ConditionedMlpBwd {
  ConditionedMlpFwd<T> fwd;  // inputs of the forward pass and scratch; out is not read
  const T* grad_out;         // [n_samples, d_out]
  T* grad_x;                 // out [n_samples, d_in] or null
  T* grad_params;            // out [n_params]
  T* grad_cond;              // out [n_cond, d_cond] or null if d_cond is 0
};

template <class T>
NERFAD_HD T mlp_sigmoid(T z) {
  return T(1) / (T(1) + std::exp(-z));
}

// b_1 + W_c c: output `unit` of the bias that condition `c` stands for.
template <class T>
NERFAD_HD T mlp_folded_bias(const ConditionedMlpFwd<T>& p, int64_t c, int unit) {
  const MlpShape& s = p.shape;
  const T* weights = p.params + s.weight_at(0) + static_cast<int64_t>(unit) * s.row(0) + s.d_in;
  T sum = p.params[s.bias_at(0) + unit];
  for (int j = 0; j < s.d_cond; ++j) sum += weights[j] * p.cond[c * s.d_cond + j];
  return sum;
}

// Numbers of elements of scratch.
template <class T>
int64_t conditioned_mlp_fwd_scratch(const ConditionedMlpFwd<T>& p, int n_threads);
template <class T>
int64_t conditioned_mlp_bwd_scratch(const ConditionedMlpBwd<T>& p);

template <class T>
void conditioned_mlp_fwd_cpu(const ConditionedMlpFwd<T>& p, const ParallelFor& parallel_for);
template <class T>
void conditioned_mlp_bwd_cpu(const ConditionedMlpBwd<T>& p, const ParallelFor& parallel_for);

}  // namespace nerfad
