// Tensor-core functions: mma.sync.m16n8k16 and ldmatrix with PTX's documented register layout, and
// nvcuda::wmma 16x16x16. Sums run in float32 in one fixed order; hardware adds in another.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "warp.h"

namespace simt {

template <class T>
SIMT_HIDDEN float to_float(T x) {
  return static_cast<float>(x);
}
SIMT_HIDDEN inline float to_float(__half x) {
  _Float16 value;
  std::memcpy(&value, &x, sizeof(value));
  return static_cast<float>(value);
}
SIMT_HIDDEN inline float to_float(__nv_bfloat16 x) {
  uint16_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

struct MmaSlot {
  float* d;           // 4 values, added to
  const uint32_t* a;  // 4 registers of two values
  const uint32_t* b;  // 2 registers of two values
};

// Value i of a lane: row and column in A [16, 16], B [16, 8] and D [16, 8] (PTX ISA, "mma.m16n8k16").
SIMT_HIDDEN inline int mma_a_row(int lane, int i) { return lane / 4 + (i / 2 % 2) * 8; }
SIMT_HIDDEN inline int mma_a_column(int lane, int i) { return lane % 4 * 2 + i % 2 + i / 4 * 8; }
SIMT_HIDDEN inline int mma_b_row(int lane, int i) { return lane % 4 * 2 + i % 2 + i / 2 * 8; }
SIMT_HIDDEN inline int mma_b_column(int lane) { return lane / 4; }
SIMT_HIDDEN inline int mma_d_row(int lane, int i) { return lane / 4 + i / 2 * 8; }
SIMT_HIDDEN inline int mma_d_column(int lane, int i) { return lane % 4 * 2 + i % 2; }

template <class T>
SIMT_HIDDEN float register_value(const uint32_t* registers, int i) {
  T value;
  std::memcpy(&value, reinterpret_cast<const char*>(registers) + i * sizeof(T), sizeof(T));
  return to_float(value);
}

template <class T>
SIMT_HIDDEN void run_mma(void* const* slots, uint32_t) {
  float a[16][16], b[16][8], d[16][8];
  for (int lane = 0; lane < kWarp; ++lane) {
    const auto& s = *static_cast<const MmaSlot*>(slots[lane]);
    for (int i = 0; i < 8; ++i) a[mma_a_row(lane, i)][mma_a_column(lane, i)] = register_value<T>(s.a, i);
    for (int i = 0; i < 4; ++i) b[mma_b_row(lane, i)][mma_b_column(lane)] = register_value<T>(s.b, i);
    for (int i = 0; i < 4; ++i) d[mma_d_row(lane, i)][mma_d_column(lane, i)] = s.d[i];
  }
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < 16; ++k) {
      for (int j = 0; j < 8; ++j) d[i][j] += a[i][k] * b[k][j];
    }
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    auto& s = *static_cast<const MmaSlot*>(slots[lane]);
    for (int i = 0; i < 4; ++i) s.d[i] = d[mma_d_row(lane, i)][mma_d_column(lane, i)];
  }
}

template <class T>
inline constexpr WarpOp kMma{run_mma<T>, "mma_m16n8k16", false};

template <class T>
SIMT_HIDDEN void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  MmaSlot slot{d, a, b};
  collective(~0u, kMma<T>, &slot);
}

// Reads two 16-bit values through an instrumented access, so that sanitizers watch ldmatrix too.
inline uint32_t load_pair(const uint16_t* low, const uint16_t* high) {
  return *low | static_cast<uint32_t>(*high) << 16;
}

struct MatrixRowSlot {
  const uint16_t* row;
  const uint16_t* rows[kWarp];
};

SIMT_HIDDEN inline void run_exchange_rows(void* const* slots, uint32_t) {
  for (int i = 0; i < kWarp; ++i) {
    for (int j = 0; j < kWarp; ++j) {
      static_cast<MatrixRowSlot*>(slots[i])->rows[j] = static_cast<MatrixRowSlot*>(slots[j])->row;
    }
  }
}
inline constexpr WarpOp kLdmatrix{run_exchange_rows, "ldmatrix", false};

// ldmatrix.x4: lane l passes the address of row l % 8 of 8x8 matrix l / 8 and gets two values of each matrix.
inline void ldmatrix_x4(uint32_t (&out)[4], const void* row, bool transposed) {
  if (reinterpret_cast<uintptr_t>(row) % 16) die("an ldmatrix row is not 16-byte aligned");
  MatrixRowSlot slot{static_cast<const uint16_t*>(row), {}};
  collective(~0u, kLdmatrix, &slot);
  const int group = lane() / 4, pair = lane() % 4 * 2;
  for (int m = 0; m < 4; ++m) {
    const uint16_t* const* rows = slot.rows + 8 * m;
    out[m] = transposed ? load_pair(rows[pair] + group, rows[pair + 1] + group)
                        : load_pair(rows[group] + pair, rows[group] + pair + 1);
  }
}

}  // namespace simt

