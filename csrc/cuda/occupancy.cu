#include "nerfad/occupancy.h"

#include "device.h"

namespace nerfad {

__global__ void occupancy_decay_kernel(const OccupancyUpdate p) {
  const int64_t cell = thread_index();
  if (cell < p.n_cells) occupancy_decay_cell(p, cell);
}

// Floats that are not negative order like their bits as integers, and a cell out of use (negative) must stay:
// its bits are a negative integer, hence the look before the maximum.
__global__ void occupancy_raise_kernel(const OccupancyUpdate p) {
  const int64_t i = thread_index();
  if (i >= p.n_indices || !occupancy_in_grid(p, i)) return;
  float* cell = p.density_grid + p.indices[i];
  if (cell_in_use(*cell)) atomicMax(reinterpret_cast<int*>(cell), __float_as_int(occupancy_largest(p, i)));
}

__global__ void pack_bitfield_kernel(const PackBitfield p) {
  const int64_t byte = thread_index();
  if (byte < p.n_bytes) pack_bitfield_byte(p, byte);
}

}  // namespace nerfad

NERFAD_EXPORT int nerfad_cuda_occupancy_update(const nerfad::OccupancyUpdate* p, void* stream) {
  using namespace nerfad;
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  if (p->n_cells == 0) return cudaSuccess;
  const cudaError_t error =
      NERFAD_LAUNCH(occupancy_decay_kernel, blocks_for(p->n_cells), dim3(kBlock), 0, s, *p);
  if (error != cudaSuccess || p->n_indices == 0) return error;
  return NERFAD_LAUNCH(occupancy_raise_kernel, blocks_for(p->n_indices), dim3(kBlock), 0, s, *p);
}

NERFAD_EXPORT int nerfad_cuda_pack_bitfield(const nerfad::PackBitfield* p, void* stream) {
  if (p->n_bytes == 0) return cudaSuccess;
  return NERFAD_LAUNCH(nerfad::pack_bitfield_kernel, nerfad::blocks_for(p->n_bytes), dim3(nerfad::kBlock), 0,
                       static_cast<cudaStream_t>(stream), *p);
}
