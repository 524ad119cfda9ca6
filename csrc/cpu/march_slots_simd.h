// MarchSlots with vectors: kLanes slots at a time, the same samples bit for bit.
#pragma once
#include "march_simd.h"
#include "march_slots.h"

namespace nerfad {
namespace {

bool slot_by_slot(const MarchGrid& grid) { return grid.cone_angle > 0.0f || !grid.bricks; }

// Puts each of the lanes that look for one on its first sample at or after `step`; returns those that have
// one.
Mask find_samples(const MarchGrid& grid, const RayLanes& ray, Mask looking, Ints& step) {
  Mask found{};
  for (;;) {
    looking &= greater(ray.end, step);
    if (!looking) return found;
    PlaceLanes here = place(ray, t_mid(ray, step));
    here.inside &= looking;
    const BlockLanes block = look_up(grid, here);
    found |= block.occupied;
    looking &= ~(here.past | block.occupied);
    if (!looking) return found;
    step = choose(looking, leave_block(ray, step, here, block, here.inside & block.uniform), step);
  }
}

Floats t_start(const RayLanes& ray, Ints step) {
  const Floats k = __builtin_convertvector(step, Floats) + ray.jitter;
  return multiply_add(k, all(ray.step_size), ray.t_min);
}

// The numbers of a mask's lanes, and vectors with these lanes moved to the front.
struct Front {
  Ints order{};
  int n = 0;

  explicit Front(Mask mask) {
    for (uint32_t left = bits_of(mask); left; left &= left - 1) order[n++] = __builtin_ctz(left);
  }
  void store(float* to, Floats v) const {
    v = __builtin_shuffle(v, order);
    std::memcpy(to, &v, sizeof(v));
  }
  void store(int32_t* to, Ints v) const {
    v = __builtin_shuffle(v, order);
    std::memcpy(to, &v, sizeof(v));
  }
};

int start_slots(const MarchRays& p, int64_t first, int n, MarchSlots& slots, int32_t* which) {
  if (slot_by_slot(p.grid)) return start_slots_one_by_one(p, first, n, slots, which);
  static_assert(kMarchStartBlock + kLanes <= kMarchSlots);
  int n_found = 0;
  for (int i = 0; i < n; i += kLanes) {
    const Mask active = first_lanes(n - i < kLanes ? n - i : kLanes);
    const Floats t_min = load(active, p.t_min + first + i), t_max = load(active, p.t_max + first + i);
    if (!(active & compare<_CMP_GT_OQ>(t_max, t_min))) continue;
    RayLanes ray;
    Ints step;
    const Mask usable = set_up(p, first + i, active, ray, step);
    const Mask found = find_samples(p.grid, ray, usable, step);
    if (!found) continue;
    const Front front(found);
    for (int a = 0; a < 3; ++a) {
      front.store(slots.base[a] + n_found, ray.base[a]);
      front.store(slots.slope[a] + n_found, ray.slope[a]);
      front.store(slots.inverse[a] + n_found, ray.inverse[a]);
    }
    front.store(slots.t_min + n_found, ray.t_min);
    front.store(slots.t_max + n_found, ray.t_max);
    front.store(slots.end + n_found, ray.end);
    front.store(slots.step + n_found, step);
    const Floats t = t_start(ray, step);
    front.store(slots.t_start + n_found, t);
    front.store(slots.t_end + n_found, t + all(ray.step_size));
    for (int k = 0; k < front.n; ++k) which[n_found + k] = i + front.order[k];
    n_found += front.n;
  }
  return n_found;
}

template <class V, class T>
V load_lanes(const T* from) {
  V v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

template <class V, class T>
void store_lanes(T* to, V v) {
  std::memcpy(to, &v, sizeof(v));
}

RayLanes ray_of_slots(const MarchGrid& grid, const MarchSlots& slots, int first) {
  RayLanes ray;
  for (int a = 0; a < 3; ++a) {
    ray.base[a] = load_lanes<Floats>(slots.base[a] + first);
    ray.slope[a] = load_lanes<Floats>(slots.slope[a] + first);
    ray.inverse[a] = load_lanes<Floats>(slots.inverse[a] + first);
    set_direction(ray, a);
    march_box_side(grid, a, ray.low[a], ray.high[a]);
  }
  ray.t_min = load_lanes<Floats>(slots.t_min + first);
  ray.jitter = Floats{};
  march_set_step(grid, ray);
  ray.resolution = grid.resolution;
  ray.end = load_lanes<Ints>(slots.end + first);
  return ray;
}

void next_in_slots(const MarchGrid& grid, MarchSlots& slots, int n, int32_t* going) {
  if (slot_by_slot(grid)) return next_in_slots_one_by_one(grid, slots, n, going);
  for (int i = 0; i < n; i += kLanes) {
    const Mask looking =
        ~equal(load_lanes<Ints>(going + i), Ints{}) & first_lanes(n - i < kLanes ? n - i : kLanes);
    const RayLanes ray = ray_of_slots(grid, slots, i);
    const Ints last = load_lanes<Ints>(slots.step + i);
    Ints step = last + 1;
    const Mask found = find_samples(grid, ray, looking, step);
    const Floats t = t_start(ray, step);
    store_lanes(slots.step + i, choose(found, step, last));
    store_lanes(slots.t_start + i, choose(found, t, load_lanes<Floats>(slots.t_start + i)));
    store_lanes(slots.t_end + i, choose(found, t + all(ray.step_size), load_lanes<Floats>(slots.t_end + i)));
    store_lanes(going + i, choose(found, all(1), Ints{}));
  }
}

}  // namespace
}  // namespace nerfad
