#include "nerfad/sample_positions.h"

#include "device.h"

namespace nerfad {

__global__ void sample_positions_fwd_kernel(const SamplePositionsFwd<float> p) {
  const int64_t ray = thread_index();
  if (ray < p.n_rays) sample_positions_fwd_ray(p, ray);
}

__global__ void sample_positions_bwd_kernel(const SamplePositionsBwd<float> p) {
  const int64_t ray = thread_index();
  if (ray < p.fwd.n_rays) sample_positions_bwd_ray(p, ray);
}

}  // namespace nerfad

NERFAD_EXPORT int nerfad_cuda_sample_positions_fwd(const nerfad::SamplePositionsFwd<float>* p, void* stream) {
  if (p->n_rays == 0) return cudaSuccess;
  return NERFAD_LAUNCH(nerfad::sample_positions_fwd_kernel, nerfad::blocks_for(p->n_rays),
                       dim3(nerfad::kBlock), 0, static_cast<cudaStream_t>(stream), *p);
}

NERFAD_EXPORT int nerfad_cuda_sample_positions_bwd(const nerfad::SamplePositionsBwd<float>* p, void* stream) {
  if (p->fwd.n_rays == 0) return cudaSuccess;
  return NERFAD_LAUNCH(nerfad::sample_positions_bwd_kernel, nerfad::blocks_for(p->fwd.n_rays),
                       dim3(nerfad::kBlock), 0, static_cast<cudaStream_t>(stream), *p);
}
