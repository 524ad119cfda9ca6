// Samples of a render cache in place of marched and encoded ones: a slot's step is its place in the cache.
#pragma once
#include "render_rays_task.h"

namespace nerfad {
namespace {

inline const char* cached_row(const RenderRays& p, int64_t i) {
  const int64_t bytes = p.samples.features_type == TableType::kFloat16 ? 2 : 4;
  return static_cast<const char*>(p.samples.features) + i * p.sigma.d_in * bytes;
}

// Samples lie far apart, each ray's behind those that it will not reach: they are asked for a round early, a
// tile's at a time, so that the networks have work to do while memory answers.
inline void prefetch_cached(const RenderRays& p, int64_t i) {
  for (const char* line = cached_row(p, i); line < cached_row(p, i + 1); line += 64) __builtin_prefetch(line);
}

inline void store_cached(const RenderRays& p, MarchSlots& slots, int slot) {
  slots.t_start[slot] = p.samples.t_starts[slots.step[slot]];
  slots.t_end[slot] = p.samples.t_ends[slots.step[slot]];
}

// As start_slots_one_by_one.
[[maybe_unused]] int start_cached(const RenderRays& p, int64_t first, int n, MarchSlots& slots,
                                  int32_t* which) {
  int found = 0;
  for (int i = 0; i < n; ++i) {
    const int64_t* info = p.samples.packed_info + 2 * (first + i);
    if (info[1] <= 0) continue;
    slots.step[found] = static_cast<int32_t>(info[0]);
    slots.end[found] = static_cast<int32_t>(info[0] + info[1]);
    store_cached(p, slots, found);
    prefetch_cached(p, info[0]);
    which[found++] = i;
  }
  return found;
}

// As next_in_slots_one_by_one.
[[maybe_unused]] void next_cached(const RenderRays& p, MarchSlots& slots, int n, int32_t* going) {
  for (int i = 0; i < n; ++i) {
    if (!going[i]) continue;
    going[i] = slots.step[i] + 1 < slots.end[i];
    if (!going[i]) continue;
    ++slots.step[i];
    store_cached(p, slots, i);
  }
}

[[maybe_unused]] void copy_cached_features(const RenderRays& p, RenderBuffers& b, int n) {
  for (int i = 0; i < n; ++i) {
    render_cached_features(p, b.samples.cached[i], b.features + i * p.sigma.d_in);
  }
}

}  // namespace
}  // namespace nerfad
