// Midpoints of packed samples, scaled so that the box is [0, 1]^3.
#pragma once
#include "nerfad/hd.h"
#include "nerfad/parallel.h"

namespace nerfad {

template <class T>
struct SamplePositionsFwd {
  const T* rays_o;             // [n_rays, 3]
  const T* rays_d;             // [n_rays, 3]
  const T* t_starts;           // [n_samples]
  const T* t_ends;             // [n_samples]
  const int64_t* packed_info;  // [n_rays, 2] first sample, number of samples
  const T* aabb;               // [6] low corner, high corner
  T* positions;                // out [n_samples, 3], zero beforehand: samples of no ray stay so
  int64_t n_rays;
};

template <class T>
struct SamplePositionsBwd {
  SamplePositionsFwd<T> fwd;  // inputs of the forward pass; its output is not read
  const T* grad_positions;    // [n_samples, 3]
  T* grad_rays_o;             // out [n_rays, 3]
  T* grad_rays_d;             // out [n_rays, 3]
};

// One axis of a ray, scaled to the box: position = base + t_mid * slope before clamping.
template <class T>
struct BoxedAxis {
  T base;
  T slope;
  T inverse_extent;
};

template <class T>
NERFAD_HD BoxedAxis<T> boxed_axis(const SamplePositionsFwd<T>& p, int64_t ray, int axis) {
  const T low = p.aabb[axis], inverse = T(1) / (p.aabb[3 + axis] - low);
  return {(p.rays_o[3 * ray + axis] - low) * inverse, p.rays_d[3 * ray + axis] * inverse, inverse};
}

template <class T>
NERFAD_HD T sample_t_mid(const SamplePositionsFwd<T>& p, int64_t i) {
  return (p.t_starts[i] + p.t_ends[i]) * T(0.5);
}

template <class T>
NERFAD_HD void sample_positions_fwd_ray(const SamplePositionsFwd<T>& p, int64_t ray) {
  const int64_t begin = p.packed_info[2 * ray], end = begin + p.packed_info[2 * ray + 1];
  if (begin == end) return;
  const BoxedAxis<T> axes[3] = {boxed_axis(p, ray, 0), boxed_axis(p, ray, 1), boxed_axis(p, ray, 2)};
  for (int64_t i = begin; i < end; ++i) {
    const T t_mid = sample_t_mid(p, i);
    for (int a = 0; a < 3; ++a) {
      const T x = axes[a].base + t_mid * axes[a].slope;
      p.positions[3 * i + a] = x < T(0) ? T(0) : (x > T(1) ? T(1) : x);
    }
  }
}

template <class T>
NERFAD_HD void sample_positions_bwd_ray(const SamplePositionsBwd<T>& p, int64_t ray) {
  const SamplePositionsFwd<T>& f = p.fwd;
  const int64_t begin = f.packed_info[2 * ray], end = begin + f.packed_info[2 * ray + 1];
  for (int a = 0; a < 3; ++a) {
    const BoxedAxis<T> axis = boxed_axis(f, ray, a);
    T grad_o = 0, grad_d = 0;
    for (int64_t i = begin; i < end; ++i) {
      const T t_mid = sample_t_mid(f, i), x = axis.base + t_mid * axis.slope;
      if (!(x >= T(0) && x <= T(1))) continue;
      grad_o += p.grad_positions[3 * i + a];
      grad_d += p.grad_positions[3 * i + a] * t_mid;
    }
    p.grad_rays_o[3 * ray + a] = grad_o * axis.inverse_extent;
    p.grad_rays_d[3 * ray + a] = grad_d * axis.inverse_extent;
  }
}

template <class T>
void sample_positions_fwd_cpu(const SamplePositionsFwd<T>& p, const ParallelFor& parallel_for);
template <class T>
void sample_positions_bwd_cpu(const SamplePositionsBwd<T>& p, const ParallelFor& parallel_for);

}  // namespace nerfad