namespace nvcuda::wmma {

struct row_major {};
struct col_major {};
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
enum layout_t { mem_row_major, mem_col_major };

// CUDA holds 16 elements of A and B per lane, twice; the mapping is unspecified in both.
template <class Use, int M, int N, int K, class T, class Layout = void>
struct fragment {
  static_assert(M == 16 && N == 16 && K == 16, "the emulator knows 16x16x16 only");
  static constexpr int num_elements = 8;
  T x[num_elements];
};

template <class F, class T>
void fill_fragment(F& f, T value) {
  for (auto& element : f.x) element = value;
}

// Which lane holds which element differs for A, B and C, so that code which leans on one mapping, or lacks a
// __syncwarp between storing C and loading A, fails.
template <class Use>
SIMT_HIDDEN int owner_position(int lane) {
  if (std::is_same_v<Use, matrix_a>) return (lane * 5 + 3) % 32;
  if (std::is_same_v<Use, matrix_b>) return (lane * 11 + 7) % 32;
  return lane;
}
template <class Use>
SIMT_HIDDEN int element_index(int lane, int i) {
  return owner_position<Use>(lane) * 8 + i;
}

template <class T>
void check_pointer(const T* p, unsigned stride) {
  if (reinterpret_cast<uintptr_t>(p) % 32) simt::die("a wmma pointer is not 32-byte aligned");
  if (stride * sizeof(T) % 16) simt::die("a wmma leading dimension is not a multiple of 16 bytes");
}

template <class Use, class T, class Layout>
void load_matrix_sync(fragment<Use, 16, 16, 16, T, Layout>& f, const T* p, unsigned stride) {
  check_pointer(p, stride);
  simt::collective(~0u, simt::kMeet, nullptr);
  for (int i = 0; i < 8; ++i) {
    const int k = element_index<Use>(simt::lane(), i), row = k / 16, column = k % 16;
    f.x[i] = std::is_same_v<Layout, row_major> ? p[row * stride + column] : p[column * stride + row];
  }
}

template <class T>
void load_matrix_sync(fragment<accumulator, 16, 16, 16, T>& f, const T* p, unsigned stride, layout_t layout) {
  check_pointer(p, stride);
  simt::collective(~0u, simt::kMeet, nullptr);
  for (int i = 0; i < 8; ++i) {
    const int k = element_index<accumulator>(simt::lane(), i), row = k / 16, column = k % 16;
    f.x[i] = layout == mem_row_major ? p[row * stride + column] : p[column * stride + row];
  }
}

template <class T>
void store_matrix_sync(T* p, const fragment<accumulator, 16, 16, 16, T>& f, unsigned stride,
                       layout_t layout) {
  check_pointer(p, stride);
  simt::collective(~0u, simt::kMeet, nullptr);
  for (int i = 0; i < 8; ++i) {
    const int k = element_index<accumulator>(simt::lane(), i), row = k / 16, column = k % 16;
    (layout == mem_row_major ? p[row * stride + column] : p[column * stride + row]) = f.x[i];
  }
  simt::collective(~0u, simt::kMeet, nullptr);
}

template <class A, class B, class C>
struct MmaFragments {
  C* d;
  const A* a;
  const B* b;
  const C* c;
};

template <class A, class B, class C>
SIMT_HIDDEN void run_wmma(void* const* slots, uint32_t) {
  float a[256], b[256], c[256];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& s = *static_cast<const MmaFragments<A, B, C>*>(slots[lane]);
    for (int i = 0; i < 8; ++i) {
      a[element_index<matrix_a>(lane, i)] = simt::to_float(s.a->x[i]);
      b[element_index<matrix_b>(lane, i)] = simt::to_float(s.b->x[i]);
      c[element_index<accumulator>(lane, i)] = simt::to_float(s.c->x[i]);
    }
  }
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < 16; ++k) {
      for (int j = 0; j < 16; ++j) c[16 * i + j] += a[16 * i + k] * b[16 * k + j];
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto& s = *static_cast<const MmaFragments<A, B, C>*>(slots[lane]);
    for (int i = 0; i < 8; ++i) s.d->x[i] = c[element_index<accumulator>(lane, i)];
  }
}

template <class A, class B, class C>
inline constexpr simt::WarpOp kWmma{run_wmma<A, B, C>, "wmma::mma_sync", false};

template <class T, class LayoutA, class LayoutB, class In>
void mma_sync(fragment<accumulator, 16, 16, 16, T>& d, const fragment<matrix_a, 16, 16, 16, In, LayoutA>& a,
              const fragment<matrix_b, 16, 16, 16, In, LayoutB>& b,
              const fragment<accumulator, 16, 16, 16, T>& c) {
  using A = fragment<matrix_a, 16, 16, 16, In, LayoutA>;
  using B = fragment<matrix_b, 16, 16, 16, In, LayoutB>;
  using C = fragment<accumulator, 16, 16, 16, T>;
  MmaFragments<A, B, C> slot{&d, &a, &b, &c};
  simt::collective(~0u, kWmma<A, B, C>, &slot);
}

}  // namespace nvcuda::wmma
