// Marching 16 rays at a time. Every lane takes its own skips; since a skip is only taken when it is safe, the
// samples are those of the portable pass, bit for bit, whatever the skips are.
#include "march_units.h"
// gcc 12 warns of its own AVX-512 header, whose "undefined" vectors initialise themselves (gcc bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

namespace nerfad {

namespace {

constexpr int kLanes = 16;
constexpr int kRoundUp = _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC;

using Floats = __m512;
using Ints = __m512i;
using Mask = __mmask16;

Floats all(float x) { return _mm512_set1_ps(x); }
Ints all(int x) { return _mm512_set1_epi32(x); }

Mask finite(Floats x) { return _mm512_cmp_ps_mask(_mm512_abs_ps(x), all(3.402823466e38f), _CMP_LE_OQ); }

// MarchRay for 16 rays.
struct RayLanes {
  Floats base[3], slope[3], inverse[3];
  Mask rises[3], falls[3];
  Floats t_min, t_max, jitter;
  float step_size, half_step, inverse_step;
  Ints end;
  float low[3], high[3];
  int resolution;
};

Floats t_mid(const RayLanes& ray, Ints step) {
  const Floats k = _mm512_add_ps(_mm512_cvtepi32_ps(step), ray.jitter);
  return _mm512_add_ps(_mm512_fmadd_ps(k, all(ray.step_size), ray.t_min), all(ray.half_step));
}

Ints step_near(const RayLanes& ray, Floats t) {
  const Floats from_start = _mm512_sub_ps(_mm512_sub_ps(t, all(ray.half_step)), ray.t_min);
  const Floats k = _mm512_fmsub_ps(from_start, all(ray.inverse_step), ray.jitter);
  // In this order NaN becomes 0.
  const Floats bounded = _mm512_min_ps(_mm512_max_ps(k, all(0.0f)), all(static_cast<float>(kMarchMaxSteps)));
  return _mm512_cvt_roundps_epi32(bounded, kRoundUp);
}

struct PlaceLanes {
  Mask inside, before, past;
  Ints cell[3];
};

PlaceLanes place(const RayLanes& ray, Floats t) {
  PlaceLanes p{0, 0, 0, {}};
  const Ints last_cell = all(ray.resolution - 1);
  for (int a = 0; a < 3; ++a) {
    const Floats u = _mm512_fmadd_ps(t, ray.slope[a], ray.base[a]);
    const Mask below = _mm512_cmp_ps_mask(u, all(ray.low[a]), _CMP_NGE_UQ);
    const Mask above = _mm512_cmp_ps_mask(u, all(ray.high[a]), _CMP_NLE_UQ);
    const Mask nearing = (below & ray.rises[a]) | (above & ~below & ray.falls[a]);
    p.before |= nearing;
    p.past |= (below | above) & ~nearing;
    p.cell[a] = _mm512_min_epi32(_mm512_cvttps_epi32(u), last_cell);
  }
  p.before &= ~p.past;
  p.inside = ~(p.before | p.past);
  return p;
}

// Moves bit i of 6 bits to bit 3 i.
Ints spread_6_bits(Ints x) {
  x = _mm512_and_si512(_mm512_or_si512(x, _mm512_slli_epi32(x, 8)), all(0x300f));
  x = _mm512_and_si512(_mm512_or_si512(x, _mm512_slli_epi32(x, 4)), all(0x30c3));
  return _mm512_and_si512(_mm512_or_si512(x, _mm512_slli_epi32(x, 2)), all(0x9249));
}

Ints morton_of(Ints x, Ints y, Ints z) {
  return _mm512_or_si512(spread_6_bits(x), _mm512_or_si512(_mm512_slli_epi32(spread_6_bits(y), 1),
                                                           _mm512_slli_epi32(spread_6_bits(z), 2)));
}

// What is known around each lane's cell. Cells are looked up 32 at a time: 4x4x2 of them.
struct BlockLanes {
  Mask occupied;
  Mask uniform;     // the whole block is like the cell
  Mask brick_free;  // so is the 8x8x8 brick: nothing in it
};

BlockLanes look_up(const MarchGrid& grid, const PlaceLanes& p) {
  const Ints three = all(3);
  Ints block[3], within[3];
  for (int a = 0; a < 3; ++a) {
    block[a] = _mm512_srli_epi32(p.cell[a], 2);
    within[a] = _mm512_and_si512(p.cell[a], three);
  }
  const Ints word = morton_of(block[0], block[1], block[2]);
  const Ints bit = morton_of(within[0], within[1], within[2]);
  // Bricks are bytes; a gather reads the three bytes behind as well, which make_bricks leaves room for.
  const Ints brick = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), p.inside, _mm512_srli_epi32(word, 3),
                                                 grid.bricks, 1);
  const Mask in_brick = p.inside & _mm512_test_epi32_mask(brick, all(0xff));
  const Ints half_word = _mm512_add_epi32(_mm512_add_epi32(word, word), _mm512_srli_epi32(bit, 5));
  const Ints bits =
      _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), in_brick, half_word, grid.bitfield, 4);
  const Ints own = _mm512_srlv_epi32(bits, _mm512_and_si512(bit, all(31)));
  const Mask occupied = in_brick & _mm512_test_epi32_mask(own, all(1));
  const Mask none = _mm512_cmpeq_epi32_mask(bits, _mm512_setzero_si512());
  const Mask every = _mm512_cmpeq_epi32_mask(bits, all(-1));
  return {occupied, static_cast<Mask>(none | every), static_cast<Mask>(p.inside & ~in_brick)};
}

