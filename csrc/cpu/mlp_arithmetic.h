// What the products of the MLP are made of. The tile kernels are templates on S: a vector struct of simd.h
// multiplies operands as they are; Bf16Rounded and Avx512Bf16 round them to bfloat16 first (to nearest, ties
// to even) and add up the exact products in float32. Biases, folded conditions, outputs and the sums of
// gradients are float32 in all of them.
#pragma once
#include <algorithm>

#include "mlp_pack.h"
#include "simd.h"

namespace nerfad {
namespace {

// Operands as they are.
template <class S>
struct MlpArithmetic {
  using Operand = typename S::T;
  using OperandVector = typename S::V;
  using V = typename S::V;
  static constexpr int kDepth = kOperandDepth<Operand>;  // operands in a lane, multiplied and added at once
  static constexpr bool kRounds = false;
  static constexpr bool kMatrixTiles = false;
  static constexpr int kTile = kMlpTile;  // samples that a task takes at a time, at most
  struct Scope {};                        // lives as long as a thread uses the tile kernels
  static OperandVector load(const Operand* p) { return S::load(p); }
  static OperandVector broadcast(const Operand* p) { return S::broadcast(*p); }
  static V multiply_add(OperandVector a, OperandVector b, V sum) { return S::multiply_add(a, b, sum); }
  static void store(Operand* p, V v) { S::store(p, v); }
  static V keep_where_positive(V v, const Operand* h) { return S::keep_where_positive(v, S::load(h)); }
};

// Rounds each lane to bfloat16; a NaN stays one.
template <class V>
inline V round_to_bf16(V v) {
  typedef uint32_t Bits __attribute__((vector_size(sizeof(V))));
  const Bits bits = (Bits)v;
  const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
  return v == v ? (V)rounded : v;
}

// bfloat16 on any machine: float32 arithmetic on rounded operands.
template <class Simd>
struct Bf16Rounded : Simd {};

template <class Simd>
struct MlpArithmetic<Bf16Rounded<Simd>> : MlpArithmetic<Simd> {
  static constexpr bool kRounds = true;
  static void store(typename Simd::T* p, typename Simd::V v) { Simd::store(p, round_to_bf16(v)); }
};

#if defined(__AVX512BF16__)
// vdpbf16ps: each lane adds the products of two neighbouring operands.
struct Avx512Bf16 : Avx512Simd {};

template <>
struct MlpArithmetic<Avx512Bf16> {
  using Operand = BFloat16;
  using OperandVector = __m512bh;
  using V = __m512;
  static constexpr int kDepth = kOperandDepth<Operand>;
  static constexpr bool kRounds = true;
  static constexpr bool kMatrixTiles = false;
  static constexpr int kTile = kMlpTile;
  struct Scope {};
  static OperandVector load(const Operand* p) { return (__m512bh)_mm512_loadu_si512(p); }
  static OperandVector broadcast(const Operand* p) {
    int32_t pair;
    std::memcpy(&pair, p, sizeof(pair));
    return (__m512bh)_mm512_set1_epi32(pair);
  }
  static V multiply_add(OperandVector a, OperandVector b, V sum) { return _mm512_dpbf16_ps(sum, b, a); }
  static void store(Operand* p, V v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(v));
  }
  static V keep_where_positive(V v, const Operand* h) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(h));
    return _mm512_maskz_mov_ps(_mm512_cmpgt_epi32_mask(_mm512_cvtepi16_epi32(bits), _mm512_setzero_si512()),
                               v);
  }
  // to = a[0], b[0], a[1], b[1], ...: a vector's worth.
  static void interleave(const Operand* a, const Operand* b, Operand* to) {
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a)));
    const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(b)));
    _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
  }

  // Matrix tiles take rows of 32 operands.
  using Row = __m512i;
  using RowMask = __mmask32;
  static Row load_row(const Operand* p) { return _mm512_loadu_si512(p); }
  static void store_row(Operand* p, Row row) { _mm512_storeu_si512(p, row); }
  static Row round_row(V low, V high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }
  static RowMask positive(Row row) { return _mm512_cmpgt_epi16_mask(row, _mm512_setzero_si512()); }
  static Row round_row_where(RowMask mask, V low, V high) {
    return (__m512i)_mm512_maskz_cvtne2ps_pbh(mask, high, low);
  }
  static V add_low(RowMask mask, V sum, V v) {
    return _mm512_mask_add_ps(sum, static_cast<__mmask16>(mask), sum, v);
  }
  static V add_high(RowMask mask, V sum, V v) {
    return _mm512_mask_add_ps(sum, static_cast<__mmask16>(mask >> 16), sum, v);
  }
  // Two samples side by side, in the order that is cheapest: lane l of `low` has the pairs of columns 8 l to
  // 8 l + 3, and that of `high` the next four.
  static Row pairs_low(Row even, Row odd) { return _mm512_unpacklo_epi16(even, odd); }
  static Row pairs_high(Row even, Row odd) { return _mm512_unpackhi_epi16(even, odd); }
  // The same in the order of columns: of the first or last 16.
  static Row first_pairs(Row low, Row high) {
    return _mm512_permutex2var_epi64(low, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), high);
  }
  static Row last_pairs(Row low, Row high) {
    return _mm512_permutex2var_epi64(low, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), high);
  }
  // Eight columns of 32 rows as rows. Loads that fill a quarter each leave half of the shuffles.
  __attribute__((always_inline)) static void load_columns(const Operand* from, int64_t stride, Row (&r)[8]) {
    const auto at = [=](int row) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + row * stride));
    };
    Row a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      r[i] = _mm512_castsi128_si512(at(i));
      r[i] = _mm512_mask_broadcast_i32x4(r[i], 0x00f0, at(8 + i));
      r[i] = _mm512_mask_broadcast_i32x4(r[i], 0x0f00, at(16 + i));
      r[i] = _mm512_mask_broadcast_i32x4(r[i], 0xf000, at(24 + i));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {  // a[i], a[i + 1]: columns 0 to 3, 4 to 7 of rows i, i + 1
      a[i] = _mm512_unpacklo_epi16(r[i], r[i + 1]), a[i + 1] = _mm512_unpackhi_epi16(r[i], r[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {  // b[i + k]: columns 2 k, 2 k + 1 of rows i to i + 3
      b[i] = _mm512_unpacklo_epi32(a[i], a[i + 2]), b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 2]);
      b[i + 2] = _mm512_unpacklo_epi32(a[i + 1], a[i + 3]);
      b[i + 3] = _mm512_unpackhi_epi32(a[i + 1], a[i + 3]);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      r[2 * k] = _mm512_unpacklo_epi64(b[k], b[4 + k]), r[2 * k + 1] = _mm512_unpackhi_epi64(b[k], b[4 + k]);
    }
  }
  // 16 x 16 pairs.
  __attribute__((always_inline)) static void transpose(Row (&r)[16]) {
    Row t[16];
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
      const Row a = _mm512_unpacklo_epi32(r[i], r[i + 1]), b = _mm512_unpackhi_epi32(r[i], r[i + 1]);
      const Row c = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]), d = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);
      t[i] = _mm512_unpacklo_epi64(a, c), t[i + 1] = _mm512_unpackhi_epi64(a, c);
      t[i + 2] = _mm512_unpacklo_epi64(b, d), t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // lane l of t[i + 4 j] has rows 4 j to 4 j + 3 of column 4 l + i
      const Row a = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88),
                b = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd);
      const Row c = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88);
      const Row d = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
      r[i] = _mm512_shuffle_i32x4(a, c, 0x88), r[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
      r[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88), r[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
  }
};
#endif

