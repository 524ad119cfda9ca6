// The marching ops: per-ray work of each pass. The lattice and the grid are in march_ray.h.
#pragma once
#include "nerfad/march_ray.h"

namespace nerfad {

constexpr int kMarchRuns = 4;    // runs of samples that are noted per ray
constexpr int kMostBricks = 32;  // along a side, at resolution 256

struct MarchBricks {
  const uint64_t* bitfield;  // [n_bricks * 8]
  uint8_t* bricks;           // out [n_bricks]
  int64_t n_bricks;
  float* bounds;  // out [6] box around the occupied bricks, in cells; null: not wanted
};

// First pass: how many samples, and where they lie on the lattice.
struct MarchCount {
  MarchRays rays;
  int32_t* counts;  // out [n_rays] samples of each ray, no bound applied
  int32_t* runs;    // out [n_rays, kMarchRuns, 2] first step and end of each run of samples; (0, 0) ends the
                    // list, and a first run (-1, -1) means that there are too many to note
};

// Second pass: where each ray's samples go. The bounds drop a ray's last samples, and the last rays.
struct MarchPack {
  const int32_t* counts;  // [n_rays]
  int64_t* packed_info;   // out [n_rays, 2]
  int64_t* totals;        // out [2] samples kept, samples dropped
  int64_t n_rays;
  int64_t max_samples;  // of all rays together
  int64_t max_samples_per_ray;
};

// Third pass: the samples.
struct MarchWrite {
  MarchRays rays;
  const int64_t* packed_info;  // [n_rays, 2]
  const int32_t* runs;         // [n_rays, kMarchRuns, 2] from the first pass
  float* t_starts;             // out [n_samples]
  float* t_ends;               // out [n_samples]
  int32_t* ray_indices;        // out [n_samples]
};

// One round of rendering: the next samples of the rays that still go on.
struct MarchInference {
  MarchRays rays;        // jitter is null
  const int32_t* alive;  // [n_alive] rays to go on with
  float* cursors;  // in/out [n_rays] number of the next step (growing steps: its start); infinity: at the end
  int64_t* packed_info;  // out [n_alive, 2]
  float* t_starts;       // out [n_alive * n_steps], zero beforehand
  float* t_ends;         // out [n_alive * n_steps], zero beforehand
  int32_t* ray_indices;  // out [n_alive * n_steps], zero beforehand
  int64_t n_alive;
  int64_t n_steps;
};

// ---- The passes, per ray.

NERFAD_HD void march_bricks_one(const MarchBricks& p, int64_t brick) {
  uint64_t any = 0;
  for (int i = 0; i < kBrick; ++i) any |= p.bitfield[kBrick * brick + i];
  p.bricks[brick] = any != 0;
}

// Widens a box of bricks, low and high corner, to hold one more if that is occupied.
NERFAD_HD void march_widen_bounds(const MarchBricks& p, int64_t brick, int (&box)[6]) {
  if (!p.bricks[brick]) return;
  for (int a = 0; a < 3; ++a) {
    const int low = static_cast<int>(gather_bits(static_cast<uint32_t>(brick) >> a));
    if (low < box[a]) box[a] = low;
    if (low + 1 > box[3 + a]) box[3 + a] = low + 1;
  }
}

// Bricks to cells. A box around nothing becomes a point outside of the grid.
NERFAD_HD void march_store_bounds(const MarchBricks& p, const int (&box)[6]) {
  for (int i = 0; i < 6; ++i) p.bounds[i] = box[3] > 0 ? static_cast<float>(box[i] * kBrick) : -1.0f;
}

NERFAD_HD void march_count_ray(const MarchCount& p, int64_t index) {
  const MarchGrid& grid = p.rays.grid;
  int32_t* runs = p.runs + 2 * kMarchRuns * index;
  for (int i = 0; i < 2 * kMarchRuns; ++i) runs[i] = 0;
  int count = 0, n_runs = 0, first;
  MarchRay ray;
  if (march_ray_setup(p.rays, index, ray, first)) {
    if (grid.cone_angle > 0.0f) {
      float t = march_growing_start(grid, ray);
      for (MarchSample s; march_next_growing(grid, ray, t, s);) ++count;
      n_runs = kMarchRuns + 1;
    } else {
      for (int begin, end; march_next_run(grid, ray, first, begin, end); first = end) {
        if (n_runs < kMarchRuns) runs[2 * n_runs] = begin, runs[2 * n_runs + 1] = end;
        ++n_runs;
        count += end - begin;
      }
    }
  }
  p.counts[index] = count;
  if (n_runs > kMarchRuns) runs[0] = runs[1] = -1;
}

NERFAD_HD int64_t march_bounded_count(const MarchPack& p, int64_t index, int64_t start) {
  int64_t count = p.counts[index];
  if (count > p.max_samples_per_ray) count = p.max_samples_per_ray;
  return start + count > p.max_samples ? (start < p.max_samples ? p.max_samples - start : 0) : count;
}

NERFAD_HD void march_write_sample(const MarchWrite& p, int64_t i, int64_t index, float t_start, float t_end) {
  p.t_starts[i] = t_start;
  p.t_ends[i] = t_end;
  p.ray_indices[i] = static_cast<int32_t>(index);
}

// A ray whose runs were too many to note is marched once more.
NERFAD_HD void march_write_again(const MarchWrite& p, int64_t index) {
  MarchRay ray;
  int first;
  if (!march_ray_setup(p.rays, index, ray, first)) return;
  const int64_t begin = p.packed_info[2 * index], end = begin + p.packed_info[2 * index + 1];
  MarchCursor cursor = march_begin(p.rays.grid, ray, first);
  MarchSample s;
  for (int64_t i = begin; i < end && march_next(p.rays.grid, ray, cursor, s); ++i) {
    march_write_sample(p, i, index, s.t_start, s.t_end);
  }
}

// Every `stride`-th sample of a ray from `offset` on: all of them on the CPU, one lane's share on CUDA.
NERFAD_HD void march_write_runs(const MarchWrite& p, int64_t index, int offset, int stride) {
  const int32_t* runs = p.runs + 2 * kMarchRuns * index;
  MarchRay ray;
  ray.t_min = p.rays.t_min[index];
  ray.jitter = p.rays.jitter ? p.rays.jitter[index] : 0.0f;
  ray.step_size = p.rays.grid.step_size;
  int64_t out = p.packed_info[2 * index];
  const int64_t out_end = out + p.packed_info[2 * index + 1];
  for (int r = 0; r < kMarchRuns && out < out_end; ++r) {
    const int begin = runs[2 * r], length = runs[2 * r + 1] - begin;
    const int fits = out_end - out < length ? static_cast<int>(out_end - out) : length;
    for (int i = offset; i < fits; i += stride) {
      const float t = march_t_start(ray, begin + i);
      march_write_sample(p, out + i, index, t, t + ray.step_size);
    }
    out += fits;
  }
}

NERFAD_HD bool march_runs_noted(const MarchWrite& p, int64_t index) {
  return p.runs[2 * kMarchRuns * index] >= 0;
}

NERFAD_HD void march_inference_ray(const MarchInference& p, int64_t row) {
  const int32_t index = p.alive[row];
  const MarchGrid& grid = p.rays.grid;
  const int64_t slot = row * p.n_steps;
  int64_t count = 0;
  MarchRay ray;
  int first;
  const float where = p.cursors[index];
  if (is_finite(where) && march_ray_setup(p.rays, index, ray, first)) {
    MarchCursor cursor = march_begin(grid, ray, first);
    if (where > 0.0f) cursor = {static_cast<int>(where < kMarchMaxSteps ? where : kMarchMaxSteps), where};
    MarchSample s;
    for (; count < p.n_steps && march_next(grid, ray, cursor, s); ++count) {
      p.t_starts[slot + count] = s.t_start;
      p.t_ends[slot + count] = s.t_end;
      p.ray_indices[slot + count] = index;
    }
    p.cursors[index] = grid.cone_angle > 0.0f ? cursor.t : static_cast<float>(cursor.step);
  }
  if (count < p.n_steps) p.cursors[index] = HUGE_VALF;
  p.packed_info[2 * row] = slot;
  p.packed_info[2 * row + 1] = count;
}

void march_bricks_cpu(const MarchBricks& p, const ParallelFor& parallel_for);
void march_count_cpu(const MarchCount& p, const ParallelFor& parallel_for);
void march_pack_cpu(const MarchPack& p, const ParallelFor& parallel_for);
void march_write_cpu(const MarchWrite& p, const ParallelFor& parallel_for);
void march_inference_cpu(const MarchInference& p, const ParallelFor& parallel_for);

}  // namespace nerfad
