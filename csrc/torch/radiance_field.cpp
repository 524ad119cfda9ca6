#include "nerfad/radiance_field.h"

#include <torch/csrc/stable/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "dispatch.h"
#include "field_inputs.h"
#include "scratch.h"

namespace nerfad {

namespace {

constexpr const char* kOp = "radiance_field";

std::tuple<Tensor, Tensor, Tensor> radiance_field_fwd(
    const Tensor& positions, const Tensor& table, std::vector<int64_t> grid, const Tensor& sigma_params,
    std::vector<int64_t> sigma, const Tensor& color_params, std::vector<int64_t> color, const Tensor& views,
    std::optional<Tensor> ray_indices, std::optional<Tensor> cond, std::optional<Tensor> cond_index,
    double density_bias, bool bfloat16, bool keeps_features) {
  const FieldInputs in{positions, table,       grid, sigma_params, sigma,        color_params, color,
                       views,     ray_indices, cond, cond_index,   density_bias, bfloat16};
  const FieldShapes shapes = check_field_inputs(kOp, in, positions.size(0));
  Tensor sigmas = torch::stable::new_empty(positions, {positions.size(0)});
  Tensor rgbs = torch::stable::new_empty(positions, {positions.size(0), 3});
  const bool on_cpu = !positions.is_cuda() && !emulating();
  const Tensor features = new_features(kOp, in, shapes, keeps_features);
  by_dtype(kOp, positions, [&](auto zero) {
    using T = decltype(zero);
    RadianceFieldFwd<T> p = field_params<T>(in, shapes);
    p.sigmas = sigmas.mutable_data_ptr<T>();
    p.rgbs = rgbs.mutable_data_ptr<T>();
    if (keeps_features) set_features(p, features, bfloat16);
    int64_t size;
    if (!on_cpu) {
      void* cuda_size = cuda_symbol("radiance_field_fwd_scratch", positions);
      size = reinterpret_cast<int64_t (*)(const RadianceFieldFwd<T>*)>(cuda_size)(&p);
    } else {
      size = radiance_field_fwd_scratch(p, torch_pool().n_threads());
    }
    const Scratch scratch(positions, size * static_cast<int64_t>(sizeof(T)));
    p.scratch = scratch.as<T>();
    dispatch<RadianceFieldFwd<T>>(kOp, "radiance_field_fwd", p, positions, &radiance_field_fwd_cpu<T>);
  });
  return {sigmas, rgbs, features};
}

// On the CPU; on CUDA, nerfad/ops/radiance_field.py calls the parts' own backward passes.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> radiance_field_bwd(
    const Tensor& grad_sigmas, const Tensor& grad_rgbs, const Tensor& positions, const Tensor& table,
    std::vector<int64_t> grid, const Tensor& sigma_params, std::vector<int64_t> sigma,
    const Tensor& color_params, std::vector<int64_t> color, const Tensor& views,
    std::optional<Tensor> ray_indices, std::optional<Tensor> cond, std::optional<Tensor> cond_index,
    double density_bias, bool bfloat16, const Tensor& features, bool needs_positions, bool needs_table) {
  const FieldInputs in{positions, table,       grid, sigma_params, sigma,        color_params, color,
                       views,     ray_indices, cond, cond_index,   density_bias, bfloat16};
  const FieldShapes shapes = check_field_inputs(kOp, in, positions.size(0));
  const int64_t n = positions.size(0);
  Check(kOp, positions)
      .shape(grad_sigmas, "grad_sigmas", {n})
      .same_dtype(grad_sigmas, "grad_sigmas")
      .shape(grad_rgbs, "grad_rgbs", {n, 3})
      .same_dtype(grad_rgbs, "grad_rgbs")
      .shape(features, "features", {features.size(0) > 0 ? n : 0, shapes.sigma.d_in})
      .dtype(features, "features", features_type(positions, bfloat16));
  Tensor grad_positions = torch::stable::new_zeros(positions, {needs_positions ? n : 0, 3});
  Tensor grad_table = torch::stable::new_empty(
      positions, {needs_table ? shapes.grid.n_entries() : 0, shapes.grid.n_features});
  Tensor grad_sigma_params = torch::stable::new_empty(sigma_params, {sigma_params.size(0)});
  Tensor grad_color_params = torch::stable::new_empty(color_params, {color_params.size(0)});
  Tensor grad_views = torch::stable::new_empty(views, {views.size(0), views.size(1)});
  Tensor grad_cond = torch::stable::new_empty(positions, {cond ? cond->size(0) : 0, shapes.sigma.d_cond});
  by_dtype(kOp, positions, [&](auto zero) {
    using T = decltype(zero);
    RadianceFieldBwd<T> p{};
    p.fwd = field_params<T>(in, shapes);
    if (features.size(0) > 0) set_features(p.fwd, features, bfloat16);
    p.grad_sigmas = grad_sigmas.const_data_ptr<T>();
    p.grad_rgbs = grad_rgbs.const_data_ptr<T>();
    p.grad_positions = needs_positions ? grad_positions.mutable_data_ptr<T>() : nullptr;
    p.grad_table = needs_table ? grad_table.mutable_data_ptr<T>() : nullptr;
    p.grad_sigma_params = grad_sigma_params.mutable_data_ptr<T>();
    p.grad_color_params = grad_color_params.mutable_data_ptr<T>();
    p.grad_cond = cond ? grad_cond.mutable_data_ptr<T>() : nullptr;
    p.grad_views = grad_views.mutable_data_ptr<T>();
    const ParallelFor pool = torch_pool();
    const int64_t size = radiance_field_bwd_scratch(p, pool.n_threads());
    const Scratch scratch(positions, size * static_cast<int64_t>(sizeof(T)));
    p.fwd.scratch = scratch.as<T>();
    radiance_field_bwd_cpu(p, pool);
  });
  return {grad_positions, grad_table, grad_sigma_params, grad_color_params, grad_views, grad_cond};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def(
      "radiance_field_fwd(Tensor positions, Tensor table, int[] grid, Tensor sigma_params, int[] sigma, "
      "Tensor color_params, int[] color, Tensor views, Tensor? ray_indices, Tensor? cond, Tensor? "
      "cond_index, float density_bias, bool bfloat16, bool keeps_features) -> (Tensor, Tensor, Tensor)");
  m.def(
      "radiance_field_bwd(Tensor grad_sigmas, Tensor grad_rgbs, Tensor positions, Tensor table, int[] grid, "
      "Tensor sigma_params, int[] sigma, Tensor color_params, int[] color, Tensor views, Tensor? "
      "ray_indices, Tensor? cond, Tensor? cond_index, float density_bias, bool bfloat16, Tensor features, "
      "bool needs_positions, bool needs_table) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

NERFAD_IMPL_CPU_AND_CUDA(m) { m.impl("radiance_field_fwd", TORCH_BOX(&radiance_field_fwd)); }
STABLE_TORCH_LIBRARY_IMPL(nerfad, CPU, m) { m.impl("radiance_field_bwd", TORCH_BOX(&radiance_field_bwd)); }

}  // namespace nerfad
