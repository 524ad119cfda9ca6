#include "nerfad/sh_encode.h"

#include "device.h"

namespace nerfad {

template <int Degree>
__global__ void sh_encode_fwd_kernel(const ShEncodeFwd<float> p) {
  const int64_t i = thread_index();
  if (i < p.n) sh_encode_fwd_point<float, Degree>(p, i);
}

template <int Degree>
__global__ void sh_encode_bwd_kernel(const ShEncodeBwd<float> p) {
  const int64_t i = thread_index();
  if (i < p.fwd.n) sh_encode_bwd_point<float, Degree>(p, i);
}

}  // namespace nerfad

NERFAD_EXPORT int nerfad_cuda_sh_encode_fwd(const nerfad::ShEncodeFwd<float>* p, void* stream) {
  cudaError_t error = cudaSuccess;
  if (p->n == 0) return error;
  nerfad::sh_dispatch(p->degree, [&](auto degree) {
    error = NERFAD_LAUNCH(nerfad::sh_encode_fwd_kernel<decltype(degree)::value>, nerfad::blocks_for(p->n),
                          dim3(nerfad::kBlock), 0, static_cast<cudaStream_t>(stream), *p);
  });
  return error;
}

NERFAD_EXPORT int nerfad_cuda_sh_encode_bwd(const nerfad::ShEncodeBwd<float>* p, void* stream) {
  cudaError_t error = cudaSuccess;
  if (p->fwd.n == 0) return error;
  nerfad::sh_dispatch(p->fwd.degree, [&](auto degree) {
    error = NERFAD_LAUNCH(nerfad::sh_encode_bwd_kernel<decltype(degree)::value>, nerfad::blocks_for(p->fwd.n),
                          dim3(nerfad::kBlock), 0, static_cast<cudaStream_t>(stream), *p);
  });
  return error;
}
