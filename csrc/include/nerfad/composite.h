// Volume integration of packed samples (quadrature of eq. 8):
//   alpha_i = 1 - exp(-sigma_i * (t_end_i - t_start_i)),  T_i = prod_{j<i} (1 - alpha_j),  w_i = T_i *
//   alpha_i color = sum w_i c_i + (1 - sum w_i) * background
// Forward and backward share composite_step and composite_stop, so that both end at the same sample.
#pragma once
#include <cmath>

#include "nerfad/hd.h"
#include "nerfad/parallel.h"

namespace nerfad {

template <class T>
struct CompositeFwd {
  const T* sigmas;             // [n_samples] density, 1/world unit
  const T* rgbs;               // [n_samples, 3]
  const T* t_starts;           // [n_samples] world units
  const T* t_ends;             // [n_samples]
  const int64_t* packed_info;  // [n_rays, 2] first sample, number of samples
  const T* background;         // [n_rays, 3] or null (black)
  T* colors;                   // out [n_rays, 3]
  T* opacities;                // out [n_rays]
  T* depths;                   // out [n_rays] sum of w * t, not normalised
  T* weights;                  // out [n_samples], zero behind the early stop
  int64_t n_rays;
  T early_stop_eps;  // a ray ends once its transmittance is below this
};

template <class T>
struct CompositeBwd {
  CompositeFwd<T> fwd;      // inputs of the forward pass; its outputs are not read
  const T* grad_colors;     // [n_rays, 3]
  const T* grad_opacities;  // [n_rays]
  const T* grad_depths;     // [n_rays]
  const T* grad_weights;    // [n_samples]
  T* grad_sigmas;           // out [n_samples]
  T* grad_rgbs;             // out [n_samples, 3]
  T* grad_background;       // out [n_rays, 3] or null
};

template <class T>
struct CompositeStep {
  T weight;
  T t_mid;
  T delta;
};

// Advances the transmittance over sample i.
template <class T>
NERFAD_HD CompositeStep<T> composite_step(const CompositeFwd<T>& p, int64_t i, T& transmittance) {
  const T delta = p.t_ends[i] - p.t_starts[i];
  const T keep = std::exp(-p.sigmas[i] * delta);
  const T weight = transmittance * (T(1) - keep);
  transmittance *= keep;
  return {weight, (p.t_starts[i] + p.t_ends[i]) * T(0.5), delta};
}

template <class T>
NERFAD_HD bool composite_stop(const CompositeFwd<T>& p, T transmittance) {
  return transmittance < p.early_stop_eps;
}

// What a ray has gathered so far.
template <class T>
struct CompositeSum {
  T transmittance = 1, opacity = 0, depth = 0, color[3] = {0, 0, 0};
};

// Adds sample i of a ray that has not stopped, and writes its weight.
template <class T>
NERFAD_HD void composite_add(const CompositeFwd<T>& p, int64_t i, CompositeSum<T>& sum) {
  const CompositeStep<T> s = composite_step(p, i, sum.transmittance);
  for (int c = 0; c < 3; ++c) sum.color[c] += s.weight * p.rgbs[3 * i + c];
  sum.opacity += s.weight;
  sum.depth += s.weight * s.t_mid;
  p.weights[i] = s.weight;
}

// Writes a ray that has come to its end.
template <class T>
NERFAD_HD void composite_finish(const CompositeFwd<T>& p, int64_t ray, const CompositeSum<T>& sum) {
  for (int c = 0; c < 3; ++c) {
    const T behind = p.background ? p.background[3 * ray + c] : T(0);
    p.colors[3 * ray + c] = sum.color[c] + (T(1) - sum.opacity) * behind;
  }
  p.opacities[ray] = sum.opacity;
  p.depths[ray] = sum.depth;
}

template <class T>
NERFAD_HD void composite_fwd_ray(const CompositeFwd<T>& p, int64_t ray) {
  const int64_t begin = p.packed_info[2 * ray], end = begin + p.packed_info[2 * ray + 1];
  CompositeSum<T> sum;
  int64_t i = begin;
  for (; i < end && !composite_stop(p, sum.transmittance); ++i) composite_add(p, i, sum);
  for (; i < end; ++i) p.weights[i] = 0;
  composite_finish(p, ray, sum);
}

// dL/dw_i, the background's share included.
template <class T>
NERFAD_HD T composite_weight_grad(const CompositeBwd<T>& p, int64_t ray, int64_t i, T t_mid) {
  T g = p.grad_opacities[ray] + p.grad_depths[ray] * t_mid + p.grad_weights[i];
  for (int c = 0; c < 3; ++c) {
    const T behind = p.fwd.background ? p.fwd.background[3 * ray + c] : T(0);
    g += p.grad_colors[3 * ray + c] * (p.fwd.rgbs[3 * i + c] - behind);
  }
  return g;
}

// dL/dsigma_i = delta_i * (T_{i+1} g_i - sum_{j>i} w_j g_j) with g = dL/dw.
template <class T>
NERFAD_HD void composite_bwd_ray(const CompositeBwd<T>& p, int64_t ray) {
  const CompositeFwd<T>& f = p.fwd;
  const int64_t begin = f.packed_info[2 * ray], end = begin + f.packed_info[2 * ray + 1];
  T transmittance = 1, opacity = 0, behind = 0;
  int64_t stop = begin;
  for (; stop < end && !composite_stop(f, transmittance); ++stop) {
    const CompositeStep<T> s = composite_step(f, stop, transmittance);
    behind += s.weight * composite_weight_grad(p, ray, stop, s.t_mid);
    opacity += s.weight;
  }
  transmittance = 1;
  for (int64_t i = begin; i < stop; ++i) {
    const CompositeStep<T> s = composite_step(f, i, transmittance);
    const T g = composite_weight_grad(p, ray, i, s.t_mid);
    behind -= s.weight * g;
    p.grad_sigmas[i] = s.delta * (transmittance * g - behind);
    for (int c = 0; c < 3; ++c) p.grad_rgbs[3 * i + c] = s.weight * p.grad_colors[3 * ray + c];
  }
  for (int64_t i = stop; i < end; ++i) {
    p.grad_sigmas[i] = 0;
    for (int c = 0; c < 3; ++c) p.grad_rgbs[3 * i + c] = 0;
  }
  if (p.grad_background) {
    for (int c = 0; c < 3; ++c)
      p.grad_background[3 * ray + c] = (T(1) - opacity) * p.grad_colors[3 * ray + c];
  }
}

template <class T>
void composite_fwd_cpu(const CompositeFwd<T>& p, const ParallelFor& parallel_for);
template <class T>
void composite_bwd_cpu(const CompositeBwd<T>& p, const ParallelFor& parallel_for);

}  // namespace nerfad
