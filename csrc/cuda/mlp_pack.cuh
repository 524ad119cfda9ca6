// The networks' parameters as the tensor-core kernels want them, and the scratch memory that holds them.
#pragma once
#include "device.h"
#include "mlp_mma.h"
#include "nerfad/conditioned_mlp.h"

namespace nerfad {

namespace {

constexpr int64_t kMaxFoldedSums = 16384;  // conditions x blocks up to which each block has its own sums
constexpr int kDeltaBits = 16;             // a half is below 2^16

// Scratch: weights as halves, biases, folded biases, then for backward the largest gradient, the sums of the
// folded biases' gradients, and each block's sums: weights [out padded, in padded] of each layer, biases of
// all layers, and folded biases [n_cond, padded] unless there are too many: then blocks add to folded_fixed,
// in integers, so that their order does not matter.
struct MmaScratch {
  __half* weights;
  float *biases, *folded, *largest_grad, *not_finite, *sums, *folded_sum;
  unsigned long long* folded_fixed;  // [n_cond, padded], in units of 2^-fixed_bits
  int fixed_bits;
  int64_t sums_size;  // of one block
  int64_t size;       // all, in floats
  bool own_folded_sums;
};

NERFAD_HD int mma_sum_at(const MlpShape& s, int layer) {
  int at = 0;
  for (int l = 0; l < layer; ++l) at += mma_padded(s.out(l)) * mma_padded(s.in(l));
  return at;
}

inline MmaScratch mma_scratch(const ConditionedMlpFwd<float>& p, int n_sums) {
  const MlpShape& s = p.shape;
  MmaScratch r{};
  const int64_t folded = p.n_cond * mma_padded(s.d_hidden);
  float* at = p.scratch;
  r.weights = reinterpret_cast<__half*>(at);
  r.biases = at += (mma_weights_at(s, s.n_layers()) + 1) / 2;
  r.folded = at += mma_bias_size(s);
  r.largest_grad = at += folded;
  r.not_finite = r.largest_grad + 1;
  r.folded_sum = at += 4;
  at += folded + (at + folded - p.scratch) % 2;  // the next are of 8 bytes
  r.own_folded_sums = p.n_cond * n_sums <= kMaxFoldedSums;
  r.folded_fixed = reinterpret_cast<unsigned long long*>(at);
  r.sums = at += r.own_folded_sums ? 0 : 2 * folded;
  int sample_bits = 0;
  while (sample_bits < 40 && (int64_t{1} << sample_bits) < p.n_samples) ++sample_bits;
  r.fixed_bits = 62 - kDeltaBits - sample_bits;  // no sum of all samples' deltas overflows
  r.sums_size = mma_sum_at(s, s.n_layers()) + mma_bias_size(s) + (r.own_folded_sums ? folded : 0);
  r.size = (at - p.scratch) + n_sums * r.sums_size;
  return r;
}

__global__ void mlp_pack_kernel(const ConditionedMlpFwd<float> p, const MmaScratch m) {
  const MlpShape& s = p.shape;
  const int64_t n_threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int l = 0; l < s.n_layers(); ++l) {
    const int stride = mma_stride(s.in(l));
    const float *weights = p.params + s.weight_at(l), *bias = p.params + s.bias_at(l);
    __half* to = m.weights + mma_weights_at(s, l);
    for (int64_t i = thread_index(); i < mma_padded(s.out(l)) * stride; i += n_threads) {
      const int n = static_cast<int>(i / stride), k = static_cast<int>(i % stride);
      to[i] = __float2half(n < s.out(l) && k < s.in(l) ? weights[n * s.row(l) + k] : 0.0f);
    }
    for (int64_t n = thread_index(); n < mma_padded(s.out(l)); n += n_threads) {
      m.biases[mma_bias_at(s, l) + n] = n < s.out(l) ? bias[n] : 0.0f;
    }
  }
  const int width = mma_padded(s.d_hidden);
  for (int64_t i = thread_index(); i < p.n_cond * width; i += n_threads) {
    const int unit = static_cast<int>(i % width);
    m.folded[i] = unit < s.d_hidden ? mlp_folded_bias(p, i / width, unit) : 0.0f;
  }
}

__device__ __forceinline__ void copy_weights(const MlpShape& s, const MmaScratch& m, __half* shared) {
  const int pairs = mma_weights_at(s, s.n_layers()) / 2;
  const auto* from = reinterpret_cast<const uint32_t*>(m.weights);
  auto* to = reinterpret_cast<uint32_t*>(shared);
  for (int i = static_cast<int>(threadIdx.x); i < pairs; i += kMmaThreads) to[i] = from[i];
  __syncthreads();
}

}  // namespace

}  // namespace nerfad
