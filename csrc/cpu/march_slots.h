// Rays that are marched side by side, a sample of each at a time: what the fused renderer has in flight.
#pragma once
#include "nerfad/march.h"

namespace nerfad {

constexpr int kMarchSlots = 192;      // a multiple of every vector's width
constexpr int kMarchStartBlock = 48;  // rays that are started at once

// A ray in each slot, standing at a sample. Fields are those of MarchRay; there is no jitter.
struct MarchSlots {
  alignas(64) float base[3][kMarchSlots];
  alignas(64) float slope[3][kMarchSlots];
  alignas(64) float inverse[3][kMarchSlots];
  alignas(64) float t_min[kMarchSlots];
  alignas(64) float t_max[kMarchSlots];
  alignas(64) int32_t end[kMarchSlots];
  alignas(64) int32_t step[kMarchSlots];  // of the sample; for growing steps without meaning
  alignas(64) float t_start[kMarchSlots];
  alignas(64) float t_end[kMarchSlots];

  void take(int slot, const MarchSlots& from, int other) {
    for (int a = 0; a < 3; ++a) {
      base[a][slot] = from.base[a][other];
      slope[a][slot] = from.slope[a][other];
      inverse[a][slot] = from.inverse[a][other];
    }
    t_min[slot] = from.t_min[other];
    t_max[slot] = from.t_max[other];
    end[slot] = from.end[other];
    step[slot] = from.step[other];
    t_start[slot] = from.t_start[other];
    t_end[slot] = from.t_end[other];
  }
};

namespace {

// ---- Slot by slot: on machines without vectors, for growing steps and for grids without bricks.

inline void store_sample(MarchSlots& slots, int slot, const MarchCursor& behind, const MarchSample& sample) {
  slots.step[slot] = behind.step - 1;
  slots.t_start[slot] = sample.t_start;
  slots.t_end[slot] = sample.t_end;
}

// Puts those of n <= kMarchStartBlock rays from `first` on that have a sample into the slots from 0 on, and
// their numbers from `first` into `which`. Returns how many there are.
[[maybe_unused]] int start_slots_one_by_one(const MarchRays& p, int64_t first, int n, MarchSlots& slots,
                                            int32_t* which) {
  int found = 0;
  for (int i = 0; i < n; ++i) {
    MarchRay ray;
    int step;
    if (!march_ray_setup(p, first + i, ray, step)) continue;
    MarchCursor cursor = march_begin(p.grid, ray, step);
    MarchSample sample;
    if (!march_next(p.grid, ray, cursor, sample)) continue;
    for (int a = 0; a < 3; ++a) {
      slots.base[a][found] = ray.base[a];
      slots.slope[a][found] = ray.slope[a];
      slots.inverse[a][found] = ray.inverse[a];
    }
    slots.t_min[found] = ray.t_min;
    slots.t_max[found] = ray.t_max;
    slots.end[found] = ray.end;
    store_sample(slots, found, cursor, sample);
    which[found++] = i;
  }
  return found;
}

inline MarchRay ray_of_slot(const MarchGrid& grid, const MarchSlots& slots, int slot) {
  MarchRay ray;
  for (int a = 0; a < 3; ++a) {
    ray.base[a] = slots.base[a][slot];
    ray.slope[a] = slots.slope[a][slot];
    ray.inverse[a] = slots.inverse[a][slot];
    march_box_side(grid, a, ray.low[a], ray.high[a]);
  }
  ray.t_min = slots.t_min[slot];
  ray.t_max = slots.t_max[slot];
  ray.jitter = 0.0f;
  march_set_step(grid, ray);
  ray.end = slots.end[slot];
  return ray;
}

// Moves the first n slots that are `going` to their next samples; those that have none are not any more, and
// stay where they are.
[[maybe_unused]] void next_in_slots_one_by_one(const MarchGrid& grid, MarchSlots& slots, int n,
                                               int32_t* going) {
  for (int i = 0; i < n; ++i) {
    if (!going[i]) continue;
    const MarchRay ray = ray_of_slot(grid, slots, i);
    MarchCursor cursor = {slots.step[i] + 1, slots.t_end[i]};
    MarchSample sample;
    going[i] = march_next(grid, ray, cursor, sample);
    if (going[i]) store_sample(slots, i, cursor, sample);
  }
}

}  // namespace
}  // namespace nerfad
