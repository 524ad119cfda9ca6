// Marching rays through the occupancy grid. Each ray has its own lattice of steps, independent of the grid:
//   t_k = t_min + (k + jitter) * step_size,   midpoint t_k + step_size / 2
// Step k is a sample if its midpoint lies before t_max, within the box and in an occupied cell.
//
// Skipping empty space changes no result: positions are computed by fma alone, which rounds monotonically, so
// that if two steps lie in a block of cells, all steps between them do. A skip is taken only after its last
// step has been found to lie in the empty block. Backends agree bit for bit for the same reason.
#pragma once
#include <cmath>

#include "nerfad/hd.h"
#include "nerfad/morton.h"

namespace nerfad {

constexpr int kMarchMaxSteps = 1 << 24;  // per ray; as floats, step numbers are exact up to here
constexpr int kBrick = 8;                // cells along a brick's side

struct MarchGrid {
  const float* aabb;         // [6] low corner, high corner
  const uint64_t* bitfield;  // [resolution^3 / 64] one bit per cell in Morton order: a word is 4x4x4 cells
  const uint8_t* bricks;     // [(resolution / 8)^3] is any cell of the 8x8x8 occupied? null: not known;
                             // with 3 readable bytes behind, for vector units
  int resolution;            // cells along a side, a power of two from 4 to 256
  float step_size;           // world units
  float cone_angle;          // steps are max(step_size, cone_angle * t) long; 0: a fixed step
  const float* bounds;  // [6] low and high corner, in cells, of a box around all that is occupied; null: not
                        // known. Rays begin and end there.
};

struct MarchRays {
  MarchGrid grid;
  const float* rays_o;  // [n_rays, 3]
  const float* rays_d;  // [n_rays, 3]
  const float* t_min;   // [n_rays]
  const float* t_max;   // [n_rays]
  const float* jitter;  // [n_rays] shift in steps, or null for none
  int64_t n_rays;
};

// A ray in units of cells: position(t) = base + t * slope.
struct MarchRay {
  float base[3], slope[3], inverse[3];
  float low[3], high[3];  // nothing is occupied outside of this box
  float t_min, t_max, jitter, step_size, half_step, inverse_step;
  int end;  // the first step whose midpoint is not before t_max
};

struct MarchSample {
  float t_start, t_end;
};

NERFAD_HD bool is_finite(float x) { return std::fabs(x) <= 3.402823466e38f; }

NERFAD_HD float march_t_start(const MarchRay& ray, int step) {
  return std::fma(static_cast<float>(step) + ray.jitter, ray.step_size, ray.t_min);
}

NERFAD_HD float march_t_mid(const MarchRay& ray, int step) {
  return march_t_start(ray, step) + ray.half_step;
}

// The step at which the lattice's midpoints reach t, give or take rounding; within [0, kMarchMaxSteps].
NERFAD_HD int march_step_near(const MarchRay& ray, float t) {
  const float step = std::ceil((t - ray.half_step - ray.t_min) * ray.inverse_step - ray.jitter);
  if (!(step > 0.0f)) return 0;
  return step < static_cast<float>(kMarchMaxSteps) ? static_cast<int>(step) : kMarchMaxSteps;
}

struct MarchCell {
  int x, y, z;
};

// Where a point is: in the ray's box with its cell, not there yet, or past it for good.
enum class MarchPlace : int { kInside, kBefore, kPast };

NERFAD_HD MarchPlace march_place(const MarchRay& ray, int resolution, float t, MarchCell& cell) {
  int c[3] = {0, 0, 0};
  bool before = false;
  for (int a = 0; a < 3; ++a) {
    const float u = std::fma(t, ray.slope[a], ray.base[a]);
    const bool below = !(u >= ray.low[a]), above = !(u <= ray.high[a]);
    if (below || above) {
      const bool nearing = below ? ray.slope[a] > 0.0f : ray.slope[a] < 0.0f;
      if (!nearing) return MarchPlace::kPast;
      before = true;
      continue;
    }
    c[a] = static_cast<int>(u);
    if (c[a] == resolution) c[a] = resolution - 1;
  }
  if (before) return MarchPlace::kBefore;
  cell = {c[0], c[1], c[2]};
  return MarchPlace::kInside;
}

// The sides of the box outside of which nothing is occupied, in cells.
NERFAD_HD void march_box_side(const MarchGrid& grid, int axis, float& low, float& high) {
  low = grid.bounds ? grid.bounds[axis] : 0.0f;
  high = grid.bounds ? grid.bounds[3 + axis] : static_cast<float>(grid.resolution);
}

template <class Ray>
NERFAD_HD void march_set_step(const MarchGrid& grid, Ray& ray) {
  ray.step_size = grid.step_size;
  ray.half_step = 0.5f * grid.step_size;
  ray.inverse_step = 1.0f / grid.step_size;
}

// Makes a ray ready to march; false if it has no step at all. `first` is the first step that may be inside.
NERFAD_HD bool march_ray_setup(const MarchRays& p, int64_t index, MarchRay& ray, int& first) {
  ray.t_min = p.t_min[index];
  ray.t_max = p.t_max[index];
  ray.jitter = p.jitter ? p.jitter[index] : 0.0f;
  march_set_step(p.grid, ray);
  bool usable = is_finite(ray.t_min) && is_finite(ray.jitter) && ray.t_max > ray.t_min, moves = false;
  float enter = ray.t_min;
  for (int a = 0; a < 3; ++a) {
    const float low = p.grid.aabb[a];
    const float scale = static_cast<float>(p.grid.resolution) / (p.grid.aabb[3 + a] - low);
    ray.base[a] = (p.rays_o[3 * index + a] - low) * scale;
    ray.slope[a] = p.rays_d[3 * index + a] * scale;
    ray.inverse[a] = 1.0f / ray.slope[a];
    usable = usable && is_finite(ray.base[a]) && is_finite(ray.slope[a]);
    moves = moves || ray.slope[a] != 0.0f;
    march_box_side(p.grid, a, ray.low[a], ray.high[a]);
    const float wall = ray.slope[a] > 0.0f ? ray.low[a] : ray.high[a];
    const float t_wall = (wall - ray.base[a]) * ray.inverse[a];
    if (ray.slope[a] != 0.0f && t_wall > enter) enter = t_wall;
  }
  if (!usable || !moves) return false;
  ray.end = march_step_near(ray, ray.t_max);
  while (ray.end > 0 && !(march_t_mid(ray, ray.end - 1) < ray.t_max)) --ray.end;
  while (ray.end < kMarchMaxSteps && march_t_mid(ray, ray.end) < ray.t_max) ++ray.end;
  MarchCell cell;
  first = march_step_near(ray, enter);
  for (; first > 0; --first) {
    const MarchPlace place = march_place(ray, p.grid.resolution, march_t_mid(ray, first - 1), cell);
    if (place == MarchPlace::kPast) return false;
    if (place == MarchPlace::kBefore) break;
  }
  return first < ray.end;
}

// The 4x4x4 block of a cell, and the cell's place in it.
NERFAD_HD uint32_t march_word(const MarchCell& c) { return morton_code(c.x >> 2, c.y >> 2, c.z >> 2); }
NERFAD_HD int march_bit(const MarchCell& c) {
  return static_cast<int>(morton_code(c.x & 3, c.y & 3, c.z & 3));
}

NERFAD_HD bool march_occupied(const MarchGrid& grid, const MarchCell& c) {
  return grid.bitfield[march_word(c)] >> march_bit(c) & 1;
}

// What is known around a cell: whether it is occupied, and log2 of the side of the block that is all like it.
struct MarchBlock {
  bool occupied;
  int log2_side;
};

NERFAD_HD MarchBlock march_block(const MarchGrid& grid, const MarchCell& c) {
  const uint32_t word_index = march_word(c);
  if (grid.bricks && !grid.bricks[word_index >> 3]) return {false, 3};
  const uint64_t word = grid.bitfield[word_index];
  if (word == 0) return {false, 2};
  if (word == ~uint64_t{0}) return {true, 2};
  return {static_cast<bool>(word >> march_bit(c) & 1), 0};
}

// The first step after `step` that may lie outside of the block around `cell`; every step before it is
// inside.
NERFAD_HD int march_leave_block(const MarchRay& ray, int resolution, int step, const MarchCell& cell,
                                int log2_side) {
  if (log2_side == 0) return step + 1;  // looking costs no more than skipping
  const int c[3] = {cell.x, cell.y, cell.z};
  float t_exit = 3.402823466e38f;
  for (int a = 0; a < 3; ++a) {
    if (ray.slope[a] == 0.0f) continue;
    const int block = c[a] >> log2_side;
    const int wall = (ray.slope[a] > 0.0f ? block + 1 : block) << log2_side;
    const float t = (static_cast<float>(wall) - ray.base[a]) * ray.inverse[a];
    if (t < t_exit) t_exit = t;
  }
  int next = march_step_near(ray, t_exit);
  if (next > ray.end) next = ray.end;
  for (; next > step + 1; --next) {
    MarchCell last;
    if (march_place(ray, resolution, march_t_mid(ray, next - 1), last) == MarchPlace::kInside &&
        last.x >> log2_side == cell.x >> log2_side && last.y >> log2_side == cell.y >> log2_side &&
        last.z >> log2_side == cell.z >> log2_side) {
      break;
    }
  }
  return next > step + 1 ? next : step + 1;
}

// Finds the next run of samples at or after `step`: [begin, end). Returns false if there is none.
NERFAD_HD bool march_next_run(const MarchGrid& grid, const MarchRay& ray, int step, int& begin, int& end) {
  begin = -1;
  while (step < ray.end) {
    MarchCell cell;
    const MarchPlace place = march_place(ray, grid.resolution, march_t_mid(ray, step), cell);
    if (place == MarchPlace::kPast) break;
    if (place == MarchPlace::kBefore) {
      ++step;
      continue;
    }
    const MarchBlock block = march_block(grid, cell);
    if (begin < 0 && block.occupied) begin = step;
    if (begin >= 0 && !block.occupied) break;
    step = march_leave_block(ray, grid.resolution, step, cell, block.log2_side);
  }
  end = step;
  return begin >= 0;
}

// ---- Steps that grow with the distance are walked one by one: their lattice has no closed form.

NERFAD_HD float march_growing_step(const MarchGrid& grid, float t) {
  const float step = grid.cone_angle * t;
  return step > grid.step_size ? step : grid.step_size;
}

NERFAD_HD bool march_next_growing(const MarchGrid& grid, const MarchRay& ray, float& t, MarchSample& sample) {
  for (;;) {
    const float step = march_growing_step(grid, t), t_mid = std::fma(0.5f, step, t), t_end = t + step;
    if (!(t_mid < ray.t_max) || !(t_end > t)) return false;
    MarchCell cell;
    const MarchPlace place = march_place(ray, grid.resolution, t_mid, cell);
    if (place == MarchPlace::kPast) return false;
    sample = {t, t_end};
    t = t_end;
    if (place == MarchPlace::kInside && march_occupied(grid, cell)) return true;
  }
}

NERFAD_HD float march_growing_start(const MarchGrid& grid, const MarchRay& ray) {
  return std::fma(ray.jitter, march_growing_step(grid, ray.t_min), ray.t_min);
}

// ---- One sample after another, for both kinds of steps: what inference and the fused render use.

struct MarchCursor {
  int step;  // next step to look at; fixed steps
  float t;   // its start; growing steps
};

NERFAD_HD MarchCursor march_begin(const MarchGrid& grid, const MarchRay& ray, int first) {
  return {first, grid.cone_angle > 0.0f ? march_growing_start(grid, ray) : 0.0f};
}

// The next sample at or after the cursor, which then stands behind it. False at the ray's end.
NERFAD_HD bool march_next(const MarchGrid& grid, const MarchRay& ray, MarchCursor& cursor,
                          MarchSample& sample) {
  if (grid.cone_angle > 0.0f) return march_next_growing(grid, ray, cursor.t, sample);
  while (cursor.step < ray.end) {
    MarchCell cell;
    const MarchPlace place = march_place(ray, grid.resolution, march_t_mid(ray, cursor.step), cell);
    if (place == MarchPlace::kPast) return false;
    if (place == MarchPlace::kInside) {
      const MarchBlock block = march_block(grid, cell);
      if (block.occupied) {
        const float t = march_t_start(ray, cursor.step++);
        sample = {t, t + ray.step_size};
        return true;
      }
      cursor.step = march_leave_block(ray, grid.resolution, cursor.step, cell, block.log2_side);
    } else {
      ++cursor.step;
    }
  }
  return false;
}

}  // namespace nerfad
