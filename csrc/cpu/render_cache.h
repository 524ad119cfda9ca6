// Samples of a render cache in place of marched and encoded ones. A slot's cursor is its place in the cache.
#pragma once
#include "render_rays_task.h"

namespace nerfad {
namespace {

inline bool start_cached(const RenderRays& p, RenderSlot& slot) {
  const int64_t* info = p.samples.packed_info + 2 * slot.index;
  slot.cursor = {static_cast<int>(info[0]), 0.0f};
  slot.ray.end = static_cast<int>(info[0] + info[1]);
  return info[1] > 0;
}

inline bool next_cached(const RenderRays& p, RenderSlot& slot, MarchSample& sample) {
  if (slot.cursor.step >= slot.ray.end) return false;
  const int at = slot.cursor.step++;
  sample = {p.samples.t_starts[at], p.samples.t_ends[at]};
  return true;
}

[[maybe_unused]] void copy_cached_features(const RenderRays& p, RenderBuffers& b, int n) {
  for (int i = 0; i < n; ++i) render_cached_features(p, b.cached[i], b.features + i * p.sigma.d_in);
}

}  // namespace
}  // namespace nerfad
