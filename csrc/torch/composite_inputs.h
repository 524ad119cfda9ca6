// What volume integration knows of rays and of their samples' intervals, checked.
#pragma once
#include <optional>

#include "check.h"
#include "nerfad/composite.h"

namespace nerfad {

inline void check_spans(const Check& check, int64_t n_samples, const Tensor& t_starts, const Tensor& t_ends,
                        const Tensor& packed_info, const std::optional<Tensor>& background) {
  check.shape(t_starts, "t_starts", {n_samples}).same_dtype(t_starts, "t_starts");
  check.shape(t_ends, "t_ends", {n_samples}).same_dtype(t_ends, "t_ends");
  check.shape(packed_info, "packed_info", {kAny, 2}).dtype(packed_info, "packed_info", ScalarType::Long);
  if (background) {
    check.shape(*background, "background", {packed_info.size(0), 3}).same_dtype(*background, "background");
  }
}

template <class T>
CompositeFwd<T> span_params(const Tensor& t_starts, const Tensor& t_ends, const Tensor& packed_info,
                            const std::optional<Tensor>& background, double early_stop_eps) {
  CompositeFwd<T> p{};
  p.t_starts = t_starts.const_data_ptr<T>();
  p.t_ends = t_ends.const_data_ptr<T>();
  p.packed_info = packed_info.const_data_ptr<int64_t>();
  p.background = background ? background->const_data_ptr<T>() : nullptr;
  p.n_rays = packed_info.size(0);
  p.early_stop_eps = static_cast<T>(early_stop_eps);
  return p;
}

}  // namespace nerfad
