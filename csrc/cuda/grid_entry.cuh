// Entries of a grid's table by as few loads as their size allows: 16 bytes at a time at most.
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

template <class S, int F>
__device__ __forceinline__ void load_entry(const GridEntry<S, F>* from, GridEntry<S, F>& entry) {
  constexpr size_t kBytes = sizeof(GridEntry<S, F>), kWord = kBytes < 16 ? kBytes : 16;
  using Word = typename EntryWord<kWord>::type;
  Word words[kBytes / kWord];
#pragma unroll
  for (size_t i = 0; i < kBytes / kWord; ++i) words[i] = __ldg(reinterpret_cast<const Word*>(from) + i);
  memcpy(&entry, words, kBytes);
}

}  // namespace nerfad
