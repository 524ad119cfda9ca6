#include "nerfad/march.h"

#include "march_units.h"
#include "nerfad/isa.h"

namespace nerfad {

namespace {

void count_portable(const MarchCount& p, int64_t begin, int64_t end) {
  for (int64_t ray = begin; ray < end; ++ray) march_count_ray(p, ray);
}

void write_portable(const MarchWrite& p, int64_t begin, int64_t end) {
  for (int64_t ray = begin; ray < end; ++ray) {
    if (march_runs_noted(p, ray)) {
      march_write_runs(p, ray, 0, 1);
    } else {
      march_write_again(p, ray);
    }
  }
}

void inference_portable(const MarchInference& p, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) march_inference_ray(p, row);
}

constexpr int64_t kRaysPerTask = 256;

}  // namespace

MarchUnit march_unit() {
#if defined(__x86_64__)
  if (current_isa() >= Isa::kAvx512) return march_avx512();
  if (current_isa() >= Isa::kAvx2) return march_avx2();
#endif
  return {count_portable, write_portable, inference_portable, start_slots_one_by_one,
          next_in_slots_one_by_one};
}

void march_bricks_cpu(const MarchBricks& p, const ParallelFor& parallel_for) {
  constexpr int64_t kBricksPerTask = 2048;
  parallel_for(p.n_bricks, kBricksPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t brick = begin; brick < end; ++brick) march_bricks_one(p, brick);
  });
  if (!p.bounds) return;
  int box[6] = {kMostBricks, kMostBricks, kMostBricks, 0, 0, 0};
  for (int64_t brick = 0; brick < p.n_bricks; ++brick) march_widen_bounds(p, brick, box);
  march_store_bounds(p, box);
}

void march_count_cpu(const MarchCount& p, const ParallelFor& parallel_for) {
  const MarchUnit unit = march_unit();
  parallel_for(p.rays.n_rays, kRaysPerTask, [&](int64_t begin, int64_t end) { unit.count(p, begin, end); });
}

void march_pack_cpu(const MarchPack& p, const ParallelFor&) {
  int64_t start = 0, found = 0;
  for (int64_t ray = 0; ray < p.n_rays; ++ray) {
    const int64_t count = march_bounded_count(p, ray, start);
    p.packed_info[2 * ray] = start;
    p.packed_info[2 * ray + 1] = count;
    start += count;
    found += p.counts[ray];
  }
  p.totals[0] = start;
  p.totals[1] = found - start;
}

void march_write_cpu(const MarchWrite& p, const ParallelFor& parallel_for) {
  const MarchUnit unit = march_unit();
  parallel_for(p.rays.n_rays, kRaysPerTask, [&](int64_t begin, int64_t end) { unit.write(p, begin, end); });
}

void march_inference_cpu(const MarchInference& p, const ParallelFor& parallel_for) {
  const MarchUnit unit = march_unit();
  parallel_for(p.n_alive, kRaysPerTask, [&](int64_t begin, int64_t end) { unit.inference(p, begin, end); });
}

}  // namespace nerfad
