#include "nerfad/freq_encode.h"

#include <torch/csrc/stable/library.h>

#include "check.h"
#include "dispatch.h"

namespace nerfad {

namespace {

constexpr const char* kOp = "freq_encode";

template <class T>
FreqEncodeFwd<T> inputs(const Tensor& x, int64_t n_octaves, bool include_input) {
  FreqEncodeFwd<T> p{};
  p.x = x.const_data_ptr<T>();
  p.n = x.size(0);
  p.n_dims = static_cast<int32_t>(x.size(1));
  p.n_octaves = static_cast<int32_t>(n_octaves);
  p.include_input = include_input;
  return p;
}

int64_t check_inputs(const Tensor& x, int64_t n_octaves, bool include_input) {
  check_float_or_double(kOp, x, "x");
  Check(kOp, x)
      .shape(x, "x", {kAny, kAny})
      .that(n_octaves >= 0 && n_octaves <= 24,
            "n_octaves must be in 0..24, got " + std::to_string(n_octaves));
  return x.size(1) * (2 * n_octaves + (include_input ? 1 : 0));
}

Tensor freq_encode_fwd(const Tensor& x, int64_t n_octaves, bool include_input) {
  const int64_t n_outputs = check_inputs(x, n_octaves, include_input);
  Tensor values = torch::stable::new_empty(x, {x.size(0), n_outputs});
  by_dtype(kOp, x, [&](auto zero) {
    using T = decltype(zero);
    FreqEncodeFwd<T> p = inputs<T>(x, n_octaves, include_input);
    p.values = values.mutable_data_ptr<T>();
    dispatch<FreqEncodeFwd<T>>(kOp, "freq_encode_fwd", p, x, &freq_encode_fwd_cpu<T>);
  });
  return values;
}

Tensor freq_encode_bwd(const Tensor& x, int64_t n_octaves, bool include_input, const Tensor& values,
                       const Tensor& grad_values) {
  const int64_t n_outputs = check_inputs(x, n_octaves, include_input);
  Check(kOp, x)
      .shape(values, "values", {x.size(0), n_outputs})
      .same_dtype(values, "values")
      .shape(grad_values, "grad_values", {x.size(0), n_outputs})
      .same_dtype(grad_values, "grad_values");
  Tensor grad_x = torch::stable::new_empty(x, {x.size(0), x.size(1)});
  by_dtype(kOp, x, [&](auto zero) {
    using T = decltype(zero);
    FreqEncodeBwd<T> p{};
    p.fwd = inputs<T>(x, n_octaves, include_input);
    p.fwd.values = const_cast<T*>(values.const_data_ptr<T>());
    p.grad_values = grad_values.const_data_ptr<T>();
    p.grad_x = grad_x.mutable_data_ptr<T>();
    dispatch<FreqEncodeBwd<T>>(kOp, "freq_encode_bwd", p, x, &freq_encode_bwd_cpu<T>);
  });
  return grad_x;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def("freq_encode_fwd(Tensor x, int n_octaves, bool include_input) -> Tensor");
  m.def(
      "freq_encode_bwd(Tensor x, int n_octaves, bool include_input, Tensor values, Tensor grad_values) -> "
      "Tensor");
}

NERFAD_IMPL_CPU_AND_CUDA(m) {
  m.impl("freq_encode_fwd", TORCH_BOX(&freq_encode_fwd));
  m.impl("freq_encode_bwd", TORCH_BOX(&freq_encode_bwd));
}

}  // namespace nerfad
