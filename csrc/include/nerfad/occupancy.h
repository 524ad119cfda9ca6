// The occupancy grid: decaying update with a maximum over conditions, and packing to one bit per cell.
#pragma once
#include "nerfad/hd.h"
#include "nerfad/parallel.h"

namespace nerfad {

struct OccupancyUpdate {
  float* density_grid;     // in/out [n_cells], negative: cell out of use
  const int32_t* indices;  // [n_indices] cells that were looked at, repeats allowed
  const float* densities;  // [n_conditions, n_indices]
  int64_t n_cells;
  int64_t n_indices;
  int64_t n_conditions;
  float decay;
};

struct PackBitfield {
  const float* density_grid;  // [n_bytes * 8]
  uint8_t* bitfield;          // out [n_bytes]
  int64_t n_bytes;
  float threshold;
};

NERFAD_HD bool cell_in_use(float density) { return density >= 0.0f; }

NERFAD_HD void occupancy_decay_cell(const OccupancyUpdate& p, int64_t cell) {
  const float density = p.density_grid[cell];
  if (cell_in_use(density)) p.density_grid[cell] = density * p.decay;
}

// The largest density over all conditions at one of the indices; NaN counts as none.
NERFAD_HD float occupancy_largest(const OccupancyUpdate& p, int64_t i) {
  float largest = 0.0f;
  for (int64_t c = 0; c < p.n_conditions; ++c) {
    const float density = p.densities[c * p.n_indices + i];
    if (density > largest) largest = density;
  }
  return largest;
}

NERFAD_HD bool occupancy_in_grid(const OccupancyUpdate& p, int64_t i) {
  return p.indices[i] >= 0 && p.indices[i] < p.n_cells;
}

NERFAD_HD bool cell_occupied(float density, float threshold) { return density > threshold; }

NERFAD_HD void pack_bitfield_byte(const PackBitfield& p, int64_t byte) {
  unsigned bits = 0;
  for (int i = 0; i < 8; ++i) {
    bits |= static_cast<unsigned>(cell_occupied(p.density_grid[8 * byte + i], p.threshold)) << i;
  }
  p.bitfield[byte] = static_cast<uint8_t>(bits);
}

void occupancy_update_cpu(const OccupancyUpdate& p, const ParallelFor& parallel_for);
void pack_bitfield_cpu(const PackBitfield& p, const ParallelFor& parallel_for);

}  // namespace nerfad
