// Entries of a grid's table, and whole cells, by as few loads as their size allows: 16 bytes at a time at
// most.
#pragma once
#include "device.h"
#include "nerfad/grid_encode.h"

namespace nerfad {

template <size_t kBytes>
struct EntryWord;
template <>
struct EntryWord<2> {
  using type = uint16_t;
};
template <>
struct EntryWord<4> {
  using type = uint32_t;
};
template <>
struct EntryWord<8> {
  using type = uint2;
};
template <>
struct EntryWord<16> {
  using type = uint4;
};

// Copies kBytes of aligned memory that no kernel changes meanwhile.
template <size_t kBytes>
__device__ __forceinline__ void load_words(const void* from, void* to) {
  constexpr size_t kWord = kBytes < 16 ? kBytes : 16;
  using Word = typename EntryWord<kWord>::type;
  Word words[kBytes / kWord];
#pragma unroll
  for (size_t i = 0; i < kBytes / kWord; ++i) words[i] = __ldg(static_cast<const Word*>(from) + i);
  memcpy(to, words, kBytes);
}

template <class S, int F>
__device__ __forceinline__ void load_entry(const GridEntry<S, F>* from, GridEntry<S, F>& entry) {
  load_words<sizeof(entry)>(from, &entry);
}

// A position's features in one level. All corners are loaded before any is used: one by one, or, where the
// level is expanded, the cell's whole memory at once.
template <class S, int D, int F>
__device__ __forceinline__ void encode_level(const GridShape& shape, const void* table,
                                             const GridCells& cells, int l, const float* position,
                                             float (&sum)[F]) {
  const GridLevel& level = shape.levels[l];
  const GridCell<float, D> cell = grid_cell<float, D>(level, shape.smoothstep, position);
  GridEntry<S, F> entries[1 << D];
  if (l < cells.n_levels) {
    load_words<sizeof(entries)>(grid_cell_corners<S, D, F>(cells, level, cell.vertex), entries);
  } else {
#pragma unroll
    for (int corner = 0; corner < (1 << D); ++corner) {
      load_entry(static_cast<const GridEntry<S, F>*>(table) + grid_entry<D>(level, cell.vertex, corner),
                 entries[corner]);
    }
  }
#pragma unroll
  for (int f = 0; f < F; ++f) sum[f] = 0;
#pragma unroll
  for (int corner = 0; corner < (1 << D); ++corner) {
    const float w = grid_corner_weight(cell, corner);
#pragma unroll
    for (int f = 0; f < F; ++f) sum[f] += w * widen(entries[corner].v[f]);
  }
}

}  // namespace nerfad