// march_leave_block for the lanes of `skipping`; the others go on by one step.
Ints leave_block(const RayLanes& ray, Ints step, const PlaceLanes& p, const BlockLanes& block,
                 Mask skipping) {
  const Ints one_step = _mm512_add_epi32(step, all(1));
  if (!skipping) return one_step;
  const int sides[3] = {4, 4, 2};
  Ints aligned[3];
  Floats t_exit = all(3.402823466e38f);
  for (int a = 0; a < 3; ++a) {
    const Ints side = _mm512_mask_blend_epi32(block.brick_free, all(sides[a]), all(kBrick));
    aligned[a] = _mm512_sub_epi32(_mm512_setzero_si512(), side);  // keeps the bits that tell blocks apart
    const Ints low = _mm512_and_si512(p.cell[a], aligned[a]);
    const Ints wall = _mm512_mask_add_epi32(low, ray.rises[a], low, side);
    const Floats t = _mm512_mul_ps(_mm512_sub_ps(_mm512_cvtepi32_ps(wall), ray.base[a]), ray.inverse[a]);
    t_exit = _mm512_mask_min_ps(t_exit, ray.rises[a] | ray.falls[a], t_exit, t);
  }
  const Ints next = _mm512_min_epi32(step_near(ray, t_exit), ray.end);
  const PlaceLanes last = place(ray, t_mid(ray, _mm512_sub_epi32(next, all(1))));
  Mask safe = skipping & last.inside & _mm512_cmpgt_epi32_mask(next, one_step);
  for (int a = 0; a < 3; ++a) {
    const Ints moved = _mm512_xor_si512(last.cell[a], p.cell[a]);
    safe &= _mm512_testn_epi32_mask(moved, aligned[a]);
  }
  return _mm512_mask_mov_epi32(one_step, safe, next);
}

