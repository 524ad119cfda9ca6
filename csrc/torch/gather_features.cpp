#include "nerfad/gather_features.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "check.h"
#include "dispatch.h"

namespace nerfad {

namespace {

constexpr const char* kOp = "gather_features";

void check_inputs(const Tensor& maps, const Tensor& pixels) {
  check_float_or_double(kOp, maps, "maps");
  const Check check(kOp, maps);
  check.shape(maps, "maps", {kAny, kAny, kAny, kAny});
  check.shape(pixels, "pixels", {maps.size(0), kAny, 2}).same_dtype(pixels, "pixels");
  check.that(maps.size(1) > 0 && maps.size(2) > 0, "maps must have at least one pixel, got " +
                                                       std::to_string(maps.size(1)) + " rows and " +
                                                       std::to_string(maps.size(2)) + " columns");
}

template <class T>
GatherFeaturesFwd<T> inputs(const Tensor& maps, const Tensor& pixels) {
  return {maps.const_data_ptr<T>(),
          pixels.const_data_ptr<T>(),
          nullptr,
          maps.size(0),
          pixels.size(1),
          maps.size(1),
          maps.size(2),
          maps.size(3)};
}

Tensor gather_features_fwd(const Tensor& maps, const Tensor& pixels) {
  check_inputs(maps, pixels);
  Tensor features = torch::stable::new_empty(maps, {maps.size(0), pixels.size(1), maps.size(3)});
  by_dtype(kOp, maps, [&](auto zero) {
    using T = decltype(zero);
    GatherFeaturesFwd<T> p = inputs<T>(maps, pixels);
    p.features = features.mutable_data_ptr<T>();
    dispatch<GatherFeaturesFwd<T>>(kOp, "gather_features_fwd", p, maps, &gather_features_fwd_cpu<T>);
  });
  return features;
}

std::tuple<Tensor, Tensor> gather_features_bwd(const Tensor& maps, const Tensor& pixels,
                                               const Tensor& grad_features, bool needs_maps,
                                               bool needs_pixels) {
  check_inputs(maps, pixels);
  Check(kOp, maps)
      .shape(grad_features, "grad_features", {maps.size(0), pixels.size(1), maps.size(3)})
      .same_dtype(grad_features, "grad_features");
  Tensor grad_maps = torch::stable::new_zeros(
      maps, {needs_maps ? maps.size(0) : 0, maps.size(1), maps.size(2), maps.size(3)});
  Tensor grad_pixels = torch::stable::new_empty(maps, {needs_pixels ? maps.size(0) : 0, pixels.size(1), 2});
  by_dtype(kOp, maps, [&](auto zero) {
    using T = decltype(zero);
    const GatherFeaturesBwd<T> p{inputs<T>(maps, pixels), grad_features.const_data_ptr<T>(),
                                 needs_maps ? grad_maps.mutable_data_ptr<T>() : nullptr,
                                 needs_pixels ? grad_pixels.mutable_data_ptr<T>() : nullptr};
    dispatch<GatherFeaturesBwd<T>>(kOp, "gather_features_bwd", p, maps, &gather_features_bwd_cpu<T>);
  });
  return {grad_maps, grad_pixels};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def("gather_features_fwd(Tensor maps, Tensor pixels) -> Tensor");
  m.def(
      "gather_features_bwd(Tensor maps, Tensor pixels, Tensor grad_features, bool needs_maps, bool "
      "needs_pixels) -> (Tensor, Tensor)");
}

NERFAD_IMPL_CPU_AND_CUDA(m) {
  m.impl("gather_features_fwd", TORCH_BOX(&gather_features_fwd));
  m.impl("gather_features_bwd", TORCH_BOX(&gather_features_bwd));
}

}  // namespace nerfad
