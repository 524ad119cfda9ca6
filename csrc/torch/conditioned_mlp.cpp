#include "nerfad/conditioned_mlp.h"

#include <torch/csrc/stable/library.h>

#include <optional>
#include <string>
#include <tuple>

#include "check.h"
#include "dispatch.h"
#include "scratch.h"

namespace nerfad {

namespace {

constexpr const char* kOp = "conditioned_mlp";
constexpr int kMaxHiddenLayers = 16;

struct Inputs {
  const Tensor& x;
  const Tensor& params;
  const std::optional<Tensor>& cond;
  const std::optional<Tensor>& cond_index;
  MlpShape shape;
  bool bfloat16;
};

MlpShape make_shape(const Tensor& x, int64_t d_cond, int64_t d_hidden, int64_t n_hidden, int64_t d_out,
                    bool sigmoid) {
  check_float_or_double(kOp, x, "x");
  Check(kOp, x)
      .rows(x, "x", {kAny, kAny}, x.is_cuda() || emulating())
      .that(d_hidden >= 16 && d_hidden <= 128, "d_hidden must be in [16, 128]")
      .that(n_hidden >= 1 && n_hidden <= kMaxHiddenLayers, "n_hidden must be in [1, 16]")
      .that(x.size(1) >= 1 && d_out >= 1 && d_cond >= 0, "d_in and d_out must be at least 1");
  return {static_cast<int>(x.size(1)), static_cast<int>(d_cond), static_cast<int>(d_hidden),
          static_cast<int>(n_hidden),  static_cast<int>(d_out),  sigmoid};
}

void check_index_range(const Tensor& index, int64_t n_cond) {
  if (index.is_cuda()) return;  // reading it would synchronise
  const int32_t* p = index.const_data_ptr<int32_t>();
  int32_t low = 0, high = 0;
  for (int64_t i = 0; i < index.size(0); ++i) {
    low = p[i] < low ? p[i] : low;
    high = p[i] > high ? p[i] : high;
  }
  require(low >= 0 && high < n_cond, kOp, ": cond_index must be in [0, ", n_cond, "), got ",
          low < 0 ? low : high);
}

void check_inputs(const Inputs& in) {
  const Check check(kOp, in.x);
  check.that(!in.bfloat16 || in.x.scalar_type() == ScalarType::Float,
             "precision bfloat16 needs float32 tensors");
  check.that(!in.bfloat16 || !(in.x.is_cuda() || emulating()),
             "precision bfloat16 runs on the CPU only; CUDA kernels always multiply in half precision: leave "
             "precision at float32");
  check.shape(in.params, "params", {in.shape.n_params()}).same_dtype(in.params, "params");
  check.that(in.cond.has_value() == (in.shape.d_cond > 0),
             in.cond ? "cond must be None for a network without conditions"
                     : "cond must be given for a network with conditions");
  if (in.cond) {
    check.shape(*in.cond, "cond", {kAny, in.shape.d_cond}).same_dtype(*in.cond, "cond");
    check.that(in.cond->size(0) >= 1, "cond must hold at least one condition");
  }
  if (in.cond_index) {
    check.shape(*in.cond_index, "cond_index", {in.x.size(0)})
        .dtype(*in.cond_index, "cond_index", ScalarType::Int);
    check_index_range(*in.cond_index, in.cond ? in.cond->size(0) : 1);
  }
}

template <class T>
ConditionedMlpFwd<T> params_of(const Inputs& in) {
  ConditionedMlpFwd<T> p{};
  p.x = in.x.const_data_ptr<T>();
  p.params = in.params.const_data_ptr<T>();
  p.cond = in.cond ? in.cond->const_data_ptr<T>() : nullptr;
  p.cond_index = in.cond_index ? in.cond_index->const_data_ptr<int32_t>() : nullptr;
  p.n_samples = in.x.size(0);
  p.x_stride = p.n_samples > 1 ? in.x.stride(0) : in.x.size(1);
  p.n_cond = in.cond ? in.cond->size(0) : 1;
  p.shape = in.shape;
  p.precision = in.bfloat16 ? MlpPrecision::kBFloat16 : MlpPrecision::kFloat32;
  return p;
}

// As much as the kernels ask for. `cpu_size` may read the arguments, so it is not called on CUDA.
template <class Params, class Size>
Scratch make_scratch(const char* cuda_name, const Params& p, const Tensor& on, const Size& cpu_size) {
  const int64_t element = on.element_size();
  if (!on.is_cuda() && !emulating()) return Scratch(on, element * cpu_size());
  const auto cuda_size = reinterpret_cast<int64_t (*)(const Params*)>(cuda_symbol(cuda_name, on));
  return Scratch(on, element * cuda_size(&p));
}

Tensor conditioned_mlp_fwd(const Tensor& x, const Tensor& params, std::optional<Tensor> cond,
                           std::optional<Tensor> cond_index, int64_t d_cond, int64_t d_hidden,
                           int64_t n_hidden, int64_t d_out, bool sigmoid, bool bfloat16) {
  const Inputs in{
      x, params, cond, cond_index, make_shape(x, d_cond, d_hidden, n_hidden, d_out, sigmoid), bfloat16};
  check_inputs(in);
  Tensor out = torch::stable::new_empty(x, {x.size(0), d_out});
  by_dtype(kOp, x, [&](auto zero) {
    using T = decltype(zero);
    ConditionedMlpFwd<T> p = params_of<T>(in);
    p.out = out.mutable_data_ptr<T>();
    const Scratch scratch = make_scratch("conditioned_mlp_fwd_scratch", p, x, [&] {
      return conditioned_mlp_fwd_scratch(p, torch_pool().n_threads());
    });
    p.scratch = scratch.as<T>();
    dispatch<ConditionedMlpFwd<T>>(kOp, "conditioned_mlp_fwd", p, x, &conditioned_mlp_fwd_cpu<T>);
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor> conditioned_mlp_bwd(const Tensor& grad_out, const Tensor& x,
                                                       const Tensor& params, std::optional<Tensor> cond,
                                                       std::optional<Tensor> cond_index, int64_t d_cond,
                                                       int64_t d_hidden, int64_t n_hidden, int64_t d_out,
                                                       bool sigmoid, bool bfloat16, bool needs_grad_x) {
  const Inputs in{
      x, params, cond, cond_index, make_shape(x, d_cond, d_hidden, n_hidden, d_out, sigmoid), bfloat16};
  Check(kOp, x).shape(grad_out, "grad_out", {x.size(0), d_out}).same_dtype(grad_out, "grad_out");
  Tensor grad_x = torch::stable::new_empty(x, {needs_grad_x ? x.size(0) : 0, x.size(1)});
  Tensor grad_params = torch::stable::new_empty(params, {params.size(0)});
  Tensor grad_cond = torch::stable::new_empty(x, {cond ? cond->size(0) : 0, d_cond});
  by_dtype(kOp, x, [&](auto zero) {
    using T = decltype(zero);
    ConditionedMlpBwd<T> p{};
    p.fwd = params_of<T>(in);
    p.grad_out = grad_out.const_data_ptr<T>();
    p.grad_x = needs_grad_x ? grad_x.mutable_data_ptr<T>() : nullptr;
    p.grad_params = grad_params.mutable_data_ptr<T>();
    p.grad_cond = cond ? grad_cond.mutable_data_ptr<T>() : nullptr;
    const Scratch scratch =
        make_scratch("conditioned_mlp_bwd_scratch", p, x, [&] { return conditioned_mlp_bwd_scratch(p); });
    p.fwd.scratch = scratch.as<T>();
    dispatch<ConditionedMlpBwd<T>>(kOp, "conditioned_mlp_bwd", p, x, &conditioned_mlp_bwd_cpu<T>);
  });
  return {grad_x, grad_params, grad_cond};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def(
      "conditioned_mlp_fwd(Tensor x, Tensor params, Tensor? cond, Tensor? cond_index, int d_cond, int "
      "d_hidden, int n_hidden, int d_out, bool sigmoid, bool bfloat16) -> Tensor");
  m.def(
      "conditioned_mlp_bwd(Tensor grad_out, Tensor x, Tensor params, Tensor? cond, Tensor? cond_index, int "
      "d_cond, int d_hidden, int n_hidden, int d_out, bool sigmoid, bool bfloat16, bool needs_grad_x) -> "
      "(Tensor, Tensor, Tensor)");
}

NERFAD_IMPL_CPU_AND_CUDA(m) {
  m.impl("conditioned_mlp_fwd", TORCH_BOX(&conditioned_mlp_fwd));
  m.impl("conditioned_mlp_bwd", TORCH_BOX(&conditioned_mlp_bwd));
}

}  // namespace nerfad