// march_ray_setup: loads `active` rays from `index` on; returns those that may have samples.
Mask set_up(const MarchRays& p, int64_t index, Mask active, RayLanes& ray, Ints& first) {
  const Floats zero = all(0.0f);
  const Ints lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const Ints triple = _mm512_mullo_epi32(lane, all(3));
  ray.t_min = _mm512_maskz_loadu_ps(active, p.t_min + index);
  ray.t_max = _mm512_maskz_loadu_ps(active, p.t_max + index);
  ray.jitter = p.jitter ? _mm512_maskz_loadu_ps(active, p.jitter + index) : zero;
  ray.step_size = p.grid.step_size;
  ray.half_step = 0.5f * p.grid.step_size;
  ray.inverse_step = 1.0f / p.grid.step_size;
  ray.resolution = p.grid.resolution;
  Mask usable =
      active & finite(ray.t_min) & finite(ray.jitter) & _mm512_cmp_ps_mask(ray.t_max, ray.t_min, _CMP_GT_OQ);
  Mask moves = 0;
  Floats enter = ray.t_min;
  for (int a = 0; a < 3; ++a) {
    const float low = p.grid.aabb[a];
    const float scale = static_cast<float>(ray.resolution) / (p.grid.aabb[3 + a] - low);
    ray.low[a] = p.grid.bounds ? p.grid.bounds[a] : 0.0f;
    ray.high[a] = p.grid.bounds ? p.grid.bounds[3 + a] : static_cast<float>(ray.resolution);
    const Floats o = _mm512_mask_i32gather_ps(zero, active, triple, p.rays_o + 3 * index + a, 4);
    const Floats d = _mm512_mask_i32gather_ps(zero, active, triple, p.rays_d + 3 * index + a, 4);
    ray.base[a] = _mm512_mul_ps(_mm512_sub_ps(o, all(low)), all(scale));
    ray.slope[a] = _mm512_mul_ps(d, all(scale));
    ray.inverse[a] = _mm512_div_ps(all(1.0f), ray.slope[a]);
    ray.rises[a] = _mm512_cmp_ps_mask(ray.slope[a], zero, _CMP_GT_OQ);
    ray.falls[a] = _mm512_cmp_ps_mask(ray.slope[a], zero, _CMP_LT_OQ);
    usable &= finite(ray.base[a]) & finite(ray.slope[a]);
    moves |= ray.rises[a] | ray.falls[a];
    const Floats wall = _mm512_mask_mov_ps(all(ray.high[a]), ray.rises[a], all(ray.low[a]));
    const Floats t_wall = _mm512_mul_ps(_mm512_sub_ps(wall, ray.base[a]), ray.inverse[a]);
    enter = _mm512_mask_max_ps(enter, ray.rises[a] | ray.falls[a], t_wall, enter);
  }
  usable &= moves;
  auto before_end = [&](Ints step) { return _mm512_cmp_ps_mask(t_mid(ray, step), ray.t_max, _CMP_LT_OQ); };
  const Ints one = all(1);
  ray.end = step_near(ray, ray.t_max);
  for (;;) {
    const Mask too_far = usable & _mm512_cmpgt_epi32_mask(ray.end, _mm512_setzero_si512()) &
                         ~before_end(_mm512_sub_epi32(ray.end, one));
    if (!too_far) break;
    ray.end = _mm512_mask_sub_epi32(ray.end, too_far, ray.end, one);
  }
  for (;;) {
    const Mask too_near =
        usable & _mm512_cmplt_epi32_mask(ray.end, all(kMarchMaxSteps)) & before_end(ray.end);
    if (!too_near) break;
    ray.end = _mm512_mask_add_epi32(ray.end, too_near, ray.end, one);
  }
  first = step_near(ray, enter);
  for (;;) {
    const PlaceLanes last = place(ray, t_mid(ray, _mm512_sub_epi32(first, one)));
    const Mask looking = usable & _mm512_cmpgt_epi32_mask(first, _mm512_setzero_si512());
    usable &= ~(looking & last.past);
    const Mask back = looking & last.inside;
    if (!back) break;
    first = _mm512_mask_sub_epi32(first, back, first, one);
  }
  return usable & _mm512_cmplt_epi32_mask(first, ray.end);
}

// The runs of 16 rays as they are found.
struct RunLanes {
  int32_t* runs;  // [16, kMarchRuns, 2]
  Ints begin, n_runs, count;
  Mask open;

