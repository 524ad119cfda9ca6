#include "nerfad/ray_aabb.h"

#include "device.h"

namespace nerfad {

__global__ void ray_aabb_kernel(const RayAabb<float> p) {
  const int64_t ray = thread_index();
  if (ray < p.n_rays) ray_aabb_ray(p, ray);
}

}  // namespace nerfad

NERFAD_EXPORT int nerfad_cuda_ray_aabb(const nerfad::RayAabb<float>* p, void* stream) {
  if (p->n_rays == 0) return cudaSuccess;
  return NERFAD_LAUNCH(nerfad::ray_aabb_kernel, nerfad::blocks_for(p->n_rays), dim3(nerfad::kBlock), 0,
                       static_cast<cudaStream_t>(stream), *p);
}
