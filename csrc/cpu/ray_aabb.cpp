#include "nerfad/ray_aabb.h"

namespace nerfad {

template <class T>
void ray_aabb_cpu(const RayAabb<T>& p, const ParallelFor& parallel_for) {
  constexpr int64_t kRaysPerTask = 4096;
  parallel_for(p.n_rays, kRaysPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) ray_aabb_ray(p, ray);
  });
}

template void ray_aabb_cpu(const RayAabb<float>&, const ParallelFor&);
template void ray_aabb_cpu(const RayAabb<double>&, const ParallelFor&);

}  // namespace nerfad
