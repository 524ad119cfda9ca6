#include "nerfad/march.h"

#include "device.h"

namespace nerfad {

constexpr int kScanThreads = 1024;

__global__ void march_bricks_kernel(const MarchBricks p) {
  const int64_t brick = thread_index();
  if (brick < p.n_bricks) march_bricks_one(p, brick);
}

// One block; each thread widens a box of its own, and shared memory takes the widest.
__global__ void march_bounds_kernel(const MarchBricks p) {
  __shared__ int shared_box[6];
  int box[6] = {kMostBricks, kMostBricks, kMostBricks, 0, 0, 0};
  if (threadIdx.x < 6) shared_box[threadIdx.x] = box[threadIdx.x];
  __syncthreads();
  for (int64_t brick = threadIdx.x; brick < p.n_bricks; brick += blockDim.x)
    march_widen_bounds(p, brick, box);
  for (int a = 0; a < 3; ++a) {
    atomicMin(&shared_box[a], box[a]);
    atomicMax(&shared_box[3 + a], box[3 + a]);
  }
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int i = 0; i < 6; ++i) box[i] = shared_box[i];
  march_store_bounds(p, box);
}

__global__ void march_count_kernel(const MarchCount p) {
  const int64_t ray = thread_index();
  if (ray < p.rays.n_rays) march_count_ray(p, ray);
}

// Inclusive sum over a block; `warp_sums` holds one value per warp.
__device__ __forceinline__ int64_t block_inclusive_sum(int64_t value, int64_t* warp_sums) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int k = 1; k < 32; k *= 2) {
    const int64_t left = __shfl_up_sync(~0u, value, k);
    if (lane >= k) value += left;
  }
  if (lane == 31) warp_sums[warp] = value;
  __syncthreads();
  if (warp == 0) {
    int64_t sum = warp_sums[lane];
    for (int k = 1; k < 32; k *= 2) {
      const int64_t left = __shfl_up_sync(~0u, sum, k);
      if (lane >= k) sum += left;
    }
    warp_sums[lane] = sum;
  }
  __syncthreads();
  return warp > 0 ? value + warp_sums[warp - 1] : value;
}

// One block walks over all rays, so that their order is that of the rays. Bounds on single rays come before
// the sum; the bound on all of them cuts the sums, since only the last rays lose samples.
__global__ void __launch_bounds__(kScanThreads) march_pack_kernel(const MarchPack p) {
  __shared__ int64_t kept_sums[32], found_sums[32];
  int64_t kept = 0, found = 0;  // before this chunk of rays
  for (int64_t chunk = 0; chunk < p.n_rays; chunk += kScanThreads) {
    const int64_t ray = chunk + threadIdx.x;
    const int64_t all = ray < p.n_rays ? p.counts[ray] : 0;
    const int64_t wanted = all < p.max_samples_per_ray ? all : p.max_samples_per_ray;
    const int64_t end = kept + block_inclusive_sum(wanted, kept_sums);
    const int64_t start = end - wanted < p.max_samples ? end - wanted : p.max_samples;
    block_inclusive_sum(all, found_sums);
    if (ray < p.n_rays) {
      p.packed_info[2 * ray] = start;
      p.packed_info[2 * ray + 1] = march_bounded_count(p, ray, start);
    }
    kept += kept_sums[31];
    found += found_sums[31];
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    p.totals[0] = kept < p.max_samples ? kept : p.max_samples;
    p.totals[1] = found - p.totals[0];
  }
}

// One warp per ray, so that neighbouring lanes write neighbouring samples.
__global__ void march_write_kernel(const MarchWrite p) {
  const int64_t ray = thread_index() / 32;
  const int lane = threadIdx.x % 32;
  if (ray >= p.rays.n_rays) return;
  if (march_runs_noted(p, ray)) {
    march_write_runs(p, ray, lane, 32);
  } else if (lane == 0) {
    march_write_again(p, ray);
  }
}

__global__ void march_inference_kernel(const MarchInference p) {
  const int64_t row = thread_index();
  if (row < p.n_alive) march_inference_ray(p, row);
}

}  // namespace nerfad

NERFAD_EXPORT int nerfad_cuda_march_bricks(const nerfad::MarchBricks* p, void* stream) {
  using namespace nerfad;
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  if (p->n_bricks == 0) return cudaSuccess;
  const cudaError_t error =
      NERFAD_LAUNCH(march_bricks_kernel, blocks_for(p->n_bricks), dim3(kBlock), 0, s, *p);
  if (error != cudaSuccess || !p->bounds) return error;
  return NERFAD_LAUNCH(march_bounds_kernel, dim3(1), dim3(512), 0, s, *p);
}

NERFAD_EXPORT int nerfad_cuda_march_count(const nerfad::MarchCount* p, void* stream) {
  if (p->rays.n_rays == 0) return cudaSuccess;
  return NERFAD_LAUNCH(nerfad::march_count_kernel, nerfad::blocks_for(p->rays.n_rays), dim3(nerfad::kBlock),
                       0, static_cast<cudaStream_t>(stream), *p);
}

NERFAD_EXPORT int nerfad_cuda_march_pack(const nerfad::MarchPack* p, void* stream) {
  return NERFAD_LAUNCH(nerfad::march_pack_kernel, dim3(1), dim3(nerfad::kScanThreads), 0,
                       static_cast<cudaStream_t>(stream), *p);
}

NERFAD_EXPORT int nerfad_cuda_march_write(const nerfad::MarchWrite* p, void* stream) {
  if (p->rays.n_rays == 0) return cudaSuccess;
  return NERFAD_LAUNCH(nerfad::march_write_kernel, nerfad::blocks_for(32 * p->rays.n_rays),
                       dim3(nerfad::kBlock), 0, static_cast<cudaStream_t>(stream), *p);
}

NERFAD_EXPORT int nerfad_cuda_march_inference(const nerfad::MarchInference* p, void* stream) {
  if (p->n_alive == 0) return cudaSuccess;
  return NERFAD_LAUNCH(nerfad::march_inference_kernel, nerfad::blocks_for(p->n_alive), dim3(nerfad::kBlock),
                       0, static_cast<cudaStream_t>(stream), *p);
}
