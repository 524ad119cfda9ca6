// Proves the SIMT emulator: warp functions, barriers, atomics and tensor-core register layout give what CUDA
// gives, and misuse ends the process with a sentence. `simt_test --plant NAME` runs one planted bug that only
// a sanitizer can see.
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "device.h"
#include "mma.h"

namespace {

__global__ void indices_kernel(int* out) {
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] += block * 1000 + thread;
}

void test_every_thread_runs_once_with_its_indices() {
  const dim3 grid(2, 3, 2), block(5, 2, 3);
  std::vector<int> out(12 * 30, 0);
  EXPECT(NERFAD_LAUNCH(indices_kernel, grid, block, 0, nullptr, out.data()) == cudaSuccess);
  for (int b = 0; b < 12; ++b) {
    for (int t = 0; t < 30; ++t) EXPECT_EQ(out[b * 30 + t], b * 1000 + t);
  }
}

void test_invalid_launches_are_refused() {
  std::vector<int> out(1);
  EXPECT(NERFAD_LAUNCH(indices_kernel, dim3(1), dim3(1025), 0, nullptr, out.data()) ==
         cudaErrorInvalidConfiguration);
  EXPECT(NERFAD_LAUNCH(indices_kernel, dim3(0), dim3(1), 0, nullptr, out.data()) ==
         cudaErrorInvalidConfiguration);
  EXPECT(NERFAD_LAUNCH(indices_kernel, dim3(1), dim3(1), 228 * 1024, nullptr, out.data()) ==
         cudaErrorInvalidConfiguration);
}

__global__ void shuffle_kernel(int* out) {
  const int lane = threadIdx.x, all = lane * 10;
  out[lane] = __shfl_sync(~0u, all, 5);
  out[32 + lane] = __shfl_up_sync(~0u, all, 3);
  out[64 + lane] = __shfl_down_sync(~0u, all, 3, 8);
  out[96 + lane] = __shfl_xor_sync(~0u, all, 9);
  out[128 + lane] = static_cast<int>(__ballot_sync(~0u, lane % 3 == 0));
  out[160 + lane] = __reduce_add_sync(~0u, lane);
  if (lane < 4) out[192 + lane] = __shfl_sync(0xfu, all, lane ^ 1);  // a part of the warp
  out[196 + lane] = static_cast<int>(__match_any_sync(~0u, lane % 4));
}

void test_shuffles_and_votes() {
  std::vector<int> out(228, -1);
  NERFAD_LAUNCH(shuffle_kernel, dim3(1), dim3(32), 0, nullptr, out.data());
  unsigned thirds = 0, fourths = 0;
  for (int l = 0; l < 32; ++l) {
    thirds |= (l % 3 == 0) << l;
    fourths |= (l % 4 == 0) << l;
  }
  for (int l = 0; l < 32; ++l) {
    EXPECT_EQ(out[l], 50);
    EXPECT_EQ(out[32 + l], (l < 3 ? l : l - 3) * 10);
    EXPECT_EQ(out[64 + l], (l % 8 > 4 ? l : l + 3) * 10);
    EXPECT_EQ(out[96 + l], (l ^ 9) * 10);
    EXPECT_EQ(static_cast<unsigned>(out[128 + l]), thirds);
    EXPECT_EQ(out[160 + l], 496);
    EXPECT_EQ(static_cast<unsigned>(out[196 + l]), fourths << (l % 4));
  }
  for (int l = 0; l < 4; ++l) EXPECT_EQ(out[192 + l], (l ^ 1) * 10);
}

// Inclusive sums over the block by shuffles, static shared memory and a barrier; one atomic per block.
__global__ void scan_kernel(const int* in, int* out, int* total) {
  __shared__ int warp_sums[8];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int sum = in[blockIdx.x * blockDim.x + threadIdx.x];
  for (int k = 1; k < 32; k *= 2) {
    const int left = __shfl_up_sync(~0u, sum, k);
    if (lane >= k) sum += left;
  }
  if (lane == 31) warp_sums[warp] = sum;
  __syncthreads();
  for (int w = 0; w < warp; ++w) sum += warp_sums[w];
  out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
  if (threadIdx.x == blockDim.x - 1) atomicAdd(total, sum);
}

