#include "nerfad/composite.h"

#include "device.h"

namespace nerfad {

__global__ void composite_fwd_kernel(const CompositeFwd<float> p) {
  const int64_t ray = thread_index();
  if (ray < p.n_rays) composite_fwd_ray(p, ray);
}

__global__ void composite_bwd_kernel(const CompositeBwd<float> p) {
  const int64_t ray = thread_index();
  if (ray < p.fwd.n_rays) composite_bwd_ray(p, ray);
}

}  // namespace nerfad

NERFAD_EXPORT int nerfad_cuda_composite_fwd(const nerfad::CompositeFwd<float>* p, void* stream) {
  if (p->n_rays == 0) return cudaSuccess;
  return NERFAD_LAUNCH(nerfad::composite_fwd_kernel, nerfad::blocks_for(p->n_rays), dim3(nerfad::kBlock), 0,
                       static_cast<cudaStream_t>(stream), *p);
}

NERFAD_EXPORT int nerfad_cuda_composite_bwd(const nerfad::CompositeBwd<float>* p, void* stream) {
  if (p->fwd.n_rays == 0) return cudaSuccess;
  return NERFAD_LAUNCH(nerfad::composite_bwd_kernel, nerfad::blocks_for(p->fwd.n_rays), dim3(nerfad::kBlock),
                       0, static_cast<cudaStream_t>(stream), *p);
}
