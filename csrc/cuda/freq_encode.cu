#include "nerfad/freq_encode.h"

#include "device.h"

namespace nerfad {

__global__ void freq_encode_fwd_kernel(const FreqEncodeFwd<float> p) {
  const int64_t k = thread_index();
  if (k < p.n * p.n_dims) freq_encode_fwd_element(p, k / p.n_dims, static_cast<int>(k % p.n_dims));
}

__global__ void freq_encode_bwd_kernel(const FreqEncodeBwd<float> p) {
  const int64_t k = thread_index();
  if (k < p.fwd.n * p.fwd.n_dims) {
    freq_encode_bwd_element(p, k / p.fwd.n_dims, static_cast<int>(k % p.fwd.n_dims));
  }
}

}  // namespace nerfad

NERFAD_EXPORT int nerfad_cuda_freq_encode_fwd(const nerfad::FreqEncodeFwd<float>* p, void* stream) {
  if (p->n * p->n_dims == 0) return cudaSuccess;
  return NERFAD_LAUNCH(nerfad::freq_encode_fwd_kernel, nerfad::blocks_for(p->n * p->n_dims),
                       dim3(nerfad::kBlock), 0, static_cast<cudaStream_t>(stream), *p);
}

NERFAD_EXPORT int nerfad_cuda_freq_encode_bwd(const nerfad::FreqEncodeBwd<float>* p, void* stream) {
  if (p->fwd.n * p->fwd.n_dims == 0) return cudaSuccess;
  return NERFAD_LAUNCH(nerfad::freq_encode_bwd_kernel, nerfad::blocks_for(p->fwd.n * p->fwd.n_dims),
                       dim3(nerfad::kBlock), 0, static_cast<cudaStream_t>(stream), *p);
}
