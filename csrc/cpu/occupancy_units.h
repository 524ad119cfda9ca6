// The loops of the occupancy grid that need no lock, once per instruction set.
#pragma once
#include "nerfad/occupancy.h"

namespace nerfad {

struct OccupancyUnit {
  void (*decay)(const OccupancyUpdate&, int64_t begin, int64_t end);
  // The largest density at each of the indices [begin, end) into `largest`.
  void (*largest)(const OccupancyUpdate&, int64_t begin, int64_t end, float* largest);
  void (*pack)(const PackBitfield&, int64_t begin, int64_t end);
};

OccupancyUnit occupancy_avx2();
OccupancyUnit occupancy_avx512();

}  // namespace nerfad