  void close(Mask lanes, Ints end) {
    const Mask noted = lanes & _mm512_cmplt_epi32_mask(n_runs, all(kMarchRuns));
    const Ints lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const Ints place = _mm512_add_epi32(_mm512_slli_epi32(lane, 3), _mm512_slli_epi32(n_runs, 1));
    _mm512_mask_i32scatter_epi32(runs, noted, place, begin, 4);
    _mm512_mask_i32scatter_epi32(runs + 1, noted, place, end, 4);
    n_runs = _mm512_mask_add_epi32(n_runs, lanes, n_runs, all(1));
    count = _mm512_mask_add_epi32(count, lanes, count, _mm512_sub_epi32(end, begin));
    open &= ~lanes;
  }
};
static_assert(2 * kMarchRuns == 8, "RunLanes::close and start move 8 integers per ray");

// 16 rays on their way.
struct Group {
  RayLanes ray;
  RunLanes found;
  Ints step;
  Mask alive;
};

void start(const MarchCount& p, int64_t index, int n_rays, Group& g) {
  const Mask active = static_cast<Mask>((1u << n_rays) - 1);
  int32_t* runs = p.runs + 2 * kMarchRuns * index;
  for (int i = 0; i < n_rays; ++i) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(runs + 2 * kMarchRuns * i), _mm256_setzero_si256());
  }
  g.alive = set_up(p.rays, index, active, g.ray, g.step);
  g.found = {runs, _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), 0};
}

// One step or skip of every ray.
void advance(const MarchGrid& grid, Group& g) {
  PlaceLanes here = place(g.ray, t_mid(g.ray, g.step));
  here.inside &= g.alive;
  const BlockLanes block = look_up(grid, here);
  const Mask starting = block.occupied & ~g.found.open;
  const Mask ending = g.alive & g.found.open & ~block.occupied;
  g.found.begin = _mm512_mask_mov_epi32(g.found.begin, starting, g.step);
  g.found.open |= starting;
  if (ending) g.found.close(ending, g.step);
  g.alive &= ~here.past;
  g.step = leave_block(g.ray, g.step, here, block, here.inside & block.uniform);
  const Mask at_end = g.alive & _mm512_cmpge_epi32_mask(g.step, g.ray.end);
  if (at_end & g.found.open) g.found.close(at_end & g.found.open, g.step);
  g.alive &= ~at_end;
}

void finish(const MarchCount& p, int64_t index, int n_rays, const Group& g) {
  const Mask active = static_cast<Mask>((1u << n_rays) - 1);
  _mm512_mask_storeu_epi32(p.counts + index, active, g.found.count);
  const Mask too_many = _mm512_cmpgt_epi32_mask(g.found.n_runs, all(kMarchRuns));
  for (int i = 0; i < n_rays; ++i) {
    int32_t* runs = p.runs + 2 * kMarchRuns * (index + i);
    if (too_many >> i & 1) runs[0] = runs[1] = -1;
  }
}

// Two groups side by side: a step is one long chain of dependent instructions, so that each fills the other's
// waits.
void count_lanes(const MarchCount& p, int64_t index, int n_rays) {
  const int n_first = n_rays < kLanes ? n_rays : kLanes, n_second = n_rays - n_first;
  Group first, second;
  start(p, index, n_first, first);
  start(p, index + n_first, n_second, second);
  while (first.alive | second.alive) {
    advance(p.rays.grid, first);
    advance(p.rays.grid, second);
  }
  finish(p, index, n_first, first);
  finish(p, index + n_first, n_second, second);
}

void count(const MarchCount& p, int64_t begin, int64_t end) {
  const bool one_by_one = p.rays.grid.cone_angle > 0.0f || !p.rays.grid.bricks;
  for (int64_t ray = begin; ray < end; ray += one_by_one ? 1 : 2 * kLanes) {
    if (one_by_one) {
      march_count_ray(p, ray);
    } else {
      count_lanes(p, ray, static_cast<int>(end - ray < 2 * kLanes ? end - ray : 2 * kLanes));
    }
  }
}

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

MarchUnit march_avx512() { return {count, write, inference}; }

}  // namespace nerfad