void test_block_scan() {
  constexpr int kBlocks = 50, kThreads = 256;
  std::vector<int> in(kBlocks * kThreads), out(in.size());
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<int>(i * 7 % 13);
  int total = 0, expected_total = 0;
  NERFAD_LAUNCH(scan_kernel, dim3(kBlocks), dim3(kThreads), 0, nullptr, in.data(), out.data(), &total);
  for (int b = 0; b < kBlocks; ++b) {
    int sum = 0;
    for (int t = 0; t < kThreads; ++t) {
      sum += in[b * kThreads + t];
      EXPECT_EQ(out[b * kThreads + t], sum);
    }
    expected_total += sum;
  }
  EXPECT_EQ(total, expected_total);
}

__global__ void barrier_votes_kernel(int* out) {
  if (threadIdx.x >= 90) return;  // threads that left do not count
  const int count = __syncthreads_count(threadIdx.x % 2), any = __syncthreads_or(threadIdx.x == 77);
  const int all = __syncthreads_and(threadIdx.x != 3);
  if (threadIdx.x == 0) out[0] = count, out[1] = any, out[2] = all;
}

void test_barrier_votes() {
  int out[3] = {-1, -1, -1};
  NERFAD_LAUNCH(barrier_votes_kernel, dim3(1), dim3(128), 0, nullptr, out);
  EXPECT_EQ(out[0], 45);
  EXPECT_EQ(out[1], 1);
  EXPECT_EQ(out[2], 0);
}

__global__ void dynamic_shared_kernel(float* out) {
  NERFAD_DYN_SMEM(float, shared);
  if (threadIdx.x > 0) shared[threadIdx.x] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = shared[threadIdx.x];
}

void test_unwritten_shared_memory_reads_as_nan() {
  float out[2];
  NERFAD_LAUNCH(dynamic_shared_kernel, dim3(1), dim3(2), 2 * sizeof(float), nullptr, out);
  EXPECT(out[0] != out[0]);
  EXPECT(out[1] == 1.0f);
}

__global__ void atomics_kernel(float* sum, int* largest, __half2* pair, __nv_bfloat162* bf_pair) {
  atomicAdd(sum, 0.5f);
  atomicMax(largest, static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x));
  atomicAdd(pair, __floats2half2_rn(1.0f, 0.25f));
  atomicAdd(bf_pair, __floats2bfloat162_rn(1.0f, 0.25f));
}

void test_atomics() {
  float sum = 0;
  int largest = -1;
  __half2 pair = __floats2half2_rn(0, 0);
  __nv_bfloat162 bf_pair = __floats2bfloat162_rn(0, 0);
  NERFAD_LAUNCH(atomics_kernel, dim3(8), dim3(16), 0, nullptr, &sum, &largest, &pair, &bf_pair);
  EXPECT(sum == 64.0f);
  EXPECT_EQ(largest, 127);
  EXPECT(__low2float(pair) == 128.0f && __high2float(pair) == 32.0f);
  EXPECT(__low2float(bf_pair) == 128.0f && __high2float(bf_pair) == 32.0f);
}

template <class T>
T from_float(float x);
template <>
__half from_float(float x) {
  return __float2half(x);
}
template <>
__nv_bfloat16 from_float(float x) {
  return __float2bfloat16(x);
}

// C [16, 8] = A [16, k] B [k, 8], B stored by columns, registers filled as PTX documents them.
template <class T>
__global__ void mma_kernel(const T* a, const T* b_columns, float* c, int k_size) {
  const int lane = threadIdx.x, g = lane / 4, q = lane % 4 * 2;
  float d[4] = {0, 0, 0, 0};
  auto pair = [](const T* p) {
    uint32_t bits;
    std::memcpy(&bits, p, 4);
    return bits;
  };
  for (int k = 0; k < k_size; k += 16) {
    const uint32_t ra[4] = {pair(a + g * k_size + k + q), pair(a + (g + 8) * k_size + k + q),
                            pair(a + g * k_size + k + q + 8), pair(a + (g + 8) * k_size + k + q + 8)};
    const uint32_t rb[2] = {pair(b_columns + g * k_size + k + q), pair(b_columns + g * k_size + k + q + 8)};
    if constexpr (std::is_same_v<T, __half>) {
      nerfad::mma_m16n8k16(d, ra, rb);
    } else {
      nerfad::mma_m16n8k16_bf16(d, ra, rb);
    }
  }
  for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + q + i % 2] = d[i];
}

