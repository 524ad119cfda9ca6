// What the products of the MLP are made of. The tile kernels are templates on S: a vector struct of simd.h
// multiplies operands as they are; Bf16Rounded and Avx512Bf16 round them to bfloat16 first (to nearest, ties
// to even) and add up the exact products in float32. Biases, folded conditions, outputs and the sums of
// gradients are float32 in all of them.
#pragma once
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
  struct Scope {};  // lives as long as a thread uses the tile kernels
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
};
#endif

template <class S>
using MlpOperand = typename MlpArithmetic<S>::Operand;

// A tile [kMlpTile, stride] of operands.
template <class S>
struct MlpOperands {
  const MlpOperand<S>* data;
  int stride;
};

// The first n rows of a tile [kMlpTile, width] as operands, zero behind them and up to the padded width; the
// tile itself where it is whole and nothing is rounded (and, if the padding is `wanted`, is none).
enum class Padding { kUnread, kWanted };
template <class S>
MlpOperands<S> tile_operands(const typename S::T* from, int from_stride, int n, int width, Padding padding,
                             MlpOperand<S>* memory) {
  using A = MlpArithmetic<S>;
  if constexpr (!A::kRounds) {
    if (n == kMlpTile && (padding == Padding::kUnread || width % kMlpPad == 0)) return {from, from_stride};
  }
  const int stride = operand_padded<MlpOperand<S>>(width);
  for (int m = 0; m < kMlpTile; ++m, from += from_stride) {
    MlpOperand<S>* to = memory + m * stride;
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
