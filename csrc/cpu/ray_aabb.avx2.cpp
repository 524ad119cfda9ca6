#include "ray_aabb_simd.h"

namespace nerfad {

void ray_aabb_rays_avx2(const RayAabb<float>& p, int64_t begin, int64_t end) { ray_aabb_rays(p, begin, end); }

}  // namespace nerfad