template <class T>
void test_mma_is_the_matrix_product() {
  constexpr int k_size = 48;
  std::vector<T> a(16 * k_size), b(8 * k_size);
  std::vector<float> c(16 * 8);
  auto value_a = [](int i, int k) { return static_cast<float>((i * 5 + k * 3) % 11 - 5); };
  auto value_b = [](int k, int j) { return static_cast<float>((k * 7 + j * 2) % 9 - 4); };
  for (int k = 0; k < k_size; ++k) {
    for (int i = 0; i < 16; ++i) a[i * k_size + k] = from_float<T>(value_a(i, k));
    for (int j = 0; j < 8; ++j) b[j * k_size + k] = from_float<T>(value_b(k, j));
  }
  NERFAD_LAUNCH(mma_kernel<T>, dim3(1), dim3(32), 0, nullptr, a.data(), b.data(), c.data(), k_size);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      float expected = 0;
      for (int k = 0; k < k_size; ++k) expected += value_a(i, k) * value_b(k, j);
      EXPECT(c[i * 8 + j] == expected);
    }
  }
}

// ldmatrix must fill A's registers as mma_m16n8k16 wants them.
__global__ void ldmatrix_kernel(uint32_t* out, bool transposed) {
  NERFAD_DYN_SMEM(uint16_t, tile);  // [16, 16]
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) tile[i] = static_cast<uint16_t>(i);
  __syncwarp();
  uint32_t r[4];
  const uint16_t* row = tile + (lane % 16) * 16 + lane / 16 * 8;
  if (transposed) {
    nerfad::ldmatrix_x4_trans(r, row);
  } else {
    nerfad::ldmatrix_x4(r, row);
  }
  for (int i = 0; i < 4; ++i) out[lane * 4 + i] = r[i];
}

void test_ldmatrix() {
  for (bool transposed : {false, true}) {
    std::vector<uint32_t> out(128);
    NERFAD_LAUNCH(ldmatrix_kernel, dim3(1), dim3(32), 512, nullptr, out.data(), transposed);
    for (int lane = 0; lane < 32; ++lane) {
      for (int m = 0; m < 4; ++m) {
        for (int e = 0; e < 2; ++e) {
          int row = lane / 4, column = lane % 4 * 2 + e;
          if (transposed) std::swap(row, column);
          const unsigned expected = (row + m % 2 * 8) * 16 + column + m / 2 * 8;
          EXPECT_EQ(out[lane * 4 + m] >> (16 * e) & 0xffff, expected);
        }
      }
    }
  }
}

__global__ void wmma_kernel(const __half* a, const __half* b, float* c) {
  using namespace nvcuda::wmma;
  fragment<matrix_a, 16, 16, 16, __half, row_major> fa;
  fragment<matrix_b, 16, 16, 16, __half, col_major> fb;
  fragment<accumulator, 16, 16, 16, float> fc;
  fill_fragment(fc, 1.0f);
  load_matrix_sync(fa, a, 16);
  load_matrix_sync(fb, b, 16);
  mma_sync(fc, fa, fb, fc);
  store_matrix_sync(c, fc, 16, mem_row_major);
}

void test_wmma_is_the_matrix_product() {
  struct alignas(32) Matrices {
    __half a[256], b[256];
    float c[256];
  } m;
  for (int i = 0; i < 256; ++i) {
    m.a[i] = __float2half(static_cast<float>(i % 7 - 3));
    m.b[i] = __float2half(static_cast<float>(i % 5 - 2));
  }
  NERFAD_LAUNCH(wmma_kernel, dim3(1), dim3(32), 0, nullptr, m.a, m.b, m.c);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) {
      float expected = 1;
      for (int k = 0; k < 16; ++k) expected += ((i * 16 + k) % 7 - 3.0f) * ((j * 16 + k) % 5 - 2.0f);
      EXPECT(m.c[i * 16 + j] == expected);
    }
  }
}

// ---- Misuse must end the process with a sentence that says what went wrong.

__global__ void deadlock_kernel() {
  if (threadIdx.x % 2) {
    __syncthreads();
  } else {
    __syncwarp();
  }
}
template <int kLeaver>
__global__ void exited_lane_kernel() {
  if (threadIdx.x == kLeaver) return;
  __shfl_sync(~0u, 1, 0);
}
__global__ void outside_mask_kernel() {
  if (threadIdx.x < 2) __shfl_sync(3u, 1, 5);
}
__global__ void mixed_functions_kernel() {
  if (threadIdx.x % 2) {
    __shfl_sync(~0u, 1, 0);
  } else {
    __ballot_sync(~0u, 1);
  }
}
__global__ void left_out_kernel() { __ballot_sync(~1u, 1); }

