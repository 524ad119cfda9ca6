// The fused renderer: one persistent kernel. Each lane carries a ray and takes another when it ends; a warp's
// 32 samples of a round go through both networks on tensor cores, with activations in shared memory. Networks
// that do not fit there take the plain kernel, one thread per ray in float32.
#include "nerfad/render_rays_fused.h"

#include "device.h"
#include "mlp_pack.cuh"
#include "nerfad/march.h"
#include "render_plain.cuh"

extern "C" int nerfad_cuda_march_bricks(const nerfad::MarchBricks* p, void* stream);

namespace nerfad {

namespace {

constexpr int kRenderBlocksPerMultiprocessor = 2;

struct RenderScratch {
  MmaScratch sigma, color;
  uint8_t* bricks;
  float* bounds;
  unsigned long long* next_ray;
  int64_t size;  // bytes
};

int64_t n_bricks(const MarchGrid& grid) {
  const int64_t side = grid.resolution / kBrick;
  return side * side * side;
}

ConditionedMlpFwd<float> network(const MlpShape& shape, const float* params, const float* cond,
                                 void* scratch) {
  ConditionedMlpFwd<float> p{};
  p.params = params;
  p.cond = cond;
  p.n_cond = 1;
  p.shape = shape;
  p.scratch = static_cast<float*>(scratch);
  return p;
}

RenderScratch render_scratch(const RenderRays& p) {
  RenderScratch r{};
  auto* at = static_cast<uint8_t*>(p.scratch);
  const auto take = [&](int64_t bytes) {
    uint8_t* here = at;
    at += (bytes + 127) / 128 * 128;
    return here;
  };
  r.next_ray = reinterpret_cast<unsigned long long*>(take(sizeof(*r.next_ray)));
  r.bounds = reinterpret_cast<float*>(take(6 * sizeof(float)));
  r.bricks = take(n_bricks(p.rays.grid));
  const ConditionedMlpFwd<float> sigma = network(p.sigma, p.sigma_params, p.cond, at);
  r.sigma = mma_scratch(sigma, 0);
  take(static_cast<int64_t>(sizeof(float)) * r.sigma.size);
  r.color = mma_scratch(network(p.color, p.color_params, nullptr, at), 0);
  take(static_cast<int64_t>(sizeof(float)) * r.color.size);
  r.size = at - static_cast<uint8_t*>(p.scratch);
  return r;
}

// ---- A warp's share of shared memory: rows of 32 samples.

struct WarpRows {
  __half *features, *code, *hidden[2];
  float *log_density, *rgb;
};

NERFAD_HD int widest_stride(const RenderRays& p) {
  return mma_stride(p.sigma.d_hidden > p.color.d_hidden ? p.sigma.d_hidden : p.color.d_hidden);
}

NERFAD_HD int warp_halves(const RenderRays& p) {
  return 32 * (mma_stride(p.sigma.d_in) + mma_stride(p.color.d_in)) + 2 * kMmaRows * widest_stride(p);
}

constexpr int kWarpFloats = 32 * 4;  // log density and rgb

NERFAD_HD int weight_halves(const RenderRays& p) {
  return mma_weights_at(p.sigma, p.sigma.n_layers()) + mma_weights_at(p.color, p.color.n_layers());
}

NERFAD_HD int render_shared_bytes(const RenderRays& p) {
  return static_cast<int>(sizeof(__half)) * (weight_halves(p) + kMmaWarps * warp_halves(p)) +
         static_cast<int>(sizeof(float)) * kMmaWarps * kWarpFloats;
}

__device__ __forceinline__ WarpRows carve_warp(const RenderRays& p, __half* shared) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  WarpRows r;
  r.features = shared + weight_halves(p) + warp * warp_halves(p);
  r.code = r.features + 32 * mma_stride(p.sigma.d_in);
  r.hidden[0] = r.code + 32 * mma_stride(p.color.d_in);
  r.hidden[1] = r.hidden[0] + kMmaRows * widest_stride(p);
  float* floats = reinterpret_cast<float*>(shared + weight_halves(p) + kMmaWarps * warp_halves(p));
  r.log_density = floats + warp * kWarpFloats;
  r.rgb = r.log_density + 32;
  for (int i = lane_id(); i < warp_halves(p); i += 32) r.features[i] = __float2half(0.0f);
  __syncwarp();
  return r;
}

// Runs a network on this warp's 32 rows of x; put(row, column, value) for every output.
template <class Put>
__device__ __forceinline__ void run_network(const MlpShape& s, const MmaScratch& m, const __half* weights,
                                            const __half* x, __half* const* hidden, const Put& put) {
  for (int row0 = 0; row0 < 32; row0 += kMmaRows) {
    const __half* input = x + row0 * mma_stride(s.d_in);
    for (int l = 0; l < s.n_hidden; ++l) {
      const float* bias = l == 0 ? m.folded : m.biases + mma_bias_at(s, l);
      hidden_layer(s, l, weights, input, hidden[l % 2], [&](int) { return bias; });
      input = hidden[l % 2];
    }
    const float* bias = m.biases + mma_bias_at(s, s.n_hidden);
    product_rows<false>(input, mma_stride(s.d_hidden), mma_padded(s.d_hidden),
                        weights + mma_weights_at(s, s.n_hidden), mma_stride(s.d_hidden), mma_padded(s.d_out),
                        [&](int row, int column, float first, float second) {
                          if (column < s.d_out) put(row0 + row, column, first + bias[column]);
                          if (column + 1 < s.d_out) put(row0 + row, column + 1, second + bias[column + 1]);
                        });
    __syncwarp();
  }
}

// ---- A lane's ray.

struct LaneRay {
  MarchRay ray;
  MarchCursor cursor;
  MarchSample sample;  // the next one to evaluate
  RenderSum sum;
  int64_t index;
  int n_samples;
  bool active;
};

// Sets up ray `index` and finds its first sample.
__device__ __forceinline__ bool start_ray(const RenderRays& p, int64_t index, LaneRay& lane) {
  lane.index = index;
  lane.sum = render_begin();
  lane.n_samples = 1;
  int first;
  if (p.max_samples_per_ray < 1 || !march_ray_setup(p.rays, index, lane.ray, first)) return false;
  lane.cursor = march_begin(p.rays.grid, lane.ray, first);
  return march_next(p.rays.grid, lane.ray, lane.cursor, lane.sample);
}

// Gives every idle lane the next waiting ray that has a sample; the others show the background.
__device__ __forceinline__ void admit(const RenderRays& p, unsigned long long* next_ray, LaneRay& lane) {
  for (;;) {
    const unsigned idle = __ballot_sync(~0u, !lane.active);
    if (idle == 0) return;
    unsigned long long base = 0;
    if (lane_id() == 0) base = atomicAdd(next_ray, static_cast<unsigned long long>(__popc(idle)));
    base = __shfl_sync(~0u, base, 0);
    if (base >= static_cast<unsigned long long>(p.rays.n_rays)) return;
    const int rank = __popc(idle & ((1u << lane_id()) - 1));
    const int64_t index = static_cast<int64_t>(base) + rank;
    if (lane.active || index >= p.rays.n_rays) continue;
    lane.active = start_ray(p, index, lane);
    if (lane.active) {
      lane.n_samples = 1;
    } else {
      render_finish(p, index, lane.sum);
    }
  }
}

// The view coefficients of a lane's ray, behind its geometry code; only a new ray needs them.
__device__ __forceinline__ void write_view(const RenderRays& p, const LaneRay& lane, __half* code) {
  float view[kViewCoefficients];
  render_view(p, lane.index, view);
  for (int j = 0; j < kViewCoefficients; ++j) code[p.n_code() + j] = __float2half(view[j]);
}

template <int F>
__device__ __forceinline__ void write_features(const RenderRays& p, const LaneRay& lane, __half* features) {
  float position[3];
  for (int a = 0; a < 3; ++a) {
    position[a] = render_position(lane.ray, p.rays.grid.resolution, lane.sample, a);
  }
  for (int l = 0; l < p.grid.n_levels; ++l) {
    float sum[F];
    encode_position<F>(p, l, position, sum);
    for (int f = 0; f < F; ++f) features[l * F + f] = __float2half(sum[f]);
  }
}

// Integrates the lane's sample and goes on to the next; the ray ends where it is opaque or has no more.
__device__ __forceinline__ void advance(const RenderRays& p, float log_density, const float* raw,
                                        LaneRay& lane) {
  float rgb[3];
  for (int c = 0; c < 3; ++c) rgb[c] = p.color.sigmoid ? mlp_sigmoid(raw[c]) : raw[c];
  render_add(lane.sum, render_keep(p, log_density, lane.sample), lane.sample, rgb);
  lane.active = lane.sum.transmittance >= p.early_stop_eps && lane.n_samples < p.max_samples_per_ray &&
                march_next(p.rays.grid, lane.ray, lane.cursor, lane.sample);
  ++lane.n_samples;
  if (!lane.active) render_finish(p, lane.index, lane.sum);
}

template <int F>
__global__ void __launch_bounds__(kMmaThreads, kRenderBlocksPerMultiprocessor)
    render_mma_kernel(const RenderRays p, const RenderScratch m) {
  NERFAD_DYN_SMEM(__half, shared);
  copy_weights(p.sigma, m.sigma, shared);
  __half* color_weights = shared + mma_weights_at(p.sigma, p.sigma.n_layers());
  copy_weights(p.color, m.color, color_weights);
  const WarpRows rows = carve_warp(p, shared);
  const int row = lane_id(), code_stride = mma_stride(p.color.d_in);
  LaneRay lane{};
  for (;;) {
    const int64_t before = lane.active ? lane.index : -1;
    admit(p, m.next_ray, lane);
    if (!__any_sync(~0u, lane.active)) return;
    if (lane.active) {
      if (lane.index != before) write_view(p, lane, rows.code + row * code_stride);
      write_features<F>(p, lane, rows.features + row * mma_stride(p.sigma.d_in));
    }
    __syncwarp();
    run_network(p.sigma, m.sigma, shared, rows.features, rows.hidden, [&](int r, int column, float value) {
      if (column == 0) {
        rows.log_density[r] = value;
      } else {
        rows.code[r * code_stride + column - 1] = __float2half(value);
      }
    });
    run_network(p.color, m.color, color_weights, rows.code, rows.hidden,
                [&](int r, int column, float value) { rows.rgb[3 * r + column] = value; });
    if (lane.active) advance(p, rows.log_density[row], rows.rgb + 3 * row, lane);
    __syncwarp();
  }
}

// ---- Launching

template <class Fn>
int by_features(int n_features, const Fn& fn) {
  if (n_features == 1) return fn(GridConstant<1>{});
  if (n_features == 2) return fn(GridConstant<2>{});
  if (n_features == 4) return fn(GridConstant<4>{});
  return fn(GridConstant<8>{});
}

int launch_mma(const RenderRays& p, const RenderScratch& m, cudaStream_t stream) {
  const int bytes = render_shared_bytes(p);
  const auto sigma = network(p.sigma, p.sigma_params, p.cond, nullptr);
  const auto color = network(p.color, p.color_params, nullptr, nullptr);
  if (int error = NERFAD_LAUNCH(mlp_pack_kernel, dim3(32), dim3(256), 0, stream, sigma, m.sigma))
    return error;
  if (int error = NERFAD_LAUNCH(mlp_pack_kernel, dim3(32), dim3(256), 0, stream, color, m.color))
    return error;
  const int64_t wanted = (p.rays.n_rays + kMmaThreads - 1) / kMmaThreads;
  const int64_t resident =
      static_cast<int64_t>(kRenderBlocksPerMultiprocessor) * device_attribute(cudaDevAttrMultiProcessorCount);
  const dim3 grid(static_cast<unsigned>(wanted < resident ? wanted : resident));
  return by_features(p.grid.n_features, [&](auto f) {
    constexpr int F = decltype(f)::value;
    if (cudaError_t error = allow_shared(render_mma_kernel<F>, bytes)) return static_cast<int>(error);
    return static_cast<int>(
        NERFAD_LAUNCH(render_mma_kernel<F>, grid, dim3(kMmaThreads), bytes, stream, p, m));
  });
}

int launch_plain(const RenderRays& p, cudaStream_t stream) {
  if (!fits_plain(p)) return cudaErrorInvalidValue;
  return by_features(p.grid.n_features, [&](auto f) {
    return static_cast<int>(NERFAD_LAUNCH(render_plain_kernel<decltype(f)::value>, blocks_for(p.rays.n_rays),
                                          dim3(kBlock), 0, stream, p));
  });
}

int launch(RenderRays p, cudaStream_t stream) {
  const RenderScratch m = render_scratch(p);
  const int64_t bricks = n_bricks(p.rays.grid);
  if (bricks > 0) {
    const MarchBricks make{p.rays.grid.bitfield, m.bricks, bricks, m.bounds};
    if (int error = nerfad_cuda_march_bricks(&make, stream)) return error;
    p.rays.grid.bricks = m.bricks;
    p.rays.grid.bounds = m.bounds;
  }
  if (render_shared_bytes(p) > device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)) {
    return launch_plain(p, stream);
  }
  if (cudaError_t error = cudaMemsetAsync(m.next_ray, 0, sizeof(*m.next_ray), stream)) return error;
  return launch_mma(p, m, stream);
}

}  // namespace

}  // namespace nerfad

NERFAD_EXPORT int64_t nerfad_cuda_render_rays_fused_scratch(const nerfad::RenderRays* p) {
  return nerfad::render_scratch(*p).size;
}

NERFAD_EXPORT int nerfad_cuda_render_rays_fused(const nerfad::RenderRays* p, void* stream) {
  if (p->rays.n_rays == 0) return cudaSuccess;
  return nerfad::launch(*p, static_cast<cudaStream_t>(stream));
}
