// The forward pass of the fused radiance field: one kernel whose warps take 32 samples at a time through
// grid, density and colour network on tensor cores, with activations in shared memory. Networks that do not
// fit there take the plain kernel, one thread per sample in float32. The backward pass is that of the parts
// (nerfad/ops/radiance_field.py).
#include "nerfad/radiance_field.h"

#include "device.h"
#include "mlp_pack.cuh"

namespace nerfad {

namespace {

constexpr int kFieldBlocksPerMultiprocessor = 2, kFieldPackBlocks = 128;
constexpr int kFieldPlainWidth = 256;  // the widest layer, input or output that a thread has room for

struct FieldScratch {
  MmaScratch sigma, color;
  int64_t size;  // floats
};

struct FieldNets {
  ConditionedMlpFwd<float> sigma, color;
};

FieldNets field_nets(const RadianceFieldFwd<float>& p, float* sigma_scratch, float* color_scratch) {
  FieldNets nets{p.sigma_net(), p.color_net()};
  nets.sigma.scratch = sigma_scratch;
  nets.color.scratch = color_scratch;
  return nets;
}

FieldScratch field_scratch(const RadianceFieldFwd<float>& p) {
  FieldScratch r{};
  r.sigma = mma_scratch(field_nets(p, p.scratch, nullptr).sigma, 0);
  const int64_t color_at = (r.sigma.size + 31) / 32 * 32;
  r.color = mma_scratch(field_nets(p, nullptr, p.scratch + color_at).color, 0);
  r.size = color_at + r.color.size;
  return r;
}

// A position's features in one level.
template <int F>
__device__ __forceinline__ void encode_level(const RadianceFieldFwd<float>& p, int l, const float* position,
                                             float* features) {
  if (p.table_type == TableType::kFloat32) {
    grid_interpolate<float, float, 3, F>(p.grid, p.table, position, l, features);
  } else if (p.table_type == TableType::kFloat16) {
    grid_interpolate<float, Half, 3, F>(p.grid, p.table, position, l, features);
  } else {
    grid_interpolate<float, BFloat16, 3, F>(p.grid, p.table, position, l, features);
  }
}

__device__ __forceinline__ float density(const RadianceFieldFwd<float>& p, float log_density) {
  return expf(clamp_log_density(log_density + p.density_bias));
}

// ---- On tensor cores. A warp's share of shared memory: rows of 32 samples.

struct FieldRows {
  __half *features, *code, *hidden[2];
};

NERFAD_HD int field_hidden_stride(const RadianceFieldFwd<float>& p) {
  return mma_stride(p.sigma.d_hidden > p.color.d_hidden ? p.sigma.d_hidden : p.color.d_hidden);
}

NERFAD_HD int field_warp_halves(const RadianceFieldFwd<float>& p) {
  return 32 * (mma_stride(p.sigma.d_in) + mma_stride(p.color.d_in)) + 2 * kMmaRows * field_hidden_stride(p);
}

NERFAD_HD int field_weight_halves(const RadianceFieldFwd<float>& p) {
  return mma_weights_at(p.sigma, p.sigma.n_layers()) + mma_weights_at(p.color, p.color.n_layers());
}

NERFAD_HD int field_shared_bytes(const RadianceFieldFwd<float>& p) {
  return static_cast<int>(sizeof(__half)) * (field_weight_halves(p) + kMmaWarps * field_warp_halves(p));
}

__device__ __forceinline__ FieldRows carve_field_warp(const RadianceFieldFwd<float>& p, __half* shared) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  FieldRows r;
  r.features = shared + field_weight_halves(p) + warp * field_warp_halves(p);
  r.code = r.features + 32 * mma_stride(p.sigma.d_in);
  r.hidden[0] = r.code + 32 * mma_stride(p.color.d_in);
  r.hidden[1] = r.hidden[0] + kMmaRows * field_hidden_stride(p);
  for (int i = lane_id(); i < field_warp_halves(p); i += 32) r.features[i] = __float2half(0.0f);
  __syncwarp();
  return r;
}

// Runs a network on this warp's 32 rows of x; row i's condition is index[i], or the first if that is null;
// put(row, column, value) for every output of the first n rows.
template <class Put>
__device__ __forceinline__ void run_field_network(const MlpShape& s, const MmaScratch& m,
                                                  const __half* weights, const __half* x,
                                                  __half* const* hidden, const int32_t* index, int n,
                                                  const Put& put) {
  for (int row0 = 0; row0 < n; row0 += kMmaRows) {
    const __half* input = x + row0 * mma_stride(s.d_in);
    for (int l = 0; l < s.n_hidden; ++l) {
      hidden_layer(s, l, weights, input, hidden[l % 2], [&](int row) -> const float* {
        if (l > 0) return m.biases + mma_bias_at(s, l);
        const int64_t condition = index && row0 + row < n ? index[row0 + row] : 0;
        return m.folded + condition * mma_padded(s.d_hidden);
      });
      input = hidden[l % 2];
    }
    const float* bias = m.biases + mma_bias_at(s, s.n_hidden);
    const auto one = [&](int row, int column, float value) {
      if (row0 + row < n && column < s.d_out) put(row0 + row, column, value + bias[column]);
    };
    product_rows<false>(input, mma_stride(s.d_hidden), mma_padded(s.d_hidden),
                        weights + mma_weights_at(s, s.n_hidden), mma_stride(s.d_hidden), mma_padded(s.d_out),
                        [&](int row, int column, float first, float second) {
                          one(row, column, first);
                          one(row, column + 1, second);
                        });
    __syncwarp();
  }
}

template <int F>
__global__ void __launch_bounds__(kMmaThreads, kFieldBlocksPerMultiprocessor)
    field_fwd_mma_kernel(const RadianceFieldFwd<float> p, const FieldScratch m) {
  NERFAD_DYN_SMEM(__half, shared);
  copy_weights(p.sigma, m.sigma, shared);
  __half* color_weights = shared + mma_weights_at(p.sigma, p.sigma.n_layers());
  copy_weights(p.color, m.color, color_weights);
  const FieldRows rows = carve_field_warp(p, shared);
  const int code_stride = mma_stride(p.color.d_in);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kMmaThreads;
  for (int64_t first = thread_index() - lane_id(); first < p.n; first += step) {
    const int n = p.n - first < 32 ? static_cast<int>(p.n - first) : 32;
    if (lane_id() < n) {
      __half* to = rows.features + lane_id() * mma_stride(p.sigma.d_in);
      for (int l = 0; l < p.grid.n_levels; ++l) {
        float features[F];
        encode_level<F>(p, l, p.positions + 3 * (first + lane_id()), features);
        for (int f = 0; f < F; ++f) to[l * F + f] = __float2half(features[f]);
      }
    }
    __syncwarp();
    const int32_t* conditions = p.cond_index ? p.cond_index + first : nullptr;
    run_field_network(p.sigma, m.sigma, shared, rows.features, rows.hidden, conditions, n,
                      [&](int row, int column, float value) {
                        if (column == 0) {
                          p.sigmas[first + row] = density(p, value);
                        } else {
                          rows.code[row * code_stride + column - 1] = __float2half(value);
                        }
                      });
    const int32_t* views = p.view_index ? p.view_index + first : nullptr;
    run_field_network(p.color, m.color, color_weights, rows.code, rows.hidden, views, n,
                      [&](int row, int column, float value) {
                        p.rgbs[3 * (first + row) + column] = p.color.sigmoid ? mlp_sigmoid(value) : value;
                      });
  }
}

// ---- One thread per sample.

inline bool fits_field_plain(const RadianceFieldFwd<float>& p) {
  return p.sigma.d_in <= kFieldPlainWidth && p.sigma.d_out <= kFieldPlainWidth;
}

// x [d_in] to x [d_out], by way of y, under condition c.
__device__ __forceinline__ void run_field_plain(const ConditionedMlpFwd<float>& net, int64_t c, float* x,
                                                float* y) {
  const MlpShape& s = net.shape;
  for (int l = 0; l < s.n_layers(); ++l) {
    for (int n = 0; n < s.out(l); ++n) {
      const float* row = net.params + s.weight_at(l) + n * s.row(l);
      float sum = l == 0 ? mlp_folded_bias(net, c, n) : net.params[s.bias_at(l) + n];
      for (int k = 0; k < s.in(l); ++k) sum += row[k] * x[k];
      y[n] = l < s.n_hidden ? fmaxf(sum, 0.0f) : sum;
    }
    for (int n = 0; n < s.out(l); ++n) x[n] = y[n];
  }
}

template <int F>
__global__ void field_fwd_plain_kernel(const RadianceFieldFwd<float> p) {
  const int64_t i = thread_index();
  if (i >= p.n) return;
  float x[kFieldPlainWidth], y[kFieldPlainWidth];
  for (int l = 0; l < p.grid.n_levels; ++l) encode_level<F>(p, l, p.positions + 3 * i, x + l * F);
  run_field_plain(p.sigma_net(), p.cond_index ? p.cond_index[i] : 0, x, y);
  p.sigmas[i] = density(p, x[0]);
  for (int k = 0; k < p.color.d_in; ++k) x[k] = x[k + 1];
  run_field_plain(p.color_net(), p.view_index ? p.view_index[i] : 0, x, y);
  for (int c = 0; c < 3; ++c) p.rgbs[3 * i + c] = p.color.sigmoid ? mlp_sigmoid(x[c]) : x[c];
}

// ---- Launching

template <class Fn>
int by_features(int n_features, const Fn& fn) {
  if (n_features == 1) return fn(GridConstant<1>{});
  if (n_features == 2) return fn(GridConstant<2>{});
  if (n_features == 4) return fn(GridConstant<4>{});
  return fn(GridConstant<8>{});
}

int launch_mma(const RadianceFieldFwd<float>& p, cudaStream_t stream) {
  const FieldScratch m = field_scratch(p);
  const int bytes = field_shared_bytes(p);
  const FieldNets nets = field_nets(p, nullptr, nullptr);
  const dim3 pack_blocks(kFieldPackBlocks), pack_threads(256);
  if (int error = NERFAD_LAUNCH(mlp_pack_kernel, pack_blocks, pack_threads, 0, stream, nets.sigma, m.sigma))
    return error;
  if (int error = NERFAD_LAUNCH(mlp_pack_kernel, pack_blocks, pack_threads, 0, stream, nets.color, m.color))
    return error;
  const int64_t wanted = (p.n + kMmaThreads - 1) / kMmaThreads;
  const int64_t resident =
      static_cast<int64_t>(kFieldBlocksPerMultiprocessor) * device_attribute(cudaDevAttrMultiProcessorCount);
  const dim3 grid(static_cast<unsigned>(wanted < resident ? wanted : resident));
  return by_features(p.grid.n_features, [&](auto f) {
    constexpr int F = decltype(f)::value;
    if (cudaError_t error = allow_shared(field_fwd_mma_kernel<F>, bytes)) return static_cast<int>(error);
    return static_cast<int>(
        NERFAD_LAUNCH(field_fwd_mma_kernel<F>, grid, dim3(kMmaThreads), bytes, stream, p, m));
  });
}

int launch_plain(const RadianceFieldFwd<float>& p, cudaStream_t stream) {
  if (!fits_field_plain(p)) return cudaErrorInvalidValue;
  return by_features(p.grid.n_features, [&](auto f) {
    return static_cast<int>(NERFAD_LAUNCH(field_fwd_plain_kernel<decltype(f)::value>, blocks_for(p.n),
                                          dim3(kBlock), 0, stream, p));
  });
}

}  // namespace

}  // namespace nerfad

// Floats of scratch.
NERFAD_EXPORT int64_t nerfad_cuda_radiance_field_fwd_scratch(const nerfad::RadianceFieldFwd<float>* p) {
  return nerfad::field_scratch(*p).size;
}

NERFAD_EXPORT int nerfad_cuda_radiance_field_fwd(const nerfad::RadianceFieldFwd<float>* p, void* stream) {
  if (p->n == 0) return cudaSuccess;
  const auto s = static_cast<cudaStream_t>(stream);
  const bool fits =
      nerfad::field_shared_bytes(*p) <= nerfad::device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  return fits ? nerfad::launch_mma(*p, s) : nerfad::launch_plain(*p, s);
}
