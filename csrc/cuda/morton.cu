#include "nerfad/morton.h"

#include "device.h"

namespace nerfad {

__global__ void morton_encode_kernel(const MortonEncode p) {
  const int64_t i = thread_index();
  if (i < p.n) morton_encode_point(p, i);
}

__global__ void morton_decode_kernel(const MortonDecode p) {
  const int64_t i = thread_index();
  if (i < p.n) morton_decode_code(p, i);
}

}  // namespace nerfad

NERFAD_EXPORT int nerfad_cuda_morton_encode(const nerfad::MortonEncode* p, void* stream) {
  if (p->n == 0) return cudaSuccess;
  return NERFAD_LAUNCH(nerfad::morton_encode_kernel, nerfad::blocks_for(p->n), dim3(nerfad::kBlock), 0,
                       static_cast<cudaStream_t>(stream), *p);
}

NERFAD_EXPORT int nerfad_cuda_morton_decode(const nerfad::MortonDecode* p, void* stream) {
  if (p->n == 0) return cudaSuccess;
  return NERFAD_LAUNCH(nerfad::morton_decode_kernel, nerfad::blocks_for(p->n), dim3(nerfad::kBlock), 0,
                       static_cast<cudaStream_t>(stream), *p);
}
