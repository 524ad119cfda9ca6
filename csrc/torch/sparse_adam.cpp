#include "nerfad/sparse_adam.h"

#include <torch/csrc/stable/library.h>

#include <cmath>

#include "check.h"
#include "dispatch.h"

namespace nerfad {

namespace {

constexpr const char* kOp = "sparse_adam_";

void check_inputs(const Tensor& params, const Tensor& grads, const Tensor& m, const Tensor& v, int64_t step,
                  double beta1, double beta2) {
  check_float_or_double(kOp, params, "table");
  const Check check(kOp, params);
  const auto same = [&](const Tensor& t, const char* name) {
    bool ok = t.dim() == params.dim();
    for (int64_t a = 0; ok && a < params.dim(); ++a) ok = t.size(a) == params.size(a);
    check.that(ok, std::string(name) + " must have the shape of table");
    check.that(t.is_cuda() == params.is_cuda() && t.get_device_index() == params.get_device_index(),
               std::string(name) + " must be on the same device as table (no implicit copies)");
    check.that(t.is_contiguous(), std::string(name) + " must be contiguous; call .contiguous() on it");
    check.that(!params.is_cuda() || reinterpret_cast<uintptr_t>(t.data_ptr()) % 16 == 0,
               std::string(name) + " must start at a multiple of 16 bytes; call .clone() on it");
    check.same_dtype(t, name);
  };
  same(params, "table");
  same(grads, "grad");
  same(m, "m");
  same(v, "v");
  check.that(step >= 1, "step must be at least 1, got " + std::to_string(step));
  check.that(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1, "betas must be in [0, 1)");
}

void sparse_adam(Tensor params, Tensor grads, Tensor m, Tensor v, int64_t step, double lr, double beta1,
                 double beta2, double eps, double weight_decay, bool zero_grad) {
  check_inputs(params, grads, m, v, step, beta1, beta2);
  by_dtype(kOp, params, [&](auto zero) {
    using T = decltype(zero);
    SparseAdam<T> p{};
    p.params = params.mutable_data_ptr<T>();
    p.grads = grads.mutable_data_ptr<T>();
    p.m = m.mutable_data_ptr<T>();
    p.v = v.mutable_data_ptr<T>();
    p.n = params.numel();
    p.step_size = static_cast<T>(lr / (1 - std::pow(beta1, static_cast<double>(step))));
    p.keep = static_cast<T>(1 - lr * weight_decay);
    p.beta1 = static_cast<T>(beta1);
    p.beta2 = static_cast<T>(beta2);
    p.v_scale = static_cast<T>(1 / std::sqrt(1 - std::pow(beta2, static_cast<double>(step))));
    p.eps = static_cast<T>(eps);
    p.zero_grad = zero_grad;
    dispatch<SparseAdam<T>>(kOp, "sparse_adam", p, params, &sparse_adam_cpu<T>);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def(
      "sparse_adam_(Tensor(a!) table, Tensor(b!) grad, Tensor(c!) m, Tensor(d!) v, int step, float lr, "
      "float beta1, float beta2, float eps, float weight_decay, bool zero_grad) -> ()");
}

NERFAD_IMPL_CPU_AND_CUDA(m) { m.impl("sparse_adam_", TORCH_BOX(&sparse_adam)); }

}  // namespace nerfad
