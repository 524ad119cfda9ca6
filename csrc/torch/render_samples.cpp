#include "nerfad/render_samples.h"

#include <torch/csrc/stable/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "composite_inputs.h"
#include "dispatch.h"
#include "field_inputs.h"
#include "scratch.h"

namespace nerfad {

namespace {

constexpr const char* kOp = "render_samples";

// On the CPU; on CUDA, nerfad/ops/render_samples.py calls the parts.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> render_samples_fwd(
    const Tensor& positions, const Tensor& table, std::vector<int64_t> grid, const Tensor& sigma_params,
    std::vector<int64_t> sigma, const Tensor& color_params, std::vector<int64_t> color, const Tensor& views,
    const Tensor& t_starts, const Tensor& t_ends, const Tensor& packed_info, std::optional<Tensor> background,
    std::optional<Tensor> cond, std::optional<Tensor> cond_index, double density_bias, double early_stop_eps,
    bool bfloat16, bool keeps_features) {
  const std::optional<Tensor> none;
  const FieldInputs in{positions, table, grid, sigma_params, sigma,        color_params, color,
                       views,     none,  cond, cond_index,   density_bias, bfloat16};
  const Check check(kOp, positions);
  check.shape(packed_info, "packed_info", {kAny, 2});
  const int64_t n_rays = packed_info.size(0);
  const FieldShapes shapes = check_field_inputs(kOp, in, n_rays);
  const int64_t n = positions.size(0);
  check_spans(check, n, t_starts, t_ends, packed_info, background);
  check.shape(views, "views", {n_rays, kAny});
  Tensor colors = torch::stable::new_empty(positions, {n_rays, 3});
  Tensor opacities = torch::stable::new_empty(positions, {n_rays});
  Tensor depths = torch::stable::new_empty(positions, {n_rays});
  Tensor weights = torch::stable::new_zeros(positions, {n});
  Tensor sigmas = torch::stable::new_zeros(positions, {n});
  Tensor rgbs = torch::stable::new_zeros(positions, {n, 3});
  Tensor ray_indices = torch::stable::new_zeros(positions, {n}, ScalarType::Int);
  const Tensor features = new_features(kOp, in, shapes, keeps_features);
  by_dtype(kOp, positions, [&](auto zero) {
    using T = decltype(zero);
    RenderSamplesFwd<T> p{field_params<T>(in, shapes),
                          span_params<T>(t_starts, t_ends, packed_info, background, early_stop_eps),
                          ray_indices.mutable_data_ptr<int32_t>()};
    p.integral.sigmas = p.field.sigmas = sigmas.mutable_data_ptr<T>();
    p.integral.rgbs = p.field.rgbs = rgbs.mutable_data_ptr<T>();
    p.integral.colors = colors.mutable_data_ptr<T>();
    p.integral.opacities = opacities.mutable_data_ptr<T>();
    p.integral.depths = depths.mutable_data_ptr<T>();
    p.integral.weights = weights.mutable_data_ptr<T>();
    if (keeps_features) set_features(p.field, features, bfloat16);
    const ParallelFor pool = torch_pool();
    const int64_t size = render_samples_fwd_scratch(p, pool.n_threads());
    const Scratch scratch(positions, size * static_cast<int64_t>(sizeof(T)));
    p.field.scratch = scratch.as<T>();
    render_samples_fwd_cpu(p, pool);
  });
  return {colors, opacities, depths, weights, sigmas, rgbs, ray_indices, features};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def(
      "render_samples_fwd(Tensor positions, Tensor table, int[] grid, Tensor sigma_params, int[] sigma, "
      "Tensor color_params, int[] color, Tensor views, Tensor t_starts, Tensor t_ends, Tensor packed_info, "
      "Tensor? background, Tensor? cond, Tensor? cond_index, float density_bias, float early_stop_eps, "
      "bool bfloat16, bool keeps_features) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, "
      "Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(nerfad, CPU, m) { m.impl("render_samples_fwd", TORCH_BOX(&render_samples_fwd)); }

}  // namespace nerfad
