// The slab method on kLanes rays at a time: the operations of ray_aabb_ray in the same order, hence the same
// bits, but all three slabs for every ray.
#pragma once
#include "lanes.h"
#include "nerfad/ray_aabb.h"

namespace nerfad {
namespace {

struct SlabLanes {
  Floats enter, leave;
  Ints hit;

  void narrow(Floats o, Floats d, float low, float high) {
    const Floats inverse = 1.0f / d, first = (low - o) * inverse, second = (high - o) * inverse;
    const Floats t_in = first < second ? first : second, t_out = first < second ? second : first;
    const Ints parallel = d == 0.0f, enters = ~parallel & (t_in > enter),
               leaves = ~parallel & (t_out < leave);
    enter = enters ? t_in : enter;
    leave = leaves ? t_out : leave;
    hit &= parallel ? (o >= low) & (o <= high) : (t_in <= t_out) & (leave > enter);
  }
};

void ray_aabb_rays(const RayAabb<float>& p, int64_t begin, int64_t end) {
  const Floats far = Floats{} + p.far;
  int64_t ray = begin;
  for (; ray + kLanes <= end; ray += kLanes) {
    const float *o = p.rays_o + 3 * ray, *d = p.rays_d + 3 * ray;
    SlabLanes slab{Floats{} + p.near, far, Ints{} + (p.far > p.near ? -1 : 0)};
    slab.narrow(component<0>(o), component<0>(d), p.aabb[0], p.aabb[3]);
    slab.narrow(component<1>(o), component<1>(d), p.aabb[1], p.aabb[4]);
    slab.narrow(component<2>(o), component<2>(d), p.aabb[2], p.aabb[5]);
    store(p.t_min + ray, slab.hit ? slab.enter : far);
    store(p.t_max + ray, slab.hit ? slab.leave : far);
  }
  for (; ray < end; ++ray) ray_aabb_ray(p, ray);
}

}  // namespace
}  // namespace nerfad
