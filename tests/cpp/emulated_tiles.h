// Stand-ins for the vectors and the tile registers of the matrix-tile (AMX) code, in plain C++.
#pragma once
#include "../../csrc/cpu/mlp_matrix_grad.h"
#include "check.h"

namespace nerfad {
namespace {

// 16 lanes and bfloat16 in pairs without vector instructions for them.
struct PortablePairs {
  using T = float;
  typedef float V __attribute__((vector_size(64), aligned(4)));
  static constexpr int kWidth = 16;
  static V zero() { return V{}; }
  static V load(const float* p) { return *reinterpret_cast<const V*>(p); }
  static void store(float* p, V v) { *reinterpret_cast<V*>(p) = v; }
  static V load_first(const float* p, int n) {
    V v{};
    for (int i = 0; i < n; ++i) v[i] = p[i];
    return v;
  }
  static V broadcast(float x) { return V{} + x; }
  static V add(V a, V b) { return a + b; }
  static V multiply_add(V a, V b, V c) { return a * b + c; }
  static V divide(V a, V b) { return a / b; }
  static V relu(V v) { return v < 0 ? V{} : v; }
  static V exp(V v) {
    for (int i = 0; i < kWidth; ++i) v[i] = std::exp(v[i]);
    return v;
  }
};

template <>
struct MlpArithmetic<PortablePairs> {
  using Operand = BFloat16;
  using V = PortablePairs::V;
  static constexpr int kDepth = kOperandDepth<Operand>;
  static constexpr bool kRounds = true;
  struct Row {
    BFloat16 operands[32];
  };
  using RowMask = uint32_t;
  static Row load_row(const Operand* p) {
    Row row;
    std::memcpy(row.operands, p, sizeof(row));
    return row;
  }
  static void store_row(Operand* p, const Row& row) { std::memcpy(p, row.operands, sizeof(row)); }
  static Row round_row(V low, V high) {
    Row row;
    for (int i = 0; i < 16; ++i) {
      row.operands[i] = round_bfloat16(low[i]), row.operands[16 + i] = round_bfloat16(high[i]);
    }
    return row;
  }
  static RowMask positive(const Row& row) {
    RowMask mask = 0;
    for (int i = 0; i < 32; ++i) mask |= static_cast<RowMask>(widen(row.operands[i]) > 0) << i;
    return mask;
  }
  static Row round_row_where(RowMask mask, V low, V high) {
    Row row = round_row(low, high);
    for (int i = 0; i < 32; ++i) row.operands[i] = mask >> i & 1 ? row.operands[i] : BFloat16{0};
    return row;
  }
  static V add_low(RowMask mask, V sum, V v) {
    for (int i = 0; i < 16; ++i) sum[i] += mask >> i & 1 ? v[i] : 0.0f;
    return sum;
  }
  static V add_high(RowMask mask, V sum, V v) { return add_low(mask >> 16, sum, v); }
  // 16 columns, four from the first of every eight on, of two samples.
  static Row pairs_from(int first, const Row& even, const Row& odd) {
    Row row;
    for (int i = 0; i < 16; ++i) {
      const int column = i / 4 * 8 + i % 4 + first;
      row.operands[2 * i] = even.operands[column], row.operands[2 * i + 1] = odd.operands[column];
    }
    return row;
  }
  static Row pairs_low(const Row& even, const Row& odd) { return pairs_from(0, even, odd); }
  static Row pairs_high(const Row& even, const Row& odd) { return pairs_from(4, even, odd); }
  // The pairs of 16 columns in order.
  static Row ordered_from(int first, const Row& low, const Row& high) {
    Row row;
    for (int i = 0; i < 16; ++i) {
      const int column = first + i, pair = column / 8 * 4 + column % 4;
      const Row& from = column % 8 < 4 ? low : high;
      row.operands[2 * i] = from.operands[2 * pair], row.operands[2 * i + 1] = from.operands[2 * pair + 1];
    }
    return row;
  }
  static Row first_pairs(const Row& low, const Row& high) { return ordered_from(0, low, high); }
  static Row last_pairs(const Row& low, const Row& high) { return ordered_from(16, low, high); }
  static void load_columns(const Operand* from, int64_t stride, Row (&rows)[8]) {
    for (int i = 0; i < 8; ++i) {
      for (int j = 0; j < 32; ++j) rows[i].operands[j] = from[j * stride + i];
    }
  }
};

// Tile registers as the instruction set's manual describes them. Use without a configuration fails the test.
class EmulatedTiles {
 public:
  struct Scope {
    Scope() {
      EXPECT(!configured_);
      configured_ = true;
    }
    ~Scope() { configured_ = false; }
  };

  template <int kTo>
  static void zero() {
    EXPECT(configured_);
    std::memset(registers_[kTo], 0, sizeof(registers_[kTo]));
  }
  template <int kTo>
  static void load(const void* from, int64_t stride_bytes) {
    EXPECT(configured_);
    for (int r = 0; r < kTileRows; ++r) {
      std::memcpy(registers_[kTo][r], static_cast<const char*>(from) + r * stride_bytes, kTileRowBytes);
    }
  }
  template <int kFrom>
  static void store(void* to, int64_t stride_bytes) {
    EXPECT(configured_);
    for (int r = 0; r < kTileRows; ++r) {
      std::memcpy(static_cast<char*>(to) + r * stride_bytes, registers_[kFrom][r], kTileRowBytes);
    }
  }
  template <int kSum, int kA, int kB>
  static void multiply_add() {
    EXPECT(configured_);
    static_assert(kSum != kA && kSum != kB && kA != kB);
    for (int m = 0; m < kTileRows; ++m) {
      for (int n = 0; n < kTileRows; ++n) {
        float total;
        std::memcpy(&total, registers_[kSum][m] + 4 * n, sizeof(total));
        for (int k = 0; k < kTileOperands; ++k) {
          total += operand(registers_[kA][m], k) * operand(registers_[kB][k / 2], 2 * n + k % 2);
        }
        std::memcpy(registers_[kSum][m] + 4 * n, &total, sizeof(total));
      }
    }
  }

 private:
  static float operand(const unsigned char* row, int i) {
    BFloat16 value;
    std::memcpy(&value, row + 2 * i, sizeof(value));
    return widen(value);
  }
  static inline bool configured_ = false;
  static inline unsigned char registers_[kTileRegisters][kTileRows][kTileRowBytes];
};

}  // namespace
}  // namespace nerfad
