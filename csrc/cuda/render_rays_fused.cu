// The fused renderer: one thread per ray finds the rays that have samples; then one persistent kernel renders
// them. It has one block per multiprocessor, so that there is one copy of the weights and much of the L1
// cache is left to the grid. Each lane carries a ray and takes another when it ends; a warp's samples of a
// round go through both networks on tensor cores. Networks that do not fit in shared memory take the plain
// kernel, one thread per ray in float32.
#include "nerfad/render_rays_fused.h"

#include "device.h"
#include "nerfad/march.h"
#include "render_lane.cuh"
#include "render_net.cuh"
#include "render_plain.cuh"

extern "C" int nerfad_cuda_march_bricks(const nerfad::MarchBricks* p, void* stream);

namespace nerfad {

namespace {

// Warps of a block, as the registers allow at kTiles 16 columns in a hidden layer.
constexpr int render_most_warps(int kTiles) { return kTiles > 4 ? 8 : 11; }

// As many 16 columns as the wider network has, of the numbers that there is a kernel for.
int render_tiles(const RenderRays& p) {
  const int widest = p.sigma.d_hidden > p.color.d_hidden ? p.sigma.d_hidden : p.color.d_hidden;
  return widest <= 32 ? 2 : (widest <= 64 ? 4 : 8);
}

// What a lane carries, in shared memory; an odd number of words apart, so that lanes meet no bank conflicts.
template <class Ray>
struct Lane {
  Ray ray;
  RenderSum sum;
  uint32_t index;
  int n_samples;
};
template <class Ray>
constexpr int kLaneWords = static_cast<int>(sizeof(Lane<Ray>) / 4) | 1;

template <class Ray>
NERFAD_HD int warp_bytes(const RenderNets& nets) {
  return 2 * warp_halves(nets) + 4 * kWarpWords + 4 * 32 * kLaneWords<Ray>;
}

// The warps of a block that shared memory has room for; 0: the networks do not fit.
template <class Ray>
int render_warps(const RenderNets& nets, int kTiles) {
  const int left = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) - nets.bytes();
  const int fit = left < 0 ? 0 : left / warp_bytes<Ray>(nets), most = render_most_warps(kTiles);
  return fit < most ? fit : most;
}

struct RenderScratch {
  RenderQueue queue;
  float* bounds;
  uint8_t *bricks, *nets;
  int64_t size;  // bytes
};

int64_t n_bricks(const MarchGrid& grid) {
  const int64_t side = grid.resolution / kBrick;
  return side * side * side;
}

RenderScratch render_scratch(const RenderRays& p) {
  RenderScratch r{};
  auto* at = static_cast<uint8_t*>(p.scratch);
  const auto take = [&](int64_t bytes) {
    uint8_t* here = at;
    at += (bytes + 127) / 128 * 128;
    return here;
  };
  r.queue.n_queued = reinterpret_cast<unsigned*>(take(2 * sizeof(unsigned)));
  r.queue.n_taken = r.queue.n_queued + 1;
  r.queue.rays = reinterpret_cast<QueuedRay*>(take(p.rays.n_rays * static_cast<int64_t>(sizeof(QueuedRay))));
  r.bounds = reinterpret_cast<float*>(take(6 * sizeof(float)));
  r.bricks = take(n_bricks(p.rays.grid));
  r.nets = take(render_nets(p, render_tiles(p)).bytes());
  r.size = at - static_cast<uint8_t*>(p.scratch);
  return r;
}

__device__ __forceinline__ void copy_nets(const RenderNets& nets, const uint8_t* packed, __half* shared) {
  const auto* from = reinterpret_cast<const uint4*>(packed);
  auto* to = reinterpret_cast<uint4*>(shared);
  for (unsigned i = threadIdx.x; i < static_cast<unsigned>(nets.bytes() / 16); i += blockDim.x)
    to[i] = from[i];
  __syncthreads();
}

template <class Ray>
__device__ __forceinline__ WarpRows carve_warp(const RenderNets& nets, __half* shared) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  auto* mine = reinterpret_cast<uint8_t*>(shared) + nets.bytes() + warp * warp_bytes<Ray>(nets);
  WarpRows r;
  r.features = reinterpret_cast<__half*>(mine);
  r.view = r.features + 32 * (nets.in + 8);
  r.log_density = reinterpret_cast<float*>(r.features + warp_halves(nets));
  r.rgb = r.log_density + 32;
  r.order = reinterpret_cast<int*>(r.rgb + 3 * 32);
  // Columns behind the last feature stay zero; rows of lanes without a ray hold something finite.
  for (int i = lane_id(); i < warp_halves(nets); i += 32) r.features[i] = __float2half(0.0f);
  __syncwarp();
  return r;
}

// The view coefficients of a lane's ray; only a new ray needs them.
__device__ __forceinline__ void write_view(const RenderRays& p, uint32_t index, __half* to) {
  float view[kViewCoefficients];
  render_view(p, index, view);
  for (int j = 0; j < kViewCoefficients; ++j) to[j] = __float2half(view[j]);
}

// Gives every idle lane the next waiting ray. Returns false once none waits.
template <class Ray>
__device__ __forceinline__ bool admit(const RenderRays& p, const RenderQueue& queue, unsigned n_queued,
                                      const WarpRows& rows, Lane<Ray>& lane, bool& active) {
  const unsigned idle = __ballot_sync(~0u, !active);
  if (idle == 0) return true;
  unsigned base = 0;
  if (lane_id() == 0) base = atomicAdd(queue.n_taken, static_cast<unsigned>(__popc(idle)));
  base = __shfl_sync(~0u, base, 0);
  const unsigned ticket = base + __popc(idle & ((1u << lane_id()) - 1));
  if (!active && ticket < n_queued) {
    const QueuedRay queued = queue.rays[ticket];
    Ray ray;
    ray.start(p, queued);
    lane = {ray, render_begin(), queued.index, 1};
    write_view(p, queued.index, rows.view + lane_id() * kViewStride);
    active = true;
  }
  return base + __popc(idle) < n_queued;
}

