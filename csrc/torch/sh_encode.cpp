#include "nerfad/sh_encode.h"

#include <torch/csrc/stable/library.h>

#include "check.h"
#include "dispatch.h"

namespace nerfad {

namespace {

constexpr const char* kOp = "sh_encode";

template <class T>
ShEncodeFwd<T> inputs(const Tensor& dirs, int64_t degree) {
  ShEncodeFwd<T> p{};
  p.dirs = dirs.const_data_ptr<T>();
  p.n = dirs.size(0);
  p.degree = static_cast<int32_t>(degree);
  return p;
}

void check_inputs(const Tensor& dirs, int64_t degree) {
  check_float_or_double(kOp, dirs, "dirs");
  Check(kOp, dirs)
      .shape(dirs, "dirs", {kAny, 3})
      .that(degree >= 1 && degree <= 4, "degree must be in 1..4, got " + std::to_string(degree));
}

Tensor sh_encode_fwd(const Tensor& dirs, int64_t degree) {
  check_inputs(dirs, degree);
  Tensor values = torch::stable::new_empty(dirs, {dirs.size(0), degree * degree});
  by_dtype(kOp, dirs, [&](auto zero) {
    using T = decltype(zero);
    ShEncodeFwd<T> p = inputs<T>(dirs, degree);
    p.values = values.mutable_data_ptr<T>();
    dispatch<ShEncodeFwd<T>>(kOp, "sh_encode_fwd", p, dirs, &sh_encode_fwd_cpu<T>);
  });
  return values;
}

Tensor sh_encode_bwd(const Tensor& dirs, int64_t degree, const Tensor& grad_values) {
  check_inputs(dirs, degree);
  Check(kOp, dirs)
      .shape(grad_values, "grad_values", {dirs.size(0), degree * degree})
      .same_dtype(grad_values, "grad_values");
  Tensor grad_dirs = torch::stable::new_empty(dirs, {dirs.size(0), 3});
  by_dtype(kOp, dirs, [&](auto zero) {
    using T = decltype(zero);
    ShEncodeBwd<T> p{};
    p.fwd = inputs<T>(dirs, degree);
    p.grad_values = grad_values.const_data_ptr<T>();
    p.grad_dirs = grad_dirs.mutable_data_ptr<T>();
    dispatch<ShEncodeBwd<T>>(kOp, "sh_encode_bwd", p, dirs, &sh_encode_bwd_cpu<T>);
  });
  return grad_dirs;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def("sh_encode_fwd(Tensor dirs, int degree) -> Tensor");
  m.def("sh_encode_bwd(Tensor dirs, int degree, Tensor grad_values) -> Tensor");
}

NERFAD_IMPL_CPU_AND_CUDA(m) {
  m.impl("sh_encode_fwd", TORCH_BOX(&sh_encode_fwd));
  m.impl("sh_encode_bwd", TORCH_BOX(&sh_encode_bwd));
}

}  // namespace nerfad
