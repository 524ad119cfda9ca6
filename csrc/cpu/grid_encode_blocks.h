// Blocks of samples and the scratch memory of the grid encoding's CPU launchers.
#pragma once
#include "nerfad/grid_encode.h"

namespace nerfad {
namespace {

constexpr int64_t kMaxGridBlock = 4096;

// Samples are handled in vectors of up to 16.
inline int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

// One slot of forward scratch: positions [n_dims][block], then features [n_levels][level_stride].
struct GridBlocks {
  int64_t block;
  int64_t level_stride;
  int64_t slot_size;
};

inline GridBlocks grid_blocks(const GridShape& shape, int64_t n, int n_threads) {
  const int64_t fair = padded((n + n_threads - 1) / n_threads);
  GridBlocks r;
  r.block = fair < kMaxGridBlock ? fair : kMaxGridBlock;
  // The extra line keeps the levels' rows out of one another's cache sets.
  r.level_stride = r.block * shape.n_features + 16;
  r.slot_size = shape.n_dims * r.block + shape.n_levels * r.level_stride;
  return r;
}

// Backward scratch: all positions and gradients of positions axis by axis, gradients of features level by
// level.
struct GridBackwardLayout {
  int64_t positions[3];
  int64_t grad_positions[3];
  int64_t grads;
  int64_t level_stride;
  int64_t size;
};

inline GridBackwardLayout grid_backward_layout(const GridShape& shape, int64_t n) {
  GridBackwardLayout r{};
  const int64_t stride = padded(n) + 16;
  for (int a = 0; a < 3; ++a) r.positions[a] = a * stride, r.grad_positions[a] = (3 + a) * stride;
  r.grads = 6 * stride;
  r.level_stride = stride * shape.n_features + 16;
  r.size = r.grads + shape.n_levels * r.level_stride;
  return r;
}

}  // namespace
}  // namespace nerfad