template <class S>
using MlpOperand = typename MlpArithmetic<S>::Operand;

// Rows that the tile kernels run over for n samples.
template <class S>
constexpr int tile_rows(int n) {
  using A = MlpArithmetic<S>;
  if constexpr (A::kMatrixTiles) {
    return (n + A::kRowStep - 1) / A::kRowStep * A::kRowStep;
  } else {
    return kMlpTile;
  }
}

// A tile [rows, stride] of operands.
template <class S>
struct MlpOperands {
  const MlpOperand<S>* data;
  int stride;
};

// The first n rows of a tile [rows, width] as operands, zero behind them and up to the stride.
template <class S>
void round_rows(const typename S::T* from, int from_stride, int n, int width, int rows, MlpOperand<S>* to,
                int stride) {
  using A = MlpArithmetic<S>;
  for (int m = 0; m < rows; ++m, from += from_stride, to += stride) {
    int k = 0;
    if (m < n) {
      for (; k + S::kWidth <= width; k += S::kWidth) A::store(to + k, S::load(from + k));
      if (k < width) {
        A::store(to + k, S::load_first(from + k, width - k));
        k += S::kWidth;
      }
    }
    for (; k < stride; k += S::kWidth) A::store(to + k, S::zero());
  }
}

// The same for matrix tiles, which read 32 columns at a time: what is written at once is read at once.
template <class S>
void round_whole_rows(const typename S::T* from, int from_stride, int n, int width, int rows,
                      MlpOperand<S>* to, int stride) {
  using A = MlpArithmetic<S>;
  const auto lanes = [&](int k) { return std::clamp(width - k, 0, S::kWidth); };
  for (int k = 0; k < stride; k += 2 * S::kWidth) {
    const int low = lanes(k), high = lanes(k + S::kWidth);
    for (int m = 0; m < n; ++m) {
      const typename S::T* row = from + static_cast<int64_t>(m) * from_stride + k;
      A::store_row(to + m * stride + k,
                   A::round_row(S::load_first(row, low), S::load_first(row + S::kWidth, high)));
    }
    for (int m = n; m < rows; ++m) A::store_row(to + m * stride + k, A::round_row(S::zero(), S::zero()));
  }
}

// A tile of operands; the given one where it is whole and nothing is rounded (and, if the padding is
// `wanted`, is none).
enum class Padding { kUnread, kWanted };
template <class S>
MlpOperands<S> tile_operands(const typename S::T* from, int from_stride, int n, int width, Padding padding,
                             MlpOperand<S>* memory, int rows = kMlpTile) {
  using A = MlpArithmetic<S>;
  if constexpr (!A::kRounds) {
    if (n == rows && (padding == Padding::kUnread || width % kMlpPad == 0)) return {from, from_stride};
  }
  const int stride = operand_padded<MlpOperand<S>>(width);
  if constexpr (A::kMatrixTiles) {
    round_whole_rows<S>(from, from_stride, n, width, rows, memory, stride);
  } else {
    round_rows<S>(from, from_stride, n, width, rows, memory, stride);
  }
  return {memory, stride};
}

// The same tile with the kDepth samples that a lane multiplies side by side: [kMlpTile / kDepth, width *
// kDepth].
template <class S>
MlpOperands<S> side_by_side(const MlpOperands<S>& tile, int width, MlpOperand<S>* memory) {
  using A = MlpArithmetic<S>;
  if constexpr (A::kDepth == 1) {
    return tile;
  } else {
    for (int m = 0; m < kMlpTile; m += A::kDepth) {
      const MlpOperand<S>*even = tile.data + m * tile.stride, *odd = even + tile.stride;
      for (int k = 0; k < width; k += S::kWidth) {
        A::interleave(even + k, odd + k, memory + m * width + A::kDepth * k);
      }
    }
    return {memory, A::kDepth * width};
  }
}

}  // namespace
}  // namespace nerfad
