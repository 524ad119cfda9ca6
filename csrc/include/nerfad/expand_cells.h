// Copies the levels of a grid's table that are not hashed so that the corners of a cell lie behind one
// another (GridCells): a cell is then read at once instead of corner by corner. Possible because the entries
// of its corners lie at the same distances from that of its lowest one, whatever the cell; hashes do not.
#pragma once
#include "nerfad/grid_encode.h"
#include "nerfad/hd.h"
#include "nerfad/parallel.h"

namespace nerfad {

struct ExpandCells {
  const void* table;  // [n_entries, n_features]
  void* corners;      // out [entries of the first n_levels levels, 2^n_dims, n_features]
  GridShape shape;
  int32_t n_levels;
  int32_t entry_bytes;  // of an entry of the table
};

// Corner i of level l, counted through its cells. Rows behind the last cell, whose corners would lie outside
// of the level, hold zeros there; no position reads them.
template <int D, class Entry>
NERFAD_HD void expand_cells_corner(const ExpandCells& p, int l, int64_t i) {
  const GridLevel& level = p.shape.levels[l];
  const uint32_t origin[D] = {}, lowest = static_cast<uint32_t>(i >> D);
  const uint32_t distance = grid_entry<D>(level, origin, static_cast<int>(i & ((1 << D) - 1))) - level.offset;
  const uint32_t entry = (lowest + distance) & level.mask;
  Entry value{};
  if (entry < level.size) value = static_cast<const Entry*>(p.table)[level.offset + entry];
  static_cast<Entry*>(p.corners)[(static_cast<int64_t>(level.offset) << D) + i] = value;
}

void expand_cells_cpu(const ExpandCells& p, const ParallelFor& parallel_for);

// Calls fn(Entry{}, D) with a type of entry_bytes bytes, whatever they mean, and the dimensions.
template <int D, class Fn>
void expand_dispatch_bytes(int entry_bytes, const Fn& fn) {
  if (entry_bytes == 2) fn(GridEntry<uint16_t, 1>{}, GridConstant<D>{});
  if (entry_bytes == 4) fn(GridEntry<uint32_t, 1>{}, GridConstant<D>{});
  if (entry_bytes == 8) fn(GridEntry<uint32_t, 2>{}, GridConstant<D>{});
  if (entry_bytes == 16) fn(GridEntry<uint32_t, 4>{}, GridConstant<D>{});
  if (entry_bytes == 32) fn(GridEntry<uint32_t, 8>{}, GridConstant<D>{});
  if (entry_bytes == 64) fn(GridEntry<uint32_t, 16>{}, GridConstant<D>{});
}
template <class Fn>
void expand_dispatch(const ExpandCells& p, const Fn& fn) {
  if (p.shape.n_dims == 2) expand_dispatch_bytes<2>(p.entry_bytes, fn);
  if (p.shape.n_dims == 3) expand_dispatch_bytes<3>(p.entry_bytes, fn);
}

}  // namespace nerfad
