#include "nerfad/sample_positions.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "check.h"
#include "dispatch.h"

namespace nerfad {

namespace {

constexpr const char* kOp = "sample_positions";

void check_inputs(const Tensor& rays_o, const Tensor& rays_d, const Tensor& t_starts, const Tensor& t_ends,
                  const Tensor& packed_info, const Tensor& aabb) {
  check_float_or_double(kOp, rays_o, "rays_o");
  const Check check(kOp, rays_o);
  check.shape(rays_o, "rays_o", {kAny, 3});
  check.shape(rays_d, "rays_d", {rays_o.size(0), 3}).same_dtype(rays_d, "rays_d");
  check.shape(t_starts, "t_starts", {kAny}).same_dtype(t_starts, "t_starts");
  check.shape(t_ends, "t_ends", {t_starts.size(0)}).same_dtype(t_ends, "t_ends");
  check.shape(packed_info, "packed_info", {rays_o.size(0), 2})
      .dtype(packed_info, "packed_info", ScalarType::Long);
  check.shape(aabb, "aabb", {6}).same_dtype(aabb, "aabb");
}

template <class T>
SamplePositionsFwd<T> inputs(const Tensor& rays_o, const Tensor& rays_d, const Tensor& t_starts,
                             const Tensor& t_ends, const Tensor& packed_info, const Tensor& aabb) {
  return {rays_o.const_data_ptr<T>(),
          rays_d.const_data_ptr<T>(),
          t_starts.const_data_ptr<T>(),
          t_ends.const_data_ptr<T>(),
          packed_info.const_data_ptr<int64_t>(),
          aabb.const_data_ptr<T>(),
          nullptr,
          rays_o.size(0)};
}

Tensor sample_positions_fwd(const Tensor& rays_o, const Tensor& rays_d, const Tensor& t_starts,
                            const Tensor& t_ends, const Tensor& packed_info, const Tensor& aabb) {
  check_inputs(rays_o, rays_d, t_starts, t_ends, packed_info, aabb);
  Tensor positions = torch::stable::new_zeros(rays_o, {t_starts.size(0), 3});
  auto run = [&](auto zero) {
    using T = decltype(zero);
    SamplePositionsFwd<T> p = inputs<T>(rays_o, rays_d, t_starts, t_ends, packed_info, aabb);
    p.positions = positions.mutable_data_ptr<T>();
    dispatch<SamplePositionsFwd<T>>(kOp, "sample_positions_fwd", p, rays_o, &sample_positions_fwd_cpu<T>);
  };
  by_dtype(kOp, rays_o, run);
  return positions;
}

std::tuple<Tensor, Tensor> sample_positions_bwd(const Tensor& rays_o, const Tensor& rays_d,
                                                const Tensor& t_starts, const Tensor& t_ends,
                                                const Tensor& packed_info, const Tensor& aabb,
                                                const Tensor& grad_positions) {
  Tensor grad_rays_o = torch::stable::new_empty(rays_o, {rays_o.size(0), 3});
  Tensor grad_rays_d = torch::stable::new_empty(rays_o, {rays_o.size(0), 3});
  auto run = [&](auto zero) {
    using T = decltype(zero);
    const SamplePositionsBwd<T> p{inputs<T>(rays_o, rays_d, t_starts, t_ends, packed_info, aabb),
                                  grad_positions.const_data_ptr<T>(), grad_rays_o.mutable_data_ptr<T>(),
                                  grad_rays_d.mutable_data_ptr<T>()};
    dispatch<SamplePositionsBwd<T>>(kOp, "sample_positions_bwd", p, rays_o, &sample_positions_bwd_cpu<T>);
  };
  by_dtype(kOp, rays_o, run);
  return {grad_rays_o, grad_rays_d};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def(
      "sample_positions_fwd(Tensor rays_o, Tensor rays_d, Tensor t_starts, Tensor t_ends, Tensor "
      "packed_info, "
      "Tensor aabb) -> Tensor");
  m.def(
      "sample_positions_bwd(Tensor rays_o, Tensor rays_d, Tensor t_starts, Tensor t_ends, Tensor "
      "packed_info, "
      "Tensor aabb, Tensor grad_positions) -> (Tensor, Tensor)");
}

NERFAD_IMPL_CPU_AND_CUDA(m) {
  m.impl("sample_positions_fwd", TORCH_BOX(&sample_positions_fwd));
  m.impl("sample_positions_bwd", TORCH_BOX(&sample_positions_bwd));
}

}  // namespace nerfad
