#include "occupancy_simd.h"

namespace nerfad {

OccupancyUnit occupancy_avx2() { return {decay_cells, largest_densities, pack_bytes}; }

}  // namespace nerfad
