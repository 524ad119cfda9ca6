// What a lane of the fused renderer carries: a ray and where it stands, marched or read from a cache. Rays
// without a sample never get that far: they are sorted out before, one thread per ray.
#pragma once
#include <cuda_fp16.h>

#include "device.h"
#include "nerfad/render_rays_fused.h"
#include "render_encode.cuh"

namespace nerfad {

namespace {

// A ray that has samples, and the step of the first one (where it lies in the cache, if there is one).
struct QueuedRay {
  uint32_t index;
  int32_t first;
};

struct RenderQueue {
  unsigned* n_queued;
  unsigned* n_taken;
  QueuedRay* rays;  // [n_rays]
};

// What of a marched ray must be kept between its samples; the rest follows from it. Lanes keep it in shared
// memory: the networks need the registers.
struct MarchedRay {
  float base[3], slope[3], t_min, t_max;
  int end;
  MarchCursor cursor;
  MarchSample sample;

  // Finds the first sample; false if there is none.
  __device__ __forceinline__ bool find(const RenderRays& p, int64_t index, int& first) {
    MarchRay ray;
    if (!march_ray_setup(p.rays, index, ray, first)) return false;
    cursor = march_begin(p.rays.grid, ray, first);
    if (!march_next(p.rays.grid, ray, cursor, sample)) return false;
    if (!(p.rays.grid.cone_angle > 0.0f)) first = cursor.step - 1;  // growing steps always start over
    return true;
  }
  __device__ __forceinline__ void start(const RenderRays& p, const QueuedRay& queued) {
    MarchRay ray;
    int first;
    march_ray_setup(p.rays, queued.index, ray, first);
    cursor = march_begin(p.rays.grid, ray, queued.first);
    march_next(p.rays.grid, ray, cursor, sample);
    for (int a = 0; a < 3; ++a) base[a] = ray.base[a], slope[a] = ray.slope[a];
    t_min = ray.t_min;
    t_max = ray.t_max;
    end = ray.end;
  }
  // As march_ray_setup leaves it.
  __device__ __forceinline__ MarchRay whole(const MarchGrid& grid) const {
    MarchRay ray;
    for (int a = 0; a < 3; ++a) {
      ray.base[a] = base[a];
      ray.slope[a] = slope[a];
      ray.inverse[a] = 1.0f / slope[a];
      ray.low[a] = grid.bounds ? grid.bounds[a] : 0.0f;
      ray.high[a] = grid.bounds ? grid.bounds[3 + a] : static_cast<float>(grid.resolution);
    }
    ray.t_min = t_min;
    ray.t_max = t_max;
    ray.jitter = 0.0f;
    ray.step_size = grid.step_size;
    ray.half_step = 0.5f * grid.step_size;
    ray.inverse_step = 1.0f / grid.step_size;
    ray.end = end;
    return ray;
  }
  __device__ __forceinline__ bool next(const RenderRays& p) {
    const MarchRay ray = whole(p.rays.grid);
    MarchCursor at = cursor;
    MarchSample found;
    if (!march_next(p.rays.grid, ray, at, found)) return false;
    cursor = at;
    sample = found;
    return true;
  }
  template <class Put>
  __device__ __forceinline__ void features(const RenderRays& p, const Put& put) const {
    MarchRay ray;
    float position[3];
    for (int a = 0; a < 3; ++a) {
      ray.base[a] = base[a];
      ray.slope[a] = slope[a];
      position[a] = render_position(ray, p.rays.grid.resolution, sample, a);
    }
    encode_position(p, position, put);
  }
};

struct CachedRay {
  MarchSample sample;
  int at, end;

  __device__ __forceinline__ bool find(const RenderRays& p, int64_t index, int& first) {
    first = static_cast<int>(p.samples.packed_info[2 * index]);
    return p.samples.packed_info[2 * index + 1] > 0;
  }
  __device__ __forceinline__ void start(const RenderRays& p, const QueuedRay& queued) {
    at = queued.first - 1;
    end = queued.first + static_cast<int>(p.samples.packed_info[2 * static_cast<int64_t>(queued.index) + 1]);
    next(p);
  }
  __device__ __forceinline__ bool next(const RenderRays& p) {
    if (++at >= end) return false;
    sample = {p.samples.t_starts[at], p.samples.t_ends[at]};
    return true;
  }
  template <class S, class Put>
  __device__ __forceinline__ void features_as(const RenderRays& p, const Put& put) const {
    const int n = p.sigma.d_in;
    const S* from = static_cast<const S*>(p.samples.features) + static_cast<int64_t>(at) * n;
    constexpr int kEach = 16 / sizeof(S);
    int k = 0;
    for (; n % kEach == 0 && k < n; k += kEach) {
      GridEntry<S, kEach> some;
      load_entry(reinterpret_cast<const GridEntry<S, kEach>*>(from + k), some);
#pragma unroll
      for (int j = 0; j < kEach; ++j) put(k + j, widen(some.v[j]));
    }
    for (; k < n; ++k) put(k, widen(from[k]));
  }
  template <class Put>
  __device__ __forceinline__ void features(const RenderRays& p, const Put& put) const {
    if (p.samples.features_type == TableType::kFloat16) {
      features_as<Half>(p, put);
    } else {
      features_as<float>(p, put);
    }
  }
};

// The ray that thread i looks at: with a known width, 32 neighbouring threads take 8 x 4 pixels, whose rays
// march alike. Rows that make no four, and the columns behind the last eight, follow one by one.
NERFAD_HD int64_t render_tiled_ray(int64_t n_rays, int64_t width, int64_t i) {
  if (width < 8) return i;
  const int64_t strip = i / (4 * width), in_strip = i % (4 * width);
  if ((strip + 1) * 4 * width > n_rays) return i;
  const int64_t in_tiles = width / 8 * 8, rest = width - in_tiles;
  int64_t x, y;
  if (in_strip < 4 * in_tiles) {
    x = in_strip / 32 * 8 + in_strip % 8;
    y = in_strip % 32 / 8;
  } else {
    x = in_tiles + (in_strip - 4 * in_tiles) % rest;
    y = (in_strip - 4 * in_tiles) / rest;
  }
  return (4 * strip + y) * width + x;
}

// Queues the rays that have a sample; the others show the background.
template <class Ray>
__global__ void render_queue_kernel(const RenderRays p, const RenderQueue queue) {
  const int64_t i = thread_index();
  bool found = false;
  QueuedRay queued{};
  if (i < p.rays.n_rays) {
    const int64_t index = render_tiled_ray(p.rays.n_rays, p.image_width, i);
    Ray ray;
    int first = 0;
    found = p.max_samples_per_ray > 0 && ray.find(p, index, first);
    if (!found) render_finish(p, index, render_begin());
    queued = {static_cast<uint32_t>(index), first};
  }
  const unsigned all = __ballot_sync(~0u, found);
  if (all == 0) return;
  unsigned base = 0;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (lane == 0) base = atomicAdd(queue.n_queued, static_cast<unsigned>(__popc(all)));
  base = __shfl_sync(~0u, base, 0);
  if (found) queue.rays[base + __popc(all & ((1u << lane) - 1))] = queued;
}

}  // namespace

}  // namespace nerfad
