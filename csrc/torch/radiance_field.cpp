#include "nerfad/radiance_field.h"

#include <torch/csrc/stable/library.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "check.h"
#include "dispatch.h"
#include "field_check.h"

namespace nerfad {

namespace {

constexpr const char* kOp = "radiance_field";

struct Inputs {
  const Tensor& positions;
  const Tensor& table;
  const std::vector<int64_t>& grid;
  const Tensor& sigma_params;
  const std::vector<int64_t>& sigma;
  const Tensor& color_params;
  const std::vector<int64_t>& color;
  const Tensor& views;
  const std::optional<Tensor>& ray_indices;
  const std::optional<Tensor>& cond;
  const std::optional<Tensor>& cond_index;
  double density_bias;
  bool bfloat16;
};

struct Shapes {
  TableType table_type;
  GridShape grid;
  MlpShape sigma, color;
};

// Index [n] in [0, n_rows) or none. On CUDA the range is not read: that would synchronise.
void check_index(const Check& check, const std::optional<Tensor>& index, const char* name, int64_t n,
                 int64_t n_rows) {
  if (!index) return;
  check.shape(*index, name, {n}).dtype(*index, name, ScalarType::Int);
  if (index->is_cuda()) return;
  const int32_t* p = index->const_data_ptr<int32_t>();
  int32_t low = 0, high = 0;
  for (int64_t i = 0; i < n; ++i) {
    low = p[i] < low ? p[i] : low;
    high = p[i] > high ? p[i] : high;
  }
  check.that(low >= 0 && high < n_rows, std::string(name) + " must be in [0, " + std::to_string(n_rows) +
                                            "), got " + std::to_string(low < 0 ? low : high));
}

void check_networks(const Check& check, const Inputs& in, Shapes& shapes) {
  MlpShape &sigma = shapes.sigma, &color = shapes.color;
  sigma = field_mlp(check, in.sigma, in.sigma_params, "sigma_params");
  color = field_mlp(check, in.color, in.color_params, "color_params");
  const auto sizes = [](const char* what, int64_t expected, int64_t got) {
    return std::string(what) + " must be " + std::to_string(expected) + ", got " + std::to_string(got);
  };
  const int64_t n_features = shapes.grid.n_outputs(), n_code = sigma.d_out - 1, n_view = in.views.size(1);
  check.that(sigma.d_in == n_features, sizes("sigma_spec.d_in (the grid's outputs)", n_features, sigma.d_in));
  check.that(n_code >= 1, sizes("sigma_spec.d_out (log density and code) at least", 2, sigma.d_out));
  check.that(color.d_in + color.d_cond == n_code + n_view,
             sizes("color_spec.d_in + d_cond (code and view)", n_code + n_view, color.d_in + color.d_cond));
  check.that(color.d_out == 3, sizes("color_spec.d_out", 3, color.d_out));
  check.that(!sigma.sigmoid, "the density network has no output activation");
  // Views as inputs or as conditions: the parameters lie in the same order.
  color.d_in = static_cast<int>(n_code);
  color.d_cond = static_cast<int>(n_view);
}

Shapes check_inputs(const Inputs& in) {
  check_float_or_double(kOp, in.positions, "positions");
  const Check check(kOp, in.positions);
  check.shape(in.positions, "positions", {kAny, 3}).shape(in.table, "table", {kAny, kAny});
  check.that(!in.bfloat16 || in.positions.scalar_type() == ScalarType::Float,
             "precision bfloat16 needs float32 tensors");
  check.that(!in.bfloat16 || !(in.positions.is_cuda() || emulating()),
             "precision bfloat16 runs on the CPU only; CUDA kernels always multiply in half precision: leave "
             "precision at float32");
  const int64_t n = in.positions.size(0);
  check.that(n < (int64_t{1} << 31), "positions must have fewer than 2^31 rows");
  Shapes shapes{};
  shapes.table_type = field_table_type(check, in.table, in.positions.scalar_type() == ScalarType::Double);
  shapes.grid = field_grid(check, in.table, in.grid);
  check.shape(in.views, "views", {kAny, kAny}).same_dtype(in.views, "views");
  check.that(in.views.size(0) >= 1, "views must hold at least one view");
  check_networks(check, in, shapes);
  check.that(in.cond.has_value() == (shapes.sigma.d_cond > 0),
             in.cond ? "cond must be None for a network without conditions"
                     : "cond must be given for a network with conditions");
  if (in.cond) {
    check.shape(*in.cond, "cond", {kAny, shapes.sigma.d_cond}).same_dtype(*in.cond, "cond");
    check.that(in.cond->size(0) >= 1, "cond must hold at least one condition");
  }
  check_index(check, in.ray_indices, "ray_indices", n, in.views.size(0));
  check_index(check, in.cond_index, "cond_index", n, in.cond ? in.cond->size(0) : 1);
  return shapes;
}

template <class T>
RadianceFieldFwd<T> params_of(const Inputs& in, const Shapes& shapes) {
  RadianceFieldFwd<T> p{};
  p.positions = in.positions.const_data_ptr<T>();
  p.table = in.table.data_ptr();
  p.sigma_params = in.sigma_params.const_data_ptr<T>();
  p.color_params = in.color_params.const_data_ptr<T>();
  p.cond = in.cond ? in.cond->const_data_ptr<T>() : nullptr;
  p.cond_index = in.cond_index ? in.cond_index->const_data_ptr<int32_t>() : nullptr;
  p.views = in.views.const_data_ptr<T>();
  p.view_index = in.ray_indices ? in.ray_indices->const_data_ptr<int32_t>() : nullptr;
  p.n = in.positions.size(0);
  p.n_cond = in.cond ? in.cond->size(0) : 1;
  p.n_views = in.views.size(0);
  p.table_type = shapes.table_type;
  p.grid = shapes.grid;
  p.sigma = shapes.sigma;
  p.color = shapes.color;
  p.density_bias = static_cast<T>(in.density_bias);
  p.precision = in.bfloat16 ? MlpPrecision::kBFloat16 : MlpPrecision::kFloat32;
  return p;
}

std::tuple<Tensor, Tensor> radiance_field_fwd(const Tensor& positions, const Tensor& table,
                                              std::vector<int64_t> grid, const Tensor& sigma_params,
                                              std::vector<int64_t> sigma, const Tensor& color_params,
                                              std::vector<int64_t> color, const Tensor& views,
                                              std::optional<Tensor> ray_indices, std::optional<Tensor> cond,
                                              std::optional<Tensor> cond_index, double density_bias,
                                              bool bfloat16) {
  const Inputs in{positions, table,       grid, sigma_params, sigma,        color_params, color,
                  views,     ray_indices, cond, cond_index,   density_bias, bfloat16};
  const Shapes shapes = check_inputs(in);
  Tensor sigmas = torch::stable::new_empty(positions, {positions.size(0)});
  Tensor rgbs = torch::stable::new_empty(positions, {positions.size(0), 3});
  by_dtype(kOp, positions, [&](auto zero) {
    using T = decltype(zero);
    RadianceFieldFwd<T> p = params_of<T>(in, shapes);
    p.sigmas = sigmas.mutable_data_ptr<T>();
    p.rgbs = rgbs.mutable_data_ptr<T>();
    int64_t size;
    if (positions.is_cuda() || emulating()) {
      void* cuda_size = cuda_symbol("radiance_field_fwd_scratch", positions);
      size = reinterpret_cast<int64_t (*)(const RadianceFieldFwd<T>*)>(cuda_size)(&p);
    } else {
      size = radiance_field_fwd_scratch(p, torch_pool().n_threads());
    }
    Tensor scratch = torch::stable::new_empty(positions, {size});
    p.scratch = scratch.mutable_data_ptr<T>();
    dispatch<RadianceFieldFwd<T>>(kOp, "radiance_field_fwd", p, positions, &radiance_field_fwd_cpu<T>);
  });
  return {sigmas, rgbs};
}

// On the CPU; on CUDA, nerfad/ops/radiance_field.py calls the parts' own backward passes.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> radiance_field_bwd(
    const Tensor& grad_sigmas, const Tensor& grad_rgbs, const Tensor& positions, const Tensor& table,
    std::vector<int64_t> grid, const Tensor& sigma_params, std::vector<int64_t> sigma,
    const Tensor& color_params, std::vector<int64_t> color, const Tensor& views,
    std::optional<Tensor> ray_indices, std::optional<Tensor> cond, std::optional<Tensor> cond_index,
    double density_bias, bool bfloat16, bool needs_positions, bool needs_table) {
  const Inputs in{positions, table,       grid, sigma_params, sigma,        color_params, color,
                  views,     ray_indices, cond, cond_index,   density_bias, bfloat16};
  const Shapes shapes = check_inputs(in);
  const int64_t n = positions.size(0);
  Check(kOp, positions)
      .shape(grad_sigmas, "grad_sigmas", {n})
      .same_dtype(grad_sigmas, "grad_sigmas")
      .shape(grad_rgbs, "grad_rgbs", {n, 3})
      .same_dtype(grad_rgbs, "grad_rgbs");
  Tensor grad_positions = torch::stable::new_zeros(positions, {needs_positions ? n : 0, 3});
  Tensor grad_table = torch::stable::new_zeros(
      positions, {needs_table ? shapes.grid.n_entries() : 0, shapes.grid.n_features});
  Tensor grad_sigma_params = torch::stable::new_empty(sigma_params, {sigma_params.size(0)});
  Tensor grad_color_params = torch::stable::new_empty(color_params, {color_params.size(0)});
  Tensor grad_views = torch::stable::new_empty(views, {views.size(0), views.size(1)});
  Tensor grad_cond = torch::stable::new_empty(positions, {cond ? cond->size(0) : 0, shapes.sigma.d_cond});
  by_dtype(kOp, positions, [&](auto zero) {
    using T = decltype(zero);
    RadianceFieldBwd<T> p{};
    p.fwd = params_of<T>(in, shapes);
    p.grad_sigmas = grad_sigmas.const_data_ptr<T>();
    p.grad_rgbs = grad_rgbs.const_data_ptr<T>();
    p.grad_positions = needs_positions ? grad_positions.mutable_data_ptr<T>() : nullptr;
    p.grad_table = needs_table ? grad_table.mutable_data_ptr<T>() : nullptr;
    p.grad_sigma_params = grad_sigma_params.mutable_data_ptr<T>();
    p.grad_color_params = grad_color_params.mutable_data_ptr<T>();
    p.grad_cond = cond ? grad_cond.mutable_data_ptr<T>() : nullptr;
    p.grad_views = grad_views.mutable_data_ptr<T>();
    const ParallelFor pool = torch_pool();
    Tensor scratch = torch::stable::new_empty(positions, {radiance_field_bwd_scratch(p, pool.n_threads())});
    p.fwd.scratch = scratch.mutable_data_ptr<T>();
    radiance_field_bwd_cpu(p, pool);
  });
  return {grad_positions, grad_table, grad_sigma_params, grad_color_params, grad_views, grad_cond};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def(
      "radiance_field_fwd(Tensor positions, Tensor table, int[] grid, Tensor sigma_params, int[] sigma, "
      "Tensor color_params, int[] color, Tensor views, Tensor? ray_indices, Tensor? cond, Tensor? "
      "cond_index, float density_bias, bool bfloat16) -> (Tensor, Tensor)");
  m.def(
      "radiance_field_bwd(Tensor grad_sigmas, Tensor grad_rgbs, Tensor positions, Tensor table, int[] grid, "
      "Tensor sigma_params, int[] sigma, Tensor color_params, int[] color, Tensor views, Tensor? "
      "ray_indices, Tensor? cond, Tensor? cond_index, float density_bias, bool bfloat16, bool "
      "needs_positions, bool "
      "needs_table) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

NERFAD_IMPL_CPU_AND_CUDA(m) { m.impl("radiance_field_fwd", TORCH_BOX(&radiance_field_fwd)); }
STABLE_TORCH_LIBRARY_IMPL(nerfad, CPU, m) { m.impl("radiance_field_bwd", TORCH_BOX(&radiance_field_bwd)); }

}  // namespace nerfad
