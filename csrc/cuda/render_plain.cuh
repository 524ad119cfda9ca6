// The fused renderer one thread per ray, in float32, for networks too large for shared memory; and what both
// kernels have in common.
#pragma once
#include "device.h"
#include "nerfad/render_rays_fused.h"

namespace nerfad {

namespace {

constexpr int kPlainWidth = 256;  // the widest layer, input or output that a thread has room for

inline bool fits_plain(const RenderRays& p) {
  return p.sigma.d_in <= kPlainWidth && p.sigma.d_out <= kPlainWidth && p.color.d_in <= kPlainWidth;
}

template <class S, int F>
__device__ __forceinline__ void add_entry(const RenderRays& p, uint32_t index, float weight, float* sum) {
  const GridEntry<S, F> entry = static_cast<const GridEntry<S, F>*>(p.table)[index];
  for (int f = 0; f < F; ++f) sum[f] += weight * widen(entry.v[f]);
}

// A position's features in one level.
template <int F>
__device__ __forceinline__ void encode_position(const RenderRays& p, int l, const float* position,
                                                float* sum) {
  const GridLevel& level = p.grid.levels[l];
  const GridCell<float, 3> cell = grid_cell<float, 3>(level, p.grid.smoothstep, position);
  for (int f = 0; f < F; ++f) sum[f] = 0;
  for (int corner = 0; corner < 8; ++corner) {
    float w = 1;
    for (int a = 0; a < 3; ++a) w *= corner >> a & 1 ? cell.weight[a] : 1.0f - cell.weight[a];
    const uint32_t index = grid_entry<3>(level, cell.vertex, corner);
    if (p.table_type == TableType::kFloat32) add_entry<float, F>(p, index, w, sum);
    if (p.table_type == TableType::kFloat16) add_entry<Half, F>(p, index, w, sum);
    if (p.table_type == TableType::kBFloat16) add_entry<BFloat16, F>(p, index, w, sum);
  }
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

template <int F>
__global__ void render_plain_kernel(const RenderRays p) {
  const int64_t index = thread_index();
  if (index >= p.rays.n_rays) return;
  RenderSum sum = render_begin();
  float x[kPlainWidth], y[kPlainWidth], view[kViewCoefficients];
  MarchRay ray;
  int first;
  if (march_ray_setup(p.rays, index, ray, first)) {
    render_view(p, index, view);
    MarchCursor cursor = march_begin(p.rays.grid, ray, first);
    MarchSample sample;
    for (int n = 0; n < p.max_samples_per_ray && sum.transmittance >= p.early_stop_eps; ++n) {
      if (!march_next(p.rays.grid, ray, cursor, sample)) break;
      float position[3];
      for (int a = 0; a < 3; ++a) position[a] = render_position(ray, p.rays.grid.resolution, sample, a);
      for (int l = 0; l < p.grid.n_levels; ++l) encode_position<F>(p, l, position, x + l * F);
      run_plain(p.sigma, p.sigma_params, p.cond, x, y);
      const float keep = render_keep(p, x[0], sample);
      for (int k = 0; k < p.n_code(); ++k) x[k] = x[k + 1];
      for (int j = 0; j < kViewCoefficients; ++j) x[p.n_code() + j] = view[j];
      run_plain(p.color, p.color_params, nullptr, x, y);
      for (int c = 0; c < 3 && p.color.sigmoid; ++c) x[c] = mlp_sigmoid(x[c]);
      render_add(sum, keep, sample, x);
    }
  }
  render_finish(p, index, sum);
}

}  // namespace

}  // namespace nerfad
