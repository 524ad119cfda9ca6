// The conditioned MLP on tensor cores. Networks whose weights do not fit in shared memory take the plain
// float32 kernels of conditioned_mlp_plain.cuh.
#include "nerfad/conditioned_mlp.h"

#include "conditioned_mlp_bwd.cuh"
#include "conditioned_mlp_fwd.cuh"
#include "conditioned_mlp_plain.cuh"
#include "device.h"

namespace nerfad {

namespace {

constexpr int kMaxBlocks = 1024;
constexpr int kBlocksPerMultiprocessor = 2, kPackBlocks = 128;

int mma_shared_bytes(const MlpShape& s, bool backward) {
  const int n_buffers = backward ? s.n_hidden : 2;
  return static_cast<int>(sizeof(__half)) * mma_shared_halves(s, n_buffers, backward);
}

bool fits_mma(const MlpShape& s, bool backward) {
  return mma_shared_bytes(s, backward) <= device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
}

int n_blocks_for(const ConditionedMlpFwd<float>& p) {
  const int64_t tiles = (p.n_samples + kMmaTile - 1) / kMmaTile;
  int64_t n =
      static_cast<int64_t>(kBlocksPerMultiprocessor) * device_attribute(cudaDevAttrMultiProcessorCount);
  if (n > kMaxBlocks) n = kMaxBlocks;
  if (n > tiles) n = tiles;
  return static_cast<int>(n < 1 ? 1 : n);
}

int zero_grads(const ConditionedMlpBwd<float>& p, cudaStream_t stream) {
  const size_t n_params = static_cast<size_t>(p.fwd.shape.n_params());
  const size_t n_cond = static_cast<size_t>(p.fwd.n_cond * p.fwd.shape.d_cond);
  const int error = cudaMemsetAsync(p.grad_params, 0, sizeof(float) * n_params, stream);
  return error || !p.grad_cond ? error : cudaMemsetAsync(p.grad_cond, 0, sizeof(float) * n_cond, stream);
}

int launch_mma_fwd(const ConditionedMlpFwd<float>& p, cudaStream_t stream) {
  const MmaScratch m = mma_scratch(p, 0);
  const int bytes = mma_shared_bytes(p.shape, false);
  if (cudaError_t error = allow_shared(mlp_fwd_mma_kernel, bytes)) return error;
  if (int error = NERFAD_LAUNCH(mlp_pack_kernel, dim3(kPackBlocks), dim3(256), 0, stream, p, m)) return error;
  return NERFAD_LAUNCH(mlp_fwd_mma_kernel, dim3(n_blocks_for(p)), dim3(kMmaThreads), bytes, stream, p, m);
}

int launch_mma_bwd(const ConditionedMlpBwd<float>& p, cudaStream_t stream) {
  const MlpShape& s = p.fwd.shape;
  const int n_blocks = n_blocks_for(p.fwd), bytes = mma_shared_bytes(s, true);
  const MmaScratch m = mma_scratch(p.fwd, n_blocks);
  const int64_t n_folded = p.fwd.n_cond * mma_padded(s.d_hidden);
  if (cudaError_t error = allow_shared(mlp_bwd_mma_kernel, bytes)) return error;
  if (cudaError_t error = cudaMemsetAsync(m.largest_grad, 0, 2 * sizeof(float), stream)) return error;
  const size_t fixed_bytes = m.own_folded_sums ? 0 : sizeof(*m.folded_fixed) * static_cast<size_t>(n_folded);
  if (cudaError_t error = cudaMemsetAsync(m.folded_fixed, 0, fixed_bytes, stream)) return error;
  if (int error = NERFAD_LAUNCH(mlp_pack_kernel, dim3(kPackBlocks), dim3(256), 0, stream, p.fwd, m))
    return error;
  if (int error = NERFAD_LAUNCH(mlp_largest_grad_kernel, dim3(64), dim3(256), 0, stream, p.grad_out,
                                p.fwd.n_samples * s.d_out, m.largest_grad)) {
    return error;
  }
  if (int error = NERFAD_LAUNCH(mlp_bwd_mma_kernel, dim3(n_blocks), dim3(kMmaThreads), bytes, stream, p, m)) {
    return error;
  }
  if (int error = NERFAD_LAUNCH(mlp_sum_folded_kernel, blocks_for(n_folded), dim3(kBlock), 0, stream, p, m,
                                n_blocks)) {
    return error;
  }
  if (int error = NERFAD_LAUNCH(mlp_sum_params_kernel, blocks_for(s.n_params()), dim3(kBlock), 0, stream, p,
                                m, n_blocks)) {
    return error;
  }
  return launch_unfold(p, m.folded_sum, mma_padded(s.d_hidden), stream);
}

}  // namespace

}  // namespace nerfad

using nerfad::ConditionedMlpBwd;
using nerfad::ConditionedMlpFwd;

// Floats of scratch.
NERFAD_EXPORT int64_t nerfad_cuda_conditioned_mlp_fwd_scratch(const ConditionedMlpFwd<float>* p) {
  return nerfad::fits_mma(p->shape, false) ? nerfad::mma_scratch(*p, 0).size
                                           : nerfad::plain_layout(*p, false).size;
}

NERFAD_EXPORT int64_t nerfad_cuda_conditioned_mlp_bwd_scratch(const ConditionedMlpBwd<float>* p) {
  if (!nerfad::fits_mma(p->fwd.shape, true)) return nerfad::plain_layout(p->fwd, true).size;
  return nerfad::mma_scratch(p->fwd, nerfad::n_blocks_for(p->fwd)).size;
}

NERFAD_EXPORT int nerfad_cuda_conditioned_mlp_fwd(const ConditionedMlpFwd<float>* p, void* stream) {
  if (p->n_samples == 0) return cudaSuccess;
  const auto s = static_cast<cudaStream_t>(stream);
  return nerfad::fits_mma(p->shape, false) ? nerfad::launch_mma_fwd(*p, s) : nerfad::launch_plain_fwd(*p, s);
}

NERFAD_EXPORT int nerfad_cuda_conditioned_mlp_bwd(const ConditionedMlpBwd<float>* p, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  if (p->fwd.n_samples == 0) return nerfad::zero_grads(*p, s);
  return nerfad::fits_mma(p->fwd.shape, true) ? nerfad::launch_mma_bwd(*p, s)
                                              : nerfad::launch_plain_bwd(*p, s);
}
