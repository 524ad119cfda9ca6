// The fused renderer one thread per ray, in float32, for networks too large for shared memory; and what both
// kernels have in common.
#pragma once
#include "device.h"
#include "nerfad/render_rays_fused.h"
#include "render_lane.cuh"

namespace nerfad {

namespace {

constexpr int kPlainWidth = 256;  // the widest layer, input or output that a thread has room for

inline bool fits_plain(const RenderRays& p) {
  return p.sigma.d_in <= kPlainWidth && p.sigma.d_out <= kPlainWidth && p.color.d_in <= kPlainWidth;
}

// How much light a sample lets through.
__device__ __forceinline__ float render_keep(const RenderRays& p, float log_density,
                                             const MarchSample& sample) {
  const float h = fminf(fmaxf(log_density + p.density_bias, -kLogDensityLimit), kLogDensityLimit);
  return expf(-expf(h) * (sample.t_end - sample.t_start));
}

// x [d_in] to x [d_out], by way of y.
__device__ __forceinline__ void run_plain(const MlpShape& s, const float* params, const float* cond, float* x,
                                          float* y) {
  for (int l = 0; l < s.n_layers(); ++l) {
    const float *weights = params + s.weight_at(l), *bias = params + s.bias_at(l);
    for (int n = 0; n < s.out(l); ++n) {
      const float* row = weights + n * s.row(l);
      float sum = bias[n];
      for (int k = 0; k < s.in(l); ++k) sum += row[k] * x[k];
      for (int j = 0; l == 0 && j < s.d_cond; ++j) sum += row[s.d_in + j] * cond[j];
      y[n] = l < s.n_hidden ? fmaxf(sum, 0.0f) : sum;
    }
    for (int n = 0; n < s.out(l); ++n) x[n] = y[n];
  }
}

template <class Ray>
__global__ void render_plain_kernel(const RenderRays p, const RenderQueue queue) {
  const int64_t i = thread_index();
  if (i >= *queue.n_queued) return;
  const QueuedRay queued = queue.rays[i];
  float x[kPlainWidth], y[kPlainWidth], view[kViewCoefficients];
  render_view(p, queued.index, view);
  RenderSum sum = render_begin();
  Ray ray;
  ray.start(p, queued);
  for (int n = 0; n < p.max_samples_per_ray && sum.transmittance >= p.early_stop_eps; ++n) {
    if (n > 0 && !ray.next(p)) break;
    ray.features(p, [&](int k, float value) { x[k] = value; });
    run_plain(p.sigma, p.sigma_params, p.cond, x, y);
    const float keep = render_keep(p, x[0], ray.sample);
    for (int k = 0; k < p.n_code(); ++k) x[k] = x[k + 1];
    for (int j = 0; j < kViewCoefficients; ++j) x[p.n_code() + j] = view[j];
    run_plain(p.color, p.color_params, nullptr, x, y);
    for (int c = 0; c < 3 && p.color.sigmoid; ++c) x[c] = mlp_sigmoid(x[c]);
    render_add(sum, keep, ray.sample, x);
  }
  render_finish(p, queued.index, sum);
}

}  // namespace

}  // namespace nerfad
