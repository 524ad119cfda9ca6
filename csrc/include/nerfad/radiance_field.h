// The conditional radiance field in one pass, forward and backward: grid encoding, density network, colour
// network.
//   h_i = mlp_sigma(grid(x_i), c),  sigma_i = exp(clamp(h_i0 + bias)),  rgb_i = mlp_color(h_i[1:], view of
//   ray)
// Hidden layers live in tiles that never reach memory; the backward pass recomputes them, and the encoded
// features unless the forward pass was asked to keep them.
#pragma once
#include <cmath>

#include "nerfad/conditioned_mlp.h"
#include "nerfad/grid_encode.h"
#include "nerfad/half.h"
#include "nerfad/hd.h"
#include "nerfad/parallel.h"

namespace nerfad {

constexpr float kLogDensityLimit = 15.0f;

template <class T>
struct RadianceFieldFwd {
  const T* positions;         // [n, 3] in [0, 1]
  const void* table;          // [n_entries, n_features] of table_type
  const T* sigma_params;      // [sigma.n_params()]
  const T* color_params;      // [color.n_params()]
  const T* cond;              // [n_cond, sigma.d_cond] or null if that is 0
  const int32_t* cond_index;  // [n] or null (all use the first condition)
  const T* views;             // [n_views, color.d_cond]
  const int32_t* view_index;  // [n] or null (all use the first view)
  T* sigmas;                  // out [n]
  T* rgbs;                    // out [n, 3]
  T* scratch;                 // [radiance_field_*_scratch(...)], contents undefined
  int64_t n;
  int64_t n_cond;   // >= 1
  int64_t n_views;  // >= 1
  TableType table_type;
  GridShape grid;  // n_dims is 3
  MlpShape sigma;  // d_in = grid.n_outputs(); outputs: log density, then the code
  MlpShape color;  // d_in = sigma.d_out - 1; the view is its condition; d_out is 3
  T density_bias;
  MlpPrecision precision;  // of the networks; kFloat32 if T is double
  // CPU: [n, grid outputs], out for the backward pass, where it is in; the second one, whose width is a
  // multiple of 32, where the networks round what they multiply. Either or both null.
  T* features = nullptr;
  BFloat16* rounded_features = nullptr;

  // The two networks as the conditioned MLP's kernels take them, without samples.
  NERFAD_HD ConditionedMlpFwd<T> sigma_net() const {
    ConditionedMlpFwd<T> p{};
    p.params = sigma_params, p.cond = cond, p.cond_index = cond_index, p.n_cond = n_cond, p.shape = sigma;
    return p;
  }
  NERFAD_HD ConditionedMlpFwd<T> color_net() const {
    ConditionedMlpFwd<T> p{};
    p.params = color_params, p.cond = views, p.cond_index = view_index, p.n_cond = n_views, p.shape = color;
    return p;
  }
};

template <class T>
struct RadianceFieldBwd {
  RadianceFieldFwd<T> fwd;  // inputs of the forward pass and scratch; its outputs are not read
  const T* grad_sigmas;     // [n]
  const T* grad_rgbs;       // [n, 3]
  T* grad_positions;        // in zero, out [n, 3]; or null
  T* grad_table;            // out [n_entries, n_features] or null
  T* grad_sigma_params;     // out
  T* grad_color_params;     // out
  T* grad_cond;             // out [n_cond, sigma.d_cond] or null if that is 0
  T* grad_views;            // out [n_views, color.d_cond]
};

// The exponent of the density, and whether a gradient goes through it. NaN stays.
template <class T>
NERFAD_HD T clamp_log_density(T h) {
  const T limit = T(kLogDensityLimit);
  return h < -limit ? -limit : (h > limit ? limit : h);
}
template <class T>
NERFAD_HD bool is_log_density_inside(T h) {
  return !(h < -T(kLogDensityLimit)) && !(h > T(kLogDensityLimit));
}

template <class T>
NERFAD_HD bool has_gradient(const RadianceFieldBwd<T>& p, int64_t i) {
  const T* rgb = p.grad_rgbs + 3 * i;
  return p.grad_sigmas[i] != T(0) || rgb[0] != T(0) || rgb[1] != T(0) || rgb[2] != T(0);
}

// Numbers of elements of scratch.
template <class T>
int64_t radiance_field_fwd_scratch(const RadianceFieldFwd<T>& p, int n_threads);
template <class T>
int64_t radiance_field_bwd_scratch(const RadianceFieldBwd<T>& p, int n_threads);

template <class T>
void radiance_field_fwd_cpu(const RadianceFieldFwd<T>& p, const ParallelFor& parallel_for);
template <class T>
void radiance_field_bwd_cpu(const RadianceFieldBwd<T>& p, const ParallelFor& parallel_for);

}  // namespace nerfad
