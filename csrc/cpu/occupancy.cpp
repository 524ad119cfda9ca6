#include "nerfad/occupancy.h"

#include <cstring>

namespace nerfad {

namespace {

// Raises the cell without a lock: tasks may meet in one cell where indices repeat. A maximum does not depend
// on their order.
void raise_cell(float* cell, float density) {
  uint32_t* bits = reinterpret_cast<uint32_t*>(cell);
  uint32_t before = __atomic_load_n(bits, __ATOMIC_RELAXED), after;
  std::memcpy(&after, &density, sizeof(after));
  for (;;) {
    float now;
    std::memcpy(&now, &before, sizeof(now));
    if (!cell_in_use(now) || now >= density) return;
    if (__atomic_compare_exchange_n(bits, &before, after, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
  }
}

}  // namespace

void occupancy_update_cpu(const OccupancyUpdate& p, const ParallelFor& parallel_for) {
  constexpr int64_t kCellsPerTask = 65536, kIndicesPerTask = 8192, kAhead = 32;
  parallel_for(p.n_cells, kCellsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t cell = begin; cell < end; ++cell) occupancy_decay_cell(p, cell);
  });
  parallel_for(p.n_indices, kIndicesPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      // Cells lie anywhere in memory, and a locked instruction lets no other wait beside it.
      if (i + kAhead < end) __builtin_prefetch(p.density_grid + p.indices[i + kAhead], 1);
      raise_cell(p.density_grid + p.indices[i], occupancy_largest(p, i));
    }
  });
}

void pack_bitfield_cpu(const PackBitfield& p, const ParallelFor& parallel_for) {
  constexpr int64_t kBytesPerTask = 8192;
  parallel_for(p.n_bytes, kBytesPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t byte = begin; byte < end; ++byte) pack_bitfield_byte(p, byte);
  });
}

}  // namespace nerfad
