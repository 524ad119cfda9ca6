// Cells, indices and bytes of the occupancy grid, kLanes at a time.
#pragma once
#include "lanes.h"
#include "occupancy_units.h"
#include "simd.h"

namespace nerfad {
namespace {

void decay_cells(const OccupancyUpdate& p, int64_t begin, int64_t end) {
  int64_t cell = begin;
  for (; cell + kLanes <= end; cell += kLanes) {
    const Floats density = load(p.density_grid + cell);
    store(p.density_grid + cell, density >= 0.0f ? density * p.decay : density);
  }
  for (; cell < end; ++cell) occupancy_decay_cell(p, cell);
}

void largest_densities(const OccupancyUpdate& p, int64_t begin, int64_t end, float* largest) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) {
    Floats most{};
    for (int64_t c = 0; c < p.n_conditions; ++c) {
      const Floats density = load(p.densities + c * p.n_indices + i);
      most = density > most ? density : most;
    }
    store(largest + (i - begin), most);
  }
  for (; i < end; ++i) largest[i - begin] = occupancy_largest(p, i);
}

// Bit k: is lane k of 8 cells above the threshold? NaN is not.
inline uint8_t bits_above(const float* cells, float threshold) {
  return static_cast<uint8_t>(
      _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(cells), _mm256_set1_ps(threshold), _CMP_GT_OQ)));
}

void pack_bytes(const PackBitfield& p, int64_t begin, int64_t end) {
  for (int64_t byte = begin; byte < end; ++byte) {
    p.bitfield[byte] = bits_above(p.density_grid + 8 * byte, p.threshold);
  }
}

}  // namespace
}  // namespace nerfad
