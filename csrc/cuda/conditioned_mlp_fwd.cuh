// Forward pass of the conditioned MLP on tensor cores, and the memory that both passes use.
#pragma once
#include "device.h"
#include "mlp_mma.h"
#include "nerfad/conditioned_mlp.h"

namespace nerfad {

namespace {

// Scratch: weights as halves, biases, folded biases, then for backward the largest gradient and each block's
// sums: weights [out padded, in padded] of each layer, biases of all layers, folded biases [n_cond, padded].
struct MmaScratch {
  __half* weights;
  float *biases, *folded, *largest_grad, *sums, *folded_sum;
  int64_t sums_size;  // of one block
  int64_t size;       // all, in floats
};

NERFAD_HD int mma_sum_at(const MlpShape& s, int layer) {
  int at = 0;
  for (int l = 0; l < layer; ++l) at += mma_padded(s.out(l)) * mma_padded(s.in(l));
  return at;
}

MmaScratch layout(const ConditionedMlpFwd<float>& p, int n_sums) {
  const MlpShape& s = p.shape;
  MmaScratch r{};
  const int64_t folded = p.n_cond * mma_padded(s.d_hidden);
  float* at = p.scratch;
  r.weights = reinterpret_cast<__half*>(at);
  r.biases = at += (mma_weights_at(s, s.n_layers()) + 1) / 2;
  r.folded = at += mma_bias_size(s);
  r.largest_grad = at += folded;
  r.folded_sum = at += 4;
  r.sums = at += folded;
  r.sums_size = mma_sum_at(s, s.n_layers()) + mma_bias_size(s) + folded;
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

// A block's share of shared memory: weights, then activation buffers.
struct MmaShared {
  __half *weights, *x, *out_grad, *hidden;
  int hidden_size;  // halves between hidden layers
};

NERFAD_HD int mma_shared_halves(const MlpShape& s, int n_buffers, bool backward) {
  return mma_weights_at(s, s.n_layers()) +
         kMmaTile *
             (mma_stride(s.d_in) + (backward ? mma_stride(s.d_out) : 0) + n_buffers * mma_stride(s.d_hidden));
}

__device__ __forceinline__ MmaShared carve(const MlpShape& s, __half* memory, bool backward) {
  MmaShared r;
  r.weights = memory;
  r.x = memory + mma_weights_at(s, s.n_layers());
  r.out_grad = r.x + kMmaTile * mma_stride(s.d_in);
  r.hidden = r.out_grad + (backward ? kMmaTile * mma_stride(s.d_out) : 0);
  r.hidden_size = kMmaTile * mma_stride(s.d_hidden);
  return r;
}

__device__ __forceinline__ void copy_weights(const MlpShape& s, const MmaScratch& m, __half* shared) {
  const int pairs = mma_weights_at(s, s.n_layers()) / 2;
  const auto* from = reinterpret_cast<const uint32_t*>(m.weights);
  auto* to = reinterpret_cast<uint32_t*>(shared);
  for (int i = static_cast<int>(threadIdx.x); i < pairs; i += kMmaThreads) to[i] = from[i];
  __syncthreads();
}

__device__ __forceinline__ int64_t condition_of(const ConditionedMlpFwd<float>& p, int64_t sample) {
  return p.cond_index && sample < p.n_samples ? p.cond_index[sample] : 0;
}

// Loads this warp's rows and runs all hidden layers; layer l goes to buffer l % n_buffers.
__device__ __forceinline__ void run_hidden(const ConditionedMlpFwd<float>& p, const MmaScratch& m,
                                           const MmaShared& shared, int64_t first, int n_buffers) {
  const MlpShape& s = p.shape;
  const int row0 = warp_row(), width = mma_padded(s.d_hidden);
  const int64_t left = p.n_samples - first;
  __half* x = shared.x + row0 * mma_stride(s.d_in);
  load_rows(p.x + first * s.d_in, left < kMmaRows ? static_cast<int>(left) : kMmaRows, s.d_in, 1.0f, x,
            mma_stride(s.d_in));
  for (int l = 0; l < s.n_hidden; ++l) {
    __half* y = shared.hidden + (l % n_buffers) * shared.hidden_size + row0 * mma_stride(s.d_hidden);
    hidden_layer(s, l, shared.weights, x, y, [&](int row) {
      return l == 0 ? m.folded + condition_of(p, first + row) * width : m.biases + mma_bias_at(s, l);
    });
    x = y;
  }
}

// The last layer on this warp's rows; put(row, column, value) for every output.
template <class Put>
__device__ __forceinline__ void run_last(const MlpShape& s, const MmaScratch& m, const MmaShared& shared,
                                         const __half* x, const Put& put) {
  const float* bias = m.biases + mma_bias_at(s, s.n_hidden);
  const auto one = [&](int row, int column, float value) {
    if (column < s.d_out) put(row, column, value + bias[column]);
  };
  product_rows<false>(x, mma_stride(s.d_hidden), mma_padded(s.d_hidden),
                      shared.weights + mma_weights_at(s, s.n_hidden), mma_stride(s.d_hidden),
                      mma_padded(s.d_out), [&](int row, int column, float first, float second) {
                        one(row, column, first);
                        one(row, column + 1, second);
                      });
  __syncwarp();
}

__global__ void __launch_bounds__(kMmaThreads)
    mlp_fwd_mma_kernel(const ConditionedMlpFwd<float> p, const MmaScratch m) {
  NERFAD_DYN_SMEM(__half, memory);
  const MlpShape& s = p.shape;
  const MmaShared shared = carve(s, memory, false);
  copy_weights(s, m, shared.weights);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kMmaTile;
  for (int64_t tile = static_cast<int64_t>(blockIdx.x) * kMmaTile; tile < p.n_samples; tile += step) {
    const int64_t first = tile + warp_row();
    if (first >= p.n_samples) break;
    run_hidden(p, m, shared, first, 2);
    const __half* x =
        shared.hidden + (s.n_hidden - 1) % 2 * shared.hidden_size + warp_row() * mma_stride(s.d_hidden);
    run_last(s, m, shared, x, [&](int row, int column, float value) {
      if (first + row >= p.n_samples) return;
      p.out[(first + row) * s.d_out + column] = s.sigmoid ? mlp_sigmoid(value) : value;
    });
  }
}

}  // namespace

}  // namespace nerfad
