// Rays to pixels in one pass, for inference: march, grid encoding, density and colour networks, volume
// integration. No memory per sample. The colour network's share of the view direction is a bias per ray.
#pragma once
#include "nerfad/conditioned_mlp.h"
#include "nerfad/grid_encode.h"
#include "nerfad/march_ray.h"
#include "nerfad/parallel.h"
#include "nerfad/radiance_field.h"
#include "nerfad/sh_encode.h"

namespace nerfad {

constexpr int kViewCoefficients = 16;  // spherical harmonics of degree 4

// Samples of a render cache with their grid features: they take the place of marching and encoding.
struct RenderSamples {
  const int64_t* packed_info;  // [n_rays, 2] first sample, number of samples; null: there is no cache
  const float* t_starts;       // [n_samples]
  const float* t_ends;         // [n_samples]
  const void* features;        // [n_samples, sigma.d_in] of features_type, float32, float16 or bfloat16
  TableType features_type;
};

struct RenderRays {
  MarchRays rays;  // grid.bricks and .bounds are not read; jitter is null. With a cache, rays_d alone is
  RenderSamples samples;  // if they are given, grid and table are not read
  GridShape grid;         // n_dims is 3
  const void* table;      // [n_entries, n_features] of table_type
  GridCells cells;        // read instead of the table
  MlpShape sigma;         // grid features and condition -> log density and geometry code
  MlpShape color;         // geometry code and view coefficients -> rgb
  const float* sigma_params;
  const float* color_params;
  const float* cond;        // [sigma.d_cond] or null
  const float* background;  // [n_rays, 3] or null (black)
  float* colors;            // out [n_rays, 3]
  float* opacities;         // out [n_rays]
  float* depths;            // out [n_rays] sum of w * t_mid
  void* scratch;            // render_rays_fused_scratch() bytes
  TableType table_type;
  float early_stop_eps;
  float density_bias;
  int32_t max_samples_per_ray;
  int32_t image_width;     // the rays are pixels of rows of this width; 0: they are not. Changes no result
  MlpPrecision precision;  // of the networks; the view's share is float32 in both

  NERFAD_HD int n_code() const { return sigma.d_out - 1; }
};

// What has been integrated along a ray so far.
struct RenderSum {
  float transmittance, opacity, depth, color[3];
};

NERFAD_HD RenderSum render_begin() { return {1.0f, 0.0f, 0.0f, {0.0f, 0.0f, 0.0f}}; }

// Adds a sample that lets `keep` of the light through. The same steps as composite_fwd_ray.
NERFAD_HD void render_add(RenderSum& sum, float keep, const MarchSample& sample, const float* rgb) {
  const float weight = sum.transmittance * (1.0f - keep);
  sum.transmittance *= keep;
  sum.opacity += weight;
  sum.depth += weight * (sample.t_start + sample.t_end) * 0.5f;
  for (int c = 0; c < 3; ++c) sum.color[c] += weight * rgb[c];
}

NERFAD_HD void render_finish(const RenderRays& p, int64_t ray, const RenderSum& sum) {
  for (int c = 0; c < 3; ++c) {
    const float behind = p.background ? p.background[3 * ray + c] : 0.0f;
    p.colors[3 * ray + c] = sum.color[c] + (1.0f - sum.opacity) * behind;
  }
  p.opacities[ray] = sum.opacity;
  p.depths[ray] = sum.depth;
}

// The position of a sample in the box as the grid wants it, [0, 1]; the ray is in units of cells.
NERFAD_HD float render_position(float base, float slope, int resolution, const MarchSample& sample) {
  const float t_mid = (sample.t_start + sample.t_end) * 0.5f;
  const float x = (base + t_mid * slope) / static_cast<float>(resolution);
  return x < 0.0f ? 0.0f : (x > 1.0f ? 1.0f : x);
}
NERFAD_HD float render_position(const MarchRay& ray, int resolution, const MarchSample& sample, int axis) {
  return render_position(ray.base[axis], ray.slope[axis], resolution, sample);
}

// Spherical harmonics of the ray's direction, normalised; in the order of sh_encode.
NERFAD_HD void render_view(const RenderRays& p, int64_t ray, float* view) {
  const float* d = p.rays.rays_d + 3 * ray;
  const float length = std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
  const float inverse = 1.0f / (length > 1e-12f ? length : 1e-12f);
  const float unit[3] = {d[0] * inverse, d[1] * inverse, d[2] * inverse};
  const ShEncodeFwd<float> sh{unit, view, 1, 4};
  sh_encode_fwd_point<float, 4>(sh, 0);
}

int64_t render_rays_fused_scratch(const RenderRays& p, int n_threads);
void render_rays_fused_cpu(const RenderRays& p, const ParallelFor& parallel_for);

}  // namespace nerfad
