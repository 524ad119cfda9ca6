#include "nerfad/ray_aabb.h"

#include "nerfad/isa.h"

namespace nerfad {

#if defined(__x86_64__)
void ray_aabb_rays_avx2(const RayAabb<float>&, int64_t begin, int64_t end);
void ray_aabb_rays_avx512(const RayAabb<float>&, int64_t begin, int64_t end);
#endif

namespace {

constexpr int64_t kRaysPerTask = 4096;

template <class T>
void ray_aabb_rays_portable(const RayAabb<T>& p, int64_t begin, int64_t end) {
  for (int64_t ray = begin; ray < end; ++ray) ray_aabb_ray(p, ray);
}

}  // namespace

template <>
void ray_aabb_cpu(const RayAabb<double>& p, const ParallelFor& parallel_for) {
  parallel_for(p.n_rays, kRaysPerTask,
               [&](int64_t begin, int64_t end) { ray_aabb_rays_portable(p, begin, end); });
}

template <>
void ray_aabb_cpu(const RayAabb<float>& p, const ParallelFor& parallel_for) {
  auto* rays = &ray_aabb_rays_portable<float>;
#if defined(__x86_64__)
  if (current_isa() >= Isa::kAvx512) {
    rays = &ray_aabb_rays_avx512;
  } else if (current_isa() >= Isa::kAvx2) {
    rays = &ray_aabb_rays_avx2;
  }
#endif
  parallel_for(p.n_rays, kRaysPerTask, [&](int64_t begin, int64_t end) { rays(p, begin, end); });
}

}  // namespace nerfad
