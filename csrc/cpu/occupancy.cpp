#include "nerfad/occupancy.h"

#include <cstring>

#include "nerfad/isa.h"
#include "occupancy_units.h"

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

void decay_portable(const OccupancyUpdate& p, int64_t begin, int64_t end) {
  for (int64_t cell = begin; cell < end; ++cell) occupancy_decay_cell(p, cell);
}

void largest_portable(const OccupancyUpdate& p, int64_t begin, int64_t end, float* largest) {
  for (int64_t i = begin; i < end; ++i) largest[i - begin] = occupancy_largest(p, i);
}

void pack_portable(const PackBitfield& p, int64_t begin, int64_t end) {
  for (int64_t byte = begin; byte < end; ++byte) pack_bitfield_byte(p, byte);
}

OccupancyUnit occupancy_unit() {
#if defined(__x86_64__)
  if (current_isa() >= Isa::kAvx512) return occupancy_avx512();
  if (current_isa() >= Isa::kAvx2) return occupancy_avx2();
#endif
  return {decay_portable, largest_portable, pack_portable};
}

// Raises the cells of the indices [begin, end).
void raise_cells(const OccupancyUnit& unit, const OccupancyUpdate& p, int64_t begin, int64_t end) {
  constexpr int64_t kAtOnce = 256, kAhead = 32;
  float largest[kAtOnce];
  for (int64_t first = begin; first < end; first += kAtOnce) {
    const int64_t behind = first + kAtOnce < end ? first + kAtOnce : end;
    unit.largest(p, first, behind, largest);
    for (int64_t i = first; i < behind; ++i) {
      // Cells lie anywhere in memory, and a locked instruction lets no other wait beside it.
      if (i + kAhead < end) __builtin_prefetch(p.density_grid + p.indices[i + kAhead], 1);
      raise_cell(p.density_grid + p.indices[i], largest[i - first]);
    }
  }
}

}  // namespace

void occupancy_update_cpu(const OccupancyUpdate& p, const ParallelFor& parallel_for) {
  constexpr int64_t kCellsPerTask = 65536, kIndicesPerTask = 8192;
  const OccupancyUnit unit = occupancy_unit();
  parallel_for(p.n_cells, kCellsPerTask, [&](int64_t begin, int64_t end) { unit.decay(p, begin, end); });
  parallel_for(p.n_indices, kIndicesPerTask,
               [&](int64_t begin, int64_t end) { raise_cells(unit, p, begin, end); });
}

void pack_bitfield_cpu(const PackBitfield& p, const ParallelFor& parallel_for) {
  constexpr int64_t kBytesPerTask = 8192;
  const OccupancyUnit unit = occupancy_unit();
  parallel_for(p.n_bytes, kBytesPerTask, [&](int64_t begin, int64_t end) { unit.pack(p, begin, end); });
}

}  // namespace nerfad
