#include "nerfad/render_rays_fused.h"

#include <torch/csrc/stable/library.h>

#include <cmath>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "check.h"
#include "dispatch.h"
#include "field_check.h"
#include "grid_check.h"
#include "scratch.h"

namespace nerfad {

namespace {

constexpr const char* kOp = "render_rays_fused";

MlpPrecision precision_of(const Check& check, bool bfloat16, const Tensor& rays) {
  check.that(!bfloat16 || !(rays.is_cuda() || emulating()),
             "precision bfloat16 runs on the CPU only; CUDA kernels always multiply in half precision: leave "
             "precision at float32");
  return bfloat16 ? MlpPrecision::kBFloat16 : MlpPrecision::kFloat32;
}

// grid: see field_check.h.
void check_table(const Check& check, const Tensor& table, const std::vector<int64_t>& grid,
                 const std::optional<Tensor>& cells, RenderRays& p) {
  check.shape(table, "table", {kAny, kAny});
  p.table_type = field_table_type(check, table, false);
  p.grid = field_grid(check, table, grid);
  p.table = table.data_ptr();
  p.cells = check_cells(check, cells, table, p.grid);
}

struct Networks {
  const Tensor& sigma_params;
  const std::vector<int64_t>& sigma;  // d_in, d_cond, d_hidden, n_hidden, d_out, sigmoid
  const Tensor& color_params;
  const std::vector<int64_t>& color;
  const std::optional<Tensor>& cond;
};

// `d_in`: what the density network must take, and what that is.
void check_networks(const Check& check, const Networks& n, int64_t d_in, const char* of, RenderRays& p) {
  p.sigma = field_mlp(check, n.sigma, n.sigma_params, "sigma_params");
  p.color = field_mlp(check, n.color, n.color_params, "color_params");
  const auto sizes = [](const std::string& what, int64_t expected, int64_t got) {
    return what + " must be " + std::to_string(expected) + ", got " + std::to_string(got);
  };
  check.that(p.sigma.d_in == d_in, sizes(std::string("sigma_spec.d_in (") + of + ")", d_in, p.sigma.d_in));
  check.that(p.sigma.d_out >= 2, sizes("sigma_spec.d_out (log density and code) at least", 2, p.sigma.d_out));
  const int64_t color_in = p.n_code() + kViewCoefficients;
  check.that(p.color.d_in == color_in, sizes("color_spec.d_in (code and view)", color_in, p.color.d_in));
  check.that(p.color.d_out == 3, sizes("color_spec.d_out", 3, p.color.d_out));
  check.that(p.color.d_cond == 0 && !p.sigma.sigmoid,
             "the colour network takes no condition, and the density network no output activation");
  check.that(n.cond.has_value() == (p.sigma.d_cond > 0),
             n.cond ? "cond must be None for a network without conditions"
                    : "cond must be given for a network with conditions");
  if (n.cond) check.shape(*n.cond, "cond", {1, p.sigma.d_cond}).same_dtype(*n.cond, "cond");
  p.sigma_params = n.sigma_params.const_data_ptr<float>();
  p.color_params = n.color_params.const_data_ptr<float>();
  p.cond = n.cond ? n.cond->const_data_ptr<float>() : nullptr;
}

struct Rays {
  const Tensor &rays_o, &rays_d, &t_min, &t_max, &aabb, &density_bitfield;
  int64_t resolution;
  double step_size, cone_angle;
};

void check_rays(const Check& check, const Rays& r, RenderRays& p) {
  check.shape(r.rays_o, "rays_o", {kAny, 3}).dtype(r.rays_o, "rays_o", ScalarType::Float);
  const int64_t n_rays = r.rays_o.size(0);
  check.shape(r.rays_d, "rays_d", {n_rays, 3}).same_dtype(r.rays_d, "rays_d");
  check.shape(r.t_min, "t_min", {n_rays}).same_dtype(r.t_min, "t_min");
  check.shape(r.t_max, "t_max", {n_rays}).same_dtype(r.t_max, "t_max");
  check.shape(r.aabb, "aabb", {6}).same_dtype(r.aabb, "aabb");
  check.that(r.resolution >= 4 && r.resolution <= 256 && (r.resolution & (r.resolution - 1)) == 0,
             "resolution must be a power of two from 4 to 256, got " + std::to_string(r.resolution));
  check.shape(r.density_bitfield, "density_bitfield", {r.resolution * r.resolution * r.resolution / 8})
      .dtype(r.density_bitfield, "density_bitfield", ScalarType::Byte);
  check.that(reinterpret_cast<uintptr_t>(r.density_bitfield.const_data_ptr<uint8_t>()) % 8 == 0,
             "density_bitfield must start at a multiple of 8 bytes; call .clone() on it");
  check.that(r.step_size > 0 && std::isfinite(r.step_size),
             "step_size must be positive, got " + std::to_string(r.step_size));
  check.that(r.cone_angle >= 0 && std::isfinite(r.cone_angle),
             "cone_angle must not be negative, got " + std::to_string(r.cone_angle));
  p.rays.grid.aabb = r.aabb.const_data_ptr<float>();
  p.rays.grid.bitfield = reinterpret_cast<const uint64_t*>(r.density_bitfield.const_data_ptr<uint8_t>());
  p.rays.grid.resolution = static_cast<int>(r.resolution);
  p.rays.grid.step_size = static_cast<float>(r.step_size);
  p.rays.grid.cone_angle = static_cast<float>(r.cone_angle);
  p.rays.rays_o = r.rays_o.const_data_ptr<float>();
  p.rays.rays_d = r.rays_d.const_data_ptr<float>();
  p.rays.t_min = r.t_min.const_data_ptr<float>();
  p.rays.t_max = r.t_max.const_data_ptr<float>();
  p.rays.n_rays = n_rays;
}

// Allocates outputs and scratch, and runs.
std::tuple<Tensor, Tensor, Tensor> run(const char* op, RenderRays& p, const Tensor& rays_d,
                                       const std::optional<Tensor>& background) {
  const int64_t n_rays = p.rays.n_rays;
  if (background) {
    Check(op, rays_d)
        .shape(*background, "background", {n_rays, 3})
        .dtype(*background, "background", ScalarType::Float);
  }
  Tensor colors = torch::stable::new_empty(rays_d, {n_rays, 3});
  Tensor opacities = torch::stable::new_empty(rays_d, {n_rays});
  Tensor depths = torch::stable::new_empty(rays_d, {n_rays});
  p.background = background ? background->const_data_ptr<float>() : nullptr;
  p.colors = colors.mutable_data_ptr<float>();
  p.opacities = opacities.mutable_data_ptr<float>();
  p.depths = depths.mutable_data_ptr<float>();
  int64_t bytes = render_rays_fused_scratch(p, torch_pool().n_threads());
  if (rays_d.is_cuda() || emulating()) {
    void* scratch_size = cuda_symbol("render_rays_fused_scratch", rays_d);
    bytes = reinterpret_cast<int64_t (*)(const RenderRays*)>(scratch_size)(&p);
  }
  const Scratch scratch(rays_d, bytes);
  p.scratch = scratch.as<uint8_t>();
  dispatch(op, "render_rays_fused", p, rays_d, &render_rays_fused_cpu);
  return {colors, opacities, depths};
}

std::tuple<Tensor, Tensor, Tensor> render_rays_fused(
    const Tensor& rays_o, const Tensor& rays_d, const Tensor& t_min, const Tensor& t_max, const Tensor& aabb,
    const Tensor& density_bitfield, int64_t resolution, double step_size, const Tensor& table,
    std::vector<int64_t> grid, const Tensor& sigma_params, std::vector<int64_t> sigma,
    const Tensor& color_params, std::vector<int64_t> color, std::optional<Tensor> cond,
    std::optional<Tensor> background, double early_stop_eps, int64_t max_samples_per_ray, double density_bias,
    double cone_angle, int64_t image_width, bool bfloat16, std::optional<Tensor> cells) {
  const Check check(kOp, rays_o);
  RenderRays p{};
  check_rays(check, {rays_o, rays_d, t_min, t_max, aabb, density_bitfield, resolution, step_size, cone_angle},
             p);
  check_table(check, table, grid, cells, p);
  check_networks(check, {sigma_params, sigma, color_params, color, cond}, p.grid.n_outputs(),
                 "the grid's outputs", p);
  check.that(max_samples_per_ray >= 0 && max_samples_per_ray <= kMarchMaxSteps,
             "max_samples_per_ray must be in [0, 2^24], got " + std::to_string(max_samples_per_ray));
  check.that(image_width >= 0 && image_width <= INT32_MAX,
             "image_width must be in [0, 2^31), got " + std::to_string(image_width));
  p.early_stop_eps = static_cast<float>(early_stop_eps);
  p.density_bias = static_cast<float>(density_bias);
  p.max_samples_per_ray = static_cast<int32_t>(max_samples_per_ray);
  p.precision = precision_of(check, bfloat16, rays_o);
  p.image_width = static_cast<int32_t>(image_width);
  return run(kOp, p, rays_d, background);
}

TableType features_type(const Check& check, const Tensor& features) {
  const ScalarType type = features.scalar_type();
  check.that(type == ScalarType::Float || type == ScalarType::Half || type == ScalarType::BFloat16,
             std::string("features must be float32, float16 or bfloat16, got ") + dtype_name(type));
  check.that(type != ScalarType::BFloat16 || !(features.is_cuda() || emulating()),
             "features of bfloat16 are for the CPU only: make the cache with dtype float16");
  if (type == ScalarType::Float) return TableType::kFloat32;
  return type == ScalarType::Half ? TableType::kFloat16 : TableType::kBFloat16;
}

std::tuple<Tensor, Tensor, Tensor> render_cached(const Tensor& features, const Tensor& t_starts,
                                                 const Tensor& t_ends, const Tensor& packed_info,
                                                 const Tensor& rays_d, const Tensor& sigma_params,
                                                 std::vector<int64_t> sigma, const Tensor& color_params,
                                                 std::vector<int64_t> color, std::optional<Tensor> cond,
                                                 std::optional<Tensor> background, double early_stop_eps,
                                                 double density_bias, int64_t image_width, bool bfloat16) {
  constexpr const char* kCachedOp = "render_cached";
  const Check check(kCachedOp, rays_d);
  RenderRays p{};
  check.shape(rays_d, "rays_d", {kAny, 3}).dtype(rays_d, "rays_d", ScalarType::Float);
  p.rays.n_rays = rays_d.size(0);
  check.shape(packed_info, "packed_info", {p.rays.n_rays, 2})
      .dtype(packed_info, "packed_info", ScalarType::Long);
  check.shape(t_starts, "t_starts", {kAny}).same_dtype(t_starts, "t_starts");
  check.shape(t_ends, "t_ends", {t_starts.size(0)}).same_dtype(t_ends, "t_ends");
  check.shape(features, "features", {t_starts.size(0), kAny});
  p.samples.features_type = features_type(check, features);
  check.that(reinterpret_cast<uintptr_t>(features.data_ptr()) % 16 == 0,
             "features must start at a multiple of 16 bytes; call .clone() on it");
  check.that(t_starts.size(0) <= INT32_MAX, "a cache holds at most 2^31 - 1 samples");
  check_networks(check, {sigma_params, sigma, color_params, color, cond}, features.size(1),
                 "the cache's features", p);
  p.rays.rays_d = rays_d.const_data_ptr<float>();
  p.samples.packed_info = packed_info.const_data_ptr<int64_t>();
  p.samples.t_starts = t_starts.const_data_ptr<float>();
  p.samples.t_ends = t_ends.const_data_ptr<float>();
  p.samples.features = features.data_ptr();
  p.early_stop_eps = static_cast<float>(early_stop_eps);
  p.density_bias = static_cast<float>(density_bias);
  p.max_samples_per_ray = INT32_MAX;
  p.image_width = static_cast<int32_t>(image_width);
  p.precision = precision_of(check, bfloat16, rays_d);
  return run(kCachedOp, p, rays_d, background);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def(
      "render_rays_fused(Tensor rays_o, Tensor rays_d, Tensor t_min, Tensor t_max, Tensor aabb, Tensor "
      "density_bitfield, int resolution, float step_size, Tensor table, int[] grid, Tensor sigma_params, "
      "int[] "
      "sigma, Tensor color_params, int[] color, Tensor? cond, Tensor? background, float early_stop_eps, int "
      "max_samples_per_ray, float density_bias, float cone_angle, int image_width, bool bfloat16, "
      "Tensor? cells=None) -> (Tensor, Tensor, Tensor)");
  m.def(
      "render_cached(Tensor features, Tensor t_starts, Tensor t_ends, Tensor packed_info, Tensor rays_d, "
      "Tensor "
      "sigma_params, int[] sigma, Tensor color_params, int[] color, Tensor? cond, Tensor? background, float "
      "early_stop_eps, float density_bias, int image_width, bool bfloat16) -> (Tensor, Tensor, Tensor)");
}

NERFAD_IMPL_CPU_AND_CUDA(m) {
  m.impl("render_rays_fused", TORCH_BOX(&render_rays_fused));
  m.impl("render_cached", TORCH_BOX(&render_cached));
}

}  // namespace nerfad
