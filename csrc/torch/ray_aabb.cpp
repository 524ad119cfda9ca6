#include "nerfad/ray_aabb.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "check.h"
#include "dispatch.h"

namespace nerfad {

namespace {

std::tuple<Tensor, Tensor> ray_aabb(const Tensor& rays_o, const Tensor& rays_d, const Tensor& aabb,
                                    double near, double far) {
  const char* op = "ray_aabb";
  check_float_or_double(op, rays_o, "rays_o");
  const Check check(op, rays_o);
  check.shape(rays_o, "rays_o", {kAny, 3});
  const int64_t n_rays = rays_o.size(0);
  check.shape(rays_d, "rays_d", {n_rays, 3}).same_dtype(rays_d, "rays_d");
  check.shape(aabb, "aabb", {6}).same_dtype(aabb, "aabb");
  Tensor t_min = torch::stable::new_empty(rays_o, {n_rays});
  Tensor t_max = torch::stable::new_empty(rays_o, {n_rays});
  auto run = [&](auto zero) {
    using T = decltype(zero);
    const RayAabb<T> p{rays_o.const_data_ptr<T>(),  rays_d.const_data_ptr<T>(),  aabb.const_data_ptr<T>(),
                       t_min.mutable_data_ptr<T>(), t_max.mutable_data_ptr<T>(), n_rays,
                       static_cast<T>(near),        static_cast<T>(far)};
    dispatch<RayAabb<T>>(op, "ray_aabb", p, rays_o, &ray_aabb_cpu<T>);
  };
  by_dtype(op, rays_o, run);
  return {t_min, t_max};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def("ray_aabb(Tensor rays_o, Tensor rays_d, Tensor aabb, float near, float far) -> (Tensor, Tensor)");
}

NERFAD_IMPL_CPU_AND_CUDA(m) { m.impl("ray_aabb", TORCH_BOX(&ray_aabb)); }

}  // namespace nerfad