// Integrates the lane's sample and goes on to the next; false if the ray is opaque or has no more.
template <class Ray>
__device__ __forceinline__ bool advance(const RenderRays& p, float log_density, const float* raw,
                                        Lane<Ray>& lane) {
  float rgb[3];
  for (int c = 0; c < 3; ++c) rgb[c] = p.color.sigmoid ? mlp_sigmoid(raw[c]) : raw[c];
  RenderSum sum = lane.sum;
  render_add(sum, render_keep(p, log_density, lane.ray.sample), lane.ray.sample, rgb);
  const bool goes_on =
      sum.transmittance >= p.early_stop_eps && lane.n_samples++ < p.max_samples_per_ray && lane.ray.next(p);
  if (goes_on) {
    lane.sum = sum;
  } else {
    render_finish(p, lane.index, sum);
  }
  return goes_on;
}

template <int kTiles, class Ray>
__global__ void __launch_bounds__(32 * render_most_warps(kTiles), 1)
    render_mma_kernel(const RenderRays p, const RenderQueue queue, const uint8_t* packed) {
  NERFAD_DYN_SMEM(__half, shared);
  const RenderNets nets = render_nets(p, kTiles);
  copy_nets(nets, packed, shared);
  const float* biases = reinterpret_cast<const float*>(shared + nets.n_halves());
  const WarpRows rows = carve_warp<Ray>(nets, shared);
  auto& lane = *reinterpret_cast<Lane<Ray>*>(rows.order + 32 + lane_id() * kLaneWords<Ray>);
  const unsigned n_queued = *queue.n_queued, below = (1u << lane_id()) - 1;
  bool active = false;
  for (bool waiting = true;;) {
    if (waiting) waiting = admit(p, queue, n_queued, rows, lane, active);
    const unsigned alive = __ballot_sync(~0u, active);
    const int n = __popc(alive);
    if (n == 0) return;
    const int row = active ? __popc(alive & below) : n + __popc(~alive & below);
    rows.order[row] = lane_id();
    if (active) {
      __half* features = rows.features + lane_id() * (nets.in + 8);
      lane.ray.features(p, [&](int k, float value) { features[k] = __float2half(value); });
    }
    __syncwarp();
    run_rows<kTiles>(nets, shared, biases, rows, n);
    __syncwarp();
    if (active) active = advance(p, rows.log_density[row], rows.rgb + 3 * row, lane);
  }
}

// ---- Launching

template <int kTiles, class Ray>
int launch_mma(const RenderRays& p, const RenderScratch& m, cudaStream_t stream) {
  const RenderNets nets = render_nets(p, kTiles);
  const int n_warps = render_warps<Ray>(nets, kTiles);
  const int bytes = nets.bytes() + n_warps * warp_bytes<Ray>(nets);
  const int64_t wanted = (p.rays.n_rays + 32 * n_warps - 1) / (32 * n_warps);
  const int64_t resident = device_attribute(cudaDevAttrMultiProcessorCount);
  const dim3 grid(static_cast<unsigned>(wanted < resident ? wanted : resident));
  if (int error = NERFAD_LAUNCH(render_pack_kernel, dim3(32), dim3(256), 0, stream, p, nets, m.nets)) {
    return error;
  }
  const auto kernel = &render_mma_kernel<kTiles, Ray>;
  if (cudaError_t error = allow_shared(kernel, bytes)) return error;
  return NERFAD_LAUNCH(kernel, grid, dim3(32 * n_warps), bytes, stream, p, m.queue, m.nets);
}

template <class Ray>
int launch_rays(const RenderRays& p, const RenderScratch& m, cudaStream_t stream) {
  if (cudaError_t error = cudaMemsetAsync(m.queue.n_queued, 0, 2 * sizeof(unsigned), stream)) return error;
  if (int error = NERFAD_LAUNCH(render_queue_kernel<Ray>, blocks_for(p.rays.n_rays), dim3(kBlock), 0, stream,
                                p, m.queue)) {
    return error;
  }
  const int tiles = render_tiles(p);
  if (render_warps<Ray>(render_nets(p, tiles), tiles) == 0) {
    if (!fits_plain(p)) return cudaErrorInvalidValue;
    return NERFAD_LAUNCH(render_plain_kernel<Ray>, blocks_for(p.rays.n_rays), dim3(kBlock), 0, stream, p,
                         m.queue);
  }
  if (tiles == 2) return launch_mma<2, Ray>(p, m, stream);
  if (tiles == 4) return launch_mma<4, Ray>(p, m, stream);
  return launch_mma<8, Ray>(p, m, stream);
}

int launch(RenderRays p, cudaStream_t stream) {
  const RenderScratch m = render_scratch(p);
  if (p.samples.packed_info) return launch_rays<CachedRay>(p, m, stream);
  const int64_t bricks = n_bricks(p.rays.grid);
  if (bricks > 0) {
    const MarchBricks make{p.rays.grid.bitfield, m.bricks, bricks, m.bounds};
    if (int error = nerfad_cuda_march_bricks(&make, stream)) return error;
    p.rays.grid.bricks = m.bricks;
    p.rays.grid.bounds = m.bounds;
  }
  return launch_rays<MarchedRay>(p, m, stream);
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
