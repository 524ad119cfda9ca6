// Runs an op's params struct on the backend of its tensors: the CPU launcher on torch's thread pool, or the
// CUDA launcher `nerfad_cuda_<op>` on the current stream. Kernels live in libnerfad_cuda.so, opened on the
// first CUDA call; tests can send CPU tensors through libnerfad_emu.so, the same sources over a SIMT
// emulator.
#pragma once
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include "nerfad/parallel.h"
#include "require.h"

namespace nerfad {

using torch::stable::Tensor;

ParallelFor torch_pool();
bool emulating();

// The symbol of the kernel library in use for `on`; throws one sentence with the remedy if there is none.
void* cuda_symbol(const char* name, const Tensor& on);
void run_cuda(const char* op, void* symbol, const void* params, const Tensor& on);

template <class Params>
void dispatch(const char* op, const char* cuda_name, const Params& params, const Tensor& on,
              void (*cpu)(const Params&, const ParallelFor&)) {
  if (!on.is_cuda() && !emulating()) {
    cpu(params, torch_pool());
  } else {
    run_cuda(op, cuda_symbol(cuda_name, on), &params, on);
  }
}

// Calls run(T{}) for the floating type of `on`; only the CPU has float64.
template <class Run>
void by_dtype(const char* op, const Tensor& on, const Run& run) {
  if (on.scalar_type() == torch::headeronly::ScalarType::Double) {
    require(!on.is_cuda() && !emulating(), op, ": float64 runs on the CPU only; use float32 on CUDA");
    run(double{});
  } else {
    run(float{});
  }
}

}  // namespace nerfad

// Registers the same implementation for both devices: `dispatch` tells them apart.
#define NERFAD_IMPL_CPU_AND_CUDA(m)                                            \
  static void nerfad_register_impls(torch::stable::detail::StableLibrary&);    \
  STABLE_TORCH_LIBRARY_IMPL(nerfad, CPU, lib) { nerfad_register_impls(lib); }  \
  STABLE_TORCH_LIBRARY_IMPL(nerfad, CUDA, lib) { nerfad_register_impls(lib); } \
  static void nerfad_register_impls(torch::stable::detail::StableLibrary& m)
