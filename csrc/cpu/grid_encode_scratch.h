// The scratch memory of the grid encoding's CPU launchers: a chunk of samples, axis by axis and level by
// level.
#pragma once
#include "nerfad/grid_encode.h"

namespace nerfad {
namespace {

// Large, so that reading a level's table into the L2 cache is shared by many samples; bounded, so that memory
// is.
constexpr int64_t kGridChunk = 1 << 16;

// The gradient of the positions is summed over the levels in this many groups, whatever the number of
// threads.
constexpr int kLevelGroups = 4;

// Samples are handled in vectors of up to 16.
constexpr int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

struct GridScratch {
  int64_t chunk;         // samples at a time
  int64_t axis_stride;   // between axes of positions
  int64_t features;      // begin of features or of their gradients [n_levels][level_stride]
  int64_t level_stride;  // a line more than the chunk: keeps the levels out of one another's cache sets
  int64_t partial;       // begin of gradients of positions [kLevelGroups][n_dims][axis_stride]
  int64_t fwd_size, bwd_size;
};

inline GridScratch grid_scratch(const GridShape& shape, int64_t n) {
  GridScratch r;
  r.chunk = n < kGridChunk ? padded(n) : kGridChunk;
  r.axis_stride = r.chunk + 16;
  r.features = shape.n_dims * r.axis_stride;
  r.level_stride = r.chunk * shape.n_features + 16;
  r.partial = r.features + shape.n_levels * r.level_stride;
  r.fwd_size = r.partial;
  r.bwd_size = r.partial + kLevelGroups * shape.n_dims * r.axis_stride;
  return r;
}

}  // namespace
}  // namespace nerfad