// Runs fn in a child process; returns what it wrote to stderr, or "" if it ended well.
std::string last_words(const std::function<void()>& fn) {
  int ends[2];
  if (pipe(ends) != 0) return "";
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    fn();
    _exit(0);
  }
  close(ends[1]);
  std::string words;
  char buffer[512];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof(buffer))) > 0;) words.append(buffer, n);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : words;
}

template <class Kernel>
void expect_refusal(Kernel kernel, const char* sentence) {
  const std::string words = last_words([&] { NERFAD_LAUNCH(kernel, dim3(1), dim3(32), 0, nullptr); });
  if (words.find(sentence) == std::string::npos) {
    std::fprintf(stderr, "expected '%s', got '%s'\n", sentence, words.c_str());
    EXPECT(false);
  }
}

void test_misuse_is_refused() {
  expect_refusal(deadlock_kernel, "deadlock: threads wait");
  expect_refusal(exited_lane_kernel<0>, "the mask names a lane that has exited or does not exist: a shuffle");
  expect_refusal(exited_lane_kernel<31>, "a thread exits while its warp waits for it in a shuffle");
  expect_refusal(outside_mask_kernel, "a shuffle reads from a lane outside its mask");
  expect_refusal(mixed_functions_kernel, "the lanes of a warp are in different warp functions");
  expect_refusal(left_out_kernel, "a lane is left out by the mask that it passes to a vote");
}

// ---- Planted bugs for the sanitizers (tests/cpp/test_sanitizers.py).

__global__ void shared_overrun_kernel(int* out) {
  NERFAD_DYN_SMEM(int, shared);
  shared[threadIdx.x + 1] = 1;
  out[threadIdx.x] = shared[threadIdx.x];
}
__global__ void global_overrun_kernel(int* out) { out[threadIdx.x + 1] = 1; }
__global__ void misaligned_kernel(char* out) { *reinterpret_cast<float2*>(out + 4) = float2{1, 2}; }
__global__ void missing_syncthreads_kernel(int* out) {
  __shared__ int box;
  if (threadIdx.x == 0) box = 7;
  out[threadIdx.x] = box;
}
__global__ void missing_syncwarp_kernel(int* out) {
  NERFAD_DYN_SMEM(int, shared);
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  out[threadIdx.x] = shared[threadIdx.x ^ 1];
}

int plant(const std::string& name) {
  auto out = std::make_unique<int[]>(64);
  if (name == "none") {
    std::vector<int> in(64, 1);
    int total = 0;
    NERFAD_LAUNCH(scan_kernel, dim3(1), dim3(64), 0, nullptr, in.data(), out.get(), &total);
  } else if (name == "shared_overrun") {
    NERFAD_LAUNCH(shared_overrun_kernel, dim3(1), dim3(64), 256, nullptr, out.get());
  } else if (name == "global_overrun") {
    NERFAD_LAUNCH(global_overrun_kernel, dim3(1), dim3(64), 0, nullptr, out.get());
  } else if (name == "misaligned") {
    NERFAD_LAUNCH(misaligned_kernel, dim3(1), dim3(1), 0, nullptr, reinterpret_cast<char*>(out.get()));
  } else if (name == "missing_syncthreads") {
    NERFAD_LAUNCH(missing_syncthreads_kernel, dim3(1), dim3(64), 0, nullptr, out.get());
  } else if (name == "missing_syncwarp") {
    NERFAD_LAUNCH(missing_syncwarp_kernel, dim3(1), dim3(32), 128, nullptr, out.get());
  } else {
    return 2;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--plant") return plant(argv[2]);
  test_misuse_is_refused();  // forks: before any thread exists
  test_every_thread_runs_once_with_its_indices();
  test_invalid_launches_are_refused();
  test_shuffles_and_votes();
  test_block_scan();
  test_barrier_votes();
  test_unwritten_shared_memory_reads_as_nan();
  test_atomics();
  test_mma_is_the_matrix_product<__half>();
  test_mma_is_the_matrix_product<__nv_bfloat16>();
  test_ldmatrix();
  test_wmma_is_the_matrix_product();
  return nerfad_test::finish("simt_test");
}
