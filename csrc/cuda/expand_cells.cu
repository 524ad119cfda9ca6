// One thread per corner, so that a warp writes one piece of memory; blocks along y are levels.
#include "nerfad/expand_cells.h"

#include "device.h"

namespace nerfad {

template <class Entry, int D>
__global__ void expand_cells_kernel(const ExpandCells p) {
  const int l = static_cast<int>(blockIdx.y);
  const int64_t i = thread_index();
  if (i < static_cast<int64_t>(p.shape.levels[l].size) << D) expand_cells_corner<D, Entry>(p, l, i);
}

}  // namespace nerfad

NERFAD_EXPORT int nerfad_cuda_expand_cells(const nerfad::ExpandCells* p, void* stream) {
  if (p->n_levels == 0) return cudaSuccess;
  int64_t largest = 0;
  for (int l = 0; l < p->n_levels; ++l) {
    const int64_t size = p->shape.levels[l].size;
    largest = size > largest ? size : largest;
  }
  dim3 grid = nerfad::blocks_for(largest << p->shape.n_dims);
  grid.y = static_cast<unsigned>(p->n_levels);
  cudaError_t error = cudaSuccess;
  nerfad::expand_dispatch(*p, [&](auto entry, auto d) {
    const auto kernel = &nerfad::expand_cells_kernel<decltype(entry), decltype(d)::value>;
    error = NERFAD_LAUNCH(kernel, grid, dim3(nerfad::kBlock), 0, static_cast<cudaStream_t>(stream), *p);
  });
  return error;
}
