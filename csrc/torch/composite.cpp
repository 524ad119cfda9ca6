#include "nerfad/composite.h"

#include <torch/csrc/stable/library.h>

#include <optional>
#include <tuple>

#include "composite_inputs.h"
#include "dispatch.h"

namespace nerfad {

namespace {

void check_inputs(const char* op, const Tensor& sigmas, const Tensor& rgbs, const Tensor& t_starts,
                  const Tensor& t_ends, const Tensor& packed_info, const std::optional<Tensor>& background) {
  check_float_or_double(op, sigmas, "sigmas");
  const Check check(op, sigmas);
  check.shape(sigmas, "sigmas", {kAny});
  const int64_t n_samples = sigmas.size(0);
  check.shape(rgbs, "rgbs", {n_samples, 3}).same_dtype(rgbs, "rgbs");
  check_spans(check, n_samples, t_starts, t_ends, packed_info, background);
}

template <class T>
CompositeFwd<T> inputs(const Tensor& sigmas, const Tensor& rgbs, const Tensor& t_starts, const Tensor& t_ends,
                       const Tensor& packed_info, const std::optional<Tensor>& background,
                       double early_stop_eps) {
  CompositeFwd<T> p = span_params<T>(t_starts, t_ends, packed_info, background, early_stop_eps);
  p.sigmas = sigmas.const_data_ptr<T>();
  p.rgbs = rgbs.const_data_ptr<T>();
  return p;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> composite_fwd(const Tensor& sigmas, const Tensor& rgbs,
                                                         const Tensor& t_starts, const Tensor& t_ends,
                                                         const Tensor& packed_info,
                                                         std::optional<Tensor> background,
                                                         double early_stop_eps) {
  check_inputs("composite", sigmas, rgbs, t_starts, t_ends, packed_info, background);
  const int64_t n_rays = packed_info.size(0);
  Tensor colors = torch::stable::new_empty(sigmas, {n_rays, 3});
  Tensor opacities = torch::stable::new_empty(sigmas, {n_rays});
  Tensor depths = torch::stable::new_empty(sigmas, {n_rays});
  Tensor weights = torch::stable::new_zeros(sigmas, {sigmas.size(0)});
  auto run = [&](auto zero) {
    using T = decltype(zero);
    CompositeFwd<T> p = inputs<T>(sigmas, rgbs, t_starts, t_ends, packed_info, background, early_stop_eps);
    p.colors = colors.mutable_data_ptr<T>();
    p.opacities = opacities.mutable_data_ptr<T>();
    p.depths = depths.mutable_data_ptr<T>();
    p.weights = weights.mutable_data_ptr<T>();
    dispatch<CompositeFwd<T>>("composite", "composite_fwd", p, sigmas, &composite_fwd_cpu<T>);
  };
  by_dtype("composite", sigmas, run);
  return {colors, opacities, depths, weights};
}

std::tuple<Tensor, Tensor, Tensor> composite_bwd(const Tensor& sigmas, const Tensor& rgbs,
                                                 const Tensor& t_starts, const Tensor& t_ends,
                                                 const Tensor& packed_info, std::optional<Tensor> background,
                                                 double early_stop_eps, const Tensor& grad_colors,
                                                 const Tensor& grad_opacities, const Tensor& grad_depths,
                                                 const Tensor& grad_weights) {
  Tensor grad_sigmas = torch::stable::new_zeros(sigmas, {sigmas.size(0)});
  Tensor grad_rgbs = torch::stable::new_zeros(sigmas, {sigmas.size(0), 3});
  Tensor grad_background = torch::stable::new_empty(sigmas, {background ? packed_info.size(0) : 0, 3});
  auto run = [&](auto zero) {
    using T = decltype(zero);
    CompositeBwd<T> p{};
    p.fwd = inputs<T>(sigmas, rgbs, t_starts, t_ends, packed_info, background, early_stop_eps);
    p.grad_colors = grad_colors.const_data_ptr<T>();
    p.grad_opacities = grad_opacities.const_data_ptr<T>();
    p.grad_depths = grad_depths.const_data_ptr<T>();
    p.grad_weights = grad_weights.const_data_ptr<T>();
    p.grad_sigmas = grad_sigmas.mutable_data_ptr<T>();
    p.grad_rgbs = grad_rgbs.mutable_data_ptr<T>();
    p.grad_background = background ? grad_background.mutable_data_ptr<T>() : nullptr;
    dispatch<CompositeBwd<T>>("composite", "composite_bwd", p, sigmas, &composite_bwd_cpu<T>);
  };
  by_dtype("composite", sigmas, run);
  return {grad_sigmas, grad_rgbs, grad_background};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def(
      "composite_fwd(Tensor sigmas, Tensor rgbs, Tensor t_starts, Tensor t_ends, Tensor packed_info, "
      "Tensor? background, float early_stop_eps) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "composite_bwd(Tensor sigmas, Tensor rgbs, Tensor t_starts, Tensor t_ends, Tensor packed_info, "
      "Tensor? background, float early_stop_eps, Tensor grad_colors, Tensor grad_opacities, Tensor "
      "grad_depths, "
      "Tensor grad_weights) -> (Tensor, Tensor, Tensor)");
}

NERFAD_IMPL_CPU_AND_CUDA(m) {
  m.impl("composite_fwd", TORCH_BOX(&composite_fwd));
  m.impl("composite_bwd", TORCH_BOX(&composite_bwd));
}

}  // namespace nerfad
