// Marching kLanes rays at a time. Every lane takes its own skips; since a skip is only taken when it is safe,
// the samples are those of the portable pass, bit for bit, whatever the skips are.
#pragma once
#include "march_lanes.h"  // first: it silences gcc 12 about its own intrinsics

#include "march_units.h"

namespace nerfad {
namespace {

constexpr float kLargest = 3.402823466e38f;

NERFAD_HD Mask finite(Floats x) { return compare<_CMP_LE_OQ>(absolute(x), all(kLargest)); }

NERFAD_HD Ints lane_numbers() {
  Ints lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane;
}

// MarchRay for kLanes rays.
struct RayLanes {
  Floats base[3], slope[3], inverse[3];
  Mask rises[3], falls[3];
  Floats t_min, t_max, jitter;
  float step_size, half_step, inverse_step;
  Ints end;
  float low[3], high[3];
  int resolution;
};

NERFAD_HD Floats t_mid(const RayLanes& ray, Ints step) {
  const Floats k = __builtin_convertvector(step, Floats) + ray.jitter;
  return multiply_add(k, all(ray.step_size), ray.t_min) + all(ray.half_step);
}

NERFAD_HD Ints step_near(const RayLanes& ray, Floats t) {
  const Floats from_start = t - all(ray.half_step) - ray.t_min;
  const Floats k = multiply_subtract(from_start, all(ray.inverse_step), ray.jitter);
  // In this order NaN becomes 0.
  return round_up(smaller(larger(k, all(0.0f)), all(static_cast<float>(kMarchMaxSteps))));
}

struct PlaceLanes {
  Mask inside, before, past;
  Ints cell[3];
};

NERFAD_HD PlaceLanes place(const RayLanes& ray, Floats t) {
  PlaceLanes p{};
  const Ints last_cell = all(ray.resolution - 1);
  for (int a = 0; a < 3; ++a) {
    const Floats u = multiply_add(t, ray.slope[a], ray.base[a]);
    const Mask below = compare<_CMP_NGE_UQ>(u, all(ray.low[a]));
    const Mask above = compare<_CMP_NLE_UQ>(u, all(ray.high[a]));
    const Mask nearing = (below & ray.rises[a]) | (above & ~below & ray.falls[a]);
    p.before |= nearing;
    p.past |= (below | above) & ~nearing;
    p.cell[a] = smaller(__builtin_convertvector(u, Ints), last_cell);
  }
  p.before &= ~p.past;
  p.inside = ~(p.before | p.past);
  return p;
}

// Moves bit i of 6 bits to bit 3 i.
NERFAD_HD Ints spread_6_bits(Ints x) {
  x = (x | x << 8) & 0x300f;
  x = (x | x << 4) & 0x30c3;
  return (x | x << 2) & 0x9249;
}

NERFAD_HD Ints morton_of(Ints x, Ints y, Ints z) {
  return spread_6_bits(x) | spread_6_bits(y) << 1 | spread_6_bits(z) << 2;
}

// What is known around each lane's cell. Cells are looked up 32 at a time: 4x4x2 of them.
struct BlockLanes {
  Mask occupied;
  Mask uniform;     // the whole block is like the cell
  Mask brick_free;  // so is the 8x8x8 brick: nothing in it
};

NERFAD_HD BlockLanes look_up(const MarchGrid& grid, const PlaceLanes& p) {
  Ints block[3], within[3];
  for (int a = 0; a < 3; ++a) {
    block[a] = p.cell[a] >> 2;
    within[a] = p.cell[a] & 3;
  }
  const Ints word = morton_of(block[0], block[1], block[2]);
  const Ints bit = morton_of(within[0], within[1], within[2]);
  // Bricks are bytes; a gather reads the three bytes behind as well, which make_bricks leaves room for.
  const Ints brick = gather_bytes<1>(p.inside, grid.bricks, word >> 3);
  const Mask in_brick = p.inside & any_bit(brick, all(0xff));
  const Ints bits = gather_bytes<4>(in_brick, grid.bitfield, word + word + (bit >> 5));
  BlockLanes found;
  found.occupied = in_brick & any_bit(bits >> (bit & 31), all(1));
  found.uniform = equal(bits, all(0)) | equal(bits, all(-1));
  found.brick_free = p.inside & ~in_brick;
  return found;
}

// march_leave_block for the lanes of `skipping`; the others go on by one step.
NERFAD_HD Ints leave_block(const RayLanes& ray, Ints step, const PlaceLanes& p, const BlockLanes& block,
                           Mask skipping) {
  const Ints one_step = step + 1;
  if (!skipping) return one_step;
  const int sides[3] = {4, 4, 2};
  Ints aligned[3];
  Floats t_exit = all(kLargest);
  for (int a = 0; a < 3; ++a) {
    const Ints side = choose(block.brick_free, all(kBrick), all(sides[a]));
    aligned[a] = -side;  // keeps the bits that tell blocks apart
    const Ints low = p.cell[a] & aligned[a];
    const Ints wall = choose(ray.rises[a], low + side, low);
    const Floats t = (__builtin_convertvector(wall, Floats) - ray.base[a]) * ray.inverse[a];
    t_exit = choose(ray.rises[a] | ray.falls[a], smaller(t_exit, t), t_exit);
  }
  const Ints next = smaller(step_near(ray, t_exit), ray.end);
  const PlaceLanes last = place(ray, t_mid(ray, next - 1));
  Mask safe = skipping & last.inside & greater(next, one_step);
  for (int a = 0; a < 3; ++a) safe &= ~any_bit(last.cell[a] ^ p.cell[a], aligned[a]);
  return choose(safe, next, one_step);
}

NERFAD_HD void set_direction(RayLanes& ray, int axis) {
  ray.rises[axis] = compare<_CMP_GT_OQ>(ray.slope[axis], Floats{});
  ray.falls[axis] = compare<_CMP_LT_OQ>(ray.slope[axis], Floats{});
}

// march_ray_setup: loads the `active` rays from `index` on; returns those that may have samples.
Mask set_up(const MarchRays& p, int64_t index, Mask active, RayLanes& ray, Ints& first) {
  const Ints triple = lane_numbers() * 3, zero{};
  ray.t_min = load(active, p.t_min + index);
  ray.t_max = load(active, p.t_max + index);
  ray.jitter = p.jitter ? load(active, p.jitter + index) : Floats{};
  march_set_step(p.grid, ray);
  ray.resolution = p.grid.resolution;
  Mask usable = active & finite(ray.t_min) & finite(ray.jitter) & compare<_CMP_GT_OQ>(ray.t_max, ray.t_min);
  Mask moves{};
  Floats enter = ray.t_min;
  for (int a = 0; a < 3; ++a) {
    const float low = p.grid.aabb[a];
    const float scale = static_cast<float>(ray.resolution) / (p.grid.aabb[3 + a] - low);
    march_box_side(p.grid, a, ray.low[a], ray.high[a]);
    ray.base[a] = (gather(active, p.rays_o + 3 * index + a, triple) - all(low)) * all(scale);
    ray.slope[a] = gather(active, p.rays_d + 3 * index + a, triple) * all(scale);
    ray.inverse[a] = all(1.0f) / ray.slope[a];
    set_direction(ray, a);
    usable &= finite(ray.base[a]) & finite(ray.slope[a]);
    moves |= ray.rises[a] | ray.falls[a];
    const Floats wall = choose(ray.rises[a], all(ray.low[a]), all(ray.high[a]));
    const Floats t_wall = (wall - ray.base[a]) * ray.inverse[a];
    enter = choose(ray.rises[a] | ray.falls[a], larger(t_wall, enter), enter);
  }
  usable &= moves;
  const auto before_end = [&](Ints step) { return compare<_CMP_LT_OQ>(t_mid(ray, step), ray.t_max); };
  ray.end = step_near(ray, ray.t_max);
  for (;;) {
    const Mask too_far = usable & greater(ray.end, zero) & ~before_end(ray.end - 1);
    if (!too_far) break;
    ray.end = choose(too_far, ray.end - 1, ray.end);
  }
  for (;;) {
    const Mask too_near = usable & greater(all(kMarchMaxSteps), ray.end) & before_end(ray.end);
    if (!too_near) break;
    ray.end = choose(too_near, ray.end + 1, ray.end);
  }
  first = step_near(ray, enter);
  for (;;) {
    const PlaceLanes last = place(ray, t_mid(ray, first - 1));
    const Mask looking = usable & greater(first, zero);
    usable &= ~(looking & last.past);
    const Mask back = looking & last.inside;
    if (!back) break;
    first = choose(back, first - 1, first);
  }
  return usable & greater(ray.end, first);
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

// The lanes of a mask as the last of some rays, `n` of them before.
template <class Rays>
void store_rays(const Front& front, const RayLanes& ray, Rays& to, int n) {
  for (int a = 0; a < 3; ++a) {
    front.store(to.base[a] + n, ray.base[a]);
    front.store(to.slope[a] + n, ray.slope[a]);
    front.store(to.inverse[a] + n, ray.inverse[a]);
  }
  front.store(to.t_min + n, ray.t_min);
  front.store(to.end + n, ray.end);
}

template <class V, class T>
V load_lanes(const T* from) {
  V v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

// What vectors do not know how to march.
bool ray_by_ray(const MarchGrid& grid) { return grid.cone_angle > 0.0f || !grid.bricks; }

void write(const MarchWrite& p, int64_t begin, int64_t end) {
  for (int64_t ray = begin; ray < end; ++ray) {
    if (march_runs_noted(p, ray)) {
      march_write_runs(p, ray, 0, 1);
    } else {
      march_write_again(p, ray);
    }
  }
}

void inference(const MarchInference& p, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) march_inference_ray(p, row);
}

}  // namespace
}  // namespace nerfad
