// MarchSlots with vectors: kLanes slots at a time, the same samples bit for bit.
#pragma once
#include "march_simd.h"  // first: it silences gcc 12 about its own intrinsics

#include <algorithm>

#include "march_slots.h"

namespace nerfad {
namespace {

// kLanes rays on their way to samples.
struct Search {
  RayLanes ray;
  Ints step;
  Mask looking, found{};
};

// One step or skip of the lanes that look for a sample at or after their step.
NERFAD_HD void search_on(const MarchGrid& grid, Search& s) {
  s.looking &= greater(s.ray.end, s.step);
  PlaceLanes here = place(s.ray, t_mid(s.ray, s.step));
  here.inside &= s.looking;
  const BlockLanes block = look_up(grid, here);
  s.found |= block.occupied;
  s.looking &= ~(here.past | block.occupied);
  s.step = choose(s.looking, leave_block(s.ray, s.step, here, block, here.inside & block.uniform), s.step);
}

// Two at a time: see CountingPass.
void search(const MarchGrid& grid, Search& first, Search& second) {
  while (first.looking | second.looking) {
    search_on(grid, first);
    search_on(grid, second);
  }
}

NERFAD_HD Floats t_start(const RayLanes& ray, Ints step) {
  const Floats k = __builtin_convertvector(step, Floats) + ray.jitter;
  return multiply_add(k, all(ray.step_size), ray.t_min);
}

// Adds what a search has found to the slots; the search's first ray is number `first` of the block.
int store_started(const Search& s, int first, MarchSlots& slots, int32_t* which, int n_slots) {
  const Front front(s.found);
  store_rays(front, s.ray, slots, n_slots);
  front.store(slots.t_max + n_slots, s.ray.t_max);
  front.store(slots.step + n_slots, s.step);
  const Floats t = t_start(s.ray, s.step);
  front.store(slots.t_start + n_slots, t);
  front.store(slots.t_end + n_slots, t + all(s.ray.step_size));
  for (int k = 0; k < front.n; ++k) which[n_slots + k] = first + front.order[k];
  return n_slots + front.n;
}

bool any_hits_box(const MarchRays& p, int64_t first, int n) {
  bool any = false;
  for (int64_t i = first; i < first + n; ++i) any |= p.t_max[i] > p.t_min[i];
  return any;
}

int start_slots(const MarchRays& p, int64_t first, int n, MarchSlots& slots, int32_t* which) {
  if (ray_by_ray(p.grid)) return start_slots_one_by_one(p, first, n, slots, which);
  static_assert(kMarchStartBlock % kLanes == 0 && kMarchStartBlock + kLanes <= kMarchSlots);
  if (!any_hits_box(p, first, n)) return 0;
  int n_found = 0;
  for (int i = 0; i < n; i += 2 * kLanes) {
    Search pair[2];
    for (int k = 0; k < 2; ++k) {
      const int begin = i + k * kLanes, count = std::clamp(n - begin, 0, kLanes);
      pair[k].looking = set_up(p, first + begin, first_lanes(count), pair[k].ray, pair[k].step);
    }
    search(p.grid, pair[0], pair[1]);
    for (int k = 0; k < 2; ++k) {
      if (pair[k].found) n_found = store_started(pair[k], i + k * kLanes, slots, which, n_found);
    }
  }
  return n_found;
}

template <class V, class T>
void store_lanes(T* to, V v) {
  std::memcpy(to, &v, sizeof(v));
}

NERFAD_HD RayLanes ray_of_slots(const MarchGrid& grid, const MarchSlots& slots, int first) {
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

// The search for the samples behind those at which the slots from `first` on stand.
NERFAD_HD Search search_of_slots(const MarchGrid& grid, const MarchSlots& slots, int first, int n,
                                 const int32_t* going) {
  Search s;
  s.ray = ray_of_slots(grid, slots, first);
  s.step = load_lanes<Ints>(slots.step + first) + 1;
  const Mask active = first_lanes(std::clamp(n - first, 0, kLanes));
  s.looking = active & ~equal(load_lanes<Ints>(going + first), Ints{});
  return s;
}

NERFAD_HD void store_next(const Search& s, MarchSlots& slots, int first, int32_t* going) {
  const auto put = [&](auto* to, auto v) {
    store_lanes(to + first, choose(s.found, v, load_lanes<decltype(v)>(to + first)));
  };
  const Floats t = t_start(s.ray, s.step);
  put(slots.step, s.step);
  put(slots.t_start, t);
  put(slots.t_end, t + all(s.ray.step_size));
  store_lanes(going + first, choose(s.found, all(1), Ints{}));
}

void next_in_slots(const MarchGrid& grid, MarchSlots& slots, int n, int32_t* going) {
  if (ray_by_ray(grid)) return next_in_slots_one_by_one(grid, slots, n, going);
  static_assert(kMarchSlots % (2 * kLanes) == 0);
  for (int i = 0; i < n; i += 2 * kLanes) {
    Search one = search_of_slots(grid, slots, i, n, going);
    Search other = search_of_slots(grid, slots, i + kLanes, n, going);
    search(grid, one, other);
    store_next(one, slots, i, going);
    store_next(other, slots, i + kLanes, going);
  }
}

}  // namespace
}  // namespace nerfad
