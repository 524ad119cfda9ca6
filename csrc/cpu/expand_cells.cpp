#include "nerfad/expand_cells.h"

namespace nerfad {

namespace {
constexpr int64_t kCornersPerTask = 1 << 15;
}

void expand_cells_cpu(const ExpandCells& p, const ParallelFor& parallel_for) {
  expand_dispatch(p, [&](auto entry, auto d) {
    constexpr int D = decltype(d)::value;
    for (int l = 0; l < p.n_levels; ++l) {
      const int64_t n = static_cast<int64_t>(p.shape.levels[l].size) << D;
      parallel_for(n, kCornersPerTask, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) expand_cells_corner<D, decltype(entry)>(p, l, i);
      });
    }
  });
}

}  // namespace nerfad
