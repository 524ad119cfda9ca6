// Where rays enter and leave an axis-aligned box (slab method).
#pragma once
#include "nerfad/hd.h"
#include "nerfad/parallel.h"

namespace nerfad {

template <class T>
struct RayAabb {
  const T* rays_o;  // [n_rays, 3]
  const T* rays_d;  // [n_rays, 3]
  const T* aabb;    // [6] low corner, high corner
  T* t_min;         // out [n_rays]; far for a miss
  T* t_max;         // out [n_rays]; far for a miss
  int64_t n_rays;
  T near;
  T far;
};

// Narrows [enter, leave] to the slab low <= o + t d <= high; false if nothing is left. A ray parallel to
// the slab is within it everywhere or nowhere. Any NaN leaves nothing.
template <class T>
NERFAD_HD bool intersect_slab(T o, T d, T low, T high, T& enter, T& leave) {
  if (d == T(0)) return o >= low && o <= high;
  const T inverse = T(1) / d;
  const T first = (low - o) * inverse, second = (high - o) * inverse;
  const T t_in = first < second ? first : second, t_out = first < second ? second : first;
  if (t_in > enter) enter = t_in;
  if (t_out < leave) leave = t_out;
  return t_in <= t_out && leave > enter;
}

template <class T>
NERFAD_HD void ray_aabb_ray(const RayAabb<T>& p, int64_t ray) {
  T enter = p.near, leave = p.far;
  bool hit = leave > enter;
  for (int axis = 0; axis < 3 && hit; ++axis) {
    hit = intersect_slab(p.rays_o[3 * ray + axis], p.rays_d[3 * ray + axis], p.aabb[axis], p.aabb[3 + axis],
                         enter, leave);
  }
  p.t_min[ray] = hit ? enter : p.far;
  p.t_max[ray] = hit ? leave : p.far;
}

template <class T>
void ray_aabb_cpu(const RayAabb<T>& p, const ParallelFor& parallel_for);

}  // namespace nerfad
