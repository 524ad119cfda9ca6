// A thread owns four elements: one 16-byte read of gradients decides whether anything else is touched.
#include "nerfad/sparse_adam.h"

#include "device.h"

namespace nerfad {

constexpr int kPerThread = 4;

__global__ void sparse_adam_kernel(const SparseAdam<float> p) {
  const int64_t first = thread_index() * kPerThread;
  if (first + kPerThread <= p.n) {
    const float4 g = *reinterpret_cast<const float4*>(p.grads + first);
    if (g.x == 0.0f && g.y == 0.0f && g.z == 0.0f && g.w == 0.0f) return;
  }
  const int64_t end = first + kPerThread < p.n ? first + kPerThread : p.n;
  for (int64_t i = first; i < end; ++i) sparse_adam_element(p, i);
}

}  // namespace nerfad

NERFAD_EXPORT int nerfad_cuda_sparse_adam(const nerfad::SparseAdam<float>* p, void* stream) {
  if (p->n == 0) return cudaSuccess;
  const int64_t threads = (p->n + nerfad::kPerThread - 1) / nerfad::kPerThread;
  return NERFAD_LAUNCH(nerfad::sparse_adam_kernel, nerfad::blocks_for(threads), dim3(nerfad::kBlock), 0,
                       static_cast<cudaStream_t>(stream), *p);
}
